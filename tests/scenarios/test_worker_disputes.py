"""A whole worker before whole arbiters: it shows its evidence by itself, and forgets it when all is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_sdk.contracts.disputes import read_dispute
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.disputes import ArbiterInfo, ItemKind
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.evidence import EVIDENCE_ALARM, RETRY_S
from cocoon_worker.service import WorkerService
from cocoon_worker.states import JobState
from tests.helpers.arbiters import Court
from tests.helpers.worker_rig import OpenedJob, Rig, record, state

SHOWN = [ItemKind.PAYLOAD, ItemKind.RESULT, ItemKind.TERMS]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def court(rig: Rig, tmp_path: Path) -> AsyncIterator[Court]:
    made = Court(rig.blockchain, rig.chain, rig.suite, tmp_path)
    yield made
    await made.close()


def worker(rig: Rig, urls: dict[str, str]) -> WorkerService:
    config = rig.config("worker").model_copy(update={"arbiters": urls})
    engine = EchoEngine(clock=rig.clock)
    return WorkerService(config, rig.chain, engine, rig.clock, operator=rig.account("worker").key)


async def disputed(rig: Rig, service: WorkerService) -> OpenedJob:
    """Let the worker answer a job, and its client dispute it."""
    job = rig.open_job(rig.suite.client("client"), service, "worker")
    await service.settle()
    rig.warp(60)
    await service.settle()
    assert state(service, job) is JobState.SUBMITTED
    job.client.act(signing.dispute_result(job.id))
    await service.settle()
    assert state(service, job) is JobState.DISPUTED
    return job


async def test_worker_can_win_when_it_shows_its_evidence(rig: Rig, court: Court) -> None:
    for index in range(3):
        await court.start(index, wallet=index == 0)
    async with worker(rig, court.urls) as service:
        await service.settle()
        job = await disputed(rig, service)
        await service._evidence.wait()
        dispute = await read_dispute(rig.chain, Escrow.at(rig.chain, job.client.address), job.id)
        assert all(court.hearing(index, dispute).held == SHOWN for index in range(3))
        rig.warp(12 * 3600 + 3 * 3600 + 1)
        await court.rounds()
        await service.settle()
        # Nothing that could be checked was promised: the worker is paid in full, and forgets the content.
        assert state(service, job) is JobState.PAID
        assert record(service, job).paid == dispute.amount
        assert service.journal.payload(job.key) is None
        result = service.journal.result(job.key)
        assert result is not None
        assert result.text == b""
        assert EVIDENCE_ALARM not in service.context.alarms


async def test_worker_shows_its_evidence_again_when_an_arbiter_was_away(rig: Rig, court: Court) -> None:
    await court.start(0)
    await court.start(1)
    urls = dict(court.urls)
    await court.stop(0)
    await court.stop(1)
    async with worker(rig, urls) as service:
        await service.settle()
        job = await disputed(rig, service)
        await service._evidence.wait()
        assert EVIDENCE_ALARM in service.context.alarms
        dispute = await read_dispute(rig.chain, Escrow.at(rig.chain, job.client.address), job.id)
        await court.start(1)
        rig.warp(RETRY_S)
        await service.step()
        await service._evidence.wait()
        assert court.hearing(1, dispute).held == SHOWN
        assert EVIDENCE_ALARM not in service.context.alarms


async def test_arbiter_that_is_away_cannot_delay_the_evidence_about_each_job(
    rig: Rig, court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    await court.start(0)
    await court.start(1)
    urls = dict(court.urls)
    await court.stop(0)
    async with worker(rig, urls) as service:
        await service.settle()
        asked: list[str] = []
        endpoints = service._evidence._arbiters.endpoints
        info = endpoints.info

        async def counted(url: str) -> ArbiterInfo:
            asked.append(url)
            return await info(url)

        monkeypatch.setattr(endpoints, "info", counted)
        jobs = [
            rig.open_job(rig.suite.client(name), service, "worker") for name in ("client", "other client")
        ]
        await service.settle()
        rig.warp(60)
        await service.settle()
        for job in jobs:
            job.client.act(signing.dispute_result(job.id))
        for _ in range(4):
            await service.settle()
            await service._evidence.wait()
        for job in jobs:
            dispute = await read_dispute(rig.chain, Escrow.at(rig.chain, job.client.address), job.id)
            assert court.hearing(1, dispute).held == SHOWN
        away = urls[rig.suite.arbiters[0].verify_key.hex]
        assert asked.count(away) == 1


async def test_worker_alarms_when_it_knows_no_arbiter(rig: Rig) -> None:
    async with worker(rig, {}) as service:
        await service.settle()
        await disputed(rig, service)
        assert "no arbiter is named" in service.context.alarms[EVIDENCE_ALARM]
