"""The move from the escrow's code before disputes of sessions, with money, a job and sessions in it.

Accounts never change their own code: governance lists the new one, everybody opens an account under it when
they like, what was begun ends where it began, and the old accounts are emptied by their owners. The stake's
code is the same: a worker keeps its account, and its owner accepts the new escrows. Stakes of the code
before sessions, which are still listed, do what they can.
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
from cocoon_sdk.protocol.session_states import SessionState, settles_at, state_of
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import sums
from tests.contracts.test_parameters import TIMELOCK, govern, propose, sync
from tests.contracts.test_session_money import redemption
from tests.helpers.audit import World, at, denied, locks, sent
from tests.helpers.suite import GAS, Client, Suite, Worker, as_int, hash_of

PRICE = Nano.ton(1)
DEPOSIT = Nano.ton(2)
HALF = Nano.ton("0.5")
COLLATERAL = Nano.ton(8)
_NAMES = {"escrow": "Escrow", "stake": "WorkerStake"}


@dataclass
class Move:
    """A client with an escrow from before and a new one, and a worker with its stake."""

    world: World
    client: Client
    worker: Worker
    new_client: Client


def begun_before(*kinds: str) -> tuple[World, Client, Worker]:
    world = World(Suite(Blockchain(), born_before=frozenset(kinds)))
    return world, world.client("client"), world.worker("worker")


def list_new_codes(world: World) -> None:
    """Governance proposes the new codes, waits out the timelock, and executes."""
    changes = {f"{kind}_codes": moved_codes(_NAMES[kind]) for kind in world.suite.born_before}
    parameters = replace(world.suite.parameters, version=2, **changes)  # type: ignore[arg-type]
    govern(world, propose(world, parameters.to_cell()))
    world.chain.warp(TIMELOCK)
    govern(world, m.Execute(query_id=0))
    world.suite.parameters, world.suite.born_before = parameters, frozenset()


def accept(account: Client | Worker, name: str) -> None:
    """The owner begins to deal with the other side's new code; the one before stays accepted."""
    account.from_owner(m.AcceptCode(query_id=0, code_hash=as_int(code_cell(name).hash)))


@pytest.fixture
def move() -> Iterator[Move]:
    """This move: new escrows, the same stakes; the worker's owner has accepted the new escrows."""
    world, client, worker = begun_before("escrow")
    list_new_codes(world)
    sync(world, client, worker)
    accept(worker, "Escrow")
    yield Move(world, client, worker, world.client("client"))
    world.check()


@pytest.fixture
def old_stake() -> Iterator[Move]:
    """A stake from before sessions beside a new escrow."""
    world, client, worker = begun_before("escrow", "stake")
    list_new_codes(world)
    sync(world, client, worker)
    accept(worker, "Escrow")
    yield Move(world, client, worker, world.client("client"))
    world.check()


def guarded(client: Client, worker: Worker, *, previous: bool = False) -> int:
    """Open a session and lock collateral for it."""
    number, _ = client.open_session(worker, DEPOSIT)
    target = replace(worker.session_target(client, number), previous_code=previous)
    worker.act(signing.accept_session(number, target))
    return number


def session_of(client: Client, number: int) -> m.Session:
    session = client.session(number)
    assert session is not None
    return session


def test_previous_code_is_what_ran_before() -> None:
    """The hashes that networks list: changing them would strand their accounts."""
    assert previous_code_cell("Escrow").hash.hex().startswith("cdfe0c7c8da6df63")
    assert previous_code_cell("WorkerStake").hash.hex().startswith("26e2da4b1e7949ce")
    for name in ("Escrow", "WorkerStake"):
        assert previous_code_cell(name).hash != code_cell(name).hash


def test_stakes_code_is_the_one_that_disputes_of_sessions_found() -> None:
    """No worker has to move: this hash is listed on networks that are older than disputes of sessions."""
    assert code_cell("WorkerStake").hash.hex().startswith("9ae08b09b6167eb9")


def test_live_escrow_can_move_with_a_job_and_sessions_open_and_every_nano_is_accounted_for() -> None:
    world, client, worker = begun_before("escrow")
    chain = world.chain
    total = Ledger.of(chain)
    total.assert_balanced()
    # Something is under way: a job that is submitted, one that nobody has answered, two sessions.
    paid, _ = client.open(world.suite.directed_terms(worker, PRICE, window=86_400))
    worker.submit(client, paid, PRICE)
    unanswered, _ = client.open(world.suite.open_terms(PRICE))
    plain, _ = client.open_session(worker, DEPOSIT, lasts_s=4 * 86_400)
    backed, _ = client.open_session(worker, DEPOSIT, lasts_s=4 * 86_400)
    worker.accept_session(client, backed)
    for number in (plain, backed):
        worker.redeem(client, number, HALF)
    list_new_codes(world)
    new_client = world.client("client")
    assert new_client.address != client.address
    assert new_client.owner.address == client.owner.address
    # What was begun ends and pays where it began, by the rules under which it began.
    chain.actor("anyone").send(client.address, GAS, m.Finalize(id=paid).to_cell())
    client.act(signing.cancel_job(unanswered))
    worker.redeem(client, plain, PRICE)
    client.act(signing.settle_session(plain))
    worker.redeem(client, backed, PRICE, close=True)
    assert client.session(backed) is None, "at once, as before"
    assert (client.get_state().reserved, worker.get_state().locked) == (0, 0)
    # A session under the new code, with the same worker, to its end.
    sync(world, worker)
    accept(worker, "Escrow")
    number = guarded(new_client, worker)
    worker.redeem(new_client, number, HALF, forgo=HALF)
    new_client.dispute_session(number)
    verdict = world.suite.session_verdict(new_client, worker, number, 0).to_cell()
    chain.actor("anyone").send(new_client.address, Nano.ton("0.1"), verdict)
    worker.redeem(new_client, number, PRICE, close=True)
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.locked, new_client.get_state().reserved) == (4 * PRICE, 0, 0)
    # The owner empties the old one: what stays is the rent that it keeps.
    client.owner.send(client.address, GAS)
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    assert (client.get_state().free, client.balance) == (0, Nano.ton("0.1"))
    world.check()


def test_nothing_changes_for_those_who_stay(move: Move) -> None:
    """Old escrow, new parameters: jobs and sessions go on as before, for a stake that accepts both codes."""
    client, worker = move.client, move.worker
    number, _ = client.open(move.world.suite.directed_terms(worker, PRICE))
    target = replace(worker.target(client, number), previous_code=True)
    worker.submit(client, number, PRICE, target=target)
    client.act(signing.accept_result(number))
    session = guarded(client, worker, previous=True)
    assert state_of(session_of(client, session)) is SessionState.GUARDED
    worker.redeem(client, session, PRICE)
    client.act(signing.close_session(session))
    move.world.chain.set_now(settles_at(session_of(client, session)))
    client.act(signing.settle_session(session))
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.locked) == (2 * PRICE, 0)


def test_old_escrow_ends_guarded_sessions_at_once_and_knows_no_disputes(move: Move) -> None:
    client, worker = move.client, move.worker
    number = guarded(client, worker, previous=True)
    denied(client, lambda: client.dispute_session(number), ExitCode.CELL_UNDERFLOW)
    body = m.DisputeSession(query_id=0, id=number, evidence_hash=1, model_id=2)
    done = client.from_owner(body)
    assert at(done, client.address)[0].exit_code == 130
    assert at(done, client.address)[0].bounced_back
    worker.redeem(client, number, HALF, close=True)
    assert (client.session(number), worker.get_state().locked) == (None, 0)


def test_old_escrow_takes_only_vouchers_of_which_nothing_is_given_up(move: Move) -> None:
    client, worker = move.client, move.worker
    number, _ = client.open_session(worker, DEPOSIT)
    before, gas = client.session(number), worker.get_state().gas
    done = worker.redeem(client, number, HALF, forgo=1)
    assert at(done, client.address)[0].exit_code == ExitCode.BAD_VOUCHER
    assert client.session(number) == before
    assert gas - worker.get_state().gas < Nano.ton("0.01"), "only fees are lost"
    worker.redeem(client, number, HALF)
    assert session_of(client, number).redeemed == HALF


def test_stake_that_has_not_accepted_the_new_code_loses_nothing_at_a_new_escrow() -> None:
    world, client, worker = begun_before("escrow")
    list_new_codes(world)
    sync(world, client, worker)
    new_client = world.client("client")
    number, _ = new_client.open_session(worker, DEPOSIT)
    for previous in (False, True):
        target = replace(worker.session_target(new_client, number), previous_code=previous)
        worker.act(signing.accept_session(number, target))
        assert (sums(worker), session_of(new_client, number).collateral) == ({}, 0)
    # What it is signed it can redeem: no code needs to be accepted for that.
    worker.redeem(new_client, number, HALF)
    assert worker.get_state().earned + worker.get_state().fee_due == HALF
    accept(worker, "Escrow")
    worker.accept_session(new_client, number)
    assert session_of(new_client, number).collateral == COLLATERAL
    world.check()


def test_worker_that_comes_later_deals_with_both_codes(move: Move) -> None:
    worker = move.world.worker("later")
    # The owner of an old escrow deals with the stakes' code already: it has not changed.
    for client, previous in ((move.new_client, False), (move.client, True)):
        number = guarded(client, worker, previous=previous)
        assert session_of(client, number).collateral == COLLATERAL
        worker.end_session(client, number, HALF)
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.locked) == (2 * HALF, 0)


# -- stakes from before sessions -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["directed", "open", "cooperative"])
def test_new_escrow_can_use_an_old_stake_for_jobs(old_stake: Move, kind: str) -> None:
    world, client, worker = old_stake.world, old_stake.new_client, old_stake.worker
    terms = world.suite.open_terms(PRICE) if kind == "open" else world.suite.directed_terms(worker, PRICE)
    number, _ = client.open(terms)
    if kind == "cooperative":
        signature = worker.sign_result(client, number, PRICE)
        client.act(signing.accept_signed(number, PRICE, hash_of("result"), signature))
    elif kind == "open":
        worker.claim(client, number)
        target = replace(worker.target(client, number), own_previous_code=True)
        worker.act(signing.submit_claimed(number, PRICE, target, hash_of("result")))
        client.act(signing.accept_result(number))
    else:
        worker.submit(client, number, PRICE)
        client.act(signing.accept_result(number))
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.locked, client.get_state().jobs) == (PRICE, 0, 0)


def test_old_stake_refuses_every_session_action_and_can_still_be_paid(old_stake: Move) -> None:
    """A session with an old stake is a client's mistake that costs nobody anything: anyone redeems for it."""
    client, worker = old_stake.new_client, old_stake.worker
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
    old_stake.world.chain.set_now(settles_at(session_of(client, number)))
    client.act(signing.settle_session(number))
    assert client.get_state().reserved == 0


def test_owner_of_an_old_stake_can_take_everything_out(old_stake: Move) -> None:
    worker = old_stake.worker
    worker.from_owner(m.Unbond(query_id=0, amount=Nano(worker.get_state().stake)))
    old_stake.world.chain.warp(3 * 86_400)
    worker.from_owner(m.CompleteUnbond(query_id=0))
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(worker.get_state().gas)))
    state = worker.get_state()
    assert (state.stake, state.earned, state.gas, worker.balance) == (0, 0, 0, c.STAKE_RENT)


@pytest.mark.parametrize("how", ["redeem", "accept"])
def test_stake_loses_nothing_where_no_session_is(move: Move, how: str) -> None:
    client, worker = move.client, move.worker
    gas = worker.get_state().gas
    if how == "redeem":
        done = worker.act(signing.redeem(1, client.address, HALF, bytes(64), close=True))
        assert [transaction.exit_code for transaction in at(done, client.address)] == [ExitCode.NO_SESSION]
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
        assert sent(done, m.Gone)
    state = worker.get_state()
    assert (locks(worker), state.locked, state.earned) == ({}, 0, 0)
    # Only fees are lost, of which the escrow's own rent is not one.
    assert gas - state.gas == sum(int(transaction.cost - transaction.storage_fee) for transaction in done)
    assert not sent(done, m.Reward)
