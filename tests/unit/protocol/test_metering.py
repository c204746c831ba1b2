"""The two ledgers, each alone: what they allow, what they refuse, what they remember."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.protocol.metering import (
    DEFAULT_INCREMENT,
    MAX_INCREMENT,
    ClientLedger,
    MeteringError,
    WorkerLedger,
)
from cocoon_sdk.types import Nano


def client(**known: int) -> ClientLedger:
    return ClientLedger(Nano(10_000), increment=Nano(1_000), **known)


def worker(**known: int) -> WorkerLedger:
    return WorkerLedger(10_000, max_unpaid=1_000, **known)


# -- client ------------------------------------------------------------------------------------------------


def test_client_can_pay_one_increment_ahead() -> None:
    ledger = client()
    assert ledger.payable() == Nano(1_000)
    ledger.sign(1_000)
    assert ledger.payable() is None
    ledger.charge(1, 499)
    assert ledger.payable() is None
    ledger.charge(1, 501)
    assert ledger.payable() == Nano(1_501)


def test_client_can_pay_early_when_the_worker_waits() -> None:
    ledger = client(signed=1_000, accounted=100)
    assert ledger.payable() is None
    assert ledger.payable(1_050) == Nano(1_100)
    assert ledger.covers(1_100)
    assert not ledger.covers(1_101)
    # Else a worker could have a voucher signed for every token.
    assert ledger.payable(1_101) is None


@pytest.mark.parametrize("amount", [1_001, 10_001, 0, -1])
def test_client_cannot_sign_when_it_exceeds_the_increment_or_does_not_rise(amount: int) -> None:
    ledger = client()
    with pytest.raises(MeteringError, match="refused to sign"):
        ledger.sign(amount)
    assert ledger.signed == 0


def test_client_cannot_sign_when_it_exceeds_the_deposit() -> None:
    ledger = client(signed=9_900, accounted=9_800)
    assert ledger.payable() == Nano(10_000)
    assert not ledger.covers(10_001)
    ledger.sign(10_000)
    assert ledger.payable(10_500) is None
    assert ledger.remaining == 200
    ledger.deposit = Nano(20_000)
    assert ledger.payable(10_500) == Nano(10_800)
    assert ledger.payable(10_801) == Nano(10_800), "it is low anyway"


def test_client_cannot_be_charged_when_it_is_not_signed_for_or_falls() -> None:
    ledger = client(signed=1_000)
    ledger.charge(1, 600)
    with pytest.raises(MeteringError, match="more than was signed"):
        ledger.charge(2, 401)
    with pytest.raises(MeteringError, match="cheaper"):
        ledger.charge(1, 599)
    with pytest.raises(MeteringError, match="cheaper"):
        ledger.finish(1, 599)
    with pytest.raises(MeteringError, match="more than was signed"):
        ledger.finish(1, 1_001)
    assert (ledger.used, ledger.accounted, ledger.lost) == (600, 600, 0)


def test_client_counts_as_lost_what_is_charged_and_never_came() -> None:
    ledger = client(signed=1_000)
    ledger.charge(1, 100)
    ledger.finish(1, 100)
    ledger.finish(2, 300)
    ledger.charge(3, 50)
    ledger.finish(3, 150)
    assert (ledger.used, ledger.accounted, ledger.lost, ledger.window) == (550, 150, 400, 600)
    assert ledger.payable() is None
    assert ledger.payable(1_001) == Nano(1_150)


def test_client_closes_an_account_at_what_came_when_nothing_is_said() -> None:
    ledger = client(signed=1_000)
    ledger.charge(1, 100)
    ledger.finish(1)
    ledger.charge(1, 30)
    assert ledger.used == 130


def test_client_can_take_over_the_workers_count_after_a_cut() -> None:
    ledger = client(signed=1_000)
    ledger.charge(1, 200)
    ledger.resume(500)
    assert (ledger.used, ledger.accounted, ledger.lost) == (500, 200, 300)
    ledger.charge(1, 10)
    assert ledger.used == 510
    ledger.resume(100)
    assert (ledger.used, ledger.accounted, ledger.lost) == (100, 100, 0)


@pytest.mark.parametrize("booked", [-1, 1_001])
def test_client_cannot_resume_when_the_worker_counts_what_was_never_signed(booked: int) -> None:
    ledger = client(signed=1_000)
    with pytest.raises(MeteringError, match="cannot resume"):
        ledger.resume(booked)


def test_client_knows_a_worn_session() -> None:
    ledger = client(signed=1_000)
    ledger.resume(1_000)
    assert ledger.window == 0
    assert ledger.payable(1_001) is None
    assert ledger.affords(0)
    assert not ledger.affords(1)


def test_client_affords_a_piece_only_within_window_and_deposit() -> None:
    assert client().affords(1_000)
    assert not client().affords(1_001)
    assert client(signed=9_500, accounted=9_500).affords(500)
    assert not client(signed=9_500, accounted=9_500).affords(501)


@pytest.mark.parametrize("known", [{"signed": 10_001}, {"accounted": 1}, {"signed": 5, "accounted": -1}])
def test_ledgers_cannot_begin_when_the_stored_amounts_contradict(known: dict[str, int]) -> None:
    with pytest.raises(MeteringError, match="contradict"):
        client(**known)
    mine = {"booked" if name == "accounted" else name: amount for name, amount in known.items()}
    with pytest.raises(MeteringError, match="contradict"):
        worker(**mine)
    with pytest.raises(MeteringError, match="contradict"):
        worker(lost=-1)


def test_increments_are_small_beside_a_session() -> None:
    assert 0 < DEFAULT_INCREMENT < MAX_INCREMENT == Nano.ton("0.005")
    for increment in (0, -1, MAX_INCREMENT + 1):
        with pytest.raises(MeteringError, match="at most"):
            ClientLedger(Nano.ton(1), increment=Nano(increment))


# -- worker ------------------------------------------------------------------------------------------------


def test_worker_takes_only_better_vouchers_within_the_deposit() -> None:
    ledger = worker()
    assert ledger.admit(500)
    assert not ledger.admit(500)
    assert not ledger.admit(499)
    assert not ledger.admit(10_001)
    assert ledger.admit(10_000)
    assert ledger.signed == 10_000


def test_worker_cannot_hand_over_when_it_is_not_signed_for() -> None:
    ledger = worker()
    ledger.begin(1, 400)
    assert ledger.needed(1, 300) == 300
    with pytest.raises(MeteringError, match="not signed for"):
        ledger.hand_over(1, 300)
    ledger.admit(300)
    ledger.hand_over(1, 300)
    with pytest.raises(MeteringError, match="not signed for"):
        ledger.hand_over(1, 299)
    assert (ledger.booked, ledger.ahead) == (300, 0)
    assert ledger.needed(2, 10) == 310


def test_worker_cannot_begin_twice_or_beyond_what_it_does_unpaid() -> None:
    ledger = worker(signed=9_000)
    assert not ledger.may_ever_begin(1_001)
    ledger.begin(1, 600)
    assert ledger.may_begin(400)
    assert ledger.may_ever_begin(401)
    # What is signed ahead does not widen it: streams under way may use that up.
    assert not ledger.may_begin(401)
    for rid, at_most in ((1, 1), (2, 401)):
        with pytest.raises(MeteringError, match="cannot begin"):
            ledger.begin(rid, at_most)
    ledger.hand_over(1, 500)
    with pytest.raises(MeteringError, match="cannot begin"):
        ledger.begin(1, 1)


def test_worker_cannot_begin_what_the_deposit_could_never_pay() -> None:
    ledger = worker(signed=9_800, booked=9_700)
    assert ledger.may_ever_begin(300)
    assert not ledger.may_ever_begin(301)
    ledger.begin(1, 200)
    assert not ledger.may_begin(101)


def test_worker_may_answer_whole_only_within_what_is_signed() -> None:
    ledger = worker(signed=500, booked=100)
    assert ledger.may_begin_whole(400)
    assert not ledger.may_begin_whole(401)
    ledger.begin(1, 300)
    assert ledger.may_begin_whole(100)
    assert not ledger.may_begin_whole(101)


def test_worker_stops_the_engine_when_unpaid_work_grows() -> None:
    ledger = worker()
    ledger.begin(1, 500)
    ledger.begin(2, 100)
    assert ledger.hold(1, 400, step=50)
    assert ledger.ahead == 550
    assert ledger.hold(1, 850, step=50)
    assert not ledger.hold(1, 900, step=50)
    assert (ledger.ahead, ledger.may_begin(1)) == (1_000, False)
    ledger.admit(600)
    ledger.hand_over(1, 600, beyond=300)
    assert ledger.ahead == 400


def test_worker_charges_abandoned_work_as_far_as_it_is_signed_for() -> None:
    ledger = worker(signed=500)
    ledger.begin(1, 300)
    ledger.begin(2, 600)
    assert ledger.abandon(1, 300) == 300
    assert ledger.abandon(2, 600) == 200
    assert (ledger.booked, ledger.lost, ledger.ahead) == (500, 400, 0)
    assert not ledger.may_ever_begin(601)
    assert ledger.abandon(3, 0) == 0


def test_worker_never_charges_less_than_was_handed_over() -> None:
    ledger = worker(signed=500)
    ledger.hand_over(1, 200)
    assert ledger.abandon(1, 0) == 200
    assert (ledger.booked, ledger.lost) == (200, 0)


def test_worker_remembers_lost_work_over_a_restart() -> None:
    ledger = worker(signed=500, booked=500, lost=900)
    assert ledger.may_ever_begin(100)
    assert not ledger.may_ever_begin(101)


def test_worker_can_be_reminded_of_what_it_handed_over_within_what_is_signed() -> None:
    ledger = worker(signed=500, booked=100)
    for accounted, booked in ((50, 100), (300, 300), (200, 300), (9_999, 500)):
        ledger.resume(accounted)
        assert ledger.booked == booked


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 900)), max_size=30))
def test_sums_equal_their_parts_whatever_happens(events: list[tuple[int, int]]) -> None:
    ours, theirs = client(signed=1_000), worker(signed=1_000)
    for rid, amount in events:
        if amount % 5 == 0:
            charged = theirs.abandon(rid, theirs._open.get(rid, 0))
            ours.finish(rid, charged)
        elif theirs.needed(rid, amount) <= theirs.signed and amount >= theirs._open.get(rid, 0):
            theirs.hand_over(rid, amount)
            ours.charge(rid, amount)
        else:
            with pytest.raises(MeteringError):
                ours.charge(rid, amount)
        assert ours.used == theirs.booked
        assert ours.lost == 0
        assert ours._open == theirs._open
