"""Findings and scores in a database: checked once, counted once, allowances given once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core import Address

from cocoon_sdk.client.auditing.records import Audited, AuditOutcome, AuditSubject, DisputeStep
from cocoon_sdk.client.auditing.store import AuditStore, Conclusion, Judgement
from cocoon_sdk.client.auditing.tables import AUDITS_SCHEMA
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.storage import open_database
from cocoon_sdk.types import Hash, Nano
from tests.helpers.databases import KINDS, database_place

NOW = 1_800_000_000
DAY_S = 86_400
WORKER = Address((0, hashlib.sha256(b"worker").digest()))
DOMAIN = Domain(-3, Address((0, hashlib.sha256(b"escrow").digest())), 7)
MODEL = Hash(hashlib.sha256(b"model").digest())


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_place(request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def store(place: str) -> AsyncIterator[AuditStore]:
    database = await open_database(place, AUDITS_SCHEMA)
    yield AuditStore(database)
    await database.close()


def subject(number: int = 1, **changes: Any) -> AuditSubject:
    made = AuditSubject(Audited.JOB, DOMAIN, number, 0, WORKER, MODEL, "Org/Tiny-1B", Nano(1000))
    return replace(made, **changes)


def made(outcome: AuditOutcome = AuditOutcome.PASSED, **changes: Any) -> Conclusion:
    return replace(Conclusion(outcome, "because", NOW + 5), **changes)


def judge(leave: str = "", dispute: DisputeStep = DisputeStep.NONE) -> Any:
    """Count the findings in the state."""
    return lambda state: Judgement({"seen": state.get("seen", 0) + 1}, leave, dispute)


async def concluded(store: AuditStore, about: AuditSubject, **options: Any) -> None:
    assert await store.begin(about, "me", NOW, NOW + 60)
    outcome = options.pop("outcome", AuditOutcome.PASSED)
    assert await store.conclude(about, "me", made(outcome), judge(**options)) is not None


async def test_result_is_checked_once_whoever_tries(store: AuditStore) -> None:
    assert await store.begin(subject(), "me", NOW, NOW + 60)
    assert not await store.begin(subject(), "other", NOW, NOW + 60)
    assert await store.conclude(subject(), "other", made(), judge()) is None
    score = await store.conclude(subject(), "me", made(numbers={"lp_mean": 0.001}, cost=Nano(7)), judge())
    assert score is not None
    assert (score.passed, score.checked, score.state) == (1, 1, {"seen": 1})
    assert await store.conclude(subject(), "me", made(), judge()) is None
    assert not await store.begin(subject(), "me", NOW, NOW + 60)
    (record,) = await store.findings(DOMAIN)
    assert record == await store.get(subject().uid)
    assert (record.subject, record.numbers, record.cost) == (subject(), {"lp_mean": 0.001}, 7)
    assert (record.started_at, record.ended_at) == (NOW, NOW + 5)


async def test_score_counts_every_outcome_and_keeps_why_a_worker_was_left(store: AuditStore) -> None:
    outcomes = [*AuditOutcome][1:]
    for number, outcome in enumerate(outcomes, 1):
        leave = "first reason" if outcome is AuditOutcome.FAILED else ""
        await concluded(store, subject(number), outcome=outcome, leave=leave)
    await concluded(store, subject(9), leave="second reason")
    (score,) = await store.scores(DOMAIN.global_id)
    assert (score.passed, score.suspect, score.failed, score.unchecked) == (2, 1, 1, 1)
    assert (score.state, score.left_at, score.left_why) == ({"seen": 5}, NOW + 5, "first reason")
    assert await store.scores(DOMAIN.global_id, left_only=True) == [score]
    assert await store.scores(-239) == []
    assert await store.forgive(DOMAIN.global_id, WORKER)
    assert not await store.forgive(DOMAIN.global_id, WORKER)
    assert await store.scores(DOMAIN.global_id) == []
    assert len(await store.findings(DOMAIN)) == 5


async def test_finding_is_not_kept_without_its_score(store: AuditStore) -> None:
    def fail(state: dict[str, Any]) -> Judgement:
        raise ValueError("no score")

    assert await store.begin(subject(), "me", NOW, NOW + 60)
    with pytest.raises(ValueError, match="no score"):
        await store.conclude(subject(), "me", made(), fail)
    ((record, holder, until),) = await store.under_way(DOMAIN)
    assert (record.outcome, holder, until) == (AuditOutcome.UNDER_WAY, "me", NOW + 60)
    assert await store.scores(DOMAIN.global_id) == []


async def test_day_is_not_overspent(store: AuditStore) -> None:
    for number in (1, 2, 3):
        assert await store.begin(subject(number), "me", NOW, NOW + 60)
    assert await store.reserve(subject(1), "me", Nano(60), Nano(100), NOW)
    assert not await store.reserve(subject(2), "me", Nano(41), Nano(100), NOW)
    assert await store.reserve(subject(2), "me", Nano(40), Nano(100), NOW)
    await store.conclude(subject(1), "me", made(cost=Nano(10)), judge())  # it cost less in the end
    assert await store.reserve(subject(3), "me", Nano(50), Nano(100), NOW)
    tomorrow = NOW + DAY_S
    assert await store.begin(subject(4), "me", tomorrow, tomorrow + 60)
    assert await store.reserve(subject(4), "me", Nano(100), Nano(100), tomorrow)


async def test_dispute_is_taken_by_one_and_its_bond_counted_once(store: AuditStore) -> None:
    wanted = {"outcome": AuditOutcome.FAILED, "dispute": DisputeStep.WANTED}
    await concluded(store, subject(1), **wanted)
    await concluded(store, subject(2), **wanted)
    first, second = await store.disputes.wanted(DOMAIN)
    assert await store.disputes.take(first.uid, "me", NOW, NOW + 60)
    assert not await store.disputes.take(first.uid, "other", NOW, NOW + 60)
    assert await store.disputes.take(first.uid, "other", NOW, NOW + 60, instead_of="me")
    assert await store.disputes.take(first.uid, "me", NOW + 60, NOW + 120)  # the other one is overdue
    assert await store.disputes.holder_of(first.uid) == "me"
    assert not await store.disputes.stake(first, "other", Nano(30), Nano(50), NOW)
    assert await store.disputes.stake(first, "me", Nano(30), Nano(50), NOW)
    (first, _) = await store.disputes.wanted(DOMAIN)
    assert await store.disputes.stake(first, "me", Nano(30), Nano(50), NOW)  # once more, after a crash
    assert await store.disputes.take(second.uid, "me", NOW, NOW + 60)
    assert not await store.disputes.stake(second, "me", Nano(30), Nano(50), NOW)
    await store.disputes.settle(first.uid, "me", DisputeStep.TOO_LATE, "the window is over")
    assert await store.disputes.stake(
        second, "me", Nano(30), Nano(50), NOW
    )  # what is not at stake counts no more
    await store.disputes.settle(second.uid, "me", DisputeStep.DISPUTED)
    assert await store.disputes.wanted(DOMAIN) == []
    found = {each.subject.number: each for each in await store.findings(DOMAIN)}
    assert (found[1].dispute, found[1].dispute_why, found[1].bond) == (
        DisputeStep.TOO_LATE,
        "the window is over",
        0,
    )
    assert (found[2].dispute, found[2].bond) == (DisputeStep.DISPUTED, 30)


async def test_old_findings_are_forgotten_but_for_disputes(store: AuditStore) -> None:
    await concluded(store, subject(1))
    await concluded(store, subject(2), outcome=AuditOutcome.FAILED, dispute=DisputeStep.WANTED)
    assert await store.begin(subject(3), "me", NOW, NOW + 60)
    assert await store.prune(NOW) == 0
    assert await store.prune(NOW + DAY_S) == 1
    assert sorted(each.subject.number for each in await store.findings(DOMAIN)) == [2, 3]
    other = Address((0, bytes(32)))
    assert await store.findings(DOMAIN, worker=other) == []
    assert len(await store.findings(DOMAIN, worker=WORKER, most=1)) == 1
