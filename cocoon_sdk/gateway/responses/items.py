"""Input of the Responses API as messages of a chat.

Owns the forms of input items. Pure. What stands together in a chat comes together: a text and the function
calls behind it are one message of the assistant, system texts at the beginning are one message, because
chat templates of open models often allow only one, and only there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from cocoon_sdk.gateway.errors import BadRequestError, NotStoredError

MAX_ITEMS: Final = 4096
_WHAT: Final = "the input cannot be read"
_ROLES: Final = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text"})

Message: TypeAlias = dict[str, Any]


def messages_of(request: Mapping[str, Any]) -> list[Message]:
    """Return the messages of a request's `instructions` and `input`. Raises `BadRequestError`."""
    messages: list[Message] = []
    instructions = request.get("instructions")
    if instructions is not None:
        if not isinstance(instructions, str):
            raise BadRequestError(_WHAT, why="instructions are not text", param="instructions")
        messages.append({"role": "system", "content": instructions})
    items = request.get("input")
    if isinstance(items, str):
        return [*messages, {"role": "user", "content": items}]
    if not isinstance(items, list) or not items:
        raise BadRequestError(_WHAT, why="it is neither text nor a list of items", param="input")
    if len(items) > MAX_ITEMS:
        raise BadRequestError(_WHAT, why=f"it has more than {MAX_ITEMS} items", param="input")
    for place, item in enumerate(items):
        where = f"input[{place}]"
        if not isinstance(item, dict):
            raise BadRequestError(_WHAT, why="an item is not an object", param=where)
        kind = item.get("type", "message")
        read = _READERS.get(kind) if isinstance(kind, str) else None
        if read is None:
            why = f"items of the type {str(kind)[:64]!r} are not offered"
            raise BadRequestError(_WHAT, why=why, param=f"{where}.type")
        read(item, messages, where)
    return messages


def _message(item: Mapping[str, Any], messages: list[Message], where: str) -> None:
    role = _ROLES.get(str(item.get("role")))
    if role is None:
        raise BadRequestError(_WHAT, why=f"a role is one of {', '.join(_ROLES)}", param=f"{where}.role")
    text = _text(item.get("content"), f"{where}.content")
    if role == "system" and all(message["role"] == "system" for message in messages) and messages:
        messages[-1]["content"] += f"\n\n{text}"
    else:
        messages.append({"role": role, "content": text})


def _call(item: Mapping[str, Any], messages: list[Message], where: str) -> None:
    for name in ("call_id", "name", "arguments"):
        if not isinstance(item.get(name), str):
            raise BadRequestError(_WHAT, why=f"a function call has no {name}", param=f"{where}.{name}")
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    function = {"name": item["name"], "arguments": item["arguments"]}
    call = {"id": item["call_id"], "type": "function", "function": function}
    messages[-1].setdefault("tool_calls", []).append(call)


def _output(item: Mapping[str, Any], messages: list[Message], where: str) -> None:
    if not isinstance(item.get("call_id"), str):
        raise BadRequestError(_WHAT, why="a function's output has no call_id", param=f"{where}.call_id")
    text = _text(item.get("output"), f"{where}.output")
    messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})


def _reasoning(_: Mapping[str, Any], __: list[Message], ___: str) -> None:
    """Earlier reasoning is not shown to a model again, as chat templates do it too."""


def _reference(_: Mapping[str, Any], __: list[Message], where: str) -> None:
    raise NotStoredError(
        _WHAT,
        why="it refers to an item by its id, and nothing is stored here",
        hint="Send the item itself",
        param=where,
    )


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], list[Message], str], None]]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
    "reasoning": _reasoning,
    "item_reference": _reference,
}


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequestError(_WHAT, why="content is neither text nor a list of parts", param=where)
    texts = []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "refusal" and isinstance(part.get("refusal"), str):
            texts.append(part["refusal"])
            continue
        if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise BadRequestError(
                _WHAT, why="only text is served: no images, audio or files", param=f"{where}[{place}]"
            )
        texts.append(part["text"])
    return "".join(texts)
