"""Locks against thieves: what may go wrong within one lock stays within its escrow, and nobody else's money
moves.

A lock is the sum for any number of one escrow's jobs; its number is a slot and a counter, so that none
comes again. Here: messages that cross, bounce, come late or twice; locks named by whom they are not;
amounts at the edge; two codes of one owner.
"""

from __future__ import annotations

import dataclasses

import pytest
from pytoniq_core import Address

from cocoon_sdk.contracts.code import code_cell
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.test_parameters import codes, enact, next_version, sync
from tests.helpers.audit import (
    BURN,
    SLOTS,
    TOMBSTONE_REWARD,
    TOMBSTONE_SLASH,
    World,
    absent,
    at,
    denied,
    escrow_of,
    locked_for,
    locks,
    numbered,
    sent,
    set_aside,
    tombstones,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

COLLATERAL = Nano.ton(4)
SMALL = Nano.ton("0.001")
LIFE = c.HARD_MAX_JOB_LIFE + c.DELIVERY_GRACE


def status(client: Client, number: int) -> int:
    job = client.job(number)
    assert job is not None
    return int(job.status)


def in_lock(worker: Worker, client: Client, number: int, lock: int) -> m.JobTarget:
    """Name a job, and a lock for it: its number, or a slot for a new one."""
    return dataclasses.replace(worker.target(client, number), lock=lock)


def sums(worker: Worker) -> dict[int, int]:
    return {number: int(lock.collateral) for number, lock in locks(worker).items()}


FIRST, SECOND, THIRD = numbered(1), numbered(2), numbered(3)
"""Numbers of the first locks, each in the slot of its place."""


def release_expired(world: World, worker: Worker, stranger: Actor, lock: int) -> None:
    world.chain.set_now(locks(worker)[lock].end + 1)
    stranger.send(worker.address, GAS, m.ReleaseExpired(lock=lock).to_cell())
    assert lock not in locks(worker)


# -- which lock ----------------------------------------------------------------------------------------


def test_worker_can_lock_for_many_jobs_of_a_client_in_one_lock_or_in_several(
    world: World, client: Client, worker: Worker
) -> None:
    for number, lock in ((1, 1), (2, FIRST), (3, 2), (4, SECOND)):
        client.open(world.suite.open_terms())
        worker.act(signing.claim(number, in_lock(worker, client, number, lock)))
    assert sums(worker) == {
        FIRST: 2 * COLLATERAL,
        SECOND: 2 * COLLATERAL,
    }
    assert (worker.get_state().locked, set_aside(worker)) == (4 * COLLATERAL, 4)
    # Each outcome finds the lock that its job was claimed in.
    for number in (2, 3):
        worker.submit_claimed(client, number, Nano.ton(1))
        client.act(signing.accept_result(number))
    assert sums(worker) == {
        FIRST: COLLATERAL,
        SECOND: COLLATERAL,
    }


WRONG_LOCKS = {
    "another escrow's": FIRST,
    "a released one": SECOND,
    "a future one in a free slot": THIRD,
    "a future one in a slot with a lock": numbered(3, 1),
    "the last number": 2**32 - 1,
    "no slot": 0,
    "a slot with a lock": 1,
}


@pytest.mark.parametrize("which", WRONG_LOCKS)
@pytest.mark.parametrize("step", ["claim", "submit"])
def test_worker_cannot_lock_in_a_lock_that_is_not_the_jobs_escrows(
    world: World, client: Client, worker: Worker, which: str, step: str
) -> None:
    other = world.client("other")
    other.open(world.suite.open_terms())
    worker.claim(other, 1)
    client.open(world.suite.open_terms())
    worker.claim(client, 1)
    client.act(signing.accept_signed(1, Nano(1), hash_of("result"), worker.sign_result(client, 1, 1)))
    assert list(locks(worker)) == [FIRST]
    lock = WRONG_LOCKS[which]
    number, _ = client.open(world.suite.directed_terms(worker))
    target = in_lock(worker, client, number, lock)
    action = (
        signing.claim(number, target)
        if step == "claim"
        else signing.submit(number, Nano.ton(1), target, hash_of("result"))
    )
    if (step, which) == ("submit", "another escrow's"):
        # The lock names the escrow that it goes to, and that one knows no such job.
        done = worker.act(action)
        assert at(done, other.address)[0].out_msgs[0].op == m.Gone.OPCODE
        assert at(done, client.address) == []
    else:
        code = ExitCode.SLOT_TAKEN if lock < SLOTS else ExitCode.NO_LOCK
        denied(worker, lambda: worker.act(action), code)
    assert worker.get_state().locked == COLLATERAL
    assert status(client, number) == 0


def test_lock_lives_from_its_newest_claim_on(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    client.open(world.suite.open_terms(claim_period=86_400))
    client.open(world.suite.open_terms(claim_period=86_400))
    worker.claim(client, 1)
    first = locks(worker)[FIRST].end
    world.chain.warp(1000)
    worker.claim(client, 2)
    assert locks(worker)[FIRST].end == first + 1000 == world.chain.now + LIFE
    world.chain.set_now(first + 1)
    body = m.ReleaseExpired(lock=FIRST).to_cell()
    (_, arrival, *_) = stranger.send(worker.address, GAS, body)
    assert ExitCode(arrival.exit_code or 0) is ExitCode.LOCK_ALIVE
    # Even one that could be released is used as long as nobody did.
    world.chain.set_now(first + 2000)
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    assert locks(worker)[FIRST].collateral == 3 * COLLATERAL
    assert locks(worker)[FIRST].end == world.chain.now + LIFE


def test_lock_number_is_never_used_again(world: World, client: Client, worker: Worker) -> None:
    for number in range(1, 5):
        client.open(world.suite.open_terms())
        worker.claim(client, number)
        assert list(locks(worker)) == [numbered(number, slot=1)]
        signature = worker.sign_result(client, number, 1)
        client.act(signing.accept_signed(number, Nano(1), hash_of("result"), signature))
    assert locks(worker) == {}


# -- late outcomes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["finalize", "reclaim"])
def test_old_job_cannot_free_what_a_newer_one_locked(
    world: World, client: Client, worker: Worker, stranger: Actor, ending: str
) -> None:
    """A worker kept a job of a passive client back until its lock was released, and let it end when it was
    about to be slashed for another one. (With one sum per escrow the old outcome freed the new collateral.)
    """
    if ending == "finalize":
        old, _ = client.open(world.suite.directed_terms(worker))
        worker.submit(client, old, Nano.ton(1))
    else:
        old, _ = client.open(world.suite.open_terms())
        worker.claim(client, old)
    release_expired(world, worker, stranger, FIRST)
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    client.act(signing.dispute_result(number))
    before, held = worker.get_state(), locks(worker)
    body = m.Finalize(id=old) if ending == "finalize" else m.ReclaimLate(id=old)
    stranger.send(client.address, GAS, body.to_cell())
    after = worker.get_state()
    assert client.job(old) is None
    assert (locks(worker), after.stake) == (held, before.stake)
    # What was earned is paid all the same.
    assert after.earned + after.fee_due == (Nano.ton(1) if ending == "finalize" else 0)
    verdict = world.suite.verdict(client, worker, number, 0, COLLATERAL)
    stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    assert before.stake - worker.get_state().stake == COLLATERAL
    assert locks(worker) == {}


def test_slash_that_was_delivered_too_late_takes_nothing_of_a_newer_lock(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    world.chain.warp(3601)
    with absent(world.chain, worker.address):
        client.act(signing.reclaim_late(number))
    release_expired(world, worker, stranger, FIRST)
    newer, _ = client.open(world.suite.open_terms())
    worker.claim(client, newer)
    held, stake = locks(worker), worker.get_state().stake
    deliver = m.Deliver(id=number, kind=TOMBSTONE_SLASH).to_cell()
    stranger.send(client.address, GAS, deliver)
    assert tombstones(client) == {}
    assert (locks(worker), worker.get_state().stake, set_aside(worker)) == (held, stake, 1)


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


# -- submissions on claims that are not there --------------------------------------------------------------


@pytest.mark.parametrize("job", ["none", "open", "another worker's", "served", "ended"])
def test_operator_cannot_change_anything_with_a_submission_on_no_claim(
    world: World, client: Client, worker: Worker, job: str
) -> None:
    """The escrow named has locks here and is genuine: it knows who holds which claim."""
    keep, _ = client.open(world.suite.open_terms())
    worker.claim(client, keep)
    number, _ = client.open(world.suite.open_terms())
    if job == "another worker's":
        world.worker("rival").claim(client, number)
    elif job in ("served", "ended"):
        worker.claim(client, number)
        worker.submit_claimed(client, number, Nano.ton(1))
        if job == "ended":
            client.act(signing.accept_result(number))
    elif job == "none":
        number = 77
    entry, held, earned = client.job(number), locks(worker), worker.get_state().earned
    for _ in range(2):
        done = worker.act(signing.submit_claimed(number, FIRST, Nano(5), hash_of("other")))
        answers = [m.Gone.from_cell(t.in_msg.body) for t in sent(done, m.Gone)]
        told = m.Gone(id=number, collateral=0, lock=0, unused=False)
        assert answers == ([] if job == "served" else [told])
    assert (client.job(number), locks(worker), worker.get_state().earned) == (entry, held, earned)
    # It used up what the kept claim had set aside, but not that claim.
    assert set_aside(worker) == 0
    worker.submit_claimed(client, keep, Nano.ton(1))
    assert status(client, keep) == 2


def test_operator_cannot_send_a_submission_to_an_escrow_without_a_lock(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    for lock in (0, 1, SECOND, numbered(2, 1), 2**32 - 1):
        action = signing.submit_claimed(number, lock, Nano.ton(1), hash_of("result"))
        denied(worker, lambda action=action: worker.act(action), ExitCode.NO_LOCK)
    assert (status(client, number), set_aside(worker)) == (1, 1)


def test_worker_without_gas_cannot_submit_what_no_claim_set_aside(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    worker.submit_claimed(client, number, Nano.ton(1))
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(worker.get_state().gas)))
    again = signing.submit_claimed(number, FIRST, Nano.ton(1), hash_of("result"))
    denied(worker, lambda: worker.act(again), ExitCode.INSUFFICIENT_FREE)


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
    worker.claim(client, 3)
    worker.submit(client, directed, Nano.ton(1))
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


# -- amounts at the edge -----------------------------------------------------------------------------------

MOST = 2**53 - 1
"""Nine million TON."""


def rich_client(world: World) -> Client:
    world.chain.actor("rich", 2**58)
    return world.client("rich", deposit=2**55, daily_limit=2**60)


def rich_worker(world: World) -> Worker:
    world.chain.actor("rich worker", 2**58)
    return world.worker("rich worker", stake=2**55, max_locked=2**60)


@pytest.mark.parametrize("items", [1, 64])
@pytest.mark.parametrize("beyond", [True, False])
def test_client_can_open_a_job_up_to_the_most_collateral(
    world: World, worker: Worker, items: int, beyond: bool
) -> None:
    """Four times the price, or the price of a batch: beyond 53 bits it is refused, and the attempt costs
    nothing.
    """
    client = rich_client(world)
    most = MOST // 4 if items == 1 else MOST
    for terms in (
        world.suite.open_terms(most + beyond, items=items),
        world.suite.directed_terms(worker, most + beyond, items=items),
    ):
        if beyond:
            denied(client, lambda terms=terms: client.open(terms), ExitCode.INTEGER_OUT_OF_RANGE)
        else:
            number, _ = client.open(terms)
            job = client.job(number)
            assert job is not None
            assert job.collateral == (MOST - MOST % 4 if items == 1 else MOST)
    assert client.get_state().jobs == (0 if beyond else 2)


def test_largest_job_can_be_disputed_and_slashed_to_the_last_nanoton(world: World, stranger: Actor) -> None:
    client = rich_client(world)
    worker = rich_worker(world)
    price = MOST // 4
    for pay in (0, price):
        burned, before = world.chain.balance(BURN), worker.get_state()
        number, _ = client.open(world.suite.directed_terms(worker, price))
        worker.submit(client, number, price)
        client.act(signing.dispute_result(number))
        job = client.job(number)
        assert job is not None
        assert (job.amount, job.collateral) == (price, price * 4)
        verdict = world.suite.verdict(client, worker, number, pay, price * 4)
        done = stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
        back = Nano.ton("0.15") + max(Nano.ton("0.015"), price // 100)
        after = worker.get_state()
        assert before.stake - after.stake == price * 4
        assert after.earned + after.fee_due - before.earned - before.fee_due == pay
        assert world.chain.balance(BURN) - burned == price * 4 - back
        (paid,) = sent(done, m.SlashPaid)
        assert paid.in_msg.value == back
        assert (locks(worker), after.locked) == ({}, 0)


def test_largest_amounts_survive_a_bounce(world: World, stranger: Actor) -> None:
    """Operation, id, three amounts, lock and a flag are exactly the 256 bits that a bounce brings back."""
    client = rich_client(world)
    worker = rich_worker(world)
    price = MOST // 4
    paid, _ = client.open(world.suite.directed_terms(worker, price))
    worker.submit(client, paid, price)
    lost, _ = client.open(world.suite.open_terms(price))
    worker.claim(client, lost)
    world.chain.warp(3601)
    with absent(world.chain, worker.address):
        client.act(signing.accept_result(paid))
        client.act(signing.reclaim_late(lost))
    found = tombstones(client)
    reward, slash = found[paid, TOMBSTONE_REWARD], found[lost, TOMBSTONE_SLASH]
    assert (reward.collateral, reward.amount, reward.lock) == (price * 4, price, FIRST)
    penalty = -(-price * 400 // 10_000)
    assert (slash.collateral, slash.amount, slash.lock, slash.unused) == (price * 4, penalty, FIRST, True)
    for number, kind in found:
        stranger.send(client.address, GAS, m.Deliver(id=number, kind=kind).to_cell())
    state = worker.get_state()
    assert (state.earned + state.fee_due, 2**55 - state.stake) == (price, penalty)
    assert (locks(worker), state.locked) == ({}, 0)


def test_operator_cannot_submit_more_than_53_bits(world: World, client: Client, worker: Worker) -> None:
    """The action has 56 bits for the amount; what does not fit on its way is refused before it costs
    anything.
    """
    directed, _ = client.open(world.suite.directed_terms(worker))
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    for amount in (MOST + 1, 2**56 - 1):
        denied(worker, lambda a=amount: worker.submit(client, directed, a), ExitCode.INTEGER_OVERFLOW)
        denied(worker, lambda a=amount: worker.submit_claimed(client, number, a), ExitCode.INTEGER_OVERFLOW)
    assert (worker.get_state().locked, set_aside(worker)) == (COLLATERAL, 1)


# -- two codes ---------------------------------------------------------------------------------------------


def test_escrows_of_one_owner_under_two_codes_have_nothing_in_common(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """The client moves on to new code and keeps the old account: locks of one are none of the other's."""
    number, _ = client.open(world.suite.open_terms(claim_period=100))
    worker.claim(client, number)
    new, old = next_version("Escrow"), code_cell("Escrow")
    enact(world, escrow_codes=codes(new, old))
    sync(world, client, worker)
    deployment = world.suite.network.escrow(client.owner.address, code=new)
    modern = Client(world.suite, deployment, client.owner, client.key, c.PURPOSE_ESCROW_EXTERNAL)
    world.clients.append(modern)
    body = m.ConfigureEscrow(
        query_id=0, hot_key=client.key.verify_key.to_int(), daily_limit=Nano.ton(1000), allowed=None
    )
    modern.owner.send(modern.address, Nano.ton(100), body.to_cell(), state_init=deployment.state_init)
    second, _ = modern.open(world.suite.open_terms())
    target = worker.target(modern, second)
    # Not accepted yet: locked for nobody, the bounce gives it back.
    worker.act(signing.claim(second, target))
    assert list(locks(worker)) == [FIRST]
    worker.from_owner(m.AcceptCode(query_id=0, code_hash=int.from_bytes(new.hash, "big")))
    previous = dataclasses.replace(target, previous_code=True)
    for wrong in (dataclasses.replace(target, lock=FIRST), dataclasses.replace(previous, lock=SECOND)):
        denied(worker, lambda wrong=wrong: worker.act(signing.claim(second, wrong)), ExitCode.NO_LOCK)
    # The old account does not know the job: its part of lock 1 comes back, the claim in there stays.
    worker.act(signing.claim(second, dataclasses.replace(previous, lock=FIRST)))
    assert sums(worker) == {FIRST: COLLATERAL}
    worker.act(signing.claim(second, target))
    held = locks(worker)
    assert [signing.account_address(escrow_of(lock)) for lock in held.values()] == [
        client.address,
        modern.address,
    ]
    # Nor can one account speak for the other.
    for mine, theirs in ((client, numbered(3, 2)), (modern, FIRST)):
        slash = m.Slash(id=1, collateral=COLLATERAL, amount=10**9, back=0, lock=theirs, unused=True)
        source = Address((0, mine.address.hash_part))
        world.chain.send_internal(worker.address, GAS, slash.to_cell(), src=source)
    assert (locks(worker), worker.get_state().stake) == (held, Nano.ton(100))
    # The old claim ends as it began.
    stranger.send(client.address, GAS, m.ReclaimLate(id=number).to_cell())
    assert at(world.chain.transactions(worker.address, limit=1), worker.address)[0].op == m.Slash.OPCODE
    assert (list(locks(worker)), worker.get_state().stake) == ([numbered(3, 2)], Nano.ton("99.96"))
