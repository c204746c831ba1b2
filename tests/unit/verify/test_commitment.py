"""Commitments: one form, its bounds, and the rounding of log-probabilities."""

from __future__ import annotations

import base64
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.canonical import parse_canonical
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import (
    MAX_OUTPUT_TOKENS,
    MAX_STEPS,
    Choice,
    Commitment,
    prompt_hash,
    stored_logprob,
)

_ID = st.integers(0, 2**31 - 1)
_STEPS = st.integers(0, MAX_STEPS)
_HASHES = st.binary(min_size=32, max_size=32).map(Hash)
_LABELS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    pairs = draw(st.lists(st.tuples(_ID, _STEPS), max_size=40))
    return Choice(
        tokens=tuple(token for token, _ in pairs),
        logprobs=tuple(steps for _, steps in pairs),
        finish=draw(st.sampled_from(["stop", "length", "tool_calls", "cancelled"])),
    )


@st.composite
def commitments(draw: st.DrawFn) -> Commitment:
    return Commitment(
        manifest=draw(st.none() | _HASHES),
        engine=draw(_LABELS),
        platform=draw(_LABELS),
        dtype=draw(_LABELS),
        prompt_tokens=draw(st.integers(0, 1 << 40)),
        prompt_hash=draw(_HASHES),
        max_tokens=draw(st.integers(0, 1 << 40)),
        sampling=draw(
            st.dictionaries(st.sampled_from(["temperature", "top_p"]), st.integers(-(2**40), 2**40))
        ),
        seed=draw(st.binary(min_size=16, max_size=16)),
        unreplayable=draw(st.sampled_from(["", "it has a grammar"])),
        choices=tuple(draw(st.lists(choices(), min_size=1, max_size=4))),
    )


def sample() -> dict[str, Any]:
    return Commitment(
        manifest=None,
        engine="vllm 0.32.0",
        platform="cpu",
        dtype="bfloat16",
        prompt_tokens=3,
        prompt_hash=prompt_hash([1, 2, 3]),
        max_tokens=16,
        sampling={"temperature": 0},
        seed=bytes(16),
        choices=(Choice.of([5, 6], [-0.5, -1.25], "stop"),),
    ).to_json()


@given(commitments())
def test_reader_gets_back_what_a_worker_committed_to(commitment: Commitment) -> None:
    read = Commitment.from_json(parse_canonical(commitment.to_bytes()))
    assert read == commitment
    assert read.digest() == commitment.digest()


def test_digest_covers_every_field() -> None:
    base = Commitment.from_json(sample())
    changed = {
        "manifest": "11" * 32,
        "engine": "vllm 0.33.0",
        "platform": "cuda",
        "dtype": "float32",
        "prompt_tokens": 4,
        "prompt_hash": "22" * 32,
        "max_tokens": 17,
        "sampling": {"temperature": 1},
        "seed": "33" * 16,
        "unreplayable": "it has a grammar",
        "choices": [Choice.of([5, 7], [-0.5, -1.25], "stop").to_wire()],
    }
    assert changed.keys() == Commitment.model_fields.keys() - {"v"}
    digests = {Commitment.from_json(sample() | {name: value}).digest() for name, value in changed.items()}
    assert len(digests | {base.digest()}) == len(changed) + 1


@given(st.floats(-255.9, 0))
def test_stored_logprob_is_the_nearest_step(logprob: float) -> None:
    assert abs(-stored_logprob(logprob) / 256 - logprob) <= 1 / 512


@pytest.mark.parametrize(
    ("logprob", "steps"),
    [
        (0.0, 0),
        (1e-7, 0),
        (-0.5 / 256, 0),
        (-1.5 / 256, 2),
        (-1.0, 256),
        (-256.0, MAX_STEPS),
        (-1e9, MAX_STEPS),
        (-math.inf, MAX_STEPS),
    ],
)
def test_stored_logprob_rounds_half_to_even_and_saturates(logprob: float, steps: int) -> None:
    assert stored_logprob(logprob) == steps


@pytest.mark.parametrize("logprob", [math.nan, 0.5, math.inf])
def test_worker_cannot_commit_to_what_is_no_logprob(logprob: float) -> None:
    with pytest.raises(MalformedError):
        stored_logprob(logprob)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"more": 1},
        {"manifest": "11" * 31},
        {"engine": "x" * 101},
        {"platform": "a\nb"},
        {"prompt_tokens": -1},
        {"max_tokens": (1 << 40) + 1},
        {"sampling": {f"f{number}": 0 for number in range(33)}},
        {"sampling": {"temperature": 0.5}},
        {"seed": "0" * 31},
        {"seed": "A" * 32},
        {"choices": []},
        {"choices": [Choice.of([], [], "stop").to_wire()] * 129},
        {"choices": [{"tokens": "AAAA", "logprobs": "", "finish": "stop"}]},
        {"choices": [{"tokens": "AAAAAA==", "logprobs": "", "finish": "stop"}]},
        {"choices": [{"tokens": "AAAAAB==", "logprobs": "AAA=", "finish": "stop"}]},
        {"choices": [{"tokens": "AAAA AA==", "logprobs": "AAA=", "finish": "stop"}]},
        {"choices": [{"tokens": "", "logprobs": "", "finish": "Stop now"}]},
        {"choices": [Choice.of([0] * MAX_OUTPUT_TOKENS, [0.0] * MAX_OUTPUT_TOKENS, "stop").to_wire()] * 2},
    ],
)
def test_reader_refuses_a_commitment_when_it_is_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Commitment.from_json(sample() | change)


def test_largest_commitment_fits_its_bound() -> None:
    largest = Choice.of([2**31 - 1] * MAX_OUTPUT_TOKENS, [-math.inf] * MAX_OUTPUT_TOKENS, "stop")
    assert Commitment.from_json(sample() | {"choices": [largest.to_wire()]}).digest()
    too_long = base64.b64encode(bytes(4 * MAX_OUTPUT_TOKENS + 4)).decode()
    with pytest.raises(MalformedError):
        Choice.from_wire({"tokens": too_long, "logprobs": "", "finish": "stop"})


def test_prompt_hash_covers_numbers_and_order_and_refuses_wide_ids() -> None:
    assert len({prompt_hash([1, 2]), prompt_hash([2, 1]), prompt_hash([1]), prompt_hash([])}) == 4
    with pytest.raises(MalformedError):
        prompt_hash([1 << 32])


def test_worker_cannot_commit_to_a_token_that_no_engine_takes() -> None:
    with pytest.raises(MalformedError, match="no token has"):
        Choice.from_wire(
            {**Choice.of([1], [0.0], "stop").to_wire(), "tokens": base64.b64encode(b"\0\0\0\x80").decode()}
        )
