"""What a worker declines on a real chain, and that declining sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core import Cell, begin_cell

from cocoon_sdk.contracts.network import Network
from cocoon_sdk.crypto import BoxKey
from cocoon_sdk.data import InlineData, Location, encode_data
from cocoon_sdk.protocol import JobKind, signing
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.types import Nano
from cocoon_worker.records import JobKey
from cocoon_worker.service import WorkerService
from cocoon_worker.states import JobState
from tests.helpers.suite import Client, as_int, hash_of, key_of
from tests.helpers.worker_rig import OpenedJob, Rig, record, state

Opening = Callable[[Rig, Client, WorkerService], OpenedJob]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def changed(**changes: Any) -> Opening:
    return lambda rig, alice, service: rig.open_job(alice, service, "bob", **changes)


def asking(**changes: Any) -> Opening:
    def opening(rig: Rig, alice: Client, service: WorkerService) -> OpenedJob:
        return rig.open_job(alice, service, "bob", packed=rig.pack(service, **changes))

    return opening


def carrying(data: Callable[[bytes], Cell | None]) -> Opening:
    def opening(rig: Rig, alice: Client, service: WorkerService) -> OpenedJob:
        packed = rig.pack(service)
        cell = data(packed.data)
        if cell is not None:
            return rig.open_job(alice, service, "bob", packed=packed, data=cell)
        job_id, _ = alice.open(rig.terms(service, packed, worker=rig.account("bob")))
        return OpenedJob(alice, job_id, packed)

    return opening


def other_key(rig: Rig, alice: Client, service: WorkerService) -> OpenedJob:
    packed = rig.pack(service)
    terms = rig.terms(service, packed, worker=rig.account("bob"))
    named = m.JobWorker(
        operator_key=key_of("old").verify_key.to_int(), account=signing.account_id(rig.account("bob").address)
    )
    return rig.open_job(alice, service, "bob", packed=packed, terms=replace(terms, worker=named.to_cell()))


def flipped(data: bytes) -> Cell:
    return encode_data(InlineData(data[:-1] + bytes([data[-1] ^ 1])))


def nowhere(data: bytes) -> Cell:
    return encode_data(Location.of("ftp://nowhere.example/x", data))


def at_home(data: bytes) -> Cell:
    return encode_data(Location.of("http://127.0.0.1:9/secret", data))


CASES: list[tuple[str, str, Opening]] = [
    ("other terms", "other-terms", changed(terms_hash=as_int(hash_of("old terms")))),
    ("another model", "model-not-offered", changed(model_id=as_int(hash_of("another")))),
    ("a batch", "batches-not-served", changed(items=64)),
    ("below the minimum", "price-too-low", changed(price=Nano.ton("0.0099"))),
    ("deadline too near", "deadline-too-near", changed(claim_period=59)),
    ("more collateral than there is", "not-enough-stake", changed(price=Nano.ton("25.1"))),
    ("an old operator key", "other-operator-key", other_key),
    ("another model in the payload", "model-not-offered", asking(model="dearer")),
    ("a kind without engine", "kind-not-served", asking(kind=JobKind.TRANSCRIPTION)),
    ("a forbidden field", "request-refused", asking(request={"messages": [], "n": 3})),
    ("an unknown prekey", "payload-unreadable", asking(prekey=BoxKey.generate())),
    ("altered bytes", "payload-unreadable", carrying(flipped)),
    ("no payload", "payload-unavailable", carrying(lambda _: None)),
    ("not a data cell", "payload-unavailable", carrying(lambda _: begin_cell().store_bit(1).end_cell())),
    ("a scheme that is off", "payload-unavailable", carrying(nowhere)),
    ("our own network", "payload-unavailable", carrying(at_home)),
    ("another payload than committed", "payload-unreadable", changed(payload_hash=as_int(hash_of("x")))),
]


@pytest.mark.parametrize(("reason", "opening"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
async def test_worker_cannot_take_a_job_when_something_is_off(
    rig: Rig, reason: str, opening: Opening
) -> None:
    alice = rig.suite.client("alice")
    async with rig.service("bob") as service:
        await service.settle()
        seqno = rig.account("bob").get_state().seqno
        job = opening(rig, alice, service)
        await service.settle()
        assert state(service, job) is JobState.REFUSED
        assert record(service, job).reason.startswith(reason)
        assert rig.account("bob").get_state().seqno == seqno
        assert service.journal.payload(job.key) is None
        # The client gets its money back when the deadline is over.
        rig.warp(3601)
        await service.settle()
        alice.act(signing.cancel_job(job.id))
        assert alice.get_state().reserved == 0


async def test_forged_escrow_cannot_make_a_worker_do_anything(rig: Rig) -> None:
    """A twin of an escrow on another registry's network: same code, same behaviour, not ours."""
    mallory = rig.blockchain.actor("mallory", Nano.ton(1000))
    other = Network(mallory.address)  # mallory plays the registry of a network of her own
    forged = other.escrow(mallory.address)
    body = m.ConfigureEscrow(
        query_id=0, hot_key=key_of("mallory").verify_key.to_int(), daily_limit=Nano.ton(100), allowed=None
    )
    mallory.send(forged.address, Nano.ton(50), body.to_cell(), state_init=forged.state_init)
    mallory.send(
        forged.address, Nano.ton(1), m.ParamsUpdate(query_id=0, params=rig.suite.params_cell).to_cell()
    )
    twin = Client(rig.suite, forged, mallory, key_of("mallory"), rig.suite.client("x").purpose)
    assert twin.get_state().active
    async with rig.service("bob") as service:
        await service.settle()
        seqno = rig.account("bob").get_state().seqno
        job = rig.open_job(twin, service, "bob")
        for _ in range(4):
            await service.settle()
            rig.warp(10)
        assert state(service, job) is JobState.REFUSED
        assert record(service, job).reason.startswith("forged-escrow")
        # What it claims to have paid is not believed either.
        reward = m.Reward(id=job.id, collateral=0, amount=10**12, fee=0, lock=0)
        rig.blockchain.send_internal(
            rig.account("bob").address, Nano.ton("0.1"), reward.to_cell(), src=twin.address
        )
        await service.settle()
        assert record(service, job).paid == 0
        assert rig.account("bob").get_state().seqno == seqno


async def test_wallet_cannot_flood_the_worker_with_invented_offers(rig: Rig) -> None:
    mallory = rig.blockchain.actor("mallory", Nano.ton(1000))
    async with rig.service("bob", policy={"max_queue": 5}) as service:
        await service.settle()
        for number in range(1, 12):
            offer = m.JobOffer(id=number).to_cell()
            rig.blockchain.send_internal(rig.account("bob").address, 0, offer, src=mallory.address)
        await service.step()
        assert len(service.journal.jobs((JobState.OFFERED,))) == 5
        for _ in range(5):
            await service.settle()
            rig.warp(10)
        assert service.journal.jobs((JobState.OFFERED,)) == []
        assert b"cocoon_dropped_notices_total 6.0" in service.context.metrics.render(service.journal)


async def test_replayed_notice_cannot_make_a_worker_serve_twice(rig: Rig) -> None:
    alice = rig.suite.client("alice")
    async with rig.service("bob") as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob", window=0)
        await service.settle()
        assert state(service, job) is JobState.PAID
        # Nobody can send in an escrow's name; a validator that could would gain nothing.
        again = m.JobOffer(id=job.id).to_cell()
        for _ in range(3):
            rig.blockchain.send_internal(rig.account("bob").address, 0, again, src=alice.address)
            await service.settle()
        assert state(service, job) is JobState.PAID
        assert len(await rig.work_messages("bob")) == 1


async def test_replayed_external_cannot_be_taken_twice(rig: Rig) -> None:
    alice = rig.suite.client("alice")
    async with rig.service("bob") as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        body = rig.blockchain.transactions(rig.account("bob").address, limit=1)[0]
        external = service.journal.external_by_body(bytes(body.in_msg.body.hash))
        assert external is not None
        for _ in range(2):
            with pytest.raises(Exception, match="not accepted"):
                rig.blockchain.send_external(external.message)
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED
        assert len(await rig.work_messages("bob")) == 1


async def test_worker_cannot_take_more_jobs_than_its_stake_backs(rig: Rig) -> None:
    alice = rig.suite.client("alice")
    rig.account("bob", stake=Nano.ton(5))  # each job locks two
    async with rig.service("bob") as service:
        await service.settle()
        jobs = [rig.open_job(alice, service, "bob") for _ in range(3)]
        await service.settle()
        states = [state(service, job) for job in jobs]
        assert states.count(JobState.SUBMITTED) == 2
        assert states.count(JobState.OFFERED) == 1  # tried again while its deadline allows
        rig.warp(1200)
        for job, end in zip(jobs, states, strict=True):
            if end is JobState.SUBMITTED:
                alice.act(signing.accept_result(job.id))
        rig.warp(300)
        await service.settle()
        await service.settle()
        ends = [state(service, job) for job in jobs]
        assert sorted(ends) == [JobState.PAID, JobState.PAID, JobState.SUBMITTED]


async def test_worker_cannot_accept_when_its_gas_is_low_and_says_so(rig: Rig) -> None:
    alice = rig.suite.client("alice")
    rig.account("bob", gas=Nano.ton("0.2"))
    async with rig.service("bob", policy={"min_gas": "0.3"}) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        assert state(service, job) is JobState.OFFERED
        assert record(service, job).reason.startswith("not-enough-gas")
        rig.account("bob").owner.send(rig.account("bob").address, Nano.ton(1))
        rig.warp(10)
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED


async def test_worker_cannot_use_a_stake_whose_key_was_replaced(rig: Rig) -> None:
    alice = rig.suite.client("alice")
    async with rig.service("bob") as service:
        await service.settle()
        rig.account("bob").from_owner(m.SetKey(query_id=0, key=key_of("new").verify_key.to_int()))
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        assert state(service, job) is JobState.OFFERED
        assert record(service, job).reason.startswith("stake-not-ready")
        assert JobKey(signing.account_id(alice.address), job.id) == job.key
