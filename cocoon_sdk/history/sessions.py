"""The life of a session in the history of its escrow; see `lookup` for that of jobs.

Owns what a transaction did to a session. Must not know keys, vouchers off chain or policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.history.actions import AccountKind, OpenJobAction
from cocoon_sdk.history.lookup import actions_of
from cocoon_sdk.history.session_actions import (
    CloseSessionAction,
    DisputeSessionAction,
    OpenSessionAction,
    SettleSessionAction,
    TopUpSessionAction,
)
from cocoon_sdk.history.transactions import ChainMessage, DecodedTransaction, MessageKind
from cocoon_sdk.history.walking import walk
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.abi_cells import Reader
from cocoon_sdk.types import Hash, Nano


class SessionEventKind(StrEnum):
    """What a transaction of the escrow did to a session."""

    OPENED = "opened"
    TOPPED_UP = "topped up"
    GUARDED = "guarded"
    ACCEPTANCE_REFUSED = "acceptance refused"
    """The worker's collateral did not fit: it was answered with `Gone`."""
    REDEEMED = "redeemed"
    CLOSING = "closing"
    WORKER_CLOSING = "closing by the worker"
    """The worker ends a guarded session: its client first has time to dispute."""
    DISPUTED = "disputed"
    JUDGED = "judged"
    """Arbiters decided about the collateral, which is free but for what was slashed."""
    CLOSED = "closed by the worker"
    SETTLED = "settled"
    RETURNED = "payment returned"
    """A payment bounced: the session owes it again, or it waits to be delivered."""
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """One step of a session (amounts in nanoTON).

    `amount` is what was deposited, added, locked, paid, slashed or came back; `fee` the protocol's part of a
    payment; `evidence` what a dispute stands on; `by` who sent an internal message, None for the client's
    own externals.
    """

    kind: SessionEventKind
    transaction: DecodedTransaction = field(repr=False)
    amount: Nano = field(default_factory=lambda: Nano(0))
    fee: Nano = field(default_factory=lambda: Nano(0))
    by: Address | None = None
    opening: OpenSessionAction | None = None
    evidence: Hash | None = None


_KINDS: Final[dict[type, SessionEventKind]] = {
    CloseSessionAction: SessionEventKind.CLOSING,
    SettleSessionAction: SessionEventKind.SETTLED,
    m.CloseSession: SessionEventKind.CLOSING,
    m.SettleSession: SessionEventKind.SETTLED,
    m.Deliver: SessionEventKind.DELIVERED,
}


_ENDING: Final = frozenset(
    {
        SessionEventKind.CLOSING,
        SessionEventKind.WORKER_CLOSING,
        SessionEventKind.DISPUTED,
        SessionEventKind.JUDGED,
    }
)


async def session_events(chain: Chain, escrow: Address, session_id: int) -> tuple[SessionEvent, ...]:
    """Return everything that happened to a session, oldest first; empty when the id is a job's or nothing's.

    Walks from the newest transaction down to the opening. Raises what `Chain` raises.
    """
    found: list[SessionEvent] = []
    async for transaction in walk(chain, escrow):
        steps = session_steps_of(transaction, session_id)
        found += reversed(steps)
        if any(step.kind is SessionEventKind.OPENED for step in steps):
            break
        if _opens_job(transaction, session_id):
            return ()
    return tuple(_in_the_end(found[::-1]))


def _in_the_end(events: list[SessionEvent]) -> Iterator[SessionEvent]:
    """Tell what `close` by the worker was: with collateral in the session it only begins the end."""
    guarded = ending = False
    for event in events:
        kind = event.kind
        if kind is SessionEventKind.CLOSED and guarded and not _frees(event.transaction):
            kind = SessionEventKind.REDEEMED if ending else SessionEventKind.WORKER_CLOSING
        guarded = (guarded or kind is SessionEventKind.GUARDED) and kind is not SessionEventKind.JUDGED
        ending = ending or kind in _ENDING
        yield event if kind is event.kind else replace(event, kind=kind)


def _frees(transaction: DecodedTransaction) -> bool:
    """Tell whether a transaction freed a worker's collateral."""
    sent = [message.content for message in transaction.out_messages]
    return any(isinstance(each, m.Release) or (isinstance(each, m.Reward) and each.lock) for each in sent)


def session_steps_of(transaction: DecodedTransaction, session_id: int) -> tuple[SessionEvent, ...]:
    """Return what one transaction of an escrow did to a session, in order."""
    incoming = transaction.in_message
    if incoming is None or not transaction.success:
        return ()
    if incoming.kind is MessageKind.EXTERNAL_IN:
        return tuple(_external_steps(transaction, session_id))
    if incoming.job_id != session_id:
        return ()
    return tuple(_internal_steps(transaction, incoming, session_id))


def _opens_job(transaction: DecodedTransaction, number: int) -> bool:
    return any(
        isinstance(action, OpenJobAction) and action.job_id == number and skipped is None
        for action, skipped in actions_of(transaction, AccountKind.ESCROW)
    )


def _external_steps(transaction: DecodedTransaction, session_id: int) -> Iterator[SessionEvent]:
    for action, skipped in actions_of(transaction, AccountKind.ESCROW):
        if skipped is not None or getattr(action, "session_id", None) != session_id:
            continue
        match action:
            case OpenSessionAction():
                kind = SessionEventKind.OPENED
                yield SessionEvent(kind, transaction, amount=action.deposit, opening=action)
            case TopUpSessionAction():
                yield SessionEvent(SessionEventKind.TOPPED_UP, transaction, amount=action.amount)
            case CloseSessionAction() | SettleSessionAction():
                yield SessionEvent(_KINDS[type(action)], transaction)
            case DisputeSessionAction(evidence_hash=evidence):
                yield SessionEvent(SessionEventKind.DISPUTED, transaction, evidence=evidence)


def _internal_steps(
    transaction: DecodedTransaction, incoming: ChainMessage, session_id: int
) -> Iterator[SessionEvent]:
    if incoming.bounced:
        if incoming.op == m.Reward.OPCODE:
            amount = _bounced_amount(incoming)
            yield SessionEvent(SessionEventKind.RETURNED, transaction, amount=amount, by=incoming.src)
        return
    answers = [message.content for message in transaction.out_messages if message.job_id == session_id]
    rewards = [answer for answer in answers if isinstance(answer, m.Reward)]
    paid, fee = Nano(sum(r.amount for r in rewards)), Nano(sum(r.fee for r in rewards))
    match incoming.content:
        case m.Redeem(close=close):
            closed = close and incoming.src is not None and _went_to(transaction, incoming.src)
            kind = SessionEventKind.CLOSED if closed else SessionEventKind.REDEEMED
            yield SessionEvent(kind, transaction, paid, fee, incoming.src)
        case m.AcceptSession(collateral=collateral):
            refused = any(isinstance(answer, m.Gone) for answer in answers)
            kind = SessionEventKind.ACCEPTANCE_REFUSED if refused else SessionEventKind.GUARDED
            yield SessionEvent(kind, transaction, Nano(collateral), by=incoming.src)
        case m.DisputeSession(evidence_hash=evidence):
            stands_on = Hash(evidence.to_bytes(32, "big"))
            kind = SessionEventKind.DISPUTED
            yield SessionEvent(kind, transaction, by=incoming.src, evidence=stands_on)
        case m.Resolve():
            slashed = Nano(sum(each.amount for each in answers if isinstance(each, m.Slash)))
            yield SessionEvent(SessionEventKind.JUDGED, transaction, slashed, by=incoming.src)
        case m.CloseSession() | m.SettleSession() | m.Deliver():
            yield SessionEvent(_KINDS[type(incoming.content)], transaction, paid, fee, incoming.src)


def _bounced_amount(message: ChainMessage) -> Nano:
    """Return what a Reward that came back was to pay: its beginning stands behind 32 bits of ones."""
    source = Reader.of_cell(message.body)
    if source.bits_left < 32 + 32 + 32 + 53 + 53:
        return Nano(0)
    source.uint(32 + 32 + 32 + 53)
    return Nano(source.uint(53))


def _went_to(transaction: DecodedTransaction, worker: Address) -> bool:
    """Tell whether the session's worker sent it: only then a redemption ends a session."""
    return any(message.dst == worker for message in transaction.out_messages)
