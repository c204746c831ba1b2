"""The move from the code before sessions to the one with them, on a network with money and a job in it.

Accounts never change their own code: governance lists the new one, everybody opens an account under it when
they like, what was begun ends where it began, and the old accounts are emptied by their owners.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from cocoon_sdk.contracts.code import code_cell, previous_code_cell
from cocoon_sdk.contracts.parameters import moved_codes
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from tests.contracts.test_parameters import TIMELOCK, govern, propose, sync
from tests.contracts.test_session_money import redemption
from tests.helpers.audit import World, at, denied, locks, sent
from tests.helpers.suite import GAS, Client, Suite, Worker, as_int, hash_of

PRICE = Nano.ton(1)
DEPOSIT = Nano.ton(2)
HALF = Nano.ton("0.5")
OWNERS_WALLET = Nano.ton(10_000)


@dataclass
class Move:
    """Both accounts of a client and of a worker: the ones from before, and new ones of the same owners."""

    world: World
    client: Client
    worker: Worker
    new_client: Client
    new_worker: Worker


def begun_before() -> tuple[World, Client, Worker]:
    world = World(Suite(Blockchain(), born_before=True))
    return world, world.client("client"), world.worker("worker")


def list_new_codes(world: World) -> None:
    """Governance proposes the new codes, waits out the timelock, and executes."""
    parameters = replace(
        world.suite.parameters,
        version=2,
        escrow_codes=moved_codes("Escrow"),
        stake_codes=moved_codes("WorkerStake"),
    )
    govern(world, propose(world, parameters.to_cell()))
    world.chain.warp(TIMELOCK)
    govern(world, m.Execute(query_id=0))
    world.suite.parameters, world.suite.born_before = parameters, False


def accept(account: Client | Worker, name: str) -> None:
    """The owner begins to deal with the other side's new code; the one before stays accepted."""
    account.from_owner(m.AcceptCode(query_id=0, code_hash=as_int(code_cell(name).hash)))


@pytest.fixture
def move() -> Iterator[Move]:
    world, client, worker = begun_before()
    list_new_codes(world)
    yield Move(world, client, worker, world.client("client"), world.worker("worker"))
    world.check()


def targeted(target: signing.JobTarget, *, escrow: bool = False, own: bool = False) -> signing.JobTarget:
    """Say which side of a job runs the previous code."""
    return replace(target, previous_code=escrow, own_previous_code=own)


def emptied(client: Client, worker: Worker) -> int:
    """Let both owners take all that they may; return what stays behind: the year's rent of each, and gas."""
    state = worker.get_state()
    worker.from_owner(m.Unbond(query_id=0, amount=Nano(state.stake)))
    worker.suite.chain.warp(3 * 86_400)
    worker.from_owner(m.CompleteUnbond(query_id=0))
    if state.earned:
        worker.from_owner(m.WithdrawBucket(query_id=0, bucket=0, amount=Nano(state.earned)))
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(worker.get_state().gas)))
    # A transfer first, which collects the rent of the days that passed.
    client.owner.send(client.address, GAS)
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    assert (worker.get_state().stake, worker.get_state().earned, worker.get_state().gas) == (0, 0, 0)
    assert client.get_state().free == 0
    return int(client.balance + worker.balance)


def test_previous_code_is_what_ran_before_sessions() -> None:
    """The hashes that networks list: changing them would strand their accounts."""
    assert previous_code_cell("Escrow").hash.hex().startswith("93d1abe4c1174bf1")
    assert previous_code_cell("WorkerStake").hash.hex().startswith("26e2da4b1e7949ce")
    for name in ("Escrow", "WorkerStake"):
        assert previous_code_cell(name).hash != code_cell(name).hash


def test_live_accounts_can_move_with_a_job_open_and_every_nano_is_accounted_for() -> None:
    world, client, worker = begun_before()
    chain = world.chain
    total = Ledger.of(chain)
    total.assert_balanced()
    # Something is under way: a job that is submitted, another that nobody has answered.
    paid, _ = client.open(world.suite.directed_terms(worker, PRICE, window=86_400))
    worker.submit(client, paid, PRICE)
    unanswered, _ = client.open(world.suite.open_terms(PRICE))
    list_new_codes(world)
    assert client.get_state().reserved != 0
    new_client, new_worker = world.client("client"), world.worker("worker")
    assert new_client.address != client.address
    assert new_client.owner.address == client.owner.address
    # The old job ends and pays where it was begun, and its lock is free.
    chain.actor("anyone").send(client.address, GAS, m.Finalize(id=paid).to_cell())
    client.act(signing.cancel_job(unanswered))
    assert (worker.get_state().earned + worker.get_state().fee_due, worker.get_state().locked) == (PRICE, 0)
    assert client.get_state().reserved == 0
    # Sessions work on the new ones.
    number, _ = new_client.open_session(new_worker, DEPOSIT)
    new_worker.accept_session(new_client, number)
    new_worker.redeem(new_client, number, HALF)
    new_client.act(signing.close_session(number))
    new_worker.redeem(new_client, number, PRICE, close=True)
    state = new_worker.get_state()
    assert (state.earned + state.fee_due, state.locked, new_client.get_state().reserved) == (PRICE, 0, 0)
    # The owners empty the old ones: what stays is the rent that an account keeps.
    assert emptied(client, worker) == Nano.ton("0.08") + c.STAKE_RENT
    world.check()


def test_nothing_changes_for_those_who_stay(move: Move) -> None:
    """Old escrow, old stake, new parameters: jobs go on as before."""
    sync(move.world, move.client, move.worker)
    number, _ = move.client.open(move.world.suite.directed_terms(move.worker, PRICE))
    move.worker.submit(move.client, number, PRICE)
    move.client.act(signing.accept_result(number))
    assert move.worker.get_state().earned + move.worker.get_state().fee_due == PRICE


@pytest.mark.parametrize("kind", ["directed", "open", "cooperative"])
def test_new_escrow_can_use_an_old_stake_for_jobs(move: Move, kind: str) -> None:
    world, client, worker = move.world, move.new_client, move.worker
    sync(world, worker)
    accept(worker, "Escrow")
    terms = world.suite.open_terms(PRICE) if kind == "open" else world.suite.directed_terms(worker, PRICE)
    number, _ = client.open(terms)
    if kind == "cooperative":
        signature = worker.sign_result(client, number, PRICE)
        client.act(signing.accept_signed(number, PRICE, hash_of("result"), signature))
    elif kind == "open":
        worker.claim(client, number)
        target = targeted(worker.target(client, number), own=True)
        worker.act(signing.submit_claimed(number, PRICE, target, hash_of("result")))
        client.act(signing.accept_result(number))
    else:
        worker.submit(client, number, PRICE)
        client.act(signing.accept_result(number))
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.locked, client.get_state().jobs) == (PRICE, 0, 0)


@pytest.mark.parametrize("kind", ["directed", "open"])
def test_old_escrow_can_use_a_new_stake_for_jobs(move: Move, kind: str) -> None:
    world, client, worker = move.world, move.client, move.new_worker
    sync(world, client)
    accept(client, "WorkerStake")
    terms = world.suite.open_terms(PRICE) if kind == "open" else world.suite.directed_terms(worker, PRICE)
    number, _ = client.open(terms)
    if kind == "open":
        worker.claim(client, number)
    # A new stake knows the old escrows as those of the previous code from its first day.
    target = targeted(worker.target(client, number), escrow=True)
    if kind == "open":
        worker.act(signing.submit_claimed(number, PRICE, target, hash_of("result")))
    else:
        worker.submit(client, number, PRICE, target=target)
    client.act(signing.accept_result(number))
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.locked) == (PRICE, 0)


def test_old_escrow_refuses_every_session_action(move: Move) -> None:
    client, worker = move.client, move.worker
    key = client.voucher_key.verify_key
    opening = signing.open_session(1, worker.address, key, DEPOSIT, move.world.chain.now + 60)
    denied(client, lambda: client.act(opening), ExitCode.BAD_TERMS)
    for action, code in (
        (signing.top_up_session(1, Nano(1)), ExitCode.CELL_UNDERFLOW),
        (signing.close_session(1), ExitCode.UNKNOWN_ACTION),
        (signing.settle_session(1), ExitCode.UNKNOWN_ACTION),
    ):
        denied(client, lambda action=action: client.act(action), code)
    before = client.get_state()
    for body in (
        redemption(client, worker, 1, 1),
        m.SettleSession(id=1),
        m.CloseSession(query_id=0, id=1),
        m.AcceptSession(id=1, collateral=1, lock=257, binding=0),
    ):
        done = client.owner.send(client.address, GAS, body.to_cell())
        assert at(done, client.address)[0].exit_code == 130
        assert at(done, client.address)[0].bounced_back
    assert client.get_state().reserved == before.reserved


def test_old_stake_refuses_every_session_action_and_can_still_be_paid(move: Move) -> None:
    """A session with an old stake is a client's mistake that costs nobody anything: anyone redeems for it."""
    client, worker = move.new_client, move.worker
    sync(move.world, worker)
    number, _ = client.open_session(worker, DEPOSIT)
    for action in (
        signing.redeem(number, client.address, HALF, client.voucher(worker, number, HALF)),
        signing.accept_session(number, worker.session_target(client, number)),
    ):
        denied(worker, lambda action=action: worker.act(action), ExitCode.UNKNOWN_ACTION)
    worker.owner.send(client.address, GAS, redemption(client, worker, number, HALF).to_cell())
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.locked) == (HALF, 0)
    closed = client.act(signing.close_session(number))
    assert all(transaction.exit_code in (0, None) for transaction in closed)
    session = client.session(number)
    assert session is not None
    move.world.chain.set_now(settles_at(session))
    client.act(signing.settle_session(number))
    assert client.get_state().reserved == 0


@pytest.mark.parametrize("how", ["redeem", "accept"])
def test_new_stake_loses_nothing_at_an_old_escrow(move: Move, how: str) -> None:
    client, worker = move.client, move.new_worker
    gas = worker.get_state().gas
    if how == "redeem":
        done = worker.act(signing.redeem(1, client.address, HALF, bytes(64), close=True))
    else:
        target = m.SessionTarget(
            escrow_owner=signing.account_id(client.owner.address),
            escrow_index=0,
            previous_code=True,
            collateral=Nano.ton(4),
            lock=1,
            session_hash=0,
        )
        done = worker.act(signing.accept_session(1, target))
    assert [transaction.exit_code for transaction in at(done, client.address)] == [130]
    state = worker.get_state()
    assert (locks(worker), state.locked, state.earned) == ({}, 0, 0)
    # Only fees are lost, of which the escrow's own rent is not one.
    assert gas - state.gas == sum(int(transaction.cost - transaction.storage_fee) for transaction in done)
    assert not sent(done, m.Reward)
