"""What can happen next to a job: which deadline counts, and who can do what then.

Owns the rules of docs/protocol.md 3 seen from the outside. Must not read a chain. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cocoon_sdk.explain.job_facts import CanDo, JobStatus

ANYONE = "anyone"
CLIENT = "the client"
WORKER = "the worker"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the rules look at: `deadline` as the escrow keeps it (for a dispute: when it began)."""

    job: str
    status: JobStatus
    directed: bool
    window_s: int
    deadline: int
    evidence_s: int
    arbitration_s: int


def next_steps(s: Standing, now: int) -> tuple[CanDo, ...]:
    """Return who can do what at the chain's time `now`, the most pressing first; what is over is left out."""
    steps = _RULES[s.status](s)
    return tuple(step for step in steps if step.until is None or step.until >= now)


def _open(s: Standing) -> Iterator[CanDo]:
    who = WORKER if s.directed else "any worker"
    if s.directed:
        paid = "paid at once" if not s.window_s else "which starts the dispute window"
        yield CanDo(who=who, what=f"submit the result, {paid}", until=s.deadline)
    if s.window_s:
        yield CanDo(who=who, what="claim the job with a bond, the late penalty", until=s.deadline)
    if s.directed:
        accept = "accept a result that the worker signed and hands over directly"
        yield CanDo(who=CLIENT, what=accept)
    yield CanDo(
        who=CLIENT,
        what="cancel it: all that is set aside is free again",
        since=s.deadline + 1 if s.directed else None,
        command=f"cocoon job cancel {s.job}",
    )


def _claimed(s: Standing) -> Iterator[CanDo]:
    yield CanDo(who=WORKER, what="submit the result", until=s.deadline)
    yield CanDo(who=CLIENT, what="accept a result that the worker signed and hands over directly")
    yield CanDo(
        who=ANYONE,
        what="take the job back from the late worker: the client's money is free again, "
        "the worker loses its bond",
        since=s.deadline + 1,
        command=f"cocoon job cancel {s.job}",
    )


def _submitted(s: Standing) -> Iterator[CanDo]:
    yield CanDo(
        who=CLIENT, what="dispute the result", until=s.deadline - 1, command=f"cocoon job dispute {s.job}"
    )
    yield CanDo(
        who=CLIENT, what="accept the result, which pays at once", command=f"cocoon job accept {s.job}"
    )
    yield CanDo(
        who=ANYONE,
        what="finalise: the worker is paid as submitted (its own software does so)",
        since=s.deadline,
    )


def _disputed(s: Standing) -> Iterator[CanDo]:
    evidence_end = s.deadline + s.evidence_s
    end = evidence_end + s.arbitration_s
    yield CanDo(
        who="client and worker",
        what="open payload and result to the arbiters; whoever owes an opening and does not give it loses",
        until=evidence_end,
    )
    yield CanDo(who="the arbiters", what="decide how much is paid and slashed", until=end - 1)
    yield CanDo(
        who=ANYONE,
        what="finalise without a verdict: the worker is paid in full and the client's bond is free again",
        since=end,
    )


def _nothing(_: Standing) -> Iterator[CanDo]:
    return iter(())


_RULES = {
    JobStatus.OPEN: _open,
    JobStatus.CLAIMED: _claimed,
    JobStatus.SUBMITTED: _submitted,
    JobStatus.DISPUTED: _disputed,
    JobStatus.ENDED: _nothing,
    JobStatus.UNKNOWN: _nothing,
}
