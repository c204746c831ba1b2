"""A bounded line of work, and policies that make sense."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cocoon_sdk.client.auditing import AuditPolicy, OwnVerifier
from cocoon_sdk.client.auditing.line import AuditLine
from cocoon_sdk.client.auditing.paid import MOST_TOP, top_that_fits
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.protocol.session_wire import MAX_BODY_BYTES
from cocoon_sdk.types import Nano


async def test_line_does_a_few_at_once_and_turns_away_what_does_not_fit() -> None:
    line, gate, done = AuditLine(waiting=2, at_once=2), asyncio.Event(), []

    def work(number: int) -> None:
        async def do() -> None:
            await gate.wait()
            done.append(number)

        accepted.append(line.offer(do))

    accepted: list[bool] = []
    for number in range(5):
        work(number)
    assert accepted == [True, True, True, True, False]
    assert line.length == 4
    assert not await line.drain(0)
    gate.set()
    assert await line.drain(10)
    assert sorted(done) == [0, 1, 2, 3]
    assert line.length == 0


async def test_work_that_goes_wrong_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    line, done = AuditLine(waiting=2, at_once=1), []

    async def fail() -> None:
        raise RuntimeError("it goes wrong")

    async def do() -> None:
        done.append(1)

    with caplog.at_level(logging.CRITICAL, "cocoon.audits"):
        assert line.offer(fail)
        assert line.offer(do)
        assert await line.drain(10)
    assert done == [1]


async def test_closed_line_stops_what_is_under_way() -> None:
    line, stopped = AuditLine(waiting=2, at_once=1), []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(1)

    assert line.offer(hang)
    assert line.offer(hang)
    await asyncio.sleep(0)
    await line.close()
    assert stopped == [1]
    assert not line.offer(hang)


def test_share_alone_is_a_policy_and_none_is_no_audit() -> None:
    policy = AuditPolicy.of(0.05)
    assert policy is not None
    assert (policy.share, policy.verifier, policy.dispute) == (0.05, None, True)
    assert AuditPolicy.of(None) is None
    assert AuditPolicy.of(0) is None
    assert AuditPolicy.of(policy) is policy
    assert 0.0 <= policy.draw() < 1.0
    assert policy.bonds_of_a_day == 3 * policy.most_bond


@pytest.mark.parametrize(
    "fields",
    [
        {"share": 1.5},
        {"share": -0.1},
        {"waiting": 0},
        {"at_once": 1000},
        {"most_bond": Nano(-1)},
        {"timeout_s": 0.0},
        {"keep_days": 0},
    ],
)
def test_policy_that_makes_no_sense_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        AuditPolicy(**fields)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        OwnVerifier("ftp://gpu.local")


def test_key_of_a_verifier_is_in_no_repr() -> None:
    policy = AuditPolicy(verifier=OwnVerifier("http://127.0.0.1:8000", "very secret"))
    assert "secret" not in repr(policy)


@pytest.mark.parametrize("tokens", [1, 500, 1000, 5000, 6000, 20_000])
def test_scores_of_a_paid_check_fit_into_one_answer(tokens: int) -> None:
    top = top_that_fits(tokens)
    assert 0 <= top <= MOST_TOP
    assert top == 0 or tokens * (top + 1) * 100 < MAX_BODY_BYTES
    assert (top == 0) == (tokens > 5000)
