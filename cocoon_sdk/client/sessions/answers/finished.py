"""A whole answer of one worker, with its receipt: what can be checked afterwards.

Owns the value. Must not know who looks at it.
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
    or one whole body.
    """

    offer: WorkerOffer
    kind: str
    body: bytes = field(repr=False)
    pieces: tuple[bytes, ...] = field(repr=False)
    whole: bool
    receipt: SignedReceipt


OnFinished: TypeAlias = Callable[[FinishedAnswer], None]
"""Is told of an answer when its user has all of it; returns at once."""
