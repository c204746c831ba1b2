"""The SDK and the real worker together on one sandbox: discovery, both ways to an answer, payment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.handover import HandoverClient, SignedHandover
from cocoon_sdk.client.results import Arrival
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from tests.helpers.sdk import MODEL_NAME, Town, chat
from tests.helpers.worker_rig import Rig


@pytest.fixture
async def town(blockchain: Blockchain, chain: Chain) -> AsyncIterator[Town]:
    made = Town(blockchain, chain)
    yield made
    await made.close()


@pytest.fixture
async def rig(town: Town, tmp_path: Path) -> Rig:
    made = Rig(tmp_path, town.chain, town.adapter)
    made.suite.model_id = town.model.model_id
    return made


async def test_client_can_buy_an_answer_from_the_real_worker(town: Town, rig: Rig) -> None:
    cocoon = await town.client()
    async with rig.service("bob") as service:
        await service.settle()
        (offer,) = await cocoon.workers.list(MODEL_NAME)
        assert offer.address == rig.account("bob").address
        job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat("one two three"), max_output_tokens=16)
        await service.settle()
        result = await job.result(timeout=30)
        await service.settle()
        assert "one two three" in result.text
        assert (result.arrival, result.accepted) == (Arrival.INLINE, True)
        assert (await job.status()).state is JobState.PAID


async def test_client_can_end_a_job_with_the_real_workers_signature(
    town: Town, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cocoon = await town.client()
    async with rig.service("bob", endpoint=True) as service:
        await service.settle()
        fetch = HandoverClient.fetch

        async def fetch_here(
            self: HandoverClient, endpoint: str, escrow: Address, job_id: int
        ) -> SignedHandover | None:
            assert endpoint == "http://worker.example"
            return await fetch(self, f"http://127.0.0.1:{service.port}", escrow, job_id)

        monkeypatch.setattr(HandoverClient, "fetch", fetch_here)
        job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat("one two three"), max_output_tokens=16)
        await service.settle()
        result = await job.result(timeout=30)
        assert (result.arrival, result.accepted) == (Arrival.HANDOVER, True)
        await service.settle()
        assert [event.kind for event in await job.history()] == ["opened", "accepted with signature"]


async def test_client_can_let_the_real_worker_claim_an_open_job(town: Town, rig: Rig) -> None:
    cocoon = await town.client()
    async with rig.service("bob") as service:
        await service.settle()
        job = await cocoon.jobs.create(
            model=MODEL_NAME, messages=chat("one two three"), max_output_tokens=16, worker="open"
        )
        await service.settle()
        assert "one two three" in (await job.result(timeout=30)).text
