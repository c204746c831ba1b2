"""Whole lives of jobs on the contracts alone: who ends up with what, to the nanoTON."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.getters import EscrowGetters
from cocoon_sdk.sandbox import Transaction
from cocoon_sdk.types import Nano
from tests.helpers.audit import BURN, World, at, audited, denied, net, refused, skipped, the_payment
from tests.helpers.suite import GAS, Client, Worker, hash_of

PRICE = Nano.ton(1)
FEE = Nano.ton("0.01")


@pytest.fixture
def world() -> Iterator[World]:
    yield from audited()


class Books:
    """Balances at the start, and every transaction since."""

    def __init__(self, world: World, *accounts: Client | Worker) -> None:
        self.chain, self.accounts = world.chain, accounts
        self.start = {account.address: int(account.balance) for account in accounts}
        self.lt = world.chain.lt

    def all(self) -> list[Transaction]:
        return self.chain.transactions(limit=10**6, after_lt=self.lt)[::-1]

    def close(self) -> None:
        """Every account's change is explained by its messages and its own fees."""
        for account in self.accounts:
            explained = self.start[account.address] + net(self.all(), account.address)
            assert account.balance == explained

    def spent_by(self, account: Client | Worker) -> int:
        return self.start[account.address] - int(account.balance)


def idle(client: Client, jobs: int = 0) -> None:
    """Nothing of the client's money is bound any more."""
    state = client.get_state()
    assert (state.jobs, state.reserved) == (jobs, 0)


# -- paid ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0, 1, 100, 333_333_333, PRICE])
def test_client_can_accept_a_submitted_result_of_a_directed_job(world: World, amount: int) -> None:
    client, worker = world.client(), world.worker()
    books = Books(world, client, worker)
    number, opened = client.open(world.suite.directed_terms(worker, price=PRICE))
    assert at(opened, worker.address)[0].op == m.JobOffer.OPCODE
    worker.submit(client, number, amount)
    job = client.job(number)
    assert job is not None
    accepted = client.act(signing.accept_result(number))
    reward = the_payment(accepted, m.Reward)
    assert reward.value == job.payout
    state = worker.get_state()
    fee = -(-amount * 100 // 10_000)
    assert (state.earned, state.fee_due, len(worker.locks()), state.stake) == (
        amount - fee,
        fee,
        0,
        Nano.ton(100),
    )
    books.close()
    idle(client)
    # The client paid the amount, and besides it less than a hundredth of a TON of gas.
    assert 0 <= books.spent_by(client) - amount < Nano.ton("0.03")
    assert 0 <= books.spent_by(worker) + amount < Nano.ton("0.03")
    assert world.chain.balance(BURN) == 0


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("amount", [0, 1, Nano.ton("0.7")])
def test_client_can_end_a_job_with_the_workers_signature(world: World, claimed: bool, amount: int) -> None:
    client, worker = world.client(), world.worker()
    books = Books(world, client, worker)
    number, _ = client.open(world.suite.directed_terms(worker, price=PRICE))
    key = None
    if claimed:
        worker.claim(client, number)
        assert worker.locks() == {}
        key = worker.claim_key
    signature = worker.sign_result(client, number, amount)
    ended = client.act(signing.accept_signed(number, Nano(amount), hash_of("result"), signature, key))
    skipped(client, ended)
    state = worker.get_state()
    assert (state.earned + state.fee_due, len(worker.locks()), state.locked) == (amount, 0, 0)
    # The bond is back: all that is not promised is spare.
    assert state.gas == state.balance - state.stake - amount - c.STAKE_RENT
    books.close()
    idle(client)


def test_cooperative_end_takes_four_transactions(world: World) -> None:
    client, worker = world.client(), world.worker()
    number, opened = client.open(world.suite.directed_terms(worker))
    signature = worker.sign_result(client, number, PRICE)
    ended = client.act(signing.accept_signed(number, PRICE, hash_of("result"), signature))
    assert len(opened) + len(ended) == 4


def test_window_zero_pays_at_once(world: World) -> None:
    client, worker = world.client(), world.worker()
    books = Books(world, client, worker)
    number, _ = client.open(world.suite.directed_terms(worker, window=0))
    assert client.get_state().reserved == PRICE + client.get(EscrowGetters.job_gas())
    submitted = worker.submit(client, number, Nano.ton("0.25"))
    assert [t.op for t in submitted[1:]] == [m.Submit.OPCODE, m.Reward.OPCODE]
    state = worker.get_state()
    assert (state.earned, state.fee_due, len(worker.locks())) == (Nano.ton("0.2475"), Nano.ton("0.0025"), 0)
    books.close()
    idle(client)


@pytest.mark.parametrize("caller", ["stranger", "operator"])
def test_anyone_can_finalize_after_the_window(world: World, caller: str) -> None:
    client, worker = world.client(), world.worker()
    stranger = world.chain.actor("stranger")
    number, _ = client.open(world.suite.directed_terms(worker, price=PRICE))
    worker.submit(client, number, PRICE)
    job = client.job(number)
    assert job is not None
    body = m.Finalize(id=number).to_cell()
    world.chain.set_now(job.deadline - 1)
    refused(world.chain, client.address, lambda: stranger.send(client.address, GAS, body), ExitCode.TOO_EARLY)
    world.chain.warp(1)
    books = Books(world, client, worker)
    if caller == "stranger":
        done = stranger.send(client.address, GAS, body)
    else:
        done = worker.act(signing.finalize(number, client.address), max_spend=Nano.ton("0.02"))
    assert the_payment(done, m.Reward).value > job.payout
    state = worker.get_state()
    assert (state.earned, state.fee_due, len(worker.locks())) == (PRICE - FEE, FEE, 0)
    books.close()
    idle(client)
    assert books.spent_by(client) - at(done, client.address)[0].storage_fee == job.payout
    refused(world.chain, client.address, lambda: stranger.send(client.address, GAS, body), ExitCode.NO_JOB)


# -- nobody comes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["hot key", "owner"])
@pytest.mark.parametrize("directed", [True, False])
def test_client_can_take_back_a_job_that_nobody_serves(world: World, who: str, directed: bool) -> None:
    client, worker = world.client(), world.worker()
    terms = world.suite.directed_terms(worker) if directed else world.suite.open_terms()
    number, _ = client.open(terms)
    job = client.job(number)
    assert job is not None
    body = m.CancelJob(query_id=0, id=number)
    if directed:
        # The named worker may be at work until its deadline.
        world.chain.set_now(job.deadline)
        if who == "owner":
            refused(world.chain, client.address, lambda: client.from_owner(body), ExitCode.TOO_EARLY)
        else:
            denied(client, lambda: client.act(signing.cancel_job(number)), ExitCode.TOO_EARLY)
        world.chain.warp(1)
    books = Books(world, client, worker)
    done = client.from_owner(body) if who == "owner" else client.act(signing.cancel_job(number))
    assert at(done, client.address)[0].success
    books.close()
    idle(client)
    (cancelled,) = at(done, client.address)
    attached = GAS if who == "owner" else 0
    assert books.spent_by(client) == cancelled.total_fees - attached
    assert worker.locks() == {}


def test_client_cannot_cancel_a_claimed_job(world: World) -> None:
    client, worker = world.client(), world.worker()
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    job = client.job(number)
    world.chain.warp(90_000)
    denied(client, lambda: client.act(signing.cancel_job(number)), ExitCode.WRONG_STATE)
    refused(
        world.chain,
        client.address,
        lambda: client.from_owner(m.CancelJob(query_id=0, id=number)),
        ExitCode.WRONG_STATE,
    )
    assert client.job(number) == job


def test_three_workers_can_race_and_one_wins(world: World) -> None:
    """All three claims are under way before the first arrives; the losers get their bonds back."""
    client = world.client()
    rivals = [world.worker(f"rival {i}") for i in range(3)]
    number, _ = client.open(world.suite.open_terms(PRICE))
    books = Books(world, client, *rivals)
    world.chain.hold()
    for rival in rivals:
        rival.claim(client, number)
    before = [rival.get_state().gas for rival in rivals]
    world.chain.step(1)  # the second one's claim arrives first
    world.chain.release()
    job = client.job(number)
    assert job is not None
    winner = rivals[1]
    assert signing.account_address(job.worker) == winner.address
    assert [(rival.locks(), rival.get_state().locked) for rival in rivals] == [({}, 0)] * 3
    back = [rival.get_state().gas - gas for rival, gas in zip(rivals, before, strict=True)]
    assert back[1] == 0
    assert min(back[0], back[2]) > Nano.ton("0.04")
    winner.submit_claimed(client, number, PRICE)
    client.act(signing.accept_result(number))
    assert winner.get_state().earned == PRICE - FEE
    books.close()
    idle(client)


@pytest.mark.parametrize("caller", ["hot key", "stranger"])
@pytest.mark.parametrize("price", ["0.001", "1", "30"])
def test_worker_pays_the_late_penalty_when_it_does_not_deliver(world: World, caller: str, price: str) -> None:
    client, worker = world.client(), world.worker(stake=Nano.ton(200))
    stranger = world.chain.actor("stranger")
    total = Nano.ton(price)
    number, _ = client.open(world.suite.open_terms(total))
    worker.claim(client, number)
    job, target = client.job(number), worker.target(client, number)
    assert job is not None
    world.chain.set_now(job.deadline)
    body = m.ReclaimLate(id=number).to_cell()
    refused(world.chain, client.address, lambda: stranger.send(client.address, GAS, body), ExitCode.TOO_EARLY)
    denied(client, lambda: client.act(signing.reclaim_late(number)), ExitCode.TOO_EARLY)
    world.chain.warp(1)
    books = Books(world, client, worker)
    if caller == "stranger":
        done = stranger.send(client.address, GAS, body)
    else:
        done = client.act(signing.reclaim_late(number))
    back = int(total) // 100
    (burned,) = at(done, BURN)
    assert burned.in_msg.value == job.payout - back
    assert job.payout >= int(total) * 4 // 100
    assert at(done, worker.address) == []
    state = worker.get_state()
    assert (state.stake, state.locked, len(worker.locks()), state.earned) == (Nano.ton(200), 0, 0, 0)
    books.close()
    idle(client)
    refused(world.chain, client.address, lambda: stranger.send(client.address, GAS, body), ExitCode.NO_JOB)
    # A submission that crosses finds nothing, and brings lock and gas back.
    gas = worker.get_state().gas
    worker.act(signing.submit_claimed(number, PRICE, target, hash_of("result")))
    assert (worker.locks(), worker.get_state().locked) == ({}, 0)
    assert gas - worker.get_state().gas < Nano.ton("0.01")


# -- crossing messages ---------------------------------------------------------------------------------


def test_submission_that_crosses_a_signed_end_frees_its_lock(world: World) -> None:
    client, worker = world.client(), world.worker()
    number, _ = client.open(world.suite.directed_terms(worker))
    signature = worker.sign_result(client, number, Nano.ton("0.4"))
    target = worker.target(client, number)
    world.chain.hold()
    client.act(signing.accept_signed(number, Nano.ton("0.4"), hash_of("result"), signature))
    worker.submit(client, number, PRICE, target=target)
    # The submission arrives before the reward, although it was sent after.
    index = next(i for i, p in enumerate(world.chain.pending) if p.op == m.Submit.OPCODE)
    world.chain.step(index)
    world.chain.release()
    state = worker.get_state()
    assert (len(worker.locks()), state.locked, state.earned + state.fee_due) == (0, 0, Nano.ton("0.4"))
    idle(client)


def test_claim_that_crosses_a_cancellation_comes_back(world: World) -> None:
    client, worker = world.client(), world.worker()
    number, _ = client.open(world.suite.open_terms())
    world.chain.hold()
    worker.claim(client, number)
    client.act(signing.cancel_job(number))
    world.chain.release()
    assert (len(worker.locks()), worker.get_state().stake) == (0, Nano.ton(100))
    idle(client)


def test_late_gone_cannot_free_what_a_younger_submission_locked(world: World) -> None:
    """The answer to a premature submission names what that one locked: the other's part of the sum stays."""
    client, worker = world.client(), world.worker()
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    world.chain.hold()
    worker.submit(client, number, PRICE)  # a claimed job takes no submission without proof: Gone
    worker.submit_claimed(client, number, PRICE)
    both = worker.lock(client)
    assert both is not None
    assert both.collateral == Nano.ton(8)
    world.chain.release()
    job, kept = client.job(number), worker.lock(client)
    assert job is not None
    assert kept is not None
    assert (job.status, kept.collateral) == (2, Nano.ton(4))
    assert worker.get_state().locked == Nano.ton(4)
    client.act(signing.accept_result(number))
    assert worker.locks() == {}
    idle(client)


def test_jobs_of_one_client_can_share_a_lock_and_end_in_any_order(world: World) -> None:
    client, worker = world.client(), world.worker()
    books = Books(world, client, worker)
    prices = [Nano.ton("0.1"), Nano.ton("0.2"), Nano.ton("0.3")]
    numbers = [client.open(world.suite.directed_terms(worker, price=price))[0] for price in prices]
    worker.claim(client, numbers[1])
    for number, price in zip(numbers, prices, strict=True):
        (worker.submit_claimed if number == numbers[1] else worker.submit)(client, number, price)
    assert (len(worker.locks()), worker.get_state().locked) == (1, 4 * sum(prices))
    client.act(signing.accept_result(numbers[1]))
    lock = worker.lock(client)
    assert lock is not None
    assert lock.collateral == 4 * (prices[0] + prices[2])
    client.act(signing.dispute_result(numbers[2]))
    verdict = world.suite.verdict(client, worker, numbers[2], 0, 0)
    world.chain.actor("anyone").send(client.address, Nano.ton("0.2"), verdict.to_cell())
    job = client.job(numbers[0])
    assert job is not None
    world.chain.set_now(job.deadline)
    world.chain.actor("anyone").send(client.address, GAS, m.Finalize(id=numbers[0]).to_cell())
    assert worker.lock(client) is None
    state = worker.get_state()
    assert (len(worker.locks()), state.locked) == (0, 0)
    # Nothing is set aside any more: all that is not promised is spare.
    promised = state.stake + state.earned + state.fee_due
    assert state.gas == state.balance - promised - c.STAKE_RENT
    books.close()
    idle(client)


def test_expired_lock_of_one_client_cannot_touch_anothers(world: World) -> None:
    old, young, worker = world.client("old"), world.client("young"), world.worker()
    stranger = world.chain.actor("stranger")
    for client in (old, young):
        number, _ = client.open(world.suite.directed_terms(worker))
        worker.submit(client, number, PRICE)
        world.chain.warp(60)
    lock = worker.lock(old)
    assert lock is not None
    body = m.ReleaseExpired(lock=worker.lock_number(old)).to_cell()
    world.chain.set_now(lock.end)
    refused(
        world.chain, worker.address, lambda: stranger.send(worker.address, GAS, body), ExitCode.LOCK_ALIVE
    )
    world.chain.warp(1)
    stranger.send(worker.address, GAS, body)
    assert worker.lock(old) is None
    kept = worker.lock(young)
    assert kept is not None
    assert (len(worker.locks()), worker.get_state().locked) == (1, kept.collateral)
    refused(world.chain, worker.address, lambda: stranger.send(worker.address, GAS, body), ExitCode.NO_LOCK)


def test_dispute_that_crosses_finalisation_changes_nothing(world: World) -> None:
    client, worker = world.client(), world.worker()
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, PRICE)
    world.chain.warp(3600)
    world.chain.actor("stranger").send(client.address, GAS, m.Finalize(id=number).to_cell())
    denied(client, lambda: client.act(signing.dispute_result(number)), ExitCode.NO_JOB)
    assert worker.get_state().earned == PRICE - FEE
