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
