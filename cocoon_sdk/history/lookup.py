"""Finding things in the history of accounts: who sent a message, a job's payload, its results, its life.

Owns walking a `Chain`'s transactions within bounds. Must not know keys, payload contents or policies: what it
finds was accepted by contracts, but data cells are still whatever a stranger put there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.history.actions import (
    AcceptResultAction,
    AcceptSignedAction,
    AccountKind,
    CancelJobAction,
    DisputeResultAction,
    OpenJobAction,
    ReclaimLateAction,
    SignedAction,
    SubmitAction,
)
from cocoon_sdk.history.transactions import (
    ChainMessage,
    DecodedTransaction,
    MessageKind,
)
from cocoon_sdk.history.walking import MAX_SEARCH, HistoryNotFoundError, sending_transaction, walk
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.types import Hash, Nano


class JobEventKind(StrEnum):
    """What a transaction of the escrow did to a job."""

    OPENED = "opened"
    CLAIMED = "claimed"
    SUBMITTED = "submitted"
    PAID_AT_ONCE = "paid at once"
    ACCEPTED = "accepted"
    ACCEPTED_SIGNED = "accepted with signature"
    DISPUTED = "disputed"
    CANCELLED = "cancelled"
    RECLAIMED = "reclaimed"
    FINALIZED = "finalized"
    RESOLVED = "resolved"
    REFUSED = "refused"
    """A claim that the escrow sent back, or a submission that it answered with `Gone`."""
    UNDELIVERED = "undelivered"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One step of a job. `action` is set for steps of the hot key; `paid` is what left for the worker."""

    kind: JobEventKind
    transaction: DecodedTransaction = field(repr=False)
    action: SignedAction | None = field(default=None, repr=False)
    paid: Nano = field(default_factory=lambda: Nano(0))

    @property
    def message(self) -> ChainMessage | None:
        """The message that caused the step."""
        return self.transaction.in_message


@dataclass(frozen=True, slots=True)
class OpenedJob:
    """A job as its client opened it: terms cell (its hash is the job hash) and the payload's data cell."""

    job_id: int
    terms: Cell = field(repr=False)
    data: Cell | None = field(repr=False)
    transaction: DecodedTransaction = field(repr=False)


@dataclass(frozen=True, slots=True)
class SubmittedResult:
    """A submission that reached the escrow: amount in nanoTON, hash on chain, the result's data cell."""

    job_id: int
    worker: Address
    amount: Nano
    result_hash: Hash
    data: Cell | None = field(repr=False)
    escrow_transaction: DecodedTransaction = field(repr=False)
    worker_transaction: DecodedTransaction = field(repr=False)


async def payload_of(
    chain: Chain, escrow: Address, job_id: int, *, notice: ChainMessage | None = None, after_lt: int = 0
) -> OpenedJob:
    """Return how a job was opened: one look-up with its `JobOffer` or `JobNotice` at hand, else a walk.

    Raises `HistoryNotFoundError`, or `MalformedError` when the transaction cannot be read.
    """
    if notice is not None:
        found = opening_in(await sending_transaction(chain, escrow, notice.created_lt), job_id)
    else:
        found = None
        async for transaction in walk(chain, escrow, after_lt=after_lt, limit=MAX_SEARCH):
            found = opening_in(transaction, job_id)
            if found is not None or is_below(transaction, job_id):
                break
    if found is None:
        raise _no_job(escrow, job_id, "no transaction opened it")
    return found


async def result_of(
    chain: Chain,
    escrow: Address,
    job_id: int,
    *,
    result_hash: bytes | None = None,
    after_lt: int = 0,
) -> SubmittedResult:
    """Return the submission that the escrow took for a job (with `result_hash`, exactly that one).

    Raises `HistoryNotFoundError` when there is none, `MalformedError` when the worker's transaction cannot
    be read.
    """
    async for transaction in walk(chain, escrow, after_lt=after_lt, limit=MAX_SEARCH):
        submission = submission_in(transaction, job_id)
        if submission is not None and (
            result_hash is None or submission.result_hash.to_bytes(32, "big") == result_hash
        ):
            return await submitted_by(chain, transaction, submission)
        if opening_in(transaction, job_id) is not None or is_below(transaction, job_id):
            break
    raise _no_job(escrow, job_id, "no submission reached the escrow")


async def job_events(
    chain: Chain, escrow: Address, job_id: int, *, after_lt: int = 0
) -> tuple[JobEvent, ...]:
    """Return everything that happened to a job, oldest first; empty when the escrow never opened it.

    Walks from the newest transaction down to the opening, as far as `walk` goes. Raises what `Chain` raises.
    """
    found: list[JobEvent] = []
    async for transaction in walk(chain, escrow, after_lt=after_lt):
        steps = steps_of(transaction, job_id)
        found += reversed(steps)
        if any(step.kind is JobEventKind.OPENED for step in steps):
            break
    return tuple(found[::-1])


def steps_of(transaction: DecodedTransaction, job_id: int) -> tuple[JobEvent, ...]:
    """Return what one transaction of an escrow did to a job, in order."""
    incoming = transaction.in_message
    if incoming is None:
        return ()
    if not transaction.success:
        refused = isinstance(incoming.content, m.Claim) and incoming.job_id == job_id
        return (JobEvent(JobEventKind.REFUSED, transaction),) if refused else ()
    if incoming.kind is MessageKind.EXTERNAL_IN:
        return tuple(_external_steps(transaction, job_id))
    if incoming.job_id != job_id:
        return ()
    kind = _internal_kind(transaction, incoming, job_id)
    return () if kind is None else (JobEvent(kind, transaction, paid=_paid(transaction, job_id)),)


def state_after(events: Sequence[JobEvent]) -> JobState:
    """Return where a job stands after what happened to it (all of it, oldest first)."""
    state = JobState.NONE
    for event in events:
        if event.kind is JobEventKind.OPENED and isinstance(event.action, OpenJobAction):
            terms = event.action.job_terms()
            directed = JobState.OFFERED if terms.window else JobState.OFFERED_AT_ONCE
            state = JobState.OPEN if terms.worker is None else directed
        elif event.kind is JobEventKind.RESOLVED:
            sent = {type(message.content) for message in event.transaction.out_messages}
            unpaid = JobState.REFUNDED if m.Release in sent else JobState.PAID
            state = JobState.SLASHED if m.Slash in sent else unpaid
        else:
            state = _STATES_AFTER.get(event.kind, state)
    return state


_STATES_AFTER: Final = {
    JobEventKind.CLAIMED: JobState.CLAIMED,
    JobEventKind.SUBMITTED: JobState.SUBMITTED,
    JobEventKind.PAID_AT_ONCE: JobState.PAID,
    JobEventKind.ACCEPTED: JobState.PAID,
    JobEventKind.ACCEPTED_SIGNED: JobState.PAID,
    JobEventKind.DISPUTED: JobState.DISPUTED,
    JobEventKind.CANCELLED: JobState.REFUNDED,
    JobEventKind.RECLAIMED: JobState.PENALISED,
    JobEventKind.FINALIZED: JobState.PAID,
}


def actions_of(
    transaction: DecodedTransaction, kind: AccountKind
) -> tuple[tuple[SignedAction, int | None], ...]:
    """Return the actions of an external with the code that skipped each (None: done); empty for others."""
    if not transaction.success:
        return ()
    try:
        external = transaction.external(kind)
    except MalformedError:
        return ()
    return tuple((action, transaction.skip_code(i)) for i, action in enumerate(external.actions, 1))


_ACTION_KINDS: Final[dict[type, JobEventKind]] = {
    OpenJobAction: JobEventKind.OPENED,
    AcceptResultAction: JobEventKind.ACCEPTED,
    AcceptSignedAction: JobEventKind.ACCEPTED_SIGNED,
    DisputeResultAction: JobEventKind.DISPUTED,
    CancelJobAction: JobEventKind.CANCELLED,
    ReclaimLateAction: JobEventKind.RECLAIMED,
}
_MESSAGE_KINDS: Final[dict[type, JobEventKind]] = {
    m.Finalize: JobEventKind.FINALIZED,
    m.ReclaimLate: JobEventKind.RECLAIMED,
    m.Resolve: JobEventKind.RESOLVED,
    m.Deliver: JobEventKind.DELIVERED,
    m.CancelJob: JobEventKind.CANCELLED,
}
_OUTCOMES: Final = (m.Reward.OPCODE, m.Slash.OPCODE, m.Release.OPCODE)


def _external_steps(transaction: DecodedTransaction, job_id: int) -> list[JobEvent]:
    steps: list[JobEvent] = []
    for action, skipped in actions_of(transaction, AccountKind.ESCROW):
        kind = _ACTION_KINDS.get(type(action))
        if kind is not None and skipped is None and getattr(action, "job_id", None) == job_id:
            paid = _paid(transaction, job_id) if kind in _PAYING else Nano(0)
            steps.append(JobEvent(kind, transaction, action, paid))
    return steps


_PAYING: Final = (JobEventKind.ACCEPTED, JobEventKind.ACCEPTED_SIGNED)


def _internal_kind(
    transaction: DecodedTransaction, incoming: ChainMessage, job_id: int
) -> JobEventKind | None:
    if incoming.bounced:
        return JobEventKind.UNDELIVERED if incoming.op in _OUTCOMES else None
    kind = _MESSAGE_KINDS.get(type(incoming.content))
    if kind is not None:
        return kind
    if not isinstance(incoming.content, m.Claim | m.Submit | m.SubmitClaimed):
        return None
    answers = {type(message.content) for message in transaction.out_messages if message.job_id == job_id}
    if m.Gone in answers:
        return JobEventKind.REFUSED
    if m.Reward in answers:
        return JobEventKind.PAID_AT_ONCE
    if isinstance(incoming.content, m.Claim):
        return JobEventKind.CLAIMED
    return JobEventKind.SUBMITTED


def _paid(transaction: DecodedTransaction, job_id: int) -> Nano:
    rewards = (message.content for message in transaction.out_messages if message.job_id == job_id)
    return Nano(sum(reward.amount for reward in rewards if isinstance(reward, m.Reward)))


def opening_in(transaction: DecodedTransaction, job_id: int) -> OpenedJob | None:
    """Return how a transaction of an escrow opened a job; None when it did not."""
    for step in steps_of(transaction, job_id):
        if isinstance(step.action, OpenJobAction):
            return OpenedJob(job_id, step.action.terms, step.action.data, transaction)
    return None


def is_below(transaction: DecodedTransaction, job_id: int) -> bool:
    """Tell whether a transaction opened an older job: ids count up, so ours is not further down."""
    return any(
        skipped is None and isinstance(action, OpenJobAction) and action.job_id < job_id
        for action, skipped in actions_of(transaction, AccountKind.ESCROW)
    )


def submission_in(transaction: DecodedTransaction, job_id: int) -> m.Submit | m.SubmitClaimed | None:
    """Return the submission for a job that a transaction of an escrow took; None when it did not."""
    taken = (JobEventKind.SUBMITTED, JobEventKind.PAID_AT_ONCE)
    for step in steps_of(transaction, job_id):
        content = None if step.message is None else step.message.content
        if step.kind in taken and isinstance(content, m.Submit | m.SubmitClaimed):
            return content
    return None


async def submitted_by(
    chain: Chain, transaction: DecodedTransaction, submission: m.Submit | m.SubmitClaimed
) -> SubmittedResult:
    """Return a submission with its data, which stands in the worker's own transaction.

    Raises `HistoryNotFoundError` or `MalformedError` when that cannot be had.
    """
    incoming = transaction.in_message
    if incoming is None or incoming.src is None:
        raise MalformedError("a submission without a sender")
    origin = await sending_transaction(chain, incoming.src, incoming.created_lt)
    return SubmittedResult(
        job_id=submission.id,
        worker=incoming.src,
        amount=Nano(submission.amount),
        result_hash=Hash(submission.result_hash.to_bytes(32, "big")),
        data=result_data_in(origin, submission.id, submission.result_hash),
        escrow_transaction=transaction,
        worker_transaction=origin,
    )


def result_data_in(transaction: DecodedTransaction, job_id: int, result_hash: int) -> Cell | None:
    """Return the data that a transaction of a stake submitted for a job; None when it submitted none."""
    wanted = Hash(result_hash.to_bytes(32, "big"))
    for action, skipped in actions_of(transaction, AccountKind.STAKE):
        if skipped is not None:
            continue
        if not isinstance(action, SubmitAction):
            continue
        if action.job_id == job_id and action.result_hash == wanted:
            return action.data
    return None


def _no_job(escrow: Address, job_id: int, why: str) -> HistoryNotFoundError:
    return HistoryNotFoundError(
        f"job {job_id} of {escrow.to_str()}",
        why=f"{why} in the newest transactions that the endpoint shows",
        hint="Check the id; the endpoint may lag or have dropped old history",
    )
