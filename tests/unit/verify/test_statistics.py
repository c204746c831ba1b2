"""Statistics of an answer: what enters, what is capped, and what several re-scorings excuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.verify.commitment import Choice
from cocoon_sdk.verify.rescoring import Rescored
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.statistics import (
    CAP,
    MEAN_FLOOR,
    NAMES,
    PERFECT,
    ROUNDING,
    Numbers,
    Replayed,
    evidence,
    numbers,
)
from tests.helpers.table_model import TableModel, ids

GREEDY = Replayed(Sampling(temperature=0), bytes(16), ids([1]))


def rescored(logprobs: list[float], *, best: float = -0.1) -> Rescored:
    """Return a re-scoring of tokens 100, 101 ... whose best token is always 7."""
    count = len(logprobs)
    return Rescored(
        tokens=ids(range(100, 100 + count)),
        logprobs=np.array(logprobs),
        ranks=ids([2] * count),
        top_tokens=ids([7, 8] * count).reshape(count, 2),
        top_logprobs=np.array([best, -9.0] * count).reshape(count, 2),
    )


def choice(logprobs: list[float]) -> Choice:
    return Choice.of(range(100, 100 + len(logprobs)), logprobs, "length")


def test_difference_is_between_what_was_committed_and_what_is_recomputed() -> None:
    found = evidence(0, choice([-1.0, -2.0]), [rescored([-1.5, -2.0])], GREEDY)
    assert [token.difference for token in found] == [0.5 - ROUNDING, 0.0]
    assert [token.regret for token in found] == pytest.approx([1.4, 1.9])
    assert {token.expected for token in found} == {7}
    result = numbers(found)
    assert result.lp_max == 0.5 - ROUNDING
    assert result.tok_max == pytest.approx(1.9)
    roots = [math.sqrt(token.weight) for token in found]
    assert result.lp_mean == pytest.approx((0.5 - ROUNDING) / roots[0] / (sum(roots) + PERFECT))
    assert result.tok_mean == pytest.approx(3.3 / MEAN_FLOOR)


def test_means_are_plain_ones_when_there_are_enough_tokens() -> None:
    many = 2 * MEAN_FLOOR
    found = numbers(evidence(0, choice([-1.0] * many), [rescored([-1.25] * many)], GREEDY))
    weight = math.hypot(1 - math.exp(-1.25), math.exp(-0.1), math.exp(-9))
    shown = many * math.sqrt(weight)
    assert found.lp_mean == pytest.approx((0.25 - ROUNDING) / weight * shown / (shown + PERFECT))
    assert found.tok_mean == pytest.approx(1.15)


def test_mean_of_differences_is_the_spread_of_logits_whatever_the_temperature() -> None:
    worker, verifier = TableModel(spread=0.1, machine=1), TableModel(spread=0.1, machine=2)
    # Two independent spreads, and the mean of an absolute normal number.
    expected = 0.1 * math.sqrt(2) * math.sqrt(2 / math.pi)
    for temperature in (0, 300_000, 1_000_000):
        sampling, found = Sampling(temperature=temperature), []
        for number in range(8):
            seed = number.to_bytes(16, "big")
            made = worker.generate([number, 4], sampling, seed, 50)
            found += evidence(0, Choice.of(*made), [verifier.rescore([number, 4], made[0])], None)
        assert numbers(found).lp_mean == pytest.approx(expected, rel=0.2), temperature


def test_mildest_rescoring_counts_for_each_token_and_statistic() -> None:
    one, other = rescored([-1.5, -2.0], best=-1.0), rescored([-1.0, -2.5], best=-2.0)
    found = evidence(0, choice([-1.0, -2.0]), [one, other], GREEDY)
    assert [token.difference for token in found] == [0.0, 0.0]
    assert [token.regret for token in found] == pytest.approx([0.0, 0.5])


def test_impossible_tokens_count_at_most_the_cap() -> None:
    found = numbers(evidence(0, choice([-1.0]), [rescored([-math.inf])], GREEDY))
    assert found.lp_max == CAP
    assert math.isfinite(found.lp_mean)
    assert found.tok_max == CAP


def test_regret_is_missing_when_choices_are_not_replayed() -> None:
    found = numbers(evidence(0, choice([-1.0]), [rescored([-1.0])], None))
    assert (found.tok_mean, found.tok_max) == (None, None)
    assert dict(found.items()).keys() == {"lp_mean", "lp_max"}


def test_answer_without_tokens_has_nothing_against_it() -> None:
    assert numbers([]) == Numbers(0.0, 0.0, 0.0, 0.0)
    assert NAMES == ("lp_mean", "lp_max", "tok_mean", "tok_max")


@given(st.integers(0, 2**32), st.sampled_from([300_000, 700_000, 1_000_000, 1_500_000]))
def test_own_choice_of_a_model_has_no_regret_whatever_the_temperature(number: int, temperature: int) -> None:
    model, seed = TableModel(), number.to_bytes(16, "big")
    sampling = Sampling(temperature=temperature)
    tokens, logprobs, finish = model.generate([3, 4], sampling, seed, 6)
    found = evidence(
        0,
        Choice.of(tokens, logprobs, finish),
        [model.rescore([3, 4], tokens)],
        Replayed(sampling, seed, ids([3, 4])),
    )
    assert [token.regret for token in found] == [0.0] * len(tokens)
    assert max(token.difference for token in found) < 1e-9
    assert [token.expected for token in found] == tokens


@given(st.integers(0, 2**32), st.sampled_from([0, 300_000, 1_000_000]), st.floats(0.001, 0.05))
def test_regret_is_at_most_twice_the_spread_of_logits_at_every_temperature(
    number: int, temperature: int, spread: float
) -> None:
    # In nat of raw logits: this is why one limit serves all temperatures.
    worker, verifier = TableModel(spread=spread, machine=1), TableModel(spread=spread, machine=2)
    sampling, seed = Sampling(temperature=temperature), number.to_bytes(16, "big")
    tokens, logprobs, finish = worker.generate([3, 4], sampling, seed, 6)
    replayed = Replayed(sampling, seed, ids([3, 4]))
    found = evidence(0, Choice.of(tokens, logprobs, finish), [verifier.rescore([3, 4], tokens)], replayed)
    # Five standard deviations on either side, twice (two tokens move against one another on two machines).
    assert all(token.regret is not None and token.regret <= 20 * spread for token in found)
