"""What callers of inference give and get: the request, the bill, and why which worker.

Owns values only. Must not know links, sessions or how a worker is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.protocol.vouchers import Receipt, SessionRef
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.commitment import Commitment

CHAT: Final = "chat.completion"
COMPLETION: Final = "completion"
EMBEDDING: Final = "embedding"
KINDS: Final = (CHAT, COMPLETION, EMBEDDING)

DEFAULT_TIMEOUT_S: Final = 600.0
"""How long a whole answer may take, over all attempts."""
NOTHING_USED: Final = Usage(input_tokens=0)
NOTHING_PAID: Final = Nano(0)


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One request to whichever worker fits. `body` is the OpenAI body in JSON, as the engine shall see it.

    `kind` is one of `KINDS`. `max_price` (nanoTON) is what the whole answer may cost over all attempts: what
    would cost more is cut. `timeout_s` bounds everything together.
    """

    kind: str
    model: str
    body: bytes = field(repr=False)
    stream: bool
    max_price: Nano | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S


class Outcome(StrEnum):
    """How an attempt with one worker ended."""

    UNDER_WAY = "under way"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A worker's receipt as it was checked, with what is needed to show it to somebody else.

    `commitment` is what `receipt.proof_hash` stands for, where the terms promise verifiable answers.
    """

    receipt: Receipt
    session: SessionRef
    operator: VerifyKey
    signature: bytes = field(repr=False)
    commitment: Commitment | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One worker's part in an answer. `cost` is in nanoTON, `ttft_s` the time to its first piece."""

    worker: Address
    outcome: Outcome
    why: str
    cost: Nano
    ttft_s: float | None
    usage: Usage = NOTHING_USED
    session_id: int = 0
    receipt: SignedReceipt | None = None


@dataclass(slots=True)
class Bill:
    """What an answer used and costs, so far; complete when its stream has ended.

    `usage` is what the user sees: the prompt counted once. `cost` is what all workers together were paid, in
    nanoTON, and may exceed the price of `usage` after a failover. `worker` served last.
    """

    usage: Usage = NOTHING_USED
    cost: Nano = NOTHING_PAID
    worker: Address | None = None
    session_id: int = 0
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that somebody serves now. Prices are the cheapest terms', in nanoTON per million tokens."""

    name: str
    model_id: bytes
    workers: int
    cheapest: Terms
    max_context: int
    max_output_tokens: int
    announced_at: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker as the choice sees it; lower scores are better, in nanoTON for a typical request.

    `usable` tells whether it would be asked now; `reasons` say why it stands where it stands. `remaining` is
    what is left in the session with it (None: no session), `lockable` what its stake can still lock.
    """

    worker: Address
    usable: bool
    score: Nano
    price: Nano
    ttft_s: float | None
    success_rate: float
    requests: int
    remaining: Nano | None
    lockable: Nano
    reasons: tuple[str, ...]
