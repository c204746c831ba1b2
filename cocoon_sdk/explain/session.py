"""Everything about one session, read over a `Chain`: its life, where it stands, what can happen next.

Owns which transactions are read and the rules of docs/protocol.md 4 seen from the outside. Must not know
adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.explain.account import Recognised
from cocoon_sdk.explain.facts import Fact, Party, Role, TxRef
from cocoon_sdk.explain.findings import Inquiry
from cocoon_sdk.explain.job_facts import CanDo
from cocoon_sdk.explain.session_facts import (
    SessionClosed,
    SessionDisputed,
    SessionGuarded,
    SessionJudged,
    SessionLeft,
    SessionOpened,
    SessionPaymentReturned,
    SessionRedeemed,
    SessionSettled,
    SessionStands,
    SessionToppedUp,
)
from cocoon_sdk.history import SessionEvent, SessionEventKind, session_events
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.disputes import DisputeKind, dispute_digest
from cocoon_sdk.protocol.session_states import SessionState, settles_at, state_of, turns_at
from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.types import Hash, Nano


@dataclass(frozen=True, slots=True)
class SessionReport:
    """All facts about a session, in the order to be told."""

    parties: tuple[Fact, ...]
    events: tuple[Fact, ...]
    found: tuple[Fact, ...]
    now: tuple[Fact, ...]
    next: tuple[Fact, ...]


async def session_report(
    chain: Chain, found: Recognised, session_id: int, now: int, *, inquire: Inquiry | None = None
) -> SessionReport | None:
    """Read a session of an escrow that was recognised; None when the id is no session's.

    `inquire` asks who checked its answers.

    Raises what the `Chain` raises.
    """
    escrow = found.state.address
    try:
        entry = await Escrow.at(chain, escrow).session(session_id)
    except CocoonError:
        return None  # an escrow of the code before has no such getter, and no sessions
    events = await session_events(chain, escrow, session_id)
    opening = next((event.opening for event in events if event.opening is not None), None)
    if entry is None and opening is None:
        return None
    worker = opening.worker if opening is not None else account_address(0 if entry is None else entry.worker)
    return SessionReport(
        parties=tuple(_parties(found, worker)),
        events=tuple(_told(event, worker) for event in events),
        found=() if inquire is None else await _found(chain, escrow, session_id, events, inquire),
        now=(_standing(entry),),
        next=() if entry is None else tuple(_next(entry, now)),
    )


async def _found(
    chain: Chain, escrow: Address, session_id: int, events: Sequence[SessionEvent], inquire: Inquiry
) -> tuple[Fact, ...]:
    disputes = [event for event in events if event.kind is SessionEventKind.DISPUTED]
    if not disputes:
        return tuple(await inquire(session_id, None))
    domain, at = await Escrow.at(chain, escrow).domain(), disputes[-1].transaction.now
    return tuple(await inquire(session_id, dispute_digest(domain, DisputeKind.SESSION, session_id, at)))


def _parties(found: Recognised, worker: Address) -> Iterator[Party]:
    yield Party(role=Role.ESCROW, address=found.state.address)
    if found.identity is not None:
        yield Party(role=Role.CLIENT, address=found.identity.owner)
    yield Party(role=Role.WORKER, address=worker)


def _told(event: SessionEvent, worker: Address) -> Fact:
    at, tx = event.transaction.now, TxRef(event.transaction.address, event.transaction.lt)
    match event.kind:
        case SessionEventKind.OPENED:
            expiry = 0 if event.opening is None else event.opening.expiry
            return SessionOpened(at=at, tx=tx, worker=worker, deposit=event.amount, expiry=expiry)
        case SessionEventKind.TOPPED_UP:
            return SessionToppedUp(at=at, tx=tx, amount=event.amount)
        case SessionEventKind.GUARDED | SessionEventKind.ACCEPTANCE_REFUSED:
            refused = event.kind is SessionEventKind.ACCEPTANCE_REFUSED
            by = event.by or worker
            return SessionGuarded(at=at, tx=tx, worker=by, collateral=event.amount, refused=refused)
        case SessionEventKind.REDEEMED | SessionEventKind.CLOSED:
            closed = event.kind is SessionEventKind.CLOSED
            return SessionRedeemed(
                at=at, tx=tx, amount=event.amount, fee=event.fee, by=event.by, closed=closed
            )
        case SessionEventKind.CLOSING:
            return SessionClosed(at=at, tx=tx, by_owner=event.by is not None)
        case SessionEventKind.WORKER_CLOSING:
            return SessionLeft(at=at, tx=tx, amount=event.amount, fee=event.fee)
        case SessionEventKind.DISPUTED:
            evidence = event.evidence or Hash(bytes(32))
            return SessionDisputed(at=at, tx=tx, by_owner=event.by is not None, evidence=evidence)
        case SessionEventKind.JUDGED:
            return SessionJudged(at=at, tx=tx, slashed=event.amount)
        case SessionEventKind.SETTLED:
            return SessionSettled(at=at, tx=tx, by=event.by)
    delivered = event.kind is SessionEventKind.DELIVERED
    return SessionPaymentReturned(at=at, tx=tx, amount=event.amount, delivered=delivered)


def _standing(entry: m.Session | None) -> SessionStands:
    if entry is None:
        nothing = Nano(0)
        return SessionStands(state="ended", deposit=nothing, redeemed=nothing, collateral=nothing, ended=True)
    return SessionStands(
        state=state_of(entry).value,
        deposit=Nano(entry.deposit),
        redeemed=Nano(entry.redeemed),
        collateral=Nano(entry.collateral),
        ended=False,
    )


def _next(entry: m.Session, now: int) -> Iterator[CanDo]:
    settles, state = settles_at(entry), state_of(entry)
    if state is SessionState.DISPUTED and now < turns_at(entry):
        yield CanDo(who="anyone", what="hand in the arbiters' verdict", until=turns_at(entry) - 1)
    elif state.is_guarded and state is not SessionState.DISPUTED and now < settles:
        yield CanDo(who="the client", what="dispute what was done", until=settles - 1)
    if state.is_open and now < entry.deadline:
        yield CanDo(who="the client", what="add to the deposit", until=entry.deadline - 1)
        yield CanDo(who="the client", what="close it, which gives the worker time to redeem")
    yield CanDo(
        who="anyone",
        what="redeem a voucher for the worker; only as long as nobody has settled",
        until=settles - 1 if now < settles else None,
    )
    held = state.is_guarded and now < settles
    yield CanDo(
        who="the worker",
        what="end it, which frees its collateral" if held else "end it at once, with its last voucher",
        since=settles if held else None,
    )
    yield CanDo(who="anyone", what="settle it: the rest is the client's again", since=settles)
