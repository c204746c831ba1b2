"""The engine protocol: one bounded OpenAI-style request in, one complete answer and its token counts out.

Owns the frozen values that cross the seam, the limits, the engine's errors and the reading of an answer's
token counts. Must not know how an engine is reached or started, nor anything about jobs, prices or chains:
what the counts are worth is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable

from cocoon_sdk.errors import EngineError, EngineInterruptedError

Json: TypeAlias = dict[str, Any]


class EngineRequestError(EngineError):
    """The request itself cannot be served; sending it again, here or elsewhere, gives the same refusal."""


class EngineTimeoutError(EngineInterruptedError):
    """The answer was not complete when the deadline passed; the generation was cut off."""


class EngineAnswerError(EngineError):
    """The engine answered in a form that cannot be billed or checked (no counts, too large, not JSON)."""


class EngineKind(StrEnum):
    """What is asked of an engine, named as in a job's payload."""

    CHAT = "chat.completion"
    COMPLETION = "completion"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request: the kind and the OpenAI body as the client wrote it (checked by `checked_body`)."""

    kind: EngineKind
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EngineUsage:
    """Token counts of one answer. `cached_tokens` of the `prompt_tokens` came from the prefix cache."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One complete answer: the full OpenAI response body and its token counts."""

    response: Json
    usage: EngineUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Bounds on what goes into and comes out of an engine. Bytes are of JSON, tokens are the model's.

    `default_output_tokens` stands in where a request names no maximum; a larger maximum than
    `max_output_tokens` is clamped to it, not refused.
    """

    max_request_bytes: int = 1 << 20
    max_response_bytes: int = 16 << 20
    max_messages: int = 512
    max_inputs: int = 256
    max_prompt_tokens: int = 1 << 17
    max_output_tokens: int = 4096
    default_output_tokens: int = 512


class EngineState(StrEnum):
    """Where an engine's life stands. `ENGINE_TRANSITIONS` is the whole table."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"


ENGINE_TRANSITIONS: Mapping[EngineState, frozenset[EngineState]] = {
    EngineState.STOPPED: frozenset({EngineState.STARTING}),
    EngineState.STARTING: frozenset({EngineState.READY, EngineState.BACKOFF, EngineState.STOPPED}),
    EngineState.READY: frozenset({EngineState.BACKOFF, EngineState.STOPPED}),
    EngineState.BACKOFF: frozenset({EngineState.STARTING, EngineState.STOPPED}),
}


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """A snapshot: may requests be sent now, and if not, why. `restarts` counts since `start()`."""

    ready: bool
    state: EngineState
    detail: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class EngineProgress:
    """One step of a slow start, for a person to read; `elapsed_s` counts from the newest launch."""

    state: EngineState
    elapsed_s: float
    detail: str


ProgressCallback: TypeAlias = Callable[[EngineProgress], None]


@runtime_checkable
class Engine(Protocol):
    """What a worker needs of inference."""

    async def start(self) -> None:
        """Make the engine ready for `run`. Raises `EngineUnavailableError` if that fails."""
        ...

    async def stop(self) -> None:
        """Release everything `start` took. Safe to call twice, and without `start`."""
        ...

    async def health(self) -> EngineHealth:
        """Ask the engine, within a few seconds, whether it takes requests. Never raises for a sick engine."""
        ...

    def models(self) -> tuple[str, ...]:
        """Return the model names that a request may carry; empty before `start`."""
        ...

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        """Generate one whole answer within `deadline_s` seconds.

        Raises `EngineRequestError` (never retry), `EngineUnavailableError` (nothing was generated),
        `EngineInterruptedError` (died or cut off part way; `EngineTimeoutError` when by the deadline) or
        `EngineAnswerError`. Cancelling the call stops the generation.
        """
        ...


# -- reading an answer -----------------------------------------------------------------------------------

_MAX_COUNT = 1 << 31


def parse_answer(kind: EngineKind, raw: bytes) -> EngineResult:
    """Read an OpenAI response body and its counts.

    Raises `EngineAnswerError` when it is not one, and `EngineInterruptedError` when the engine itself says
    that it cut the generation off ("abort", or no finish reason).
    """
    try:
        response = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _unusable(f"the body is not JSON ({type(error).__name__})") from None
    if not isinstance(response, dict):
        raise _unusable("the body is not a JSON object")
    if kind is EngineKind.EMBEDDING:
        if not isinstance(response.get("data"), list) or not response["data"]:
            raise _unusable("it holds no embeddings")
    else:
        _check_choice(response)
    return EngineResult(response, _usage(kind, response.get("usage")))


def _check_choice(response: Json) -> None:
    choices = response.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise _unusable("it does not hold exactly one choice")
    reason = choices[0].get("finish_reason")
    if reason is None or reason == "abort":
        raise EngineInterruptedError(
            "the answer was cut short",
            why=f"the engine's finish reason is {reason!r}",
            hint="Send the request again.",
        )


def _usage(kind: EngineKind, usage: object) -> EngineUsage:
    if not isinstance(usage, dict):
        raise _unusable("it carries no usage, so its tokens cannot be counted")
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt = _count(usage, "prompt_tokens")
    completion = 0 if kind is EngineKind.EMBEDDING else _count(usage, "completion_tokens")
    cached = _count({"cached_tokens": 0 if cached is None else cached}, "cached_tokens")
    if cached > prompt:
        raise _unusable(f"it counts {cached} cached tokens in a prompt of {prompt}")
    return EngineUsage(prompt, cached, completion)


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    if type(value) is not int or not 0 <= value < _MAX_COUNT:
        raise _unusable(f"usage.{name} is not a token count")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _unusable(why: str) -> EngineAnswerError:
    return EngineAnswerError(
        "the engine's answer cannot be used", why=why, hint="Check that the endpoint speaks the OpenAI API."
    )
