"""`Node`: a blockchain with blocks, as servers need it: when to seal, whose time, who waits.

Owns the sealing policy (instantly, or at a block time), the chain's clock and named snapshots; the sealing
itself is `node_sealing`'s. Must not know how blocks are built, how they are kept on disk, or who serves them.

Everything happens on one event loop. Between two turns of the loop the blockchain and the archive agree, so
that whoever looks at both sees one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

from pytoniq_core import Address

from cocoon_sdk.chain.base import StackValue
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.sandbox.accounts import ShardAccount
from cocoon_sdk.sandbox.blockchain import DEFAULT_NOW, Blockchain
from cocoon_sdk.sandbox.blocks import Block, BlockArchive, BlockProducer, MasterBlock
from cocoon_sdk.sandbox.cells import NativeCell, native_hash
from cocoon_sdk.sandbox.messages import admit_external
from cocoon_sdk.sandbox.node_getters import GetterRun, account_at, run_getter
from cocoon_sdk.sandbox.node_sealing import MAX_NOW, ChainTime, Sealer
from cocoon_sdk.sandbox.node_work import Job
from cocoon_sdk.sandbox.tvm import GETTER_GAS_LIMIT
from cocoon_sdk.sandbox.vault import BASE, MemoryVault, Vault, check_name, unknown_snapshot

DEFAULT_IDLE_S = 1.0
MAX_IDLE_S = 20.0
"""How old the newest block gets at most where nobody does anything: clients act on blocks of the last minute,
and whoever leaves a sandbox running over night does not want tens of thousands of empty ones."""
_PATIENCE = 30
MAX_WAITING = 4096
"""Messages that may wait for the next block."""
MAX_MINED = 10_000
MIN_BLOCK_TIME_S, MAX_BLOCK_TIME_S = 0.05, 3600.0

_T = TypeVar("_T")


class Node:
    """A chain that seals blocks. Use it with `async with`; leaving ends its clock and closes its vault.

    `clock` makes the chain's time follow it, with an empty block every `idle_s` seconds, and more rarely
    after a while without transactions; without a clock, time stands still until `warp`. `block_time_s` makes
    a block every so many seconds, with what was sent in between; without it whatever is sent is sealed at
    once, and sends that arrive together share a block. `vault` keeps the chain across restarts: when it holds
    one already, that is continued, and `blockchain` must not be given.
    """

    def __init__(
        self,
        blockchain: Blockchain | None = None,
        *,
        clock: Clock | None = None,
        block_time_s: float | None = None,
        idle_s: float = DEFAULT_IDLE_S,
        max_waiting: int = MAX_WAITING,
        vault: Vault | None = None,
    ) -> None:
        if idle_s <= 0:
            raise ConfigError("the time between empty blocks must be above 0")
        _check_block_time(block_time_s)
        self.clock, self.block_time_s, self.idle_s = clock, block_time_s, idle_s
        self._vault: Vault = vault or MemoryVault()
        producer, offset = self._open(blockchain)
        self.blockchain = producer.blockchain
        self._time = ChainTime(self.blockchain, clock, offset)
        instant = block_time_s is None
        self._sealer = Sealer(producer, self._vault, self._time, max_waiting=max_waiting, instant=instant)
        self._sealer.subscribe(self._on_block)
        self._ticker: asyncio.Task[None] | None = None
        self._active_at = 0 if clock is None else clock.now()

    def _open(self, given: Blockchain | None) -> tuple[BlockProducer, int]:
        kept = self._vault.load()
        if kept is not None:
            if given is not None:
                raise ConfigError(
                    "a new chain cannot start here",
                    why="one is kept here already",
                    hint="continue that one, or choose an empty folder",
                )
            return kept
        now = DEFAULT_NOW if self.clock is None else self.clock.now()
        blockchain = Blockchain(now=now) if given is None else given
        offset = 0
        if self.clock is not None:
            # A chain that is ahead of the machine's clock (of a fork, say) stays as far ahead.
            offset = max(0, blockchain.now - now)
            blockchain.set_now(now + offset)
        producer = BlockProducer(blockchain)
        self._vault.begin(producer, offset)
        return producer, offset

    async def __aenter__(self) -> Self:
        if self._sealer.running:
            raise ConfigError("the node cannot start", why="it is running already")
        self._sealer.start()
        self._catch_up()
        self._start_ticking()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_ticking()
        self._sealer.stop()
        self._vault.close()

    # -- looking ------------------------------------------------------------------------------------------

    @property
    def archive(self) -> BlockArchive:
        """The blocks."""
        return self._sealer.producer.archive

    @property
    def head(self) -> MasterBlock:
        """The newest masterchain block."""
        return self._sealer.head

    @property
    def zero_states(self) -> tuple[NativeCell, NativeCell]:
        """What the masterchain and the basechain began with."""
        return self._sealer.producer.zero_states

    @property
    def now(self) -> int:
        """Unix time in seconds that the next transaction would see."""
        return self._time.now

    @property
    def offset(self) -> int:
        """Seconds that the chain runs ahead of its clock."""
        return self._time.offset

    @property
    def waiting(self) -> int:
        """Number of messages and actions that wait for the next block."""
        return len(self._sealer.waiting)

    def shard_account(self, key: int, block: Block | None = None) -> ShardAccount:
        """Return an account as it was at a block, or is at the head; a missing one has status NONEXIST.

        With a masterchain block, an account of the basechain is looked up in the block it committed.
        """
        return account_at(self.head if block is None else block, key)

    def run_getter(
        self,
        key: int,
        method: str | int,
        stack: Sequence[StackValue] | bytes = (),
        *,
        block: Block | None = None,
        gas_limit: int = GETTER_GAS_LIMIT,
    ) -> GetterRun:
        """Run a get-method on the state of a block (the head's unless told otherwise).

        `stack` is a sequence of values, or a bag with one `VmStack`. Whatever the exit code is, it comes
        back in the answer. Raises `AccountNotFoundError` without a contract there, `StackError`,
        `MalformedError`.
        """
        return run_getter(
            self.blockchain, self.head if block is None else block, key, method, stack, gas_limit
        )

    async def wait_seqno(self, seqno: int, timeout_s: float) -> MasterBlock:
        """Wait until the masterchain has block `seqno`, at most `timeout_s` real seconds; return the head.

        A chain that goes back to a snapshot ends the wait.
        """
        self._sealer.check()
        await self._sealer.wait_seqno(seqno, timeout_s)
        return self.head

    def subscribe(self, listener: Callable[[MasterBlock], None]) -> Callable[[], None]:
        """Call `listener` after every new masterchain block; returns what ends the subscription."""
        return self._sealer.subscribe(listener)

    # -- changing -----------------------------------------------------------------------------------------

    async def send(self, message: NativeCell | bytes) -> bytes:
        """Take an external-in message (a cell or its bag); return its hash.

        Sealing instantly, it returns after the message's block was sealed and kept. With a block time the
        message is tried on the present state and waits for the next block; should it fail there, it is
        dropped with a line in the log. Raises `ExternalRejectedError`, `MalformedError` for bytes that are no
        bag, and `StorageError` when the chain can no longer be kept.
        """
        self._sealer.check()
        native, _ = admit_external(message)
        found = native_hash(native)
        what = f"the external message {found.hex()}"
        if self.block_time_s is None:
            await self._sealer.submit(lambda _: self._sealer.deliver(native), what)
        elif found not in self._sealer.waiting:
            self.blockchain.try_external(native)
            self._sealer.waiting.add(Job(lambda _: self._sealer.deliver(native), what, key=found))
        return found

    async def apply(self, action: Callable[[Blockchain], _T], what: str = "an action") -> _T:
        """Do something with the blockchain; return its result once the block it made was sealed and kept.

        Raises what `action` raises.
        """
        self._sealer.check()
        answer: _T = await self._sealer.submit(action, what)
        return answer

    async def faucet(self, address: Address, amount: int) -> bytes:
        """Mint `amount` nanoTON to an address; return the hash of the message once it is in a block."""
        if amount <= 0:
            raise ConfigError("the faucet gives nothing", why=f"{amount} nanoTON is not above 0")
        done = await self.apply(lambda chain: chain.faucet(address, amount), "a message from the faucet")
        return done[0].in_msg.hash

    async def mine(self, blocks: int = 1) -> MasterBlock:
        """Seal blocks now, the first with all that waits; return the last one."""
        if not 1 <= blocks <= MAX_MINED:
            raise ConfigError(f"cannot seal {blocks} blocks", why=f"it takes 1 to {MAX_MINED} at a time")
        for _ in range(blocks):
            self._sealer.check()
            self._sealer.flush(force=True)
            self._sealer.check()
            await asyncio.sleep(0)
        return self.head

    async def warp(self, seconds: int) -> MasterBlock:
        """Let `seconds` of chain time pass; return the block that has the new time."""
        self._sealer.check()
        if seconds < 0 or self.now + seconds > MAX_NOW:
            raise ConfigError(
                f"time cannot move by {seconds} s",
                why="chain time does not run backwards" if seconds < 0 else "a block's time has 32 bits",
            )
        self._sealer.settle()  # what was sent before happens before
        self._time.warp(seconds)
        self._sealer.flush(force=True)
        self._sealer.check()
        return self.head

    async def set_block_time(self, block_time_s: float | None) -> None:
        """Seal every so many seconds from now on, or instantly (None). What waits is sealed first."""
        self._sealer.check()
        _check_block_time(block_time_s)
        await self._stop_ticking()
        while self._sealer.waiting:
            self._sealer.flush()
            self._sealer.check()
        self.block_time_s, self._sealer.instant = block_time_s, block_time_s is None
        self._start_ticking()

    # -- snapshots ----------------------------------------------------------------------------------------

    async def snapshot(self, name: str) -> int:
        """Keep the present under a name; return the masterchain seqno. Raises `SnapshotNameError`."""
        self._sealer.check()
        check_name(name, self._vault.names())
        return self._keep(name)

    async def restore(self, name: str) -> MasterBlock:
        """Bring chain and blocks back to a snapshot; return the head, which is the snapshot's block.

        A chain that follows a clock has an empty block with the present time on top at once. Later blocks and
        later snapshots vanish, and so does what waits for a block. The distance to the clock is the
        snapshot's again. Raises `UnknownSnapshotError`.
        """
        self._sealer.check()
        check_name(name, {name: 0})
        return self._rewind(name)

    async def reset(self) -> MasterBlock:
        """Go back to the start: the genesis, or where `set_base` was called last; see `restore`."""
        self._sealer.check()
        return self._rewind(BASE)

    async def set_base(self) -> None:
        """Make the present what `reset` goes back to."""
        self._sealer.check()
        self._keep(BASE)

    def snapshots(self) -> dict[str, int]:
        """Return the names of the snapshots, each with its masterchain seqno."""
        return {name: seqno for name, seqno in self._vault.names().items() if name != BASE}

    def _keep(self, name: str) -> int:
        self._sealer.settle()
        self._sealer.guarded(lambda: self._vault.keep(name, self._sealer.producer, self._time.offset))
        return self.head.seqno

    def _rewind(self, name: str) -> MasterBlock:
        if name not in self._vault.names():
            raise unknown_snapshot(name, self._vault.names())

        def work() -> None:
            moment = self._vault.rewind(name, self._sealer.producer)
            self.blockchain.restore(moment.chain)
            self._sealer.producer.rewind(moment.mark)
            self._time.offset = moment.offset

        self._sealer.rewind(work)
        self._catch_up()
        return self.head

    # -- time ---------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Make a block of the present time when the newest is of the past, which clients would not act on."""
        if self.clock is not None and self.now > self.head.gen_utime:
            self._sealer.flush(force=True, take=False)
            self._sealer.check()

    def _patience_s(self, clock: Clock) -> float:
        """Return how old the newest block may get: the longer nobody did anything, the older."""
        return min(
            max(self.idle_s, (clock.now() - self._active_at) / _PATIENCE), max(self.idle_s, MAX_IDLE_S)
        )

    def _on_block(self, block: MasterBlock) -> None:
        if self.clock is not None and (block.transactions or block.shard_block.transactions):
            self._active_at = self.clock.now()

    def _start_ticking(self) -> None:
        if self.block_time_s is not None or self.clock is not None:
            self._ticker = asyncio.create_task(self._tick(), name="sandbox-node")

    async def _stop_ticking(self) -> None:
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)

    async def _tick(self) -> None:
        """Make a block every block time, or whenever the chain's newest one is too old."""
        clock: Clock = self.clock or SystemClock()
        try:
            while self._sealer.failure is None:
                if self.block_time_s is not None:
                    await clock.sleep(self.block_time_s)
                    self._sealer.flush(force=True)
                else:
                    await clock.sleep(self.idle_s)
                    if self.now - self.head.gen_utime >= self._patience_s(clock):
                        self._sealer.flush(force=True)
        except Exception as error:
            self._sealer.fail(error)


def _check_block_time(block_time_s: float | None) -> None:
    if block_time_s is not None and not MIN_BLOCK_TIME_S <= block_time_s <= MAX_BLOCK_TIME_S:
        raise ConfigError(
            f"a block time of {block_time_s} s is not possible",
            why=f"it may be {MIN_BLOCK_TIME_S} to {MAX_BLOCK_TIME_S} s",
        )
