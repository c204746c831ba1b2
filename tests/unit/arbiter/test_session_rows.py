"""Rows of a session's records: which one counts, and when no honest worker made it."""

from __future__ import annotations

import random

import pytest

from cocoon_sdk.arbiter.session_judging import LEAST_ROW, LINE, Seen, is_over_the_line, longest_row
from cocoon_sdk.verify.score import Score, observe
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.thresholds import fit
from tests.helpers.session_records import LIMITS, draw


def row_of(count: int, scale: float, *, first: int = 1, seed: int = 5) -> list[Seen]:
    rng = random.Random(seed)
    return [Seen(first + index, draw(rng, scale), LIMITS) for index in range(count)]


def test_row_of_light_cheats_is_over_the_line() -> None:
    assert is_over_the_line(row_of(32, 3.0))
    assert is_over_the_line(row_of(16, 8.0))


def test_honest_rows_are_not_over_the_line() -> None:
    assert not any(is_over_the_line(row_of(32, 1.0, seed=seed)) for seed in range(300))


def test_client_cannot_win_with_a_short_row() -> None:
    # Finely calibrated: then even fewer would be over the line.
    fine = fit({"one": [draw(random.Random(i), 1.0) for i in range(4_000)]}, longest=16)
    row = [seen._replace(limits=fine) for seen in row_of(LEAST_ROW, 50.0)]
    assert is_over_the_line(row)
    assert not is_over_the_line(row[:-1])
    score = Score()
    for seen in row[:-1]:
        score = observe(score, seen.numbers, fine)
    assert score.accused(LINE)


def test_client_cannot_win_by_picking_the_worst_of_many_honest_answers() -> None:
    rng = random.Random(2)
    everything = [Seen(rid, draw(rng, 1.0), LIMITS) for rid in range(1, 5000)]
    worst = sorted(everything, key=lambda seen: -seen.numbers.lp_mean)[:32]
    picked = sorted(worst, key=lambda seen: seen.rid)
    # One after the other they would be proof enough: the rule about gaps is what protects the worker.
    assert is_over_the_line(picked)
    assert len(longest_row(picked)) < LEAST_ROW


@pytest.mark.parametrize(
    ("rids", "row"),
    [
        ([], []),
        ([4], [4]),
        ([1, 2, 3], [1, 2, 3]),
        ([1, 3, 4, 6, 7, 8], [6, 7, 8]),
        ([1, 2, 5, 6], [1, 2]),
        ([2, 4, 6], [2]),
    ],
)
def test_longest_row_is_the_first_of_equals(rids: list[int], row: list[int]) -> None:
    numbers = Numbers(0.0, 0.0, None, None)
    assert [seen.rid for seen in longest_row([Seen(rid, numbers, LIMITS) for rid in rids])] == row
