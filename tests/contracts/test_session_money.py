"""Money of sessions to the nanoTON: what is set aside, what is paid, who pays the gas, what comes back."""

from __future__ import annotations

import pytest
from pytoniq_core import begin_cell

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import SessionStatus, settles_at
from cocoon_sdk.sandbox import Actor, Transaction
from cocoon_sdk.types import Nano
from tests.contracts.test_largest_amounts import MOST, rich_client
from tests.helpers.audit import (
    World,
    at,
    denied,
    gas_fee,
    job_gas,
    net,
    refused,
    skipped,
    the_payment,
)
from tests.helpers.suite import GAS, Client, Worker

DEPOSIT = Nano.ton(1)


def redemption(client: Client, worker: Worker, number: int, amount: int, *, close: bool = False) -> m.Redeem:
    signature = client.voucher(worker, number, amount)
    return m.Redeem(
        id=number, amount=amount, close=close, signature=begin_cell().store_bytes(signature).end_cell()
    )


def the_session(client: Client, number: int) -> m.Session:
    session = client.session(number)
    assert session is not None
    return session


def fee_of(amount: int) -> int:
    """Return 1 % of an amount, rounded up as for jobs."""
    return -(-amount // 100)


def test_client_sets_aside_the_deposit_and_the_gas_of_a_jobs_path(
    world: World, client: Client, worker: Worker
) -> None:
    before = client.get_state()
    number, done = client.open_session(worker, DEPOSIT)
    after, (opened,) = client.get_state(), done
    assert after.reserved == DEPOSIT + job_gas(client)
    assert after.free == before.free - after.reserved - opened.cost
    assert before.bucket - after.bucket == after.reserved
    assert (after.next_id, after.jobs) == (before.next_id + 1, 1)
    session = the_session(client, number)
    assert session == m.Session(
        status=SessionStatus.OPEN,
        deadline=world.chain.now + 86_400,
        worker=signing.account_id(worker.address),
        voucher_key=client.voucher_key.verify_key.to_int(),
        fee_bps=100,
        deposit=DEPOSIT,
        gas=job_gas(client),
        redeemed=0,
        collateral=0,
        lock=0,
        back=0,
        spare=0,
        params=world.suite.params_cell,
        evidence=world.suite.params_cell,
    )
    assert client.job(number) is None
    assert len(done) == 1, "nobody is told"


def test_job_and_session_share_ids_and_places(world: World, client: Client, worker: Worker) -> None:
    job, _ = client.open(world.suite.directed_terms(worker))
    session, _ = client.open_session(worker)
    second, _ = client.open(world.suite.open_terms())
    assert (job, session, second) == (1, 2, 3)
    assert client.session(job) is client.session(second) is client.job(session) is None
    assert client.session(session) is not None
    assert client.get_state().jobs == 3


@pytest.mark.parametrize("amount", [1, 99, 100, 101, 10**9 - 1, 10**9])
def test_worker_gets_what_the_voucher_states_and_its_gas_back(
    world: World, client: Client, worker: Worker, amount: int
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    escrow, stake = client.get_state(), worker.get_state()
    done = worker.redeem(client, number, amount)
    after = worker.get_state()
    assert after.earned - stake.earned == amount - fee_of(amount)
    assert after.fee_due == fee_of(amount)
    # The worker pays every fee on the way, and nothing else: the rest of the gas is there again.
    fees = sum(int(transaction.cost) for transaction in done)
    assert (len(done), stake.gas - after.gas) == (3, fees)
    assert net(done, client.address) == -amount
    now = client.get_state()
    assert (escrow.reserved - now.reserved, escrow.free) == (amount, now.free)
    assert the_session(client, number).redeemed == amount


def test_worker_redeems_only_the_difference_each_time(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    amounts = (Nano.ton("0.1"), Nano.ton("0.100000001"), Nano.ton("0.7"), DEPOSIT)
    paid, fees = 0, 0
    for amount in amounts:
        worker.redeem(client, number, amount)
        fees += fee_of(amount - paid)
        paid = amount
        state = worker.get_state()
        assert (state.earned + state.fee_due, state.fee_due) == (paid, fees)
    assert client.get_state().reserved == job_gas(client)


def test_voucher_over_the_deposit_pays_what_is_there_and_the_rest_after_a_top_up(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    worker.redeem(client, number, Nano.ton(3))
    assert worker.get_state().earned + worker.get_state().fee_due == DEPOSIT
    body = redemption(client, worker, number, Nano.ton(3)).to_cell()
    refused(
        world.chain,
        client.address,
        lambda: worker.owner.send(client.address, GAS, body),
        ExitCode.NOTHING_DUE,
    )
    client.act(signing.top_up_session(number, Nano.ton("0.5")))
    worker.redeem(client, number, Nano.ton(3))
    assert worker.get_state().earned + worker.get_state().fee_due == Nano.ton("1.5")


def test_top_up_takes_its_amount_and_one_external_out_of_bucket_and_free_funds(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    before, session = client.get_state(), the_session(client, number)
    (added,) = client.act(signing.top_up_session(number, Nano(5)))
    after = client.get_state()
    assert before.bucket - after.bucket == 5 + gas_fee(c.GAS_EXTERNAL)
    assert before.free - after.free == 5 + added.cost
    assert after.reserved - before.reserved == 5
    now = the_session(client, number)
    assert (now.deposit, now.deadline, now.gas) == (DEPOSIT + 5, session.deadline, session.gas)


@pytest.mark.parametrize("how", ["alone", "in a batch"])
def test_client_gets_back_all_that_was_not_redeemed(
    world: World, client: Client, worker: Worker, how: str
) -> None:
    start = client.balance
    number, opened = client.open_session(worker, DEPOSIT)
    worker.redeem(client, number, Nano.ton("0.25"))
    other = signing.cancel_job(99)

    def act(action: signing.Action) -> list[Transaction]:
        if how == "alone":
            return client.act(action)
        done = client.act(action, other)
        skipped(client, done, ExitCode.NO_JOB)
        return done

    closed = act(signing.close_session(number))
    notice = the_payment(closed, m.SessionClosing)
    assert (notice.dst, notice.value) == (worker.address, 0)
    world.chain.set_now(settles_at(the_session(client, number)))
    settled = act(signing.settle_session(number))
    state = client.get_state()
    assert (state.reserved, state.jobs) == (0, 0)
    # The client pays its own externals and the notice; the redemption cost it nothing but the amount.
    own = sum(int(tx.cost) for tx in (*opened, closed[0], settled[0]))
    assert start - client.balance == Nano.ton("0.25") + own


def test_closing_draws_on_the_sessions_own_gas(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    gas = the_session(client, number).gas
    before = client.get_state()
    done = client.act(signing.close_session(number))
    spent = gas - the_session(client, number).gas
    assert spent == gas_fee(c.GAS_EXTERNAL) + 400_000
    assert done[0].cost <= spent
    assert before.reserved - client.get_state().reserved == spent
    assert client.get_state().free >= before.free, "closing takes nothing out of free funds"
    assert client.get_state().bucket == before.bucket


def test_closing_and_settling_work_with_nothing_free_and_an_empty_bucket(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    worker.accept_session(client, number)
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    assert (client.get_state().free, client.get_state().bucket) == (0, 0)
    client.act(signing.close_session(number))
    world.chain.set_now(settles_at(the_session(client, number)))
    client.act(signing.settle_session(number))
    assert (client.get_state().reserved, client.get_state().jobs) == (0, 0)
    assert worker.get_state().locked == 0
    assert client.get_state().free >= DEPOSIT


def test_owner_can_close_and_settle_without_the_hot_key(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    done = client.from_owner(m.CloseSession(query_id=0, id=number))
    assert the_payment(done, m.SessionClosing).dst == worker.address
    assert the_session(client, number).deadline == world.chain.now + 86_400
    world.chain.set_now(settles_at(the_session(client, number)))
    client.from_owner(m.SettleSession(id=number))
    assert (client.get_state().reserved, client.get_state().jobs) == (0, 0)


def test_session_settles_a_close_delay_after_its_expiry_however_it_was_closed(
    world: World, client: Client, worker: Worker
) -> None:
    expiry = world.chain.now + 3600
    late, _ = client.open_session(worker, lasts_s=3600)
    early, _ = client.open_session(worker, lasts_s=3600)
    client.act(signing.close_session(early))
    assert the_session(client, early).deadline == world.chain.now + 86_400
    world.chain.set_now(expiry + 5000)
    client.act(signing.close_session(late))
    # A client that closes after the expiry does not wait longer than one that does not.
    assert the_session(client, late).deadline == expiry + 86_400


def test_anyone_may_redeem_for_the_worker_who_gets_the_rest_of_the_gas_too(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    amount = Nano.ton("0.4")
    before, escrow = worker.get_state(), client.get_state()
    done = stranger.send(client.address, GAS, redemption(client, worker, number, amount).to_cell())
    after = worker.get_state()
    assert after.earned - before.earned == amount - fee_of(amount)
    handled, credited = at(done, client.address)[0], at(done, worker.address)[0]
    assert after.gas - before.gas == GAS - handled.cost - credited.cost
    assert client.get_state().free == escrow.free


def test_worker_can_close_at_once_and_the_client_has_the_rest(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    worker.redeem(client, number, Nano.ton("0.1"))
    before, stake = client.get_state(), worker.get_state()
    done = worker.redeem(client, number, Nano.ton("0.3"), close=True)
    after = client.get_state()
    assert (after.reserved, after.jobs) == (0, 0)
    assert after.free - before.free == Nano.ton("0.7") + job_gas(client)
    assert worker.get_state().earned - stake.earned == Nano.ton("0.198")
    assert net(done, client.address) == -Nano.ton("0.2")
    fees = sum(int(transaction.cost) for transaction in done)
    assert stake.gas - worker.get_state().gas == fees


@pytest.mark.parametrize("guarded", [False, True])
def test_worker_can_close_without_a_voucher_when_it_forgoes_the_rest(
    world: World, client: Client, worker: Worker, guarded: bool
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    gas = worker.get_state().gas
    accepted = worker.accept_session(client, number) if guarded else []
    done = worker.end_session(client, number)
    assert client.session(number) is None
    assert client.get_state().reserved == 0
    state = worker.get_state()
    assert (state.earned, state.locked) == (0, 0)
    spent = gas - state.gas - sum(int(transaction.cost) for transaction in (*accepted, *done))
    # The end of an acceptance is charged as on the largest table.
    assert 0 <= spent <= (gas_fee(c.GAS_ENTRY_TAIL) if guarded else 0)


def test_gas_of_an_acceptance_is_kept_and_comes_back_when_the_client_settles(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    before = client.get_state()
    worker.accept_session(client, number)
    back = the_session(client, number).back
    assert back > gas_fee(c.GAS_STAKE_CREDIT)
    assert (client.get_state().reserved - before.reserved, client.get_state().free >= before.free) == (
        back,
        True,
    )
    spent = worker.get_state().gas
    client.act(signing.close_session(number))
    world.chain.set_now(settles_at(the_session(client, number)))
    settled = client.act(signing.settle_session(number))
    release = the_payment(settled, m.Release)
    assert (release.dst, release.value) == (worker.address, back)
    assert (
        worker.get_state().gas - spent
        == back - at(settled, worker.address)[0].compute_fee - at(settled, worker.address)[0].storage_fee
    )


def test_largest_deposit_can_be_opened_and_redeemed(world: World, worker: Worker) -> None:
    client = rich_client(world)
    number, _ = client.open_session(worker, MOST - 1)
    worker.redeem(client, number, MOST - 2)
    client.act(signing.top_up_session(number, Nano(1)))
    worker.redeem(client, number, MOST, close=True)
    state = worker.get_state()
    assert (state.earned + state.fee_due, client.get_state().reserved) == (MOST, 0)


def test_client_cannot_open_with_nothing_or_beyond_53_bits(world: World, worker: Worker) -> None:
    client = rich_client(world)
    denied(client, lambda: client.open_session(worker, 0), ExitCode.BAD_DEPOSIT)
    denied(client, lambda: client.open_session(worker, MOST + 1), ExitCode.INTEGER_OUT_OF_RANGE)
    expiry = world.chain.now + 60
    key = client.voucher_key.verify_key
    for deposit, code in ((0, ExitCode.BAD_DEPOSIT), (MOST + 1, ExitCode.INTEGER_OUT_OF_RANGE)):
        action = signing.open_session(1, worker.address, key, Nano(deposit), expiry)
        done = client.act(action, signing.cancel_job(9), max_spend=2**54)
        skipped(client, done, code, ExitCode.NO_JOB)


@pytest.mark.parametrize("amount", [0, 2**53 - 1, 2**53, 2**64 - 1])
def test_client_cannot_top_up_by_nothing_or_beyond_53_bits(
    world: World, client: Client, worker: Worker, amount: int
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    action = signing.top_up_session(number, Nano(amount))
    denied(client, lambda: client.act(action), ExitCode.BAD_DEPOSIT)
    done = client.act(action, signing.close_session(number), max_spend=Nano.ton(1))
    skipped(client, done, ExitCode.BAD_DEPOSIT)
