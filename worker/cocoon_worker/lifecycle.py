"""What each event, and each look at the escrow, does to a job.

Owns the steps between states as pure functions from a job to a job. Must not read anything. Money that comes
is always noted, whatever state the job is in; collateral is noted as free only when the stake freed it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.job_states import EntryStatus
from cocoon_sdk.types import Nano
from cocoon_worker.events import JobOutcome, OutcomeKind
from cocoon_worker.records import JobRecord
from cocoon_worker.states import JOB_TRANSITIONS, OVER, ActionKind, JobState

MAX_PAUSE_S: Final = 60

_BEFORE: Final = {
    ActionKind.CLAIM: (JobState.CLAIMING, JobState.OFFERED),
    ActionKind.SUBMIT: (JobState.SUBMITTING, JobState.READY),
    ActionKind.SUBMIT_CLAIMED: (JobState.SUBMITTING, JobState.READY),
    ActionKind.FINALIZE: (JobState.FINALIZING, JobState.SUBMITTED),
}
"""Where a job stands while an action is under way, and where it returns to if that came to nothing."""
_WITH_BOND: Final = frozenset({OutcomeKind.REWARD, OutcomeKind.RELEASE, OutcomeKind.SLASH})
"""What brings the bond of a claim back."""


UNSERVED: Final = (
    JobState.QUEUED,
    JobState.CLAIMED,
    JobState.RUNNING,
    JobState.READY,
    JobState.ABANDONED,
)
"""States in which a client may take the job back when its deadline has passed."""


def move(job: JobRecord, state: JobState, now: int, reason: str = "") -> JobRecord:
    """Return the job in another state if the table allows it, else as it is: what is over stays over."""
    if state == job.state or state not in JOB_TRANSITIONS[job.state]:
        return job
    return replace(job, state=state, updated_at=now, tries=0, not_before=0, reason=reason or job.reason)


def give_up(job: JobRecord, now: int, reason: str) -> JobRecord:
    """Stop working on a job: with something at stake its outcome is awaited, else it has failed."""
    return move(job, JobState.ABANDONED if job.at_stake else JobState.FAILED, now, reason)


def lose(job: JobRecord, now: int, reason: str) -> JobRecord:
    """Note that nothing more can be earned: with something at stake its outcome is awaited.

    A client that fetched the signed result may still accept it.
    """
    return move(job, JobState.ABANDONED if job.at_stake else JobState.LOST, now, reason)


def retry_later(job: JobRecord, now: int, reason: str) -> JobRecord:
    """Note a failed attempt; the pause doubles from one second to `MAX_PAUSE_S`."""
    pause = min(MAX_PAUSE_S, 1 << min(job.tries, 16))
    return replace(job, tries=job.tries + 1, not_before=now + pause, updated_at=now, reason=reason)


def on_outcome(job: JobRecord, outcome: JobOutcome, now: int) -> JobRecord:
    """Return the job after a message of its escrow."""
    if outcome.kind is OutcomeKind.NOT_FINALIZED:
        # Nothing was lost but gas; the escrow is looked at again before the next try.
        return undone(job, ActionKind.FINALIZE, now, "the escrow refused to finalise")
    if outcome.kind is OutcomeKind.CLAIM_BOUNCED:
        if job.state is not JobState.CLAIMING:
            return job
        job = replace(job, bond=Nano(0), updated_at=now)
        return lose(job, now, "our claim came back: another one was faster, or the job had ended")
    freed = job.locked and outcome.lock in (job.lock, None)
    if freed:
        job = replace(job, lock=0, updated_at=now)
    if outcome.kind in _WITH_BOND:
        # A client may accept a signed result after its bond was noted as lost.
        regained = job.bond if job.state is JobState.SLASHED else Nano(0)
        job = replace(job, bond=Nano(0), slashed=job.slashed - regained, updated_at=now)
    match outcome.kind:
        case OutcomeKind.REWARD:
            job = replace(job, paid=job.paid + outcome.amount, fee=job.fee + outcome.fee, updated_at=now)
            # A verdict that pays a part and slashes sends the reward first, without the lock.
            awaits_slash = job.state is JobState.DISPUTED and job.locked
            return job if awaits_slash else move(job, JobState.PAID, now)
        case OutcomeKind.SLASH if freed:
            slashed = job.slashed + min(outcome.amount, job.collateral)
            return move(replace(job, slashed=Nano(slashed)), JobState.SLASHED, now)
        case OutcomeKind.RELEASE if freed:
            return move(job, JobState.RELEASED, now)
        case OutcomeKind.GONE | OutcomeKind.BOUNCED if freed or not outcome.lock:
            return lose(job, now, "the escrow does not hold it for us any more")
    return job


def on_expiry(job: JobRecord, now: int) -> JobRecord:
    """Return a locked job after its lock expired."""
    return move(replace(job, lock=0, updated_at=now), JobState.RELEASED, now, "its lock expired")


def on_dispute(job: JobRecord, now: int) -> JobRecord:
    """Return the job after the client disputed its result."""
    return move(job, JobState.DISPUTED, now)


def done(job: JobRecord, action: ActionKind, lock: int, now: int) -> JobRecord:
    """Return the job after the stake carried out an action for it. `lock`: where it locked collateral."""
    state, before = _BEFORE[action]
    if job.state is before:
        # The external had been given up as expired, and shows up after all.
        job = move(job, state, now)
    if action is ActionKind.CLAIM:
        job = replace(job, claimed=True)
    elif lock:
        job = replace(job, lock=lock)
    return replace(job, tries=0, not_before=0, updated_at=now)


def undone(job: JobRecord, action: ActionKind, now: int, reason: str) -> JobRecord:
    """Return the job after an action for it was skipped, or its external can never be accepted."""
    state, before = _BEFORE[action]
    if job.state is not state:
        return job
    tries = job.tries
    return retry_later(replace(move(job, before, now), tries=tries), now, reason)


def on_view(job: JobRecord, view: m.Job | None, stake: int, now: int, margin_s: int) -> JobRecord:
    """Return the job after a look at its entry; `now` is what the chain has surely reached.

    The entry changes before the message that tells us arrives, so a missing entry is given `margin_s`.
    """
    if view is not None and view.worker == stake and view.status == EntryStatus.DISPUTED:
        return replace(move(job, JobState.DISPUTED, now), deadline=_arbitration_end(view))
    match job.state:
        case JobState.CLAIMING if job.claimed:
            # One that came too late bounces: that ends it.
            if view is not None and view.worker == stake and view.status == EntryStatus.CLAIMED:
                return replace(move(job, JobState.CLAIMED, now), deadline=view.deadline)
        case JobState.SUBMITTING:
            if view is not None and view.worker == stake and view.status == EntryStatus.SUBMITTED:
                return replace(move(job, JobState.SUBMITTED, now), deadline=view.deadline)
        case _ if job.state in UNSERVED and not job.locked:
            if view is None and now > job.deadline + margin_s:
                return _taken_back(job, now)
    return job


def _taken_back(job: JobRecord, now: int) -> JobRecord:
    """Return the job after its entry vanished without a reward: what a claim left there is lost."""
    if not job.bonded:
        return move(job, JobState.LOST, now, "the client took the job back")
    job = replace(job, slashed=job.slashed + job.bond)
    return move(job, JobState.SLASHED, now, "the client took the job back: the bond of our claim is lost")


def is_over(job: JobRecord) -> bool:
    """Tell whether nothing is left to do or to wait for."""
    return job.state in OVER and not job.locked


def _arbitration_end(view: m.Job) -> int:
    rules = m.ParamsRules.from_cell(m.Params.from_cell(view.params).rules)
    return view.deadline + rules.evidence_deadline + rules.arbitration_timeout
