"""Which places are looked at and when: pauses, bounds, and what outlasts a restart."""

from __future__ import annotations

import pytest
from pytoniq_core import Address

from cocoon_sdk.arbiter import backlog, turns
from cocoon_sdk.arbiter.backlog import FIRST_PAUSE_S, MAX_PAUSE_S, Backlog
from cocoon_sdk.arbiter.finding_store import Place
from cocoon_sdk.arbiter.store import ArbiterStore


def of(escrow: int, number: int = 0) -> Place:
    return Place(Address((0, escrow.to_bytes(32, "big"))), number)


def taken(waiting: Backlog, at: int) -> list[Place]:
    """Take everything that has its turn."""
    found = []
    while (place := waiting.take(at)) is not None:
        found.append(place)
    return found


async def test_place_that_fails_waits_longer_each_time_and_others_come_first(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    await waiting.add(of(1, 1), 0)
    assert waiting.take(0) == of(1, 1)
    await waiting.failed(of(1, 1), 0)
    await waiting.add(of(1, 2), 1)
    assert waiting.take(FIRST_PAUSE_S - 1) == of(1, 2)
    assert waiting.take(FIRST_PAUSE_S - 1) is None
    await waiting.failed(of(1, 2), 0)
    assert taken(waiting, FIRST_PAUSE_S) == [of(1, 1), of(1, 2)]
    await waiting.failed(of(1, 1), 100)
    assert waiting.take(100 + FIRST_PAUSE_S) is None
    for _ in range(40):
        waiting.take(1 << 30)
        await waiting.failed(of(1, 1), 200)
    assert waiting.take(200 + MAX_PAUSE_S) == of(1, 1)


async def test_notice_is_dropped_only_when_two_looks_in_a_row_find_nothing(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    await waiting.add(of(1), 0)
    waiting.take(0)
    assert not await waiting.found_nothing(of(1), 0)
    waiting.take(50)
    await waiting.failed(of(1), 50)  # the endpoint was away in between
    waiting.take(200)
    assert not await waiting.found_nothing(of(1), 200)
    assert len(waiting) == 1
    waiting.take(300)
    assert await waiting.found_nothing(of(1), 300)
    assert len(waiting) == 0
    assert await store.finding.notices() == []


async def test_notices_outlast_a_restart(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    for number in (3, 1, 2):
        await waiting.add(of(1, number), number)
    await waiting.settled(of(1, 2))
    again = Backlog(store.finding)
    await again.load()
    assert taken(again, 0) == [of(1, 1), of(1, 3)]


async def test_one_escrow_with_many_disputes_cannot_keep_those_of_others_on_the_market(
    store: ArbiterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Backlog(store.finding)
    for number in range(backlog.MAX_NEW + 1):
        waiting.put(of(1, number))
    rooms = []
    for escrow in range(backlog.MAX_NEW // backlog.OF_ONE):
        rooms.append(waiting.has_room)
        for number in range(backlog.OF_ONE):
            waiting.put(of(escrow + 2, number))
    assert rooms == [True] * (len(rooms) - 1) + [False]
    # Nobody can fill the memory with what hardly counts.
    again = Backlog(store.finding)
    monkeypatch.setattr(backlog, "MOST_NEW", 100)
    rooms = []
    for number in range(101):
        rooms.append(again.has_room)
        again.put(of(1, number))
    assert rooms == [True] * 100 + [False]


async def test_what_counts_for_the_market_is_what_waits_for_its_first_look(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    for escrow in range(1, backlog.MAX_NEW + 1):
        waiting.put(of(escrow))
    rooms = [waiting.has_room]
    await waiting.settled(of(7))  # a caller had it looked at meanwhile
    rooms.append(waiting.has_room)
    waiting.put(of(7))
    rooms.append(waiting.has_room)
    assert waiting.take(0) == of(1)
    rooms.append(waiting.has_room)
    await waiting.settled(of(1))
    waiting.put(of(1))  # its escrow was looked at, so it keeps nobody on the market
    rooms.append(waiting.has_room)
    assert rooms == [False, True, False, True, True]


async def test_flood_of_notices_waits_on_the_market_and_failed_ones_take_no_room(
    store: ArbiterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_NEW", 3)
    monkeypatch.setattr(backlog, "MAX_WAITING", 2)
    waiting = Backlog(store.finding)
    rooms = []
    for escrow in range(3):
        rooms.append(waiting.has_room)
        await waiting.add(of(escrow), 0)
    rooms.append(waiting.has_room)
    assert waiting.take(0) == of(0)
    await waiting.failed(of(0), 0)
    rooms.append(waiting.has_room)
    assert rooms == [True, True, True, False, True]
    # Beyond the bound the one that failed most is forgotten.
    assert taken(waiting, FIRST_PAUSE_S) == [of(0), of(1), of(2)]
    for escrow in range(3):
        await waiting.failed(of(escrow), 0)
    assert set(taken(waiting, MAX_PAUSE_S)) == {of(1), of(2)}


async def test_what_is_no_escrow_is_forgotten_on_disk_too_and_remembered_for_a_while(
    store: ArbiterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_FOREIGN", 2)
    waiting = Backlog(store.finding)
    for number in range(20):
        await waiting.add(of(1, number), 0)
    await waiting.add(of(2), 0)
    assert waiting.take(0) == of(1)  # under way while the others are dropped
    await waiting.settled_foreign(of(1).escrow, 100)
    await waiting.failed(of(1), 100)
    assert await store.finding.notices() == [of(2)]
    assert (len(waiting), taken(waiting, 1 << 30)) == (1, [of(2)])
    until = 100 + backlog.FOREIGN_S
    assert [waiting.is_foreign(of(1).escrow, now) for now in (100, until - 1, until)] == [True, True, False]
    for escrow in (3, 4):
        await waiting.settled_foreign(of(escrow).escrow, 100)
    assert [waiting.is_foreign(of(escrow).escrow, 100) for escrow in (1, 3, 4)] == [False, True, True]


# -- turns ---------------------------------------------------------------------------------------------------


async def look(waiting: Backlog, *, at: int = 0) -> Place:
    """Have one look that ends unfinished."""
    found = waiting.take(at)
    assert found is not None
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
    monkeypatch.setattr(turns, "MAX_ESCROWS", 2)
    waiting = Backlog(store.finding)
    await waiting.add(of(1), 0)
    for at in (0, MAX_PAUSE_S):
        waiting.take(at)
        await waiting.failed(of(1), at)
    assert await look(waiting, at=2 * MAX_PAUSE_S) == of(1)
    assert waiting.take(0) == of(1)
    await waiting.failed(of(1), 0)
    for escrow in (2, 3):
        waiting.put(of(escrow))
    assert [await look(waiting) for _ in range(3)] == [of(2), of(2), of(3)]
    assert set(taken(waiting, FIRST_PAUSE_S)) == {of(2), of(3)}
    assert await store.finding.notices() == []


async def test_outcome_of_what_was_not_taken_in_turn_changes_nothing(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    waiting.put(of(1))
    for _ in range(3):
        await waiting.failed(of(1), 0)
        await waiting.unfinished(of(1))
        assert not await waiting.found_nothing(of(1), 0)
        await waiting.failed(of(2), 0)
    waiting.begun(of(1))
    waiting.put(of(3))
    assert len(waiting) == 2
    assert taken(waiting, 0) == [of(1), of(3)]


async def test_two_places_of_one_escrow_are_under_way_and_the_rest_waits(store: ArbiterStore) -> None:
    waiting = Backlog(store.finding)
    for number in range(4):
        waiting.put(of(1, number))
    assert taken(waiting, 0) == [of(1, 0), of(1, 1)]
    await waiting.settled(of(1, 0))
    assert taken(waiting, 0) == [of(1, 2)]
    await waiting.settled(of(1, 3))  # a caller had it looked at meanwhile
    await waiting.settled(of(1, 1))
    await waiting.settled(of(1, 2))
    assert (taken(waiting, 0), len(waiting)) == ([], 0)


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


class CountedAddress(Address):  # type: ignore[misc]  # the package that it is of has no types
    """An address that counts how often somebody looks it up."""

    lookups = 0

    def __hash__(self) -> int:
        CountedAddress.lookups += 1
        return hash(self.hash_part)


@pytest.mark.parametrize("escrows", [1, 500])
async def test_step_costs_the_same_however_much_waits(store: ArbiterStore, escrows: int) -> None:
    costs = []
    for most in (1000, 8000):
        waiting = Backlog(store.finding)
        for number in range(most):
            waiting.put(Place(CountedAddress((0, (number % escrows).to_bytes(32, "big"))), number))
        CountedAddress.lookups = 0
        assert isinstance(waiting.has_room, bool)
        for _ in range(3):
            await look(waiting)
        costs.append(CountedAddress.lookups)
    assert costs[0] == costs[1] < 200
