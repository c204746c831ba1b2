"""`SessionDesk`: what everybody who works on a client's sessions shares.

Owns who we are among the processes that share an escrow, whose turn it is to send to it, and the idea of
block time. Must not know what is done with a session.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.sessions.onchain import EscrowSide, EscrowSight
from cocoon_sdk.client.sessions.records import SessionPolicy, SessionRecord, SpendLimits
from cocoon_sdk.client.sessions.store import SessionStore
from cocoon_sdk.contracts.accounts import WAIT_S
from cocoon_sdk.storage import StorageError

log: Final = logging.getLogger("cocoon.sessions")

TURN_WAIT_S: Final = 30
"""How long one waits for one's turn; after that the contract itself decides who is first."""
_TURN_PAUSE_S: Final = 0.2
_ANY_TIME: Final = 1 << 60


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
        self.holder = holder or f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(8)}"
        self.opening: set[str] = set()
        """Records whose opening is under way in this process: nobody else needs to find out about them."""
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
        return sight

    async def lease(self, record: SessionRecord, *, by_force: bool = False) -> SessionRecord | None:
        """Take a record for us; None when another process has it, and it is not taken away `by_force`.

        From then on that process can sign nothing for it.
        """
        now = self.now()
        overdue = _ANY_TIME if by_force else now
        return await self.store.lease(record.uid, self.holder, overdue, now + self.policy.lease_s)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have the escrow's sequence number for ourselves, as far as others of this database are concerned.

        Advice, no more: who has died keeps nobody waiting for long, and who comes second is refused by the
        contract at no cost and tries again.
        """
        name = f"turn of {self.chain.address.hash_part.hex()}"
        async with self._sending:
            give_up = self.now() + TURN_WAIT_S
            while not await self.store.lock(name, self.holder, self.now(), self.now() + int(WAIT_S)):
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
