"""Transactions of our stake and of markets as the few events that a worker acts on.

Owns the reading. Pure; must not know the journal or what an event leads to. What a stranger's message claims
(an offer from a forged escrow) is an event all the same: admission judges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.history import AccountKind, ChainMessage, DecodedTransaction, MessageKind
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.signing import account_id
from cocoon_sdk.types import Nano
from cocoon_worker.records import JobKey


@dataclass(frozen=True, slots=True)
class JobNoticed:
    """Somebody says that an escrow opened a job: for us (at our stake), or for anybody (at a market)."""

    key: JobKey
    is_open: bool
    notice_lt: int


class OutcomeKind(StrEnum):
    """How a job, or one message about it, ended at our stake."""

    REWARD = "reward"
    RELEASE = "release"
    SLASH = "slash"
    GONE = "gone"
    BOUNCED = "bounced"
    """A submission came back: there is no such escrow. The stake freed what it had locked."""
    CLAIM_BOUNCED = "claim-bounced"
    """A claim came back with its bond: another one was faster, or the job ended, or does not fit."""
    NOT_FINALIZED = "not-finalized"
    """The escrow refused to pay: the window is not over, or the job has ended."""
    NOT_REDEEMED = "not-redeemed"
    """The escrow refused a voucher: nothing was due any more, or the session has ended."""


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """A message about a job of ours. `lock`: where it freed the job's collateral, 0 when it freed none.

    None: the job has one lock at most, and it freed what that holds for the job.
    """

    kind: OutcomeKind
    key: JobKey
    lock: int | None
    amount: Nano = field(default_factory=lambda: Nano(0))
    fee: Nano = field(default_factory=lambda: Nano(0))


@dataclass(frozen=True, slots=True)
class JobDisputed:
    """The client disputes a result."""

    key: JobKey


@dataclass(frozen=True, slots=True)
class SessionCloses:
    """A client closes a session with us."""

    key: JobKey


@dataclass(frozen=True, slots=True)
class LockExpired:
    """Somebody had everything freed that the stake still held in a lock, long after its last job."""

    lock: int


@dataclass(frozen=True, slots=True)
class ExternalAccepted:
    """Our stake accepted an external of the operator key.

    `skipped` maps the positions (from 1) of actions that were left out to their exit codes; `locks` are
    those of the submissions that were done, in order (0: no lock was needed).
    """

    body_hash: bytes
    seqno: int
    skipped: Mapping[int, int]
    locks: tuple[int, ...]


Event: TypeAlias = JobNoticed | JobOutcome | JobDisputed | SessionCloses | LockExpired | ExternalAccepted

_BOUNCED: Final = {
    m.Claim.OPCODE: OutcomeKind.CLAIM_BOUNCED,
    m.Submit.OPCODE: OutcomeKind.BOUNCED,
    m.SubmitClaimed.OPCODE: OutcomeKind.BOUNCED,
    m.Finalize.OPCODE: OutcomeKind.NOT_FINALIZED,
    m.AcceptSession.OPCODE: OutcomeKind.BOUNCED,
    m.Redeem.OPCODE: OutcomeKind.NOT_REDEEMED,
}


def stake_event(transaction: DecodedTransaction) -> Event | None:
    """Return what a transaction of our stake means; None when it means nothing to a worker.

    Notices carry no value, so no code runs for them and their transaction never "succeeds". Anything else
    that failed changed nothing: what it brought went back, and will be delivered again.
    """
    message = transaction.in_message
    if message is None:
        return None
    if message.kind is MessageKind.EXTERNAL_IN:
        return _accepted(transaction, message) if transaction.success else None
    if isinstance(message.content, m.ReleaseExpired):
        return LockExpired(message.content.lock) if transaction.success else None
    source = _account(message.src)
    if source is None:
        return None
    match message.content:
        case m.JobOffer(id=job_id):
            return JobNoticed(JobKey(source, job_id), False, message.created_lt)
        case m.Disputed(id=job_id):
            return JobDisputed(JobKey(source, job_id))
        case m.SessionClosing(id=session_id):
            return SessionCloses(JobKey(source, session_id))
    return _outcome(message, source) if transaction.success else None


def _outcome(message: ChainMessage, source: int) -> JobOutcome | None:
    if message.bounced:
        kind = _BOUNCED.get(message.op or 0)
        if kind is None or message.job_id is None:
            return None
        lock = None if kind is OutcomeKind.BOUNCED else 0
        return JobOutcome(kind, JobKey(source, message.job_id), lock)
    match message.content:
        case m.Reward(id=job_id, lock=lock, amount=amount, fee=fee):
            return JobOutcome(OutcomeKind.REWARD, JobKey(source, job_id), lock, Nano(amount), Nano(fee))
        case m.Release(id=job_id, lock=lock):
            return JobOutcome(OutcomeKind.RELEASE, JobKey(source, job_id), lock)
        case m.Slash(id=job_id, lock=lock, amount=amount):
            return JobOutcome(OutcomeKind.SLASH, JobKey(source, job_id), lock, Nano(amount))
        case m.Gone(id=job_id, lock=lock):
            return JobOutcome(OutcomeKind.GONE, JobKey(source, job_id), lock)
    return None


def market_event(transaction: DecodedTransaction, least_fee: int) -> JobNoticed | None:
    """Return the open job that a market's transaction announces; less than `least_fee` nanoTON is ignored."""
    message = transaction.in_message
    if message is None or message.kind is not MessageKind.INTERNAL or message.bounced:
        return None
    source = _account(message.src)
    if source is None or message.value < least_fee or not isinstance(message.content, m.JobNotice):
        return None
    return JobNoticed(JobKey(source, message.content.id), True, message.created_lt)


def _accepted(transaction: DecodedTransaction, message: ChainMessage) -> ExternalAccepted | None:
    try:
        external = transaction.external(AccountKind.STAKE)
    except MalformedError:
        return None
    skipped = {skip.position: skip.exit_code for skip in transaction.skipped}
    # Messages leave in the order of the actions that sent them.
    locks = tuple(
        each.content.lock if each.content.collateral else 0
        for each in transaction.out_messages
        if isinstance(each.content, m.Submit | m.SubmitClaimed)
    )
    return ExternalAccepted(bytes(message.body.hash), external.seqno, skipped, locks)


def _account(address: Address | None) -> int | None:
    return account_id(address) if address is not None and address.wc == 0 else None
