"""`Chain`: the only seam between Cocoon and a network.

Adapters (in-process sandbox, toncenter HTTP, liteservers) implement this protocol; wrappers, SDK and
worker know nothing else. Cells, addresses and slices are pytoniq-core's everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias, runtime_checkable

from pytoniq_core import Address, Cell, Slice

from cocoon_sdk.types import Nano

StackValue: TypeAlias = "int | Cell | Slice | list[StackValue] | None"
"""What goes into and comes out of a get-method: ints, cells, slices (addresses are slices), null, tuples."""
Link: TypeAlias = tuple[int, bytes]
"""Names a transaction of an account: its lt and hash. lt 0: there is none."""


class AccountStatus(StrEnum):
    """Account state as the chain names it."""

    NONEXIST = "nonexist"
    UNINIT = "uninit"
    ACTIVE = "active"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account at the newest block the adapter has seen; `last_lt` is 0 if it never had a transaction."""

    address: Address
    status: AccountStatus
    balance: Nano
    code: Cell | None
    data: Cell | None
    last_lt: int
    last_hash: bytes


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """One transaction: `cell` is the raw TL-B `Transaction`, from which all else can be read lazily."""

    address: Address
    lt: int
    now: int
    hash: bytes
    prev_lt: int
    prev_hash: bytes
    cell: Cell

    @property
    def link(self) -> Link:
        """What names this transaction."""
        return (self.lt, self.hash)

    @property
    def previous(self) -> Link:
        """What names the one before it in the account's history."""
        return (self.prev_lt, self.prev_hash)


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Newest known block: masterchain seqno and its unix time in seconds."""

    seqno: int
    now: int


@runtime_checkable
class Chain(Protocol):
    """What Cocoon needs of a network. All may raise `ChainUnavailableError` or `ChainTimeoutError`."""

    async def global_id(self) -> int:
        """Return the signed network id (ConfigParam 19): -239 mainnet, -3 testnet."""
        ...

    async def head(self) -> ChainHead:
        """Return the newest block. Raises `ChainStaleError` if the endpoint lags beyond a bound."""
        ...

    async def wait_head(self, after_seqno: int, timeout_s: float) -> ChainHead:
        """Wait until a block is above `after_seqno` or the time is over; return the newest either way."""
        ...

    async def account(self, address: Address) -> AccountState:
        """Return an account's state; a missing account has status `NONEXIST`, balance 0 and no code."""
        ...

    async def run_getter(
        self, address: Address, method: str | int, stack: Sequence[StackValue] = ()
    ) -> list[StackValue]:
        """Run a get-method at the newest block. Raises `GetterError` when it throws."""
        ...

    async def send(self, message: Cell) -> bytes:
        """Send an external-in message; return its hash. Raises `ExternalRejectedError` when not accepted."""
        ...

    async def transactions(
        self,
        address: Address,
        *,
        limit: int = 16,
        before_lt: int | None = None,
        after_lt: int = 0,
        start: Link | None = None,
    ) -> list[TransactionRecord]:
        """Return an account's transactions, `after_lt < lt < before_lt`, newest first, at most `limit`.

        `start` names the newest one to return, as the one after it does (`TransactionRecord.previous`). Some
        endpoints find a transaction only by its name: from there a page costs the same at any depth, whatever
        was asked for meanwhile, and `before_lt` may cost a walk from the newest one. With both, that walk is
        for a `start` that the endpoint does not know; with `start` alone it fails then.
        """
        ...

    async def config_param(self, index: int) -> Cell | None:
        """Return one network configuration parameter as a cell, or None when it is not set."""
        ...

    async def close(self) -> None:
        """Release sockets and tasks; further calls fail."""
        ...
