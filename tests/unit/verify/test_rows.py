"""Rows of answers: when no honest worker made one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.verify.ladder import MILLION
from cocoon_sdk.verify.rows import LEAST_ROW, LINE, InRow, is_over_the_line, longest_row, row_score
from cocoon_sdk.verify.score import Score, observe
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.thresholds import fit
from tests.helpers.session_records import LIMITS, draw

OTHERS = fit({"one": [draw(random.Random(i), 0.5) for i in range(100)]}, longest=16)
"""Limits of another kind of sampling."""


def row_of(count: int, scale: float, *, seed: int = 5) -> list[InRow]:
    rng = random.Random(seed)
    return [InRow(index, draw(rng, scale), LIMITS, b"%d" % index) for index in range(count)]


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
    again = [row[index % (LEAST_ROW - 1)]._replace(place=index) for index in range(32)]
    assert not is_over_the_line(again)
    # Of answers to one prompt the mildest counts, whatever was asked for beside it.
    mild = row_of(16, 0.1)
    both = [each for pair in zip(row, mild, strict=True) for each in pair]
    assert not is_over_the_line([each._replace(place=place) for place, each in enumerate(both)])


def test_client_cannot_win_with_prompts_on_which_honest_machines_differ() -> None:
    worst = {name: LIMITS.limits(name).refund / 1_000_000 for name in Numbers._fields}
    hard = [InRow(index, Numbers(**worst), LIMITS, b"%d" % index) for index in range(32)]
    assert not is_over_the_line(hard)


def test_client_cannot_win_by_picking_the_worst_of_many_honest_answers() -> None:
    rng = random.Random(2)
    everything = [InRow(place, draw(rng, 1.0), LIMITS, b"%d" % place) for place in range(1, 5000)]
    worst = sorted(everything, key=lambda each: -each.numbers.lp_mean)[:32]
    picked = sorted(worst, key=lambda each: each.place)
    # Two rules protect the worker: how much may be left out, and that only what is beyond a limit counts.
    assert len(longest_row(picked)) < LEAST_ROW
    assert not is_over_the_line([each._replace(place=place) for place, each in enumerate(picked)])


# -- places without an answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [7, 4, 3])
def test_worker_cannot_hide_light_cheats_by_withholding_receipts(every: int) -> None:
    """None of its answers shows enough alone, and with every seventh missing no eight are without a gap."""
    cheats = [_below_a_slash(each) for each in row_of(48, 5.0) if each.place % every][:32]
    assert longest_row(cheats) == cheats
    assert is_over_the_line(cheats)


def _below_a_slash(each: InRow) -> InRow:
    numbers = {name: min(value, LIMITS.limits(name).slash / MILLION) for name, value in each.numbers.items()}
    return each._replace(numbers=Numbers(**numbers))


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=48
    )
)
def test_client_cannot_win_by_what_it_leaves_out(
    drawn: list[tuple[int, bool, bool, bool]],
) -> None:
    """Whatever it shows of a session's answers, all of them together speak no milder against the worker."""
    every = []
    for place, (size, _, replayed, hot) in enumerate(drawn, 5):
        numbers = draw(random.Random(place), size / 2)
        if not replayed:
            numbers = Numbers(numbers.lp_mean, numbers.lp_max, None, None)
        limits, others = (LIMITS, OTHERS) if hot else (OTHERS, LIMITS)
        every.append(InRow(place, numbers, limits, b"%d" % place, others))
    row = longest_row([each for each, (_, is_shown, _, _) in zip(every, drawn, strict=True) if is_shown])
    if not row:
        return
    whole = Score()
    for each in every[row[0].place - 5 :]:
        exceeded = each.limits.exceeded(each.numbers, "refund")
        counted = {name: value * (name in exceeded) for name, value in each.numbers.items()}
        whole = observe(whole, each.numbers._replace(**counted), each.limits)
    assert row_score(row).peak <= whole.peak + 1e-9


def test_client_cannot_choose_the_kind_of_the_answers_that_it_leaves_out() -> None:
    """Perfect answers of one kind of sampling speak more for a worker than those of the other."""
    greedy = fit({"one": [draw(random.Random(i), 1.0) for i in range(108)]}, longest=16)
    shown = row_of(32, 8.0)[::2]
    known = [each._replace(others=greedy) for each in shown]
    assert row_score(known).wealth < row_score(shown).wealth
    assert all(a <= b for a, b in zip(row_score(known).wealth, row_score(shown).wealth, strict=True))


def test_client_cannot_win_by_showing_only_the_worst_of_an_honest_worker() -> None:
    """The worker exceeds each step of the ladder as often as the calibration allows, and the client knows."""
    for seed in range(3):
        rng = random.Random(seed)
        every = [InRow(place, _as_odd_as_allowed(rng), LIMITS, b"%d" % place) for place in range(150)]
        for begin in every:
            if not begin.limits.exceeded(begin.numbers, "refund"):
                continue
            # From a bad answer on: all bad ones that are near, and as many others as it takes to show them.
            near = every[begin.place : begin.place + 64]
            bad = [each for each in near if each.limits.exceeded(each.numbers, "refund")]
            for last in bad:
                span = every[begin.place : last.place + 1]
                shown = [each for each in span if each in bad]
                good = [each for each in span if each not in bad]
                shown += good[: max(LEAST_ROW - len(shown), (len(span) + 1) // 2 - len(shown), 0)]
                row = longest_row(sorted(shown, key=lambda each: each.place)[:32])
                assert not is_over_the_line(row)


def _as_odd_as_allowed(rng: random.Random) -> Numbers:
    """Return an honest answer's numbers, far beyond each step of the ladders as often as may be."""
    values = {}
    for name in Numbers._fields:
        limits, luck = LIMITS.limits(name), rng.random()
        passed = [step for step in limits.ladder.steps if luck < step.share / MILLION]
        rarest = bool(passed) and passed[-1] is limits.ladder.steps[-1]
        values[name] = (limits.refund + 1 if rarest else passed[-1].value + 1 if passed else 0) / MILLION
    return Numbers(**values)


def test_client_cannot_stretch_a_row_over_more_places_than_it_shows() -> None:
    row = row_of(64, 8.0)
    assert is_over_the_line(row[::2])
    third = row[::3]
    assert len(longest_row(third)) < LEAST_ROW
    with pytest.raises(ConfigError, match="too many are left out"):
        is_over_the_line(third)


def test_client_cannot_fill_a_row_with_the_same_prompt() -> None:
    """The other places of a prompt bring what the most honest of answers would."""
    cheats = row_of(10, 8.0)
    asked = [each._replace(place=2 * each.place) for each in cheats]
    again = [each._replace(place=each.place + 1) for each in asked]
    shown = sorted([*asked, *again], key=lambda each: each.place)
    assert row_score(shown).peak == pytest.approx(row_score(asked).peak)
    assert row_score(shown).peak < row_score(cheats).peak


@pytest.mark.parametrize("places", [(1, 1), (2, 1), (1, 6)])
def test_what_is_no_row_is_refused(places: tuple[int, ...]) -> None:
    row = [each._replace(place=place) for each, place in zip(row_of(len(places), 1.0), places, strict=True)]
    with pytest.raises(ConfigError):
        row_score(row)


@pytest.mark.parametrize(
    ("places", "row"),
    [
        ([], []),
        ([4], [4]),
        ([1, 2, 3], [1, 2, 3]),
        ([1, 3, 5, 7], [1, 3, 5, 7]),
        ([1, 4, 5], [1, 4, 5]),
        ([1, 5, 6], [1, 5, 6]),
        ([1, 6, 7], [6, 7]),
        ([1, 9, 17], [1]),
        ([1, 2, 8, 9], [1, 2]),
    ],
)
def test_longest_row_is_the_first_of_equals(places: list[int], row: list[int]) -> None:
    shown = [InRow(place, Numbers(0.0, 0.0, None, None), LIMITS, b"") for place in places]
    assert [each.place for each in longest_row(shown)] == row
