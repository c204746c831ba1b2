"""Payments of sessions that come back: the same voucher pays again, or a tombstone does."""

from __future__ import annotations

import pytest

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.test_closed_holes_critical import BURNS_ITS_VALUE
from tests.contracts.test_session_money import redemption
from tests.contracts.test_undelivered import deploy, never_deployed
from tests.helpers.audit import (
    TOMBSTONE_REWARD,
    World,
    absent,
    check_escrow,
    job_gas,
    refused,
    tombstones,
)
from tests.helpers.suite import GAS, Client, Worker, key_of
from tests.unit.sandbox.contracts import contract

DEPOSIT = Nano.ton(1)
HALF = Nano.ton("0.5")


@pytest.fixture
def number(client: Client, worker: Worker) -> int:
    return client.open_session(worker, DEPOSIT)[0]


def redeem_into_nothing(world: World, client: Client, worker: Worker, number: int, amount: int) -> None:
    """Somebody redeems for a worker that is away."""
    body = redemption(client, worker, number, amount).to_cell()
    with absent(world.chain, worker.address):
        world.chain.actor("watchtower").send(client.address, GAS, body)


def test_payment_that_bounces_can_be_redeemed_again_with_the_same_voucher(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    before = client.get_state()
    redeem_into_nothing(world, client, worker, number, HALF)
    session = client.session(number)
    assert session is not None
    assert (session.redeemed, client.get_state().reserved, tombstones(client)) == (0, before.reserved, {})
    world.check()
    worker.redeem(client, number, HALF)
    assert worker.get_state().earned + worker.get_state().fee_due == HALF
    assert client.get_state().reserved == before.reserved - HALF


def test_payment_that_bounces_is_never_the_clients(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    redeem_into_nothing(world, client, worker, number, DEPOSIT)
    body = m.Withdraw(query_id=0, amount=Nano(client.get_state().free + 1))
    refused(world.chain, client.address, lambda: client.from_owner(body), ExitCode.INSUFFICIENT_FREE)
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    worker.redeem(client, number, DEPOSIT)
    assert worker.get_state().earned + worker.get_state().fee_due == DEPOSIT


def test_later_payment_keeps_what_an_earlier_one_brought(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    worker.redeem(client, number, Nano.ton("0.2"))
    redeem_into_nothing(world, client, worker, number, HALF)
    session = client.session(number)
    assert session is not None
    assert session.redeemed == Nano.ton("0.2")
    worker.redeem(client, number, Nano.ton("0.9"))
    assert worker.get_state().earned + worker.get_state().fee_due == Nano.ton("0.9")


@pytest.mark.parametrize("state", ["open", "guarded", "closing"])
def test_bounce_changes_nothing_else_of_the_session(
    world: World, client: Client, worker: Worker, number: int, state: str
) -> None:
    if state == "guarded":
        worker.accept_session(client, number)
    if state == "closing":
        client.act(signing.close_session(number))
    before = client.session(number)
    redeem_into_nothing(world, client, worker, number, HALF)
    assert client.session(number) == before


def test_worker_that_deploys_late_gets_all_of_it(world: World, client: Client) -> None:
    worker = never_deployed(world)
    number, _ = client.open_session(worker, DEPOSIT)
    watchtower = world.chain.actor("watchtower")
    body = redemption(client, worker, number, DEPOSIT).to_cell()
    for _ in range(3):
        watchtower.send(client.address, GAS, body)
    session = client.session(number)
    assert session is not None
    assert session.redeemed == 0
    deploy(world, worker)
    watchtower.send(client.address, GAS, body)
    assert worker.get_state().earned + worker.get_state().fee_due == DEPOSIT


@pytest.mark.parametrize("end", ["settled", "closed by the worker"])
def test_payment_that_bounces_after_the_end_waits_for_its_worker(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor, end: str
) -> None:
    if end == "settled":
        session = client.session(number)
        assert session is not None
        world.chain.set_now(settles_at(session))
    body = redemption(client, worker, number, HALF).to_cell()
    world.chain.hold()
    stranger.send(client.address, GAS, body)
    world.chain.step()
    assert [message.op for message in world.chain.pending] == [m.Reward.OPCODE]
    if end == "settled":
        settling = client.external(signing.settle_session(number))
        world.chain.send_external(settling)
        amount = HALF
    else:
        closing = redemption(client, worker, number, DEPOSIT, close=True).to_cell()
        world.chain.send_internal(client.address, GAS, closing, src=worker.address)
        amount = DEPOSIT
    assert client.session(number) is None
    with absent(world.chain, worker.address):
        world.chain.release()
    kept = tombstones(client)[number, TOMBSTONE_REWARD]
    assert (kept.amount, kept.lock, kept.collateral) == (amount, 0, 0)
    assert client.get_state().reserved == amount
    world.check()
    stranger.send(client.address, GAS, m.Deliver(id=number, kind=TOMBSTONE_REWARD).to_cell())
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.fee_due) == (amount, amount // 100)
    assert (client.get_state().reserved, tombstones(client)) == (0, {})


def test_several_payments_that_bounce_after_the_end_are_one_debt(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor
) -> None:
    """Two on their way, a guarded end behind them: sums add up, and the lock is named once."""
    worker.accept_session(client, number)
    session = client.session(number)
    assert session is not None
    world.chain.set_now(settles_at(session))
    world.chain.hold()
    for amount in (Nano.ton("0.1"), Nano.ton("0.3")):
        stranger.send(client.address, GAS, redemption(client, worker, number, amount).to_cell())
        world.chain.step(len(world.chain.pending) - 1)
    closing = redemption(client, worker, number, Nano.ton("0.6"), close=True).to_cell()
    world.chain.send_internal(client.address, GAS, closing, src=worker.address)
    with absent(world.chain, worker.address):
        world.chain.release()
    kept = tombstones(client)[number, TOMBSTONE_REWARD]
    assert (kept.amount, kept.second, kept.collateral) == (Nano.ton("0.6"), Nano.ton("0.006"), Nano.ton(4))
    assert client.get_state().reserved == Nano.ton("0.6")
    # A delivery that fails too is the same debt, with the same end.
    with absent(world.chain, worker.address):
        stranger.send(client.address, GAS, m.Deliver(id=number, kind=TOMBSTONE_REWARD).to_cell())
    assert tombstones(client)[number, TOMBSTONE_REWARD] == kept
    stranger.send(client.address, GAS, m.Deliver(id=number, kind=TOMBSTONE_REWARD).to_cell())
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.fee_due, state.locked) == (
        Nano.ton("0.6"),
        Nano.ton("0.006"),
        0,
    )
    assert (client.get_state().reserved, tombstones(client)) == (0, {})


def test_payment_that_bounces_while_another_is_delivered_is_not_forgotten(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor
) -> None:
    world.chain.hold()
    stranger.send(client.address, GAS, redemption(client, worker, number, Nano.ton("0.1")).to_cell())
    world.chain.step()
    closing = redemption(client, worker, number, HALF, close=True).to_cell()
    world.chain.send_internal(client.address, GAS, closing, src=worker.address)
    first, second = world.chain.pending
    assert {first.op, second.op} == {m.Reward.OPCODE}
    with absent(world.chain, worker.address):
        world.chain.step()
        world.chain.step(index_of_bounce(world))
    assert tombstones(client)[number, TOMBSTONE_REWARD].amount == Nano.ton("0.1")
    stranger.send(client.address, GAS, m.Deliver(id=number, kind=TOMBSTONE_REWARD).to_cell())
    world.chain.step(len(world.chain.pending) - 1)
    assert tombstones(client) == {}
    with absent(world.chain, worker.address):
        world.chain.release()
    assert tombstones(client)[number, TOMBSTONE_REWARD].amount == HALF
    stranger.send(client.address, GAS, m.Deliver(id=number, kind=TOMBSTONE_REWARD).to_cell())
    assert worker.get_state().earned + worker.get_state().fee_due == HALF
    assert (client.get_state().reserved, tombstones(client)) == (0, {})


def index_of_bounce(world: World) -> int:
    return next(place for place, message in enumerate(world.chain.pending) if message.bounced)


def test_fake_worker_that_burns_what_comes_loses_its_own_session_only(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """A contract that spins until its gas is gone brings back less: it was paid what it burned."""
    honest, _ = client.open_session(worker, Nano.ton(5))
    fake = world.chain.deploy(contract(BURNS_ITS_VALUE), Nano.ton(1))
    number = client.get_state().next_id
    key = key_of("thief")
    expiry = world.chain.now + 3600
    client.act(signing.open_session(number, fake, key.verify_key, Nano.ton(2), expiry))
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    digest = signing.voucher_digest(client.domain(), fake, number, Nano.ton(2))
    body = m.Redeem(
        id=number,
        amount=Nano.ton(2),
        close=False,
        signature=signing.redeem(number, fake, Nano(1), key.sign(digest)).refs[0].refs[0],
    ).to_cell()
    for _ in range(12):
        stranger.send(client.address, Nano.ton("0.03"), body)
    check_escrow(client)
    session = client.session(number)
    assert session is not None
    assert 0 < session.redeemed <= Nano.ton(2)
    assert client.get_state().free >= 0
    worker.redeem(client, honest, Nano.ton(5), close=True)
    assert worker.get_state().earned + worker.get_state().fee_due == Nano.ton(5)


def test_pending_stake_cannot_be_paid_and_loses_nothing(world: World, client: Client) -> None:
    worker = never_deployed(world)
    init = worker.deployment.state_init
    worker.owner.send(worker.address, Nano.ton(1), state_init=init)
    assert not worker.get_state().active
    number, _ = client.open_session(worker, DEPOSIT)
    body = redemption(client, worker, number, HALF).to_cell()
    world.chain.actor("watchtower").send(client.address, GAS, body)
    session = client.session(number)
    assert session is not None
    assert (session.redeemed, client.get_state().reserved) == (0, DEPOSIT + job_gas(client))
