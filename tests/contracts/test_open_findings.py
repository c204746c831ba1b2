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
from tests.contracts.tables import deepen, make_old
from tests.helpers.audit import World, at, locks, set_aside, tombstones
from tests.helpers.suite import GAS, Client, Worker, hash_of

SMALL = Nano.ton("0.001")
OLD = 2**31 + 5


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
    target = dataclasses.replace(worker.target(client, 1), lock=1)
    external, before = worker.external(signing.claim(1, target)), worker.get_state()
    for _ in range(3):
        with pytest.raises(ExternalRejectedError):
            world.chain.send_external(external)
    assert worker.get_state() == before


# MEDIUM. Numbers have 32 bits, and a lock's path has as many forks as its number has bits in which some
# live lock differs first: a stake that has made 2^k locks can have k forks, with k + 1 of them alive.
# GasStakeCredit holds up to 10 forks (a thousand locks made), GasStakeSlash up to 17, what really is
# attached up to 20 (slash) and 22 (reward): behind it the outcome runs out of gas and is neither credited
# nor kept. A worker with a million locks behind it (or that makes them, for less than 0.01 TON each) and
# twenty kept alive cannot be slashed.
# A way out: make the key a slot of 8 bits, which the operator names and which must be free, and keep the
# 32-bit number in the leaf: at most 8 forks, for ever, and cheaper. Or let the constants cover 32 forks:
# 13,324 + 32 x 625 gas for a slash, 4,518 + 32 x 625 for a reward.


def deep_lock(world: World, client: Client, worker: Worker) -> None:
    """A claimed job, a submitted one, and the worst company that numbers allow."""
    make_old(worker, OLD)
    client.open(world.suite.open_terms(SMALL))
    client.open(world.suite.directed_terms(worker, SMALL))
    worker.claim(client, 1)
    worker.submit(client, 2, SMALL)
    deepen(worker, OLD)


def test_worker_cannot_escape_a_slash_with_a_deep_table(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    deep_lock(world, client, worker)
    world.chain.warp(3601)
    before = worker.get_state()
    stranger.send(client.address, GAS, m.ReclaimLate(id=1).to_cell())
    after = worker.get_state()
    assert (before.stake - after.stake, before.locked - after.locked) == (
        Nano.ton("0.00004"),
        Nano.ton("0.2"),
    )
    assert tombstones(client) == {}


@pytest.mark.parametrize("how", ["submitted", "signed"])
def test_reward_is_never_lost_in_a_deep_table(world: World, client: Client, worker: Worker, how: str) -> None:
    deep_lock(world, client, worker)
    before = worker.get_state()
    if how == "submitted":
        client.act(signing.accept_result(2))
    else:
        signature = worker.sign_result(client, 1, SMALL)
        client.act(signing.accept_signed(1, SMALL, hash_of("result"), signature))
    after = worker.get_state()
    assert (after.earned + after.fee_due, before.locked - after.locked) == (SMALL, Nano.ton("0.2"))


def test_gone_is_never_lost_in_a_deep_table(world: World, client: Client, worker: Worker) -> None:
    deep_lock(world, client, worker)
    before = worker.get_state()
    world.worker("rival")
    done = worker.claim(client, 1)
    assert [t.success for t in at(done, worker.address)] == [True, True]
    assert worker.get_state().locked == before.locked


def test_claims_that_expired_set_nothing_aside_for_what_comes_later(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """LOW. Releasing a lock leaves the count of its claims; it sleeps while there are no locks and comes
    back with the next submission: gas stays set aside that no claim needs. (`claim` clears it, `lock`
    should.)
    """
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    world.chain.set_now(locks(worker)[1].end + 1)
    stranger.send(worker.address, GAS, m.ReleaseExpired(lock=1).to_cell())
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
    world.chain.set_now(locks(worker)[1].end + 1)
    stranger.send(worker.address, GAS, m.ReleaseExpired(lock=1).to_cell())
    state = worker.get_state()
    assert (state.locks, set_aside(worker)) == (0, 0)
    spare = state.gas - worker.work_spend()
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(spare)))
    directed, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, directed, Nano.ton(1))
    job = client.job(directed)
    assert job is not None
    assert job.status == 2
