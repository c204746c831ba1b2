"""Putting money into sessions: opening, topping up, and finding out what became of either after a death.

Owns the order of things: limits are checked and a record is committed before the external that it is about
leaves; what was sent and never confirmed is settled by the chain and by the time after which it can take
effect no more. Must not know who uses a session. Amounts are nanoTON.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.client.sessions.errors import SessionRefusedError, SessionUsedUpError
from cocoon_sdk.client.sessions.funds.desk import SessionDesk, log
from cocoon_sdk.client.sessions.funds.onchain import (
    ANY_EXTERNAL_S,
    EscrowSight,
    check_room,
    fits_deposit,
    is_open,
    is_ours,
)
from cocoon_sdk.client.sessions.funds.records import SessionRecord, SessionState
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.abi_errors import ContractError
from cocoon_sdk.types import Nano

_SPREAD: Final = 16
"""Expiries are spread over a sixteenth of the lifetime: sessions do not all end in one minute."""


class SessionFunding:
    """Opens sessions and adds to them. Methods raise `StorageError` and `ChainError` kinds besides."""

    def __init__(self, desk: SessionDesk) -> None:
        self._desk, self._store, self._chain = desk, desk.store, desk.chain

    # -- opening ------------------------------------------------------------------------------------

    async def plan(
        self,
        sight: EscrowSight,
        worker: Address,
        model: str,
        at_least: Nano,
        *,
        deposit: Nano | None = None,
        lifetime_s: int | None = None,
    ) -> SessionRecord:
        """Return what would be opened: `deposit`, or what policy, limits and funds give.

        Raises `InsufficientEscrowError`, `SpendLimitError`, `SessionRefusedError`.
        """
        desk, policy = self._desk, self._desk.policy
        what = f"cannot open a session with {worker.to_str()}"
        room = await self._chain.room_to_open(sight.view, worker)
        least = Nano(max(at_least, policy.increment)) if deposit is None else deposit
        check_room(room, least, what)
        if deposit is None:
            wanted = await self._within_limits(sight, Nano(max(least, policy.deposit)), 0)
            deposit = Nano(max(least, min(wanted, room.most)))
        if deposit != fits_deposit(deposit) or deposit < policy.increment:
            raise ConfigError(what, why=f"{deposit} is no deposit: at least {policy.increment}")
        lifetime = self._chain.lifetime(sight.view, lifetime_s or policy.lifetime_s)
        return SessionRecord(
            uid=secrets.token_hex(16),
            domain=sight.domain,
            session_id=sight.view.next_id,
            worker=worker,
            model=model,
            increment=policy.increment,
            deposit=deposit,
            # Also tells this opening from any other: nobody else has the same expiry.
            expires=sight.now + lifetime - secrets.randbelow(max(1, lifetime // _SPREAD)),
            state=SessionState.OPENING,
            holder=desk.holder,
            lease_until=desk.now() + policy.lease_s,
            opened_at=desk.now(),
            used_at=desk.now(),
            pending_until=sight.now + ANY_EXTERNAL_S,
        )

    async def open(self, record: SessionRecord) -> SessionRecord:
        """Open what was planned; return the record as the chain has it.

        Raises `SpendLimitError`, `SessionRefusedError` (refused, at no cost). After any other error it may
        yet be opened: `recover` tells.
        """
        self._desk.opening.add(record.uid)
        try:
            return await self._open(record)
        finally:
            self._desk.opening.discard(record.uid)

    async def _open(self, record: SessionRecord) -> SessionRecord:
        desk, latest = self._desk, record
        await self._store.create(record, desk.limits, desk.now())

        async def number(view: m.EscrowView) -> SessionRecord:
            nonlocal latest
            until = await self._chain.now() + ANY_EXTERNAL_S
            await self._store.number(record.uid, desk.holder, view.next_id, record.expires, until)
            latest = replace(latest, session_id=view.next_id, pending_until=until)
            return latest

        try:
            async with desk.turn():
                await self._chain.open(number)
        except ContractError as error:
            # Refused before it was accepted: it cost nothing and can never take effect.
            await self._store.forget(record.uid, desk.holder)
            what = f"cannot open a session with {record.worker.to_str()}"
            raise SessionRefusedError(what, why=str(error)) from error
        await self._store.opened(record.uid, desk.holder)
        log.info("session %d opened with %s: %s", latest.session_id, latest.worker.to_str(), latest.deposit)
        return replace(latest, state=SessionState.OPEN, pending_until=0)

    async def recover(self, sight: EscrowSight, record: SessionRecord) -> SessionRecord | None:
        """Find out what became of an opening that nobody saw the end of; the lease must be ours.

        Returns the record when the session is on chain; None when it never will be (then the record is gone)
        or when that is not known yet.
        """
        entry = sight.sessions.get(record.session_id)
        if entry is not None and is_ours(self._desk.context, record, entry):
            await self._store.opened(record.uid, self._desk.holder)
            log.info("session %d had been opened after all", record.session_id)
            return replace(record, state=SessionState.OPEN, pending_until=0)
        if sight.view.next_id > record.session_id or sight.now > record.pending_until:
            # The number went to somebody else, or to us and has ended: nothing was signed for it either way.
            await self._store.forget(record.uid, self._desk.holder)
            log.info("session %d was never opened", record.session_id)
        return None

    # -- topping up ---------------------------------------------------------------------------------

    async def agree(self, sight: EscrowSight, record: SessionRecord) -> SessionRecord:
        """Bring our idea of an open session's deposit to what the chain says; the lease must be ours.

        Raises `SessionUsedUpError` when the chain has the session no more, or it is closing.
        """
        entry = sight.sessions.get(record.session_id)
        if entry is None or not is_open(entry):
            what = f"session {record.session_id} cannot go on"
            raise SessionUsedUpError(what, why="it has ended on chain")
        # Deposits never fall: what shows less is older than what we know.
        deposit = max(Nano(entry.deposit), record.deposit)
        over = deposit >= record.pending_deposit or sight.now > record.pending_until
        if over and (record.pending_deposit or deposit != record.deposit):
            await self._store.deposited(record.uid, self._desk.holder, deposit)
        return replace(
            record,
            deposit=deposit,
            pending_deposit=Nano(0) if over else record.pending_deposit,
            pending_until=0 if over else record.pending_until,
        )

    async def plan_top_up(
        self, sight: EscrowSight, record: SessionRecord, missing: Nano, *, exactly: bool
    ) -> Nano:
        """Return what would be added: `missing` at least, and the policy's deposit unless `exactly`.

        `record` comes from `agree`. Raises `SessionUsedUpError` when this session can hold no more,
        `InsufficientEscrowError`, `SpendLimitError`.
        """
        what, limit = f"cannot add to session {record.session_id}", self._desk.limits.per_session
        if record.pending_deposit:
            why, wait = "an earlier top-up is still under way", max(1, record.pending_until - sight.now)
            raise SessionUsedUpError(what, why=why, retry_after_s=wait)
        if limit is not None and record.deposit + missing > limit:
            raise SessionUsedUpError(what, why=f"a session may hold {limit}")
        if fits_deposit(record.deposit + missing) != record.deposit + missing:
            raise SessionUsedUpError(what, why="its deposit is the largest there can be")
        room = await self._chain.room_to_add(sight.view)
        check_room(room, missing, what)
        if exactly:
            return missing
        wanted = Nano(max(missing, self._desk.policy.deposit))
        wanted = await self._within_limits(sight, wanted, int(record.deposit))
        most = fits_deposit(record.deposit + max(missing, min(wanted, room.most)))
        return most - record.deposit

    async def top_up(self, record: SessionRecord, more: Nano) -> SessionRecord:
        """Add what was planned; return the record as the chain has it.

        Raises `SpendLimitError`, `StaleSessionError`, `SessionUsedUpError` (refused, at no cost). After any
        other error it may yet be added: `agree` tells.
        """
        desk, deposit = self._desk, record.deposit + more

        async def planned() -> None:
            until = await self._chain.now() + ANY_EXTERNAL_S
            await self._store.plan_top_up(record.uid, desk.holder, deposit, until, desk.limits, desk.now())

        try:
            async with desk.turn():
                await self._chain.top_up(record.session_id, more, planned)
        except ContractError as error:
            await self._store.deposited(record.uid, desk.holder, record.deposit)
            raise SessionUsedUpError(f"cannot add to session {record.session_id}", why=str(error)) from error
        await self._store.deposited(record.uid, desk.holder, deposit)
        log.info("session %d topped up by %s", record.session_id, more)
        return replace(record, deposit=deposit, pending_deposit=Nano(0), pending_until=0)

    async def _within_limits(self, sight: EscrowSight, wanted: Nano, present: int) -> Nano:
        """Return how much of `wanted` our limits let us add to a session that has `present`."""
        room = (await self._store.exposure(sight.domain, self._desk.now())).room(self._desk.limits)
        most = wanted if room is None else min(wanted, room)
        if self._desk.limits.per_session is not None:
            most = min(most, self._desk.limits.per_session - present)
        return max(Nano(0), most)
