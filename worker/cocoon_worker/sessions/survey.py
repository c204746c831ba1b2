"""Facts about one session on chain: is its escrow genuine, is it ours, is it open, what does it hold.

Owns reading and the named refusals. Must not decide about money, nor know the book. Every answer is a fact at
the endpoint's newest block; `look` may give one that is a few seconds old.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.clock import Clock
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import AccountNotFoundError, GetterError, KeyMaterialError, MalformedError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_states import SessionStatus, close_delay_of, settles_at
from cocoon_sdk.protocol.signing import Domain, account_id
from cocoon_sdk.protocol.vouchers import SessionRef
from cocoon_sdk.types import Nano
from cocoon_worker.sessions.errors import (
    ForeignSessionError,
    ForgedEscrowError,
    SessionClosingError,
    SessionExpiringError,
    SessionRefusedError,
    UnknownSessionError,
    WeakVoucherKeyError,
)
from cocoon_worker.sessions.records import SessionEntry, SessionKey, SessionState
from cocoon_worker.survey import KnownEscrow, Survey

MAX_AGE_S: Final = 5
"""How old, in seconds, an answer of `look` may be."""
REFUSAL_AGE_S: Final = 1
"""The same for a refusal: a client that has just opened its session comes again at once."""
STAKE_AGE_S: Final = 60
"""How long the codes that our stake's owner deals with are believed."""
_MAX_KEPT: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """A session of ours at a genuine escrow. Amounts in nanoTON, times in unix seconds."""

    key: SessionKey
    ref: SessionRef
    """What its vouchers, receipts and the client's proof are bound to."""
    escrow: KnownEscrow
    state: SessionState
    voucher_key: VerifyKey
    deposit: Nano
    expires: int
    """The expiry; for a closing session the time from which it can be settled, at most."""
    settle_at: int
    """From then on the client can take back what was not redeemed."""
    close_delay: int
    fee_bps: int
    redeemed: Nano
    collateral: Nano
    lock: int
    params: Cell = field(repr=False)

    def new_entry(self, now: int) -> SessionEntry:
        """Return the book's entry of a session that was not known before."""
        return SessionEntry(
            key=self.key,
            state=self.state,
            escrow_owner=self.escrow.owner,
            escrow_index=self.escrow.index,
            escrow_previous_code=self.escrow.previous_code,
            takes_parts=self.escrow.takes_parts,
            epoch=self.escrow.epoch,
            voucher_key=self.voucher_key.raw,
            deposit=self.deposit,
            expires=self.expires,
            settle_at=self.settle_at,
            close_delay=self.close_delay,
            fee_bps=self.fee_bps,
            redeemed=self.redeemed,
            collateral=self.collateral,
            lock=self.lock,
            redeemed_at=now,
            looked_at=now,
            created_at=now,
            updated_at=now,
        )


class SessionSurvey:
    """Reads sessions of one stake. Every method raises `ChainError` when the endpoint fails."""

    def __init__(self, chain: Chain, survey: Survey, global_id: int, clock: Clock) -> None:
        self._chain, self._survey, self._global_id, self._clock = chain, survey, global_id, clock
        self._known: OrderedDict[SessionKey, tuple[int, SessionFacts | SessionRefusedError]] = OrderedDict()
        self._stake: tuple[int, m.StakeView] | None = None

    async def look(
        self, escrow: Address | int, session_id: int, *, max_age_s: int = MAX_AGE_S
    ) -> SessionFacts:
        """Return what is on chain about a session of ours, open or closing; at most `max_age_s` old.

        Raises `ForgedEscrowError`, `UnknownSessionError`, `ForeignSessionError` or `WeakVoucherKeyError`.
        """
        account = escrow if isinstance(escrow, int) else account_id(escrow)
        key = SessionKey(account, session_id)
        now = self._clock.now()
        kept = self._known.get(key)
        if kept is not None:
            at, answer = kept
            age = min(max_age_s, REFUSAL_AGE_S) if isinstance(answer, SessionRefusedError) else max_age_s
            if 0 <= now - at < age:
                if isinstance(answer, SessionRefusedError):
                    raise answer
                return answer
        try:
            found = await self._read(key)
        except SessionRefusedError as refusal:
            self._keep(key, now, refusal)
            raise
        self._keep(key, now, found)
        return found

    def forget(self, key: SessionKey) -> None:
        """Read a session anew the next time: something happened to it."""
        self._known.pop(key, None)

    async def entry(self, key: SessionKey) -> m.Session | None:
        """Return a genuine escrow's entry as it is now; None when it has none."""
        return await Escrow.at(self._chain, key.address).session(key.session_id)

    def _keep(self, key: SessionKey, now: int, answer: SessionFacts | SessionRefusedError) -> None:
        self._known[key] = (now, answer)
        self._known.move_to_end(key)
        while len(self._known) > _MAX_KEPT:
            self._known.popitem(last=False)

    async def _read(self, key: SessionKey) -> SessionFacts:
        escrow = await self._survey.escrow(key.escrow, await self._own_stake())
        if escrow is None:
            raise ForgedEscrowError(
                "the session is not served",
                why="its account is no genuine escrow of this network",
                hint="Open it from an escrow whose code the worker's owner deals with",
            )
        try:
            view = await self.entry(key)
        except (AccountNotFoundError, GetterError, MalformedError) as error:
            raise ForgedEscrowError("the session is not served", why=str(error)) from None
        if view is None:
            raise UnknownSessionError(
                "the session is not served",
                why="its escrow has no such session",
                hint="If it was opened just now, try again after the next block",
            )
        if view.worker != self._survey.account:
            raise ForeignSessionError("the session is not served", why="it is another worker's")
        return self._facts(key, escrow, view)

    def _facts(self, key: SessionKey, escrow: KnownEscrow, view: m.Session) -> SessionFacts:
        try:
            voucher_key = VerifyKey.from_int(view.voucher_key)
        except KeyMaterialError as error:
            raise WeakVoucherKeyError("the session is not served", why=str(error)) from None
        state = state_of(view)
        domain = Domain(self._global_id, key.address, escrow.epoch)
        return SessionFacts(
            key=key,
            ref=SessionRef(domain, key.session_id, self._survey.stake.address),
            escrow=escrow,
            state=state,
            voucher_key=voucher_key,
            deposit=Nano(view.deposit),
            expires=view.deadline,
            settle_at=settles_at(view),
            close_delay=close_delay_of(view),
            fee_bps=view.fee_bps,
            redeemed=Nano(view.redeemed),
            collateral=Nano(view.collateral),
            lock=view.lock,
            params=view.params,
        )

    async def _own_stake(self) -> m.StakeView:
        now = self._clock.now()
        if self._stake is None or not 0 <= now - self._stake[0] < STAKE_AGE_S:
            self._stake = (now, await self._survey.stake.state())
        return self._stake[1]


def state_of(view: m.Session) -> SessionState:
    """Return where an entry stands; disputed is closing: nothing new is served, all can be redeemed."""
    return SessionState.OPEN if view.status == SessionStatus.OPEN else SessionState.CLOSING


def check_serveable(facts: SessionFacts, now: int, least_left_s: int) -> None:
    """Refuse a session that nothing new may be served in; `now` is the latest time that it may be.

    Raises `SessionClosingError` or `SessionExpiringError`.
    """
    if facts.state is not SessionState.OPEN:
        raise SessionClosingError(
            "the session is not served", why="its client closes it", hint="Open another session"
        )
    if now + least_left_s >= facts.expires:
        raise SessionExpiringError(
            "the session is not served",
            why=f"it expires in {max(0, facts.expires - now)} s, at least {least_left_s} s are needed",
            hint="Open another session",
        )
