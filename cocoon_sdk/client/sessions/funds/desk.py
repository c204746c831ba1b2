"""`SessionDesk`: what everybody who works on a client's sessions shares.

Owns who we are among the processes that share an escrow, whose turn it is to send to it, and the idea of
block time. Must not know what is done with a session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.sessions.funds.holders import has_died, new_holder
from cocoon_sdk.client.sessions.funds.onchain import EscrowSide, EscrowSight
from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SessionRecord, SpendLimits
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.contracts.accounts import WAIT_S
from cocoon_sdk.storage import StorageError

log: Final = logging.getLogger("cocoon.sessions")

TURN_WAIT_S: Final = 30
"""How long one waits for one's turn; after that the contract itself decides who is first."""
_TURN_PAUSE_S: Final = 0.2


class SessionDesk:
    """One process's place: its connections, its keys, its policy and limits, and its name among others."""

    def __init__(
        self,
        context: ClientContext,
        store: SessionStore,
        policy: SessionPolicy,
        limits: SpendLimits,
        holder: str | None = None,
    ) -> None:
        self.context, self.store, self.policy, self.limits = context, store, policy, limits
        self.chain = EscrowSide(context)
        self.holder = holder or new_holder()
        self.opening: set[str] = set()
        """Records whose opening is under way in this process: nobody else needs to find out about them."""
        self.on_look: Callable[[EscrowSight], None] = lambda sight: None
        """Is told what each look shows."""
        self._records: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sending = asyncio.Lock()
        self._chain_lead = 0

    def now(self) -> int:
        """Return this machine's time, by which leases and days count."""
        return self.context.clock.now()

    def chain_now(self) -> int:
        """Return the block time as far as it is known without asking."""
        return self.now() + self._chain_lead

    async def look(self) -> EscrowSight:
        """Read the escrow, and set the idea of block time right."""
        sight = await self.chain.look()
        self._chain_lead = sight.now - self.now()
        self.on_look(sight)
        return sight

    def working_on(self, uid: str) -> asyncio.Lock:
        """Return the lock of a record: in this process one at a time takes it over, or ends it."""
        lock = self._records.get(uid)
        if lock is None:
            lock = self._records[uid] = asyncio.Lock()
        return lock

    def is_taken(self, record: SessionRecord) -> bool:
        """Tell whether another process holds a record, as far as can be told."""
        return record.held_by_another(self.holder, self.now()) and not has_died(record.holder)

    async def lease(self, record: SessionRecord, *, by_force: bool = False) -> SessionRecord | None:
        """Take a record for us; None when another process has it, and it is not taken away `by_force`.

        From then on that process can sign nothing for it.
        """
        now = self.now()
        # Only from whom we saw there: somebody else may have been quicker.
        instead_of = record.holder if by_force or has_died(record.holder) else None
        until = now + self.policy.lease_s
        return await self.store.lease(record.uid, self.holder, now, until, instead_of=instead_of)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have the escrow's sequence number for ourselves, as far as others of this database are concerned.

        Advice, no more: who has died keeps nobody waiting for long, and who comes second is refused by the
        contract at no cost and tries again.
        """
        name = f"turn of {self.chain.address.hash_part.hex()}"
        async with self._sending:
            give_up = self.now() + TURN_WAIT_S
            while not await self._take_turn(name):
                if self.now() >= give_up:
                    log.warning("another process keeps sending to the escrow; going on beside it")
                    break
                await self.context.clock.sleep(_TURN_PAUSE_S)
            try:
                yield
            finally:
                try:
                    await self.store.unlock(name, self.holder)
                except StorageError as error:
                    log.warning("cannot give the turn back, it runs out by itself: %s", error)

    async def _take_turn(self, name: str) -> bool:
        now = self.now()
        if await self.store.lock(name, self.holder, now, now + int(WAIT_S)):
            return True
        other = await self.store.lock_holder(name)
        return has_died(other) and await self.store.lock(
            name, self.holder, now, now + int(WAIT_S), instead_of=other
        )
