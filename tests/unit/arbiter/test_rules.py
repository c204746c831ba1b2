"""The decision table of docs/arbiter.md row by row, its numbers, and when nothing can change any more."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.arbiter.rules import (
    Bounds,
    Delivery,
    Outcome,
    SessionShown,
    Shown,
    is_settled,
    numbers,
    outcome,
    severity,
)
from cocoon_sdk.protocol.disputes import Ground

SEALED, ELSEWHERE = Delivery.SEALED, Delivery.ELSEWHERE
BOUNDS = Bounds.of(1_000_000, 4_000_001, 9_999)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (Shown(ELSEWHERE), Outcome(Ground.CLIENT_SILENT)),
        (Shown(SEALED, result=True), Outcome(Ground.CLIENT_SILENT)),
        (Shown(SEALED, payload=True), Outcome(Ground.CLIENT_SILENT)),
        (Shown(SEALED, payload=True, client_key=True, opens=False), Outcome(Ground.WORKER_SILENT)),
        (Shown(ELSEWHERE, payload=True), Outcome(Ground.WORKER_SILENT)),
        (Shown(ELSEWHERE, payload=True, client_key=True, received=True), Outcome(Ground.WORKER_SILENT)),
        # From here on the content is judged; the worker is late if only it could show the result.
        (Shown(ELSEWHERE, payload=True, result=True), Outcome(None, late=True)),
        (Shown(ELSEWHERE, payload=True, result=True, received=True), Outcome(None)),
        (Shown(SEALED, payload=True, result=True), Outcome(None)),
        (Shown(SEALED, payload=True, result=True, client_key=True, opens=True), Outcome(None)),
        (Shown(SEALED, payload=True, result=True, client_key=True, opens=False), Outcome(None, late=True)),
        (Shown(SEALED, payload=True, result=True, terms=True), Outcome(None, with_terms=True)),
    ],
    ids=str,
)
def test_arbiter_decides_by_what_is_shown(shown: Shown, expected: Outcome) -> None:
    assert outcome(shown) == expected


@pytest.mark.parametrize(
    ("ground", "late", "expected"),
    [
        (Ground.CLIENT_SILENT, False, (1_000_000, 0)),
        (Ground.BAD_PAYLOAD, False, (1_000_000, 0)),
        (Ground.NOT_CHECKABLE, False, (1_000_000, 0)),
        (Ground.HONEST, False, (1_000_000, 0)),
        (Ground.SUSPECT, False, (1_000_000, 0)),
        (Ground.HONEST, True, (999_999, 0)),
        (Ground.REFUND, False, (0, 0)),
        (Ground.REFUND, True, (0, 0)),
        (Ground.WORKER_SILENT, False, (0, 3_999_600)),
        (Ground.BAD_RESULT, False, (0, 3_999_600)),
        (Ground.NO_COMMITMENT, False, (0, 3_999_600)),
        (Ground.SLASH, True, (0, 3_999_600)),
    ],
)
def test_verdict_has_the_numbers_of_its_ground(ground: Ground, late: bool, expected: tuple[int, int]) -> None:
    assert numbers(ground, BOUNDS, late=late) == expected


@pytest.mark.parametrize(("due", "pay"), [(0, 0), (600_000, 600_000), (999_999, 999_999), (10**9, 999_999)])
def test_worker_that_overcharges_gets_what_is_due(due: int, pay: int) -> None:
    # At most one less than it asked for: whoever loses a part pays the arbiters.
    assert numbers(Ground.OVERCHARGED, BOUNDS, due=due) == (pay, 0)


@given(
    st.sampled_from(Ground),
    st.integers(0, 2**53),
    st.integers(0, 2**53),
    st.integers(9_000, 10_000),
    st.booleans(),
    st.integers(0, 2**60),
)
def test_verdict_stays_within_what_the_contract_takes(
    ground: Ground, amount: int, collateral: int, bps: int, late: bool, due: int
) -> None:
    bounds = Bounds.of(amount, collateral, bps)
    pay, slash = numbers(ground, bounds, late=late, due=due)
    assert 0 <= pay <= amount
    assert 0 <= slash <= collateral * bps // 10_000
    assert not (pay and slash)


def test_verdicts_are_ordered_from_the_mildest() -> None:
    assert sorted([(0, 4), (0, 0), (0, 1), (9, 0), (10, 0)], key=severity) == [
        *((10, 0), (9, 0), (0, 0)),
        *((0, 1), (0, 4)),
    ]


# -- when nobody has to wait ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "settled"),
    [
        (Shown(SEALED), False),
        (Shown(SEALED, payload=True, result=True, terms=True), False),  # the key could show that it was late
        (Shown(SEALED, payload=True, result=True, terms=True, client_key=True, opens=True), True),
        (Shown(SEALED, payload=True, result=True, client_key=True, opens=True), False),  # without terms
        (Shown(SEALED, payload=True, terms=True, client_key=True, opens=False), False),  # it may still come
        (Shown(SEALED, payload=True, result=True, terms=True, client_key=True, opens=False), True),
        (Shown(ELSEWHERE, payload=True, result=True, terms=True), False),  # the client may say it had it
        (Shown(ELSEWHERE, payload=True, result=True, terms=True, received=True), True),
        (Shown(ELSEWHERE, payload=True, terms=True, received=True, client_key=True), False),
    ],
    ids=str,
)
def test_arbiter_waits_while_evidence_could_change_the_outcome(shown: Shown, settled: bool) -> None:
    assert is_settled(shown) is settled


def test_no_evidence_changes_what_is_settled() -> None:
    names = ("payload", "result", "client_key", "received", "terms")
    for delivery in Delivery:
        for there in itertools.product((False, True), repeat=len(names)):
            opened = there[0] and there[2] and delivery is SEALED
            for opens in (False, True) if opened else (None,):
                shown = Shown(delivery, **dict(zip(names, there, strict=True)), opens=opens)
                if (opens and not shown.result) or not is_settled(shown):
                    continue
                for name in names:
                    more = dataclasses.replace(shown, **{name: True})  # type: ignore[arg-type]
                    assert outcome(more) == outcome(shown), (shown, name)


def test_session_without_evidence_is_its_clients_silence_and_nobody_else_owes_any() -> None:
    empty, full = SessionShown(), SessionShown(evidence=True)
    assert outcome(empty) == Outcome(Ground.CLIENT_SILENT)
    assert outcome(full) == Outcome(None)
    assert not is_settled(empty)
    assert is_settled(full)


@pytest.mark.parametrize("ground", list(Ground))
def test_verdict_about_a_session_pays_nothing_whatever_it_is(ground: Ground) -> None:
    slashed = {Ground.WORKER_SILENT, Ground.BAD_RESULT, Ground.NO_COMMITMENT, Ground.SLASH}
    bounds = Bounds.of(0, 1_000_001, 5_000)
    assert numbers(ground, bounds) == (0, 500_000 if ground in slashed else 0)
