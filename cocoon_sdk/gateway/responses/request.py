"""A request of the Responses API as one of chat completions.

Owns which fields pass, which are ignored because nothing depends on them, and which are refused because the
gateway would have to store, fetch or run something. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from cocoon_sdk.gateway.errors import BadRequestError, NotStoredError
from cocoon_sdk.gateway.requests import MAX_MODEL_CHARS
from cocoon_sdk.gateway.responses.items import messages_of

MAX_TOOLS: Final = 128
_WHAT: Final = "the request cannot be served"
_NOT_STORED: Final = "Send the whole conversation as `input`: nothing is stored here"
_REFUSED: Final = {
    "previous_response_id": _NOT_STORED,
    "conversation": _NOT_STORED,
    "prompt": "Send `instructions` and `input`: no prompt templates are stored here",
    "background": "Stream the answer, or open a job for it (`cocoon job create`)",
    "max_tool_calls": "There are no built-in tools here; the caller runs its own functions",
    "context_management": "Shorten the conversation before it is sent",
}
_IGNORED: Final = frozenset(
    {
        "store",  # nothing is, whatever is asked; the answer says `"store": false`
        "user",
        "safety_identifier",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "stream_options",
    }
)
_PASSED: Final = ("temperature", "top_p", "parallel_tool_calls", "top_k", "min_p", "seed", "stop")
"""Fields of the same name and meaning in chat completions."""
_KNOWN: Final = frozenset(
    {
        "model",
        "input",
        "instructions",
        "max_output_tokens",
        "metadata",
        "reasoning",
        "text",
        "tools",
        "tool_choice",
        "top_logprobs",
        "include",
        "truncation",
        "stream",
        *_PASSED,
        *_REFUSED,
        *_IGNORED,
    }
)
_INCLUDES: Final = frozenset({"message.output_text.logprobs", "reasoning.encrypted_content"})
_LOGPROBS: Final = "message.output_text.logprobs"

_decode: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """What to ask a worker (`chat`, a chat completions body), and what the answer repeats of the request."""

    model: str
    stream: bool
    chat: dict[str, Any] = field(repr=False)
    echoed: dict[str, Any] = field(repr=False)


def translate(raw: bytes) -> ResponseRequest:
    """Return the chat that answers a request of the Responses API.

    Raises `BadRequestError` naming the field, `NotStoredError` for what refers to an earlier response.
    """
    request = _read(raw)
    model, stream = _model(request), _flag(request, "stream", False)
    chat: dict[str, Any] = {"model": model, "messages": messages_of(request)}
    for name in _PASSED:
        if name in request:
            chat[name] = request[name]
    if "max_output_tokens" in request:
        chat["max_completion_tokens"] = request["max_output_tokens"]
    tools = _tools(request.get("tools", []))
    choice = request.get("tool_choice", "auto")
    if tools:
        chat["tools"] = tools
        chat["tool_choice"] = _choice(choice)
    else:
        chat.pop("parallel_tool_calls", None)
    form = _format(request.get("text", {}))
    if form is not None:
        chat["response_format"] = form
    _logprobs(request, chat)
    if stream:
        chat["stream"] = True
        chat["stream_options"] = {"include_usage": True}
    return ResponseRequest(model, stream, chat, _echoed(request, choice))


def _read(raw: bytes) -> dict[str, Any]:
    try:
        request = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        why = "it nests too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise BadRequestError("the body cannot be read", why=why, hint="Send one JSON object") from None
    if not isinstance(request, dict):
        raise BadRequestError("the body cannot be read", why="it is not a JSON object")
    request = {name: value for name, value in request.items() if value is not None}
    for name, hint in _REFUSED.items():
        if request.get(name):
            kind = NotStoredError if hint is _NOT_STORED else BadRequestError
            raise kind(_WHAT, why=f"{name!r} is not offered", hint=hint, param=name)
    for name in request:
        if name not in _KNOWN:
            raise BadRequestError(_WHAT, why=f"the field {name[:64]!r} is not known here", param=name[:64])
    if request.get("truncation", "disabled") != "disabled":
        hint = "Shorten the conversation before it is sent"
        raise BadRequestError(_WHAT, why="nothing is cut silently here", hint=hint, param="truncation")
    return request


def _model(request: dict[str, Any]) -> str:
    model = request.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL_CHARS:
        raise BadRequestError(
            "the field 'model' is missing", hint="See the names at /v1/models", param="model"
        )
    return model


def _flag(request: dict[str, Any], name: str, default: bool) -> bool:
    value = request.get(name, default)
    if not isinstance(value, bool):
        raise BadRequestError(f"the field {name!r} is neither true nor false", param=name)
    return value


def _tools(tools: Any) -> list[dict[str, Any]]:
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise BadRequestError(_WHAT, why=f"'tools' is not a list of at most {MAX_TOOLS}", param="tools")
    found = []
    for place, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise BadRequestError(
                _WHAT,
                why="only function tools are offered: nothing is searched, fetched or run here",
                param=f"tools[{place}].type",
            )
        if not isinstance(tool.get("name"), str):
            raise BadRequestError(_WHAT, why="a function has no name", param=f"tools[{place}].name")
        function = {name: tool[name] for name in _FUNCTION if tool.get(name) is not None}
        found.append({"type": "function", "function": function})
    return found


_FUNCTION: Final = ("name", "description", "parameters", "strict")


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    raise BadRequestError(
        _WHAT,
        why="tool_choice is none of auto, none, required and one function",
        param="tool_choice",
    )


def _format(text: Any) -> dict[str, Any] | None:
    form = text.get("format") if isinstance(text, dict) else None
    if form is None and isinstance(text, dict):
        return None
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    if kind == "json_schema" and isinstance(form, dict):
        parts = {name: form[name] for name in _SCHEMA if form.get(name) is not None}
        return {"type": "json_schema", "json_schema": parts}
    raise BadRequestError(
        _WHAT, why="text.format is none of text, json_object and json_schema", param="text.format"
    )


_SCHEMA: Final = ("name", "description", "schema", "strict")


def _logprobs(request: dict[str, Any], chat: dict[str, Any]) -> None:
    include = request.get("include", [])
    if not isinstance(include, list) or not all(isinstance(each, str) for each in include):
        raise BadRequestError(_WHAT, why="'include' is not a list of texts", param="include")
    for each in include:
        if each not in _INCLUDES:
            raise BadRequestError(_WHAT, why=f"{each[:64]!r} cannot be included", param="include")
    if _LOGPROBS in include or request.get("top_logprobs"):
        chat["logprobs"] = True
        chat["top_logprobs"] = request.get("top_logprobs", 0)


def _echoed(request: dict[str, Any], choice: Any) -> dict[str, Any]:
    """Return the part of the response object that repeats the request, with OpenAI's defaults."""
    text = request.get("text", {})
    return {
        "background": False,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "metadata": request.get("metadata", {}),
        "parallel_tool_calls": request.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": request.get("reasoning", {"effort": None, "summary": None}),
        "store": False,
        "temperature": request.get("temperature", 1.0),
        "text": {**text, "format": text.get("format", {"type": "text"})},
        "tool_choice": choice,
        "tools": request.get("tools", []),
        "top_logprobs": request.get("top_logprobs", 0),
        "top_p": request.get("top_p", 1.0),
        "truncation": "disabled",
    }
