"""The ladder: honest workers lose every bet in the long run, whatever their numbers look like."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cocoon_sdk.verify.ladder import EXPONENTS, MAX_STEPS, Ladder, Step, make_ladder

DOUBT = 0.01
MEANS = (3_430_326, 2_269_417)
SHAPES: dict[str, Callable[[random.Random], float]] = {
    "near": lambda rng: rng.lognormvariate(-3, 0.2),
    "far": lambda rng: rng.lognormvariate(-3, 1.5),
    "mostly nothing": lambda rng: 0.0 if rng.random() < 0.8 else rng.random(),
    "few values": lambda rng: rng.choice((0.1, 0.1, 0.1, 0.2, 0.3)),
}


def made(shape: str, counts: tuple[int, ...] = (400,), seed: int = 1) -> Ladder:
    rng = random.Random(seed)
    groups = [[SHAPES[shape](rng) for _ in range(count)] for count in counts]
    return make_ladder(groups, floor=0.0, doubt=DOUBT)


MADE = made("near")


@pytest.mark.parametrize("shape", SHAPES)
def test_honest_workers_lose_every_bet_in_the_mean(shape: str) -> None:
    fresh = random.Random(0)
    values = [SHAPES[shape](fresh) for _ in range(4000)]
    for seed in range(8):
        ladder = made(shape, seed=seed)
        for bet in range(len(EXPONENTS)):
            for stake in (1.0, 0.5):
                assert math.fsum(ladder.e_value(each, bet, stake) for each in values) / len(values) < 1


def test_bets_lose_little_when_there_are_many_honest_values() -> None:
    # What is left is the price of not knowing the distribution; it falls with the number of checks.
    fresh = random.Random(0)
    values = [SHAPES["near"](fresh) for _ in range(4000)]
    means = [
        math.fsum(made("near", (count,)).e_value(each, 0, 1.0) for each in values) / len(values)
        for count in (100, 400, 6400)
    ]
    assert means[0] < means[1] < means[2] < 1
    assert means[1] > 0.6
    assert means[2] > 0.85


def test_bound_is_wrong_no_more_often_than_it_says() -> None:
    # Exactly: with uniform values a step's probability is 1 minus its value. A doubt that one can count in.
    doubt, wrong, tries = 0.2, 0, 400
    for seed in range(tries):
        rng = random.Random(seed)
        ladder = make_ladder([[rng.random() for _ in range(60)]], floor=0.0, doubt=doubt)
        paid = [1.0, *((step.share / 1e6) ** (EXPONENTS[0] - 1) for step in ladder.steps)]
        exceeded = [1.0, *(1 - step.value / 1e6 for step in ladder.steps), 0.0]
        mean = sum(p * (more - less) for p, (more, less) in zip(paid, pairwise(exceeded), strict=True))
        wrong += mean * 1e6 > ladder.means[0]
    # As often as it says, give or take three standard deviations of counting.
    assert wrong / tries == pytest.approx(doubt / len(EXPONENTS), abs=0.045)


def test_worst_of_the_settings_counts() -> None:
    rng = random.Random(2)
    worst, better = [[scale * rng.random() for _ in range(200)] for scale in (1.0, 0.1)]
    alone, both = (make_ladder(groups, floor=0.0, doubt=DOUBT) for groups in ([worst], [better, worst]))
    assert [step.value for step in both.steps] == [step.value for step in alone.steps]
    assert all(more >= fewer for more, fewer in zip(both.means, alone.means, strict=True))


def test_settings_may_have_different_numbers_of_checks() -> None:
    ladder = made("near", (20, 1000))
    assert [step.share for step in ladder.steps] == [math.ceil(1e6 * n / 21) for n in (10, 5)]
    assert len(made("near", (1000,)).steps) > len(ladder.steps)
    assert len(made("near", (100_000,)).steps) <= MAX_STEPS


@given(st.floats(0, 2), st.floats(0, 2), st.integers(0, len(EXPONENTS) - 1), st.floats(0, 1))
def test_larger_values_never_pay_less(one: float, other: float, bet: int, stake: float) -> None:
    low, high = sorted((one, other))
    assert MADE.share(high) <= MADE.share(low) <= 1
    assert MADE.e_value(high, bet, stake) >= MADE.e_value(low, bet, stake)


def test_no_step_is_below_the_floor() -> None:
    ladder = make_ladder([[0.0] * 50], floor=0.01, doubt=DOUBT)
    assert ladder.share(0.01) == 1
    assert ladder.share(0.0101) < 1


def test_ladder_is_the_same_on_every_machine() -> None:
    assert made("far") == made("far")
    # Gamma numbers of NumPy's PCG64, to the millionth: another library's would be other limits.
    assert make_ladder([[each / 99 for each in range(99)]], floor=0.0, doubt=DOUBT).means == MEANS


@pytest.mark.parametrize("steps", [((0.2, 0.1), (0.1, 0.05)), ((0.1, 0.1), (0.2, 0.1))], ids=str)
def test_ladder_cannot_be_read_when_it_does_not_rise(steps: tuple[tuple[float, float], ...]) -> None:
    made = tuple(Step(value=int(value * 1e6), share=int(share * 1e6)) for value, share in steps)
    with pytest.raises(ValidationError):
        Ladder(steps=made, means=(1_000_000,) * len(EXPONENTS))
