"""Holes that are open: each test says what should hold and fails as long as it does not.

When one is closed, its test moves to the closed holes.
"""

from __future__ import annotations

import dataclasses

import pytest

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.helpers.audit import World, locks, numbered, set_aside
from tests.helpers.suite import GAS, Client, Worker


def test_stranger_cannot_destroy_a_stake_with_a_reward_for_no_lock(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """CRITICAL (since 217ecd0). `storeSlice(data.loadBits(80)).storeMaybeRef(data.loadMaybeRef())` reads
    the table's bit before the 80 bits in front of it: a Reward with lock 0 writes a stake with locks back
    shifted by a bit. No getter and no message reads it any more; stake and earnings are lost. Anybody can
    do that for 0.02 TON, and every verdict of pay and slash does. (The same words in two statements read in
    the right order.)
    """
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    held = locks(worker)
    body = m.Reward(id=1, collateral=0, amount=1, fee=0, lock=0, unused=False)
    stranger.send(worker.address, GAS, body.to_cell())
    assert locks(worker) == held


def test_external_of_a_stake_cannot_throw_after_it_was_accepted(
    world: World, client: Client, worker: Worker
) -> None:
    """HIGH (since 217ecd0). `claim` compares the lock's escrow after `lockMore` has accepted: it throws
    there, the seqno stays, and anybody repeats the external until it is 255 seconds old. Whoever has the
    operator key (or makes the operator's software name a wrong lock) burns the owner's stake as gas, with
    no limit.
    """
    other = world.client("other")
    other.open(world.suite.open_terms())
    worker.claim(other, 1)
    client.open(world.suite.open_terms())
    target = dataclasses.replace(worker.target(client, 1), lock=numbered(1))
    external, before = worker.external(signing.claim(1, target)), worker.get_state()
    for _ in range(3):
        with pytest.raises(ExternalRejectedError):
            world.chain.send_external(external)
    assert worker.get_state() == before


def test_claims_that_expired_set_nothing_aside_for_what_comes_later(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """LOW. Releasing a lock leaves the count of its claims; it sleeps while there are no locks and comes
    back with the next submission: gas stays set aside that no claim needs. (`claim` clears it, `lock`
    should.)
    """
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    world.chain.set_now(locks(worker)[numbered(1)].end + 1)
    stranger.send(worker.address, GAS, m.ReleaseExpired(lock=numbered(1)).to_cell())
    assert set_aside(worker) == 0
    directed, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, directed, Nano.ton(1))
    assert set_aside(worker) == 0


def test_worker_without_locks_can_use_all_its_gas(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """LOW, the same cause: externals look at the sleeping count, the getter does not: a submission is
    refused for gas that the state shows as free.
    """
    for _ in range(5):
        number, _ = client.open(world.suite.open_terms())
        worker.claim(client, number)
    world.chain.set_now(locks(worker)[numbered(1)].end + 1)
    stranger.send(worker.address, GAS, m.ReleaseExpired(lock=numbered(1)).to_cell())
    state = worker.get_state()
    assert (len(locks(worker)), set_aside(worker)) == (0, 0)
    spare = state.gas - 2 * worker.work_spend()
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(spare)))
    directed, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, directed, Nano.ton(1))
    job = client.job(directed)
    assert job is not None
    assert job.status == 2
