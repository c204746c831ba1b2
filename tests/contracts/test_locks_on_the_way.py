"""Locks while messages are on their way: what crosses, bounces, or finds nobody frees exactly its own."""

from __future__ import annotations

import dataclasses

import pytest

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import COLLATERAL, FIRST, SECOND, SMALL, in_lock, status, sums
from tests.helpers.audit import (
    BURN,
    TOMBSTONE_REWARD,
    TOMBSTONE_SLASH,
    World,
    absent,
    locked_for,
    locks,
    sent,
    set_aside,
    tombstones,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

# -- messages that cross -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("step", ["claim", "submit"])
def test_gone_of_a_premature_message_frees_nothing_of_a_fresh_one(
    world: World, client: Client, worker: Worker, step: str, fresh: bool
) -> None:
    """Sent before the job was there, answered after the same job was claimed or submitted in earnest."""
    directed = step == "submit"
    terms = world.suite.directed_terms(worker) if directed else world.suite.open_terms()
    model, _ = client.open(terms)
    right = worker.target(client, model)

    def send(lock: int) -> None:
        target = dataclasses.replace(right, lock=lock)
        if directed:
            worker.act(signing.submit(2, Nano.ton(1), target, hash_of("result")))
        else:
            worker.act(signing.claim(2, target))

    world.chain.hold()
    send(1)
    world.chain.step()  # The premature one arrives; its Gone is on the way.
    (gone,) = world.chain.pending
    assert gone.op == m.Gone.OPCODE
    client.open(terms)
    send(2 if fresh else FIRST)
    submission = next(i for i, message in enumerate(world.chain.pending) if message.dst == client.address)
    world.chain.step(submission)
    assert status(client, 2) == (2 if directed else 1)
    assert worker.get_state().locked == 2 * COLLATERAL
    world.chain.release()
    assert sums(worker) == {SECOND if fresh else FIRST: COLLATERAL}
    assert set_aside(worker) == (0 if directed else 1)
    # And the fresh one can be lost in full.
    if directed:
        client.act(signing.dispute_result(2))
        verdict = world.suite.verdict(client, worker, 2, 0, COLLATERAL)
        world.suite.governor.send(client.address, Nano.ton("0.2"), verdict.to_cell())
        assert worker.get_state().stake == Nano.ton(100) - COLLATERAL
        assert worker.get_state().locked == 0


def test_client_cannot_block_a_claim_of_another_client(world: World, client: Client, worker: Worker) -> None:
    """A client that ends its job while the submission is on its way frees two set-aside submissions: the
    one that was used, and another claim's. The stake refused that other claim's submission then, however
    much gas it had.
    """
    thief = world.client("thief")
    mine, _ = client.open(world.suite.open_terms())
    bait, _ = thief.open(world.suite.open_terms(SMALL))
    worker.claim(client, mine)
    worker.claim(thief, bait)
    signature = worker.sign_result(thief, bait, SMALL)
    world.chain.hold()
    worker.submit_claimed(thief, bait, SMALL)
    thief.act(signing.accept_signed(bait, SMALL, hash_of("result"), signature))
    world.chain.release()
    assert (thief.job(bait), set_aside(worker)) == (None, 0)
    worker.submit_claimed(client, mine, Nano.ton(1))
    assert status(client, mine) == 2


def test_set_aside_submissions_are_never_counted_below_zero(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """Every claim ends while its submission is on its way, and a lock without claims stays."""
    directed, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, directed, Nano.ton(1))
    claimed = [client.open(world.suite.open_terms())[0] for _ in range(3)]
    for number in claimed:
        worker.claim(client, number)
    signatures = {number: worker.sign_result(client, number, 1) for number in claimed}
    world.chain.warp(3600)
    world.chain.hold()
    for number in claimed:
        worker.submit_claimed(client, number, Nano.ton(1))
    assert set_aside(worker) == 0
    for number in claimed[:2]:
        client.act(signing.accept_signed(number, Nano(1), hash_of("result"), signatures[number]))
    world.chain.warp(1)
    client.act(signing.reclaim_late(claimed[2]))
    world.chain.release()
    state = worker.get_state()
    assert (len(locks(worker)), state.locked, set_aside(worker)) == (1, COLLATERAL, 0)
    assert state.stake == Nano.ton(100) - Nano.ton("0.04")
    # And the count works on: one claim sets one submission aside.
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    assert set_aside(worker) == 1


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
        client.act(signing.accept_signed(number, Nano(1), hash_of("result"), signature))
    done = world.chain.release()
    (gone,) = sent(done, m.Gone)
    assert m.Gone.from_cell(gone.in_msg.body) == m.Gone(id=number, collateral=0, lock=0, unused=False)
    assert gone.success
    assert (locks(worker), set_aside(worker)) == ({}, 0)


# -- escrows that do not answer as they should ---------------------------------------------------------------


def target_of(owner: Actor) -> m.JobTarget:
    return m.JobTarget(
        escrow_owner=signing.account_id(owner.address),
        escrow_index=0,
        previous_code=False,
        collateral=COLLATERAL,
        lock=2,
        job_hash=1,
        own_previous_code=False,
    )


@pytest.mark.parametrize("escrow", ["never deployed", "newborn", "pending"])
@pytest.mark.parametrize("step", ["claim", "submit"])
def test_lock_for_an_escrow_that_is_not_ready_comes_back(
    world: World, client: Client, worker: Worker, escrow: str, step: str
) -> None:
    """A newborn account holds its identity alone: read as state it answers, or fails and bounces, either is
    right.
    """
    kept, _ = client.open(world.suite.open_terms())
    worker.claim(client, kept)
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
        action = (
            signing.claim(1, target)
            if step == "claim"
            else signing.submit(1, Nano.ton(1), target, hash_of("result"))
        )
        worker.act(action)
        assert worker.get_state().locked == COLLATERAL
        assert (list(locks(worker)), set_aside(worker)) == ([FIRST], 1)
    assert locked_for(worker, client) == COLLATERAL


def test_bounce_frees_only_its_own_part_of_a_lock(world: World, client: Client, worker: Worker) -> None:
    """An escrow that is away for a while, with two jobs in the lock and two more on their way."""
    for _ in range(3):
        client.open(world.suite.open_terms())
    directed, _ = client.open(world.suite.directed_terms(worker, price=Nano.ton(2)))
    worker.claim(client, 1)
    worker.claim(client, 2)
    world.chain.hold()
    worker.act(
        signing.claim(3, worker.target(client, 3)),
        signing.submit(directed, Nano.ton(1), worker.target(client, directed), hash_of("result")),
        max_spend=worker.get_state().gas // 2,
    )
    assert (worker.get_state().locked, set_aside(worker)) == (5 * COLLATERAL, 3)
    with absent(world.chain, client.address):
        world.chain.release()
    assert sums(worker) == {FIRST: 2 * COLLATERAL}
    assert set_aside(worker) == 2
    worker.claim(client, 3)
    assert (status(client, 3), worker.get_state().locked) == (1, 3 * COLLATERAL)


# -- outcomes that come back -----------------------------------------------------------------------------


def test_undelivered_outcome_of_a_claim_keeps_lock_collateral_and_what_was_set_aside(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    kept, _ = client.open(world.suite.open_terms())
    worker.claim(client, kept)
    signed, _ = client.open(world.suite.open_terms())
    late, _ = client.open(world.suite.open_terms())
    worker.claim(client, signed)
    worker.act(signing.claim(late, in_lock(worker, client, late, 2)))
    signature = worker.sign_result(client, signed, Nano.ton(1))
    with absent(world.chain, worker.address):
        client.act(signing.accept_signed(signed, Nano.ton(1), hash_of("result"), signature))
        world.chain.warp(3601)
        client.act(signing.reclaim_late(late))
    found = tombstones(client)
    reward, slash = found[signed, TOMBSTONE_REWARD], found[late, TOMBSTONE_SLASH]
    assert (reward.lock, reward.collateral, reward.amount, reward.unused) == (
        FIRST,
        COLLATERAL,
        Nano.ton(1),
        True,
    )
    assert (slash.lock, slash.collateral, slash.amount, slash.unused) == (
        SECOND,
        COLLATERAL,
        Nano.ton("0.04"),
        True,
    )
    assert slash.second == Nano.ton("0.01")
    assert (worker.get_state().locked, set_aside(worker)) == (3 * COLLATERAL, 3)
    world.check()
    for number, kind in found:
        stranger.send(client.address, GAS, m.Deliver(id=number, kind=kind).to_cell())
    state = worker.get_state()
    assert sums(worker) == {FIRST: COLLATERAL}
    assert (state.earned + state.fee_due, state.stake) == (Nano.ton(1), Nano.ton("99.96"))
    assert set_aside(worker) == 1
    assert world.chain.balance(BURN) == Nano.ton("0.03")


def test_undelivered_outcome_of_a_submission_sets_nothing_free(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    kept, _ = client.open(world.suite.open_terms())
    worker.claim(client, kept)
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    with absent(world.chain, worker.address):
        client.act(signing.accept_result(number))
    reward = tombstones(client)[number, TOMBSTONE_REWARD]
    assert (reward.lock, reward.collateral, reward.unused) == (FIRST, COLLATERAL, False)
    stranger.send(client.address, GAS, m.Deliver(id=number, kind=TOMBSTONE_REWARD).to_cell())
    assert (worker.get_state().locked, set_aside(worker)) == (COLLATERAL, 1)
