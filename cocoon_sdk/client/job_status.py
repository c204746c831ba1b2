"""`JobStatus`: where a job stands, for people and programs.

Owns the words for each state. Must not know how it was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.history import AcceptSignedAction, JobEvent, JobEventKind
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.types import Hash, Nano

RUNNING: Final = frozenset({JobState.OPEN, JobState.OFFERED, JobState.OFFERED_AT_ONCE, JobState.CLAIMED})
"""Nothing was submitted yet."""
UNPAID_ENDS: Final = frozenset({JobState.REFUNDED, JobState.PENALISED, JobState.SLASHED})


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands. `deadline` is the unix time in seconds at which the state's period ends.

    `late` tells whether it has passed; `next_step` says in words what can be done now. `amount` (nanoTON) and
    `result_hash` are known from the submission on.
    """

    job_id: int
    state: JobState
    deadline: int | None
    late: bool
    next_step: str
    worker: Address | None
    amount: Nano | None
    result_hash: Hash | None


NEXT_STEP: Final = {
    (JobState.OPEN, False): "wait for a worker, or cancel()",
    (JobState.OPEN, True): "nobody claimed it: cancel()",
    (JobState.OFFERED, False): "wait for the worker until the deadline",
    (JobState.OFFERED, True): "the worker did not answer: cancel()",
    (JobState.CLAIMED, False): "wait for the worker until the deadline",
    (JobState.CLAIMED, True): "the worker is late: reclaim() returns the money and takes its bond",
    (JobState.SUBMITTED, False): "accept() or dispute() before the deadline",
    (JobState.SUBMITTED, True): "the window is over: anybody may finalise, accept() still works",
    (JobState.DISPUTED, False): "the arbiters decide until the deadline",
    (JobState.DISPUTED, True): "arbitration timed out: anybody may finalise, the worker is paid",
}

ADVICE: Final = {
    JobState.OPEN: "Call cancel() to take the money back",
    JobState.OFFERED: "Call cancel() to take the money back",
    JobState.OFFERED_AT_ONCE: "Call cancel() to take the money back",
    JobState.CLAIMED: "Call reclaim() to take the money back, and a part of the worker's bond",
}


def committed_hash(events: tuple[JobEvent, ...]) -> Hash | None:
    """Return the hash that the worker committed to, by submission or by signature."""
    for event in reversed(events):
        if isinstance(event.action, AcceptSignedAction):
            return event.action.result_hash
        content = None if event.message is None else event.message.content
        taken = event.kind in (JobEventKind.SUBMITTED, JobEventKind.PAID_AT_ONCE)
        if taken and isinstance(content, m.Submit | m.SubmitClaimed):
            return Hash(content.result_hash.to_bytes(32, "big"))
    return None
