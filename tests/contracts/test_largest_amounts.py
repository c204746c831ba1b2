"""Amounts at the edge of their 53 bits: refused beyond, and carried through every path below."""

from __future__ import annotations

import pytest

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import FIRST
from tests.helpers.audit import (
    BURN,
    TOMBSTONE_REWARD,
    TOMBSTONE_SLASH,
    World,
    absent,
    denied,
    job_gas,
    locks,
    sent,
    tombstones,
)
from tests.helpers.suite import GAS, Client, Worker

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
    """Operation, id, three amounts and lock fit into the 256 bits that a bounce brings back."""
    client = rich_client(world)
    worker = rich_worker(world)
    price = MOST // 4
    paid, _ = client.open(world.suite.directed_terms(worker, price))
    worker.submit(client, paid, price)
    lost, _ = client.open(world.suite.directed_terms(worker, price))
    worker.submit(client, lost, price)
    client.act(signing.dispute_result(lost))
    verdict = world.suite.verdict(client, worker, lost, 0, price * 4)
    with absent(world.chain, worker.address):
        client.act(signing.accept_result(paid))
        stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    found = tombstones(client)
    reward, slash = found[paid, TOMBSTONE_REWARD], found[lost, TOMBSTONE_SLASH]
    assert (reward.collateral, reward.amount, reward.lock) == (price * 4, price, FIRST)
    assert (slash.collateral, slash.amount, slash.lock) == (price * 4, price * 4, FIRST)
    for number, kind in found:
        stranger.send(client.address, GAS, m.Deliver(id=number, kind=kind).to_cell())
    state = worker.get_state()
    assert (state.earned + state.fee_due, 2**55 - state.stake) == (price, price * 4)
    assert (locks(worker), state.locked) == ({}, 0)


def test_largest_bond_is_taken_and_shared_to_the_last_nanoton(world: World) -> None:
    """A claim's value has room for any bond, and its body still fits beside it."""
    client = rich_client(world)
    price = MOST // 4
    bond, back = -(-price * 400 // 10_000), price // 100
    world.chain.actor("rich worker", 2**58)
    worker = world.worker("rich worker", gas=2 * bond)
    number, _ = client.open(world.suite.open_terms(price))
    worker.claim(client, number)
    job = client.job(number)
    assert job is not None
    assert job.status == 1
    assert job.payout == job.hold - price - Nano.ton("0.21") - job_gas(client) > bond
    world.chain.warp(3601)
    client.act(signing.reclaim_late(number))
    assert world.chain.balance(BURN) == job.payout - back


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
    assert worker.get_state().locked == 0
