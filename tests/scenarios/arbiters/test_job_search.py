"""Searches for jobs in padded histories: how much one step reads, where it goes on, where it ends."""

from __future__ import annotations

import pytest
from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import TransactionRecord
from cocoon_sdk.errors import ChainError
from cocoon_sdk.history import HistoryNotFoundError, JobSearch, job_search
from tests.helpers.arbiters import submit
from tests.helpers.hostile_chains import PaddedChain
from tests.helpers.memory import kept_by
from tests.helpers.sdk import MODEL_NAME, ScriptedWorker, Town, chat


@pytest.fixture
def padded(town: Town) -> PaddedChain:
    return PaddedChain(town.chain)


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


async def test_worker_cannot_have_one_step_of_a_search_read_the_whole_of_its_own_history(
    town: Town, worker: ScriptedWorker, padded: PaddedChain
) -> None:
    client = await town.client()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    submission = await submit(worker, client, job.id)
    padded.pad(client.escrow.address, 5000)
    padded.pad(worker.address, 20_000)
    padded.reach = 1000  # others made the endpoint forget what it was asked for
    search = JobSearch(padded, client.escrow.address, job.id, submission.sealed.result_hash, since=0)
    before, steps = padded.looks, 1
    while not await search.advance(1):
        assert padded.looks - before == steps
        steps += 1
    assert steps > 25_000 // 256
    assert padded.looks - before == steps + 1  # the payload is read last
    assert search.payload is not None
    assert search.result is not None


async def test_search_in_a_history_without_end_ends_and_can_begin_again(
    town: Town, worker: ScriptedWorker, padded: PaddedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_search, "MAX_SEARCH", 2000)
    client = await town.client()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    submission = await submit(worker, client, job.id)
    padded.pad(worker.address, 20_000)
    padded.reach = 1000
    for _ in range(2):
        search = JobSearch(padded, client.escrow.address, job.id, submission.sealed.result_hash, since=0)
        before = padded.looks
        with pytest.raises(HistoryNotFoundError):
            await search.advance(100)
        assert padded.looks - before > 2000 // 256


async def test_search_that_waits_holds_no_content(
    town: Town, worker: ScriptedWorker, padded: PaddedChain
) -> None:
    client = await town.client()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    submission = await submit(worker, client, job.id)
    padded.pad(worker.address, 1000)
    search = JobSearch(padded, client.escrow.address, job.id, submission.sealed.result_hash, since=0)
    assert not await search.advance(3)  # the escrow's is read
    assert search.seen > 256
    kept = {type(each) for each in kept_by(search, but=frozenset({"_chain"}))}
    assert Address in kept
    assert not kept & {Cell, TransactionRecord}
    assert await search.advance(100)
    assert search.payload is not None


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
