"""A client's sessions on the sandbox: a town, a worker that redeems, and managers over databases.

The worker's side of the wire is left out here: what it was given is whatever `HeldSession.sign` returned.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.funds.manager import SessionManager
from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SpendLimits
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.client.sessions.funds.tables import SESSIONS_SCHEMA
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.getters import EscrowGetters
from cocoon_sdk.protocol.vouchers import Voucher
from cocoon_sdk.sandbox import Transaction
from cocoon_sdk.storage import Database, open_database
from cocoon_sdk.types import Nano
from tests.helpers.sdk import MODEL_NAME, ScriptedWorker, Town

POLICY = SessionPolicy(deposit=Nano.ton("0.1"), low=Nano(0))
"""Nothing is topped up ahead: a test says when."""


@dataclass
class SessionTown:
    """A town, one client with an open escrow, one worker, and a database."""

    town: Town
    client: AsyncCocoon
    worker: ScriptedWorker
    place: str
    clock: ManualClock
    databases: list[Database] = field(default_factory=list)
    managers: list[SessionManager] = field(default_factory=list)

    async def store(self) -> SessionStore:
        """Open the database once more, as another process does."""
        database = await open_database(self.place, SESSIONS_SCHEMA)
        self.databases.append(database)
        return SessionStore(database)

    async def manager(
        self,
        *,
        policy: SessionPolicy = POLICY,
        limits: SpendLimits | None = None,
        holder: str | None = None,
        client: AsyncCocoon | None = None,
    ) -> SessionManager:
        """Return a manager with a connection of its own to the database."""
        context = (client or self.client)._context
        made = SessionManager(context, await self.store(), policy=policy, limits=limits, holder=holder)
        self.managers.append(made)
        return made

    async def offer(self, worker: ScriptedWorker | None = None) -> WorkerOffer:
        """Return the worker's offer as the client finds it."""
        found = (await self.client.workers.list(MODEL_NAME)).find((worker or self.worker).address)
        assert found is not None
        return found

    def pass_time(self, seconds: int) -> None:
        """Move the chain and the client's machine."""
        self.town.chain.warp(seconds)
        self.clock.advance(seconds)

    def on_chain(self, session_id: int) -> m.Session | None:
        """Return the escrow's entry."""
        found: m.Session | None = self.town.suite.get(
            self.client.escrow.address, EscrowGetters.session(session_id)
        )
        return found

    def ids_on_chain(self) -> list[int]:
        """Return the numbers of all sessions."""
        view = self.town.suite.get(self.client.escrow.address, EscrowGetters.state())
        return [number for number in range(1, view.next_id) if self.on_chain(number) is not None]

    def redeem(
        self,
        held: HeldSession,
        voucher: Voucher,
        *,
        worker: ScriptedWorker | None = None,
        close: bool = False,
    ) -> list[Transaction]:
        """Let the worker take out what a voucher states."""
        action = signing.redeem(
            held.ref.session_id, self.client.escrow.address, voucher.amount, voucher.signature, close=close
        )
        account = (worker or self.worker).account
        return account.act(action, max_spend=Nano.ton("0.1"))

    async def close(self) -> None:
        for manager in self.managers:
            await manager.close()
        for database in self.databases:
            await database.close()
        await self.town.close()


@asynccontextmanager
async def session_town(
    town: Town, place: str, *, deposit: Nano | None = None, **options: Any
) -> AsyncIterator[SessionTown]:
    """Make a town with one client and one worker; everything is closed at the end."""
    clock = ManualClock(town.chain.now)
    worker = town.worker()
    client = await town.client(deposit=deposit, clock=clock, **options)
    made = SessionTown(town, client, worker, place, clock)
    try:
        yield made
    finally:
        await made.close()
