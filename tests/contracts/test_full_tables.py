"""The largest permitted states: 128 jobs, 255 locks, and years without anybody."""

from __future__ import annotations

import dataclasses

import pytest

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.helpers.audit import (
    SLOTS,
    World,
    at,
    denied,
    locked_for,
    locks,
    numbered,
    refused,
    rejected,
    skipped,
    skips,
    state_of,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of

YEAR = 365 * 86_400


def fill(world: World, client: Client, jobs: int, worker: Worker | None = None, **terms: int) -> None:
    """Open many jobs, for anybody or for one worker, eight at a time."""
    price = Nano.ton("0.05")
    opened_terms = (
        world.suite.open_terms(price, **terms)
        if worker is None
        else world.suite.directed_terms(worker, price, **terms)
    )
    cell = opened_terms.to_cell()
    opened = 0
    while opened < jobs:
        batch = min(8, jobs - opened)
        number = client.get_state().next_id
        actions = [signing.open_job(number + i, cell) for i in range(batch)]
        assert skips(client.act(*actions, max_spend=Nano.ton(4)), client.address) == []
        opened += batch


def submit_all(worker: Worker, client: Client, numbers: range, lock: int | None = None) -> None:
    """Submit jobs, eight at a time, each in a lock of its own or all in one that is there."""
    target = worker.target(client, numbers[0])
    job = client.job(numbers[0])
    assert job is not None
    send = signing.submit if job.status == 0 else signing.submit_claimed
    free = iter(sorted(set(range(1, SLOTS)) - {number % SLOTS for number in locks(worker)}))
    for start in range(numbers.start, numbers.stop, 8):
        actions = [
            send(
                number,
                Nano.ton("0.05"),
                dataclasses.replace(target, lock=next(free, 0) if lock is None else lock),
                hash_of("result"),
            )
            for number in range(start, min(start + 8, numbers.stop))
        ]
        worker.act(*actions, max_spend=worker.get_state().gas // 2)


def claim_all(worker: Worker, client: Client, numbers: range) -> None:
    """Claim jobs, eight at a time."""
    for start in range(numbers.start, numbers.stop, 8):
        batch = range(start, min(start + 8, numbers.stop))
        actions = [worker.claim_action(client, number) for number in batch]
        skipped(worker, worker.act(*actions, max_spend=worker.get_state().gas // 2))


def test_escrow_takes_128_jobs_and_ends_each_of_them(world: World, stranger: Actor) -> None:
    client = world.client("big", deposit=Nano.ton(500))
    worker = world.worker("busy", stake=Nano.ton(200), gas=Nano.ton(50))
    fill(world, client, c.MAX_JOBS)
    assert client.get_state().jobs == c.MAX_JOBS
    denied(client, lambda: client.open(world.suite.open_terms()), ExitCode.TOO_MANY_JOBS)
    world.check()
    claim_all(worker, client, range(1, 129))
    assert (locks(worker), worker.get_state().locked) == ({}, 0)
    world.check()
    worker.submit_claimed(client, 1, Nano.ton("0.05"))
    submit_all(worker, client, range(2, 129), lock=numbered(1))
    # A client that opens 128 jobs for one worker takes one place of its table.
    assert locked_for(worker, client) == worker.get_state().locked == c.MAX_JOBS * Nano.ton("0.2")
    assert len(locks(worker)) == 1
    world.check()
    # With an empty bucket and nothing free each can still be disputed, within the gas credit of an external.
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    for number in (1, 64, 128):
        skipped(client, client.act(signing.dispute_result(number)))
    world.check()
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano.ton(1000), allowed=None))
    for number in (1, 64, 128):
        verdict = world.suite.verdict(client, worker, number, 0, Nano.ton("0.2"))
        done = stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
        assert at(done, client.address)[0].success
    left = [n for n in range(1, 129) if n not in (1, 64, 128)]
    for start in range(0, len(left) - 5, 8):
        actions = [signing.accept_result(n) for n in left[start : start + 8]]
        skipped(client, client.act(*actions))
    world.chain.warp(3600)
    for number in left[120:]:
        stranger.send(client.address, GAS, m.Finalize(id=number).to_cell())
    assert (client.get_state().jobs, client.get_state().reserved) == (0, 0)
    assert (len(locks(worker)), worker.get_state().locked) == (0, 0)
    assert worker.get_state().stake == Nano.ton(200) - 3 * Nano.ton("0.2")


def test_stake_takes_255_locks_and_frees_each_of_them(world: World, stranger: Actor) -> None:
    clients = [world.client(f"big {i}", deposit=Nano.ton(200)) for i in range(2)]
    worker = world.worker("busy", stake=Nano.ton(200), gas=Nano.ton(50))
    for client in clients:
        fill(world, client, c.MAX_JOBS, worker)
        submit_all(worker, client, range(1, 129))
    assert len(locks(worker)) == c.MAX_LOCKS
    assert worker.get_state().locked == c.MAX_LOCKS * Nano.ton("0.2")
    (last,) = entries_open(clients[1])
    target = worker.target(clients[1], last)
    # Only a lock that is there takes more.
    for lock in (0, 1, 255):
        action = signing.submit(
            last, Nano.ton("0.05"), dataclasses.replace(target, lock=lock), hash_of("result")
        )
        denied(worker, lambda action=action: worker.act(action), ExitCode.SLOT_TAKEN)
    skipped(worker, worker.submit(clients[1], last, Nano.ton("0.05"), target=target))
    assert len(locks(worker)) == c.MAX_LOCKS
    assert locks(worker)[target.lock].collateral == 2 * Nano.ton("0.2")
    world.check()
    # Nobody ever comes back: after the longest life and the grace anybody frees what is left.
    world.chain.warp(c.HARD_MAX_JOB_LIFE + c.DELIVERY_GRACE + 1)
    for lock in locks(worker):
        stranger.send(worker.address, GAS, m.ReleaseExpired(lock=lock).to_cell())
    state = worker.get_state()
    assert (locks(worker), state.locked) == ({}, 0)


def entries_open(client: Client) -> list[int]:
    from tests.helpers.audit import entries

    return [number for number, job in entries(client).items() if job.status == 0]


def test_client_can_accept_by_signature_at_an_escrow_with_128_jobs(world: World, worker: Worker) -> None:
    """Taking one of 128 jobs out, and two signatures, within the gas credit of 10,000."""
    client = world.client("big", deposit=Nano.ton(200))
    fill(world, client, c.MAX_JOBS)
    worker.claim(client, 64)
    price = Nano.ton("0.05")
    signature = worker.sign_result(client, 64, price)
    client.act(signing.accept_signed(64, price, hash_of("result"), signature, worker.claim_key))
    assert client.job(64) is None


@pytest.mark.parametrize("years", [1, 5])
def test_worker_can_leave_after_years_of_silence(world: World, years: int) -> None:
    """Rent eats the reserve, then what backs the stake; a top-up makes the account solvent again."""
    worker = world.worker()
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(worker.get_state().gas)))
    worker.from_owner(m.Unbond(query_id=0, amount=Nano.ton(100)))
    world.chain.warp(years * YEAR)
    if years > 1:
        done = worker.from_owner(m.CompleteUnbond(query_id=0))
        assert ExitCode(at(done, worker.address)[0].exit_code or 0) is ExitCode.INSUFFICIENT_FREE
    worker.owner.send(worker.address, Nano.ton(1))
    wallet = worker.owner.balance
    worker.from_owner(m.CompleteUnbond(query_id=0))
    assert worker.owner.balance - wallet > Nano.ton("99.9")
    assert worker.get_state().stake == 0


def test_client_can_leave_after_a_year_of_silence(world: World, client: Client) -> None:
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    world.chain.warp(YEAR)
    client.owner.send(client.address, Nano.ton(1))
    # What rent is still due is collected with the next message.
    client.owner.send(client.address, Nano.ton("0.1"))
    free = client.get_state().free
    assert free > Nano.ton("0.9")
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(free)))
    assert client.get_state().free == 0


def test_open_job_can_be_taken_back_after_years(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    claimed, _ = client.open(world.suite.open_terms())
    worker.claim(client, claimed)
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    world.chain.warp(3 * YEAR)
    client.from_owner(m.CancelJob(query_id=0, id=number))
    stranger = world.chain.actor("stranger")
    stranger.send(client.address, GAS, m.ReclaimLate(id=claimed).to_cell())
    assert (client.get_state().jobs, client.get_state().reserved) == (0, 0)
    assert (len(locks(worker)), worker.get_state().stake) == (0, Nano.ton(100))
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))


def test_market_keeps_its_rent_and_gives_the_rest_to_the_treasury(
    world: World, worker: Worker, stranger: Actor
) -> None:
    market, registry = world.suite.market, world.suite.network.registry
    for _ in range(3):
        worker.act(signing.announce(world.suite.model_id, hash_of("info")), max_spend=Nano.ton("0.02"))
    before, treasury = world.chain.balance(market), world.chain.balance(registry)
    done = stranger.send(market, GAS, m.Sweep(query_id=0).to_cell())
    assert world.chain.balance(market) == c.MARKET_RENT
    (arrived,) = at(done, registry)
    assert world.chain.balance(registry) == treasury + arrived.in_msg.value - arrived.total_fees
    assert arrived.in_msg.value > before - c.MARKET_RENT
    refused(
        world.chain,
        market,
        lambda: stranger.send(market, GAS, m.Sweep(query_id=0).to_cell()),
        ExitCode.INSUFFICIENT_FREE,
    )
    data, _ = state_of(world.chain, market)
    for notice in (
        m.JobNotice(id=1),
        m.DisputeNotice(id=1),
        m.OfferNotice(owner=1, index=0, info_hash=0),
    ):
        (arrival,) = at(stranger.send(market, GAS, notice.to_cell()), market)
        assert (arrival.success, arrival.out_msgs) == (True, ())
    assert state_of(world.chain, market)[0] == data


def test_rejected_externals_cost_nothing_on_the_largest_state(world: World) -> None:
    client = world.client("big", deposit=Nano.ton(200))
    fill(world, client, c.MAX_JOBS)
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    rejected(world.chain, client, client.external(signing.accept_result(5)), ExitCode.WRONG_STATE)
    skipped(client, client.act(signing.cancel_job(5)))
