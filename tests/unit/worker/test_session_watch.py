"""What the chain says about a session, step by step and in any order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_states import SessionStatus
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from cocoon_worker.events import JobOutcome, OutcomeKind
from cocoon_worker.sessions import watch
from cocoon_worker.sessions.records import SESSION_TRANSITIONS, GuardState, SessionEntry, SessionState
from tests.helpers.suite import Suite
from tests.unit.worker.samples import NOW
from tests.unit.worker.session_samples import DELAY_S, KEY, session

PATIENCE_S = 30
PARAMS = Suite(Blockchain()).params_cell


def view(**changes: Any) -> m.Session:
    fields: dict[str, Any] = {
        "status": SessionStatus.OPEN,
        "deadline": NOW + 2 * DELAY_S,
        "worker": 1,
        "voucher_key": 2,
        "fee_bps": 100,
        "deposit": Nano.ton(2),
        "redeemed": 0,
        "collateral": 0,
        "lock": 0,
        "gas": 0,
        "back": 0,
        "spare": 0,
        "params": PARAMS,
        "evidence": PARAMS,
        **changes,
    }
    return m.Session(**fields)


def outcome(kind: OutcomeKind, amount: int = 0, *, lock: int | None = 0, fee: int = 0) -> JobOutcome:
    return JobOutcome(kind, KEY.entry, lock, Nano(amount), Nano(fee))


def test_worker_can_see_a_session_as_it_is() -> None:
    seen = watch.on_view(session(), view(deposit=Nano.ton(3), redeemed=7), NOW, PATIENCE_S)
    assert seen == session(deposit=Nano.ton(3), redeemed=Nano(7), looked_at=NOW)
    closing = watch.on_view(seen, view(status=SessionStatus.CLOSING, deadline=NOW + 9), NOW, PATIENCE_S)
    assert (closing.state, closing.settle_at) == (SessionState.CLOSING, NOW + 9)
    assert closing.expires == session().expires
    guarded = watch.on_view(session(guard=GuardState.ASKED), view(collateral=5, lock=257), NOW, PATIENCE_S)
    assert (guarded.guard, guarded.collateral, guarded.lock) == (GuardState.GUARDED, 5, 257)


def test_notice_can_shorten_the_time_before_the_entry_was_read() -> None:
    found = watch.closing(session(not_before=NOW + 99, tries=3), NOW)
    assert (found.state, found.settle_at, found.not_before) == (SessionState.CLOSING, NOW + DELAY_S, 0)
    expired = watch.closing(session(), NOW + 2 * DELAY_S + 5)
    assert expired.settle_at == NOW + 3 * DELAY_S
    assert watch.closing(found, NOW + 50) == found


def test_missing_session_with_money_in_it_cannot_be_given_up_at_once() -> None:
    earned = session(signed=Nano(5), signature=bytes(64))
    missing = watch.on_view(earned, None, NOW, PATIENCE_S)
    assert (missing.state, missing.missing_since) == (SessionState.OPEN, NOW)
    assert watch.on_view(missing, view(), NOW + 1, PATIENCE_S).missing_since == 0
    gone = watch.on_view(missing, None, NOW + PATIENCE_S, PATIENCE_S)
    assert (gone.state, gone.lost) == (SessionState.ENDED, 5)
    assert gone.reason
    late = watch.on_outcome(gone, outcome(OutcomeKind.REWARD, 5), NOW + 60)
    assert (late.paid, late.lost, late.state) == (5, 0, SessionState.ENDED)
    assert watch.on_view(session(), None, NOW, PATIENCE_S).state is SessionState.ENDED


def test_worker_can_redeem_in_a_disputed_session_until_its_longest_end() -> None:
    held = session(guard=GuardState.GUARDED, lock=257, collateral=Nano(5), signed=Nano(9))
    disputed = watch.on_view(held, view(status=SessionStatus.DISPUTED, deadline=NOW), NOW, PATIENCE_S)
    rules = m.ParamsRules.from_cell(m.Params.from_cell(PARAMS).rules)
    longest = rules.evidence_deadline + rules.arbitration_timeout + rules.session_close_delay
    assert (disputed.state, disputed.settle_at) == (SessionState.CLOSING, NOW + longest)
    judged = watch.on_view(disputed, view(status=SessionStatus.CLOSING, deadline=NOW + 9), NOW, PATIENCE_S)
    assert (judged.settle_at, judged.unredeemed) == (NOW + 9, 9)


def test_worker_can_tell_how_a_dispute_ended() -> None:
    held = session(guard=GuardState.GUARDED, lock=257, collateral=Nano(5), signed=Nano(9))
    by_notice = watch.disputed(held, NOW)
    shown = view(status=SessionStatus.DISPUTED, deadline=NOW, collateral=5, lock=257)
    by_look = watch.on_view(held, shown, NOW, PATIENCE_S)
    for each in (by_notice, by_look):
        assert (each.guard, each.state, each.lock) == (GuardState.DISPUTED, SessionState.CLOSING, 257)
        cleared = watch.on_outcome(each, outcome(OutcomeKind.RELEASE, lock=257), NOW)
        assert (cleared.guard, cleared.lock) == (GuardState.CLEARED, 0)
        # An older block says nothing new.
        assert watch.on_view(cleared, shown, NOW, PATIENCE_S).guard is GuardState.CLEARED
        assert watch.disputed(cleared, NOW).guard is GuardState.CLEARED
        lost = watch.on_outcome(each, outcome(OutcomeKind.SLASH, lock=257), NOW)
        assert (lost.guard, lost.lock) == (GuardState.DISPUTED, 0)
    freed = watch.on_outcome(held, outcome(OutcomeKind.RELEASE, lock=257), NOW)
    assert freed.guard is GuardState.GUARDED, "nobody disputed it"


def test_payment_that_came_back_is_due_again() -> None:
    paid = session(signed=Nano(9), redeemed=Nano(9))
    assert watch.on_view(paid, view(redeemed=0), NOW, PATIENCE_S).unredeemed == 9


def test_worker_can_note_every_end_of_its_collateral() -> None:
    held = session(guard=GuardState.GUARDED, lock=257, collateral=Nano(5), signed=Nano(9))
    rewarded = watch.on_outcome(held, outcome(OutcomeKind.REWARD, 9, lock=257, fee=1), NOW)
    assert (rewarded.state, rewarded.lock, rewarded.paid, rewarded.fee) == (SessionState.ENDED, 0, 9, 1)
    released = watch.on_outcome(held, outcome(OutcomeKind.RELEASE, lock=257), NOW)
    # Perhaps only a verdict fell: what is signed can be redeemed until the escrow shows no session any more.
    assert (released.state, released.lock, released.unredeemed) == (SessionState.CLOSING, 0, 9)
    assert released.looked_at == 0
    slashed = watch.on_outcome(held, outcome(OutcomeKind.SLASH, lock=257), NOW)
    assert (slashed.state, slashed.lock, slashed.unredeemed) == (SessionState.CLOSING, 0, 9)
    other = watch.on_outcome(held, outcome(OutcomeKind.REWARD, 4, lock=0), NOW)
    assert (other.state, other.lock, other.paid) == (SessionState.OPEN, 257, 4)
    refused = watch.on_outcome(session(guard=GuardState.ASKED), outcome(OutcomeKind.GONE, lock=257), NOW)
    assert refused.guard is GuardState.REFUSED


EVENTS = st.one_of(
    st.tuples(st.sampled_from(OutcomeKind), st.integers(0, 50), st.sampled_from([None, 0, 257])),
    st.tuples(st.just("view"), st.integers(0, 50), st.sampled_from(SessionStatus)),
    st.tuples(st.just("missing"), st.integers(0, 60), st.none()),
    st.tuples(st.just("closing"), st.integers(0, 60), st.none()),
)


@given(st.lists(EVENTS, max_size=15), st.booleans())
def test_no_sequence_of_events_can_leave_the_table_or_lose_money(events: list[Any], guarded: bool) -> None:
    entry: SessionEntry = session(signed=Nano(40), signature=bytes(64))
    if guarded:
        entry = replace(entry, guard=GuardState.GUARDED, lock=257, collateral=Nano(5))
    now, rewards = NOW, 0
    for kind, number, detail in events:
        before = entry
        now += number
        if isinstance(kind, OutcomeKind):
            rewards += number if kind is OutcomeKind.REWARD else 0
            entry = watch.on_outcome(entry, outcome(kind, number, lock=detail), now)
        elif kind == "view":
            entry = watch.on_view(entry, view(status=detail, redeemed=number), now, PATIENCE_S)
        elif kind == "missing":
            entry = watch.on_view(entry, None, now, PATIENCE_S)
        else:
            entry = watch.closing(entry, now)
        assert entry.state is before.state or entry.state in SESSION_TRANSITIONS[before.state]
        assert entry.paid == rewards
        assert (entry.signed, entry.signature) == (40, bytes(64))
        assert entry.unredeemed + entry.settled >= 40
        assert entry.expires == session().expires or entry.state is not SessionState.ENDED
