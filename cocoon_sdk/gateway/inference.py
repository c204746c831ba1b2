"""What the gateway needs of whoever answers: `InferenceClient`, or a labelled double in tests.

Owns the protocols only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

from cocoon_sdk.client.sessions import Bill, InferenceRequest, ServedModel


class AnswerStream(Protocol):
    """An answer while it is made: an async iterator of one OpenAI event each, in JSON."""

    @property
    def bill(self) -> Bill:
        """What was used and paid so far."""
        ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes:
        """Return the next event. Raises what ended the answer."""
        ...

    def ready(self, most: int = ...) -> list[bytes]:
        """Return further events that are there already."""
        ...

    async def aclose(self) -> None:
        """Stop the answer at the worker, and wait shortly for its last count."""
        ...


class Inference(Protocol):
    """Answers requests."""

    async def answer(
        self, request: InferenceRequest, *, on_bill: Callable[[Bill], None] | None = None
    ) -> tuple[bytes, Bill]:
        """Return the whole answer; `on_bill` gets the final bill however it ends."""
        ...

    def stream(self, request: InferenceRequest) -> AnswerStream:
        """Return an answer that is made while it is read."""
        ...

    async def models(self) -> tuple[ServedModel, ...]:
        """Return the models that at least one worker serves."""
        ...
