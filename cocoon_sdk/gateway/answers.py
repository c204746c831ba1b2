"""Bodies of answers: what the gateway adds to what a worker said.

Owns usage with its cost, the form of vectors, and server-sent events. Pure. A worker's bytes pass as they
are; only the fields that change are read.
"""

from __future__ import annotations

import array
import base64
import binascii
import sys
from typing import Any, Final

import msgspec
from msgspec import Raw

from cocoon_sdk.client.sessions import Bill, ServedModel
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.types import Nano, format_ton

DONE: Final = b"data: [DONE]\n\n"
_USAGE: Final = b'"usage":'
_NULL: Final = Raw(b"null")

_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_usage: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class _Vector(msgspec.Struct):
    embedding: list[float] | str
    index: int = 0
    object: str = "embedding"


_vectors: Final = msgspec.json.Decoder(list[_Vector]).decode


def event(document: bytes) -> bytes:
    """Return one server-sent event."""
    return b"data: " + document + b"\n\n"


def cost_of(cost: Nano) -> dict[str, object]:
    """Return a cost as users see it beside their usage: whole nanoTON, and TON as text."""
    return {"nano_ton": int(cost), "ton": format_ton(cost)}


def usage_of(stated: dict[str, Any] | None, bill: Bill) -> dict[str, Any]:
    """Return OpenAI's usage with the cost: as the worker stated it, else as it was billed."""
    if stated is None:
        used = bill.usage
        stated = {
            "prompt_tokens": used.input_tokens,
            "completion_tokens": used.output_tokens,
            "total_tokens": used.input_tokens + used.output_tokens,
            "prompt_tokens_details": {"cached_tokens": used.cached_input_tokens},
        }
    return {**stated, "cost": cost_of(bill.cost)}


def priced_body(body: bytes, bill: Bill, model: str) -> bytes:
    """Return a whole answer with the cost in its usage and the model's public name."""
    fields = _read(body)
    fields["model"] = Raw(_encode(model))
    fields["usage"] = Raw(_encode(usage_of(stated_usage(fields), bill)))
    return _encode(fields)


def stated_usage(fields: dict[str, Raw]) -> dict[str, Any] | None:
    """Return the usage in an answer or event, None when it states none."""
    raw = fields.get("usage")
    if raw is None or raw == _NULL:
        return None
    try:
        return _usage(raw)
    except msgspec.MsgspecError:
        return None  # what it costs does not depend on it


def states_usage(document: bytes) -> bool:
    """Tell whether an event has a usage field: inside of texts its quotes would be escaped."""
    return _USAGE in document


def renaming(document: bytes, model: str) -> tuple[bytes, bytes] | None:
    """Return which bytes of a stream's events to replace by which, to name the model as it was asked for.

    None when they do already. The member's bytes can stand in no text: there its quotes are escaped.
    """
    stated = _read(document).get("model")
    wanted = _encode(model)
    if stated is None or bytes(stated) == wanted:
        return None
    for colon in (b":", b": "):
        member = b'"model"' + colon + bytes(stated)
        if member in document:
            return member, b'"model":' + wanted
    return None


def priced_event(document: bytes, bill: Bill) -> tuple[bytes, dict[str, Any] | None]:
    """Return an event with the cost in its usage, and that usage; unchanged when it states none."""
    fields = _read(document)
    stated = stated_usage(fields)
    if stated is None:
        return document, None
    usage = usage_of(stated, bill)
    fields["usage"] = Raw(_encode(usage))
    return _encode(fields), usage


def vectors_as(body: bytes, *, as_base64: bool) -> bytes:
    """Return an embedding answer with its vectors as float32 in base64, or as numbers."""
    fields = _read(body)
    try:
        vectors = _vectors(fields["data"])
        for vector in vectors:
            vector.embedding = _packed(vector.embedding) if as_base64 else _numbers(vector.embedding)
    except (KeyError, ValueError, binascii.Error, OverflowError):  # msgspec's errors are ValueErrors
        raise MalformedError("the worker's answer cannot be read", why="it holds no vectors") from None
    fields["data"] = Raw(_encode(vectors))
    return _encode(fields)


def _packed(vector: list[float] | str) -> str:
    if isinstance(vector, str):
        return vector
    numbers = array.array("f", vector)
    return base64.b64encode(_little_endian(numbers).tobytes()).decode()


def _numbers(vector: list[float] | str) -> list[float]:
    if not isinstance(vector, str):
        return vector
    numbers = array.array("f")
    numbers.frombytes(base64.b64decode(vector, validate=True))
    return _little_endian(numbers).tolist()


def _little_endian(numbers: array.array[float]) -> array.array[float]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def model_document(model: ServedModel) -> dict[str, Any]:
    """Return a model as /v1/models shows it; prices in TON for a million tokens, and exact in nanoTON."""
    terms = model.cheapest
    prices = {
        "input": terms.input_price,
        "cached_input": terms.cached_input_price,
        "output": terms.output_price,
    }
    return {
        "id": model.name,
        "object": "model",
        "created": model.announced_at,
        "owned_by": "cocoon",
        "cocoon": {
            "model_id": model.model_id.hex(),
            "workers": model.workers,
            "max_context": model.max_context,
            "max_output_tokens": model.max_output_tokens,
            "ton_per_million_tokens": {name: format_ton(price) for name, price in prices.items()},
            "nano_ton_per_million_tokens": {name: int(price) for name, price in prices.items()},
        },
    }


def _read(document: bytes) -> dict[str, Raw]:
    try:
        return _fields(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise MalformedError("the worker's answer cannot be read", why="it is no JSON object") from None
