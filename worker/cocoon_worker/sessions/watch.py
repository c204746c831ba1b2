"""What the chain says about a session, and what that changes in the book: steps from an entry to an entry.

Owns these steps as pure functions, and `note_facts`, which writes one. Must not read the chain, decide what
is redeemed, or sign. Money that arrives is always noted, whatever state the session is in.
"""

from __future__ import annotations

from dataclasses import replace

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_states import SessionStatus, settles_at
from cocoon_sdk.types import Nano
from cocoon_worker.errors import JournalError
from cocoon_worker.events import JobOutcome, OutcomeKind
from cocoon_worker.sessions.book import SessionBook
from cocoon_worker.sessions.records import GuardState, SessionEntry, SessionState
from cocoon_worker.sessions.survey import SessionFacts, state_of


def note_facts(book: SessionBook, facts: SessionFacts, now: int, *, guard: bool = False) -> SessionEntry:
    """Keep what a look at the chain found, of a new session or a known one; return the book's entry.

    `guard`: lock collateral for a session that was not known. Raises what `SessionBook.put` raises.
    """
    known = book.entry(facts.key)
    if known is None:
        fresh = facts.new_entry(now)
        wanted = guard and not fresh.collateral and fresh.state is SessionState.OPEN
        book.put(replace(fresh, guard=GuardState.WANTED) if wanted else fresh)
    else:
        seen = _seen(known, facts.state, facts.expires, facts.settle_at, facts.deposit, facts.redeemed, now)
        if seen != known:
            book.put(seen)
    entry = book.entry(facts.key)
    if entry is None:
        raise JournalError("the journal lost a session", hint="This is a bug: report it")
    return entry


def on_view(entry: SessionEntry, view: m.Session | None, now: int, patience_s: int) -> SessionEntry:
    """Return the entry after a look at the escrow; `now` is what the chain has surely reached.

    That an entry with money in it is missing is believed after `patience_s`: one endpoint may lag behind
    another, and what it paid may be on its way.
    """
    if entry.state is SessionState.ENDED:
        return entry
    if view is None:
        since = entry.missing_since or now
        if now - since < patience_s and entry.unredeemed:
            return replace(entry, missing_since=since, looked_at=now)
        return ended(replace(entry, looked_at=now), now, "the escrow has no such session any more")
    seen = _seen(
        entry, state_of(view), view.deadline, settles_at(view), Nano(view.deposit), Nano(view.redeemed), now
    )
    if view.status == SessionStatus.DISPUTED:
        seen = disputed(seen, now)
    elif view.collateral and seen.guard is not GuardState.GUARDED:
        seen = replace(
            seen, guard=GuardState.GUARDED, collateral=Nano(view.collateral), lock=view.lock, tries=0
        )
    return seen


def _seen(
    entry: SessionEntry,
    state: SessionState,
    deadline: int,
    settle_at: int,
    deposit: Nano,
    redeemed: Nano,
    now: int,
) -> SessionEntry:
    if entry.state is SessionState.ENDED:
        return entry
    # What was closed stays closed, and deposits only grow: an older block is told by what it lacks.
    closing = entry.state is SessionState.CLOSING or state is SessionState.CLOSING
    settled = state is SessionState.CLOSING or not closing
    seen = replace(
        entry,
        state=SessionState.CLOSING if closing else SessionState.OPEN,
        expires=deadline if state is SessionState.OPEN else entry.expires,
        settle_at=settle_at if settled else entry.settle_at,
        deposit=max(deposit, entry.deposit),
        # It may also fall: a payment that came back is due again.
        redeemed=redeemed,
        missing_since=0,
        looked_at=now,
    )
    return replace(seen, updated_at=now) if replace(seen, looked_at=entry.looked_at) != entry else seen


def closing(entry: SessionEntry, now: int) -> SessionEntry:
    """Return the entry after it was seen to close, at `now`."""
    if entry.state is not SessionState.OPEN:
        return entry
    settle_at = min(now, entry.expires) + entry.close_delay
    return replace(
        entry, state=SessionState.CLOSING, settle_at=settle_at, not_before=0, tries=0, updated_at=now
    )


def disputed(entry: SessionEntry, now: int) -> SessionEntry:
    """Return the entry after its client was seen to dispute it: nothing new is served, nothing is owed."""
    moved = closing(entry, now)
    # There is one dispute at most: what an older block says of one that is over is no news.
    if entry.state is SessionState.ENDED or entry.guard in (GuardState.DISPUTED, GuardState.CLEARED):
        return moved
    return replace(moved, guard=GuardState.DISPUTED, updated_at=now)


def ended(entry: SessionEntry, now: int, reason: str) -> SessionEntry:
    """Return the entry of a session that has ended: nothing can be redeemed from it any more."""
    if entry.state is SessionState.ENDED:
        return entry
    return replace(
        entry,
        state=SessionState.ENDED,
        asked=Nano(0),
        asked_at=0,
        updated_at=now,
        reason=reason if entry.unredeemed else entry.reason,
    )


def on_outcome(entry: SessionEntry, outcome: JobOutcome, now: int) -> SessionEntry:
    """Return the entry after a message of its escrow to our stake."""
    freed = entry.lock and outcome.lock == entry.lock
    match outcome.kind:
        case OutcomeKind.REWARD:
            paid = Nano(entry.paid + outcome.amount)
            fee = Nano(entry.fee + outcome.fee)
            entry = replace(entry, paid=paid, fee=fee, redeemed_at=now, updated_at=now)
        case OutcomeKind.GONE | OutcomeKind.BOUNCED:
            # The answer to AcceptSession, which is the only thing we ask of a session that locks.
            if entry.guard is GuardState.ASKED:
                entry = replace(entry, guard=GuardState.REFUSED, updated_at=now)
        case OutcomeKind.RELEASE | OutcomeKind.SLASH | OutcomeKind.NOT_FINALIZED:
            pass
    if not freed:
        return entry
    entry = replace(entry, lock=0, updated_at=now)
    if entry.guard is GuardState.DISPUTED and outcome.kind is not OutcomeKind.SLASH:
        entry = replace(entry, guard=GuardState.CLEARED)
    if outcome.kind is OutcomeKind.REWARD:
        # Only the last payment frees collateral.
        return ended(entry, now, "it was settled")
    if outcome.kind in (OutcomeKind.RELEASE, OutcomeKind.SLASH):
        # The end, or a verdict after which vouchers can still be redeemed: the next look tells.
        return replace(closing(entry, now), looked_at=0)
    return entry
