"""Bodies of requests: what the gateway reads of them, and what goes on to a worker.

Owns the few fields that the gateway itself understands. Must not know HTTP or workers. Everything else passes
as the bytes it came in (the worker has the list of what its engine may be asked), so that a long prompt costs
one scan and no objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import Raw

from cocoon_sdk.client.sessions import CHAT, COMPLETION, EMBEDDING
from cocoon_sdk.gateway.errors import BadRequestError

MAX_MODEL_CHARS: Final = 200
MAX_FIELDS: Final = 128
_DROPPED: Final = frozenset(
    {
        "user",  # whom the answer is for is not the worker's business
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
"""Fields without a meaning here that clients send all the same."""
_REQUIRED: Final = {CHAT: "messages", COMPLETION: "prompt", EMBEDDING: "input"}
_TRUE: Final = Raw(b"true")
_FALSE: Final = Raw(b"false")
_NULL: Final = Raw(b"null")
_FLOAT: Final = Raw(b'"float"')
_BASE64: Final = Raw(b'"base64"')

_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_string: Final = msgspec.json.Decoder(str).decode
_strings: Final = msgspec.json.Decoder(list[str]).decode
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as it goes on. `as_base64` is the form of vectors that was asked for."""

    kind: str
    model: str
    body: bytes = field(repr=False)
    stream: bool
    as_base64: bool = False


def read_fields(raw: bytes) -> dict[str, Raw]:
    """Return the fields of a JSON object, values unread. Raises `BadRequestError`."""
    what = "the body cannot be read"
    try:
        fields = _fields(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        why = "it nests too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise BadRequestError(what, why=why, hint="Send one JSON object in UTF-8") from None
    if len(fields) > MAX_FIELDS:
        raise BadRequestError(what, why=f"it has more than {MAX_FIELDS} fields")
    return fields


def prepare(kind: str, fields: dict[str, Raw]) -> Prepared:
    """Return what goes on of a chat, completion or embedding request. Raises `BadRequestError`."""
    model = read_model(fields)
    kept = {name: value for name, value in fields.items() if name not in _DROPPED and value != _NULL}
    required = _REQUIRED[kind]
    if required not in kept:
        raise BadRequestError(f"the field {required!r} is missing", param=required)
    if kind == EMBEDDING:
        base64 = _vector_form(kept)
        return Prepared(kind, model, _encode(kept), stream=False, as_base64=base64)
    if kind == COMPLETION:
        _unwrap_prompt(kept)
    stream = read_flag(kept, "stream")
    if stream:
        kept["stream"] = _TRUE
    else:
        kept.pop("stream", None)
        if kept.pop("stream_options", None) is not None:
            raise BadRequestError(
                "stream_options makes no sense", why="stream is not true", param="stream_options"
            )
    return Prepared(kind, model, _encode(kept), stream)


def read_model(fields: dict[str, Raw]) -> str:
    """Return the model's name. Raises `BadRequestError`."""
    try:
        model = _string(fields["model"])
    except KeyError:
        raise BadRequestError(
            "the field 'model' is missing", hint="See the names at /v1/models", param="model"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadRequestError("the field 'model' is not text", param="model") from None
    if not 1 <= len(model) <= MAX_MODEL_CHARS:
        raise BadRequestError(
            "no model has such a name", why=f"a name has 1 to {MAX_MODEL_CHARS} characters", param="model"
        )
    return model


def read_flag(fields: dict[str, Raw], name: str) -> bool:
    """Return a field that is true or false, false when it is missing. Raises `BadRequestError`."""
    value = fields.get(name)
    if value is None or value in (_FALSE, _NULL):
        return False
    if value != _TRUE:
        raise BadRequestError(f"the field {name!r} is neither true nor false", param=name)
    return True


def encode(document: Any) -> bytes:
    """Return JSON."""
    return _encode(document)


def _vector_form(fields: dict[str, Raw]) -> bool:
    form = fields.get("encoding_format")
    if form is None or form == _FLOAT:
        # Four bytes in base64 travel and are read much faster than a number in digits.
        fields["encoding_format"] = _BASE64
        return False
    if form != _BASE64:
        raise BadRequestError("encoding_format is neither float nor base64", param="encoding_format")
    return True


def _unwrap_prompt(fields: dict[str, Raw]) -> None:
    """A list of one text is that text."""
    prompt = fields["prompt"]
    if bytes(memoryview(prompt)[:1]) == b"[":
        try:
            texts = _strings(prompt)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # token ids, or nothing: the worker says what is wrong with it
        if len(texts) == 1:
            fields["prompt"] = Raw(_encode(texts[0]))
