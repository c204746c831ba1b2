"""Locks against thieves: what may go wrong within one lock stays within its escrow.

A lock is the sum for any number of one escrow's jobs; its number is a slot and a counter, so that none comes
again. Here: which lock, outcomes that come late, submissions on no claim, two codes of one owner.
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
from tests.contracts.lock_steps import (
    COLLATERAL,
    FIRST,
    HOW,
    LIFE,
    SECOND,
    THIRD,
    act,
    cannot,
    in_lock,
    release_expired,
    status,
    sums,
)
from tests.contracts.test_parameters import codes, enact, next_version, sync
from tests.helpers.audit import (
    SLOTS,
    TOMBSTONE_SLASH,
    World,
    absent,
    at,
    denied,
    escrow_of,
    locks,
    numbered,
    sent,
    set_aside,
    tombstones,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of

# -- which lock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_worker_can_lock_for_many_jobs_of_a_client_in_one_lock_or_in_several(
    world: World, client: Client, worker: Worker, how: str
) -> None:
    for number, lock in ((1, 1), (2, FIRST), (3, 2), (4, SECOND)):
        client.open(world.suite.open_terms())
        act(worker, how, signing.claim(number, in_lock(worker, client, number, lock)))
    assert sums(worker) == {
        FIRST: 2 * COLLATERAL,
        SECOND: 2 * COLLATERAL,
    }
    assert (worker.get_state().locked, set_aside(worker)) == (4 * COLLATERAL, 4)
    # Each outcome finds the lock that its job was claimed in.
    for number in (2, 3):
        act(worker, how, signing.submit_claimed(number, FIRST, Nano.ton(1), hash_of("result")))
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


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("which", WRONG_LOCKS)
@pytest.mark.parametrize("step", ["claim", "submit"])
def test_worker_cannot_lock_in_a_lock_that_is_not_the_jobs_escrows(
    world: World, client: Client, worker: Worker, which: str, step: str, how: str
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
        done = act(worker, how, action)
        assert at(done, other.address)[0].out_msgs[0].op == m.Gone.OPCODE
        assert at(done, client.address) == []
    else:
        code = ExitCode.SLOT_TAKEN if lock < SLOTS else ExitCode.NO_LOCK
        cannot(worker, how, action, code)
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
    for wrong in (0, 1, numbered(2, 1), SECOND):
        (_, arrival, *_) = stranger.send(worker.address, GAS, m.ReleaseExpired(lock=wrong).to_cell())
        assert ExitCode(arrival.exit_code or 0) is ExitCode.NO_LOCK
    # Even one that could be released is used as long as nobody did.
    world.chain.set_now(first + 2000)
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    assert locks(worker)[FIRST].collateral == 3 * COLLATERAL
    assert locks(worker)[FIRST].end == world.chain.now + LIFE


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("step", ["claim", "submit"])
def test_lock_number_is_never_used_again(
    world: World, client: Client, worker: Worker, step: str, how: str
) -> None:
    for number in range(1, 5):
        client.open(world.suite.directed_terms(worker))
        target = in_lock(worker, client, number, 7)
        if step == "claim":
            act(worker, how, signing.claim(number, target))
        else:
            act(worker, how, signing.submit(number, Nano(1), target, hash_of("result")))
        assert list(locks(worker)) == [numbered(number, slot=7)]
        if step == "submit":
            client.act(signing.accept_result(number))
            continue
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


@pytest.mark.parametrize("how", HOW)
def test_operator_cannot_send_a_submission_to_an_escrow_without_a_lock(
    world: World, client: Client, worker: Worker, how: str
) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    for lock in (0, 1, SECOND, numbered(2, 1), 2**32 - 1):
        action = signing.submit_claimed(number, lock, Nano.ton(1), hash_of("result"))
        cannot(worker, how, action, ExitCode.NO_LOCK)
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
