"""Pieces of an answer, joined into the whole OpenAI body that an engine would have given at once.

Owns the merging of streamed events: chat with tool calls and logprobs, completions, embeddings. Must not know
who sent them. Fields that this module has no rule for are kept as they came first, so that what an engine
adds is not lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from cocoon_sdk.client.sessions.bounds import MAX_CHOICES
from cocoon_sdk.client.sessions.values import CHAT, COMPLETION, EMBEDDING
from cocoon_sdk.errors import MalformedError

MAX_TOOL_CALLS: Final = 256
_MANY_EVENTS: Final = 1024
_MANY_BYTES: Final = 256 * 1024
_T = TypeVar("_T")
_OBJECTS: Final = {CHAT: "chat.completion", COMPLETION: "text_completion", EMBEDDING: "list"}
_TEXTS: Final = ("content", "refusal", "reasoning", "reasoning_content")
_WHAT: Final = "cannot join the pieces of the answer"

read_json: Final = msgspec.json.Decoder().decode
write_json: Final = msgspec.json.Encoder().encode


def join_pieces(kind: str, pieces: Iterable[bytes]) -> bytes:
    """Return one OpenAI body in JSON. Raises `MalformedError` for pieces that make no answer."""
    joiner = Joiner(kind)
    for piece in pieces:
        joiner.add(piece)
    return write_json(joiner.body())


async def beside(events: Sequence[bytes], work: Callable[[], _T]) -> _T:
    """Do `work` over events: in a thread when they are many, so that nobody else's answer waits for it."""
    if len(events) > _MANY_EVENTS or sum(map(len, events)) > _MANY_BYTES:
        return await asyncio.to_thread(work)
    return work()


def read_event(event: bytes) -> dict[str, Any]:
    """Read one event. Raises `MalformedError` unless it is a JSON object."""
    try:
        value = read_json(event)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError("cannot read a piece of the answer", why=str(error)[:100]) from None
    if not isinstance(value, dict):
        raise MalformedError("cannot read a piece of the answer", why="it is no object")
    return value


class Joiner:
    """Takes events in order; `body` gives the whole at any time."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._data: list[Any] = []
        self._seen = False

    def add(self, piece: bytes) -> None:
        """Take in the next event. Raises `MalformedError`."""
        event = read_event(piece)
        self._seen = True
        for name, value in event.items():
            if name == "usage":
                self._head[name] = value or self._head.get(name)
            elif name not in ("choices", "data") and self._head.get(name) is None:
                self._head[name] = value
        if self._kind == EMBEDDING:
            self._data.extend(_list(event.get("data")))
            return
        for choice in _list(event.get("choices")):
            self._choice(_object(choice))

    def _choice(self, piece: dict[str, Any]) -> None:
        index = _index(piece.get("index"), MAX_CHOICES)
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = {"index": index}
            choice.update(_empty_message() if self._kind == CHAT else {"text": _Text()})
            choice.update({"logprobs": None, "finish_reason": None})
        for name, value in piece.items():
            if name == "delta" and self._kind == CHAT:
                _merge_delta(choice["message"], _object(value))
            elif name == "text" and self._kind == COMPLETION:
                choice[name].add(value)
            elif name == "message" and self._kind == CHAT and value is not None:
                choice[name] = _object(value)
            elif name == "logprobs":
                choice["logprobs"] = _merge_lists(choice["logprobs"], value)
            elif name == "token_ids":
                choice[name] = _joined(choice.get(name), value)
            elif name != "index" and (value is not None or name not in choice):
                choice[name] = value

    def body(self) -> dict[str, Any]:
        """Return the whole. Raises `MalformedError` when nothing came."""
        if not self._seen:
            raise MalformedError(_WHAT, why="there are none")
        body: dict[str, Any] = {**self._head, "object": _OBJECTS[self._kind]}
        if self._kind == EMBEDDING:
            body["data"] = self._data
            return body
        body["choices"] = [_whole(self._kind, self._choices[index]) for index in sorted(self._choices)]
        return body


class _Text:
    """A text that comes in pieces, joined once: adding each to the last would cost their number squared."""

    __slots__ = ("_parts",)

    def __init__(self, begun: object = None) -> None:
        self._parts = [begun] if isinstance(begun, str) else []

    def add(self, value: object) -> None:
        """Take in the next piece. Raises `MalformedError` for what is no text."""
        self._parts.append(_text(value))

    def whole(self) -> str:
        """Return all of it."""
        return "".join(self._parts)


class _Calls:
    """The tool calls of a message, by their indexes."""

    __slots__ = ("by_index",)

    def __init__(self) -> None:
        self.by_index: dict[int, dict[str, Any]] = {}

    def add(self, piece: dict[str, Any]) -> None:
        """Take in a piece of one call. Raises `MalformedError`."""
        call = self.by_index.setdefault(_index(piece.get("index"), MAX_TOOL_CALLS), {})
        for name, value in piece.items():
            if name == "function" and value is not None:
                call[name] = _merge_function(call.get(name), value)
            elif name != "index" and (value is not None or name not in call):
                call[name] = value

    def whole(self) -> list[dict[str, Any]]:
        """Return them in their order."""
        return [_joined_texts(self.by_index[index], "function") for index in sorted(self.by_index)]


def _empty_message() -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": None}}


def _whole(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    choice = _joined_texts(choice)
    if kind != CHAT:
        return choice
    message = _joined_texts(choice["message"], "function_call")
    calls = message.get("tool_calls")
    if isinstance(calls, _Calls):
        message["tool_calls"] = calls.whole()
    elif message.get("content") is None and not calls and not message.get("function_call"):
        message["content"] = ""
    return {**choice, "message": message}


def _joined_texts(fields: dict[str, Any], inner: str = "") -> dict[str, Any]:
    """Return a copy with every text in one, also those of the object named `inner`."""
    found: dict[str, Any] = {
        name: value.whole() if isinstance(value, _Text) else value for name, value in fields.items()
    }
    if isinstance(found.get(inner), dict):
        found[inner] = _joined_texts(found[inner])
    return found


def _merge_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if value is None:
            message.setdefault(name, None)
        elif name in _TEXTS:
            _grow(message, name, value)
        elif name == "tool_calls":
            calls = message.get(name)
            if not isinstance(calls, _Calls):
                calls = message[name] = _Calls()
            for call in _list(value):
                calls.add(_object(call))
        elif name == "function_call":
            message[name] = _merge_function(message.get(name), value)
        else:
            message[name] = value


def _merge_function(known: object, value: object) -> dict[str, Any]:
    function = known if isinstance(known, dict) else {"name": _Text(), "arguments": _Text()}
    for name, part in _object(value).items():
        if name not in ("name", "arguments"):
            function[name] = part
        elif part is not None:
            _grow(function, name, part)
    return function


def _grow(fields: dict[str, Any], name: str, part: object) -> None:
    text = fields.get(name)
    if not isinstance(text, _Text):
        text = fields[name] = _Text(text)
    text.add(part)


def _merge_lists(known: dict[str, Any] | None, value: object) -> dict[str, Any] | None:
    """Merge logprobs: an object of lists that grow together."""
    if value is None:
        return known
    merged = known or {}
    for name, part in _object(value).items():
        merged[name] = _joined(merged.get(name), part)
    return merged


def _joined(known: Any, part: object) -> Any:
    if part is None:
        return known
    if not isinstance(part, list):
        return part
    if not isinstance(known, list):
        return part
    known.extend(part)
    return known


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError(_WHAT, why="an object is missing")
    return value


def _list(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedError(_WHAT, why="a list is missing")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedError(_WHAT, why="a text is missing")
    return value


def _index(value: object, below: int) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < below:
        raise MalformedError(_WHAT, why=f"an index is not in 0..{below - 1}")
    return value
