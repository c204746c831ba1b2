"""Searches and walks beside each other, at an endpoint that finds a transaction only by its name."""

from __future__ import annotations

from typing import Final, cast

import pytest
from pytoniq_core import Address

from cocoon_sdk.chain import history_pages
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.history import HistoryNotFoundError, JobSearch, job_search, walk, walking
from cocoon_sdk.history.job_search import MAX_FAILURES
from tests.helpers.hostile_chains import NamingChain, UnknownLinkError

LENGTH: Final = 200
SIZE: Final = 4
PAGES: Final = 16
OTHERS: Final = 70
"""More accounts than any memory of names has room for here."""


def account(number: int, workchain: int = 0) -> Address:
    return Address((workchain, number.to_bytes(32, "big")))


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> NamingChain:
    monkeypatch.setattr(history_pages, "MAX_WALK", LENGTH // 4)
    for module in (job_search, walking):
        monkeypatch.setattr(module, "FIRST_PAGE", SIZE)
        monkeypatch.setattr(module, "LARGE_PAGE", SIZE)
    return NamingChain(LENGTH, SIZE)


async def test_others_searches_cannot_make_a_step_of_a_search_cost_more_than_its_page(
    endpoint: NamingChain,
) -> None:
    chain = cast(Chain, endpoint)
    searches = [JobSearch(chain, account(number), 1, bytes(32), since=0) for number in range(OTHERS)]
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


async def test_others_walks_cannot_make_a_step_of_a_walk_cost_more_than_its_page(
    endpoint: NamingChain,
) -> None:
    chain = cast(Chain, endpoint)
    walks = [walk(chain, account(number), limit=LENGTH, turns=_AskOthers(chain)) for number in range(2)]
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
            await self._chain.transactions(account(number, 1), limit=1)
            _AskOthers.asked += 1

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_search_at_the_end_of_what_it_reads_says_so_each_time(
    endpoint: NamingChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_search, "MAX_SEARCH", LENGTH // 2)
    search = JobSearch(cast(Chain, endpoint), account(0), 1, bytes(32), since=0)
    for _ in range(3):
        with pytest.raises(HistoryNotFoundError):
            await search.advance(1000)
    assert endpoint.asked <= LENGTH // 2 // SIZE + 2


async def test_search_in_a_history_that_is_none_begins_again(endpoint: NamingChain) -> None:
    search = JobSearch(cast(Chain, endpoint), account(0), 1, bytes(32), since=0)
    endpoint.branch = 1  # what it showed was a mistake
    assert not await search.advance(3)
    endpoint.branch = 0
    for _ in range(MAX_FAILURES):
        assert search.seen == 3 * SIZE
        with pytest.raises(UnknownLinkError):
            await search.advance(1)
    with pytest.raises(HistoryNotFoundError):
        await search.advance(1000)
    assert search.seen == LENGTH


async def test_search_outlasts_an_endpoint_that_is_away(endpoint: NamingChain) -> None:
    search = JobSearch(cast(Chain, endpoint), account(0), 1, bytes(32), since=0)
    for pages in range(1, 4):
        assert not await search.advance(1)
        endpoint.branch = 1
        for _ in range(MAX_FAILURES - 1):
            with pytest.raises(UnknownLinkError):
                await search.advance(1)
        endpoint.branch = 0
        assert search.seen == pages * SIZE
