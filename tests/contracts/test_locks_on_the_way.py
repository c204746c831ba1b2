"""Locks while messages are on their way: what crosses, bounces, or finds nobody frees exactly its own."""

from __future__ import annotations

import dataclasses

import pytest
from pytoniq_core import Cell, begin_cell

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import COLLATERAL, FIRST, SECOND, in_lock, status, sums
from tests.helpers.audit import (
    BURN,
    TOMBSTONE_REWARD,
    TOMBSTONE_SLASH,
    World,
    absent,
    locked_for,
    locks,
    sent,
    tombstones,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

# -- messages that cross -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("step", ["submit claimed", "submit"])
def test_gone_of_a_premature_message_frees_nothing_of_a_fresh_one(
    world: World, client: Client, worker: Worker, step: str, fresh: bool
) -> None:
    """Sent before the job was there, answered after the same job was submitted in earnest."""
    directed = step == "submit"
    terms = world.suite.directed_terms(worker) if directed else world.suite.open_terms()
    model, _ = client.open(terms)
    right = worker.target(client, model)
    claim = None if directed else worker.claim_action(client, model)
    send = signing.submit if directed else signing.submit_claimed

    def submit(lock: int) -> None:
        target = dataclasses.replace(right, lock=lock)
        worker.act(send(2, Nano.ton(1), target, hash_of("result")))

    world.chain.hold()
    submit(1)
    world.chain.step()  # The premature one arrives; its Gone is on the way.
    (gone,) = world.chain.pending
    assert gone.op == m.Gone.OPCODE
    client.open(terms)
    for message in list(world.chain.pending)[1:]:
        assert message.dst != client.address
    if claim is not None:
        worker.act(signing.Action(_of_job(claim, 2), claim.refs))
        deliver(world, client)
    submit(2 if fresh else FIRST)
    deliver(world, client)
    assert status(client, 2) == 2
    assert worker.get_state().locked == 2 * COLLATERAL
    world.chain.release()
    assert sums(worker) == {SECOND if fresh else FIRST: COLLATERAL}
    # And the fresh one can be lost in full.
    client.act(signing.dispute_result(2))
    verdict = world.suite.verdict(client, worker, 2, 0, COLLATERAL)
    world.suite.governor.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    assert worker.get_state().stake == Nano.ton(100) - COLLATERAL
    assert worker.get_state().locked == 0


def _of_job(action: signing.Action, number: int) -> Cell:
    """Return the bits of an action for another job."""
    bits = action.bits.begin_parse()
    builder = begin_cell().store_bits(bits.load_bits(8)).store_uint(number, 32)
    bits.skip_bits(32)
    return builder.store_bits(bits.load_bits(bits.remaining_bits)).end_cell()


def deliver(world: World, client: Client) -> None:
    """Let the next message to an escrow arrive."""
    world.chain.step(
        next(i for i, message in enumerate(world.chain.pending) if message.dst == client.address)
    )


@pytest.mark.parametrize("how", ["accept signed", "reclaim"])
def test_submission_that_crosses_the_end_of_its_job_comes_back(
    world: World, client: Client, worker: Worker, how: str
) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    world.chain.warp(3600)
    world.chain.hold()
    worker.submit_claimed(client, number, Nano.ton(1))
    if how == "reclaim":
        world.chain.warp(1)
        client.act(signing.reclaim_late(number))
    else:
        signature = worker.sign_result(client, number, 1)
        action = signing.accept_signed(number, Nano(1), hash_of("result"), signature, worker.claim_key)
        client.act(action)
    done = world.chain.release()
    (gone,) = sent(done, m.Gone)
    assert m.Gone.from_cell(gone.in_msg.body) == m.Gone(id=number, collateral=COLLATERAL, lock=FIRST)
    assert gone.success
    assert (locks(worker), worker.get_state().locked) == ({}, 0)


# -- escrows that do not answer as they should ---------------------------------------------------------------


def target_of(owner: Actor) -> signing.JobTarget:
    return signing.JobTarget(
        escrow_owner=signing.account_id(owner.address),
        escrow_index=0,
        previous_code=False,
        collateral=COLLATERAL,
        lock=2,
        job_hash=1,
        own_previous_code=False,
    )


@pytest.mark.parametrize("escrow", ["never deployed", "newborn", "pending"])
@pytest.mark.parametrize("step", ["submit claimed", "submit"])
def test_lock_for_an_escrow_that_is_not_ready_comes_back(
    world: World, client: Client, worker: Worker, escrow: str, step: str
) -> None:
    """A newborn account holds its identity alone: read as state it answers, or fails and bounces, either is
    right.
    """
    kept, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, kept, Nano.ton(1))
    for index in range(8):
        owner = world.chain.actor(f"{escrow} {index}", Nano.ton(100))
        born = world.suite.network.escrow(owner.address)
        if escrow == "newborn":
            owner.send(born.address, Nano.ton(1), state_init=born.state_init)
        elif escrow == "pending":
            body = m.ConfigureEscrow(
                query_id=0, hot_key=key_of("x").verify_key.to_int(), daily_limit=Nano(1), allowed=None
            )
            owner.send(born.address, Nano.ton("0.05"), body.to_cell(), state_init=born.state_init)
        target = target_of(owner)
        send = signing.submit_claimed if step == "submit claimed" else signing.submit
        worker.act(send(1, Nano.ton(1), target, hash_of("result")))
        assert worker.get_state().locked == COLLATERAL
        assert list(locks(worker)) == [FIRST]
    assert locked_for(worker, client) == COLLATERAL


def test_bounce_frees_only_its_own_part_of_a_lock(world: World, client: Client, worker: Worker) -> None:
    """An escrow that is away for a while, with two jobs in the lock and two more on their way."""
    for _ in range(2):
        client.open(world.suite.directed_terms(worker))
    directed, _ = client.open(world.suite.directed_terms(worker, price=Nano.ton(2)))
    claimed, _ = client.open(world.suite.open_terms())
    worker.claim(client, claimed)
    worker.submit(client, 1, Nano.ton(1))
    worker.submit(client, 2, Nano.ton(1))
    world.chain.hold()
    on_claim = signing.submit_claimed(claimed, Nano.ton(1), worker.target(client, claimed), hash_of("result"))
    worker.act(
        on_claim,
        signing.submit(directed, Nano.ton(1), worker.target(client, directed), hash_of("result")),
        max_spend=worker.get_state().gas // 2,
    )
    assert worker.get_state().locked == 5 * COLLATERAL
    with absent(world.chain, client.address):
        world.chain.release()
    assert sums(worker) == {FIRST: 2 * COLLATERAL}
    worker.act(on_claim)
    assert (status(client, claimed), worker.get_state().locked) == (2, 3 * COLLATERAL)


# -- outcomes that come back -----------------------------------------------------------------------------


def test_undelivered_outcome_keeps_lock_and_collateral(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    kept, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, kept, Nano.ton(1))
    paid, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, paid, Nano.ton(1))
    lost, _ = client.open(world.suite.directed_terms(worker))
    worker.act(
        signing.submit(lost, Nano.ton(1), in_lock(worker, client, lost, 2), hash_of("result")),
    )
    client.act(signing.dispute_result(lost))
    verdict = world.suite.verdict(client, worker, lost, 0, COLLATERAL)
    with absent(world.chain, worker.address):
        client.act(signing.accept_result(paid))
        stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    found = tombstones(client)
    reward, slash = found[paid, TOMBSTONE_REWARD], found[lost, TOMBSTONE_SLASH]
    assert (reward.lock, reward.collateral, reward.amount) == (FIRST, COLLATERAL, Nano.ton(1))
    assert (slash.lock, slash.collateral, slash.amount) == (SECOND, COLLATERAL, COLLATERAL)
    assert worker.get_state().locked == 3 * COLLATERAL
    world.check()
    for number, kind in found:
        stranger.send(client.address, GAS, m.Deliver(id=number, kind=kind).to_cell())
    state = worker.get_state()
    assert sums(worker) == {FIRST: COLLATERAL}
    assert (state.earned + state.fee_due, state.stake) == (Nano.ton(1), Nano.ton(96))
    assert world.chain.balance(BURN) == COLLATERAL - slash.second
