"""Faults for workers: processes that die at chosen points, endpoints that fail or lag, engines that break.

Owns the wrappers. A `Crash` is no `Exception`: no handler of the program sees it, as none sees SIGKILL.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import AccountState, Chain, ChainHead, Link, StackValue, TransactionRecord
from cocoon_sdk.errors import ChainUnavailableError
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_worker.engine.base import EngineHealth, EngineRequest, EngineResult
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.journal import Journal
from cocoon_worker.service import WorkerService

T = TypeVar("T")


class Crash(BaseException):
    """The process is dead."""


@dataclass
class CrashPlan:
    """Counts the points at which a process can die, and kills it at one of them (from 0)."""

    at: int
    passed: int = 0
    dead: bool = False

    def point(self) -> None:
        """Pass a point, or die there; a dead process does nothing any more."""
        if self.dead or self.passed == self.at:
            self.dead = True
            raise Crash
        self.passed += 1


class CrashingChain:
    """A chain that kills the process right before or right after an external was sent."""

    def __init__(self, inner: Chain, plan: CrashPlan) -> None:
        self._inner, self._plan = inner, plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send(self, message: Cell) -> bytes:
        self._plan.point()
        found = await self._inner.send(message)
        self._plan.point()
        return found


def kill_around_commits(service: WorkerService, plan: CrashPlan) -> None:
    """Let the process die right before or right after any durable step of its journal."""
    journal = service.journal
    plain: Callable[[], AbstractContextManager[None]] = journal.transaction

    @contextmanager
    def transaction() -> Iterator[None]:
        if journal.database._depth:
            with plain():
                yield
            return
        with plain():
            yield
            plan.point()  # everything was written, nothing is committed
        plan.point()

    journal.transaction = transaction  # type: ignore[method-assign]
    assert isinstance(journal, Journal)


async def dies(service: WorkerService, plan: CrashPlan, rounds: int = 60) -> bool:
    """Let a worker run until nothing happens any more; tell whether it died on the way."""
    try:
        for _ in range(rounds):
            before = service._fingerprint()
            await service.step()
            if service._tasks:
                await asyncio.wait(service._tasks.values())
                await asyncio.sleep(0)
            elif service._fingerprint() == before:
                break
            if plan.dead:
                return True
    except Crash:
        return True
    return plan.dead


@dataclass
class FlakyChain:
    """A chain whose every call may fail, before or after it had its effect; seeded, so runs are alike."""

    inner: Chain
    seed: int
    rate: float = 0.3
    calls: int = 0
    failed: int = 0
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def _maybe_fail(self) -> None:
        if self.random.random() < self.rate:
            self.failed += 1
            raise ChainUnavailableError("the endpoint does not answer")

    async def _call(self, call: Awaitable[T]) -> T:
        self.calls += 1
        try:
            self._maybe_fail()
        except ChainUnavailableError:
            asyncio.ensure_future(call).cancel()  # it never happened
            raise
        result = await call
        self._maybe_fail()
        return result

    async def global_id(self) -> int:
        return await self.inner.global_id()

    async def head(self) -> ChainHead:
        return await self._call(self.inner.head())

    async def wait_head(self, after_seqno: int, timeout_s: float) -> ChainHead:
        return await self._call(self.inner.wait_head(after_seqno, timeout_s))

    async def account(self, address: Address) -> AccountState:
        return await self._call(self.inner.account(address))

    async def run_getter(
        self, address: Address, method: str | int, stack: Sequence[StackValue] = ()
    ) -> list[StackValue]:
        return await self._call(self.inner.run_getter(address, method, stack))

    async def send(self, message: Cell) -> bytes:
        return await self._call(self.inner.send(message))

    async def transactions(
        self,
        address: Address,
        *,
        limit: int = 16,
        before_lt: int | None = None,
        after_lt: int = 0,
        start: Link | None = None,
    ) -> list[TransactionRecord]:
        return await self._call(
            self.inner.transactions(address, limit=limit, before_lt=before_lt, after_lt=after_lt, start=start)
        )

    async def config_param(self, index: int) -> Cell | None:
        return await self._call(self.inner.config_param(index))

    async def close(self) -> None:
        await self.inner.close()


class LaggingChain(SandboxChain):
    """An endpoint that can be frozen: it answers from a past state, but passes messages on."""

    def __init__(self, blockchain: Blockchain) -> None:
        super().__init__(blockchain)
        self._real = blockchain

    def freeze(self) -> None:
        """Answer from now on as of now."""
        past = Blockchain(now=self._real.now, config=self._real.config)
        past.restore(self._real.snapshot())
        self.blockchain = past

    def thaw(self) -> None:
        """Answer from the newest state again."""
        self.blockchain = self._real

    async def send(self, message: Cell) -> bytes:
        return self._real.send_external(message)[0].in_msg.hash


class BreakingEngine(EchoEngine):
    """An echo that fails with each of the given errors in turn before it answers."""

    def __init__(self, *errors: Exception, **options: Any) -> None:
        super().__init__(**options)
        self.errors = list(errors)
        self.runs = 0
        self.hang: asyncio.Event | None = None
        self.ready = True

    async def health(self) -> EngineHealth:
        health = await super().health()
        return EngineHealth(ready=self.ready and health.ready, state=health.state)

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        self.runs += 1
        if self.hang is not None:
            await self.hang.wait()
        if self.errors:
            raise self.errors.pop(0)
        return await super().run(request, deadline_s=deadline_s)
