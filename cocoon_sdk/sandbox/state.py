"""The state of a sandbox: everything that `snapshot` keeps and `restore` brings back.

Owns its data structures, which are made so that a copy costs one dictionary each. Knows nothing of how
messages are executed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pytoniq_core import Cell

from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.transactions import Transaction


class QueuedMessage(NamedTuple):
    """A message on its way: its cell, receiver, sender, forward fee (nanoTON) and sending transaction."""

    native: NativeCell
    dst_key: int
    src_key: int | None
    fwd_fee: int
    parent: Transaction | None


class Log:
    """An immutable sequence of transactions, oldest first, that shares its storage with its ancestors.

    Appending to the newest version is cheap; appending to an older one (after a restore) copies once.
    """

    __slots__ = ("_items", "_length")

    def __init__(self) -> None:
        self._items: list[Transaction] = []
        self._length = 0

    def append(self, transaction: Transaction) -> Log:
        """Return a log with one transaction more."""
        items = self._items
        if len(items) != self._length:
            items = items[: self._length]
        items.append(transaction)
        log = Log.__new__(Log)
        log._items, log._length = items, self._length + 1
        return log

    def newest_first(
        self, *, limit: int, before_lt: int | None = None, after_lt: int = 0
    ) -> list[Transaction]:
        """Return at most `limit` transactions with `after_lt < lt < before_lt`, newest first."""
        low = bisect_right(self._items, after_lt, hi=self._length, key=_lt)
        high = (
            self._length
            if before_lt is None
            else bisect_left(self._items, before_lt, hi=self._length, key=_lt)
        )
        return self._items[max(low, high - limit) : high][::-1] if high > low else []

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Transaction]:
        return iter(self._items[: self._length])


def _lt(transaction: Transaction) -> int:
    return transaction.lt


@dataclass(slots=True)
class State:
    """One moment of a chain. `fees` and `minted` are nanoTON since the beginning."""

    now: int
    lt: int = 0
    seqno: int = 1
    held: bool = False
    minted: int = 0
    fees: int = 0
    accounts: dict[int, NativeCell] = field(default_factory=dict)
    histories: dict[int, Log] = field(default_factory=dict)
    log: Log = field(default_factory=Log)
    queue: deque[QueuedMessage] = field(default_factory=deque)
    libraries: tuple[Cell, ...] = ()

    def copy(self) -> State:
        """Return an independent copy."""
        return replace(
            self, accounts=dict(self.accounts), histories=dict(self.histories), queue=deque(self.queue)
        )
