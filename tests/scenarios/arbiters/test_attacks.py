"""Attacks on arbiters as a service: padded histories, stalling peers, lagging endpoints, full disks."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_sdk.arbiter import following
from cocoon_sdk.arbiter.evidence import Weighed
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.chain.watcher import ChainResetError
from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.arbiter_endpoints import ArbiterUnreachableError
from cocoon_sdk.client.errors import EvidenceNotSentError
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.protocol.disputes import Ground, ItemKind
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.storage import StorageFullError
from tests.helpers.arbiters import Court, dispute_of, submit, verifiable
from tests.helpers.hostile_chains import PaddedChain
from tests.helpers.sdk import MODEL_NAME, ScriptedWorker, Town, chat
from tests.helpers.worker_faults import LaggingChain


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


async def submitted(
    town: Town, court: Court, worker: ScriptedWorker, name: str = "client"
) -> tuple[AsyncCocoon, AsyncJob]:
    """Open a job from an escrow of somebody's own, and submit for it."""
    client = await town.client(name, arbiters=court.urls)
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    await submit(worker, client, job.id)
    return client, job


async def disputed_on_the_market(
    town: Town, worker: ScriptedWorker, name: str, *, jobs: int = 1
) -> tuple[AsyncCocoon, int]:
    """Dispute jobs of an escrow and tell no arbiter; return the last one."""
    client = await town.client(name)
    for _ in range(jobs):
        job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
        await submit(worker, client, job.id)
        await job.dispute()
    return client, job.id


# -- padded histories ----------------------------------------------------------------------------------------


async def test_stranger_cannot_hide_a_dispute_behind_small_messages(
    town: Town, court: Court, worker: ScriptedWorker, padded: PaddedChain
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.SLASH, wallet=index == 0)
    client = await town.client(arbiters=court.urls)
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    await submit(worker, client, job.id)
    padded.pad(client.escrow.address, 10_000)
    padded.pad(worker.address, 10_000)
    padded.reach = 5_000
    await job.dispute()
    await court.rounds()
    assert (await job.status()).state is JobState.SLASHED


async def test_padded_disputes_that_take_every_look_cannot_keep_another_from_being_found(
    town: Town,
    court: Court,
    worker: ScriptedWorker,
    padded: PaddedChain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "IN_TURN", 4)
    service = await court.start(0, says=None)
    for name in ("first", "second"):
        attacker, _ = await disputed_on_the_market(town, worker, name, jobs=2)
        padded.pad(attacker.escrow.address, 100_000)
    honest, number = await disputed_on_the_market(town, worker, "honest")
    dispute = await dispute_of(honest, number)
    before = padded.looks
    for _ in range(200):
        await service.step()
        await asyncio.sleep(0)
        if service.hearing(dispute.digest) is not None:
            break
    assert service.hearing(dispute.digest) is not None
    assert padded.looks - before < 200  # of 1600


# -- endpoints that fail or lag ------------------------------------------------------------------------------


async def test_dispute_that_cannot_be_read_does_not_keep_others_waiting(
    town: Town, court: Court, worker: ScriptedWorker, padded: PaddedChain
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.SLASH, wallet=index == 0)
    broken, first = await submitted(town, court, worker, "broken")
    _, second = await submitted(town, court, worker, "other")
    padded.broken.add(broken.escrow.address)
    with pytest.raises(EvidenceNotSentError):
        await first.dispute()
    await court.rounds()
    await second.dispute()
    await court.rounds()
    assert (await first.status()).state is JobState.DISPUTED
    assert (await second.status()).state is JobState.SLASHED
    # Neither does it keep an arbiter from starting, which takes up again what it can read.
    for index in range(3):
        await court.stop(index)
        await court.start(index, says=Ground.SLASH, wallet=index == 0)
    assert not court.running[0].hearing((await dispute_of(broken, first.id)).digest)
    # Once it can be read, it goes on by itself.
    padded.broken.clear()
    town.chain.warp(3600)
    await court.rounds()
    await first.send_evidence()
    await court.rounds()
    assert (await first.status()).state is JobState.SLASHED


async def test_lagging_endpoint_cannot_have_evidence_of_a_dispute_deleted(
    town: Town, worker: ScriptedWorker, tmp_path: Path
) -> None:
    lagging = LaggingChain(town.chain)
    court = Court(town.chain, lagging, town.suite, tmp_path)
    await court.start(0, says=None)
    client, job = await submitted(town, court, worker)
    lagging.freeze()
    before = lagging.blockchain
    lagging.thaw()
    await job.dispute()
    await court.rounds(1)
    dispute = await dispute_of(client, job.id)
    held = court.hearing(0, dispute).held
    assert ItemKind.PAYLOAD in held
    # The endpoint falls back to before the dispute, while we run and when we begin.
    lagging.blockchain = before
    for _ in range(3):
        before.warp(3600)
        with contextlib.suppress(ChainResetError):  # so the market looks there
            await court.rounds(2)
    await court.stop(0)
    await court.start(0, says=Ground.SLASH)
    for _ in range(3):
        before.warp(3600)
        with contextlib.suppress(ChainResetError):  # so the market looks there
            await court.rounds(2)
    assert court.running[0].hearing(dispute.digest) is None
    lagging.thaw()
    town.chain.warp(8 * 3600)
    await court.rounds(2)
    assert court.hearing(0, dispute).held == held
    await court.close()


async def test_dispute_is_over_only_when_two_looks_say_so(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.SLASH, wallet=index == 0)
    client, job = await submitted(town, court, worker)
    await job.dispute()
    dispute = await dispute_of(client, job.id)
    await court.rounds()
    assert (await job.status()).state is JobState.SLASHED
    service = court.running[1]
    town.chain.warp(1)
    await service.settle()
    assert service.hearing(dispute.digest) is not None
    town.chain.warp(1)
    await service.settle()
    assert service.hearing(dispute.digest) is None


async def test_dispute_that_makes_an_arbiter_stumble_does_not_end_it(
    town: Town, court: Court, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.SLASH, wallet=index == 0)
    poisoned, first = await submitted(town, court, worker, "poisoned")
    _, second = await submitted(town, court, worker, "other")
    await first.dispute()
    await second.dispute()
    weigh = Hearing.weigh

    async def stumble(self: Hearing, now: int) -> Weighed | None:
        if self.dispute.escrow == poisoned.escrow.address:
            raise ValueError("what nobody thought of")
        return await weigh(self, now)

    monkeypatch.setattr(Hearing, "weigh", stumble)
    await court.rounds()
    assert (await first.status()).state is JobState.DISPUTED
    assert (await second.status()).state is JobState.SLASHED


# -- full disks ----------------------------------------------------------------------------------------------


async def test_arbiter_outlasts_a_full_disk(
    town: Town, court: Court, worker: ScriptedWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.SLASH, wallet=index == 0)
    client, job = await submitted(town, court, worker)
    full = court.databases[1]
    full.is_full = True
    running = asyncio.create_task(court.running[1].run())
    with pytest.raises(EvidenceNotSentError, match="with 2 arbiters, 3 are needed"):
        await job.dispute()  # the others take it
    dispute = await dispute_of(client, job.id)
    arbiters, member = court.arbiters(), dispute.members[1]
    url = arbiters.urls[member.key]
    with pytest.raises(ArbiterUnreachableError, match="503"):
        await arbiters.endpoints.announce(url, dispute)
    assert not running.done()
    assert not (await arbiters.endpoints.overview(url)).accepts_evidence
    assert "storage_failed" in capsys.readouterr().out
    # There is room again: it takes the dispute up, and all three sign.
    full.is_full = False
    town.chain.warp(3600)
    await arbiters.endpoints.announce(url, dispute)
    court.running[1].stop()
    await running
    await court.rounds()
    town.chain.warp(120)
    await court.rounds()
    assert (await arbiters.endpoints.overview(url)).accepts_evidence
    assert (await job.status()).state is JobState.SLASHED


async def test_arbiter_can_start_when_its_disk_is_full(
    town: Town, court: Court, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await court.start(0, says=None)
    client, job = await submitted(town, court, worker)
    await job.dispute()
    await court.rounds()
    dispute = await dispute_of(client, job.id)
    await court.stop(0)
    town.chain.warp(dispute.ends_at - town.chain.now)

    async def full(*_: object) -> None:
        raise StorageFullError("cannot write", why="the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ArbiterStore, "end", full)
        service = await court.start(0)
        assert service.problem
    assert service.hearing(dispute.digest) is None
    town.chain.warp(3600)
    await court.rounds()
    assert await service._store.items(dispute.digest) == {}


# -- slow senders --------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only there every address of 127.0.0.0/8 is one's own")
async def test_slow_senders_cannot_keep_evidence_out(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    service = await court.start(0, says=None, max_deliveries=4)
    client = await town.client()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    submission = await submit(worker, client, job.id)
    await job.dispute()
    dispute = await dispute_of(client, job.id)
    arbiters, member = court.arbiters(), dispute.members[0]
    await arbiters.endpoints.announce(arbiters.urls[member.key], dispute)
    path = f"/v1/disputes/{dispute.digest.hex()}/evidence"
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".encode() + b"\1" * 64
    writers = []
    for source in ("127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"):
        _, writer = await asyncio.open_connection("127.0.0.1", service.port, local_addr=(source, 0))
        writer.write(head)
        writers.append(writer)
    assert service._server is not None
    while sum(place.size for place in service._server._large._taken) < 4 * 64:
        await arbiters.endpoints.info(arbiters.urls[member.key])
    delivered = await arbiters.deliver(dispute, submission.items, member)
    assert delivered.taken == {ItemKind.PAYLOAD, ItemKind.RESULT}, delivered.problem
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
