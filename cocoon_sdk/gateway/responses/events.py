"""A streamed chat as the events of the Responses API, in the order in which its clients expect them.

Owns the order and numbering of events: every item is added, filled and done; a response is created, in
progress, and at its end completed, incomplete or failed. Pure: events in, bytes of server-sent events out.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.gateway.errors import Refusal
from cocoon_sdk.gateway.responses.answer import (
    Item,
    ToolCall,
    call_item,
    message_item,
    read_chat,
    reasoning_item,
    refusal_part,
    response_object,
    text_part,
)
from cocoon_sdk.gateway.responses.request import ResponseRequest

MAX_CALLS: Final = 256
_encode: Final = msgspec.json.Encoder().encode


class _Text:
    """A message or reasoning under way: one item with one part."""

    __slots__ = ("item_id", "kind", "logprobs", "output_index", "parts")

    def __init__(self, kind: str, item_id: str, output_index: int) -> None:
        self.kind, self.item_id, self.output_index = kind, item_id, output_index
        self.parts: list[str] = []
        self.logprobs: list[dict[str, Any]] = []


class _Call:
    """A function call under way."""

    __slots__ = ("arguments", "call_id", "item_id", "name", "output_index")

    def __init__(self, item_id: str, call_id: str, name: str, output_index: int) -> None:
        self.item_id, self.call_id, self.name, self.output_index = item_id, call_id, name, output_index
        self.arguments: list[str] = []


class ResponseEvents:
    """Turns the events of one chat into those of one response."""

    def __init__(self, request: ResponseRequest, response_id: str, created: int) -> None:
        self._request, self._id, self._created = request, response_id, created
        self._suffix = response_id.partition("_")[2]
        self._number = 0
        self._output: dict[int, Item] = {}
        self._items = 0
        self._text: _Text | None = None
        self._calls: dict[int, _Call] = {}
        self._finish_reason: str | None = None
        self._out: list[bytes] = []

    def begin(self) -> bytes:
        """Return the events that open the response."""
        response = response_object(self._request, self._id, self._created, output=[], status="in_progress")
        self._event("response.created", response=response)
        self._event("response.in_progress", response=response)
        return self._flush()

    def feed(self, event: bytes) -> bytes:
        """Return what one event of the chat becomes. Raises `MalformedError`."""
        chat = read_chat(event)
        for choice in chat.choices[:1]:
            delta = choice.delta
            if delta is not None:
                if delta.thought:
                    self._say("reasoning_text", delta.thought, None)
                if delta.content:
                    logprobs = None if choice.logprobs is None else choice.logprobs.content
                    self._say("output_text", delta.content, logprobs)
                if delta.refusal:
                    self._say("refusal", delta.refusal, None)
                for call in delta.tool_calls or ():
                    self._call(call)
            self._finish_reason = choice.finish_reason or self._finish_reason
        return self._flush()

    def finish(self, usage: dict[str, Any]) -> bytes:
        """Return the events that end the response."""
        if not self._items:
            self._open("output_text")  # an empty answer is a message all the same
        self._close_all("completed")
        response = response_object(
            self._request,
            self._id,
            self._created,
            output=self._sorted(),
            usage=usage,
            finish_reason=self._finish_reason,
        )
        self._event(f"response.{response['status']}", response=response)
        return self._flush()

    def fail(self, refusal: Refusal, usage: dict[str, Any] | None) -> bytes:
        """Return the events that end a response which broke off; what was said so far stays in it."""
        self._close_all("incomplete")
        code = "rate_limit_exceeded" if refusal.status == 429 else "server_error"
        response = response_object(
            self._request,
            self._id,
            self._created,
            output=self._sorted(),
            usage=usage,
            status="failed",
            error={"code": code, "message": refusal.message},
        )
        self._event("response.failed", response=response)
        return self._flush()

    # -- items ---------------------------------------------------------------------------------------------

    def _say(self, kind: str, words: str, logprobs: list[dict[str, Any]] | None) -> None:
        text = self._text
        if text is None or text.kind != kind:
            self._close_text("completed")
            text = self._open(kind)
        text.parts.append(words)
        fields: dict[str, Any] = {"delta": words}
        if kind == "output_text":
            text.logprobs += logprobs or ()
            fields["logprobs"] = logprobs or []
        self._event(f"response.{kind}.delta", **_place(text), **fields)

    def _open(self, kind: str) -> _Text:
        prefix = "rs" if kind == "reasoning_text" else "msg"
        text = _Text(kind, f"{prefix}_{self._suffix}_{self._items}", self._items)
        self._text = text
        self._items += 1
        item = (
            reasoning_item(text.item_id, None)
            if kind == "reasoning_text"
            else message_item(text.item_id, "in_progress", [])
        )
        self._event("response.output_item.added", output_index=text.output_index, item=item)
        self._event("response.content_part.added", **_place(text), part=_part(kind, ""))
        return text

    def _close_text(self, status: str) -> None:
        text, self._text = self._text, None
        if text is None:
            return
        words = "".join(text.parts)
        part = _part(text.kind, words, text.logprobs)
        fields: dict[str, Any] = {"refusal" if text.kind == "refusal" else "text": words}
        if text.kind == "output_text":
            fields["logprobs"] = text.logprobs
        self._event(f"response.{text.kind}.done", **_place(text), **fields)
        self._event("response.content_part.done", **_place(text), part=part)
        if text.kind == "reasoning_text":
            item = reasoning_item(text.item_id, words)
        else:
            item = message_item(text.item_id, status, [part])
        self._done(text.output_index, item)

    def _call(self, piece: ToolCall) -> None:
        call = self._calls.get(piece.index)
        function = piece.function
        if call is None:
            if len(self._calls) >= MAX_CALLS:
                why = f"it calls more than {MAX_CALLS} functions"
                raise MalformedError("the worker's answer cannot be read", why=why)
            self._close_text("completed")
            item_id = f"fc_{self._suffix}_{self._items}"
            name = "" if function is None or function.name is None else function.name
            call = _Call(item_id, piece.id or f"call_{self._suffix}_{piece.index}", name, self._items)
            self._calls[piece.index] = call
            self._items += 1
            item = call_item(item_id, call.call_id, name, "", "in_progress")
            self._event("response.output_item.added", output_index=call.output_index, item=item)
        if function is not None and function.arguments:
            call.arguments.append(function.arguments)
            self._event(
                "response.function_call_arguments.delta",
                item_id=call.item_id,
                output_index=call.output_index,
                delta=function.arguments,
            )

    def _close_all(self, status: str) -> None:
        if self._finish_reason in ("length", "content_filter"):
            status = "incomplete"
        self._close_text(status)
        for call in self._calls.values():
            arguments = "".join(call.arguments)
            self._event(
                "response.function_call_arguments.done",
                item_id=call.item_id,
                output_index=call.output_index,
                name=call.name,
                arguments=arguments,
            )
            self._done(call.output_index, call_item(call.item_id, call.call_id, call.name, arguments, status))
        self._calls.clear()

    def _done(self, output_index: int, item: Item) -> None:
        self._output[output_index] = item
        self._event("response.output_item.done", output_index=output_index, item=item)

    def _sorted(self) -> list[Item]:
        return [self._output[index] for index in sorted(self._output)]

    # -- bytes ---------------------------------------------------------------------------------------------

    def _event(self, kind: str, **fields: Any) -> None:
        document = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        self._out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(document)))

    def _flush(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out


def _place(text: _Text) -> dict[str, Any]:
    return {"item_id": text.item_id, "output_index": text.output_index, "content_index": 0}


def _part(kind: str, words: str, logprobs: list[dict[str, Any]] | None = None) -> Item:
    if kind == "output_text":
        return text_part(words, logprobs)
    return refusal_part(words) if kind == "refusal" else {"type": "reasoning_text", "text": words}
