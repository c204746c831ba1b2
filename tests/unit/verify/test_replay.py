"""The replay of choices, against a plain rendering of vLLM's order over the whole vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_sdk.verify.noise import NOISE_UNIT, gumbel
from cocoon_sdk.verify.replay import Numbers, Tokens, replay
from cocoon_sdk.verify.sampling import MILLION, Sampling

SEED = bytes(range(16))
SIZE = 300
ALL: Tokens = np.arange(SIZE, dtype=np.int64)
NONE: Tokens = np.array([], dtype=np.int64)

histories = st.lists(st.integers(0, 30), max_size=12).map(lambda ids: np.array(ids, dtype=np.int64))
samplings = st.builds(
    Sampling,
    temperature=st.one_of(st.just(0), st.integers(10_000, 2 * MILLION)),
    top_k=st.sampled_from([0, 0, 1, 2, 5, 19, 20, 21, 40]),
    top_p=st.sampled_from([MILLION, MILLION, 1, 100_000, 500_000, 900_000, 990_000]),
    min_p=st.sampled_from([0, 0, 50_000, 500_000, MILLION]),
    presence_penalty=st.sampled_from([0, 0, 500_000, -500_000]),
    frequency_penalty=st.sampled_from([0, 0, 300_000, -300_000]),
)


def row(number: int, spread: float = 3.0) -> Numbers:
    """Log-probabilities of a vocabulary: a few likely tokens, a long tail, like a language model's."""
    logits = np.random.default_rng(number).normal(0.0, spread, SIZE)
    return logits - float(np.log(np.exp(logits).sum()))


def choose(
    sampling: Sampling, position: int, logprobs: Numbers, *, prompt: Tokens = NONE, output: Tokens = NONE
) -> int:
    """Choose as the documentation says, step by step, over all tokens."""
    logits = logprobs.copy()
    for token in {*prompt.tolist(), *output.tolist()}:
        factor = sampling.repetition_penalty / MILLION
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    for token in set(output.tolist()):
        logits[token] -= sampling.frequency_penalty / MILLION * output.tolist().count(token)
        logits[token] -= sampling.presence_penalty / MILLION
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    logits /= sampling.temperature / MILLION
    probabilities = np.exp(logits - logits.max())
    logits[probabilities < sampling.min_p / MILLION] = -math.inf
    if sampling.top_k:
        logits[logits < np.sort(logits)[-min(sampling.top_k, SIZE)]] = -math.inf
    if sampling.top_p < MILLION:
        order = np.argsort(-logits)
        shares = np.exp(logits[order]) / np.exp(logits).sum()
        logits[order[np.cumsum(shares) - shares >= sampling.top_p / MILLION]] = -math.inf
    return int(np.argmax(logits + gumbel(SEED, position, ALL) * NOISE_UNIT))


def top(logprobs: Numbers, chosen: int, count: int = 20) -> tuple[Tokens, Numbers, float]:
    """Return what `prompt_logprobs` gives: the best tokens and the chosen one."""
    best = np.argsort(-logprobs)[:count]
    listed = best if chosen in best else np.append(best, chosen)
    return listed.astype(np.int64), logprobs[listed], float(logprobs[best[-1]])


# -- the choice itself -----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(samplings, st.integers(0, 10_000), histories, histories)
def test_honest_choice_has_no_regret(sampling: Sampling, number: int, prompt: Tokens, output: Tokens) -> None:
    logprobs = row(number)
    chosen = choose(sampling, number, logprobs, prompt=prompt, output=output)

    whole = replay(sampling, SEED, number, ALL, logprobs, prompt=prompt, output=output)
    tokens, known, unlisted = top(logprobs, chosen)
    part = replay(
        sampling,
        *(SEED, number, tokens, known),
        prompt=prompt,
        output=output,
        unlisted=unlisted,
        vocabulary=SIZE,
    )

    assert whole.regret(chosen) == pytest.approx(0.0, abs=1e-9)
    assert part.regret(chosen) == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(samplings, st.integers(0, 10_000), histories, st.integers(0, 30))
def test_known_part_never_says_more_against_a_token_than_the_whole(
    sampling: Sampling, number: int, output: Tokens, rank: int
) -> None:
    logprobs = row(number)
    chosen = int(np.argsort(-logprobs)[rank])
    tokens, known, unlisted = top(logprobs, chosen)

    whole = replay(sampling, SEED, number, ALL, logprobs, prompt=NONE, output=output)
    part = replay(
        sampling, SEED, number, tokens, known, prompt=NONE, output=output, unlisted=unlisted, vocabulary=SIZE
    )

    assert part.regret(chosen) <= whole.regret(chosen) + 1e-6
    for index, token in enumerate(tokens.tolist()):
        # Far on the wrong side, odds near 0 and 1 lose their digits.
        assert part.sure[index] <= max(-5.0, whole.sure[token]) + 1e-6
        assert part.possible[index] >= min(5.0, whole.possible[token]) - 1e-6


@settings(max_examples=200, deadline=None)
@given(samplings, st.integers(0, 10_000), histories, st.floats(0.0001, 0.3))
def test_honest_choice_regrets_no_more_than_the_logits_moved(
    sampling: Sampling, number: int, output: Tokens, spread: float
) -> None:
    logprobs = row(number)
    moved = logprobs + np.random.default_rng(number + 1).uniform(-spread / 2, spread / 2, SIZE)
    chosen = choose(sampling, number, moved, output=output)

    whole = replay(sampling, SEED, number, ALL, logprobs, prompt=NONE, output=output)

    assert whole.regret(chosen) <= spread + 1e-9


def regret_among_alike(
    sampling: Sampling, number: int, alike: int, apart: float, spread: float, listed: int
) -> float:
    """Return an honest choice's regret where `alike` logits are at most `apart`, and another machine's differ
    by at most `spread` from one another's."""
    rng = np.random.default_rng(number)
    logits = np.where(alike > ALL, rng.uniform(0, apart, SIZE), rng.normal(-9, 1, SIZE))
    logprobs = logits - np.log(np.exp(logits).sum())
    chosen = choose(sampling, number, logprobs + rng.uniform(-spread / 2, spread / 2, SIZE))
    tokens, known, unlisted = top(logprobs, chosen, listed)
    part = replay(
        sampling, SEED, number, tokens, known, prompt=NONE, output=NONE, unlisted=unlisted, vocabulary=SIZE
    )
    return part.regret(chosen)


@settings(max_examples=300, deadline=None)
@given(
    samplings,
    st.integers(0, 10_000),
    st.integers(2, 60),
    st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    st.floats(0.0001, 0.3),
    st.integers(1, 20),
)
def test_honest_choice_among_like_tokens_regrets_no_more_when_few_are_listed(
    sampling: Sampling, number: int, alike: int, apart: float, spread: float, listed: int
) -> None:
    assert regret_among_alike(sampling, number, alike, apart, spread, listed) <= spread + 1e-5


@pytest.mark.parametrize(
    ("temperature", "top_p", "alike", "listed"),
    [(250_000, 900_000, 10, 5), (300_000, 900_000, 18, 6), (MILLION, 600_000, 40, 20)],
)
def test_top_p_that_cuts_beyond_the_listed_tokens_makes_no_honest_choice_suspect(
    temperature: int, top_p: int, alike: int, listed: int
) -> None:
    """The smallest spread puts a listed token behind one that is not listed, and the cut between them."""
    sampling = Sampling(temperature=temperature, top_p=top_p)
    largest = max(regret_among_alike(sampling, each, alike, 0.01, 0.02, listed) for each in range(300))
    assert largest <= 0.02


def test_whole_vocabulary_with_repetition_penalty_is_replayed_from_logits() -> None:
    sampling = Sampling(temperature=800_000, repetition_penalty=1_300_000)
    prompt, output = np.array([1, 2, 3]), np.array([3, 4])
    for number in range(40):
        logits = np.random.default_rng(number).normal(1.0, 3.0, SIZE)
        chosen = choose(sampling, number, logits, prompt=prompt, output=output)
        done = replay(sampling, SEED, number, ALL, logits, prompt=prompt, output=output)
        assert done.regret(chosen) == 0.0


# -- what a cheater sees ---------------------------------------------------------------------------------


def test_worker_cannot_hide_another_seed_or_temperature() -> None:
    asked = Sampling(temperature=800_000, top_p=950_000)
    honest, other_seed, colder = [], [], []
    for position in range(200):
        logprobs = row(position, spread=1.5)
        done = replay(asked, SEED, position, ALL, logprobs, prompt=NONE, output=NONE)
        honest.append(done.regret(choose(asked, position, logprobs)))
        other_seed.append(done.regret(choose(asked, position + 1000, logprobs)))
        colder.append(done.regret(choose(Sampling(temperature=300_000), position, logprobs)))

    assert max(honest) == 0.0
    assert np.mean(other_seed) > 0.5
    assert np.mean(colder) > 0.3


def test_worker_cannot_take_the_best_token_when_noise_chose_another() -> None:
    logprobs = np.log(np.array([0.5, 0.3, 0.2]))
    tokens = np.array([5, 6, 7])
    drawn = gumbel(SEED, 0, tokens) * NOISE_UNIT
    expected = int(np.argmax(logprobs + drawn))

    done = replay(Sampling(), SEED, 0, tokens, logprobs, prompt=NONE, output=NONE)

    assert done.regret(int(tokens[expected])) == 0.0
    for index in {0, 1, 2} - {expected}:
        lead = (logprobs + drawn)[expected] - (logprobs + drawn)[index]
        assert done.regret(int(tokens[index])) == pytest.approx(lead)


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_regret_of_a_cut_token_is_its_distance_to_the_cut(number: int) -> None:
    logprobs = row(number)
    falling = np.sort(logprobs)[::-1]
    outside = int(np.argsort(-logprobs)[4])
    done = replay(Sampling(top_k=3), SEED, 0, ALL, logprobs, prompt=NONE, output=NONE)

    assert done.possible[outside] == pytest.approx(falling[4] - falling[2])
    assert done.regret(outside) >= falling[2] - falling[4] - 1e-9


def test_token_at_the_edge_of_top_p_can_be_in_or_out() -> None:
    # 0.9 of the mass stands before the third token, to within a hair.
    logprobs = np.log(np.array([0.6, 0.3001, 0.0999]))
    tokens = np.array([5, 6, 7])
    for share in (899_000, 901_000):
        done = replay(Sampling(top_p=share), SEED, 0, tokens, logprobs, prompt=NONE, output=NONE)
        assert abs(done.possible[2]) < 0.03
        assert abs(done.sure[2]) < 0.03
        assert done.sure[0] > 1


def test_noise_ignores_what_is_masked() -> None:
    logprobs = np.array([-math.inf, 0.0])
    done = replay(Sampling(), SEED, 0, np.array([1, 2]), logprobs, prompt=NONE, output=NONE)

    assert done.regret(2) == 0.0
    assert done.regret(1) == math.inf


# -- refusals --------------------------------------------------------------------------------------------


def test_replay_cannot_start_from_lists_that_do_not_fit() -> None:
    two = np.array([1, 2])
    for tokens, logprobs in ((two, np.zeros(3)), (NONE, np.zeros(0)), (np.array([1, 1]), np.zeros(2))):
        with pytest.raises(ValueError, match=r"length|twice"):
            replay(Sampling(), SEED, 0, tokens, logprobs, prompt=NONE, output=NONE)
    with pytest.raises(ValueError, match="not among"):
        replay(Sampling(), SEED, 0, two, np.zeros(2), prompt=NONE, output=NONE).regret(3)


def test_replay_cannot_judge_a_repetition_penalty_by_some_log_probabilities() -> None:
    sampling = Sampling(repetition_penalty=1_100_000)
    with pytest.raises(ValueError, match="repetition"):
        replay(sampling, SEED, 0, ALL, row(0), prompt=NONE, output=NONE, unlisted=-9.0)
