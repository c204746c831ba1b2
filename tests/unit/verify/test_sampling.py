"""Sampling parameters: read as vLLM reads them, told to the engine, and which requests cannot be replayed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.verify.replay import replay
from cocoon_sdk.verify.sampling import LEAST_CANDIDATES, MILLION, Sampling

SEED = bytes(range(16))

samplings = st.builds(
    Sampling,
    temperature=st.one_of(st.just(0), st.integers(10_000, 2 * MILLION)),
    top_k=st.integers(0, 2**31 - 1),
    top_p=st.integers(1, MILLION),
    min_p=st.integers(0, MILLION),
    presence_penalty=st.integers(-2 * MILLION, 2 * MILLION),
    frequency_penalty=st.integers(-2 * MILLION, 2 * MILLION),
    repetition_penalty=st.integers(10_000, 10 * MILLION),
)


@settings(deadline=None)
@given(samplings)
def test_parameters_survive_json(sampling: Sampling) -> None:
    assert Sampling.from_json(sampling.to_json()) == sampling


@settings(deadline=None)
@given(samplings)
def test_parameters_survive_a_request_body(sampling: Sampling) -> None:
    body = {name: value / MILLION for name, value in sampling.to_json().items()} | {"top_k": sampling.top_k}
    assert Sampling.of_request(body) == sampling


def test_client_gets_the_engine_s_defaults_when_it_says_nothing() -> None:
    expected = Sampling(MILLION, 0, MILLION, 0, 0, 0, MILLION)

    assert Sampling.of_request({"messages": []}) == expected
    assert Sampling.of_request(dict.fromkeys(expected.to_json())) == expected
    assert Sampling.of_request({"top_k": -1}) == expected


@pytest.mark.parametrize(
    ("given_", "expected"),
    [(0, 0), (0.0, 0), (0.000001, 0), (0.00001, 10_000), (0.005, 10_000), (0.01, 10_000), (0.7, 700_000)],
)
def test_temperature_is_read_as_the_engine_reads_it(given_: float, expected: int) -> None:
    assert Sampling.of_request({"temperature": given_}).temperature == expected


def test_small_top_p_does_not_become_a_refusal() -> None:
    assert Sampling.of_request({"top_p": 1e-9}).top_p == 1


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": "1"},
        {"temperature": True},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_p": -0.0000001},
        {"top_k": -2},
        {"top_k": 2.0},
        {"top_k": 1 << 31},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"frequency_penalty": 10**400},
        {"repetition_penalty": 0},
        {"repetition_penalty": 11},
    ],
)
def test_client_cannot_ask_for_what_the_engine_refuses(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match=next(iter(body))):
        Sampling.of_request(body)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 9999},
        {"temperature": 1.0},
        {"top_p": 0},
        {"top_k": True},
        {"seed": 1},
        {"min_p": None},
    ],
)
def test_parameters_cannot_be_read_when_a_field_is_wrong(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Sampling.from_json(Sampling().to_json() | change)


def test_parameters_cannot_be_read_when_a_field_is_missing() -> None:
    value = Sampling().to_json()
    del value["min_p"]
    wrongs: tuple[object, ...] = (value, None, [], "x")
    for wrong in wrongs:
        with pytest.raises(MalformedError, match="min_p"):
            Sampling.from_json(wrong)


def test_engine_samples_greedily_by_itself() -> None:
    fields = Sampling(0, 5, 900_000, 0, 250_000, -MILLION, 1_100_000).to_engine(SEED)

    assert fields == {
        **{"temperature": 0, "top_k": 0, "top_p": 1, "min_p": 0, "seed": None},
        **{"presence_penalty": 0.25, "frequency_penalty": -1.0, "repetition_penalty": 1.1},
        "vllm_xargs": {},
    }


def test_engine_is_told_everything_in_arguments_of_our_sampler() -> None:
    sampling = Sampling(700_000, 5, 900_000, 50_000, 250_000, -MILLION, 1_100_000)
    fields = sampling.to_engine(SEED)

    assert fields["vllm_xargs"] == {
        **{f"cocoon_{name}": value for name, value in sampling.to_json().items()},
        "cocoon_seed": SEED.hex(),
    }
    # Of its own sampling vLLM must keep nothing: the argmax of what our sampler leaves is the choice.
    assert Sampling.of_request(fields) == Sampling(temperature=0)
    assert fields["seed"] is None


def test_engine_tells_choices_apart_by_their_seed_when_several_are_asked() -> None:
    fields = Sampling(temperature=700_000).to_engine(SEED, choices=3)

    assert (fields["temperature"], fields["seed"]) == (1, 0)
    assert fields["vllm_xargs"]["cocoon_temperature"] == 700_000


def test_engine_cannot_be_told_a_seed_of_another_length() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Sampling().to_engine(b"short")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"temperature": 0.7, "top_p": 0.9, "presence_penalty": 1, "frequency_penalty": 1},
        {"response_format": {"type": "text"}, "logit_bias": {}, "bad_words": [], "min_tokens": 0},
        {"repetition_penalty": 1.0},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
        {"tools": [], "tool_choice": "auto"},
    ],
)
def test_arbiter_can_replay_what_only_parameters_decide(body: dict[str, Any]) -> None:
    assert Sampling.replayable(body) is None


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"bad_words": ["x"]}, "bad_words"),
        ({"allowed_token_ids": [1]}, "allowed_token_ids"),
        ({"min_tokens": 2}, "min_tokens"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"tools": [{"function": {"name": "f"}}], "tool_choice": "required"}, "tools"),
        ({"tools": [{"function": {"name": "f"}}], "tool_choice": {"type": "function"}}, "tools"),
        ({"tools": [{"function": {"name": "f"}}]}, "tools"),
    ],
)
def test_arbiter_cannot_replay_what_something_else_constrains(body: dict[str, Any], word: str) -> None:
    reason = Sampling.replayable(body)
    assert reason is not None
    assert word in reason


# -- in the engine ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(samplings, st.binary(min_size=16, max_size=16))
def test_engine_reads_what_it_is_told(sampling: Sampling, seed: bytes) -> None:
    told = sampling.to_engine(seed)["vllm_xargs"]

    assert Sampling.of_engine(told | {"another": "argument"}) == (
        None if sampling.greedy else (sampling, seed)
    )


@pytest.mark.parametrize("arguments", [None, {}, {"another": 1}])
def test_engine_samples_by_itself_when_it_is_told_nothing(arguments: dict[str, Any] | None) -> None:
    assert Sampling.of_engine(arguments) is None


@pytest.mark.parametrize(
    "change",
    [
        {"cocoon_seed": "00" * 15},
        {"cocoon_seed": "AA" * 16},
        {"cocoon_seed": 5},
        {"cocoon_seed": "00" * 16 + "\n"},
        {"cocoon_top_k": 1.0},
        {"cocoon_top_p": "1000000"},
        {"cocoon_temperature": 0},
        {"cocoon_more": 1},
    ],
)
def test_engine_cannot_be_told_half_of_it(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Sampling.of_engine(Sampling().to_engine(SEED)["vllm_xargs"] | change)


@settings(deadline=None)
@given(
    st.one_of(
        st.builds(Sampling, temperature=st.just(0)),
        st.builds(Sampling, temperature=st.integers(MILLION, 2 * MILLION), top_k=st.integers(1, 20)),
    ),
    st.integers(0, 2**32 - 1),
)
def test_right_choice_is_among_the_candidates_where_the_parameters_say_so(
    sampling: Sampling, number: int
) -> None:
    logits = np.random.default_rng(number).normal(0, 3, 300)
    tokens = np.arange(logits.size)
    nothing = np.empty(0, np.int64)
    whole = replay(sampling, SEED, 7, tokens, logits, prompt=nothing, output=nothing)
    right = int(np.where(whole.sure >= 0, whole.scores, -np.inf).argmax())

    best = np.argsort(-logits)[: sampling.candidates(logits.size)]

    assert right in best
    assert best.size < 30


def test_fewer_candidates_are_looked_at_the_colder_it_is() -> None:
    counts = [Sampling(temperature=each * MILLION // 10).candidates(50) for each in (0, 1, 3, 7, 10, 20)]
    assert counts == [LEAST_CANDIDATES, LEAST_CANDIDATES, 15, 35, 50, 50]
    assert [Sampling(temperature=each * MILLION // 10).candidates(20) for each in (0, 3, 7)] == [5, 15, 20]
    assert [Sampling(temperature=each * MILLION // 10).candidates(100) for each in (0, 3, 7)] == [5, 30, 70]
    assert Sampling(temperature=0).candidates(1) == 1
    assert Sampling(top_k=1000).candidates(50) == 50


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty", "repetition_penalty"])
def test_penalties_leave_every_token_in_question(name: str) -> None:
    """They may put the best token behind any other."""
    assert Sampling(**{"temperature": 0, "top_k": 1, name: 500_000}).candidates(50) == 50
