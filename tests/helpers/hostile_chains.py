"""Chains as an attacker leaves them: histories full of small messages, endpoints that reach only so far."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import Link, TransactionRecord
from cocoon_sdk.chain.history_pages import HistoryPages
from cocoon_sdk.errors import ChainError
from cocoon_sdk.sandbox import Blockchain, SandboxChain


class PaddedChain(SandboxChain):
    """Somebody sent `count` messages to each of `padded`, right after whatever else stands there.

    The padding begins above the newest transaction at the first look and has its time. Its cells cannot be
    read, which is what a reader makes of messages that are none of our contracts'.
    """

    def __init__(self, blockchain: Blockchain) -> None:
        super().__init__(blockchain)
        self.padded: dict[Address, int] = {}
        self.reach: int | None = None
        """How far below the newest the endpoint finds a transaction that is not named; None: anywhere.

        It remembers no names: others made it forget them."""
        self.broken: set[Address] = set()
        """Accounts whose history the endpoint does not show."""
        self.endless: set[Address] = set()
        """Accounts whose history comes to no end: whoever reads it goes on reading."""
        self.looks = 0
        self._base: dict[Address, TransactionRecord] = {}

    def pad(self, address: Address, count: int) -> None:
        """Fill an account's history."""
        self.padded[address] = count

    async def transactions(
        self,
        address: Address,
        *,
        limit: int = 16,
        before_lt: int | None = None,
        after_lt: int = 0,
        start: Link | None = None,
    ) -> list[TransactionRecord]:
        self.looks += 1
        if address in self.broken:
            raise ChainError("a look at the history", why="this endpoint has dropped it")
        if address in self.endless:
            await asyncio.Event().wait()
        count = self.padded.get(address, 0)
        if not count:
            return await super().transactions(
                address, limit=limit, before_lt=before_lt, after_lt=after_lt, start=start
            )
        if address not in self._base:
            (self._base[address],) = await super().transactions(address, limit=1)
        base = self._base[address]
        top = base.lt + count
        first = min(top if before_lt is None else before_lt - 1, top if start is None else start[0])
        if start is None and self.reach is not None and top - max(first, base.lt) > self.reach:
            raise ChainError("a look at the history", why="too far below the newest for this endpoint")
        found = [self._padding(base, lt) for lt in range(first, max(base.lt, first - limit), -1)]
        if len(found) < limit:
            found += await super().transactions(
                address, limit=limit - len(found), before_lt=first + 1, after_lt=after_lt
            )
        return [each for each in found if each.lt > after_lt]

    def _padding(self, base: TransactionRecord, lt: int) -> TransactionRecord:
        before = base.hash if lt == base.lt + 1 else _hash(lt - 1)
        return replace(
            base,
            lt=lt,
            hash=_hash(lt),
            prev_lt=lt - 1,
            prev_hash=before,
            now=self.blockchain.now,
            cell=Cell.empty(),
        )


class UnknownLinkError(ChainError):
    """The endpoint does not know the transaction that it was asked for."""


class NamingChain:
    """Histories alone, of `length` transactions that cannot be read, each found by its name only.

    It counts the pages that the endpoint is asked for, `size` transactions each.
    """

    def __init__(self, length: int, size: int) -> None:
        self.asked, self.length, self._size = 0, length, size
        self.branch = 0
        """Which of many histories is shown: names of one are unknown in another."""
        self._pages = HistoryPages(self._ask, size=size, unknown=UnknownLinkError)

    async def transactions(self, address: Address, **bounds: Any) -> list[TransactionRecord]:
        return await self._pages.transactions(
            address, **{"limit": self._size, "before_lt": None, "after_lt": 0, "start": None, **bounds}
        )

    async def _ask(
        self, address: Address, link: Link | None, count: int, after_lt: int
    ) -> list[TransactionRecord]:
        self.asked += 1
        top = self.length if link is None else link[0]
        if link is not None and link[1] != self._name(top):
            raise UnknownLinkError("a look at the history", why=f"nothing at lt {top} has this name")
        return [
            TransactionRecord(address, lt, 1, self._name(lt), lt - 1, self._name(lt - 1), Cell.empty())
            for lt in range(top, max(after_lt, top - count), -1)
        ]

    def _name(self, lt: int) -> bytes:
        return _hash(self.branch << 64 | lt)


def _hash(lt: int) -> bytes:
    return lt.to_bytes(32, "big")
