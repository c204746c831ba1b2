"""Holes that are open: each test says what should hold and fails as long as it does not.

When one is closed, its test moves to the closed holes.
"""

from __future__ import annotations

import pytest

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.crowding import crowd
from tests.contracts.test_full_tables import fill
from tests.helpers.audit import World, locks, tombstones
from tests.helpers.suite import GAS, Client, Worker, hash_of

SMALL = Nano.ton("0.001")


def crowded(world: World, worker: Worker) -> Client:
    """A client among escrows of a thief that share ever longer prefixes with it, one lock for each.

    Here both sides are chosen out of 262,144 account ids: 24 forks, in a second. Around an escrow that is
    given the same depth takes 2^24 hashes, and a graphics card does 2^35 in seconds.
    """
    owner = world.chain.actor("ground", Nano.ton(10_000))
    ids = crowd(world.suite.network, owner.address)
    victim = world.client("ground", index=ids.victim, deposit=Nano.ton(5))
    thieves = [world.client("ground", index=index, deposit=Nano.ton(2)) for index in ids.around]
    for number in (1, 2):
        victim.open(world.suite.open_terms(SMALL))
        worker.claim(victim, number)
    for thief in thieves:
        number, _ = thief.open(world.suite.open_terms(SMALL))
        try:
            worker.claim(thief, number)
        except ExternalRejectedError:
            # A stake that refuses locks behind some depth is safe.
            break
    return victim


def test_worker_cannot_escape_a_slash_by_crowding_its_lock_table(
    world: World, worker: Worker, stranger: Actor
) -> None:
    """CRITICAL. Locks are keyed by account ids, which are ground: the table is as deep as somebody likes.

    Each fork costs 625 gas at the stake. A Slash brings 24,000 and needs 13,060 + 625 a fork: from 21 forks
    on it runs out of gas, leaves nothing to bounce, makes no tombstone. A worker puts locks for escrows of
    its own (collateral 0.2 TON each, all of which comes back) around a client's, and cannot be slashed by
    that client.
    """
    client = crowded(world, worker)
    world.chain.warp(3601)
    before = worker.get_state()
    stranger.send(client.address, GAS, m.ReclaimLate(id=1).to_cell())
    assert worker.get_state().stake == before.stake - Nano.ton("0.00004")
    assert worker.get_state().locked == before.locked - Nano.ton("0.2")
    assert tombstones(client) == {}


@pytest.mark.parametrize("how", ["submitted", "signed"])
def test_strangers_cannot_take_a_workers_reward_by_crowding_its_lock_table(
    world: World, worker: Worker, how: str
) -> None:
    """CRITICAL, the same cause: a thief opens jobs around an honest client's escrow, the worker claims them
    in good faith, and from 23 forks on a small reward of the honest client runs out of gas at the stake:
    neither credited nor kept, and the collateral stays locked for 37 days.
    """
    client = crowded(world, worker)
    before = worker.get_state()
    if how == "submitted":
        number, _ = client.open(world.suite.directed_terms(worker, SMALL))
        worker.submit(client, number, SMALL)
        before = worker.get_state()
        client.act(signing.accept_result(number))
    else:
        signature = worker.sign_result(client, 1, SMALL)
        client.act(signing.accept_signed(1, SMALL, hash_of("result"), signature))
    after = worker.get_state()
    assert after.earned + after.fee_due == SMALL
    assert after.locked == before.locked - Nano.ton("0.2")


def test_client_cannot_lock_a_workers_collateral_by_crowding_its_lock_table(
    world: World, worker: Worker
) -> None:
    """The same cause: from 27 forks on even `Gone` runs out of gas (not reached with 24; the bound is what
    counts).
    """
    client = crowded(world, worker)
    number, _ = client.open(world.suite.open_terms(SMALL))
    rival = world.worker("rival")
    target = worker.target(client, number)
    rival.claim(client, number)
    before = worker.get_state().locked
    try:
        done = worker.act(signing.claim(number, target))
    except ExternalRejectedError:
        return
    (gone,) = [t for t in done if t.op == m.Gone.OPCODE]
    assert gone.gas_used <= c.GAS_STAKE_CREDIT
    assert worker.get_state().locked == before


def test_worker_cannot_escape_a_slash_with_an_old_job_of_the_same_client(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """HIGH. The outcome of a job whose lock expired frees what a newer job of the same client locked.

    A passive client leaves it to the worker to finalise. The worker keeps one such job back for 37 days,
    lets its lock be released, does something wrong in a later job, and finalises the old one before the
    verdict: the Slash finds nothing. It costs the worker a late payment; the honest client pays the
    arbiters and is not compensated. One old job of 10 TON frees the locks of fifty small ones. (With nonces
    the old outcome found no lock.)
    """
    old, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, old, Nano.ton(1))
    lock = worker.lock(client)
    assert lock is not None
    world.chain.set_now(lock.end + 1)
    body = m.ReleaseExpired(escrow=signing.account_id(client.address))
    stranger.send(worker.address, GAS, body.to_cell())
    assert locks(worker) == {}
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    client.act(signing.dispute_result(number))
    stranger.send(client.address, GAS, m.Finalize(id=old).to_cell())
    before = worker.get_state().stake
    verdict = world.suite.verdict(client, worker, number, 0, Nano.ton(4))
    stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    assert before - worker.get_state().stake == Nano.ton(4)


def test_client_cannot_block_a_claim_of_another_client(world: World, client: Client, worker: Worker) -> None:
    """HIGH. A client that ends its job while the worker's submission is on its way takes two set-aside
    submissions:

    the one that was used, and that of another claim. The stake then refuses that other claim's submission
    by name, however much gas it has, and the worker pays the late penalty of an honest client's job. The
    thief has the result by hand, so it loses nothing: it accepts by signature what the worker submits at
    the same time.
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
    assert worker.get_state().gas > Nano.ton(1)
    worker.submit_claimed(client, mine, Nano.ton(1))
    job = client.job(mine)
    assert job is not None
    assert job.status == 2


def test_client_can_accept_by_signature_at_an_escrow_with_128_jobs(world: World, worker: Worker) -> None:
    """MEDIUM. Taking one of 128 jobs out, and two signatures, take more than the gas credit of 10,000
    before the acceptance: the cooperative end does not work at a full escrow (nor does it, from some number
    of jobs on), and the external is dropped by validators without a name. In a batch it works.
    """
    client = world.client("big", deposit=Nano.ton(200))
    fill(world, client, c.MAX_JOBS)
    worker.claim(client, 64)
    price = Nano.ton("0.05")
    signature = worker.sign_result(client, 64, price)
    client.act(signing.accept_signed(64, price, hash_of("result"), signature))
    assert client.job(64) is None
