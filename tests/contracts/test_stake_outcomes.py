"""What escrows, and strangers who play them, can say to a stake: outcomes, Gone and bounces."""

from __future__ import annotations

import dataclasses

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.abi_runtime import Message
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.test_escrow_messages import named
from tests.helpers.audit import (
    World,
    at,
    free_slot,
    locked_for,
    locks,
    numbered,
    refused,
    state_of,
)
from tests.helpers.suite import GAS, Client, Worker


def locked_job(world: World, client: Client, worker: Worker) -> int:
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    assert worker.get_state().locked == Nano.ton(4)
    return number


MOST = 2**53 - 1
OUTCOMES = ("slash", "release", "gone", "reward")


def outcome(kind: str, number: int, collateral: int, lock: int) -> Message:
    """An outcome that would do as much as it can."""
    where = {"id": number, "collateral": collateral, "lock": lock}
    bodies: dict[str, Message] = {
        "slash": m.Slash(**where, amount=10**9, back=10**9),
        "release": m.Release(**where),
        "gone": m.Gone(**where),
        "reward": m.Reward(**where, amount=0, fee=0),
    }
    return bodies[kind]


@pytest.mark.parametrize("kind", OUTCOMES)
@pytest.mark.parametrize("from_", ["stranger", "other escrow", "masterchain twin"])
@pytest.mark.parametrize("collateral", [0, 1, Nano.ton(4), MOST])
@pytest.mark.parametrize("lock", [0, 1, numbered(1), numbered(2, 1), numbered(2)])
def test_stranger_cannot_touch_a_lock(
    world: World,
    client: Client,
    worker: Worker,
    stranger: Actor,
    kind: str,
    from_: str,
    collateral: int,
    lock: int,
) -> None:
    number = locked_job(world, client, worker)
    sources = {
        "stranger": stranger.address,
        "other escrow": world.client("other").address,
        "masterchain twin": Address((-1, client.address.hash_part)),
    }
    data, before = state_of(world.chain, worker.address)
    body = outcome(kind, number, collateral, lock).to_cell()
    arrival, *_ = world.chain.send_internal(worker.address, GAS, body, src=sources[from_])
    if from_ == "masterchain twin" and (kind[:6], lock) != ("reward", 0):
        # Nothing of the suite lives there: refused, and the value goes back (but a payment for no lock).
        assert arrival.exit_code == ExitCode.NOT_ALLOWED
        assert state_of(world.chain, worker.address) == (data, before)
        return
    assert arrival.success
    assert not arrival.out_msgs
    assert state_of(world.chain, worker.address) == (data, before + GAS - arrival.total_fees)


@pytest.mark.parametrize("kind", OUTCOMES)
@pytest.mark.parametrize("collateral", [1, Nano.ton(3), Nano.ton(4), Nano.ton(4) + 1, MOST])
def test_escrow_frees_what_it_names_and_no_more_than_is_locked_for_it(
    world: World, client: Client, worker: Worker, kind: str, collateral: int
) -> None:
    """The sum that it names is all it can touch; its other locks and those of other clients stay."""
    number = locked_job(world, client, worker)
    other = world.client("other")
    theirs, _ = other.open(world.suite.directed_terms(worker))
    worker.submit(other, theirs, Nano.ton(1))
    second, _ = client.open(world.suite.directed_terms(worker))
    fresh = dataclasses.replace(worker.target(client, second), lock=free_slot(worker))
    worker.submit(client, second, Nano.ton(1), target=fresh)
    held = locks(worker)
    body = outcome(kind, number, collateral, numbered(1)).to_cell()
    data, _ = state_of(world.chain, worker.address)
    (arrival, *_) = world.chain.send_internal(worker.address, GAS, body, src=client.address)
    if kind in ("gone", "reward") and collateral > Nano.ton(4):
        # The everyday ends do not look at it: what no escrow ever says is refused as a number below zero.
        assert arrival.exit_code == ExitCode.INTEGER_OUT_OF_RANGE
        assert state_of(world.chain, worker.address)[0] == data
        return
    assert arrival.success
    left = max(0, Nano.ton(4) - collateral)
    first = held.pop(numbered(1))
    kept = {first.number: dataclasses.replace(first, collateral=left)} if left else {}
    state = worker.get_state()
    assert (locks(worker), state.locked) == ({**kept, **held}, Nano.ton(8) + left)
    slashed = min(10**9, collateral) if kind == "slash" else 0
    assert state.stake == Nano.ton(100) - slashed


@pytest.mark.parametrize("kind", OUTCOMES)
@pytest.mark.parametrize("collateral", [0, 1, MOST])
@pytest.mark.parametrize("lock", [0, 1, numbered(1), numbered(2, 1), numbered(2), 2**32 - 1])
def test_escrow_without_that_lock_changes_nothing(
    world: World, client: Client, worker: Worker, kind: str, collateral: int, lock: int
) -> None:
    """The first lock is there, and another escrow's: in the wrong hands a number is worth nothing."""
    other = world.client("other")
    number, _ = other.open(world.suite.directed_terms(worker))
    worker.submit(other, number, Nano.ton(1))
    data, _ = state_of(world.chain, worker.address)
    body = outcome(kind, number, collateral, lock).to_cell()
    (arrival,) = world.chain.send_internal(worker.address, GAS, body, src=client.address)
    assert (arrival.success, arrival.out_msgs) == (True, ())
    assert state_of(world.chain, worker.address)[0] == data


@pytest.mark.parametrize("amount", [10**9, 10**15, MOST])
@pytest.mark.parametrize(
    ("collateral", "lock"),
    [(0, 0), (0, numbered(1)), (1, numbered(1)), (Nano.ton(4), numbered(1)), (MOST, 0)],
)
@pytest.mark.parametrize("from_", ["stranger", "other escrow", "its own escrow, nothing locked"])
def test_nobody_can_declare_more_income_than_it_brings(
    world: World,
    client: Client,
    worker: Worker,
    stranger: Actor,
    amount: int,
    collateral: int,
    lock: int,
    from_: str,
) -> None:
    """Only an escrow with a lock is believed: it was derived, so it runs code that brings what it says."""
    source = stranger.address
    if from_ == "its own escrow, nothing locked":
        source = client.address
    else:
        locked_job(world, client, worker)
        source = world.client("other").address if from_ == "other escrow" else source
    held = locks(worker)
    body = m.Reward(id=1, collateral=collateral, amount=amount, fee=amount, lock=lock)
    (arrival,) = world.chain.send_internal(worker.address, Nano.ton("0.5"), body.to_cell(), src=source)
    assert arrival.success
    state = worker.get_state()
    assert 0 < state.earned + state.fee_due <= Nano.ton("0.5") - arrival.total_fees
    assert locks(worker) == held


@pytest.mark.parametrize("amount", [10**9, MOST])
def test_reward_for_no_lock_is_credited_with_what_it_brings_even_beside_a_lock(
    world: World, client: Client, worker: Worker, amount: int
) -> None:
    locked_job(world, client, worker)
    held = locks(worker)
    body = m.Reward(id=1, collateral=Nano.ton(4), amount=amount, fee=1, lock=0)
    (arrival,) = world.chain.send_internal(
        worker.address, Nano.ton("0.5"), body.to_cell(), src=client.address
    )
    state = worker.get_state()
    assert 0 < state.earned + state.fee_due <= Nano.ton("0.5") - arrival.total_fees
    assert locks(worker) == held


@pytest.mark.parametrize("value", [0, 1_000_000, 4_399_999])
def test_reward_with_less_than_its_gas_credits_nothing(
    world: World, worker: Worker, stranger: Actor, value: int
) -> None:
    body = m.Reward(id=1, collateral=0, amount=10**9, fee=10**7, lock=0)
    stranger.send(worker.address, value, body.to_cell(), bounce=False)
    assert (worker.get_state().earned, worker.get_state().fee_due) == (0, 0)


def test_slash_takes_at_most_the_lock(world: World, client: Client, worker: Worker) -> None:
    number = locked_job(world, client, worker)
    body = m.Slash(id=number, collateral=MOST, amount=MOST, back=MOST, lock=numbered(1))
    before = worker.get_state()
    world.chain.send_internal(worker.address, GAS, body.to_cell(), src=client.address)
    after = worker.get_state()
    assert before.stake - after.stake == Nano.ton(4)
    assert (after.locked, len(locks(worker))) == (0, 0)


def test_duplicate_outcomes_change_nothing(world: World, client: Client, worker: Worker) -> None:
    number = locked_job(world, client, worker)
    slash = m.Slash(id=number, collateral=Nano.ton(4), amount=100, back=40, lock=numbered(1))
    for body in (slash, m.Release(id=number, collateral=Nano.ton(4), lock=numbered(1)), slash):
        world.chain.send_internal(worker.address, GAS, body.to_cell(), src=client.address)
        assert worker.get_state().stake == Nano.ton(100) - 100
    assert (worker.get_state().locked, locks(worker)) == (0, {})


@pytest.mark.parametrize("body", [m.JobOffer(id=1), m.Disputed(id=1)], ids=named)
def test_notices_write_and_answer_nothing(
    world: World, worker: Worker, stranger: Actor, body: Message
) -> None:
    data, _ = state_of(world.chain, worker.address)
    (arrival,) = at(stranger.send(worker.address, GAS, body.to_cell()), worker.address)
    assert (arrival.success, arrival.out_msgs) == (True, ())
    assert state_of(world.chain, worker.address)[0] == data


def bounced(message: Message) -> Cell:
    """What validators send back of a message."""
    bits = message.to_cell().begin_parse()
    head = bits.load_bits(min(256, bits.remaining_bits))
    return begin_cell().store_uint(0xFFFFFFFF, 32).store_bits(head).end_cell()


@pytest.mark.parametrize("from_", ["stranger", "its escrow"])
def test_bounced_claim_frees_nothing(
    world: World, client: Client, worker: Worker, stranger: Actor, from_: str
) -> None:
    """Whatever its bits would mean in a submission."""
    number = locked_job(world, client, worker)
    data, before = state_of(world.chain, worker.address)
    source = stranger.address if from_ == "stranger" else client.address
    for binding in (0, 2**128 - 1, numbered(1) << 64):
        body = bounced(m.Claim(id=number, binding=binding, key_tag=2**112 - 1))
        (done,) = world.chain.send_internal(worker.address, GAS, body, src=source, bounced=True, bounce=False)
        assert done.success
        before += GAS - done.total_fees
    assert state_of(world.chain, worker.address) == (data, before)


@pytest.mark.parametrize("collateral", [0, 1, Nano.ton(4), MOST])
@pytest.mark.parametrize(
    ("from_", "lock"),
    [
        ("stranger", numbered(1)),
        ("its escrow", numbered(1)),
        ("its escrow", numbered(2, 1)),
        ("its escrow", 1),
    ],
)
@pytest.mark.parametrize("kind", ["submit claimed", "submit"])
def test_bounced_submission_frees_only_its_own_collateral(
    world: World,
    client: Client,
    worker: Worker,
    stranger: Actor,
    kind: str,
    from_: str,
    lock: int,
    collateral: int,
) -> None:
    number = locked_job(world, client, worker)
    fields = {"id": number, "amount": Nano(MOST), "collateral": collateral, "lock": lock, "result_hash": 0}
    sent: Message = (
        m.SubmitClaimed(**fields, previous_code=False, stake=worker.shown)
        if kind == "submit claimed"
        else m.Submit(**fields, binding=0)
    )
    body = bounced(sent)
    source = stranger.address if from_ == "stranger" else client.address
    held = locks(worker)
    world.chain.send_internal(worker.address, GAS, body, src=source, bounced=True, bounce=False)
    if from_ == "stranger" or lock != numbered(1):
        assert locks(worker) == held
        return
    left = max(0, Nano.ton(4) - collateral)
    assert locked_for(worker, client) == left


def test_anyone_can_release_a_lock_only_after_its_end(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number = locked_job(world, client, worker)
    lock = worker.lock(client)
    assert lock is not None
    assert lock.end == world.chain.now + c.HARD_MAX_JOB_LIFE + c.DELIVERY_GRACE
    body = m.ReleaseExpired(lock=numbered(1)).to_cell()
    for when in (world.chain.now, lock.end):
        world.chain.set_now(when)
        refused(
            world.chain, worker.address, lambda: stranger.send(worker.address, GAS, body), ExitCode.LOCK_ALIVE
        )
    world.chain.warp(1)
    assert stranger.send(worker.address, GAS, body)[1].success
    state = worker.get_state()
    assert (state.locked, len(locks(worker)), state.stake) == (0, 0, Nano.ton(100))
    refused(world.chain, worker.address, lambda: stranger.send(worker.address, GAS, body), ExitCode.NO_LOCK)
    # The escrow's late outcome finds nothing, but it pays.
    stranger.send(client.address, GAS, m.Finalize(id=number).to_cell())
    assert client.job(number) is None
    assert (worker.get_state().stake, locks(worker)) == (Nano.ton(100), {})
