"""What becomes of a worker's answers: whole ones with their receipts, and how each of its parts ended.

Owns the values. Must not know who looks at them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.sessions.values import SignedReceipt


@dataclass(frozen=True, slots=True)
class FinishedAnswer:
    """One answer that came from one worker from beginning to end.

    `body` is the request's JSON as that worker had it, `pieces` what it answered: events without their usage,
    or one whole body. `travelled` is the same exactly as it came, which is what the receipt covers.
    """

    offer: WorkerOffer
    kind: str
    body: bytes = field(repr=False)
    pieces: tuple[bytes, ...] = field(repr=False)
    whole: bool
    receipt: SignedReceipt
    travelled: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class EndedPart:
    """How one worker's part in an answer ended, of which at least one piece had come.

    `receipt` tells that its valid receipt came. Without one, `complete` tells that the user had all of the
    answer all the same. `asked_at` and `ended_at` are monotonic seconds.
    """

    offer: WorkerOffer
    receipt: bool
    complete: bool
    asked_at: float
    ended_at: float


OnFinished: TypeAlias = Callable[[FinishedAnswer], None]
"""Is told of an answer when its user has all of it; returns at once."""

OnEnded: TypeAlias = Callable[[EndedPart], None]
"""Is told how each part ended that its worker had to end: not those that were stopped here before."""
