"""A worker's paid path on real contracts: directed and open jobs, with and without the client's help."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocoon_worker.states import JobState
from tests.helpers.worker_rig import Rig, record, state


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_worker_can_serve_a_directed_job_when_the_client_only_waits(rig: Rig) -> None:
    client = rig.suite.client("alice")
    async with rig.service("bob") as service:
        await service.settle()
        job = rig.open_job(client, service, "bob")
        await service.settle()

        assert state(service, job) is JobState.SUBMITTED
        entry = client.job(job.id)
        assert entry is not None
        submission = await rig.submitted("bob", job)
        assert submission is not None
        sealed, result_hash, amount = submission
        result = job.open(sealed, result_hash)
        assert "one two three" in result.response["choices"][0]["message"]["content"]
        assert entry.amount == amount == service.info().offers[0].terms.minimum_price

        rig.warp(3601)
        await service.settle()
        assert state(service, job) is JobState.PAID
        assert record(service, job).paid == amount
        assert client.job(job.id) is None
        stake = rig.account("bob").get_state()
        assert stake.earned + stake.fee_due == amount
        assert stake.locked == 0
