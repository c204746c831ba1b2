"""What happens to gateways that share an escrow: frozen and killed ones, cut connections, and every voucher.

Owns the troubles and the bookkeeping about them. Must not know what a scenario expects of either.
"""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from cocoon_sdk.client.sessions.answers.selection import SelectionPolicy
from cocoon_sdk.client.sessions.errors import StaleSessionError, WorkerLostError
from cocoon_sdk.client.sessions.funds.records import SessionRecord, SessionState
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.protocol.vouchers import Voucher
from cocoon_worker.config import EndpointConfig
from cocoon_worker.engine.base import Engine
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.service import WorkerService
from cocoon_worker.sessions.records import SessionEntry
from tests.helpers.gateway_rig import PRICES, GatewayTown, RunningGateway
from tests.helpers.session_rig import settings

_POLL_S = 1.0
"""Who waits for less asks something again and again; more is waiting for time to pass."""


class StandingClock(ManualClock):
    """A clock that nobody moves by waiting: what sleeps is woken when a test lets time pass."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self._moved = asyncio.Event()

    def advance(self, seconds: float) -> None:
        """Let time pass for whoever has this clock."""
        super().advance(seconds)
        self._moved.set()
        self._moved = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait until the time has come; a short wait gives others their turn and no more."""
        until = self._now + seconds
        if seconds < _POLL_S:
            await asyncio.sleep(0)
            return
        while self._now < until:
            await self._moved.wait()


# -- workers and gateways ------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def worker(
    town: GatewayTown,
    name: str,
    *,
    engine: Engine | None = None,
    public_port: int | None = None,
    **offer: Any,
) -> WorkerService:
    """Return a running worker whose every nanoTON is worth a redemption, reached over `public_port`."""
    rig, port = town.rig, free_port()
    sessions = settings(least_redeem="0.000000001")
    config = rig.config(name, endpoint=True, offer={**PRICES, **offer}, sessions=sessions)
    url = f"http://127.0.0.1:{public_port or port}"
    endpoint = EndpointConfig(host="127.0.0.1", port=port, public_url=url)
    service = WorkerService(
        config.model_copy(update={"endpoint": endpoint}),
        rig.chain,
        engine or EchoEngine(clock=rig.clock),
        rig.clock,
        operator=rig.account(name).key,
    )
    await town.stack.enter_async_context(service)
    await service.settle()
    return service


def never_cools(gateway: RunningGateway) -> None:
    """Let a gateway ask a worker again at once that has just failed: no test waits for real time."""
    gateway.cocoon.inference._house.selection.policy = SelectionPolicy(cool_s=0.0, cool_most_s=0.0)


class _Gone:
    """Connections of a process that is not there any more."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionResetError("this process was killed")


def kill(town: GatewayTown, gateway: RunningGateway) -> None:
    """End a gateway as SIGKILL would: from now on it writes nothing and says nothing to any worker.

    What is left of it in this process is cleaned up at the end of the test, when its database is back.
    """
    pool = gateway.cocoon.inference._house.pool

    async def connect(_: str) -> Any:
        raise WorkerLostError("this process was killed")

    pool._dialer.connect = connect  # type: ignore[method-assign, assignment]
    town.stack.callback(setattr, gateway.database, "_pool", gateway.database._pool)  # type: ignore[attr-defined]
    gateway.database._pool = _Gone()  # type: ignore[attr-defined]
    for place in pool._places.values():
        connection = place.link and place.link._socket._response.connection
        if connection and connection.transport:
            connection.transport.abort()


# -- what was signed and booked ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signed:
    """One voucher that was committed to the database."""

    uid: str
    holder: str
    before: int
    voucher: Voucher


@dataclass
class VoucherLog:
    """Every voucher of all gateways in this process that was committed, or may have been."""

    committed: list[Signed] = field(default_factory=list)
    unsure: list[Signed] = field(default_factory=list)
    """Who asked for the commit was cut off before hearing of it."""
    refused: list[Signed] = field(default_factory=list)

    @classmethod
    def watch(cls, monkeypatch: pytest.MonkeyPatch) -> Self:
        log, put = cls(), SessionStore.put_voucher

        async def put_voucher(store: SessionStore, uid: str, holder: str, **rest: Any) -> None:
            signed = Signed(uid, holder, rest["before"], rest["voucher"])
            try:
                await put(store, uid, holder, **rest)
            except StaleSessionError:
                log.refused.append(signed)
                raise
            except BaseException:
                log.unsure.append(signed)
                raise
            log.committed.append(signed)

        monkeypatch.setattr(SessionStore, "put_voucher", put_voucher)
        return log

    def of(self, uid: str) -> list[Signed]:
        return [each for each in self.committed if each.uid == uid]

    def assert_one_chain(self) -> None:
        """Each voucher follows the one before it, whoever signed that: no amount was ever signed twice."""
        for uid in {each.uid for each in self.committed}:
            after = {each.before: each for each in self.unsure if each.uid == uid}
            chain = self.of(uid)
            after |= {each.before: each for each in chain}
            signed, passed = 0, []
            while (following := after.get(signed)) is not None:
                passed.append(following)
                signed = int(following.voucher.amount)
            assert [each for each in passed if each in chain] == sorted(
                chain, key=lambda each: each.before
            ), uid


async def records(gateway: RunningGateway) -> list[SessionRecord]:
    """Return all sessions that the database knows."""
    domain = await gateway.cocoon._context.escrow.domain()
    return await SessionStore(gateway.database).sessions(domain, tuple(SessionState))


def entries(*workers: WorkerService) -> dict[int, SessionEntry]:
    """Return what workers have in their books, by session."""
    found = [entry for each in workers for entry in each.context.sessions.book.open_entries()]
    return {entry.key.session_id: entry for entry in found}


# -- the line between ---------------------------------------------------------------------------------------


class Cutter:
    """A line to a worker that is cut after a random number of bytes, `cuts` times; then it holds."""

    def __init__(self, seed: int, cuts: int, *, most_bytes: int) -> None:
        self._random, self.left, self._most = random.Random(seed), cuts, most_bytes
        self.port = 0
        self.target = 0
        self.cut = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._carry(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, onward_writer = await asyncio.open_connection("127.0.0.1", self.target)
        doomed = self.left > 0
        self.left -= doomed
        budget = [self._random.randrange(1, self._most) if doomed else 1 << 62]
        ways = [
            asyncio.create_task(self._pump(reader, onward_writer, budget)),
            asyncio.create_task(self._pump(onward, writer, budget)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.cut += budget[0] <= 0
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for side in (writer, onward_writer):
                side.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: list[int]
    ) -> None:
        with suppress(OSError):
            while budget[0] > 0 and (data := await reader.read(1 << 16)):
                writer.write(data[: budget[0]])
                budget[0] -= len(data)
                await writer.drain()
