"""What a worker's stake locks for a client: in one lock while it lasts, and never stuck for lack of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from cocoon_worker import setup
from cocoon_worker.states import JobState
from tests.helpers.suite import GAS, Client
from tests.helpers.worker_rig import Rig, kill, record, state


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def alice(rig: Rig) -> Client:
    return rig.suite.client("alice")


async def test_worker_can_put_the_collateral_of_a_clients_jobs_into_one_lock(rig: Rig, alice: Client) -> None:
    carol = rig.suite.client("carol")
    async with rig.service("bob") as service:
        await service.settle()
        jobs = []
        for client in (alice, carol, alice, alice):
            jobs.append(rig.open_job(client, service, "bob"))
            await service.settle()
        assert {state(service, job) for job in jobs} == {JobState.SUBMITTED}
        assert [record(service, job).lock & 0xFF for job in jobs] == [1, 2, 1, 1]
        locks = rig.account("bob").locks()
        each = record(service, jobs[0]).collateral
        assert [lock.collateral for lock in locks.values()] == [3 * each, each]
        alice.act(signing.accept_result(jobs[0].id))
        await service.settle()
        assert [lock.collateral for lock in rig.account("bob").locks().values()] == [2 * each, each]
        assert [record(service, job).lock & 0xFF for job in jobs] == [0, 2, 1, 1]
        rig.warp(3601)
        await service.settle()
        assert {state(service, job) for job in jobs} == {JobState.PAID}
        assert rig.account("bob").locks() == {}
        # The slot is used again, under another number.
        late = rig.open_job(alice, service, "bob")
        await service.settle()
        assert record(service, late).lock == 0b10_1_00000001
    Ledger.of(rig.blockchain).assert_balanced()


@pytest.mark.parametrize("name", ["bob", None], ids=["submission", "claim"])
async def test_client_cannot_keep_a_worker_off_a_job_by_emptying_the_lock_it_counts_on(
    rig: Rig, alice: Client, name: str | None
) -> None:
    """The client accepts another job right before the worker's external arrives, every time."""
    async with rig.service("bob") as service:
        await service.settle()
        others = [rig.open_job(alice, service, "bob")]
        await service.settle()
        real_send, tried = rig.chain.send, 0

        async def send(message: Any) -> bytes:
            nonlocal tried
            tried += 1
            while others:
                alice.act(signing.accept_result(others.pop().id))
            return await real_send(message)

        rig.chain.send = send  # type: ignore[method-assign]
        job = rig.open_job(alice, service, name)
        begun = rig.clock.now()
        await service.settle()
        while state(service, job) is not JobState.SUBMITTED:
            rig.warp(1)
            await service.settle()
            assert rig.clock.now() - begun < 5
        assert tried >= 2
        assert record(service, job).lock >> 9 == 1
        assert [lock.collateral for lock in rig.account("bob").locks().values()] == [
            record(service, job).collateral
        ]
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_can_note_that_a_lock_expired_when_no_outcome_ever_came(rig: Rig, alice: Client) -> None:
    """A submission that the worker died on and nobody ended: anybody frees it, and the journal is told."""
    owner = rig.account("bob").owner
    service = rig.service("bob")
    await service.__aenter__()
    await service.settle()
    rig.blockchain.hold()
    job = rig.open_job(alice, service, "bob")
    rig.blockchain.release()
    rig.blockchain.hold()
    await service.settle()  # the stake has locked; the submission is still on its way
    await kill(service)
    rig.blockchain.release()
    (end,) = (lock.end for lock in rig.account("bob").locks().values())
    rig.warp(end - rig.clock.now())
    stake = service.context.stake
    assert setup.free_expired_locks(stake, await stake.locks(), rig.clock.now()) == []
    rig.warp(1)
    (message,) = setup.free_expired_locks(stake, await stake.locks(), rig.clock.now())
    owner.send(message.to, GAS, message.body)
    assert rig.account("bob").locks() == {}
    async with rig.service("bob") as service:
        await service.settle()
        assert service.journal.locked_jobs() == []
        # The reward is paid all the same, and finds no lock to free.
        owner.send(alice.address, GAS, m.Finalize(id=job.id).to_cell())
        await service.settle()
        assert record(service, job).paid > 0
        assert record(service, job).slashed == Nano(0)
    Ledger.of(rig.blockchain).assert_balanced()


@pytest.mark.parametrize(
    "senseless", [{"work_period": 0}, {"price": Nano(0)}, {"items": 0}, {"claim_period": 0}]
)
async def test_worker_cannot_be_drawn_into_a_job_whose_terms_make_no_sense(
    rig: Rig, alice: Client, senseless: dict[str, Any]
) -> None:
    """The escrow opens such jobs: they harm the client alone."""
    async with rig.service("bob") as service:
        await service.settle()
        seqno = rig.account("bob").get_state().seqno
        job = rig.open_job(alice, service, "bob", **senseless)
        await service.settle()
        assert alice.job(job.id) is not None
        assert state(service, job) is JobState.REFUSED
        assert rig.account("bob").get_state().seqno == seqno
