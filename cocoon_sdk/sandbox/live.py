"""`LiveSandbox`: a sandbox with its servers in a thread of their own.

Owns that thread and its event loop, and the way of calls into it. For tests and programs without an event
loop, or with one of their own: clients reach the servers over loopback from wherever they run, and what is
called here only waits for the other thread. Must not know pytest, nor any contract.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import AccountState, StackValue
from cocoon_sdk.clock import SystemClock
from cocoon_sdk.errors import ChainTimeoutError, ChainUnavailableError, ConfigError
from cocoon_sdk.sandbox.actors import DEFAULT_BALANCE
from cocoon_sdk.sandbox.blockchain import FAUCET, Blockchain
from cocoon_sdk.sandbox.blocks import MasterBlock
from cocoon_sdk.sandbox.config import NetworkConfig
from cocoon_sdk.sandbox.host import SandboxHost
from cocoon_sdk.sandbox.live_actors import LiveActor
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.trace import Names, Trace
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.sandbox.words import seed_of, words_of

PATIENCE_S = 60.0
"""How long a call waits for the sandbox's thread, in real seconds."""
_T = TypeVar("_T")


class LiveSandbox:
    """A chain in memory behind a toncenter API and a liteserver, both on free ports of loopback.

    Use it with `with`. `now` is the unix time it starts at; without it, this machine's, so that clients that
    sign with their own clock are believed. Time stands still until `warp`, unless `follow_clock`.
    `block_time_s` makes a block every so many seconds; without it everything is sealed at once. With a
    `folder` the configuration for lite clients is written there. `names` is for traces.
    """

    def __init__(
        self,
        *,
        now: int | None = None,
        block_time_s: float | None = None,
        follow_clock: bool = False,
        config: NetworkConfig | None = None,
        folder: Path | None = None,
        names: Names | None = None,
    ) -> None:
        self._now, self._block_time_s, self._follow_clock = now, block_time_s, follow_clock
        self._config, self._folder = config, folder
        self._given_names = names or Names()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._host: SandboxHost | None = None
        self._depth = 0

    # -- the thread ---------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise ConfigError("the sandbox cannot start", why="it was started already", hint="make a new one")
        started: Future[SandboxHost] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="live-sandbox", daemon=True
        )
        self._thread.start()
        try:
            self._host = started.result(PATIENCE_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._host = None
        thread, loop, ending = self._thread, self._loop, self._ending
        if thread is None or loop is None or ending is None:
            return
        with suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(ending.set)
        thread.join(PATIENCE_S)
        if thread.is_alive():
            raise ChainTimeoutError("the sandbox does not end", why=f"it was given {PATIENCE_S:g} s")

    async def _serve(self, started: Future[SandboxHost]) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        try:
            clock = SystemClock()
            blockchain = Blockchain(now=clock.now() if self._now is None else self._now, config=self._config)
            node = Node(
                blockchain, clock=clock if self._follow_clock else None, block_time_s=self._block_time_s
            )
            async with SandboxHost(node, folder=self._folder) as host:
                started.set_result(host)
                await self._ending.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    def run(self, work: Callable[[Node], Awaitable[_T]], timeout_s: float = PATIENCE_S) -> _T:
        """Run a coroutine with the node in the sandbox's thread; return or raise what it does.

        Raises `ChainTimeoutError` after `timeout_s`, `ChainUnavailableError` when the sandbox does not run.
        """
        host, loop = self._running(), self._loop
        assert loop is not None
        if threading.current_thread() is self._thread:
            raise ConfigError(
                "the sandbox cannot be asked from here",
                why="this is its own thread, which would wait for itself",
                hint="use the node that `run` hands over",
            )

        async def call() -> _T:
            return await work(host.node)

        future = asyncio.run_coroutine_threadsafe(call(), loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if future.done() and not future.cancelled():
                raise
            future.cancel()
            raise ChainTimeoutError("the sandbox did not answer", why=f"it had {timeout_s:g} s") from None

    def look(self, work: Callable[[Blockchain], _T]) -> _T:
        """Call a function with the blockchain in the sandbox's thread; it must not change anything."""

        async def call(node: Node) -> _T:
            return work(node.blockchain)

        return self.run(call)

    def apply(self, work: Callable[[Blockchain], _T]) -> _T:
        """Do something with the blockchain in the sandbox's thread; returns once that is in a block."""
        return self.run(lambda node: node.apply(work))

    def _running(self) -> SandboxHost:
        if self._host is None:
            raise ChainUnavailableError(
                "the sandbox cannot be used", why="it is not running", hint="use it inside its `with`"
            )
        return self._host

    # -- where it is --------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """URL of the toncenter API, such as `http://127.0.0.1:34567/api/v2`."""
        return self._running().endpoint

    @property
    def adnl(self) -> str:
        """Host and port of the liteserver."""
        return self._running().adnl

    @property
    def global_config(self) -> dict[str, Any]:
        """The configuration that lite clients take."""
        host = self._running()

        async def call(_: Node) -> dict[str, Any]:
            return host.global_config

        return self.run(call)

    @property
    def global_config_path(self) -> Path | None:
        """The same as a file; None without a folder."""
        return self._running().global_config_path

    # -- money and messages -------------------------------------------------------------------------------

    def actor(self, name: str, balance: int = DEFAULT_BALANCE, *, mnemonic: bool = False) -> LiveActor:
        """Return the wallet with that name; the first use deploys it, to hold exactly `balance` nanoTON.

        With `mnemonic` its key is that of 24 words (another wallet than without; takes 0.3 s once).
        """
        words = words_of(name) if mnemonic else None
        seed = None if words is None else seed_of(words)
        wallet = self.apply(lambda chain: chain.actor(name, balance, seed=seed))
        return LiveActor(wallet, words=words, look=self.look, act=self.apply)

    def faucet(self, address: Address | str, amount: int) -> bytes:
        """Mint `amount` nanoTON to an address in any spelling; return the hash of the message."""
        return self.run(lambda node: node.faucet(_address(address), amount))

    def deploy(self, state_init: Cell, value: int, body: Cell | None = None) -> Address:
        """Deploy a contract with minted `value` nanoTON; return its address. Raises `SandboxError`."""
        return self.apply(lambda chain: chain.deploy(state_init, value, body))

    def send(self, message: Cell | bytes) -> bytes:
        """Send an external message (or its bag); return its hash. Raises `ExternalRejectedError`."""
        bag: bytes = message if isinstance(message, bytes) else message.to_boc()
        return self.run(lambda node: node.send(bag))

    # -- looking ------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """Unix time of the chain."""

        async def call(node: Node) -> int:
            return node.now

        return self.run(call)

    @property
    def head(self) -> MasterBlock:
        """The newest masterchain block."""

        async def call(node: Node) -> MasterBlock:
            return node.head

        return self.run(call)

    def account(self, address: Address | str) -> AccountState:
        """Return an account's state; a missing one has status NONEXIST."""
        return self.look(lambda chain: chain.account(_address(address)))

    def run_getter(
        self, address: Address | str, method: str | int, stack: Sequence[StackValue] = ()
    ) -> list[StackValue]:
        """Run a get-method. Raises `GetterError`, and `AccountNotFoundError` without a contract there."""
        return self.look(lambda chain: chain.run_getter(_address(address), method, stack))

    def transactions(self, address: Address | str | None = None, *, limit: int = 16) -> list[Transaction]:
        """Return transactions of one account, or of all, newest first."""
        wanted = None if address is None else _address(address)
        return self.look(lambda chain: chain.transactions(wanted, limit=limit))

    @property
    def names(self) -> Names:
        """What traces call opcodes, exit codes and accounts: those given, the faucet and the actors."""
        return self.look(lambda chain: names_on(chain) | self._given_names)

    def trace(self, limit: int = 30) -> Trace:
        """Return the newest transactions as a tree with names; `str` shows it."""
        return Trace(self.transactions(limit=limit)[::-1], self.names)

    # -- time and snapshots -------------------------------------------------------------------------------

    def warp(self, seconds: int) -> MasterBlock:
        """Let `seconds` of chain time pass; return the block that has the new time."""
        return self.run(lambda node: node.warp(seconds))

    def mine(self, blocks: int = 1) -> MasterBlock:
        """Seal blocks now; return the last one."""
        return self.run(lambda node: node.mine(blocks))

    def snapshot(self, name: str) -> int:
        """Keep the present under a name; return the masterchain seqno. Raises `SnapshotNameError`."""
        return self.run(lambda node: node.snapshot(name))

    def restore(self, name: str) -> MasterBlock:
        """Bring chain and blocks back to a snapshot; later ones vanish. Raises `UnknownSnapshotError`."""
        return self.run(lambda node: node.restore(name))

    def reset(self) -> MasterBlock:
        """Go back to the start."""
        return self.run(lambda node: node.reset())

    @contextmanager
    def isolated(self) -> Iterator[Self]:
        """Undo at the end whatever happens inside, blocks included; may be nested."""
        name = f"isolated-{self._depth}"
        self.snapshot(name)
        self._depth += 1
        try:
            yield self
        finally:
            self._depth -= 1
            self.restore(name)


def names_on(chain: Blockchain) -> Names:
    """Return the names of a chain's own accounts: the faucet and the actors."""
    return Names(accounts=[(FAUCET, "faucet"), *((actor.address, actor.name) for actor in chain.actors)])


def _address(address: Address | str) -> Address:
    return Address(address) if isinstance(address, str) else address
