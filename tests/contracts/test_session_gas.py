"""Gas of sessions: bounds for the largest and the deepest tables, and what a redemption must bring."""

from __future__ import annotations

import pytest

from cocoon_sdk.contracts.escrow import REDEEM_GAS
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.sandbox import Blockchain, Transaction
from cocoon_sdk.types import Nano
from tests.contracts.test_closed_holes_audit import deepen
from tests.contracts.test_full_tables import fill, submit_all
from tests.contracts.test_gas_bounds import WASTE, Measured
from tests.contracts.test_session_money import redemption
from tests.helpers.audit import World, absent, at, free_slot, gas_fee, locks
from tests.helpers.suite import Client, Suite, Worker, hash_of

DEPOSIT = Nano.ton(1)
HALF = Nano.ton("0.5")
FULL = 64
"""The session's id: in the middle of a full table, where the way to a leaf is longest."""


def settled(client: Client, number: int) -> list[Transaction]:
    session = client.session(number)
    assert session is not None
    client.suite.chain.set_now(settles_at(session))
    return client.act(signing.settle_session(number))


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Drive sessions beside 127 jobs, with a worker whose stake has 255 locks."""
    seen = Measured()
    suite = Suite(Blockchain())
    world = World(suite)
    client = world.client("big", deposit=Nano.ton(500))
    other = world.client("other", deposit=Nano.ton(500))
    worker = world.worker("busy", stake=Nano.ton(400), gas=Nano.ton(80))
    fill(world, client, FULL - 1, worker)
    number, opened = client.open_session(worker, DEPOSIT)
    seen.see(opened)
    fill(world, client, c.MAX_JOBS - FULL, worker)
    fill(world, other, c.MAX_JOBS, worker)
    submit_all(worker, client, range(1, FULL))
    submit_all(worker, client, range(FULL + 1, c.MAX_JOBS + 1))
    submit_all(worker, other, range(1, c.MAX_JOBS))
    assert len(locks(worker)) == c.MAX_LOCKS - 1
    assert client.get_state().jobs == c.MAX_JOBS
    target = m.SessionTarget(
        escrow_owner=signing.account_id(client.owner.address),
        escrow_index=0,
        previous_code=False,
        collateral=Nano.ton(4),
        lock=free_slot(worker),
        session_hash=0,
    )
    seen.see(worker.act(signing.accept_session(number, target)))
    before = client.get_state().free
    right = m.SessionTarget(
        escrow_owner=target.escrow_owner,
        escrow_index=0,
        previous_code=False,
        collateral=target.collateral,
        lock=target.lock,
        session_hash=worker.session_target(client, number).session_hash,
    )
    seen.see(worker.act(signing.accept_session(number, right)))
    assert client.get_state().free >= before, "no message of a worker lowers what is free"
    seen.see(client.act(signing.top_up_session(number, Nano(1))))
    watchtower = world.chain.actor("watchtower")
    bounced = redemption(client, worker, number, HALF).to_cell()
    with absent(world.chain, worker.address):
        back = watchtower.send(client.address, Nano.ton("0.05"), bounced)
    seen.most["bounced"] = back[-1].gas_used
    assert client.get_state().free >= before
    seen.see(worker.redeem(client, number, HALF))
    seen.see(client.act(signing.close_session(number)))
    start = world.chain.snapshot()
    seen.see(client.dispute_session(number))
    disputed = world.chain.snapshot()
    for slash in (0, Nano.ton(4)):
        free = client.get_state().free
        verdict = suite.session_verdict(client, worker, number, slash).to_cell()
        seen.see(watchtower.send(client.address, Nano.ton("0.1"), verdict))
        assert client.get_state().free > free, "what was set aside covers what a verdict sends"
        world.chain.restore(disputed)
    world.chain.restore(start)
    before = client.get_state().free
    seen.see(worker.redeem(client, number, Nano.ton("0.7"), close=True))
    assert client.get_state().free == before
    seen.see(worker.end_session(client, number, DEPOSIT))
    assert client.get_state().free > before
    world.chain.restore(start)
    seen.see(settled(client, number))
    world.chain.restore(start)
    world.chain.warp(200_000)
    seen.see(watchtower.send(client.address, Nano.ton("0.05"), m.SettleSession(id=number).to_cell()))
    return seen


@pytest.mark.parametrize(
    ("bound", "operations"),
    [
        (c.GAS_EXTERNAL, ["external"]),
        (c.GAS_ESCROW_ANYONE, ["Redeem", "AcceptSession", "SettleSession"]),
        (c.GAS_ESCROW_RESOLVE, ["Resolve"]),
        (c.GAS_STAKE_SLASH, ["Slash"]),
        (c.GAS_STAKE_CREDIT, ["Reward", "Release", "Gone"]),
        (c.GAS_BOUNCED, ["bounced"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_gas_constant_bounds_what_sessions_take(
    measured: Measured, bound: int, operations: list[str]
) -> None:
    for operation in operations:
        assert operation in measured.most, sorted(measured.most)
    most = max(measured.most[operation] for operation in operations)
    assert most <= bound <= WASTE * most, f"measured {most}"


def test_session_sets_aside_the_gas_of_its_whole_path(measured: Measured) -> None:
    """Opening, closing, settling, a notice, and a release that nothing of the worker's gas pays for."""
    forward = 2 * 400_000
    needed = 3 * gas_fee(c.GAS_EXTERNAL) + gas_fee(c.GAS_STAKE_CREDIT) + forward
    assert needed <= gas_fee(c.GAS_JOB_PATH)


def least_value(world: World, client: Client, worker: Worker, number: int, amount: int) -> int:
    """Find the smallest value with which anybody can redeem, to the unit of gas."""
    body = redemption(client, worker, number, amount).to_cell()
    somebody = world.chain.actor("somebody", Nano.ton(10))
    low, high = 0, Nano.ton("0.03") // 400
    while high - low > 1:
        middle = (low + high) // 2
        with world.chain.isolated():
            done = somebody.send(client.address, Nano(middle * 400), body)
            works = at(done, client.address)[0].success
        low, high = (low, middle) if works else (middle, high)
    return int(high) * 400


@pytest.mark.parametrize("table", ["alone", "full", "deep"])
@pytest.mark.parametrize("guarded", [False, True])
def test_least_value_that_redeems_pays_the_worker_in_full(world: World, table: str, guarded: bool) -> None:
    """Whatever the table looks like: what is too little is refused by name, what is taken suffices."""
    client = world.client("big", deposit=Nano.ton(500))
    worker = world.worker("busy")
    if table == "full":
        fill(world, client, FULL - 1)
    if table == "deep":
        deepen(client, 511)
    number, _ = client.open_session(worker, DEPOSIT)
    if table == "full":
        fill(world, client, c.MAX_JOBS - FULL)
    if guarded:
        worker.accept_session(client, number)
    least = least_value(world, client, worker, number, HALF)
    assert least <= REDEEM_GAS
    before = client.get_state().free
    for value, works in ((least - 400, False), (least, True)):
        body = redemption(client, worker, number, HALF).to_cell()
        done = world.chain.actor("anyone").send(client.address, Nano(value), body)
        handled = at(done, client.address)[0]
        assert handled.success is works
        # A refusal may also be the virtual machine's own: out of gas.
        assert works or handled.exit_code in (ExitCode.LOW_VALUE, -14)
    state = worker.get_state()
    assert state.earned + state.fee_due == HALF
    assert client.get_state().free >= before


def test_least_value_that_closes_pays_the_worker_in_full(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    before = client.get_state()
    body = redemption(client, worker, number, HALF, close=True).to_cell()
    low, high = 0, Nano.ton("0.05") // 400
    while high - low > 1:
        middle = (low + high) // 2
        with world.chain.isolated():
            done = world.chain.send_internal(client.address, Nano(middle * 400), body, src=worker.address)
            works = done[0].success
        low, high = (low, middle) if works else (middle, high)
    world.chain.send_internal(client.address, Nano(high * 400), body, src=worker.address)
    state = worker.get_state()
    assert state.earned + state.fee_due == HALF
    after = client.get_state()
    assert after.free - before.free >= before.reserved - HALF


def test_client_can_end_a_session_in_a_deep_table_with_an_empty_bucket(
    world: World, client: Client, worker: Worker
) -> None:
    """Nothing is paid for before an external is accepted but looking the session up."""
    deepen(client, 511)
    number, _ = client.open_session(worker, DEPOSIT)
    worker.accept_session(client, number)
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    client.act(signing.close_session(number))
    settled(client, number)
    assert worker.get_state().locked == 0


def test_everything_else_works_in_a_deep_table(world: World, client: Client, worker: Worker) -> None:
    deepen(client, 511)
    number, _ = client.open_session(worker, DEPOSIT)
    client.act(signing.top_up_session(number, Nano(1)))
    free = client.get_state().free
    worker.accept_session(client, number)
    worker.redeem(client, number, HALF)
    assert client.get_state().free >= free, "no message of a worker lowers what is free"
    body = redemption(client, worker, number, DEPOSIT).to_cell()
    with absent(world.chain, worker.address):
        world.chain.actor("watchtower").send(client.address, REDEEM_GAS, body)
    session = client.session(number)
    assert session is not None
    assert session.redeemed == HALF
    job, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, job, Nano.ton(1), hash_of("result"))
    client.dispute_session(number)
    worker.redeem(client, number, DEPOSIT, close=True)
    assert worker.get_state().earned + worker.get_state().fee_due == DEPOSIT


def test_tail_of_a_redemption_is_no_waste(world: World, client: Client, worker: Worker) -> None:
    """What the least value leaves beyond what the stake's credit takes: less than the tail itself."""
    number, _ = client.open_session(worker, DEPOSIT)
    least = least_value(world, client, worker, number, HALF)
    body = redemption(client, worker, number, HALF).to_cell()
    done = world.chain.actor("anyone").send(client.address, Nano(least), body)
    arrived = at(done, worker.address)[0].in_msg.value - HALF
    assert 0 <= arrived - gas_fee(c.GAS_STAKE_CREDIT) <= gas_fee(c.GAS_REDEEM_TAIL) // 2


@pytest.mark.parametrize("table", ["alone", "full"])
def test_payment_of_the_least_value_that_bounces_is_kept_in_full(world: World, table: str) -> None:
    client, worker = world.client("big", deposit=Nano.ton(500)), world.worker("busy")
    fill(world, client, FULL - 1 if table == "full" else 0)
    number, _ = client.open_session(worker, DEPOSIT)
    fill(world, client, c.MAX_JOBS - FULL if table == "full" else 0)
    before = client.session(number), client.get_state().reserved, client.get_state().free
    least = least_value(world, client, worker, number, HALF)
    body = redemption(client, worker, number, HALF).to_cell()
    with absent(world.chain, worker.address):
        world.chain.actor("watchtower").send(client.address, Nano(least), body)
    after = client.session(number), client.get_state().reserved
    assert after == before[:2]
    assert client.get_state().free >= before[2]
