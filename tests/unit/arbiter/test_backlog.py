"""Which places are looked at and when: pauses, bounds, and what outlasts a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytoniq_core import Address

from cocoon_sdk.arbiter import backlog
from cocoon_sdk.arbiter.backlog import FIRST_PAUSE_S, MAX_PAUSE_S, Backlog
from cocoon_sdk.arbiter.finding_store import Place
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.storage import SqliteDatabase


def place(number: int) -> Place:
    return Place(Address((0, bytes(31) + b"\1")), number)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ArbiterStore]:
    made = ArbiterStore(SqliteDatabase(tmp_path / "arbiter.sqlite"))
    await made.prepare()
    yield made
    await made.close()


async def test_place_that_fails_waits_longer_each_time_and_others_come_first(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    await waiting.add(place(1), 0)
    await waiting.failed(place(1), 0)
    await waiting.add(place(2), 1)
    assert waiting.due(FIRST_PAUSE_S - 1) == [place(2)]
    assert waiting.due(FIRST_PAUSE_S) == [place(2), place(1)]
    await waiting.failed(place(1), 100)
    assert place(1) not in waiting.due(100 + FIRST_PAUSE_S)
    for _ in range(40):
        await waiting.failed(place(1), 200)
    assert place(1) in waiting.due(200 + MAX_PAUSE_S)


async def test_notice_is_dropped_only_when_two_looks_in_a_row_find_nothing(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    await waiting.add(place(1), 0)
    await waiting.found_nothing(place(1), 0)
    await waiting.failed(place(1), 50)  # the endpoint was away in between
    await waiting.found_nothing(place(1), 100)
    assert len(waiting) == 1
    await waiting.found_nothing(place(1), 200)
    assert len(waiting) == 0
    assert await store.finding.notices() == []


async def test_notices_outlast_a_restart(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    for number in (3, 1, 2):
        await waiting.add(place(number), number)
    await waiting.settled(place(2))
    again = Backlog(store.finding)
    await again.load()
    assert again.due(0) == [place(1), place(3)]


async def test_one_escrow_with_many_disputes_cannot_keep_those_of_others_on_the_market(
    store: ArbiterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Backlog(store.finding)
    for number in range(backlog.MAX_NEW + 1):
        waiting.put(place(number))
    rooms = []
    for escrow in range(backlog.MAX_NEW // backlog.OF_ONE):
        rooms.append(waiting.has_room)
        for number in range(backlog.OF_ONE):
            waiting.put(Place(Address((0, bytes([escrow + 2]) * 32)), number))
    assert rooms == [True] * (len(rooms) - 1) + [False]
    # Nobody can fill the memory with what hardly counts.
    again = Backlog(store.finding)
    monkeypatch.setattr(backlog, "MOST_NEW", 100)
    rooms = []
    for number in range(101):
        rooms.append(again.has_room)
        again.put(place(number))
    assert rooms == [True] * 100 + [False]


async def test_flood_of_notices_waits_on_the_market_and_failed_ones_take_no_room(
    store: ArbiterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_NEW", 3)
    monkeypatch.setattr(backlog, "MAX_WAITING", 2)
    waiting = Backlog(store.finding)
    rooms = []
    for number in range(3):
        rooms.append(waiting.has_room)
        await waiting.add(place(number), 0)
    rooms.append(waiting.has_room)
    await waiting.failed(place(0), 0)
    rooms.append(waiting.has_room)
    assert rooms == [True, True, True, False, True]
    # Beyond the bound the one that failed most is forgotten.
    await waiting.failed(place(0), 0)
    await waiting.failed(place(1), 0)
    await waiting.failed(place(2), 0)
    assert set(waiting.due(MAX_PAUSE_S)) == {place(1), place(2)}


# -- turns ---------------------------------------------------------------------------------------------------


def of(escrow: int, number: int = 0) -> Place:
    return Place(Address((0, escrow.to_bytes(32, "big"))), number)


async def look(waiting: Backlog, *, at: int = 0) -> Place:
    """Have one look that ends unfinished."""
    found = waiting.due(at)[0]
    waiting.looked(found)
    await waiting.unfinished(found)
    return found


async def test_escrows_with_long_histories_have_their_looks_by_turns(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    for escrow in range(1, 33):
        for number in range(8):
            waiting.put(of(escrow, number))
    first = [(await look(waiting)).escrow for _ in range(2 * 32)]
    assert len(set(first)) == 32
    again = [await look(waiting) for _ in range(32)]
    assert len({each.escrow for each in again}) == 32
    # What was begun is gone on with: others of the same escrow do not keep it from its end.
    assert all(waiting.is_begun(each) and each.number == 0 for each in again)


async def test_new_dispute_comes_before_all_that_were_looked_at(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    for escrow in range(1, 33):
        waiting.put(of(escrow))
    for _ in range(100):
        await look(waiting)
    waiting.put(of(99))
    assert of(99) in [await look(waiting) for _ in range(2)]


async def test_flow_of_new_escrows_cannot_keep_one_that_was_begun_from_its_next_look(
    store: ArbiterStore,
) -> None:
    waiting = Backlog(store.finding)
    for escrow in range(1, 9):
        waiting.put(of(escrow))
    for _ in range(8):
        await look(waiting)
    since, longest = 0, 0
    for stranger in range(1000, 1100):
        waiting.put(of(stranger))
        waiting.put(of(stranger + 1000))
        since += 1
        if (await look(waiting)).escrow == of(1).escrow:
            longest, since = max(longest, since), 0
    escrows = 8 + 100  # at most every second look is for a new one, and makes one more that waits
    assert 0 < max(longest, since) <= 2 * escrows


async def test_look_that_ended_unfinished_is_no_failure_and_is_forgotten_like_one(
    store: ArbiterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_WAITING", 2)
    monkeypatch.setattr(backlog, "MAX_ESCROWS", 2)
    waiting = Backlog(store.finding)
    await waiting.add(of(1), 0)
    await waiting.failed(of(1), 0)
    await waiting.failed(of(1), 0)
    await waiting.unfinished(of(1))
    assert waiting.due(0) == [of(1)]
    await waiting.failed(of(1), 0)
    assert waiting.due(FIRST_PAUSE_S) == [of(1)]
    for escrow in (2, 3):
        await waiting.unfinished(of(escrow))
    assert sorted(place.escrow.hash_part[-1] for place in waiting.due(FIRST_PAUSE_S)) == [2, 3]
    assert await store.finding.notices() == []


async def test_disputes_that_wait_for_others_of_their_escrow_keep_none_on_the_market(
    store: ArbiterStore,
) -> None:
    waiting = Backlog(store.finding)
    escrows = backlog.MAX_NEW // backlog.OF_ONE
    for escrow in range(escrows):
        for number in range(backlog.OF_ONE):
            waiting.put(of(escrow, number))
    assert not waiting.has_room
    for _ in range(2 * escrows):
        await look(waiting)
    assert waiting.has_room
