"""The usage inside streamed events: taken out of every event, and put once, summed, at the end.

Owns recognising and writing it. Must not know workers. Engines count in every event, because prices need it;
users expect it once and only where they asked for it. This runs for every token: bytes are cut, not parsed.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cocoon_sdk.client.sessions.answers.joining import read_event, read_json, write_json
from cocoon_sdk.client.sessions.values import Bill
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.types import format_ton

_USAGE: Final = b'"usage":'


class _Object(msgspec.Struct):
    """Any JSON object: its text is checked, nothing is built of it."""


_check_object: Final = msgspec.json.Decoder(_Object).decode


def checked_piece(piece: bytes) -> bytes:
    """Return a worker's piece as one line of JSON, an object. Raises `MalformedError`.

    Whoever passes it on as a server-sent event must not get other events out of it.
    """
    try:
        _check_object(piece)
        if not piece.isascii():
            piece.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        why = f"a piece of its answer is no JSON object ({type(error).__name__})"
        raise MalformedError("the worker's answer cannot be read", why=why) from None
    return write_json(read_event(piece)) if b"\n" in piece or b"\r" in piece else piece


def without_usage(event: bytes) -> bytes | None:
    """Return the event without its usage; None when usage is all that it brings."""
    # Inside a text the second quote would be escaped: this is a member's name wherever it stands.
    at = event.rfind(_USAGE)
    if at < 0:
        return event
    if b'"choices":[]' in event or b'"choices": []' in event:
        return None
    tail = event[at + len(_USAGE) : -1]
    # The last member of the outer object, as engines write it: its braces close within the tail.
    if event[at - 1 : at] == b"," and (
        tail == b"null" or (tail[:1] == b"{" and tail[-1:] == b"}" and _is_one_object(tail))
    ):
        return event[: at - 1] + b"}"
    content = read_event(event)
    content.pop("usage", None)
    return write_json(content) if content.get("choices") else None


def _is_one_object(text: bytes) -> bool:
    if text.count(b"{") == 1:
        return text.count(b"}") == 1
    try:
        read_json(text)
    except Exception:  # anything: then it is taken apart properly
        return False
    return True


def engine_usage(event: bytes) -> dict[str, Any]:
    """Return the usage object of an event, empty when it has none."""
    usage = read_event(event).get("usage")
    return usage if isinstance(usage, dict) else {}


def usage_with_cost(usage: dict[str, Any] | None, bill: Bill) -> dict[str, Any]:
    """Return an OpenAI usage object with the bill's counts and its cost; what else an engine says is kept."""
    counted = bill.usage
    merged = dict(usage or {})
    merged["prompt_tokens"] = counted.input_tokens
    merged["total_tokens"] = counted.input_tokens + counted.output_tokens
    merged["completion_tokens"] = counted.output_tokens
    if counted.cached_input_tokens:
        details = merged.get("prompt_tokens_details")
        known = details if isinstance(details, dict) else {}
        merged["prompt_tokens_details"] = {**known, "cached_tokens": counted.cached_input_tokens}
    merged["cost"] = {"nano_ton": int(bill.cost), "ton": format_ton(bill.cost)}
    return merged


def usage_event(last: bytes | None, engine: dict[str, Any] | None, bill: Bill) -> bytes:
    """Return the event that ends a stream with its usage, under the same id and name as the events before."""
    head = read_event(last) if last is not None else {}
    content = {name: head[name] for name in ("id", "object", "created", "model") if name in head}
    return write_json({**content, "choices": [], "usage": usage_with_cost(engine, bill)})
