"""Many disputes of one escrow: whoever opens them waits for itself, and disputes of others go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pytoniq_core import Address

from cocoon_sdk.arbiter.docket import Docket
from cocoon_sdk.arbiter.errors import BusyError, UnfinishedError
from cocoon_sdk.arbiter.finding import DisputeFinder, Noticed
from cocoon_sdk.arbiter.finding_store import Place
from cocoon_sdk.arbiter.following import FOR_CALLERS, MAX_TASKS, PER_ESCROW, Following
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.storage import SqliteDatabase, StorageError
from cocoon_sdk.types import Hash

HONEST = Address((0, bytes(32)))
FILLED = [Address((0, bytes([number]) * 32)) for number in range(1, 4)]
"""Escrows whose history somebody filled: looking at their disputes takes for ever."""


class SlowDocket:
    """A double of a docket: a dispute of a filled escrow is never read to its end; any other is at once."""

    def __init__(self) -> None:
        self.hearings: dict[Hash, Hearing] = {}
        self.looks: list[Place] = []
        self._known: dict[Place, Hearing] = {}

    def known(self, escrow: Address, number: int) -> Hearing | None:
        return self._known.get(Place(escrow, number))

    async def follow(self, escrow: Address, number: int) -> Hearing:
        self.looks.append(Place(escrow, number))
        if escrow in FILLED:
            await asyncio.Event().wait()
        dispute = SimpleNamespace(digest=Hash(number.to_bytes(32, "big")), number=number, escrow=escrow)
        return self._known.setdefault(Place(escrow, number), cast(Hearing, SimpleNamespace(dispute=dispute)))


class PaddedDocket(SlowDocket):
    """A double of a docket: looks at a padded escrow end unfinished, an honest one takes `takes` looks."""

    def __init__(self, takes: int) -> None:
        super().__init__()
        self._takes, self.is_found = takes, asyncio.Event()

    async def follow(self, escrow: Address, number: int) -> Hearing:
        await asyncio.sleep(0)  # as the chain would
        if escrow != HONEST or self.looks.count(Place(escrow, number)) + 1 < self._takes:
            self.looks.append(Place(escrow, number))
            raise UnfinishedError("its history is long")
        self.is_found.set()
        return await super().follow(escrow, number)


class Market:
    """A double of what finds notices: hands on what stands there, until it is told that there is no room."""

    def __init__(self) -> None:
        self.notices: list[Place] = []

    async def pump(self, _: int, noticed: Noticed) -> None:
        while self.notices and await noticed(self.notices[0].escrow, self.notices[0].number, True):
            del self.notices[0]


def no_storage_error(error: StorageError) -> None:
    raise error


@pytest.fixture
def docket() -> SlowDocket:
    return SlowDocket()


@pytest.fixture
def market() -> Market:
    return Market()


@pytest.fixture
async def following(docket: SlowDocket, market: Market, tmp_path: Path) -> AsyncIterator[Following]:
    store = ArbiterStore(SqliteDatabase(tmp_path / "arbiter.sqlite"))
    await store.prepare()
    finder = cast(DisputeFinder, market)
    made = Following(cast(Docket, docket), finder, store, lambda: None, no_storage_error)
    await made.start(1)
    yield made
    await made.close()
    await store.close()


async def announced(following: Following, place: Place) -> Any:
    """Tell of a dispute as a client does over HTTP, and wait no longer than for what is there at once."""
    try:
        return await following.follow(place.escrow, place.number, 10 if place.escrow == HONEST else 0)
    except BusyError as error:
        return error


async def test_many_disputes_of_one_escrow_that_are_announced_keep_no_other_waiting(
    following: Following, docket: SlowDocket
) -> None:
    for number in range(c.MAX_JOBS):
        assert isinstance(await announced(following, Place(FILLED[0], number)), BusyError)
    hearing = await announced(following, Place(HONEST, 7))
    assert [look.escrow for look in docket.looks] == [FILLED[0]] * PER_ESCROW + [HONEST]
    assert hearing is docket.known(HONEST, 7)


async def test_many_disputes_of_few_escrows_on_the_market_keep_no_other_waiting(
    following: Following, docket: SlowDocket, market: Market
) -> None:
    assert c.MAX_JOBS > MAX_TASKS
    market.notices = [Place(escrow, number) for escrow in FILLED for number in range(c.MAX_JOBS)]
    market.notices.append(Place(HONEST, 7))
    following.step(2)
    assert following.pumping is not None
    await following.pumping
    assert market.notices == []
    (honest,) = (task for task in following.tasks if task.get_name().endswith(str(Place(HONEST, 7))))
    assert await honest is docket.known(HONEST, 7)
    assert len(following.tasks) <= len(FILLED) * PER_ESCROW + 1


# -- more padded escrows than looks beside each other --------------------------------------------------------

PADDED = [Address((0, bytes([100 + number]) * 32)) for number in range(MAX_TASKS // PER_ESCROW + 1)]


@pytest.fixture
async def besieged(market: Market, tmp_path: Path) -> AsyncIterator[tuple[Following, PaddedDocket]]:
    """As many padded disputes as take every look, heard of and looked at."""
    padded = PaddedDocket(takes=3)
    store = ArbiterStore(SqliteDatabase(tmp_path / "besieged.sqlite"))
    await store.prepare()
    made = Following(cast(Docket, padded), cast(DisputeFinder, market), store, lambda: None, no_storage_error)
    await made.start(1)
    market.notices = [Place(escrow, number) for number in range(PER_ESCROW) for escrow in PADDED]
    await heard(made)
    for _ in range(3 * len(PADDED)):
        await asyncio.sleep(0)
    assert {look.escrow for look in padded.looks} == set(PADDED)
    yield made, padded
    await made.close()
    await store.close()


async def heard(following: Following) -> None:
    following.step(2)
    assert following.pumping is not None
    await following.pumping


async def test_padded_escrows_cannot_keep_a_dispute_on_the_market_from_being_found(
    besieged: tuple[Following, PaddedDocket], market: Market
) -> None:
    following, padded = besieged
    market.notices.append(Place(HONEST, 7))
    await heard(following)
    before = len(padded.looks)
    await asyncio.wait_for(padded.is_found.wait(), 10)
    mine = [at for at, look in enumerate(padded.looks[before:]) if look.escrow == HONEST]
    # It is new: every second look is for those. Then it has one in each round.
    beside = MAX_TASKS - FOR_CALLERS
    assert mine[0] <= beside + 2
    assert all(later - at <= 2 * len(PADDED) + beside for at, later in pairwise(mine))
    assert not following.tasks or len(following.tasks) <= beside


async def test_padded_escrows_cannot_keep_a_caller_from_having_a_dispute_looked_at(
    besieged: tuple[Following, PaddedDocket],
) -> None:
    following, padded = besieged
    hearing = await following.follow(HONEST, 7, 10)
    assert hearing is padded.known(HONEST, 7)
    # Whoever asks about a padded one has it looked at no sooner for that.
    before = len(padded.looks)
    for number in range(100):
        assert isinstance(await announced(following, Place(PADDED[0], number % PER_ESCROW)), BusyError)
    beside = Counter(look.escrow for look in padded.looks[before:])
    assert 0 < beside[PADDED[0]] <= 1 + max(beside[escrow] for escrow in PADDED[1:])


async def test_looks_end_with_the_arbiter(besieged: tuple[Following, PaddedDocket]) -> None:
    following, padded = besieged
    await following.close()
    looks = len(padded.looks)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (following.tasks, len(padded.looks)) == ([], looks)
