"""Limits and ladders: what they promise holds for honest workers, whatever their setting."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.statistics import MEANS, NAMES, STATISTICS_VERSION, Numbers
from cocoon_sdk.verify.thresholds import (
    KindThresholds,
    SamplingKind,
    Thresholds,
    binomial_bound,
    fit,
)

MODEL = Hash(b"\x11" * 32)


def checks(rng: random.Random, count: int, scale: float = 1.0) -> list[Numbers]:
    return [
        Numbers(*(scale * size * rng.lognormvariate(0, 0.4) for size in (0.01, 0.2, 0.01, 0.3)))
        for _ in range(count)
    ]


def fitted(count: int = 400) -> KindThresholds:
    rng = random.Random(7)
    groups = {f"setting {number}": checks(rng, count, 1 - number / 4) for number in range(3)}
    return fit(groups, longest=100)


@pytest.mark.parametrize(
    ("failures", "trials", "doubt", "bound"),
    [
        # With no failure the bound is 1 - doubt^(1/n); the others are from published tables.
        (0, 100, 0.05, 1 - 0.05**0.01),
        (0, 2000, 0.05, 1 - 0.05 ** (1 / 2000)),
        (1, 10, 0.025, 0.4450161),
        (5, 20, 0.025, 0.4910459),
        (20, 20, 0.05, 1.0),
    ],
)
def test_binomial_bound_is_the_exact_one(failures: int, trials: int, doubt: float, bound: float) -> None:
    assert binomial_bound(failures, trials, doubt) == pytest.approx(bound, abs=1e-6)


def test_limits_are_multiples_of_the_largest_honest_value_of_all_settings() -> None:
    found = fitted(50)
    rng = random.Random(7)
    largest = max(each.lp_max for number in range(3) for each in checks(rng, 50, 1 - number / 4))
    assert found.lp_max.honest == pytest.approx(largest * 1e6, abs=1)
    assert found.lp_max.suspect == pytest.approx(1.25 * largest * 1e6, abs=1)
    assert found.lp_max.refund == pytest.approx(1.5 * largest * 1e6, abs=1)
    assert found.lp_max.slash == pytest.approx(4 * largest * 1e6, abs=1)
    assert (found.honest_checks, found.settings, found.longest) == (150, 3, 100)


def test_limits_come_from_both_kinds_of_sampling_and_so_do_the_ladders_of_the_means() -> None:
    rng = random.Random(3)
    greedy, sampled = {"one": checks(rng, 60)}, {"one": checks(rng, 200, 2.0)}
    both = {"one": [*greedy["one"], *sampled["one"]]}
    found = fit(greedy, longest=10, both=both), fit(sampled, longest=10, both=both)
    for name in NAMES:
        ladders = [each.limits(name).ladder for each in found]
        assert (ladders[0] == ladders[1]) == (name in MEANS)
        assert len({each.limits(name).refund for each in found}) == 1
    # More checks reach rarer steps.
    assert found[0].lp_mean.ladder.steps[-1].share < found[0].lp_max.ladder.steps[-1].share


def test_limits_of_other_statistics_cannot_be_read() -> None:
    made = Thresholds(model_id=MODEL, greedy=None, sampled=FITTED)
    version = f'"statistics":{STATISTICS_VERSION}'.encode()
    assert version in made.to_bytes()
    with pytest.raises(MalformedError):
        Thresholds.from_bytes(made.to_bytes().replace(version, b'"statistics":2'))


FITTED = fitted()


def test_engine_without_any_spread_still_gets_room_for_rounding() -> None:
    exact = fit({"one": [Numbers(0.0, 0.0, 0.0, 0.0)] * 30}, longest=10)
    assert exact.exceeded(Numbers(0.002, 0.01, 0.001, 0.04), "suspect") == ()
    assert exact.lp_mean.ladder.share(0.002) == 1


def test_exceeded_names_the_statistics_beyond_a_limit() -> None:
    numbers = Numbers(FITTED.lp_mean.slash / 1e6 * 1.01, 0.0, None, None)
    assert FITTED.exceeded(numbers, "slash") == ("lp_mean",)
    assert FITTED.exceeded(Numbers(0.0, 0.0, None, None), "suspect") == ()


def test_false_alarm_bound_comes_from_checks_that_set_no_limit() -> None:
    without = FITTED.false_alarm_bound
    assert without == pytest.approx(4 * (1 - 0.0125 ** (1 / 1200)))
    clean = FITTED.with_held_out([Numbers(0.0, 0.0, 0.0, 0.0)] * 1000)
    assert (clean.held_out_checks, clean.held_out_alarms) == (1000, 0)
    assert clean.false_alarm_bound == pytest.approx(3 / 1000, rel=0.01)
    alarming = FITTED.with_held_out([Numbers(0.0, 9.0, 0.0, 0.0)] * 2 + [Numbers(0.0, 0.0, 0.0, 0.0)] * 98)
    assert alarming.held_out_alarms == 2
    assert alarming.false_alarm_bound > 0.05


@pytest.mark.parametrize("groups", [{}, {"one": [Numbers(0.0, 0.0, 0.0, 0.0)] * 19}])
def test_limits_cannot_be_set_when_there_are_too_few_checks(groups: dict[str, list[Numbers]]) -> None:
    with pytest.raises(ConfigError):
        fit(groups, longest=10)


def test_limits_cannot_be_set_when_a_statistic_is_missing() -> None:
    with pytest.raises(ConfigError, match="tok_mean"):
        fit({"one": [Numbers(0.0, 0.0, None, None)] * 30}, longest=10)


def test_thresholds_are_read_back_and_hash_to_what_the_registry_carries() -> None:
    thresholds = Thresholds(model_id=MODEL, greedy=FITTED, sampled=None)
    read = Thresholds.from_bytes(thresholds.to_bytes())
    assert read == thresholds
    assert read.digest() == thresholds.digest()
    assert read.kind(SamplingKind.GREEDY) == FITTED
    assert read.kind(SamplingKind.SAMPLED) is None
    assert Thresholds(model_id=MODEL, greedy=FITTED, sampled=FITTED).digest() != thresholds.digest()


def broken() -> list[bytes]:
    good = Thresholds(model_id=MODEL, greedy=FITTED, sampled=None).to_bytes()
    falling = FITTED.lp_max.model_copy(update={"suspect": FITTED.lp_max.refund + 1})
    steps = FITTED.lp_max.ladder.steps
    turned = FITTED.lp_max.ladder.model_copy(update={"steps": steps[::-1]})
    ladder = FITTED.lp_max.model_copy(update={"ladder": turned})
    alarms = FITTED.model_copy(update={"held_out_alarms": 1})
    changed = [FITTED.model_copy(update={"lp_max": each}) for each in (falling, ladder)]
    return [
        good.replace(b'"v":1', b'"v":2'),
        good.replace(b'"settings":3', b'"settings":-3'),
        good[:-1],
        b" " * (64 * 1024) + good,
        *(
            Thresholds(model_id=MODEL, greedy=FITTED, sampled=None)
            .model_copy(update={"greedy": each})
            .to_bytes()
            for each in (*changed, alarms)
        ),
    ]


@pytest.mark.parametrize("data", broken())
def test_thresholds_cannot_be_read_when_they_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Thresholds.from_bytes(data)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 10), min_size=20, max_size=60), st.integers(1, 3))
def test_fit_makes_readable_thresholds_of_any_values(values: list[float], groups: int) -> None:
    found = fit(
        {str(number): [Numbers(each, each, each, each) for each in values] for number in range(groups)},
        longest=10,
    )
    thresholds = Thresholds(model_id=MODEL, greedy=None, sampled=found)
    assert Thresholds.from_bytes(thresholds.to_bytes()) == thresholds
