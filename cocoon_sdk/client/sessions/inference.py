"""Answers from whichever worker fits: choice, retries, and going on elsewhere in the middle of a stream.

Owns the life of one answer over several workers and its bill. Must not know sockets, frames or chain.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from cocoon_sdk.client.sessions.values import Bill, Candidate, InferenceRequest, ServedModel


class InferenceStream(Protocol):
    """An answer while it is made: an async iterator of the JSON of one OpenAI event each.

    `bill` grows with it. Leaving early (`aclose`, or the end of `async with`) stops the worker's engine.
    """

    bill: Bill

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes:
        """Return the next event, without `data: `. Raises what ended the answer."""
        ...

    async def aclose(self) -> None:
        """Stop the answer at the worker and wait shortly for its last count."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class InferenceClient(Protocol):
    """Asks workers; get it as `AsyncCocoon.inference`."""

    async def answer(self, request: InferenceRequest) -> tuple[bytes, Bill]:
        """Return the whole OpenAI body in JSON, with its usage as the worker counted it, and the bill."""
        ...

    def stream(self, request: InferenceRequest) -> InferenceStream:
        """Return an answer that is made while it is read; nothing is sent before its first `anext`."""
        ...

    async def models(self) -> tuple[ServedModel, ...]:
        """Return the models that at least one worker serves, by name."""
        ...

    async def explain_choice(self, model: str) -> tuple[Candidate, ...]:
        """Return the workers of a model, best first, with the reasons."""
        ...

    async def close(self) -> None:
        """Close all links; sessions stay open."""
        ...
