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
    escrow_of,
    locks,
    numbered,
    sent,
    tombstones,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of

# -- which lock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_worker_can_lock_for_many_jobs_of_a_client_in_one_lock_or_in_several(
    world: World, client: Client, worker: Worker, how: str
) -> None:
    for number, lock in ((1, 1), (2, FIRST), (3, 2), (4, SECOND)):
        client.open(world.suite.directed_terms(worker) if number % 2 else world.suite.open_terms())
        target = in_lock(worker, client, number, lock)
        if number % 2:
            act(worker, how, signing.submit(number, Nano.ton(1), target, hash_of("result")))
        else:
            worker.claim(client, number)
            act(worker, how, signing.submit_claimed(number, Nano.ton(1), target, hash_of("result")))
    assert sums(worker) == {
        FIRST: 2 * COLLATERAL,
        SECOND: 2 * COLLATERAL,
    }
    assert worker.get_state().locked == 4 * COLLATERAL
    # Each outcome finds the lock that its job was submitted in.
    for number in (2, 3):
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
@pytest.mark.parametrize("step", ["submit claimed", "submit"])
def test_worker_cannot_lock_in_a_lock_that_is_not_the_jobs_escrows(
    world: World, client: Client, worker: Worker, which: str, step: str, how: str
) -> None:
    other = world.client("other")
    other.open(world.suite.directed_terms(worker))
    worker.submit(other, 1, Nano.ton(1))
    client.open(world.suite.directed_terms(worker))
    worker.submit(client, 1, Nano.ton(1))
    client.act(signing.accept_result(1))
    assert list(locks(worker)) == [FIRST]
    lock = WRONG_LOCKS[which]
    claimed = step == "submit claimed"
    number, _ = client.open(world.suite.directed_terms(worker))
    if claimed:
        worker.claim(client, number)
    send = signing.submit_claimed if claimed else signing.submit
    action = send(number, Nano.ton(1), in_lock(worker, client, number, lock), hash_of("result"))
    if (step, which) == ("submit", "another escrow's"):
        # The lock names the escrow that it goes to, and that one knows no such job.
        done = act(worker, how, action)
        assert at(done, other.address)[0].out_msgs[0].op == m.Gone.OPCODE
        assert at(done, client.address) == []
    else:
        code = ExitCode.SLOT_TAKEN if lock < SLOTS else ExitCode.NO_LOCK
        cannot(worker, how, action, code)
    assert worker.get_state().locked == COLLATERAL
    assert status(client, number) == (1 if claimed else 0)


def test_lock_lives_from_its_newest_submission_on(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    for _ in range(2):
        client.open(world.suite.directed_terms(worker, claim_period=86_400))
    worker.submit(client, 1, Nano.ton(1))
    first = locks(worker)[FIRST].end
    world.chain.warp(1000)
    worker.submit(client, 2, Nano.ton(1))
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
    worker.submit_claimed(client, number, Nano.ton(1))
    assert locks(worker)[FIRST].collateral == 3 * COLLATERAL
    assert locks(worker)[FIRST].end == world.chain.now + LIFE


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("step", ["submit claimed", "submit"])
def test_lock_number_is_never_used_again(
    world: World, client: Client, worker: Worker, step: str, how: str
) -> None:
    for number in range(1, 5):
        client.open(world.suite.directed_terms(worker))
        target = in_lock(worker, client, number, 7)
        if step == "submit claimed":
            worker.claim(client, number)
            act(worker, how, signing.submit_claimed(number, Nano(1), target, hash_of("result")))
        else:
            act(worker, how, signing.submit(number, Nano(1), target, hash_of("result")))
        assert list(locks(worker)) == [numbered(number, slot=7)]
        client.act(signing.accept_result(number))
    assert locks(worker) == {}


# -- late outcomes ---------------------------------------------------------------------------------------


def test_old_job_cannot_free_what_a_newer_one_locked(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """A worker kept a job of a passive client back until its lock was released, and let it end when it was
    about to be slashed for another one. (With one sum per escrow the old outcome freed the new collateral.)
    """
    old, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, old, Nano.ton(1))
    release_expired(world, worker, stranger, FIRST)
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    client.act(signing.dispute_result(number))
    before, held = worker.get_state(), locks(worker)
    stranger.send(client.address, GAS, m.Finalize(id=old).to_cell())
    after = worker.get_state()
    assert client.job(old) is None
    assert (locks(worker), after.stake) == (held, before.stake)
    # What was earned is paid all the same.
    assert after.earned + after.fee_due == Nano.ton(1)
    verdict = world.suite.verdict(client, worker, number, 0, COLLATERAL)
    stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    assert before.stake - worker.get_state().stake == COLLATERAL
    assert locks(worker) == {}


def test_slash_that_was_delivered_too_late_takes_nothing_of_a_newer_lock(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    client.act(signing.dispute_result(number))
    verdict = world.suite.verdict(client, worker, number, 0, COLLATERAL)
    with absent(world.chain, worker.address):
        stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    release_expired(world, worker, stranger, FIRST)
    newer, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, newer, Nano.ton(1))
    held, stake = locks(worker), worker.get_state().stake
    deliver = m.Deliver(id=number, kind=TOMBSTONE_SLASH).to_cell()
    stranger.send(client.address, GAS, deliver)
    assert tombstones(client) == {}
    assert (locks(worker), worker.get_state().stake) == (held, stake)


# -- submissions on claims that are not there --------------------------------------------------------------


@pytest.mark.parametrize("job", ["none", "open", "another worker's", "served", "ended"])
def test_operator_cannot_change_anything_with_a_submission_on_no_claim(
    world: World, client: Client, worker: Worker, job: str
) -> None:
    """The escrow named is genuine: it knows who holds which claim, and gives back what was locked."""
    keep, _ = client.open(world.suite.open_terms())
    worker.claim(client, keep)
    number, _ = client.open(world.suite.open_terms())
    target = worker.target(client, number)
    if job == "another worker's":
        world.worker("rival").claim(client, number)
    elif job in ("served", "ended"):
        worker.claim(client, number)
        worker.submit_claimed(client, number, Nano.ton(1))
        if job == "ended":
            client.act(signing.accept_result(number))
    elif job == "none":
        number = 77
    target = dataclasses.replace(target, lock=worker.lock_number(client))
    entry, held, earned = client.job(number), sums(worker), worker.get_state().earned
    for _ in range(2):
        done = worker.act(signing.submit_claimed(number, Nano(5), target, hash_of("other")))
        assert len(sent(done, m.Gone)) == 1
    assert (client.job(number), sums(worker), worker.get_state().earned) == (entry, held, earned)
    worker.submit_claimed(client, keep, Nano.ton(1))
    assert status(client, keep) == 2


# -- two codes ---------------------------------------------------------------------------------------------


def test_escrows_of_one_owner_under_two_codes_have_nothing_in_common(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """The client moves on to new code and keeps the old account: locks of one are none of the other's."""
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
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
    second, _ = modern.open(world.suite.directed_terms(worker))
    target = worker.target(modern, second)

    def submit(target: signing.JobTarget) -> None:
        worker.act(signing.submit(second, Nano.ton(1), target, hash_of("result")))

    # Not accepted yet: locked for nobody, the bounce gives it back.
    submit(target)
    assert list(locks(worker)) == [FIRST]
    worker.from_owner(m.AcceptCode(query_id=0, code_hash=int.from_bytes(new.hash, "big")))
    # The old account does not know the job: what went to it comes back, the lock of its own job stays.
    for wrong in (dataclasses.replace(target, previous_code=True), dataclasses.replace(target, lock=FIRST)):
        submit(wrong)
        assert sums(worker) == {FIRST: COLLATERAL}
    submit(target)
    held = locks(worker)
    assert [signing.account_address(escrow_of(lock)) for lock in held.values()] == [
        client.address,
        modern.address,
    ]
    # Nor can one account speak for the other.
    newest = max(held)
    for mine, theirs in ((client, newest), (modern, FIRST)):
        slash = m.Slash(id=1, collateral=COLLATERAL, amount=10**9, back=0, lock=theirs)
        source = Address((0, mine.address.hash_part))
        world.chain.send_internal(worker.address, GAS, slash.to_cell(), src=source)
    assert (locks(worker), worker.get_state().stake) == (held, Nano.ton(100))
    # The old job ends as it began.
    client.act(signing.accept_result(number))
    assert list(locks(worker)) == [newest]
