"""What the echo says: words, calls of tools, JSON that fits a schema, vectors. Pure.

Owns these forms. Nothing here pretends to be a model: text carries the label, and the rest is made of the
schema or of a hash of what was asked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from cocoon_worker.engine.base import EngineKind, Json

_DIMENSIONS: Final = 16
_MAX_DEPTH: Final = 8
_WORD: Final = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, cut into its tokens. `function` is set when they are the arguments of a call."""

    pieces: tuple[str, ...]
    finish_reason: str
    function: str | None = None

    @property
    def text(self) -> str:
        """The answer in one piece."""
        return "".join(self.pieces)

    @property
    def _call_id(self) -> str:
        return "call-" + hashlib.sha256(f"{self.function}{self.text}".encode()).hexdigest()[:16]

    def whole(self, kind: EngineKind) -> Json:
        """Return what a choice of a whole answer says."""
        if kind is not EngineKind.CHAT:
            return {"text": self.text}
        message: Json = {"role": "assistant", "content": self.text}
        if self.function is not None:
            function = {"name": self.function, "arguments": self.text}
            message = {"role": "assistant", "content": None}
            message["tool_calls"] = [{"id": self._call_id, "type": "function", "function": function}]
        return {"message": message}

    def parts(self, kind: EngineKind) -> Iterator[Json]:
        """Yield what the choices of a streamed answer say, one for each token."""
        for place, piece in enumerate(self.pieces):
            if kind is not EngineKind.CHAT:
                yield {"text": piece}
            elif self.function is None:
                yield {"delta": {"content": piece}}
            else:
                call: Json = {"index": 0, "function": {"arguments": piece}}
                if place == 0:
                    call |= {"id": self._call_id, "type": "function"}
                    call["function"]["name"] = self.function
                yield {"delta": {"tool_calls": [call]}}


def said_in(kind: EngineKind, body: Json) -> list[str]:
    """Return the words of the whole prompt: its tokens."""
    if kind is EngineKind.CHAT:
        return [word for message in body["messages"] for word in _content(message).split()]
    content = body["prompt"] if kind is EngineKind.COMPLETION else body["input"]
    items = content if isinstance(content, list) else [content]
    return [word for item in items for word in _text_of(item).split()]


def reply_to(kind: EngineKind, body: Json, label: str) -> Reply:
    """Return what the echo answers, within the request's own limit."""
    said = _text_of(body["prompt"]) if kind is EngineKind.COMPLETION else ""
    if kind is EngineKind.CHAT:
        said = next(
            (_content(each) for each in reversed(body["messages"]) if each["role"] != "assistant"), ""
        )
    function = _called(body, said)
    if function is not None:
        text = json.dumps(_instance(function.get("parameters"), label))
    else:
        text = _structured(body, label) or " ".join(f"{label} {said}".split())
    pieces = _WORD.findall(text)
    if body.get("continue_final_message"):
        pieces = pieces[_taken_up(text, _content(body["messages"][-1])) :]
    most = body.get("max_tokens") or body["max_completion_tokens"]
    # What was cut off is no call: a client must not run it.
    named = isinstance(body.get("tool_choice"), dict)
    reason = "tool_calls" if function is not None and not named else "stop"
    if len(pieces) > most:
        pieces, reason = pieces[:most], "length"
    return Reply(tuple(pieces) or ("",), reason, None if function is None else str(function.get("name")))


def embeddings(body: Json) -> list[Json]:
    """Return one vector of length 1 for each input, made of its hash: equal texts have equal vectors."""
    content = body["input"]
    single = isinstance(content, str) or all(isinstance(item, int) for item in content)
    size = body.get("dimensions") or _DIMENSIONS
    encoded = body.get("encoding_format") == "base64"
    found = []
    for index, item in enumerate([content] if single else content):
        vector = _vector(_text_of(item), size)
        value: Any = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if encoded else vector
        found.append({"object": "embedding", "index": index, "embedding": value})
    return found


def _vector(text: str, size: int) -> list[float]:
    raw = hashlib.shake_256(text.encode()).digest(4 * size)
    numbers = [number / 2**31 for number in struct.unpack(f"<{size}i", raw)]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def _content(message: Json) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part["text"] for part in content)


def _text_of(item: str | int | list[int]) -> str:
    return " ".join(map(str, item)) if isinstance(item, list) else str(item)


def _taken_up(text: str, so_far: str) -> int:
    """Return how many tokens of the answer are there already."""
    return len(_WORD.findall(so_far)) if so_far and text.startswith(so_far) else 0


def _called(body: Json, said: str) -> Json | None:
    """Return the function that is called: the named one, the first if one must be, or one that was named."""
    functions = [
        tool["function"] for tool in body.get("tools") or () if isinstance(tool.get("function"), dict)
    ]
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        return next((each for each in functions if each.get("name") == wanted), None)
    if choice == "required":
        return functions[0] if functions else None
    if choice == "auto":
        return next((each for each in functions if str(each.get("name")) in said.split()), None)
    return None


def _structured(body: Json, label: str) -> str | None:
    wanted = body.get("response_format") or {}
    limits = body.get("structured_outputs") or {}
    if limits.get("choice"):
        return str(limits["choice"][0])
    schema = (wanted.get("json_schema") or {}).get("schema") or limits.get("json")
    if isinstance(schema, dict):
        return json.dumps(_instance(schema, label))
    if wanted.get("type") == "json_object" or limits.get("json_object"):
        return json.dumps({"echo": label})
    return None


def _instance(schema: Any, label: str, root: Any = None, depth: int = 0) -> Any:
    """Return a small value that fits the usual forms of a JSON schema."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return {}
    if isinstance(reference := schema.get("$ref"), str):
        return _instance(_resolved(root, reference), label, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    for name in ("enum", "anyOf", "oneOf", "allOf"):
        options = schema.get(name)
        if isinstance(options, list) and options:
            return options[0] if name == "enum" else _instance(options[0], label, root, depth + 1)
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "string":
            return label
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "null":
            return None
        case "array":
            count = min(schema.get("minItems") or 0, _MAX_DEPTH)
            return [_instance(schema.get("items"), label, root, depth + 1)] * count
    properties = schema.get("properties")
    items = properties.items() if isinstance(properties, dict) else ()
    return {str(name): _instance(each, label, root, depth + 1) for name, each in items}


def _resolved(root: Any, reference: str) -> Any:
    found = root
    for name in reference.removeprefix("#/").split("/"):
        found = found.get(name) if isinstance(found, dict) else None
    return found
