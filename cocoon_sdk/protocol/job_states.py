"""The life of a job as types: states, actions, transitions, refusals (docs/protocol.md, section 3).

Owns the table that clients, workers and documents go by; tests/contracts/test_state_table.py walks it
against the compiled contracts. Must not know how actions are signed or sent.
`python -m cocoon_sdk.protocol.job_states` prints it as Markdown.

Time counts by the state's own deadline: the claim period in OPEN and OFFERED, the work period in CLAIMED, the
challenge window in SUBMITTED, evidence and arbitration together in DISPUTED.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.messages import Job, Params, ParamsRules


class EntryStatus(IntEnum):
    """What the field `status` of an escrow's entry says."""

    OPEN = 0
    CLAIMED = 1
    SUBMITTED = 2
    DISPUTED = 3


class JobState(StrEnum):
    """Where a job stands. The last four have no entry any more: history tells which one it was."""

    NONE = "none"
    OPEN = "open"
    """For any worker; nobody has claimed it."""
    OFFERED = "offered"
    """For one worker, who has not answered on chain."""
    OFFERED_AT_ONCE = "offered, paid at once"
    """The same with window 0: its submission is paid without a chance to dispute."""
    CLAIMED = "claimed"
    SUBMITTED = "submitted"
    DISPUTED = "disputed"
    PAID = "paid"
    REFUNDED = "refunded"
    PENALISED = "reclaimed, late worker penalised"
    SLASHED = "worker slashed by verdict"

    @property
    def has_ended(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self in _ENDED


_ENDED: Final = frozenset({JobState.PAID, JobState.REFUNDED, JobState.PENALISED, JobState.SLASHED})


class Timing(StrEnum):
    """On which side of the state's deadline."""

    IN_TIME = "in time"
    LATE = "late"


class Actor(StrEnum):
    """Who acts."""

    CLIENT = "client's hot key"
    OWNER = "client's owner"
    WORKER = "worker"
    """The one that the entry names; in OPEN every genuine worker is as good as another."""
    STRANGER = "another worker"
    ANYONE = "anyone"


class JobAction(StrEnum):
    """What is asked of the escrow."""

    OPEN_ANY = "OpenJob for any worker"
    OPEN_DIRECTED = "OpenJob for one worker"
    OPEN_AT_ONCE = "OpenJob for one worker, window 0"
    CLAIM = "Claim"
    CLAIM_FOREIGN = "Claim by another worker"
    SUBMIT = "Submit"
    SUBMIT_FOREIGN = "Submit by another worker"
    SUBMIT_CLAIMED = "SubmitClaimed"
    ACCEPT = "AcceptResult"
    ACCEPT_SIGNED = "AcceptSigned"
    DISPUTE = "DisputeResult"
    CANCEL = "CancelJob"
    OWNER_CANCEL = "CancelJob by the owner"
    RECLAIM = "ReclaimLate"
    ANYONE_RECLAIM = "ReclaimLate by anyone"
    FINALIZE = "Finalize"
    RESOLVE_PAY = "Resolve, worker paid"
    RESOLVE_REFUND = "Resolve, worker not paid"
    RESOLVE_SLASH = "Resolve with slash"

    @property
    def actor(self) -> Actor:
        """Who does this."""
        return _ACTORS.get(self, Actor.ANYONE)


_ACTORS: Final = {
    JobAction.OPEN_ANY: Actor.CLIENT,
    JobAction.OPEN_DIRECTED: Actor.CLIENT,
    JobAction.OPEN_AT_ONCE: Actor.CLIENT,
    JobAction.CLAIM: Actor.WORKER,
    JobAction.CLAIM_FOREIGN: Actor.STRANGER,
    JobAction.SUBMIT: Actor.WORKER,
    JobAction.SUBMIT_FOREIGN: Actor.STRANGER,
    JobAction.SUBMIT_CLAIMED: Actor.WORKER,
    JobAction.ACCEPT: Actor.CLIENT,
    JobAction.ACCEPT_SIGNED: Actor.CLIENT,
    JobAction.DISPUTE: Actor.CLIENT,
    JobAction.CANCEL: Actor.CLIENT,
    JobAction.OWNER_CANCEL: Actor.OWNER,
    JobAction.RECLAIM: Actor.CLIENT,
}


class Answer(StrEnum):
    """How a refusal shows."""

    REFUSED = "refused"
    """The signed external is not accepted (alone in it) or skipped (with others), with the exit code."""
    THROWN = "thrown"
    """The internal message fails with the exit code; its value bounces."""
    GONE = "Gone"
    """The worker gets `Gone`, which frees what this very message had locked."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A step that works: from `state` in `timing` by `action` to `to`; `sends` names the messages."""

    state: JobState
    action: JobAction
    timing: frozenset[Timing]
    to: JobState
    sends: tuple[str, ...]
    money: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A step that does not work, and how that shows."""

    answer: Answer
    code: ExitCode | None = None


_S, _A, _T = JobState, JobAction, Timing
IN_TIME: Final = frozenset({_T.IN_TIME})
LATE: Final = frozenset({_T.LATE})
ANY_TIME: Final = frozenset(_T)
_RESERVE = "price, bond and gas are set aside"
_PAY = "worker gets the amount and its gas; bond and rest are free again"
_FREE = "all that was set aside is free again"
_AT_ONCE = "worker gets the amount; rest is free again"
_BOND = "worker's bond and gas are set aside"
_LOCKED = "worker's collateral is locked"
_PENALTY = f"{_FREE}, and the client's part of the worker's bond; the rest of it is burned"

TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition(_S.NONE, _A.OPEN_ANY, ANY_TIME, _S.OPEN, ("JobNotice",), _RESERVE),
    Transition(_S.NONE, _A.OPEN_DIRECTED, ANY_TIME, _S.OFFERED, ("JobOffer",), _RESERVE),
    Transition(
        _S.NONE, _A.OPEN_AT_ONCE, ANY_TIME, _S.OFFERED_AT_ONCE, ("JobOffer",), "price and gas are set aside"
    ),
    Transition(_S.OPEN, _A.CLAIM, IN_TIME, _S.CLAIMED, (), _BOND),
    Transition(
        _S.OPEN, _A.CLAIM_FOREIGN, IN_TIME, _S.CLAIMED, (), f"{_BOND}: whoever claims first is the worker"
    ),
    Transition(_S.OFFERED, _A.CLAIM, IN_TIME, _S.CLAIMED, (), _BOND),
    Transition(_S.OFFERED, _A.SUBMIT, IN_TIME, _S.SUBMITTED, (), _LOCKED),
    Transition(
        _S.OFFERED_AT_ONCE,
        _A.SUBMIT,
        IN_TIME,
        _S.PAID,
        ("Reward",),
        "worker gets the amount; rest is free again",
    ),
    Transition(_S.CLAIMED, _A.SUBMIT_CLAIMED, IN_TIME, _S.SUBMITTED, (), _LOCKED),
    Transition(_S.OPEN, _A.CANCEL, ANY_TIME, _S.REFUNDED, (), _FREE),
    Transition(_S.OPEN, _A.OWNER_CANCEL, ANY_TIME, _S.REFUNDED, (), _FREE),
    Transition(_S.OFFERED, _A.CANCEL, LATE, _S.REFUNDED, (), _FREE),
    Transition(_S.OFFERED, _A.OWNER_CANCEL, LATE, _S.REFUNDED, (), _FREE),
    Transition(_S.OFFERED_AT_ONCE, _A.CANCEL, LATE, _S.REFUNDED, (), _FREE),
    Transition(_S.OFFERED_AT_ONCE, _A.OWNER_CANCEL, LATE, _S.REFUNDED, (), _FREE),
    Transition(_S.OFFERED, _A.ACCEPT_SIGNED, ANY_TIME, _S.PAID, ("Reward",), _PAY),
    Transition(_S.OFFERED_AT_ONCE, _A.ACCEPT_SIGNED, ANY_TIME, _S.PAID, ("Reward",), _PAY),
    Transition(_S.CLAIMED, _A.ACCEPT_SIGNED, ANY_TIME, _S.PAID, ("Reward",), _PAY),
    Transition(_S.CLAIMED, _A.RECLAIM, LATE, _S.PENALISED, (), _PENALTY),
    Transition(_S.CLAIMED, _A.ANYONE_RECLAIM, LATE, _S.PENALISED, (), _PENALTY),
    Transition(_S.SUBMITTED, _A.ACCEPT, ANY_TIME, _S.PAID, ("Reward",), _PAY),
    Transition(_S.SUBMITTED, _A.FINALIZE, LATE, _S.PAID, ("Reward",), _PAY),
    Transition(
        _S.SUBMITTED,
        _A.DISPUTE,
        IN_TIME,
        _S.DISPUTED,
        ("Disputed", "DisputeNotice"),
        "the announcement is paid; price and bond stay set aside",
    ),
    Transition(
        _S.DISPUTED,
        _A.RESOLVE_PAY,
        IN_TIME,
        _S.PAID,
        ("Reward",),
        "arbiters share their fee out of the bond; worker gets what the verdict says",
    ),
    Transition(
        _S.DISPUTED,
        _A.RESOLVE_REFUND,
        IN_TIME,
        _S.REFUNDED,
        ("Release",),
        "arbiters share their fee out of the bond; price is free again, collateral unlocked",
    ),
    Transition(
        _S.DISPUTED,
        _A.RESOLVE_SLASH,
        IN_TIME,
        _S.SLASHED,
        ("Slash",),
        "arbiters' fee and compensation come out of the slash, what else it takes is burned",
    ),
    Transition(_S.DISPUTED, _A.FINALIZE, LATE, _S.PAID, ("Reward",), _PAY),
)
"""Everything that works. What stands here for a state in both timings works at any time."""


def transition(state: JobState, action: JobAction, timing: Timing) -> Transition | None:
    """Return the transition, or None when the action is refused."""
    for entry in TRANSITIONS:
        if entry.state is state and entry.action is action and timing in entry.timing:
            return entry
    return None


_CLAIMS: Final = frozenset({_A.CLAIM, _A.CLAIM_FOREIGN})
_SUBMISSIONS: Final = frozenset({_A.SUBMIT, _A.SUBMIT_FOREIGN, _A.SUBMIT_CLAIMED})
_OPENINGS: Final = frozenset({_A.OPEN_ANY, _A.OPEN_DIRECTED, _A.OPEN_AT_ONCE})
_RESOLUTIONS: Final = frozenset({_A.RESOLVE_PAY, _A.RESOLVE_REFUND, _A.RESOLVE_SLASH})
_WITH_ENTRY: Final = frozenset(_S) - _ENDED - {_S.NONE}
_TOO_EARLY: Final = frozenset(
    {
        (_S.OFFERED, _A.CANCEL),
        (_S.OFFERED, _A.OWNER_CANCEL),
        (_S.OFFERED_AT_ONCE, _A.CANCEL),
        (_S.OFFERED_AT_ONCE, _A.OWNER_CANCEL),
        (_S.CLAIMED, _A.RECLAIM),
        (_S.CLAIMED, _A.ANYONE_RECLAIM),
        (_S.SUBMITTED, _A.FINALIZE),
        (_S.DISPUTED, _A.FINALIZE),
    }
)
_TOO_LATE: Final = frozenset(
    {(_S.SUBMITTED, _A.DISPUTE), *((_S.DISPUTED, resolution) for resolution in _RESOLUTIONS)}
)


def refusal(state: JobState, action: JobAction, timing: Timing) -> Refusal | None:
    """Return how the escrow refuses an action on a job in `state`; None when it does not."""
    if transition(state, action, timing) is not None:
        return None
    if action in _OPENINGS:
        return Refusal(Answer.REFUSED, ExitCode.UNEXPECTED_ID)  # ids never come back
    if action in _SUBMISSIONS:
        return Refusal(Answer.GONE)
    if action in _CLAIMS:
        return Refusal(Answer.THROWN, _why_no_claim(state, timing))
    answer = Answer.REFUSED if action.actor is Actor.CLIENT else Answer.THROWN
    if state not in _WITH_ENTRY:
        return Refusal(answer, ExitCode.NO_JOB)
    if state is _S.OPEN and action is _A.ACCEPT_SIGNED:
        return Refusal(answer, ExitCode.WEAK_KEY)  # nobody is named who could sign
    if (state, action) in _TOO_EARLY:
        return Refusal(answer, ExitCode.TOO_EARLY)
    if (state, action) in _TOO_LATE:
        return Refusal(answer, ExitCode.TOO_LATE)
    return Refusal(answer, ExitCode.WRONG_STATE)


def _why_no_claim(state: JobState, timing: Timing) -> ExitCode:
    """Return why a claim bounces."""
    if state not in _WITH_ENTRY:
        return ExitCode.NO_JOB
    if state not in (_S.OPEN, _S.OFFERED, _S.OFFERED_AT_ONCE):
        return ExitCode.TAKEN
    # Window 0, or a job for another worker, when it comes in time.
    return ExitCode.UNFIT_CLAIM if timing is _T.IN_TIME else ExitCode.TOO_LATE


def state_of(job: Job) -> JobState:
    """Return the state of an escrow's entry. Raises `ValueError` for a status that this version lacks."""
    status = EntryStatus(job.status)
    if status is not EntryStatus.OPEN:
        return {
            EntryStatus.CLAIMED: _S.CLAIMED,
            EntryStatus.SUBMITTED: _S.SUBMITTED,
            EntryStatus.DISPUTED: _S.DISPUTED,
        }[status]
    if job.worker == 0:
        return _S.OPEN
    return _S.OFFERED if job.window else _S.OFFERED_AT_ONCE


def deadline_of(job: Job) -> int:
    """Return the unix time in seconds of the state's deadline, in DISPUTED the end of arbitration."""
    if EntryStatus(job.status) is not EntryStatus.DISPUTED:
        return job.deadline
    rules = ParamsRules.from_cell(Params.from_cell(job.params).rules)
    return job.deadline + rules.evidence_deadline + rules.arbitration_timeout


def timing_of(job: Job, now: int) -> Timing:
    """Tell on which side of its deadline a job stands at unix time `now`.

    The claim and work periods include their last second, window and arbitration do not.
    """
    last = deadline_of(job)
    if EntryStatus(job.status) in (EntryStatus.SUBMITTED, EntryStatus.DISPUTED):
        last -= 1
    return Timing.LATE if now > last else Timing.IN_TIME


def markdown() -> str:
    """Return both tables as Markdown."""
    lines = ["| state | time | who | action | next state | messages | money |", "|" + "---|" * 7]
    lines += [
        f"| {entry.state} | {_times(entry.timing)} | {entry.action.actor} | {entry.action} "
        f"| {entry.to} | {', '.join(entry.sends) or '-'} | {entry.money} |"
        for entry in TRANSITIONS
    ]
    lines += ["", "Everything else is refused:", "", "| state | time | action | answer |", "|" + "---|" * 4]
    for state in _S:
        lines += _refusal_lines(state)
    return "\n".join(lines) + "\n"


def _refusal_lines(state: JobState) -> Iterable[str]:
    grouped: dict[tuple[str, str], list[str]] = {}
    for action in _A:
        found = {timing: refusal(state, action, timing) for timing in _T}
        timing = frozenset(timing for timing, refused in found.items() if refused is not None)
        if timing:
            refused = next(refused for refused in found.values() if refused is not None)
            text = refused.answer if refused.code is None else f"{refused.answer}, {refused.code.name}"
            grouped.setdefault((_times(timing), str(text)), []).append(str(action))
    return [f"| {state} | {when} | {', '.join(names)} | {text} |" for (when, text), names in grouped.items()]


def _times(timing: frozenset[Timing]) -> str:
    return "any" if timing == ANY_TIME else ", ".join(sorted(timing))


if __name__ == "__main__":
    print(markdown(), end="")
