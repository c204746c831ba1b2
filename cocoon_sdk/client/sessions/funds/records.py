"""What a client keeps of each of its sessions, and the limits within which it opens them.

Owns the values and what follows from them alone. Must not know databases or chains. All amounts are nanoTON.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.protocol.metering import DEFAULT_INCREMENT, MAX_INCREMENT
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.vouchers import SessionRef, Voucher
from cocoon_sdk.types import Nano

SECONDS_A_DAY: Final = 86400
DEFAULT_DEPOSIT: Final = Nano(100_000_000)
_DEFAULT_LOW: Final = Nano(20_000_000)
_NOTHING: Final = Nano(0)


class SessionState(StrEnum):
    """Where a session stands for us; the truth is `escrow.session(id)` on chain."""

    OPENING = "opening"
    """Its external may have left, or may still leave: the chain has not told yet."""
    OPEN = "open"
    CLOSING = "closing"
    """Nothing more is signed; the worker redeems, then the rest is free again."""
    CLOSED = "closed"


LIVE_STATES: Final = (SessionState.OPENING, SessionState.OPEN)
UNENDED_STATES: Final = (*LIVE_STATES, SessionState.CLOSING)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session as it was stored. Times are unix seconds.

    `uid` names the record from before the chain gave it a number. `signed` and `signature` are the best
    voucher that was given, `accounted` what really came for it.
    `redeemed` is what it had taken out on chain when we last looked. `holder` alone may sign, whatever the
    time is; after `lease_until` another process may take its place.

    `pending_deposit` is what the deposit becomes when an external that is under way gets through (0: none
    is), and `pending_until` the block time after which it cannot any more. `settle_at` is from when the rest
    of a closing session can be freed. `why` says in words why it ended.
    """

    uid: str
    domain: Domain
    session_id: int
    worker: Address
    model: str
    increment: Nano
    deposit: Nano
    expires: int
    state: SessionState
    signed: Nano = _NOTHING
    signature: bytes = b""
    accounted: Nano = _NOTHING
    next_rid: int = 1
    redeemed: Nano = _NOTHING
    holder: str | None = None
    lease_until: int = 0
    opened_at: int = 0
    used_at: int = 0
    pending_deposit: Nano = _NOTHING
    pending_until: int = 0
    settle_at: int = 0
    why: str = ""

    @property
    def escrow(self) -> Address:
        """The escrow that pays."""
        return self.domain.contract

    @property
    def ref(self) -> SessionRef:
        """What names the session to everybody."""
        return SessionRef(self.domain, self.session_id, self.worker)

    @property
    def best(self) -> Voucher | None:
        """The best voucher that was given, None before the first."""
        return Voucher(self.signed, self.signature) if self.signed else None

    @property
    def remaining(self) -> Nano:
        """What the deposit still holds for new work."""
        return self.deposit - self.accounted

    def held_by_another(self, holder: str, now: int) -> bool:
        """Tell whether somebody else holds it and is not yet overdue."""
        return self.holder not in (None, holder) and self.lease_until > now


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """What may go to workers through sessions, in nanoTON; None: no limit.

    Counted is what was signed, and what open deposits still allow to be signed: what a limit permits can
    never be exceeded, whatever happens afterwards. A day is one of UTC. Gas and what jobs cost is not
    counted; for those there is the escrow's own daily limit.
    """

    per_session: Nano | None = None
    per_day: Nano | None = None
    total: Nano | None = None

    def __post_init__(self) -> None:
        for limit in (self.per_session, self.per_day, self.total):
            if limit is not None and limit < 0:
                raise ValueError("a limit is not negative")


@dataclass(frozen=True, slots=True)
class Exposure:
    """What limits are held against, over all sessions of one escrow.

    `signed` ever and `signed_today`, and `outstanding`: what open deposits still allow to be signed.
    """

    signed: Nano
    signed_today: Nano
    outstanding: Nano

    def room(self, limits: SpendLimits) -> Nano | None:
        """Return how much may be added to deposits now, None for any amount; never negative."""
        rooms = []
        if limits.per_day is not None:
            rooms.append(limits.per_day - self.signed_today - self.outstanding)
        if limits.total is not None:
            rooms.append(limits.total - self.signed - self.outstanding)
        return max(Nano(0), min(rooms)) if rooms else None


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How a client runs its sessions. Amounts in nanoTON, times in seconds.

    `deposit` is what a new session gets, and a top-up adds at least. When less than `low` is left, more is
    added ahead. `lifetime_s` is the time to expiry, `margin_s` how long before it a session gets no new
    requests. Unused for `idle_s`, it is closed. A holder that is silent for `lease_s` has died.
    """

    deposit: Nano = DEFAULT_DEPOSIT
    low: Nano = _DEFAULT_LOW
    increment: Nano = DEFAULT_INCREMENT
    lifetime_s: int = 7 * SECONDS_A_DAY
    margin_s: int = 1800
    idle_s: int = 3600
    lease_s: int = 60

    def __post_init__(self) -> None:
        if not 0 < self.increment <= min(self.deposit, MAX_INCREMENT) or not self.low >= 0:
            raise ValueError(f"an increment is positive, at most {MAX_INCREMENT}, and not above the deposit")
        if not 0 < self.margin_s < self.lifetime_s or self.idle_s < 0 or self.lease_s < 10:
            raise ValueError("a session lives longer than its margin, and a lease at least 10 s")
