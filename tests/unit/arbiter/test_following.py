"""Many disputes of one escrow: whoever opens them waits for itself, and disputes of others go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pytoniq_core import Address

from cocoon_sdk.arbiter import backlog
from cocoon_sdk.arbiter import following as module
from cocoon_sdk.arbiter.backlog import FIRST_PAUSE_S
from cocoon_sdk.arbiter.docket import Docket
from cocoon_sdk.arbiter.errors import BusyError, UnfinishedError
from cocoon_sdk.arbiter.finding import DisputeFinder, Noticed
from cocoon_sdk.arbiter.finding_store import Place
from cocoon_sdk.arbiter.following import FOR_CALLERS, IN_TURN, Following
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.store import ArbiterStore, Followed
from cocoon_sdk.arbiter.turns import PER_ESCROW
from cocoon_sdk.contracts.disputes import NoDisputeError
from cocoon_sdk.errors import ChainError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.storage import SqliteDatabase, StorageError
from cocoon_sdk.types import Hash

HONEST = Address((0, bytes(32)))
FILLED = [Address((0, bytes([number]) * 32)) for number in range(1, 4)]
"""Escrows whose history somebody filled: looking at their disputes takes for ever."""
MADE_UP = 1000
"""From here on there is no job of that number."""


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
        if number >= MADE_UP:
            raise NoDisputeError("there is none")
        if escrow != HONEST or self.looks.count(Place(escrow, number)) + 1 < self._takes:
            self.looks.append(Place(escrow, number))
            raise UnfinishedError("its history is long")
        self.is_found.set()
        return await super().follow(escrow, number)


class HeldDocket(SlowDocket):
    """A double of a docket: each look takes until the test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: dict[Place, asyncio.Future[None]] = {}

    @property
    def held(self) -> set[Place]:
        return {place for place, end in self._ends.items() if not end.done()}

    def let_go(self, place: Place, error: Exception | None = None) -> None:
        end = self._ends[place]
        if error is None:
            end.set_result(None)
        else:
            end.set_exception(error)

    async def follow(self, escrow: Address, number: int) -> Hearing:
        end = self._ends[Place(escrow, number)] = asyncio.get_running_loop().create_future()
        await end
        return await super().follow(escrow, number)


class Market:
    """A double of what finds notices: hands on what stands there, until it is told that there is no room.

    `strangers` are no escrows.
    """

    def __init__(self) -> None:
        self.notices: list[Place] = []
        self.strangers: list[Address] = []

    async def is_escrow(self, address: Address) -> bool:
        return address not in self.strangers

    async def pump(self, _: int, noticed: Noticed) -> None:
        while self.notices and await noticed(self.notices[0].escrow, self.notices[0].number, True):
            del self.notices[0]


@contextlib.asynccontextmanager
async def looking(docket: SlowDocket, market: Market, folder: Path) -> AsyncIterator[Following]:
    store = ArbiterStore(SqliteDatabase(folder / "looking.sqlite"))
    await store.prepare()
    made = Following(cast(Docket, docket), cast(DisputeFinder, market), store, lambda: None, no_storage_error)
    await made.start(1)
    yield made
    await made.close()
    await store.close()


def ask(following: Following, place: Place) -> asyncio.Task[Hearing]:
    """Tell of a dispute as somebody does who waits for as long as it takes."""
    return asyncio.create_task(following.follow(place.escrow, place.number, 600))


async def turns_of_the_loop() -> None:
    """Let everything go as far as it does without the store or a look that is held."""
    for _ in range(20):
        await asyncio.sleep(0)


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
    async with looking(docket, market, tmp_path) as made:
        yield made


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
    assert c.MAX_JOBS > IN_TURN
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

PADDED = [Address((0, bytes([100 + number]) * 32)) for number in range(IN_TURN // PER_ESCROW + 8)]


@pytest.fixture
async def besieged(market: Market, tmp_path: Path) -> AsyncIterator[tuple[Following, PaddedDocket]]:
    """As many padded disputes as take every look, heard of and looked at."""
    padded = PaddedDocket(takes=3)
    async with looking(padded, market, tmp_path) as made:
        market.notices = [Place(escrow, number) for number in range(PER_ESCROW) for escrow in PADDED]
        await heard(made)
        for _ in range(3 * len(PADDED)):
            await asyncio.sleep(0)
        assert {look.escrow for look in padded.looks} == set(PADDED)
        yield made, padded


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
    beside = IN_TURN
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


# -- strangers who ask ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("asks_for", [HONEST, None], ids=["the victim's escrow", "fresh addresses"])
async def test_strangers_who_ask_take_no_turn_from_a_dispute_and_move_none(
    besieged: tuple[Following, PaddedDocket],
    market: Market,
    monkeypatch: pytest.MonkeyPatch,
    asks_for: Address | None,
) -> None:
    following, padded = besieged
    monkeypatch.setattr(module, "IN_TURN", 1)
    market.notices.append(Place(HONEST, 7))
    await heard(following)
    before, asked = len(padded.looks), 0
    while not padded.is_found.is_set():
        asked += 1
        escrow = asks_for or Address((0, (1 << 200 | asked).to_bytes(32, "big")))
        with pytest.raises(NoDisputeError):
            await following.follow(escrow, MADE_UP + asked, 10)
        assert len(padded.looks) - before <= IN_TURN + 3 * 2 * len(PADDED)
    assert asked > 10


async def test_looks_at_made_up_disputes_of_an_escrow_do_not_take_the_places_of_its_own(
    tmp_path: Path, market: Market
) -> None:
    docket = HeldDocket()
    async with looking(docket, market, tmp_path) as following:
        strangers = [ask(following, Place(HONEST, MADE_UP + number)) for number in range(PER_ESCROW)]
        market.notices.append(Place(HONEST, 7))
        await turns_of_the_loop()
        assert docket.held == {Place(HONEST, MADE_UP + number) for number in range(PER_ESCROW)}
        await heard(following)
        # Its turn comes all the same, and whoever asks for it now waits for that look.
        client = ask(following, Place(HONEST, 7))
        await turns_of_the_loop()
        assert Place(HONEST, 7) in docket.held
        assert isinstance(await announced(following, Place(HONEST, MADE_UP + 99)), BusyError)
        docket.let_go(Place(HONEST, 7))
        assert await client is docket.known(HONEST, 7)
        assert not any(task.done() for task in strangers)


async def test_callers_for_what_waits_for_its_turn_are_not_refused_for_strangers(
    tmp_path: Path, market: Market
) -> None:
    docket = HeldDocket()
    async with looking(docket, market, tmp_path) as following:
        market.notices = [Place(HONEST, number) for number in range(PER_ESCROW + 1)]
        await heard(following)
        for number in range(PER_ESCROW):
            ask(following, Place(HONEST, MADE_UP + number))
        client = ask(following, Place(HONEST, PER_ESCROW))
        await turns_of_the_loop()
        assert not client.done()
        first = next(task for task in following.tasks if task.get_name() == f"dispute {Place(HONEST, 0)}")
        docket.let_go(Place(HONEST, 0))
        await first
        await turns_of_the_loop()
        following.step(2)
        await turns_of_the_loop()
        docket.let_go(Place(HONEST, PER_ESCROW))
        assert await client is docket.known(HONEST, PER_ESCROW)


async def test_looks_in_turn_and_for_callers_have_places_of_their_own(tmp_path: Path, market: Market) -> None:
    docket = HeldDocket()
    async with looking(docket, market, tmp_path) as following:
        asked = [Place(Address((0, bytes([number]) * 32)), 1) for number in range(1, FOR_CALLERS + 1)]
        for place in asked:
            # Whoever asked does not wait any more; the look goes on, and keeps its place.
            assert isinstance(await announced(following, place), BusyError)
        await turns_of_the_loop()
        assert docket.held == set(asked)
        market.notices = [Place(Address((0, bytes([number]) * 32)), 2) for number in range(1, IN_TURN + 9)]
        await heard(following)
        await turns_of_the_loop()
        assert len(docket.held) == len(following.tasks) == FOR_CALLERS + IN_TURN
        with pytest.raises(BusyError, match="too many"):
            await following.follow(HONEST, 7, 10)


async def test_look_that_somebody_asked_for_is_that_of_the_turn_which_comes_meanwhile(
    tmp_path: Path, market: Market
) -> None:
    docket = HeldDocket()
    async with looking(docket, market, tmp_path) as following:
        place = Place(HONEST, 7)
        client = ask(following, place)
        await turns_of_the_loop()
        market.notices.append(place)
        await heard(following)
        assert len(following.tasks) == 1
        docket.let_go(place, ChainError("nobody answers"))
        with pytest.raises(ChainError):
            await client
        # It failed in turn: so it has its next one after the pause, and not before.
        following.step(2)
        await turns_of_the_loop()
        assert docket.held == set()
        following.step(1000)
        await turns_of_the_loop()
        assert docket.held == {place}


async def test_failing_looks_that_a_stranger_asks_for_put_no_turn_off(tmp_path: Path, market: Market) -> None:
    docket = HeldDocket()
    place = Place(HONEST, 7)
    async with looking(docket, market, tmp_path) as following:
        market.notices.append(place)
        await heard(following)
        await turns_of_the_loop()
        docket.let_go(place, ChainError("nobody answers"))
        await turns_of_the_loop()
        for _ in range(20):
            stranger = ask(following, place)
            await turns_of_the_loop()
            docket.let_go(place, ChainError("nobody answers"))
            with pytest.raises(ChainError):
                await stranger
        following.step(2 + FIRST_PAUSE_S)
        await turns_of_the_loop()
        assert docket.held == {place}


# -- strangers who announce disputes -------------------------------------------------------------------------


class ClockedDocket(PaddedDocket):
    """A double of a docket: each look takes one second, and at no other time does one go by."""

    def __init__(self) -> None:
        super().__init__(takes=1)
        self.now = 2
        self.all_looks: list[Place] = []
        self.following: Following | None = None

    async def follow(self, escrow: Address, number: int) -> Hearing:
        assert self.following is not None
        self.now += 1
        self.all_looks.append(Place(escrow, number))
        self.following.step(self.now)
        return await super().follow(escrow, number)

    async def rounds(self, *, after: int = 0) -> None:
        """Take steps until nothing is under way."""
        assert self.following is not None
        self.now += after
        self.following.step(self.now)
        assert self.following.pumping is not None
        await self.following.pumping
        while self.following.tasks:
            await asyncio.wait(self.following.tasks)
            await asyncio.sleep(0)
            self.following.step(self.now)
            await self.following.pumping


async def test_notices_of_what_is_no_escrow_are_dropped_together_and_none_are_taken_again(
    tmp_path: Path, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_NEW", 80)
    docket = ClockedDocket()
    wallet, escrow = Address((0, b"w" * 32)), Address((0, b"e" * 32))
    market.strangers.append(wallet)
    market.notices = [Place(wallet, MADE_UP + number) for number in range(200)]
    market.notices += [Place(escrow, MADE_UP), Place(HONEST, 7)]
    async with looking(docket, market, tmp_path) as docket.following:
        await heard(docket.following)
        assert len(market.notices) > 100  # the wallet fills what may wait
        await docket.rounds()
        # It is looked at until the first of its disputes has had its second look, and no longer.
        assert len(docket.all_looks) <= FIRST_PAUSE_S + 2 * PER_ESCROW + 2
        assert (market.notices, docket.known(HONEST, 7) is not None) == ([], True)
        # What it sends from now on is read from the market, and that is all.
        del docket.all_looks[:]
        market.notices = [Place(wallet, MADE_UP + number) for number in range(200, 400)]
        market.notices.append(Place(escrow, MADE_UP + 1))
        await docket.rounds()
        assert market.notices == []
        assert {place.escrow for place in docket.all_looks} == {escrow}
        # After a while it is looked at anew: the endpoint may have lagged.
        market.notices = [Place(wallet, MADE_UP)]
        await docket.rounds(after=backlog.FOREIGN_S)
        assert docket.all_looks[-1] == Place(wallet, MADE_UP)


# -- after a restart -----------------------------------------------------------------------------------------


async def test_disputes_that_were_followed_come_before_all_notices_after_a_restart(
    tmp_path: Path, docket: SlowDocket, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_S", 0)
    database = SqliteDatabase(tmp_path / "looking.sqlite")
    store = ArbiterStore(database)
    await store.prepare()
    await store.follow(Followed(Hash(bytes(32)), HONEST, 1, 7, 1000, 0, ""))
    await database.execute_many(
        "INSERT INTO arbiter_notices VALUES (?, ?, ?)",
        [(bytes([number]) * 32, 1, 0) for number in range(1, 2 * IN_TURN)],
    )
    await store.close()
    async with looking(docket, market, tmp_path):
        await turns_of_the_loop()
        assert docket.looks[0] == Place(HONEST, 7)
        assert len(docket.looks) >= IN_TURN
