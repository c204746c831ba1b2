"""`SandboxChain`: the `Chain` protocol over a `Blockchain` in the same process.

Owns nothing but the translation: every call runs at once on the calling event loop, and waiting for a new
block is woken by the blockchain itself, without polling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import AccountState, ChainHead, Link, StackValue, TransactionRecord
from cocoon_sdk.errors import ChainUnavailableError
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.transactions import Transaction


class SandboxChain:
    """A `Chain` whose network is a `Blockchain`; closing it leaves the blockchain as it is."""

    def __init__(self, blockchain: Blockchain) -> None:
        self.blockchain = blockchain
        self._closed = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._unsubscribe = blockchain.subscribe(self._on_block)

    def _on_block(self, _transactions: Sequence[Transaction]) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _open(self) -> Blockchain:
        if self._closed:
            raise ChainUnavailableError(
                "the sandbox chain cannot be used", why="it was closed", hint="make a new SandboxChain"
            )
        return self.blockchain

    async def global_id(self) -> int:
        """Return the signed network id of the sandbox's configuration."""
        return self._open().global_id

    async def head(self) -> ChainHead:
        """Return the newest block."""
        blockchain = self._open()
        return ChainHead(seqno=blockchain.seqno, now=blockchain.now)

    async def wait_head(self, after_seqno: int, timeout_s: float) -> ChainHead:
        """Wait until the newest block is above `after_seqno` or `timeout_s` real seconds are over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._open().seqno <= after_seqno:
            remaining = deadline - loop.time()
            if remaining <= 0:
                break
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait([waiter], timeout=remaining)
            finally:
                self._waiters.discard(waiter)
        return await self.head()

    async def account(self, address: Address) -> AccountState:
        """Return an account's state."""
        return self._open().account(address)

    async def run_getter(
        self, address: Address, method: str | int, stack: Sequence[StackValue] = ()
    ) -> list[StackValue]:
        """Run a get-method. Raises `GetterError`, and `AccountNotFoundError` without a contract there."""
        return self._open().run_getter(address, method, stack)

    async def send(self, message: Cell) -> bytes:
        """Deliver an external message and all that follows; return its hash.

        Raises `ExternalRejectedError` when it is not accepted.
        """
        return self._open().send_external(message)[0].in_msg.hash

    async def transactions(
        self,
        address: Address,
        *,
        limit: int = 16,
        before_lt: int | None = None,
        after_lt: int = 0,
        start: Link | None = None,
    ) -> list[TransactionRecord]:
        """Return transactions of an account, newest first; all of them are found by their lt."""
        if start is not None:
            before_lt = start[0] + 1 if before_lt is None else min(before_lt, start[0] + 1)
        found = self._open().transactions(address, limit=limit, before_lt=before_lt, after_lt=after_lt)
        return [transaction.record() for transaction in found]

    async def config_param(self, index: int) -> Cell | None:
        """Return one network configuration parameter."""
        return self._open().config.param(index)

    async def faucet(self, address: Address, amount: int) -> bytes:
        """Mint `amount` nanoTON to an address; return the hash of the message."""
        return self._open().faucet(address, amount)[0].in_msg.hash

    async def close(self) -> None:
        """Stop listening; calls that wait return with `ChainUnavailableError`."""
        self._closed = True
        self._unsubscribe()
        self._on_block(())
