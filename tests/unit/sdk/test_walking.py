"""Walks beside each other: by turns, page by page."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import Chain, TransactionRecord
from cocoon_sdk.history.walking import walk


class Histories:
    """Accounts whose transactions cannot be read, `pages` of them; it notes whose page was asked for."""

    def __init__(self, pages: dict[Address, int]) -> None:
        self._left, self.asked = dict(pages), list[Address]()

    async def transactions(self, address: Address, *, limit: int, **_: Any) -> list[TransactionRecord]:
        self.asked.append(address)
        await asyncio.sleep(0)
        self._left[address] -= 1
        last = self._left[address] == 0
        record = TransactionRecord(address, 2, 1, bytes(32), 0 if last else 1, bytes(32), Cell.empty())
        return [record] * limit


async def test_long_history_cannot_keep_a_short_one_waiting() -> None:
    long, other, short = (Address((0, bytes([number]) * 32)) for number in range(3))
    chain = Histories({long: 200, other: 200, short: 3})
    turns = asyncio.Semaphore(1)

    async def read(account: Address) -> None:
        async for _ in walk(cast(Chain, chain), account, limit=1 << 20, turns=turns):
            pass

    tasks = [asyncio.create_task(read(account)) for account in (long, other, short)]
    await tasks[2]
    assert len(chain.asked) <= 3 * 3 + 2
    assert not tasks[0].done()
    await asyncio.gather(*tasks)
    assert chain.asked.count(long) == 200
