"""Attacks on arbiters as a service: padded histories, stalling peers, lagging endpoints, full disks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_sdk.errors import ChainError
from cocoon_sdk.history import HistoryNotFoundError, JobSearch
from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from tests.helpers.arbiters import Court, submit, verifiable
from tests.helpers.hostile_chains import PaddedChain
from tests.helpers.sdk import MODEL_NAME, ScriptedWorker, Town, chat


@pytest.fixture
async def town(blockchain: Blockchain) -> AsyncIterator[Town]:
    made = Town(blockchain)
    yield made
    await made.close()


@pytest.fixture
def padded(town: Town) -> PaddedChain:
    return PaddedChain(town.chain)


@pytest.fixture
async def court(town: Town, padded: PaddedChain, tmp_path: Path) -> AsyncIterator[Court]:
    made = Court(town.chain, padded, town.suite, tmp_path)
    yield made
    await made.close()


@pytest.fixture
def worker(town: Town) -> ScriptedWorker:
    made = town.worker(announced=False)
    verifiable(made)
    return made


# -- padded histories ----------------------------------------------------------------------------------------


async def test_stranger_cannot_hide_a_dispute_behind_small_messages(
    town: Town, court: Court, worker: ScriptedWorker, padded: PaddedChain
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.SLASH, wallet=index == 0)
    client = await town.client(arbiters=court.urls)
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    await submit(worker, client, job.id)
    padded.pad(client.escrow.address, 20_000)
    padded.pad(worker.address, 20_000)
    padded.reach = 10_000
    await job.dispute()
    await court.rounds()
    assert (await job.status()).state is JobState.SLASHED


async def test_search_for_a_job_ends_where_the_job_cannot_be(
    town: Town, worker: ScriptedWorker, padded: PaddedChain
) -> None:
    client = await town.client()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    submission = await submit(worker, client, job.id)
    result_hash = submission.sealed.result_hash
    opened_at = town.chain.now
    town.chain.warp(100)
    padded.pad(client.escrow.address, 1000)
    escrow = client.escrow.address
    search = JobSearch(padded, escrow, job.id, result_hash, since=opened_at)
    assert not await search.advance(1)
    assert await search.advance(100)
    assert search.payload is not None
    assert search.result is not None
    # Not older than it can be; not another job's or another result; not below an older job.
    for number, wanted, since in (
        (job.id, result_hash, opened_at + 1),
        (job.id, bytes(32), opened_at),
        (job.id + 1, result_hash, 0),
    ):
        with pytest.raises(HistoryNotFoundError):
            await JobSearch(padded, escrow, number, wanted, since=since).advance(100)


async def test_search_goes_on_where_an_endpoint_failed(
    town: Town, worker: ScriptedWorker, padded: PaddedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await town.client()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    submission = await submit(worker, client, job.id)
    padded.pad(client.escrow.address, 1000)
    search = JobSearch(padded, client.escrow.address, job.id, submission.sealed.result_hash, since=0)
    assert not await search.advance(2)
    seen = search.seen

    async def away(*_: object, **__: object) -> None:
        raise ChainError("nobody answers")

    with monkeypatch.context() as patch:
        patch.setattr(padded, "transactions", away)
        with pytest.raises(ChainError):
            await search.advance(1)
    assert search.seen == seen
    before = padded.looks
    assert await search.advance(100)
    assert padded.looks - before < 8
