"""States of jobs and of signed externals, with the tables of their transitions.

Owns the tables and nothing else: no storage, no chain; a test walks them. The contracts' own job states
(OPEN, CLAIMED, ...) are the escrow's (`cocoon_sdk.protocol.job_states`); these are the worker's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from cocoon_worker.errors import IllegalTransitionError


class JobState(StrEnum):
    """Where a job stands for this worker."""

    OFFERED = "offered"
    """A notice was seen; not judged yet."""
    REFUSED = "refused"
    """Declined with a reason, before anything was locked. Final."""
    QUEUED = "queued"
    """Accepted without a claim; waits for the engine."""
    CLAIMING = "claiming"
    """A claim is planned or under way; nothing is locked for it."""
    CLAIMED = "claimed"
    """The escrow holds our claim; waits for the engine."""
    RUNNING = "running"
    """The engine works on it. After a crash it runs again: nothing has been signed or sent."""
    READY = "ready"
    """The one result of the job is in the journal, signed; the client may fetch it."""
    SUBMITTING = "submitting"
    """A submission is planned or under way."""
    SUBMITTED = "submitted"
    """The escrow holds the submission; the window runs."""
    FINALIZING = "finalizing"
    """The window is over and the escrow was asked to pay."""
    DISPUTED = "disputed"
    """The client disputes; arbiters decide, or time does."""
    ABANDONED = "abandoned"
    """Given up while the escrow holds our bond, or the stake a lock; the escrow's outcome ends it."""
    LOST = "lost"
    """The escrow does not hold the job for us any more, nothing was earned. Only money may still come."""
    FAILED = "failed"
    """Given up with nothing locked and no bond. Final."""
    PAID = "paid"
    """The reward came. Final."""
    RELEASED = "released"
    """The lock was freed without a reward (a verdict, or its age). Final."""
    SLASHED = "slashed"
    """The lock, a part of it, or the bond of a late claim was taken. Final."""


_OUTCOMES: Final = frozenset({JobState.PAID, JobState.SLASHED, JobState.RELEASED})

JOB_TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.OFFERED: frozenset({JobState.REFUSED, JobState.QUEUED, JobState.CLAIMING, JobState.LOST}),
    JobState.REFUSED: frozenset(),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.LOST}),
    # Back to OFFERED when the stake skipped the claim or its external expired: it is judged anew.
    JobState.CLAIMING: frozenset({JobState.CLAIMED, JobState.OFFERED, JobState.LOST, *_OUTCOMES}),
    JobState.CLAIMED: frozenset({JobState.RUNNING, JobState.ABANDONED, JobState.LOST, *_OUTCOMES}),
    JobState.RUNNING: frozenset(
        {JobState.READY, JobState.FAILED, JobState.ABANDONED, JobState.LOST, *_OUTCOMES}
    ),
    # Paid from here: the client took the signed result (cooperative end).
    JobState.READY: frozenset(
        {JobState.SUBMITTING, JobState.FAILED, JobState.ABANDONED, JobState.LOST, *_OUTCOMES}
    ),
    # Back to READY when the submission was skipped or its external expired. Paid at once with window 0.
    JobState.SUBMITTING: frozenset(
        {
            JobState.SUBMITTED,
            JobState.DISPUTED,
            JobState.READY,
            JobState.ABANDONED,
            JobState.LOST,
            *_OUTCOMES,
        }
    ),
    JobState.SUBMITTED: frozenset({JobState.FINALIZING, JobState.DISPUTED, *_OUTCOMES}),
    JobState.FINALIZING: frozenset({JobState.SUBMITTED, JobState.DISPUTED, *_OUTCOMES}),
    # Finalised from here when the arbiters stayed silent.
    JobState.DISPUTED: frozenset({JobState.FINALIZING, *_OUTCOMES}),
    JobState.ABANDONED: frozenset({JobState.LOST, *_OUTCOMES}),
    JobState.LOST: _OUTCOMES,
    JobState.FAILED: frozenset(),
    # A verdict may pay a part and slash: the slash follows the reward.
    JobState.PAID: frozenset({JobState.SLASHED}),
    JobState.RELEASED: frozenset(),
    # A client may accept the signed result of a late claim when its bond was believed lost.
    JobState.SLASHED: frozenset({JobState.PAID}),
}

OVER: Final = frozenset({JobState.REFUSED, JobState.LOST, JobState.FAILED, *_OUTCOMES})
"""States in which the worker has nothing left to do for a job."""

BUSY: Final = frozenset(
    {
        JobState.QUEUED,
        JobState.CLAIMING,
        JobState.CLAIMED,
        JobState.RUNNING,
        JobState.READY,
        JobState.SUBMITTING,
    }
)
"""States that count against the maximum of concurrent jobs: work, or its delivery, is still owed."""


class ExternalState(StrEnum):
    """Where a signed external of the outbox stands."""

    PENDING = "pending"
    """In the journal; sent, or about to be."""
    CONFIRMED = "confirmed"
    """The stake's history shows it."""
    EXPIRED = "expired"
    """Its time passed without a trace; its actions were planned anew."""
    VOID = "void"
    """Another external took its seqno: it can never be accepted."""


EXTERNAL_TRANSITIONS: Final[Mapping[ExternalState, frozenset[ExternalState]]] = {
    ExternalState.PENDING: frozenset({ExternalState.CONFIRMED, ExternalState.EXPIRED, ExternalState.VOID}),
    ExternalState.CONFIRMED: frozenset(),
    # An endpoint that lagged can show it later: then it did happen.
    ExternalState.EXPIRED: frozenset({ExternalState.CONFIRMED, ExternalState.VOID}),
    ExternalState.VOID: frozenset(),
}


class ActionKind(StrEnum):
    """What one action of an external asks of the stake."""

    CLAIM = "claim"
    SUBMIT = "submit"
    SUBMIT_CLAIMED = "submit-claimed"
    FINALIZE = "finalize"
    ANNOUNCE = "announce"
    REDEEM = "redeem"
    ACCEPT_SESSION = "accept-session"


SESSION_ACTIONS: Final = frozenset({ActionKind.REDEEM, ActionKind.ACCEPT_SESSION})
"""Actions whose key names a session of its escrow; jobs and sessions share one counter there."""

_S = TypeVar("_S", JobState, ExternalState)


def check_transition(table: Mapping[_S, frozenset[_S]], old: _S, new: _S) -> None:
    """Raise `IllegalTransitionError` unless `old` -> `new` stands in the table; staying is allowed."""
    if new != old and new not in table[old]:
        raise IllegalTransitionError(
            f"a {'job' if isinstance(old, JobState) else 'message'} cannot go from {old} to {new}",
            why="the table of transitions does not know that step",
            hint="This is a bug: report it with the worker's log",
        )
