"""Searches and walks beside each other, at an endpoint that finds a transaction only by its name."""

from __future__ import annotations

from typing import Any, Final, cast

import pytest
from pytoniq_core import Address, Cell

from cocoon_sdk.chain import history_pages
from cocoon_sdk.chain.base import Chain, Link, TransactionRecord
from cocoon_sdk.chain.history_pages import HistoryPages
from cocoon_sdk.history import HistoryNotFoundError, JobSearch, job_search, walk, walking

LENGTH: Final = 400
SIZE: Final = 8
PAGES: Final = 16
OTHERS: Final = 100
"""More accounts than any memory of names has room for here."""


class UnknownLinkError(Exception):
    """The endpoint does not know the transaction that it was asked for."""


class Endpoint:
    """A double: accounts of `LENGTH` transactions that cannot be read; it counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self._pages = HistoryPages(self._ask, size=SIZE, unknown=UnknownLinkError)

    async def transactions(self, address: Address, **bounds: Any) -> list[TransactionRecord]:
        return await self._pages.transactions(
            address, **{"before_lt": None, "after_lt": 0, "start": None, **bounds}
        )

    async def _ask(
        self, address: Address, link: Link | None, count: int, after_lt: int
    ) -> list[TransactionRecord]:
        self.asked += 1
        top = LENGTH if link is None else link[0]
        return [
            TransactionRecord(address, lt, 1, name(lt), lt - 1, name(lt - 1), Cell.empty())
            for lt in range(top, max(after_lt, top - count), -1)
        ]


def name(lt: int) -> bytes:
    return lt.to_bytes(32, "big")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setattr(history_pages, "MAX_WALK", LENGTH // 4)
    for module in (job_search, walking):
        monkeypatch.setattr(module, "FIRST_PAGE", SIZE)
        monkeypatch.setattr(module, "LARGE_PAGE", SIZE)
    return Endpoint()


async def test_others_searches_cannot_make_a_step_of_a_search_cost_more_than_its_page(
    endpoint: Endpoint,
) -> None:
    chain = cast(Chain, endpoint)
    accounts = [Address((0, name(number))) for number in range(OTHERS)]
    searches = [JobSearch(chain, account, 1, bytes(32), since=0) for account in accounts]
    looks = 0
    while searches:
        looks += 1
        for search in list(searches):
            before = endpoint.asked
            try:
                assert not await search.advance(PAGES)
                assert endpoint.asked == before + PAGES
            except HistoryNotFoundError:  # all of it was read
                assert search.seen == LENGTH
                searches.remove(search)
    assert looks == -(-LENGTH // (SIZE * PAGES))
    assert endpoint.asked == OTHERS * LENGTH // SIZE


async def test_others_walks_cannot_make_a_step_of_a_walk_cost_more_than_its_page(endpoint: Endpoint) -> None:
    chain = cast(Chain, endpoint)
    walks = [
        walk(chain, Address((0, name(number))), limit=LENGTH, turns=_AskOthers(chain)) for number in range(2)
    ]
    for each in walks:
        before, others = endpoint.asked, _AskOthers.asked
        async for _ in each:
            raise AssertionError("none of them can be read")
        assert endpoint.asked - before == LENGTH // SIZE + _AskOthers.asked - others


class _AskOthers:
    """A turn for which one waits until many others have read a page of their accounts."""

    asked = 0

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def __aenter__(self) -> None:
        for number in range(OTHERS):
            await self._chain.transactions(Address((1, name(number))), limit=1)
            _AskOthers.asked += 1

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_search_at_the_end_of_what_it_reads_says_so_each_time(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_search, "MAX_SEARCH", LENGTH // 2)
    search = JobSearch(cast(Chain, endpoint), Address((0, bytes(32))), 1, bytes(32), since=0)
    for _ in range(3):
        with pytest.raises(HistoryNotFoundError):
            await search.advance(1000)
    assert endpoint.asked <= LENGTH // 2 // SIZE + 2
