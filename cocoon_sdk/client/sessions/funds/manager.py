"""`SessionManager`: sessions at hand when they are needed, within limits, safe against everybody's death.

Owns which session serves, adopting what was left behind, leases and giving back. Must not know requests,
links or prices.

Safe means: a record is committed before the external that it is about leaves, so that a process that was
killed finds everything again by reading the chain; a process signs only what it holds, and holding is decided
by the database (`SessionStore.put_voucher`), not by anybody's clock.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from pytoniq_core import Address

from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.sessions.errors import (
    SessionRefusedError,
    SessionUsedUpError,
    StaleSessionError,
)
from cocoon_sdk.client.sessions.funds.desk import SessionDesk, log
from cocoon_sdk.client.sessions.funds.ending import SessionEnding
from cocoon_sdk.client.sessions.funds.funding import SessionFunding
from cocoon_sdk.client.sessions.funds.holders import holder_ended
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.funds.keeper import KeeperReport, SessionKeeper
from cocoon_sdk.client.sessions.funds.onchain import EscrowSight, guard_of, key_of, new_key
from cocoon_sdk.client.sessions.funds.records import (
    LIVE_STATES,
    SessionPolicy,
    SessionRecord,
    SessionState,
    SpendLimits,
)
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.types import Nano


class SessionManager:
    """The sessions of one client. Several managers, on several machines, may share escrow and database.

    `holder` names this manager among them and must be its own. `start` keeps leases alive, closes what is
    idle and settles what is over, until `close`.
    """

    def __init__(
        self,
        context: ClientContext,
        store: SessionStore,
        *,
        policy: SessionPolicy | None = None,
        limits: SpendLimits | None = None,
        holder: str | None = None,
    ) -> None:
        self.desk = SessionDesk(context, store, policy or SessionPolicy(), limits or SpendLimits(), holder)
        self.funding, self.ending = SessionFunding(self.desk), SessionEnding(self.desk)
        self._keeper = SessionKeeper(self.desk, self.funding, self.ending, self._held_by, self.let_go)
        self._held: dict[str, HeldSession] = {}
        self.desk.on_look = self._saw
        self._locks: dict[bytes, asyncio.Lock] = {}
        self._ahead: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, int] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def store(self) -> SessionStore:
        """Where the sessions are kept."""
        return self.desk.store

    @property
    def policy(self) -> SessionPolicy:
        """How sessions are run."""
        return self.desk.policy

    @property
    def held(self) -> tuple[HeldSession, ...]:
        """What this manager holds now."""
        return tuple(self._held.values())

    # -- acquiring and giving back ------------------------------------------------------------------

    async def acquire(self, worker: WorkerOffer, at_least: Nano) -> HeldSession:
        """Return an open session with this worker that has `at_least` nanoTON left which nobody reserved.

        They are reserved until `release` with the same amount. The session is one that we hold already, one
        that a process left behind, topped up where it must be, or a new one.

        Raises `InsufficientEscrowError` (the escrow is empty), `SpendLimitError`, `SessionRefusedError`
        (there can be none with this worker now), `StorageError`, and `ChainError` subclasses.
        """
        found = self._ready(worker.address, at_least)
        if found is None:
            async with self._locks.setdefault(worker.address.hash_part, asyncio.Lock()):
                found = self._ready(worker.address, at_least) or await self._get(worker, at_least)
        found.users += 1
        found.reserved += int(at_least)
        self._see_to_deposit(found)
        return found

    async def release(self, held: HeldSession, reserved: int = 0) -> None:
        """Give back what `acquire` gave; the session stays ours until it has been idle for long."""
        held.users = max(0, held.users - 1)
        held.reserved = max(0, held.reserved - int(reserved))
        held.used_at = self.desk.now()
        self._see_to_deposit(held)

    def remaining(self, worker: Address) -> Nano | None:
        """Return what is left in the session that we hold with a worker, None when we hold none."""
        return max((held.available for held in self._of(worker) if self._is_usable(held)), default=None)

    async def stake_key(self, worker: Address) -> int:
        """Return the operator key that a worker's stake has now. Raises `ChainError`."""
        return await self.desk.chain.stake_key(worker)

    async def retire(self, held: HeldSession, why: str) -> None:
        """Sign nothing more for a session and end it: its worker is not honest, or the session is worn."""
        held.stale = held.stale or why
        try:
            # Until the record says that it ends, no request of ours may take it over once more.
            async with self.desk.working_on(held.uid):
                self.let_go(held.uid, why)
                await held.save()  # what came since the last voucher; nobody does so later
                await self.ending.close(held.record, why)
        except StaleSessionError as error:
            log.info("session %d is left to its new holder: %s", held.ref.session_id, error)

    def _ready(self, worker: Address, at_least: Nano) -> HeldSession | None:
        for held in self._of(worker):
            if self._is_usable(held) and held.available >= at_least:
                return held
        return None

    def _of(self, worker: Address) -> list[HeldSession]:
        return [held for held in self._held.values() if held.ref.worker == worker]

    def _is_usable(self, held: HeldSession) -> bool:
        return not (held.stale or held.worn) and held.expires - self.policy.margin_s > self.desk.chain_now()

    async def _get(self, worker: WorkerOffer, at_least: Nano) -> HeldSession:
        if self._closed:
            what = f"cannot get a session with {worker.address.to_str()}"
            raise SessionRefusedError(what, why="this client is closed")
        sight = await self.desk.look()
        await self._adopt(sight, worker.address)
        found = self._ready(worker.address, at_least)
        if found is not None:
            return found
        for held in self._of(worker.address):
            if self._is_usable(held):
                try:
                    await self.top_up(held, at_least)
                    return held
                except (SessionUsedUpError, StaleSessionError) as error:
                    log.info("session %d cannot go on: %s", held.ref.session_id, error)
        model = worker.model.name or worker.model.model_id.hex()
        planned = await self.funding.plan(sight, worker.address, model, at_least)
        opened = await self.funding.open(planned)
        return self._hold(opened, new_key(self.desk.context, opened))

    # -- adopting -----------------------------------------------------------------------------------

    async def _adopt(self, sight: EscrowSight, worker: Address) -> None:
        """Take over what others left behind with this worker, and what we left when we were killed."""
        for record in await self.store.sessions(sight.domain, LIVE_STATES):
            ours = record.worker == worker and record.uid not in self._held.keys() | self.desk.opening
            if ours and not self.desk.is_taken(record):
                async with self.desk.working_on(record.uid):
                    leased = await self.desk.lease(record)
                    if leased is not None and record.uid not in self._held:
                        await self._take_over(sight, leased)

    async def _take_over(self, sight: EscrowSight, leased: SessionRecord) -> None:
        found: SessionRecord | None = leased
        if leased.state is SessionState.OPENING:
            found = await self.funding.recover(sight, leased)
        if found is None or found.state is not SessionState.OPEN:
            return
        try:
            found = await self.funding.agree(sight, found)
        except SessionUsedUpError:
            return  # the keeper notes what became of it
        key = key_of(self.desk.context, found, sight.sessions[found.session_id])
        if key is None:
            log.error("session %d was opened under another hot key and is of no use", found.session_id)
            return
        held = self._hold(found, key)
        held.used_at = self.desk.now()
        held.guard = guard_of(sight.sessions[found.session_id])
        log.info("session %d taken over", found.session_id)

    def _hold(self, record: SessionRecord, key: SigningKey) -> HeldSession:
        desk = self.desk
        held = HeldSession(
            record, key, desk.store, desk.policy, desk.context.clock, desk.holder, self._see_to_deposit
        )
        self._held[record.uid] = held
        return held

    def _saw(self, sight: EscrowSight) -> None:
        for held in self._held.values():
            # One that is younger than the look keeps what is known of it.
            if (entry := sight.sessions.get(held.ref.session_id)) is not None:
                held.guard = guard_of(entry)

    def _held_by(self, uid: str) -> HeldSession | None:
        return self._held.get(uid)

    def let_go(self, uid: str, why: str) -> None:
        """Hold a session no more; whoever still uses it can sign nothing."""
        held = self._held.pop(uid, None)
        if held is not None:
            held.stale = held.stale or why

    # -- topping up ---------------------------------------------------------------------------------

    async def top_up(self, held: HeldSession, at_least: Nano, *, exactly: bool = False) -> None:
        """Add to a session's deposit until `at_least` nanoTON are left that nobody reserved.

        Adds the policy's deposit where limits and funds allow, or `exactly` what is missing. Returns when the
        chain has it. Raises `SessionUsedUpError` when this session can hold no more, `SpendLimitError`,
        `InsufficientEscrowError`, `StaleSessionError`, `StorageError`, `ChainError` subclasses.
        """
        async with held.topping_up:
            if held.available >= at_least:
                return
            sight = await self.desk.look()
            stored = await self.store.get(held.uid)
            if stored is None or stored.holder != self.desk.holder:
                self.let_go(held.uid, "another process holds it")
                raise StaleSessionError(f"cannot add to session {held.ref.session_id}", why=held.stale)
            try:
                record = await self.funding.agree(sight, stored)
            except SessionUsedUpError:
                held.stale = held.stale or "it has ended on chain"
                raise
            self._deposit_is(held, record)
            missing = at_least - held.available
            if missing > 0:
                more = await self.funding.plan_top_up(sight, record, missing, exactly=exactly)
                self._deposit_is(held, await self.funding.top_up(record, more))

    def _deposit_is(self, held: HeldSession, record: SessionRecord) -> None:
        held.ledger.deposit = record.deposit
        held.record = replace(held.record, deposit=record.deposit)

    def _see_to_deposit(self, held: HeldSession) -> None:
        """Add to the deposit in time, beside what is going on, when it runs low."""
        if held.available >= self.policy.low or not held.users or held.uid in self._ahead:
            return
        if (
            not self._closed
            and self._is_usable(held)
            and self._not_before.get(held.uid, 0) <= self.desk.now()
        ):
            task = asyncio.get_running_loop().create_task(self._top_up_ahead(held))
            self._ahead[held.uid] = task

    async def _top_up_ahead(self, held: HeldSession) -> None:
        try:
            await self.top_up(held, self.policy.low)
        except CocoonError as error:
            log.warning("session %d runs low and gets no more: %s", held.ref.session_id, error)
            # Not again with the very next request: the reason will be the same for a while.
            self._not_before[held.uid] = self.desk.now() + self.policy.lease_s
        finally:
            self._ahead.pop(held.uid, None)

    # -- keeping ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look after the sessions in a task of our own; again and again does no harm."""
        if self._keeping is None and not self._closed:
            self._keeping = asyncio.get_running_loop().create_task(self._keeper.run())

    async def keep(self) -> KeeperReport:
        """Do once what `start` does regularly; what could not be done stands in the report."""
        return await self._keeper.once()

    async def close_idle(self, idle_s: int | None = None) -> KeeperReport:
        """Close the sessions that nobody used for so long (policy's time by default; 0: all not in use)."""
        return await self._keeper.once(idle_s=idle_s)

    async def close(self) -> None:
        """Give all leases back; the sessions stay open, for whoever comes next."""
        self._closed = True
        tasks = [*self._ahead.values(), *([self._keeping] if self._keeping else [])]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        try:
            for held in self.held:
                if not held.stale:
                    await held.save()
            await self.store.release_all(self.desk.holder)
        except CocoonError as error:
            log.warning("sessions are not given back, their leases run out: %s", error)
        for held in self.held:
            self.let_go(held.uid, "this client is closed")
        holder_ended(self.desk.holder)
