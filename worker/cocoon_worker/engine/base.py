"""The engine protocol: one bounded OpenAI-style request in; its answer, whole or piece by piece, and counts.

Owns the frozen values that cross the seam, the limits and the engine's errors. Must not know how an engine is
reached or started, nor anything about jobs, sessions, prices or chains: what the counts are worth is decided
elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec

from cocoon_sdk.errors import EngineError, EngineInterruptedError
from cocoon_sdk.protocol.requests import RequestLimits

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
    """One request: the kind and the OpenAI body as the client wrote it (checked by `checked_body`).

    With `evidence` the answer comes with its `Evidence`, and says nothing else than without.
    """

    kind: EngineKind
    body: Mapping[str, Any]
    evidence: bool = False


ON_CPU: Final = "cpu"
"""Platform of an engine that computes on a CPU."""


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """What computes: the engine and its version, what it runs on, its number format; "" for the unknown."""

    engine: str = ""
    platform: str = ""
    dtype: str = ""


@dataclass(slots=True)
class Evidence:
    """What an engine tells of one generation, for whoever checks it later; it grows while an answer streams.

    `prompt` and `tokens` are the model's token ids, the end token included where the engine has one, and
    `logprobs` the natural log-probability of each of `tokens` before any sampling parameter. `finish` is the
    finish reason, "" while there is none.
    """

    maker: EngineIdentity
    prompt: list[int] = field(default_factory=list, repr=False)
    tokens: list[int] = field(default_factory=list, repr=False)
    logprobs: list[float] = field(default_factory=list, repr=False)
    finish: str = ""


@dataclass(frozen=True, slots=True)
class EngineUsage:
    """Token counts of one answer. `cached_tokens` of the `prompt_tokens` came from the prefix cache."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One complete answer: the OpenAI response body as JSON bytes (an object, checked), and its counts.

    `evidence` is there if and only if it was asked for and the answer has tokens of its own.
    """

    raw: bytes
    usage: EngineUsage
    evidence: Evidence | None = None

    @property
    def response(self) -> Json:
        """The body, read anew with each use."""
        body: Json = msgspec.json.decode(self.raw)
        return body


class EngineChunk(NamedTuple):
    """One event of a streamed answer: its JSON as the engine wrote it, and the counts up to and with it.

    `cached_tokens` is None until the engine tells (vLLM does at the end). `final` marks the last one, which
    comes when the answer is known to be whole; it has all counts. `evidence`, where it was asked for, is the
    same value in every chunk, and at the time of each has its `completion_tokens` at least.
    """

    data: bytes
    prompt_tokens: int
    cached_tokens: int | None
    completion_tokens: int
    final: bool
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits(RequestLimits):
    """Bounds on what goes into and comes out of an engine.

    `default_output_tokens` stands in where a request names no maximum; a larger maximum than
    `max_output_tokens` is clamped to it, not refused. `max_response_bytes` stays below what a session's
    evidence can hold: clients take a longer answer for one that was made to escape arbiters.
    """

    max_response_bytes: int = 12 << 20
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

    def stream(self, request: EngineRequest, *, deadline_s: float) -> AsyncGenerator[EngineChunk, None]:
        """Generate one answer and give its events as they are made; embeddings cannot be streamed.

        Raises what `run` raises, before or between events. Closing the generator stops the generation, so
        use it with `contextlib.aclosing`.
        """
        ...

    async def count_tokens(self, request: EngineRequest) -> int | None:
        """Return how many tokens the prompt has, None when the engine cannot tell. Raises nothing else than
        `EngineRequestError`.
        """
        ...
