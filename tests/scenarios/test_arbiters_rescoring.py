"""Disputes whose content is really judged: whole workers, whole arbiters, the SDK, contracts on a sandbox.

The engines are `vllm_double`s, and labelled so: the workers' and the one that arbiters re-score with. Seeds,
commitments, re-scoring, statistics and thresholds are real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.arbiter.errors import JudgingError
from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.rescoring import JudgedModel, RescoringJudge
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.contracts.registry import Registry
from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.rescoring import Verifier
from tests.helpers.arbiters import Court, dispute_of
from tests.helpers.audit_town import HOT, AuditTown, audit_town, thresholds
from tests.helpers.sdk import MODEL_NAME, chat
from tests.helpers.vllm_double import END, MODEL


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[AuditTown]:
    async with audit_town(blockchain, tmp_path) as made:
        yield made


@pytest.fixture
async def court(town: AuditTown, tmp_path: Path) -> AsyncIterator[Court]:
    place = town.town
    made = Court(place.chain, place.adapter, place.suite, tmp_path)
    yield made
    await made.close()


def judge_of(town: AuditTown, **changes: Any) -> RescoringJudge:
    """Return a judge over the town's verifier."""
    place = town.town
    verifier = Verifier(town.verifier.url.removesuffix("/v1"), None, MODEL, end_tokens=[END])
    registry = Registry.at(place.adapter, place.suite.network.registry)

    async def calibration(model_id: Hash) -> Hash | None:
        entry = await registry.model(model_id)
        return None if entry is None else entry.calibration_hash

    limits = changes.pop("thresholds", thresholds())
    models = {place.model.model_id: JudgedModel(verifier, limits)}
    return RescoringJudge(changes.pop("models", models), calibration, **changes)


async def disputed(town: AuditTown, court: Court, request: dict[str, Any]) -> AsyncJob:
    """Let the town's worker answer on chain, and dispute it with the client's evidence."""
    client = await town.client(audit=None, arbiters=court.urls)
    job = await client.jobs.create(model=MODEL_NAME, request={"messages": chat(), **request}, accept="manual")
    for _ in range(20):
        await town.settle()
        if (await job.status()).state is JobState.SUBMITTED:
            break
        town.place.rig.warp(60)
    await job.dispute()
    return job


@pytest.mark.parametrize("request_", [HOT, {"temperature": 0, "max_tokens": 24}], ids=["sampled", "greedy"])
@pytest.mark.parametrize(
    ("lies", "ground", "state"),
    [(False, Ground.HONEST, JobState.PAID), (True, Ground.SLASH, JobState.SLASHED)],
    ids=["honest", "another model"],
)
async def test_arbiters_find_out_who_is_honest(
    town: AuditTown, court: Court, request_: dict[str, Any], lies: bool, ground: Ground, state: JobState
) -> None:
    for index in range(3):
        await court.start(index, real=judge_of(town), wallet=index == 0)
    await town.worker("worker", lies=lies)
    job = await disputed(town, court, request_)
    dispute = await dispute_of_job(town, job)
    for service in court.running.values():
        await service.settle()
    votes = [
        await court.hearing(index, dispute).own() for index in range(3) if court.running[index].hearings()
    ]
    assert votes
    assert {vote.vote.ground for vote in votes if vote is not None} == {ground}
    await court.rounds()
    assert (await job.status()).state is state


async def dispute_of_job(town: AuditTown, job: AsyncJob) -> Any:
    return await dispute_of(town.town.cocoon(), job.id)


async def test_arbiter_is_silent_when_it_cannot_judge(town: AuditTown, court: Court) -> None:
    other = thresholds().model_copy(update={"greedy": None})
    silent = [judge_of(town, models={}), judge_of(town, thresholds=other)]
    for index, judge in enumerate(silent):
        await court.start(index, real=judge)
    await court.start(2, says=None)
    await town.worker("worker")
    job = await disputed(town, court, HOT)
    dispute = await dispute_of_job(town, job)
    await court.rounds()
    assert [await court.hearing(index, dispute).own() for index in range(3)] == [None, None, None]
    (case,) = {id(each): each for each in court.judges[2].cases}.values()
    assert isinstance(case, Case)
    for judge, why in zip(silent, ("no endpoint", "the registry names"), strict=True):
        with pytest.raises(JudgingError, match=why):
            await judge.judge(case)
