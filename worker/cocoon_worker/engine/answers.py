"""Reading what an OpenAI endpoint answers: whole bodies and single events, no more of them than is needed.

Owns the forms. Everything is decoded by msgspec, which checks the whole text but builds only the fields named
here: an event costs about a microsecond. Must not know how the bytes came.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from cocoon_sdk.errors import EngineError, EngineInterruptedError
from cocoon_worker.engine.base import (
    EngineAnswerError,
    EngineChunk,
    EngineKind,
    EngineRequestError,
    EngineResult,
    EngineUsage,
)

_MAX_COUNT: Final = 1 << 31
_MAX_REASON: Final = 40
_MAX_ERROR_CHARS: Final = 300
_CHECK: Final = "Check that the endpoint speaks the OpenAI API."
_CLIENT_ERRORS: Final = frozenset({400, 404, 413, 422})


class _Details(Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Choice(Struct, gc=False):
    finish_reason: str | None = None


class _Body(Struct, gc=False):
    choices: list[_Choice] | None = None
    data: list[msgspec.Raw] | None = None
    usage: _Usage | None = None


class _Error(Struct, gc=False):
    message: str = ""
    code: int | str | None = None


class _Event(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _Count(Struct, gc=False):
    count: int


class _Version(Struct, gc=False):
    version: Annotated[str, Meta(min_length=1, max_length=64)]


_read_body: Final = msgspec.json.Decoder(_Body).decode
_read_event: Final = msgspec.json.Decoder(_Event).decode
_read_count: Final = msgspec.json.Decoder(_Count).decode
_read_version: Final = msgspec.json.Decoder(_Version).decode


def parse_answer(kind: EngineKind, raw: bytes) -> EngineResult:
    """Read an OpenAI response body and its counts.

    Raises `EngineAnswerError` when it is not one, and `EngineInterruptedError` when the engine itself says
    that it cut the generation off ("abort", or no finish reason).
    """
    try:
        body = _read_body(raw)
    except msgspec.ValidationError as error:
        raise unusable(f"the body has another form ({error})") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unusable(f"the body is not JSON ({type(error).__name__})") from None
    if kind is EngineKind.EMBEDDING:
        if not body.data:
            raise unusable("it holds no embeddings")
    elif body.choices is None or len(body.choices) != 1:
        raise unusable("it does not hold exactly one choice")
    elif not _finished(body.choices[0]):
        raise _cut_short("its finish reason is missing")
    if body.usage is None:
        raise unusable("it carries no usage, so its tokens cannot be counted")
    return EngineResult(raw, _counts(kind, body.usage))


def parse_count(raw: bytes) -> int | None:
    """Read what a tokenizer's endpoint answers; None when it is something else."""
    try:
        count = _read_count(raw).count
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return count if 0 <= count < _MAX_COUNT else None


def parse_version(raw: bytes) -> str:
    """Read vLLM's version; "" when it is something else."""
    try:
        version = _read_version(raw).version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return f"vllm {version}" if version.isascii() and version.isprintable() else ""


class EventReader:
    """Turns the events of one streamed answer into chunks, and knows when it is whole."""

    __slots__ = ("_cached", "_completion", "_finished", "_last", "_prompt")

    def __init__(self) -> None:
        self._prompt = self._completion = 0
        self._cached: int | None = None
        self._finished = False
        self._last: bytes | None = None

    def read(self, data: bytes) -> EngineChunk | None:
        """Return the event's chunk; None for the last one, which `close` returns.

        Raises `EngineAnswerError` for anything else than an event with its counts, `EngineInterruptedError`
        or `EngineRequestError` when the event is an error.
        """
        try:
            event = _read_event(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise unusable(f"an event has another form ({type(error).__name__})") from None
        if event.error is not None:
            raise _told(event.error)
        usage = event.usage
        if usage is None:
            raise EngineAnswerError(
                "the engine's answer cannot be used",
                why="it does not count its tokens while it streams",
                hint="Sessions need an endpoint with stream_options.continuous_usage_stats, as vLLM has it.",
            )
        if self._last is not None:
            raise unusable("an event comes after the last one")
        self._count(usage)
        if event.choices:
            if len(event.choices) != 1:
                raise unusable("an event does not hold exactly one choice")
            self._finished = _finished(event.choices[0]) or self._finished
            return EngineChunk(data, self._prompt, self._cached, self._completion, False)
        self._last = data
        return None

    def close(self) -> EngineChunk:
        """Return the last event, at the stream's end. Raises `EngineInterruptedError` when it is missing."""
        if self._last is None or not self._finished:
            raise _cut_short("its stream ended before the answer did")
        return EngineChunk(self._last, self._prompt, self._cached or 0, self._completion, True)

    def _count(self, usage: _Usage) -> None:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if prompt is None or completion is None:
            raise unusable("an event's usage is no token count")
        if not (self._prompt <= prompt < _MAX_COUNT and self._completion <= completion < _MAX_COUNT):
            raise unusable("its token counts fall while it streams")
        self._prompt, self._completion = prompt, completion
        if usage.prompt_tokens_details is not None:
            cached = usage.prompt_tokens_details.cached_tokens or 0
            if not 0 <= cached <= prompt:
                raise unusable(f"it counts {cached} cached tokens in a prompt of {prompt}")
            self._cached = cached


def _counts(kind: EngineKind, usage: _Usage) -> EngineUsage:
    details = usage.prompt_tokens_details
    prompt = _count("prompt_tokens", usage.prompt_tokens)
    completion = 0 if kind is EngineKind.EMBEDDING else _count("completion_tokens", usage.completion_tokens)
    cached = 0 if details is None else _count("cached_tokens", details.cached_tokens or 0)
    if cached > prompt:
        raise unusable(f"it counts {cached} cached tokens in a prompt of {prompt}")
    return EngineUsage(prompt, cached, completion)


def _count(name: str, value: int | None) -> int:
    if value is None or not 0 <= value < _MAX_COUNT:
        raise unusable(f"usage.{name} is not a token count")
    return value


def _finished(choice: _Choice) -> bool:
    if choice.finish_reason == "abort":
        raise _cut_short("its finish reason is 'abort'")
    return choice.finish_reason is not None


def _told(error: _Error) -> EngineError:
    text = " ".join(error.message.split())[:_MAX_ERROR_CHARS]
    if error.code in _CLIENT_ERRORS:
        return EngineRequestError("the engine refused the request", why=text)
    return EngineInterruptedError("the engine failed while generating", why=text)


def _cut_short(why: str) -> EngineInterruptedError:
    return EngineInterruptedError("the answer was cut short", why=why, hint="Send the request again.")


def unusable(why: str) -> EngineAnswerError:
    """Return the error for an answer that cannot be billed or checked."""
    return EngineAnswerError("the engine's answer cannot be used", why=why, hint=_CHECK)
