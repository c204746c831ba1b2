"""From the arguments of a method to a request, and from an answer's bytes to OpenAI's types.

Owns both conversions. Must not know who answers. Answers are read as the types demand; one that an engine
writes a little differently is taken as it is, as OpenAI's own client does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from cocoon_sdk.client.sessions.errors import RequestRefusedError
from cocoon_sdk.client.sessions.values import DEFAULT_TIMEOUT_S, InferenceRequest
from cocoon_sdk.errors import MalformedError

if TYPE_CHECKING:
    from openai import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

_OURS: Final = ("extra_body", "timeout", "max_price", "stream")
_NO_MEANING: Final = ("extra_headers", "extra_query")
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def make_request(kind: str, params: Mapping[str, Any]) -> InferenceRequest:
    """Return the request that a method's arguments stand for. Raises `RequestRefusedError`."""
    what = "this request cannot be sent"
    given = {name: value for name, value in params.items() if not _left_out(value)}
    for name in _NO_MEANING:
        if given.pop(name, None):
            raise RequestRefusedError(what, why=f"{name} has no meaning for a worker", hint="Leave it out")
    body = {name: value for name, value in given.items() if name not in _OURS}
    body.update(given.get("extra_body") or {})
    model = body.get("model")
    if not isinstance(model, str):
        raise RequestRefusedError(what, why="it names no model")
    try:
        encoded = msgspec.json.encode(body, enc_hook=_plain)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise RequestRefusedError(what, why=str(error)[:200]) from None
    timeout = given.get("timeout")
    return InferenceRequest(
        kind=kind,
        model=model,
        body=encoded,
        stream=bool(given.get("stream")),
        max_price=given.get("max_price"),
        timeout_s=DEFAULT_TIMEOUT_S if timeout is None else float(timeout),
    )


def read_body(body: bytes) -> dict[str, Any]:
    """Return an answer as plain values. Raises `MalformedError`."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError("the worker's answer cannot be read", why=type(error).__name__) from None


def as_type(kind: type[Model], content: dict[str, Any]) -> Model:
    """Return an answer as one of OpenAI's types."""
    try:
        return kind.model_validate(content)
    except ValueError:
        # Lenient, and thirty times slower: unknown values stay what they are.
        return kind.construct(**content)


def _left_out(value: object) -> bool:
    # OpenAI's marks for an argument that was not given, told apart without importing the package.
    kind = type(value)
    return kind.__name__ in ("NotGiven", "Omit") and kind.__module__.partition(".")[0] == "openai"


def _plain(value: object) -> object:
    """Return what JSON has for other values: the models of answers before, tuples, generators."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json", exclude_unset=True)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
