"""`Sealer`: what happened on a blockchain becomes a block that is kept, and then everybody is answered.

Owns the order in which things become true: executed, sealed, kept, answered, told to listeners. Owns what
waits for a block and what becomes of it when a block cannot be made. Must not know when to seal: that is the
node's decision.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import ChainUnavailableError, CocoonError
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.blocks import BlockProducer, MasterBlock, SealError
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.errors import EmulationError, MessageLimitError, SandboxError
from cocoon_sdk.sandbox.node_work import Job, Waiting
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.sandbox.vault import Vault

MAX_JOBS_PER_BLOCK = 512
MAX_NOW = (1 << 32) - 1
"""The last second that a block's 32-bit time can tell."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class ChainTime:
    """A blockchain's time: that of a clock, `offset` seconds ahead of it, or standing still without one."""

    def __init__(self, blockchain: Blockchain, clock: Clock | None, offset: int) -> None:
        self._blockchain, self.clock, self.offset = blockchain, clock, offset

    @property
    def now(self) -> int:
        """Unix time in seconds that the next transaction would see; never before the newest block's."""
        if self.clock is None:
            return self._blockchain.now
        return max(self._blockchain.now, self.clock.now() + self.offset)

    def follow(self) -> None:
        """Let the blockchain's time be now."""
        if self.now > self._blockchain.now:
            self._blockchain.set_now(min(self.now, MAX_NOW))

    def warp(self, seconds: int) -> None:
        """Let `seconds` pass, for good."""
        now = self.now + seconds
        if self.clock is not None:
            self.offset = now - self.clock.now()
        self._blockchain.set_now(now)


class Sealer:
    """Seals what a producer's blockchain does. With `instant`, whatever happens is sealed in the next turn of
    the event loop, together with all that came in this one."""

    def __init__(
        self, producer: BlockProducer, vault: Vault, time: ChainTime, *, max_waiting: int, instant: bool
    ) -> None:
        self.producer, self.vault, self.time, self.instant = producer, vault, time, instant
        self.waiting = Waiting(max_waiting)
        self.failure: CocoonError | None = None
        self.running = False
        self._busy = False
        self._unsealed: list[Transaction] = []
        self._time_passed = False
        self._last_sealed = self._newest()
        self._flushing: asyncio.Handle | None = None
        self._waiters: dict[asyncio.Future[None], int] = {}
        self._listeners: list[Callable[[MasterBlock], None]] = []
        self._unsubscribe = self._blockchain.subscribe(self._on_batch)

    @property
    def _blockchain(self) -> Blockchain:
        return self.producer.blockchain

    @property
    def head(self) -> MasterBlock:
        """The newest masterchain block."""
        return self.producer.archive.head

    def check(self) -> None:
        """Raise what keeps the chain from going on."""
        if not self.running:
            raise closed()
        if self.failure is not None:
            raise self.failure

    def start(self) -> None:
        """Begin to seal."""
        self.running = True
        self._schedule()

    def stop(self) -> None:
        """Seal what was done, and tell everybody who waits that it is over."""
        if self.running and self.failure is None and self._something:
            self.flush(take=False)
        self.running = False
        if self._flushing is not None:
            self._flushing.cancel()
        self._unsubscribe()
        self.waiting.drop(closed())
        self._wake()

    # -- doing --------------------------------------------------------------------------------------------

    async def submit(self, action: Callable[[Blockchain], _T], what: str) -> _T:
        """Do something on the blockchain; return its result when its block is sealed and kept."""
        answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self.waiting.add(Job(action, what, answer=answer))
        self._schedule()
        return await answer

    def deliver(self, message: NativeCell) -> None:
        """Execute an external message and what follows from it. Raises `ExternalRejectedError`."""
        before = len(self._unsealed)
        try:
            self._blockchain.send_external(message)
        except (MessageLimitError, EmulationError) as error:
            if len(self._unsealed) == before:
                raise
            # Accepted: only what follows from it did not end. `_drain` goes on with that.
            _log.warning("what follows from an external message goes on in the next block: %s", error)

    def settle(self) -> None:
        """Seal what was done or may be done at once; without `instant`, messages go on waiting."""
        while self._something or (self.instant and self.waiting):
            self.flush(take=self.instant)
            self.check()

    def flush(self, *, force: bool = False, take: bool = True) -> None:
        """Do what waits (with `take`), seal it as one block, keep that, and answer.

        Without anything to seal there is no block, unless `force` asks for one.
        """
        if self._flushing is not None:
            self._flushing.cancel()  # this is it
            self._flushing = None
        jobs = self.waiting.take(MAX_JOBS_PER_BLOCK) if take else []
        if self.failure is None:
            self._busy = True
            try:
                if jobs or force:
                    self.time.follow()
                self._drain()
                for job in jobs:
                    job.perform(self._blockchain)
                self._forget_undone()
                if self._something or force:
                    self._seal()
            except Exception as error:
                self.fail(error)
            finally:
                self._busy = False
        for job in jobs:
            job.settle(self.failure)
        if self.waiting or self._left_over:
            self._schedule()

    def rewind(self, work: Callable[[], _T]) -> _T:
        """Let `work` bring blockchain and blocks back; what waits, and waiters, are told."""
        self.settle()
        self.waiting.drop()
        result = self.guarded(work)
        self._unsealed, self._time_passed, self._last_sealed = [], False, self._newest()
        self._wake()  # clients that follow the chain would wait for a block far ahead now
        return result

    # -- being told ---------------------------------------------------------------------------------------

    async def wait_seqno(self, seqno: int, timeout_s: float) -> None:
        """Wait until the masterchain has a block, or the chain went back, at most so many real seconds."""
        if self.head.seqno >= seqno:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = seqno
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            del self._waiters[waiter]

    def subscribe(self, listener: Callable[[MasterBlock], None]) -> Callable[[], None]:
        """Call `listener` after every new masterchain block; returns what ends the subscription."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def _wake(self, seqno: int | None = None) -> None:
        """Wake those who wait for a block up to `seqno`; all of them without one."""
        for waiter, wanted in self._waiters.items():
            if (seqno is None or wanted <= seqno) and not waiter.done():
                waiter.set_result(None)

    # -- inside -------------------------------------------------------------------------------------------

    @property
    def _something(self) -> bool:
        return bool(self._unsealed) or self._time_passed

    @property
    def _left_over(self) -> bool:
        return not self._blockchain.held and bool(self._blockchain.pending)

    def _on_batch(self, transactions: Sequence[Transaction]) -> None:
        """Take note of what happened on the blockchain, whoever caused it."""
        self._unsealed.extend(transactions)
        self._time_passed = self._time_passed or not transactions
        if not self._busy:
            self._schedule()

    def _schedule(self) -> None:
        if self.running and self.instant and self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self.flush)

    def _drain(self) -> None:
        """Deliver messages that an earlier block left, unless they are held for somebody to step through."""
        while self._left_over:
            try:
                self._blockchain.run()
            except MessageLimitError:
                return  # the next block goes on
            except EmulationError as error:
                _log.error("%r was thrown away: %s", self._blockchain.discard(), error)

    def _forget_undone(self) -> None:
        """Forget transactions that did not stay: somebody tried something out with `Blockchain.isolated`.

        Raises `SealError` when what was sealed did not stay either.
        """
        newest = self._blockchain.transactions(limit=len(self._unsealed) + 1)
        stayed = {id(transaction) for transaction in newest}
        self._unsealed = [each for each in self._unsealed if id(each) in stayed]
        if next(iter(newest[len(self._unsealed) :]), None) is not self._last_sealed:
            raise SealError(
                "the chain cannot go on",
                why="the blockchain was brought back without its blocks",
                hint="use Node.snapshot and Node.restore instead of the blockchain's",
            )

    def _newest(self) -> Transaction | None:
        return next(iter(self._blockchain.transactions(limit=1)), None)

    def _seal(self) -> None:
        done, self._unsealed, self._time_passed = self._unsealed, [], False
        block = self.producer.seal(done)
        self._last_sealed = done[-1] if done else self._last_sealed
        self.vault.append(block, self.producer, self.time.offset)
        self._wake(block.seqno)
        for listener in tuple(self._listeners):
            try:
                listener(block)
            except Exception:
                _log.exception("a listener of the sandbox failed")

    # -- failing ------------------------------------------------------------------------------------------

    def guarded(self, work: Callable[[], _T]) -> _T:
        """Do something after whose failure memory and disk may differ: the chain takes nothing more then."""
        try:
            return work()
        except Exception as error:
            raise self.fail(error) from error

    def fail(self, error: Exception) -> CocoonError:
        """Take nothing more; return the error that everybody gets from now on."""
        _log.critical("the sandbox takes nothing more: %s", error, exc_info=error)
        self.failure = (
            error
            if isinstance(error, CocoonError)
            else SandboxError("the sandbox takes nothing more", why=f"a block could not be made: {error!r}")
        )
        self.waiting.drop(self.failure)
        return self.failure


def closed() -> CocoonError:
    """Return the error of a chain that does not run."""
    return ChainUnavailableError("the sandbox cannot be used", why="it is not running")
