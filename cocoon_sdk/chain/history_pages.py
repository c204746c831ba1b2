"""Paging back through an account's history by (lt, hash) of known transactions.

Owns what `Chain.transactions` means for every adapter whose endpoint pages so, and the memory of links that
makes paging back cheap for who has none. Must not know transports; an endpoint's page comes from a function.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.chain.base import Link, TransactionRecord
from cocoon_sdk.errors import ChainError

MAX_TRANSACTIONS: Final = 1000
"""Most transactions that one call returns."""
MAX_WALK: Final = 20_000
"""Most newer transactions that are walked through to reach an unknown `before_lt`."""

Page: TypeAlias = Callable[[Address, "Link | None", int, int], Awaitable[list[TransactionRecord]]]
"""Asks for an account's transactions from a link (None: the newest) downwards: how many, above which lt."""


class HistoryPages:
    """Walks an account's history, `size` transactions a page at most.

    `ask` checks what it returns: linked from the link given, above the lt given. It returns nothing only when
    there is nothing newest; `unknown` is what it raises for a link that the endpoint does not know.
    """

    def __init__(self, ask: Page, *, size: int, unknown: type[Exception]) -> None:
        self._ask, self._size, self._unknown = ask, size, unknown
        self._links = _Links()

    async def transactions(
        self, address: Address, *, limit: int, before_lt: int | None, after_lt: int, start: Link | None
    ) -> list[TransactionRecord]:
        """Return transactions newest first, `after_lt < lt < before_lt`; fewer than `limit` only at the end.

        From `start` it is one request for each `size` of them, always. Without it links that were seen are
        remembered, of so many accounts; an unknown `before_lt` is reached by walking down from the newest,
        `MAX_WALK` deep (`ChainError` beyond). So it is when the endpoint does not know a link, `start` too.
        """
        if not 1 <= limit <= MAX_TRANSACTIONS:
            raise ValueError(f"limit must be within 1..{MAX_TRANSACTIONS}")
        known = start
        if known is None and before_lt is not None:
            known = self._links.above(address, before_lt)
        try:
            return await self._walk(address, known, limit, before_lt, after_lt)
        except self._unknown:
            if known is None or before_lt is None:
                raise
            # The link may belong to a chain that has been reset since.
            self._links.forget(address)
            before_lt = before_lt if start is None else min(before_lt, start[0] + 1)
            return await self._walk(address, None, limit, before_lt, after_lt)

    async def _walk(
        self, address: Address, link: Link | None, limit: int, before_lt: int | None, after_lt: int
    ) -> list[TransactionRecord]:
        found: list[TransactionRecord] = []
        for _ in range(-(-MAX_WALK // self._size)):
            if link is not None and link[0] <= after_lt:
                return found
            below = before_lt is None or (link is not None and link[0] < before_lt)
            count = min(self._size, limit - len(found)) if below else self._size
            page = await self._ask(address, link, count, after_lt)
            if not page:
                return found
            for record in page:
                self._links.add(address, record)
                if before_lt is None or record.lt < before_lt:
                    found.append(record)
                if len(found) == limit:
                    return found
            link = page[-1].previous
        raise ChainError(
            f"transactions of {address.to_str()} before lt {before_lt}",
            why=f"more than {MAX_WALK} newer ones lie in between",
            hint="Page back from the newest without skipping",
        )


class _Links:
    """Remembers, per account, which transaction precedes a known lt; bounded, oldest use dropped first."""

    _ACCOUNTS = 64
    _PER_ACCOUNT = 2048

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, OrderedDict[int, Link]] = OrderedDict()

    def add(self, address: Address, record: TransactionRecord) -> None:
        links = self._known.setdefault(_key(address), OrderedDict())
        links[record.lt] = record.previous
        links.move_to_end(record.lt)
        if len(links) > self._PER_ACCOUNT:
            links.popitem(last=False)
        self._known.move_to_end(_key(address))
        if len(self._known) > self._ACCOUNTS:
            self._known.popitem(last=False)

    def above(self, address: Address, lt: int) -> Link | None:
        """Return the predecessor of the lowest known transaction at or above `lt`."""
        links = self._known.get(_key(address), OrderedDict())
        nearest = min((known for known in links if known >= lt), default=None)
        return None if nearest is None else links[nearest]

    def forget(self, address: Address) -> None:
        self._known.pop(_key(address), None)


def _key(address: Address) -> bytes:
    return bytes(address.wc.to_bytes(4, "big", signed=True) + address.hash_part)
