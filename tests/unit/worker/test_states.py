"""The tables of states: complete, walkable, and obeyed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from cocoon_worker.errors import IllegalTransitionError
from cocoon_worker.lifecycle import give_up, move
from cocoon_worker.states import (
    BUSY,
    EXTERNAL_TRANSITIONS,
    JOB_TRANSITIONS,
    OVER,
    ExternalState,
    JobState,
    check_transition,
)
from tests.unit.worker.samples import job_record

TABLES = [
    pytest.param(JOB_TRANSITIONS, list(JobState), id="jobs"),
    pytest.param(EXTERNAL_TRANSITIONS, list(ExternalState), id="externals"),
]
OUTCOMES = {JobState.PAID, JobState.RELEASED, JobState.SLASHED}


@pytest.mark.parametrize(("table", "states"), TABLES)
def test_walker_can_reach_every_state_from_the_first(table: Any, states: list[Any]) -> None:
    assert set(table) == set(states)
    reached, frontier = {states[0]}, [states[0]]
    while frontier:
        for state in table[frontier.pop()] - reached:
            reached.add(state)
            frontier.append(state)
    assert reached == set(table)


@pytest.mark.parametrize(("table", "states"), TABLES)
def test_journal_cannot_leave_the_table_when_a_step_is_not_in_it(table: Any, states: list[Any]) -> None:
    for old, new in itertools.product(table, repeat=2):
        if new == old or new in table[old]:
            check_transition(table, old, new)
        else:
            with pytest.raises(IllegalTransitionError, match=f"from {old} to {new}"):
                check_transition(table, old, new)


def test_walker_can_end_every_job_that_is_not_over() -> None:
    for state in set(JobState) - OVER:
        seen, frontier = {state}, [state]
        while frontier:
            for step in JOB_TRANSITIONS[frontier.pop()] - seen:
                seen.add(step)
                frontier.append(step)
        assert seen & OVER, f"{state} has no end"


def test_money_can_still_come_when_a_lock_may_be_held() -> None:
    # Whatever holds a lock must be able to take every outcome of the escrow.
    holding = BUSY - {JobState.QUEUED} | {
        JobState.ABANDONED,
        JobState.LOST,
        JobState.SUBMITTED,
        JobState.DISPUTED,
    }
    for state in holding:
        assert JOB_TRANSITIONS[state] >= OUTCOMES, state


def test_job_cannot_move_again_when_it_is_over() -> None:
    for state in (JobState.REFUSED, JobState.FAILED, JobState.RELEASED):
        job = job_record(state=state)
        for other in JobState:
            assert move(job, other, 1).state is state


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.READY])
def test_worker_can_give_up_when_a_lock_is_held_only_by_waiting(state: JobState) -> None:
    assert give_up(job_record(state=state, lock=3), 1, "x").state is JobState.ABANDONED
    assert give_up(job_record(state=state), 1, "x").state is JobState.FAILED
