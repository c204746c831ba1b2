"""One session as the worker knows it, as a frozen value.

Owns the fields. Must not know SQL, chains, connections or policies. Amounts in nanoTON, times in unix
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from pytoniq_core import Address

from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.protocol.signing import Domain, account_address
from cocoon_sdk.protocol.vouchers import SessionRef
from cocoon_sdk.types import Nano
from cocoon_worker.records import JobKey


class SessionKey(NamedTuple):
    """A session everywhere: account id of its escrow, and its id there. Escrows never use an id twice."""

    escrow: int
    session_id: int

    @property
    def address(self) -> Address:
        """The escrow's address."""
        return account_address(self.escrow)

    @property
    def entry(self) -> JobKey:
        """The escrow's entry as planned actions and outcomes name it: jobs and sessions share a counter."""
        return JobKey(self.escrow, self.session_id)

    def __str__(self) -> str:
        return f"0:{self.escrow:064x}/{self.session_id}"


class SessionState(StrEnum):
    """Where a session stands on chain, as far as this worker has seen."""

    OPEN = "open"
    CLOSING = "closing"
    """The client closes it: what is signed has to be redeemed before `settle_at`."""
    ENDED = "ended"
    """The escrow has no such entry any more. Only money that is on its way may still come."""


SESSION_TRANSITIONS: Final[Mapping[SessionState, frozenset[SessionState]]] = {
    SessionState.OPEN: frozenset({SessionState.CLOSING, SessionState.ENDED}),
    SessionState.CLOSING: frozenset({SessionState.ENDED}),
    SessionState.ENDED: frozenset(),
}


class GuardState(StrEnum):
    """Whether our stake's collateral backs a session."""

    NONE = "none"
    WANTED = "wanted"
    """Collateral shall be locked for it."""
    ASKED = "asked"
    """An external that locks it is under way, or its effect at the escrow is."""
    GUARDED = "guarded"
    REFUSED = "refused"
    """The escrow refused, or it was tried often enough; the session goes on without."""
    DISPUTED = "disputed"
    """The client disputes what was done for it: arbiters judge our receipts, and the collateral."""
    CLEARED = "cleared"
    """The dispute came to nothing. While this is kept, no other session of the same escrow is guarded."""


_ZERO: Final = Nano(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEntry:
    """One session. What the client signed, what it used up, and what came of it on chain.

    `signed` with `signature` is the best voucher; `booked` is what was handed over by our count, `next_rid`
    the lowest number that a request may carry, `forgone` what was worked and never paid. `redeemed` is what
    the escrow says was paid out.
    """

    key: SessionKey
    state: SessionState = SessionState.OPEN
    escrow_owner: int
    escrow_index: int
    escrow_previous_code: bool
    """The stake's owner holds the escrow's code as the previous one."""
    takes_parts: bool = False
    """The escrow pays a part of a voucher: what was signed ahead and not earned can be left to the client."""
    epoch: int
    voucher_key: bytes
    deposit: Nano
    expires: int
    """From then on nothing new is served."""
    settle_at: int
    """When the client can take back what was not redeemed: after closing, else after the expiry."""
    close_delay: int
    """How long, in seconds, a worker has to redeem after the client closes, or after the expiry."""
    fee_bps: int
    signed: Nano = _ZERO
    signature: bytes = field(default=b"", repr=False)
    booked: Nano = _ZERO
    next_rid: int = 1
    forgone: Nano = _ZERO
    redeemed: Nano = _ZERO
    paid: Nano = _ZERO
    """What arrived at our stake by its own history, before the protocol's fee."""
    fee: Nano = _ZERO
    asked: Nano = _ZERO
    """Amount of the voucher whose redemption is under way; 0: none is."""
    asked_at: int = 0
    """When our stake sent that redemption; 0 while its external is not confirmed."""
    redeemed_at: int = 0
    """When a redemption last succeeded, or the session became known."""
    guard: GuardState = GuardState.NONE
    collateral: Nano = _ZERO
    lock: int = 0
    """Number of the stake's lock that holds `collateral`; 0: none."""
    not_before: int = 0
    """No redemption is tried again before this time."""
    tries: int = 0
    missing_since: int = 0
    """Since when the escrow shows no entry; 0: it does. An endpoint that lags may miss it for a while."""
    looked_at: int = 0
    created_at: int
    updated_at: int
    reason: str = ""

    @property
    def covered(self) -> Nano:
        """What the best voucher is worth: a voucher beyond the deposit pays the deposit."""
        return min(self.signed, self.deposit)

    @property
    def payable(self) -> Nano:
        """What we claim of it: what was handed over by our count, where the escrow pays a part."""
        return min(self.booked, self.covered) if self.takes_parts else self.covered

    @property
    def settled(self) -> Nano:
        """What was certainly paid out: the escrow says so, or it arrived."""
        return max(self.redeemed, self.paid)

    @property
    def unredeemed(self) -> Nano:
        """What is to be claimed and was not paid out yet."""
        return Nano(max(0, self.payable - self.settled))

    @property
    def lost(self) -> Nano:
        """What was to be claimed and can never be paid out any more, unless money is still on its way."""
        return self.unredeemed if self.state is SessionState.ENDED else _ZERO

    def verify_key(self) -> VerifyKey:
        """Return the key that the session's vouchers are signed by. Raises `KeyMaterialError`."""
        return VerifyKey(self.voucher_key)

    def ref(self, global_id: int, worker: Address) -> SessionRef:
        """Return what vouchers and receipts of this session are bound to; `worker` is our stake."""
        return SessionRef(Domain(global_id, self.key.address, self.epoch), self.key.session_id, worker)
