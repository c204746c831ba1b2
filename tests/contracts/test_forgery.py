"""Accounts that are not what they say: other code, other registry, other owner, another workchain."""

from __future__ import annotations

import pytest
from pytoniq_core import Address

from cocoon_sdk.contracts.code import code_cell
from cocoon_sdk.contracts.network import Deployment, Network
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.test_parameters import next_version
from tests.helpers.audit import World, entries, locks, numbered, set_aside, state_of
from tests.helpers.suite import GAS, Client, Worker, key_of

PRICE = Nano.ton(1)


def forged_claim(world: World, client: Client, number: int, owner: Address, **changes: object) -> m.Claim:
    job = client.job(number)
    assert job is not None
    binding = signing.binding_hash(world.suite.params_cell, job.terms)
    fields: dict[str, object] = {
        "id": number,
        "lock": numbered(1),
        "collateral": job.collateral,
        "binding": binding,
        "operator_key": key_of("forger").verify_key.to_int(),
        "owner": signing.account_id(owner),
        "index": 0,
        "previous_code": False,
        **changes,
    }
    return m.Claim(**fields)  # type: ignore[arg-type]


def test_stake_with_other_code_cannot_claim(world: World, client: Client, stranger: Actor) -> None:
    """A contract that only looks like a stake locks nothing; the escrow derives and refuses."""
    number, _ = client.open(world.suite.open_terms())
    fakes: list[Deployment] = [
        world.suite.network.stake(stranger.address, code=next_version("WorkerStake")),
        world.suite.network.stake(stranger.address, code=code_cell("Escrow")),
        Network(stranger.address).stake(stranger.address),
        world.suite.network.stake(stranger.address, index=1),
    ]
    data, before = state_of(world.chain, client.address)
    for fake in fakes:
        for changes in ({}, {"previous_code": True}):
            body = forged_claim(world, client, number, stranger.address, **changes)
            world.chain.send_internal(client.address, GAS, body.to_cell(), src=fake.address)
    assert state_of(world.chain, client.address) == (data, before)
    # The control: the derived address is believed.
    genuine = world.suite.network.stake(stranger.address)
    body = forged_claim(world, client, number, stranger.address)
    world.chain.send_internal(client.address, GAS, body.to_cell(), src=genuine.address)
    assert entries(client)[number].status == 1


def test_masterchain_twin_of_a_stake_cannot_claim(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open(world.suite.open_terms())
    twin = Address((-1, worker.address.hash_part))
    body = forged_claim(world, client, number, worker.owner.address)
    data, before = state_of(world.chain, client.address)
    world.chain.send_internal(client.address, GAS, body.to_cell(), src=twin)
    assert state_of(world.chain, client.address) == (data, before)


@pytest.mark.parametrize("field", ["owner", "index"])
def test_genuine_stake_cannot_claim_as_another(
    world: World, client: Client, worker: Worker, stranger: Actor, field: str
) -> None:
    number, _ = client.open(world.suite.open_terms())
    changes: dict[str, object] = {"index": 1} if field == "index" else {}
    owner = stranger.address if field == "owner" else worker.owner.address
    body = forged_claim(world, client, number, owner, **changes)
    data, before = state_of(world.chain, client.address)
    world.chain.send_internal(client.address, GAS, body.to_cell(), src=worker.address)
    assert state_of(world.chain, client.address) == (data, before)


def test_escrow_with_other_code_cannot_lock_or_slash(world: World, worker: Worker, stranger: Actor) -> None:
    """The stake derives the escrow of a claim by itself, and believes an outcome only from that one."""
    fake = world.suite.network.escrow(stranger.address, code=next_version("Escrow"))
    target = m.JobTarget(
        escrow_owner=signing.account_id(stranger.address),
        escrow_index=0,
        previous_code=False,
        collateral=Nano.ton(10),
        lock=1,
        job_hash=1,
        own_previous_code=False,
    )
    world.chain.hold()
    worker.act(signing.claim(1, target), max_spend=worker.work_spend())
    (claim,) = world.chain.pending
    assert claim.dst == world.suite.network.escrow(stranger.address).address
    assert claim.dst != fake.address
    data, _ = state_of(world.chain, worker.address)
    for source in (fake.address, Address((-1, claim.dst.hash_part))):
        body = m.Slash(id=1, collateral=10**10, amount=10**10, back=10**10, lock=numbered(1), unused=True)
        world.chain.send_internal(worker.address, GAS, body.to_cell(), src=source)
    assert state_of(world.chain, worker.address)[0] == data
    world.chain.release()
    assert (locks(worker), worker.get_state().stake) == ({}, Nano.ton(100))


def test_escrow_of_another_network_is_another_account(world: World, client: Client, worker: Worker) -> None:
    foreign = Network(world.suite.governor.address)
    assert foreign.escrow(client.owner.address).address != client.address
    body = m.Slash(id=1, collateral=10**9, amount=10**9, back=0, lock=numbered(1), unused=False)
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    world.chain.send_internal(
        worker.address, GAS, body.to_cell(), src=foreign.escrow(client.owner.address).address
    )
    assert worker.get_state().stake == Nano.ton(100)
    assert len(locks(worker)) == 1


def test_genuine_escrow_cannot_slash_beyond_its_own_job(world: World, client: Client, worker: Worker) -> None:
    """A second client with a genuine escrow, the same job id, lock and collateral touches nothing."""
    rival = world.client("rival")
    number, _ = client.open(world.suite.open_terms())
    rival.open(world.suite.open_terms())
    worker.claim(client, number)
    lock = worker.lock(client)
    assert lock is not None
    collateral, held = int(lock.collateral), locks(worker)
    for body in (
        m.Slash(id=number, collateral=collateral, amount=10**9, back=10**9, lock=numbered(1), unused=True),
        m.Release(id=number, collateral=collateral, lock=numbered(1)),
        m.Reward(id=number, collateral=collateral, amount=0, fee=0, lock=numbered(1), unused=True),
        m.Gone(id=number, collateral=collateral, lock=numbered(1), unused=True),
    ):
        world.chain.send_internal(worker.address, GAS, body.to_cell(), src=rival.address)
    assert (locks(worker), set_aside(worker)) == (held, 1)
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
    from pytoniq_core import begin_cell

    forged = begin_cell().store_bytes(zero).store_uint(0, 200).end_cell()
    rejected(world.chain, client, signing.external_message(client.address, forged), None)
    client.from_owner(
        m.ConfigureEscrow(
            query_id=0, hot_key=key_of("own").verify_key.to_int(), daily_limit=Nano.ton(1), allowed=None
        )
    )
    assert client.get_state().epoch == state.epoch
