"""A chat completion as the response object of the Responses API.

Owns the output items and the response object; `events` builds on the same. Pure.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.gateway.responses.request import ResponseRequest

Item = dict[str, Any]


class Function(msgspec.Struct):
    """A function call, or a piece of one."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    """A tool call, or a piece of one."""

    index: int = 0
    id: str | None = None
    function: Function | None = None


class Message(msgspec.Struct):
    """What the model said, or a piece of it."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thought(self) -> str | None:
        """The reasoning, under either of the names that engines give it."""
        return self.reasoning_content or self.reasoning


class Logprobs(msgspec.Struct):
    """Log probabilities of the tokens of a text."""

    content: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct):
    """One answer, or a piece of one."""

    message: Message | None = None
    delta: Message | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Chat(msgspec.Struct):
    """A chat completion or one of its events: what a response takes from it."""

    choices: list[Choice] = []
    usage: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(Chat).decode
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def read_chat(body: bytes) -> Chat:
    """Read a chat completion or an event. Raises `MalformedError`."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # The decoder's words may repeat a part of the answer.
        raise MalformedError("the worker's answer cannot be read", why="it is no chat completion") from None


def response_of_chat(
    request: ResponseRequest, response_id: str, created: int, body: bytes, usage: dict[str, Any]
) -> dict[str, Any]:
    """Return the response object of a whole answer. Raises `MalformedError` when it holds none."""
    chat = read_chat(body)
    if not chat.choices or (message := chat.choices[0].message) is None:
        raise MalformedError("the worker's answer cannot be read", why="it holds no choice")
    choice, suffix = chat.choices[0], response_id.partition("_")[2]
    output: list[Item] = []
    if message.thought:
        output.append(reasoning_item(f"rs_{suffix}", message.thought))
    status = "incomplete" if choice.finish_reason in _INCOMPLETE else "completed"
    if message.content or message.refusal or not message.tool_calls:
        if message.refusal:
            part = refusal_part(message.refusal)
        else:
            logprobs = None if choice.logprobs is None else choice.logprobs.content
            part = text_part(message.content or "", logprobs)
        output.append(message_item(f"msg_{suffix}", status, [part]))
    for place, call in enumerate(message.tool_calls or ()):
        function = call.function or Function()
        name, arguments = function.name or "", function.arguments or ""
        output.append(call_item(f"fc_{suffix}_{place}", call.id or "", name, arguments, status))
    return response_object(
        request, response_id, created, output=output, usage=usage, finish_reason=choice.finish_reason
    )


def response_object(
    request: ResponseRequest,
    response_id: str,
    created: int,
    *,
    output: list[Item],
    usage: dict[str, Any] | None = None,
    finish_reason: str | None = None,
    status: str | None = None,
    error: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return the response object; without a `status` it follows from why the answer ended."""
    why = _INCOMPLETE.get(finish_reason or "")
    if status is None:
        status = "completed" if why is None else "incomplete"
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": status,
        "error": error,
        "incomplete_details": None if why is None else {"reason": why},
        "model": request.model,
        "output": output,
        "usage": None if usage is None else response_usage(usage),
        **request.echoed,
    }


def response_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Return the token counts of a chat under the names of the Responses API; `cost` stays."""
    read, written = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    read_details = usage.get("prompt_tokens_details") or {}
    written_details = usage.get("completion_tokens_details") or {}
    counts = {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": read_details.get("cached_tokens") or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": written_details.get("reasoning_tokens") or 0},
        "total_tokens": read + written,
    }
    if "cost" in usage:
        counts["cost"] = usage["cost"]
    return counts


# -- items -------------------------------------------------------------------------------------------------


def message_item(item_id: str, status: str, content: list[Item]) -> Item:
    """Return an assistant's message."""
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str, logprobs: list[dict[str, Any]] | None = None) -> Item:
    """Return a message's text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def refusal_part(text: str) -> Item:
    """Return a message's refusal."""
    return {"type": "refusal", "refusal": text}


def reasoning_item(item_id: str, text: str | None) -> Item:
    """Return what the model thought before it answered."""
    content = [] if text is None else [{"type": "reasoning_text", "text": text}]
    return {"id": item_id, "type": "reasoning", "summary": [], "content": content}


def call_item(item_id: str, call_id: str, name: str, arguments: str, status: str) -> Item:
    """Return a call of one of the caller's functions."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
