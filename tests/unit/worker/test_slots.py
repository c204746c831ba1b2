"""Which lock takes a job's collateral in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.contracts.worker_stake import StakeLock
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.types import Nano
from cocoon_worker.slots import Slots


def lock(slot: int, escrow: int) -> StakeLock:
    return StakeLock(7 * 512 + 256 + slot, escrow, Nano(1), 0)


def test_job_can_go_into_a_lock_of_its_escrow() -> None:
    slots = Slots([lock(1, 10), lock(2, 20)])
    assert slots.choose(20, afresh=False) == lock(2, 20).number
    assert slots.choose(20, afresh=False) == lock(2, 20).number


def test_job_can_have_a_new_lock_when_the_one_of_its_escrow_failed() -> None:
    assert Slots([lock(1, 10)]).choose(10, afresh=True) == 2


def test_two_new_locks_cannot_get_the_same_slot() -> None:
    slots = Slots([lock(2, 10)])
    assert [slots.choose(escrow, afresh=False) for escrow in (20, 20, 30)] == [1, 3, 4]


def test_new_lock_cannot_be_had_when_every_slot_is_taken() -> None:
    slots = Slots([lock(slot, slot) for slot in range(1, c.MAX_LOCKS + 1)])
    assert slots.choose(300, afresh=False) is None
    assert slots.choose(9, afresh=True) == lock(9, 9).number


@given(st.sets(st.integers(1, c.MAX_LOCKS)), st.integers(1, 300))
def test_slots_that_are_given_out_are_free_and_distinct(taken: set[int], asked: int) -> None:
    slots = Slots([lock(slot, 10) for slot in taken])
    given_out = [slots.choose(20, afresh=False) for _ in range(asked)]
    new = [slot for slot in given_out if slot is not None]
    assert len(set(new)) == len(new) == min(asked, c.MAX_LOCKS - len(taken))
    assert taken.isdisjoint(new)
    assert set(new) <= set(range(1, c.MAX_LOCKS + 1))
