"""The fast choice of a token: the same as the replay's, whatever it leaves out on the way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_sdk.verify.noise import gumbel
from cocoon_sdk.verify.replay import replay
from cocoon_sdk.verify.sampling import MILLION, Sampling
from cocoon_worker.engine.choosing import Logits, choose

SEED = bytes(range(16))
SIZE = 5000
ALL = np.arange(SIZE, dtype=np.int64)

histories = st.lists(st.integers(0, 30), max_size=12)
samplings = st.builds(
    Sampling,
    temperature=st.integers(10_000, 2 * MILLION),
    top_k=st.sampled_from([0, 0, 1, 2, 50, 4999, 5000, 2**31 - 1]),
    top_p=st.sampled_from([MILLION, MILLION, 1, 100_000, 900_000, 999_999]),
    min_p=st.sampled_from([0, 0, 1, 50_000, MILLION]),
    presence_penalty=st.sampled_from([0, 0, 500_000, -500_000]),
    frequency_penalty=st.sampled_from([0, 0, 300_000, -300_000]),
    repetition_penalty=st.sampled_from([MILLION, MILLION, 1_200_000, 800_000]),
)


def row(number: int, spread: float) -> Logits:
    return np.random.default_rng(number).normal(0.0, spread, SIZE).astype(np.float32)


@settings(max_examples=300, deadline=None)
@given(samplings, st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 2.0, 5.0]), histories, histories)
def test_choice_is_the_one_that_a_replay_expects(
    sampling: Sampling, number: int, spread: float, prompt: list[int], output: list[int]
) -> None:
    logits = row(number, spread)
    before = logits.copy()

    token = choose(logits, sampling, SEED, number, prompt=prompt, output=output)

    assert np.array_equal(logits, before)
    assert token is not None
    done = replay(
        *(sampling, SEED, number, ALL, logits.astype(np.float64)),
        prompt=np.array(prompt, dtype=np.int64),
        output=np.array(output, dtype=np.int64),
    )
    assert done.regret(token) < 1e-4  # the row's single precision


def test_choice_of_an_unlikely_token_is_not_missed() -> None:
    # Flat below one likely token: thousands of tokens far down, and the noise of one of them may win.
    logits = np.zeros(SIZE, dtype=np.float32)
    logits[17] = 8.5
    far = 0
    for position in range(300):
        token = choose(logits, Sampling(), SEED, position, prompt=(), output=())
        expected = int(np.argmax(logits + gumbel(SEED, position, ALL) / 65536))
        assert token == expected
        far += token != 17
    assert 60 < far < 240  # about half of the mass is below


def test_masked_tokens_cannot_be_chosen() -> None:
    logits = np.full(SIZE, -math.inf, dtype=np.float32)
    logits[[5, 900]] = [1.0, -30.0]
    for sampling in (
        Sampling(2 * MILLION),
        Sampling(top_k=4),
        Sampling(top_p=999_999),
        Sampling(presence_penalty=-2 * MILLION),
        Sampling(repetition_penalty=1_500_000),
    ):
        chosen = {choose(logits, sampling, SEED, position, prompt=[7], output=[3]) for position in range(50)}
        assert chosen <= {5, 900}


def test_nothing_is_chosen_when_no_token_has_a_finite_logit() -> None:
    for value in (-math.inf, math.nan, math.inf):
        logits = np.full(SIZE, value, dtype=np.float32)
        assert choose(logits, Sampling(), SEED, 0, prompt=(), output=()) is None


def test_placeholders_beyond_the_vocabulary_are_ignored_in_a_prompt() -> None:
    sampling = Sampling(repetition_penalty=2 * MILLION)
    token = choose(row(1, 2.0), sampling, SEED, 0, prompt=[SIZE + 7, 3, -1], output=())
    assert token == choose(row(1, 2.0), sampling, SEED, 0, prompt=[3], output=())


@pytest.mark.parametrize(("top_k", "expected"), [(1, {42}), (2, {42, 43})])
def test_only_the_best_take_part_when_top_k_says_so(top_k: int, expected: set[int]) -> None:
    logits = np.zeros(SIZE, dtype=np.float32)
    logits[42], logits[43] = 1.2, 1.0
    chosen = {
        choose(logits, Sampling(top_k=top_k), SEED, position, prompt=(), output=()) for position in range(60)
    }
    assert chosen == expected
