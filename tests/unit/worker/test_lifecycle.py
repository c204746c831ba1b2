"""What events do to jobs: money is never lost from view, collateral is freed only by what names it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Cell

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.job_states import EntryStatus
from cocoon_sdk.types import Nano
from cocoon_worker.events import JobOutcome, OutcomeKind
from cocoon_worker.lifecycle import (
    MAX_PAUSE_S,
    done,
    is_over,
    on_dispute,
    on_expiry,
    on_outcome,
    on_view,
    retry_later,
    undone,
)
from cocoon_worker.records import JobRecord
from cocoon_worker.states import JOB_TRANSITIONS, SESSION_ACTIONS, ActionKind, JobState
from tests.unit.worker.samples import NOW, STAKE, job_record


def outcome(kind: OutcomeKind, amount: int = 0, fee: int = 0, *, lock: int | None = 3) -> JobOutcome:
    return JobOutcome(kind, job_record().key, lock, Nano(amount), Nano(fee))


def view(status: EntryStatus, *, worker: int = STAKE, deadline: int = NOW + 100) -> m.Job:
    return m.Job(
        status=status,
        worker=worker,
        key_or_result=1,
        deadline=deadline,
        window=600,
        fee_bps=100,
        late_bps=400,
        price=10,
        hold=10,
        lock=0,
        collateral=5,
        amount=4,
        fee=0,
        payout=4,
        terms=Cell.empty(),
        params=Cell.empty(),
    )


def locked(state: JobState) -> JobRecord:
    return job_record(state=state, lock=3, collateral=Nano(100))


def claimed(state: JobState) -> JobRecord:
    """A job whose claim went out with a bond; nothing is locked for it yet."""
    return job_record(state=state, claimed=True, bond=Nano(40), collateral=Nano(100), deadline=NOW)


def test_reward_can_pay_a_submitted_job_and_free_its_lock() -> None:
    job = on_outcome(locked(JobState.SUBMITTED), outcome(OutcomeKind.REWARD, 50, 1), NOW)
    assert (job.state, job.paid, job.fee, job.locked) == (JobState.PAID, 50, 1, False)
    assert is_over(job)


def test_partial_verdict_can_pay_first_and_slash_then() -> None:
    job = on_outcome(locked(JobState.DISPUTED), outcome(OutcomeKind.REWARD, 20, lock=0), NOW)
    assert (job.state, job.paid, job.locked) == (JobState.DISPUTED, 20, True)
    job = on_outcome(job, outcome(OutcomeKind.SLASH, 500), NOW)
    assert (job.state, job.paid, job.slashed) == (JobState.SLASHED, 20, 100)  # never more than the lock


def test_cooperative_reward_can_overtake_a_submission_that_locks() -> None:
    # The client accepted the signed result while our Submit was on its way: first the reward, then Gone.
    job = on_outcome(locked(JobState.SUBMITTING), outcome(OutcomeKind.REWARD, 50, lock=0), NOW)
    assert (job.state, job.locked, is_over(job)) == (JobState.PAID, True, False)
    job = on_outcome(job, outcome(OutcomeKind.GONE), NOW)
    assert (job.state, job.locked, is_over(job)) == (JobState.PAID, False, True)


@pytest.mark.parametrize("kind", OutcomeKind)
@pytest.mark.parametrize("lock", [0, 4])
def test_collateral_cannot_be_freed_by_what_names_another_lock(kind: OutcomeKind, lock: int) -> None:
    assert on_outcome(locked(JobState.SUBMITTING), outcome(kind, 10, lock=lock), NOW).locked


@pytest.mark.parametrize("kind", [OutcomeKind.SLASH, OutcomeKind.RELEASE, OutcomeKind.GONE])
def test_job_cannot_move_by_what_freed_another_lock(kind: OutcomeKind) -> None:
    job = locked(JobState.CLAIMED)
    assert on_outcome(job, outcome(kind, 10, lock=4), NOW) == job


def test_claim_that_came_back_brings_its_bond_and_ends_the_job() -> None:
    job = on_outcome(claimed(JobState.CLAIMING), outcome(OutcomeKind.CLAIM_BOUNCED, lock=0), NOW)
    assert (job.state, job.bond, job.bonded, is_over(job)) == (JobState.LOST, 0, False, True)


@pytest.mark.parametrize("state", [JobState.CLAIMED, JobState.RUNNING, JobState.READY, JobState.SUBMITTED])
def test_claim_that_the_escrow_holds_cannot_come_back(state: JobState) -> None:
    job = claimed(state)
    assert on_outcome(job, outcome(OutcomeKind.CLAIM_BOUNCED, lock=0), NOW) == job


def test_refused_submission_on_a_claim_can_only_wait_for_the_bond() -> None:
    job = replace(claimed(JobState.SUBMITTING), lock=3)
    job = on_outcome(job, outcome(OutcomeKind.GONE), NOW)
    assert (job.state, job.locked, job.bonded) == (JobState.ABANDONED, False, True)
    # The entry is still there: nothing is known yet.
    assert on_view(job, view(EntryStatus.CLAIMED, deadline=NOW), STAKE, NOW + 99, 30) == job
    lost = on_view(job, None, STAKE, NOW + 31, 30)
    assert (lost.state, lost.slashed, is_over(lost)) == (JobState.SLASHED, 40, True)


@pytest.mark.parametrize("state", [JobState.CLAIMED, JobState.RUNNING, JobState.READY, JobState.ABANDONED])
def test_bond_is_lost_when_the_client_took_a_late_job_back(state: JobState) -> None:
    job = claimed(state)
    assert on_view(job, None, STAKE, NOW + 30, 30) == job
    lost = on_view(job, None, STAKE, NOW + 31, 30)
    assert (lost.state, lost.slashed, is_over(lost)) == (JobState.SLASHED, 40, True)
    # It was not: the client accepted the signed result at the last moment.
    paid = on_outcome(lost, outcome(OutcomeKind.REWARD, 50, 1, lock=0), NOW)
    assert (paid.state, paid.paid, paid.slashed, paid.bond) == (JobState.PAID, 50, 0, 0)


@pytest.mark.parametrize("kind", [OutcomeKind.REWARD, OutcomeKind.RELEASE, OutcomeKind.SLASH])
def test_bond_comes_back_with_every_outcome(kind: OutcomeKind) -> None:
    job = on_outcome(replace(claimed(JobState.SUBMITTED), lock=3), outcome(kind, 10), NOW)
    assert (job.bond, job.bonded, is_over(job)) == (0, False, True)
    assert job.slashed == (10 if kind is OutcomeKind.SLASH else 0)


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (JobState.SUBMITTING, JobState.RELEASED),
        (JobState.SUBMITTED, JobState.RELEASED),
        (JobState.ABANDONED, JobState.RELEASED),
        (JobState.PAID, JobState.PAID),
    ],
)
def test_expired_lock_can_end_a_job_in_any_state(state: JobState, after: JobState) -> None:
    job = on_expiry(locked(state), NOW)
    assert (job.state, is_over(job)) == (after, True)
    late = on_outcome(job, outcome(OutcomeKind.REWARD, 9), NOW)
    assert (late.state, late.paid) == (after, 9)


def test_lost_submission_can_still_be_paid() -> None:
    job = on_outcome(locked(JobState.SUBMITTING), outcome(OutcomeKind.GONE), NOW)
    assert job.state is JobState.LOST
    assert on_outcome(job, outcome(OutcomeKind.REWARD, 9, lock=0), NOW).state is JobState.PAID


def test_refused_finalisation_can_be_tried_again_later() -> None:
    job = on_outcome(locked(JobState.FINALIZING), outcome(OutcomeKind.NOT_FINALIZED, lock=0), NOW)
    assert (job.state, job.tries, job.not_before > NOW) == (JobState.SUBMITTED, 1, True)


@pytest.mark.parametrize(
    ("action", "under_way", "before"),
    [
        (ActionKind.CLAIM, JobState.CLAIMING, JobState.OFFERED),
        (ActionKind.SUBMIT, JobState.SUBMITTING, JobState.READY),
        (ActionKind.SUBMIT_CLAIMED, JobState.SUBMITTING, JobState.READY),
        (ActionKind.FINALIZE, JobState.FINALIZING, JobState.SUBMITTED),
    ],
)
def test_action_that_came_to_nothing_can_be_planned_again_and_counts(
    action: ActionKind, under_way: JobState, before: JobState
) -> None:
    job = undone(job_record(state=under_way, tries=2), action, NOW, "skipped")
    assert (job.state, job.tries, job.reason) == (before, 3, "skipped")
    assert NOW < job.not_before <= NOW + MAX_PAUSE_S
    # Given up as expired, it shows up after all.
    lock = 9 if action in (ActionKind.SUBMIT, ActionKind.SUBMIT_CLAIMED) else 0
    found = done(job_record(state=before), action, lock, NOW)
    if before is not JobState.OFFERED:
        assert found.state is under_way
    assert found.locked is (action in (ActionKind.SUBMIT, ActionKind.SUBMIT_CLAIMED))
    assert found.claimed is (action is ActionKind.CLAIM)


def test_submission_cannot_lock_when_the_job_needs_no_collateral() -> None:
    assert not done(job_record(state=JobState.SUBMITTING), ActionKind.SUBMIT, 0, NOW).locked


def test_claim_can_be_recognised_only_with_our_stake() -> None:
    job = claimed(JobState.CLAIMING)
    ours = on_view(job, view(EntryStatus.CLAIMED), STAKE, NOW, 30)
    assert (ours.state, ours.deadline) == (JobState.CLAIMED, NOW + 100)
    unsent = replace(job, claimed=False)
    assert on_view(unsent, view(EntryStatus.CLAIMED), STAKE, NOW, 30) == unsent
    for other in (view(EntryStatus.CLAIMED, worker=5), view(EntryStatus.OPEN), None):
        assert on_view(job, other, STAKE, NOW, 30) == job


def test_submission_can_be_recognised_when_it_arrived() -> None:
    job = locked(JobState.SUBMITTING)
    for other in (view(EntryStatus.CLAIMED, deadline=NOW), view(EntryStatus.SUBMITTED, worker=5), None):
        assert on_view(job, other, STAKE, NOW + 31, 30) == job
    submitted = on_view(job, view(EntryStatus.SUBMITTED), STAKE, NOW, 30)
    assert (submitted.state, submitted.deadline) == (JobState.SUBMITTED, NOW + 100)


def test_job_cannot_be_taken_for_lost_when_its_deadline_has_not_passed() -> None:
    job = job_record(state=JobState.READY, deadline=NOW)
    assert on_view(job, None, STAKE, NOW + 30, 30) == job
    assert on_view(job, None, STAKE, NOW + 31, 30).state is JobState.LOST


def test_pause_can_grow_only_to_its_bound() -> None:
    job = job_record()
    pauses = []
    for _ in range(40):
        job = retry_later(job, NOW, "x")
        pauses.append(job.not_before - NOW)
    assert pauses[:4] == [1, 2, 4, 8]
    assert max(pauses) == MAX_PAUSE_S


EVENTS = st.one_of(
    st.tuples(st.sampled_from(OutcomeKind), st.sampled_from([None, 0, 3, 4]), st.integers(0, 200)),
    st.sampled_from(sorted(set(ActionKind) - SESSION_ACTIONS)),
    st.sampled_from(["dispute", "expiry", "gone from the escrow"]),
)


@given(st.sampled_from(JobState), st.booleans(), st.booleans(), st.lists(EVENTS, max_size=12))
def test_no_sequence_of_events_can_leave_the_table_or_lose_money(
    state: JobState, has_lock: bool, has_bond: bool, events: list[object]
) -> None:
    job = job_record(
        state=state,
        claimed=has_bond,
        bond=Nano(40 if has_bond else 0),
        lock=3 if has_lock else 0,
        collateral=Nano(100),
        slashed=Nano(40 if has_bond and state is JobState.SLASHED else 0),
    )
    rewards = 0
    for event in events:
        before = job
        if isinstance(event, tuple):
            kind, lock, amount = event
            rewards += amount if kind is OutcomeKind.REWARD else 0
            job = on_outcome(job, outcome(kind, amount, lock=lock), NOW)
        elif isinstance(event, ActionKind):
            if event is ActionKind.ANNOUNCE:
                continue
            job = undone(job, event, NOW, "x")
        elif event == "gone from the escrow":
            job = on_view(job, None, STAKE, NOW + 10**6, 30)
        elif event == "expiry":
            job = on_expiry(job, NOW) if job.locked else job
        else:
            job = on_dispute(job, NOW)
        assert job.state is before.state or job.state in JOB_TRANSITIONS[before.state]
        assert job.paid == rewards
        assert 0 <= job.slashed <= job.collateral + 40
        assert not (job.locked and not before.locked)
        assert replace(before, updated_at=job.updated_at).key == job.key
