"""The running score: honest workers stay below the line for ever, light cheats cross it soon."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.verify.ladder import EXPONENTS, Ladder, Step
from cocoon_sdk.verify.score import ALPHA, BETS, SHARES, Score, observe
from cocoon_sdk.verify.statistics import NAMES, Numbers
from cocoon_sdk.verify.thresholds import KindThresholds, Limits, fit

SIZES = (0.01, 0.2, 0.01, 0.3)


def draw(rng: random.Random, scale: float) -> Numbers:
    return Numbers(*(scale * size * rng.lognormvariate(0, 0.3) for size in SIZES))


def thresholds(count: int = 400) -> KindThresholds:
    rng = random.Random(1)
    return fit({str(n): [draw(rng, 1 - n / 5) for _ in range(count)] for n in range(3)}, longest=100)


LIMITS = thresholds()


def ladder(*steps: tuple[float, float]) -> KindThresholds:
    """Return limits whose ladders are exactly these values (nat) and shares, for every statistic."""
    made = tuple(Step(value=int(value * 1e6), share=int(share * 1e6)) for value, share in steps)
    shares = [1.0, *(share for _, share in steps), 0.0]
    means = tuple(
        math.ceil(1e6 * sum(share ** (k - 1) * (share - rarer) for share, rarer in pairwise(shares)))
        for k in EXPONENTS
    )
    limits = Limits(honest=0, suspect=0, refund=0, slash=0, ladder=Ladder(steps=made, means=means))
    return LIMITS.model_copy(update=dict.fromkeys(NAMES, limits))


def watched(score: Score, rng: random.Random, audits: int, scale: float) -> Score:
    for _ in range(audits):
        score = observe(score, draw(rng, scale), LIMITS)
    return score


def test_evidence_is_fair_after_every_audit_for_a_worker_as_bad_as_honest_ones_may_be() -> None:
    # p is exactly 0.05, 0.25 or 1 with the probabilities that the ladder allows: the mean evidence over all
    # courses of events is at most 1 at every moment, computed exactly.
    limits = ladder((0.1, 0.25), (0.2, 0.05))
    events = ((0.05, 0.3), (0.20, 0.15), (0.75, 0.0))
    courses: list[tuple[float, Score]] = [(1.0, Score())]
    for _ in range(6):
        courses = [
            (weight * chance, observe(score, Numbers(value, value, value, value), limits))
            for weight, score in courses
            for chance, value in events
        ]
        mean = math.fsum(weight * math.exp(score.evidence) for weight, score in courses)
        assert mean == pytest.approx(1, abs=1e-5)
        assert mean <= 1
        # Ville: so seldom is the line ever crossed, with any line.
        for alpha in (0.5, 0.2, 0.05):
            crossed = math.fsum(weight for weight, score in courses if score.accused(alpha))
            assert crossed <= alpha


def test_honest_workers_are_not_accused_however_long_they_are_watched() -> None:
    for number in range(20):
        score = watched(Score(), random.Random(number), 400, 1.0)
        assert not score.accused()
        assert score.evidence < 0


def test_shares_are_a_mean_over_all_statistics() -> None:
    assert SHARES.keys() == set(NAMES)
    assert len(BETS) == len(EXPONENTS)
    assert math.fsum(SHARES.values()) == pytest.approx(1)
    assert math.fsum(share for _, share in BETS) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_cheat_that_one_statistic_shows_is_caught_within_sixteen_audits(name: str) -> None:
    for number in range(10):
        rng = random.Random(100 + number)
        score = Score()
        for _ in range(16):
            honest, cheat = draw(rng, 0.8), draw(rng, 4.0)
            score = observe(score, honest._replace(**{name: getattr(cheat, name)}), LIMITS)
        assert score.accused(ALPHA)


def test_worker_that_begins_to_cheat_late_is_caught_soon_all_the_same() -> None:
    rng = random.Random(3)
    score = watched(Score(), rng, 1000, 0.9)
    assert not score.accused()
    assert watched(score, rng, 32, 5.0).accused()


def test_accused_worker_stays_accused_when_it_behaves_again() -> None:
    rng = random.Random(4)
    score = watched(watched(Score(), rng, 20, 6.0), rng, 300, 0.5)
    assert score.accused()


def test_answers_without_replay_leave_the_processes_of_the_choice_as_they_are() -> None:
    score = watched(Score(), random.Random(5), 10, 5.0)
    after = observe(score, Numbers(1.0, 1.0, None, None), LIMITS)
    assert after.evidence > score.evidence
    half = len(BETS) * 2
    rests = after.wealth[half:]
    assert all(rest >= before for rest, before in zip(rests, score.wealth[half:], strict=True))
    assert max(rest - before for rest, before in zip(rests, score.wealth[half:], strict=True)) < 0.1


@given(st.lists(st.floats(0, 3), max_size=20))
def test_score_is_read_back_from_json_and_goes_on_the_same(values: list[float]) -> None:
    score = Score()
    for value in values:
        score = observe(score, Numbers(value, value, None, None), LIMITS)
    read = Score.from_json(json.loads(json.dumps(score.to_json())))
    assert read == score
    more = Numbers(0.5, 0.5, 0.5, 0.5)
    assert observe(read, more, LIMITS) == observe(score, more, LIMITS)


@given(st.floats(0, 1), st.floats(0, 1))
def test_worse_answers_never_lower_the_evidence(one: float, other: float) -> None:
    start = watched(Score(), random.Random(6), 5, 1.0)
    low, high = sorted((one, other))
    mild, grave = (observe(start, Numbers(each, each, each, each), LIMITS) for each in (low, high))
    assert mild.evidence <= grave.evidence + 1e-12


def test_score_stays_finite_over_very_many_audits_and_is_small() -> None:
    score = Score()
    for _ in range(3000):
        score = observe(score, Numbers(30.0, 30.0, 30.0, 30.0), LIMITS)
    assert math.isfinite(score.evidence)
    assert len(json.dumps(score.to_json())) < 600
    assert Score.from_json({}) == Score()


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"audits": -1},
        {"audits": 1.5},
        {"audits": True},
        {"wealth": [0.0]},
        {"wealth": ["0"] * 8},
        {"wealth": [math.nan] * 8},
        {"wealth": [math.inf] * 8},
        {"peak": -1.0},
        {"peak": None},
        {"more": 1},
    ],
    ids=str,
)
def test_score_cannot_be_read_when_it_is_malformed(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        Score.from_json(Score().to_json() | change)


@pytest.mark.parametrize("value", [None, [], "x", {"v": 1}])
def test_score_cannot_be_read_from_something_else(value: object) -> None:
    with pytest.raises(MalformedError):
        Score.from_json(value)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0])
def test_line_needs_a_probability(alpha: float) -> None:
    with pytest.raises(ConfigError):
        Score().accused(alpha)
