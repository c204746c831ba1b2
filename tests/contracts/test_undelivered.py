"""Outcomes that bounce: tombstones keep them, anyone may deliver them, the client never gets them."""

from __future__ import annotations

import pytest

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.helpers.audit import (
    TOMBSTONE_RELEASE,
    TOMBSTONE_REWARD,
    TOMBSTONE_SLASH,
    World,
    absent,
    gas_fee,
    locks,
    net,
    numbered,
    refused,
    state_of,
    tombstones,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

PRICE = Nano.ton(1)


def deliver(number: int, kind: int) -> m.Deliver:
    return m.Deliver(id=number, kind=kind)


def never_deployed(world: World) -> Worker:
    owner = world.chain.actor("absent owner", Nano.ton(1000))
    return Worker(
        world.suite,
        world.suite.network.stake(owner.address),
        owner,
        key_of("absent"),
        c.PURPOSE_STAKE_EXTERNAL,
    )


def reward_to_nobody(world: World, client: Client) -> tuple[int, Worker]:
    """A worker that signs results but never deployed its stake."""
    worker = never_deployed(world)
    number, _ = client.open(world.suite.directed_terms(worker, price=PRICE))
    signature = worker.sign_result(client, number, PRICE)
    client.act(signing.accept_signed(number, PRICE, hash_of("result"), signature))
    return number, worker


def deploy(world: World, worker: Worker) -> None:
    body = m.ConfigureStake(
        query_id=0,
        operator_key=worker.key.verify_key.to_int(),
        info_hash=0,
        max_locked=Nano(0),
        daily_lock=Nano(0),
    )
    worker.owner.send(worker.address, Nano.ton(1), body.to_cell(), state_init=worker.deployment.state_init)
    world.workers.append(worker)


def test_reward_that_bounces_is_kept_for_the_worker(world: World, client: Client, stranger: Actor) -> None:
    number, worker = reward_to_nobody(world, client)
    kept = tombstones(client)[number, TOMBSTONE_REWARD]
    assert signing.account_address(kept.worker) == worker.address
    assert (kept.lock, kept.amount, kept.second) == (0, PRICE, Nano.ton("0.01"))
    assert kept.expires == world.chain.now + c.HARD_MAX_JOB_LIFE
    state = client.get_state()
    assert (state.jobs, state.reserved) == (0, PRICE)
    # Not the client's any more.
    body = m.Withdraw(query_id=0, amount=Nano(state.free + 1))
    refused(world.chain, client.address, lambda: client.from_owner(body), ExitCode.INSUFFICIENT_FREE)
    # It bounces again as long as nobody is there, and is kept again.
    stranger.send(client.address, GAS, deliver(number, TOMBSTONE_REWARD).to_cell())
    assert client.get_state().reserved == PRICE
    assert (number, TOMBSTONE_REWARD) in tombstones(client)
    world.check()
    deploy(world, worker)
    stranger.send(client.address, GAS, deliver(number, TOMBSTONE_REWARD).to_cell())
    assert (worker.get_state().earned, worker.get_state().fee_due) == (Nano.ton("0.99"), Nano.ton("0.01"))
    assert (client.get_state().reserved, tombstones(client)) == (0, {})
    refused(
        world.chain,
        client.address,
        lambda: stranger.send(client.address, GAS, deliver(number, TOMBSTONE_REWARD).to_cell()),
        ExitCode.NO_TOMBSTONE,
    )


def test_reward_goes_without_bounce_after_the_longest_life(
    world: World, client: Client, stranger: Actor
) -> None:
    number, worker = reward_to_nobody(world, client)
    expires = tombstones(client)[number, TOMBSTONE_REWARD].expires
    world.chain.set_now(expires)
    stranger.send(client.address, GAS, deliver(number, TOMBSTONE_REWARD).to_cell())
    assert (client.get_state().reserved, tombstones(client)) == (0, {})
    assert worker.balance > PRICE
    # The worker finds it when it deploys at last: as gas, which its owner may withdraw.
    deploy(world, worker)
    assert worker.get_state().gas > PRICE


def test_delivery_costs_the_caller_and_not_the_client(world: World, client: Client, stranger: Actor) -> None:
    number, _ = reward_to_nobody(world, client)
    low = gas_fee(c.GAS_ESCROW_ANYONE)
    refused(
        world.chain,
        client.address,
        lambda: stranger.send(client.address, low, deliver(number, TOMBSTONE_REWARD).to_cell()),
        ExitCode.LOW_VALUE,
    )
    before = client.get_state().free
    for _ in range(5):
        stranger.send(client.address, GAS, deliver(number, TOMBSTONE_REWARD).to_cell())
    assert client.get_state().free >= before


@pytest.mark.parametrize("kind", [TOMBSTONE_SLASH, TOMBSTONE_RELEASE, 3])
def test_anyone_cannot_deliver_another_kind(world: World, client: Client, stranger: Actor, kind: int) -> None:
    number, _ = reward_to_nobody(world, client)
    refused(
        world.chain,
        client.address,
        lambda: stranger.send(client.address, GAS, deliver(number, kind).to_cell()),
        ExitCode.NO_TOMBSTONE,
    )


def test_bond_of_a_claim_is_kept_with_a_reward_that_bounces(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """The amount is owed and kept; gas and bond that went along are the client's: the account was away."""
    number, _ = client.open(world.suite.open_terms(PRICE))
    worker.claim(client, number)
    worker.submit_claimed(client, number, PRICE)
    with absent(world.chain, worker.address):
        client.act(signing.accept_result(number))
    assert sorted(tombstones(client)) == [(number, TOMBSTONE_REWARD)]
    assert client.get_state().reserved == PRICE
    stranger.send(client.address, GAS, deliver(number, TOMBSTONE_REWARD).to_cell())
    state = worker.get_state()
    assert (state.earned, state.fee_due, locks(worker)) == (Nano.ton("0.99"), Nano.ton("0.01"), {})


def test_pay_and_slash_that_bounce_can_be_delivered_in_any_order(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    for order in ((TOMBSTONE_REWARD, TOMBSTONE_SLASH), (TOMBSTONE_SLASH, TOMBSTONE_REWARD)):
        before = worker.get_state()
        number, _ = client.open(world.suite.directed_terms(worker, price=PRICE))
        worker.submit(client, number, PRICE)
        client.act(signing.dispute_result(number))
        verdict = world.suite.verdict(client, worker, number, Nano.ton("0.3"), Nano.ton(2))
        with absent(world.chain, worker.address):
            stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
        assert sorted(tombstones(client)) == [(number, TOMBSTONE_REWARD), (number, TOMBSTONE_SLASH)]
        assert client.get_state().reserved == Nano.ton("0.3")
        world.check()
        for kind in order:
            stranger.send(client.address, GAS, deliver(number, kind).to_cell())
        after = worker.get_state()
        assert after.earned - before.earned == Nano.ton("0.297")
        assert before.stake - after.stake == Nano.ton(2)
        assert (len(locks(worker)), tombstones(client)) == (0, {})


def test_release_that_bounces_can_be_delivered(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, PRICE)
    client.act(signing.dispute_result(number))
    verdict = world.suite.verdict(client, worker, number, 0, 0)
    with absent(world.chain, worker.address):
        stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    assert sorted(tombstones(client)) == [(number, TOMBSTONE_RELEASE)]
    stranger.send(client.address, GAS, deliver(number, TOMBSTONE_RELEASE).to_cell())
    assert (len(locks(worker)), worker.get_state().stake, tombstones(client)) == (0, Nano.ton(100), {})


@pytest.mark.parametrize("how", ["accept", "finalize", "window 0"])
def test_every_way_of_paying_survives_a_bounce(
    world: World, client: Client, worker: Worker, stranger: Actor, how: str
) -> None:
    number, _ = client.open(
        world.suite.directed_terms(worker, price=PRICE, window=0 if how == "window 0" else 3600)
    )
    if how == "window 0":
        world.chain.hold()
        worker.submit(client, number, PRICE)
        world.chain.step()
        with absent(world.chain, worker.address):
            world.chain.release()
    else:
        worker.submit(client, number, PRICE)
        with absent(world.chain, worker.address):
            if how == "accept":
                client.act(signing.accept_result(number))
            else:
                world.chain.warp(3600)
                stranger.send(client.address, GAS, m.Finalize(id=number).to_cell())
    assert (client.get_state().reserved, client.get_state().jobs) == (PRICE, 0)
    world.check()
    stranger.send(client.address, GAS, deliver(number, TOMBSTONE_REWARD).to_cell())
    state = worker.get_state()
    assert (state.earned, state.fee_due, len(locks(worker))) == (Nano.ton("0.99"), Nano.ton("0.01"), 0)


def test_slash_is_lost_only_after_the_grace(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker, price=PRICE))
    worker.submit(client, number, PRICE)
    lock = worker.lock(client)
    assert lock is not None
    client.act(signing.dispute_result(number))
    verdict = world.suite.verdict(client, worker, number, 0, Nano.ton(4))
    with absent(world.chain, worker.address):
        stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    world.chain.set_now(lock.end)
    release = m.ReleaseExpired(lock=numbered(1)).to_cell()
    refused(
        world.chain, worker.address, lambda: stranger.send(worker.address, GAS, release), ExitCode.LOCK_ALIVE
    )
    world.chain.warp(1)
    stranger.send(worker.address, GAS, release)
    stranger.send(client.address, GAS, deliver(number, TOMBSTONE_SLASH).to_cell())
    assert (worker.get_state().stake, len(locks(worker))) == (Nano.ton(100), 0)
    assert tombstones(client) == {}


def test_claim_that_finds_no_escrow_comes_back_with_its_bond(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.open_terms(PRICE))
    data, before = state_of(world.chain, worker.address)
    world.chain.hold()
    left = worker.claim(client, number)
    with absent(world.chain, client.address):
        back = world.chain.release()
    state = worker.get_state()
    assert (state.seqno, locks(worker)) == (1, {})
    assert state.gas == state.balance - state.stake - c.STAKE_RENT
    lost = before - state.balance
    assert lost == -net([*left, *back], worker.address) < Nano.ton("0.005")
    assert data != state_of(world.chain, worker.address)[0]


def test_submission_on_a_claim_that_bounces_frees_its_lock(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.open_terms(PRICE))
    worker.claim(client, number)
    world.chain.hold()
    worker.submit_claimed(client, number, PRICE)
    with absent(world.chain, client.address):
        world.chain.release()
    assert (locks(worker), worker.get_state().locked) == ({}, 0)
    job = client.job(number)
    assert job is not None
    assert job.status == 1
    # It still holds the claim.
    worker.submit_claimed(client, number, PRICE)
    assert worker.get_state().locked == Nano.ton(4)
