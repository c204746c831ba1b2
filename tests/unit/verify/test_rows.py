"""Rows of answers: when no honest worker made one."""

from __future__ import annotations

import random

from cocoon_sdk.verify.rows import LEAST_ROW, LINE, InRow, is_over_the_line, row_score
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.thresholds import fit
from tests.helpers.session_records import LIMITS, draw


def row_of(count: int, scale: float, *, seed: int = 5) -> list[InRow]:
    rng = random.Random(seed)
    return [InRow(draw(rng, scale), LIMITS, b"%d" % index) for index in range(count)]


def test_row_of_light_cheats_is_over_the_line() -> None:
    assert is_over_the_line(row_of(32, 6.0))
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


def test_client_cannot_win_by_asking_the_same_again() -> None:
    row = row_of(16, 8.0)
    assert is_over_the_line(row)
    again = [row[index % (LEAST_ROW - 1)] for index in range(32)]
    assert not is_over_the_line(again)
    # Of answers to one prompt the mildest counts, whatever was asked for beside it.
    mild = row_of(16, 0.1)
    assert not is_over_the_line([each for pair in zip(row, mild, strict=True) for each in pair])


def test_client_cannot_win_with_prompts_on_which_honest_machines_differ() -> None:
    worst = {name: LIMITS.limits(name).refund / 1_000_000 for name in Numbers._fields}
    hard = [InRow(Numbers(**worst), LIMITS, b"%d" % index) for index in range(32)]
    assert not is_over_the_line(hard)
