"""Rows of answers: when no honest worker made one."""

from __future__ import annotations

import random

from cocoon_sdk.verify.rows import LEAST_ROW, LINE, InRow, is_over_the_line, row_score
from cocoon_sdk.verify.thresholds import fit
from tests.helpers.session_records import LIMITS, draw


def row_of(count: int, scale: float, *, seed: int = 5) -> list[InRow]:
    rng = random.Random(seed)
    return [InRow(draw(rng, scale), LIMITS) for _ in range(count)]


def test_row_of_light_cheats_is_over_the_line() -> None:
    assert is_over_the_line(row_of(32, 3.0))
    assert is_over_the_line(row_of(16, 8.0))


def test_honest_rows_are_not_over_the_line() -> None:
    assert not any(is_over_the_line(row_of(32, 1.0, seed=seed)) for seed in range(300))


def test_client_cannot_win_with_a_short_row() -> None:
    # Finely calibrated: then even fewer would be over the line.
    fine = fit({"one": [draw(random.Random(i), 1.0) for i in range(4_000)]}, longest=16)
    row = [each._replace(limits=fine) for each in row_of(LEAST_ROW, 50.0)]
    assert is_over_the_line(row)
    assert not is_over_the_line(row[:-1])
    assert row_score(row[:-1]).accused(LINE)
