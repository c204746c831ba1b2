"""When money is fetched: every reason alone, and what never happens whatever the entry says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cocoon_sdk.types import Nano
from cocoon_worker.config import SessionsConfig
from cocoon_worker.journal import Journal
from cocoon_worker.sessions.book import SessionBook
from cocoon_worker.sessions.policy import Reason, Verdict, is_thin, judge, margin_s
from cocoon_worker.sessions.records import SessionEntry, SessionKey, SessionState
from tests.unit.worker.samples import NOW
from tests.unit.worker.session_samples import DELAY_S, session

CONFIG = SessionsConfig()
EARNED: dict[str, Any] = {"signed": Nano.ton("0.1"), "signature": bytes(64)}


def decide(
    entry: SessionEntry, now: int = NOW, *, connected: bool = False, requested: bool = False, **config: Any
) -> Verdict | None:
    return judge(entry, now, SessionsConfig(**config), connected=connected, requested=requested)


@pytest.mark.parametrize(
    ("changes", "now", "verdict"),
    [
        ({}, NOW, None),
        ({"signed": Nano.ton("0.5")}, NOW, Verdict(Reason.THRESHOLD, False, False)),
        ({"signed": Nano.ton("0.5"), "redeemed": Nano(1)}, NOW, None),
        ({}, NOW + DELAY_S - 1, None),
        ({}, NOW + DELAY_S, Verdict(Reason.PERIOD, False, False)),
        ({"signed": Nano.ton("0.0079")}, NOW + DELAY_S, None),
        ({"redeemed_at": NOW + DELAY_S}, NOW + 2 * DELAY_S - 601, None),
        ({"redeemed_at": NOW + DELAY_S}, NOW + 2 * DELAY_S - 600, Verdict(Reason.EXPIRING, False, False)),
        ({"redeemed_at": NOW + 2 * DELAY_S - 600}, NOW + 2 * DELAY_S - 300, None),
        ({}, NOW + 2 * DELAY_S, Verdict(Reason.EXPIRED, True, False)),
        ({}, NOW + 3 * DELAY_S - 6 * 3600 + 1, Verdict(Reason.EXPIRED, True, True)),
        (
            {"state": SessionState.CLOSING, "settle_at": NOW + DELAY_S},
            NOW,
            Verdict(Reason.CLOSING, True, False),
        ),
        ({"state": SessionState.CLOSING, "settle_at": NOW + 60}, NOW, Verdict(Reason.CLOSING, True, True)),
        # Too late by the book: the client may not have settled, so it is tried all the same.
        ({"state": SessionState.CLOSING, "settle_at": NOW - 60}, NOW, Verdict(Reason.CLOSING, True, True)),
        ({"state": SessionState.ENDED, "signed": Nano.ton(1)}, NOW, None),
        ({"state": SessionState.CLOSING, "not_before": NOW + 1}, NOW, None),
        ({"state": SessionState.CLOSING, "asked": Nano(1)}, NOW, None),
        ({"signed": Nano.ton(5), "redeemed": Nano.ton(2)}, NOW + DELAY_S, None),  # beyond the deposit
        ({"signed": Nano.ton("0.5"), "paid": Nano.ton("0.5")}, NOW + DELAY_S, None),  # the escrow's view lags
    ],
)
def test_worker_can_tell_what_is_due(changes: dict[str, Any], now: int, verdict: Verdict | None) -> None:
    assert decide(session(**{**EARNED, **changes}), now) == verdict


def test_worker_can_redeem_any_amount_when_a_person_wants_it() -> None:
    dust = session(signed=Nano(1))
    assert decide(dust) is None
    assert decide(dust, requested=True) == Verdict(Reason.REQUESTED, False, False)
    assert decide(replace(dust, redeemed=Nano(1)), requested=True) is None


def test_worker_cannot_end_a_session_that_is_being_served() -> None:
    closing = session(**EARNED, state=SessionState.CLOSING, settle_at=NOW + DELAY_S)
    assert decide(closing, connected=True) is None
    late = decide(closing, NOW + DELAY_S - 60, connected=True)
    assert late == Verdict(Reason.CLOSING, False, True)
    assert decide(closing, end_with_redeem=False) == Verdict(Reason.CLOSING, False, False)


def test_worker_can_take_its_collateral_out_when_the_client_does_not_settle() -> None:
    held = session(state=SessionState.CLOSING, settle_at=NOW, lock=257, collateral=Nano(5))
    assert decide(held, NOW + 599) is None
    assert decide(held, NOW + 600) == Verdict(Reason.UNLOCK, True, False)
    assert decide(held, NOW + 600, connected=True) is None
    assert decide(replace(held, lock=0), NOW + 600) is None


def test_margin_cannot_be_longer_than_what_the_client_can_shorten_it_to() -> None:
    entry = session()
    assert margin_s(entry, NOW) == DELAY_S
    assert margin_s(entry, entry.expires + 10) == DELAY_S - 10
    closing = replace(entry, state=SessionState.CLOSING, settle_at=NOW + 50)
    assert margin_s(closing, NOW) == 50


def test_alarm_can_fit_a_network_whose_delay_is_short() -> None:
    entry = session(
        **EARNED, state=SessionState.CLOSING, close_delay=600, expires=NOW + 9, settle_at=NOW + 600
    )
    assert not is_thin(entry, NOW + 300, CONFIG)
    assert is_thin(entry, NOW + 301, CONFIG)
    assert not is_thin(replace(entry, signed=Nano.ton("0.0079")), NOW + 301, CONFIG)
    assert not is_thin(replace(entry, state=SessionState.ENDED), NOW + 301, CONFIG)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(SessionState),
            st.integers(0, 1 << 31),
            st.integers(0, 1 << 30),
            st.sampled_from([0, 257]),
            st.integers(-DELAY_S, DELAY_S),
            st.integers(-2 * DELAY_S, 0),
        ),
        max_size=6,
    ),
    st.integers(-DELAY_S, 4 * DELAY_S),
)
def test_book_cannot_overlook_what_is_due_or_thin(
    tmp_path: Path, rows: list[tuple[SessionState, int, int, int, int, int]], later: int
) -> None:
    database = Journal(tmp_path / "journal.sqlite", "-3:0:ab").database
    book, now = SessionBook(database), NOW + later
    try:
        with database.transaction():
            database.write("DELETE FROM sessions")
        for number, (state, signed, redeemed, lock, moved, redeemed_at) in enumerate(rows, 1):
            entry = session(
                key=SessionKey(1, number),
                state=state,
                signed=Nano(signed),
                redeemed=Nano(redeemed),
                lock=lock,
                expires=NOW + DELAY_S + moved,
                settle_at=NOW + 2 * DELAY_S + moved,
                redeemed_at=NOW + redeemed_at,
            )
            book.put(entry)
        entries = book.entries()
        candidates = book.maybe_due(
            now,
            least=CONFIG.least_redeem,
            threshold=CONFIG.redeem_threshold,
            period_s=CONFIG.redeem_period_s,
            before_s=CONFIG.before_expiry_s,
            limit=100,
        )
        assert {e.key for e in entries if decide(e, now)} <= {e.key for e in candidates}
        over = book.over_with_money(now, CONFIG.least_redeem)
        assert [e for e in over if is_thin(e, now, CONFIG)] == [e for e in entries if is_thin(e, now, CONFIG)]
        worth = [e for e in book.open_entries() if e.unredeemed >= CONFIG.least_redeem]
        least = min((margin_s(e, now) for e in worth), default=None)
        assert book.least_margin(now, CONFIG.least_redeem) == least
    finally:
        database.close()


@given(
    st.sampled_from(SessionState),
    st.integers(0, 1 << 33),
    st.integers(0, 1 << 33),
    st.integers(0, 1 << 33),
    st.integers(-4 * DELAY_S, 4 * DELAY_S),
    st.booleans(),
    st.booleans(),
    st.integers(0, 300),
)
def test_worker_cannot_pay_gas_for_nothing(
    state: SessionState,
    signed: int,
    redeemed: int,
    paid: int,
    later: int,
    connected: bool,
    requested: bool,
    lock: int,
) -> None:
    entry = session(state=state, signed=Nano(signed), redeemed=Nano(redeemed), paid=Nano(paid), lock=lock)
    verdict = decide(entry, NOW + later, connected=connected, requested=requested)
    if verdict is None:
        return
    assert state is not SessionState.ENDED
    assert not (verdict.end and connected)
    if verdict.reason is Reason.UNLOCK:
        assert lock
        assert verdict.end
    else:
        assert min(signed, entry.deposit) > max(redeemed, paid)
        assert requested or entry.unredeemed >= CONFIG.least_redeem
