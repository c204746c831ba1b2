"""Requests, prices and periods, before anything is spent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address

from cocoon_sdk.client.planning import (
    DEFAULT_OUTPUT_TOKENS,
    LONG_WINDOW_S,
    SHORT_WINDOW_S,
    check_price,
    collateral_of,
    normalise,
    plan_periods,
)
from cocoon_sdk.contracts.parameters import ArbiterIdentity, NetworkParameters
from cocoon_sdk.errors import ConfigError, MalformedError, PriceTooHighError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.envelope import JobKind
from cocoon_sdk.protocol.exit_codes import BadPeriodsError
from cocoon_sdk.protocol.pricing import Usage, price
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.types import Hash, Nano
from tests.helpers.suite import key_of

PARAMS = m.Params.from_cell(
    NetworkParameters(
        arbiters=[ArbiterIdentity(key_of(str(i)).verify_key, Address((0, bytes(32)))) for i in range(3)]
    ).to_cell()
)
TERMS = Terms(
    model_id=Hash(bytes(32)),
    model_entry_hash=Hash(bytes(32)),
    input_price=Nano.ton(1),
    cached_input_price=Nano.ton(1),
    output_price=Nano.ton(10),
    minimum_price=Nano(5),
    sampling=SamplingClass.GREEDY,
)


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hello"}], **fields}


@pytest.mark.parametrize(
    ("body", "kind", "output"),
    [
        (chat(), JobKind.CHAT_COMPLETION, DEFAULT_OUTPUT_TOKENS),
        (chat(max_tokens=7, model="x"), JobKind.CHAT_COMPLETION, 7),
        (chat(max_completion_tokens=8, max_tokens=7), JobKind.CHAT_COMPLETION, 8),
        ({"prompt": "once"}, JobKind.COMPLETION, DEFAULT_OUTPUT_TOKENS),
        ({"input": ["a", "b"]}, JobKind.EMBEDDING, 0),
    ],
)
def test_caller_can_leave_kind_and_bounds_to_the_planner(
    body: dict[str, Any], kind: JobKind, output: int
) -> None:
    asked = normalise(None, None, body, None, None)
    assert (asked.kind, asked.max_output_tokens) == (kind, output)
    assert "model" not in asked.body
    assert asked.body.get("max_tokens", 0) == output
    assert asked.payload("m").request["model"] == "m"


def test_caller_can_give_messages_or_a_request_but_not_both() -> None:
    for messages, request in ((None, None), ([], chat())):
        with pytest.raises(ConfigError, match="exactly one"):
            normalise(None, messages, request, None, None)


@pytest.mark.parametrize(
    "body",
    [
        chat(stream=True),
        chat(max_tokens=0),
        chat(max_tokens="7"),
        chat(max_tokens=True),
        chat(n=0),
        chat(n=129),
        {"nothing": 1},
    ],
)
def test_caller_cannot_plan_a_request_that_makes_no_sense(body: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        normalise(None, None, body, None, None)


def test_caller_cannot_plan_what_is_no_json() -> None:
    with pytest.raises(MalformedError):
        normalise(None, None, chat(extra=object()), None, None)


@given(st.text(max_size=200), st.integers(1, 4), st.integers(1, 5000))
def test_price_can_never_exceed_what_was_planned(text: str, choices: int, output: int) -> None:
    try:
        asked = normalise(None, [{"role": "user", "content": text}], None, output, None)
        asked = normalise(None, None, {**asked.body, "n": choices}, output, None)
    except MalformedError:
        return  # lone surrogates are no JSON
    worst = Usage(input_tokens=len(text.encode("utf-8", "surrogatepass")), output_tokens=output * choices)
    assert price(worst, TERMS) <= asked.max_price(TERMS)


def test_caller_cannot_plan_beyond_the_maximum_price() -> None:
    asked = normalise(None, None, chat(), 100, 10)
    exact = price(Usage(input_tokens=10, output_tokens=100), TERMS)
    assert check_price(asked, TERMS, exact) == exact
    with pytest.raises(PriceTooHighError):
        check_price(asked, TERMS, exact - 1)


def periods(amount: str = "0.5", **given_s: int | None) -> Any:
    fields: dict[str, Any] = {"claim_s": None, "work_s": None, "window_s": None, "directed": True, **given_s}
    return plan_periods(Nano.ton(amount), PARAMS, **fields)


def test_dear_jobs_have_a_longer_window() -> None:
    assert periods("0.999999999").window_s == SHORT_WINDOW_S
    assert periods("1").window_s == LONG_WINDOW_S
    assert periods("1", window_s=600).window_s == 600
    assert periods(window_s=0).window_s == 0


@pytest.mark.parametrize(
    "given_s",
    [
        {"window_s": 599},
        {"window_s": 86401},
        {"window_s": -1},
        {"claim_s": -5},
        {"claim_s": 0},
        {"work_s": 0},
        {"work_s": 7 * 86400},
    ],
)
def test_caller_cannot_plan_periods_out_of_bounds(given_s: dict[str, Any]) -> None:
    with pytest.raises(BadPeriodsError):
        periods(**given_s)


def test_collateral_is_what_the_contract_asks_for() -> None:
    assert collateral_of(Nano.ton(1), PARAMS) == Nano.ton(4)
    assert collateral_of(Nano(1), PARAMS) == PARAMS.min_collateral
    assert collateral_of(Nano.ton(1), PARAMS, items=64) == Nano.ton(1)
