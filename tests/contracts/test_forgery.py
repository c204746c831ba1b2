"""Accounts that are not what they say: other code, other registry, other owner, another workchain."""

from __future__ import annotations

import pytest
from pytoniq_core import Address, begin_cell

from cocoon_sdk.contracts.code import code_cell
from cocoon_sdk.contracts.network import Deployment, Network
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.test_parameters import next_version
from tests.helpers.audit import (
    World,
    at,
    entries,
    extended,
    locks,
    numbered,
    sent,
    state_of,
    truncated,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

PRICE = Nano.ton(1)


def forged(client: Client, number: int, owner: Address, **changes: object) -> m.SubmitClaimed:
    job = client.job(number)
    assert job is not None
    index = changes.pop("index", 0)
    fields: dict[str, object] = {
        "id": number,
        "amount": Nano(1),
        "collateral": job.collateral,
        "lock": numbered(1),
        "result_hash": 5,
        "previous_code": False,
        "stake": begin_cell().store_bytes(owner.hash_part).store_uint(index, 32).end_cell(),
        **changes,
    }
    return m.SubmitClaimed(**fields)  # type: ignore[arg-type]


def claimed_by(world: World, client: Client, account: Address) -> int:
    """Open a job that any account claims: a claim is believed for its bond alone."""
    number, _ = client.open(world.suite.open_terms())
    job = client.job(number)
    assert job is not None
    body = m.Claim(id=number, binding=signing.binding_hash(job.params, job.terms), key_tag=1)
    world.chain.send_internal(client.address, GAS, body.to_cell(), src=account)
    assert entries(client)[number].status == 1
    return number


def test_stake_with_other_code_cannot_submit(world: World, client: Client, stranger: Actor) -> None:
    """A contract that only looks like a stake locks nothing; the escrow derives and refuses."""
    fakes: list[Deployment] = [
        world.suite.network.stake(stranger.address, code=next_version("WorkerStake")),
        world.suite.network.stake(stranger.address, code=code_cell("Escrow")),
        Network(stranger.address).stake(stranger.address),
        world.suite.network.stake(stranger.address, index=1),
    ]
    for fake in fakes:
        number = claimed_by(world, client, fake.address)
        data, before = state_of(world.chain, client.address)
        for changes in ({}, {"previous_code": True}):
            body = forged(client, number, stranger.address, **changes)
            done = world.chain.send_internal(client.address, GAS, body.to_cell(), src=fake.address)
            assert len(sent(done, m.Gone)) == 1
        assert state_of(world.chain, client.address) == (data, before)
    # The control: the derived address is believed.
    genuine = world.suite.network.stake(stranger.address)
    number = claimed_by(world, client, genuine.address)
    body = forged(client, number, stranger.address)
    world.chain.send_internal(client.address, GAS, body.to_cell(), src=genuine.address)
    assert entries(client)[number].status == 2


def test_fake_stake_loses_its_bond_and_nothing_else_happens(
    world: World, client: Client, stranger: Actor
) -> None:
    number = claimed_by(world, client, stranger.address)
    free = client.get_state().free
    world.chain.warp(3601)
    done = client.act(signing.reclaim_late(number))
    assert at(done, stranger.address) == []
    assert (client.get_state().jobs, client.get_state().reserved) == (0, 0)
    # The price, the bond of a dispute, and the part of the claim's bond that compensates.
    assert client.get_state().free > free + Nano.ton("1.21")


def test_masterchain_twin_of_a_stake_cannot_claim_or_submit(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.open_terms())
    twin = Address((-1, worker.address.hash_part))
    job = client.job(number)
    assert job is not None
    data, before = state_of(world.chain, client.address)
    claim = m.Claim(id=number, binding=signing.binding_hash(job.params, job.terms), key_tag=1)
    world.chain.send_internal(client.address, GAS, claim.to_cell(), src=twin)
    assert state_of(world.chain, client.address) == (data, before)
    worker.claim(client, number)
    data, before = state_of(world.chain, client.address)
    body = forged(client, number, worker.owner.address)
    world.chain.send_internal(client.address, GAS, body.to_cell(), src=twin)
    assert state_of(world.chain, client.address) == (data, before)


@pytest.mark.parametrize("field", ["owner", "index", "shorter", "longer", "reference"])
def test_genuine_stake_cannot_submit_as_another(
    world: World, client: Client, worker: Worker, stranger: Actor, field: str
) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    shapes = {
        "shorter": truncated(worker.shown, 8),
        "longer": extended(worker.shown, "0" * 8),
        "reference": extended(truncated(worker.shown, 16), "", begin_cell().end_cell()),
    }
    changes: dict[str, object] = {"index": 1} if field == "index" else {}
    if field in shapes:
        changes = {"stake": shapes[field]}
    owner = stranger.address if field == "owner" else worker.owner.address
    body = forged(client, number, owner, **changes)
    data, before = state_of(world.chain, client.address)
    done = world.chain.send_internal(client.address, GAS, body.to_cell(), src=worker.address)
    assert len(sent(done, m.Gone)) == 1
    assert state_of(world.chain, client.address) == (data, before)


def test_escrow_with_other_code_cannot_lock_or_slash(world: World, worker: Worker, stranger: Actor) -> None:
    """The stake derives the escrow of a submission by itself, and believes an outcome only from that one."""
    fake = world.suite.network.escrow(stranger.address, code=next_version("Escrow"))
    target = signing.JobTarget(
        escrow_owner=signing.account_id(stranger.address),
        escrow_index=0,
        previous_code=False,
        own_previous_code=False,
        job_hash=1,
        collateral=Nano.ton(10),
        lock=1,
    )
    world.chain.hold()
    worker.act(signing.submit_claimed(1, Nano(1), target, hash_of("result")))
    (submission,) = world.chain.pending
    assert submission.dst == world.suite.network.escrow(stranger.address).address
    assert submission.dst != fake.address
    data, _ = state_of(world.chain, worker.address)
    for source in (fake.address, Address((-1, submission.dst.hash_part))):
        body = m.Slash(id=1, collateral=10**10, amount=10**10, back=10**10, lock=numbered(1))
        world.chain.send_internal(worker.address, GAS, body.to_cell(), src=source)
    assert state_of(world.chain, worker.address)[0] == data
    world.chain.release()
    assert (locks(worker), worker.get_state().stake) == ({}, Nano.ton(100))


def test_escrow_of_another_network_is_another_account(world: World, client: Client, worker: Worker) -> None:
    foreign = Network(world.suite.governor.address)
    assert foreign.escrow(client.owner.address).address != client.address
    body = m.Slash(id=1, collateral=10**9, amount=10**9, back=0, lock=numbered(1))
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    world.chain.send_internal(
        worker.address, GAS, body.to_cell(), src=foreign.escrow(client.owner.address).address
    )
    assert worker.get_state().stake == Nano.ton(100)
    assert len(locks(worker)) == 1


def test_genuine_escrow_cannot_slash_beyond_its_own_job(world: World, client: Client, worker: Worker) -> None:
    """A second client with a genuine escrow, the same job id, lock and collateral touches nothing."""
    rival = world.client("rival")
    number, _ = client.open(world.suite.directed_terms(worker))
    rival.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    lock = worker.lock(client)
    assert lock is not None
    collateral, held = int(lock.collateral), locks(worker)
    for body in (
        m.Slash(id=number, collateral=collateral, amount=10**9, back=10**9, lock=numbered(1)),
        m.Release(id=number, collateral=collateral, lock=numbered(1)),
        m.Reward(id=number, collateral=collateral, amount=0, fee=0, lock=numbered(1)),
        m.Gone(id=number, collateral=collateral, lock=numbered(1)),
    ):
        world.chain.send_internal(worker.address, GAS, body.to_cell(), src=rival.address)
    assert locks(worker) == held
    assert worker.get_state().stake == Nano.ton(100)


def test_stranger_who_deploys_an_account_gains_nothing(world: World, stranger: Actor) -> None:
    """Anybody can bring an account to life for its owner; it stays the owner's, and no key works."""
    victim = world.chain.actor("victim", Nano.ton(1000))
    deployment = world.suite.network.escrow(victim.address)
    stranger.send(
        deployment.address,
        Nano.ton("0.2"),
        m.SyncParams(query_id=0).to_cell(),
        state_init=deployment.state_init,
    )
    client = Client(world.suite, deployment, victim, key_of("thief"), c.PURPOSE_ESCROW_EXTERNAL)
    world.clients.append(client)
    state = client.get_state()
    assert (state.active, state.hot_key) == (True, 0)
    from tests.helpers.audit import rejected

    victim.send(client.address, Nano.ton(10))
    rejected(world.chain, client, client.external(signing.cancel_job(1)), None)
    zero = b"\x00" * 64
    unsigned = begin_cell().store_bytes(zero).store_uint(0, 200).end_cell()
    rejected(world.chain, client, signing.external_message(client.address, unsigned), None)
    client.from_owner(
        m.ConfigureEscrow(
            query_id=0, hot_key=key_of("own").verify_key.to_int(), daily_limit=Nano.ton(1), allowed=None
        )
    )
    assert client.get_state().epoch == state.epoch
