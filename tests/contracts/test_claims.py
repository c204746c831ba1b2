"""Claims: they lock nothing, bring a bond along, and cost who loses the race nothing but gas."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.claims import claim_bond, late_compensation
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.getters import WorkerStakeGetters
from cocoon_sdk.sandbox import Actor, Transaction
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import status
from tests.contracts.test_parameters import TIMELOCK, changed, enact, govern, propose, sync
from tests.helpers.audit import (
    BURN,
    World,
    at,
    denied,
    entries,
    gas_fee,
    job_gas,
    locks,
    net,
    new_world,
    refused,
    rejected,
    sent,
    skips,
    state_of,
    the_payment,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

PRICE = Nano.ton(1)
BOND, SHARE = Nano.ton("0.04"), Nano.ton("0.01")
"""Late penalty and compensation of a job at that price."""
RESERVED = PRICE + Nano.ton("0.21")
"""What a job at that price sets aside, its gas aside."""


def open_job(world: World, client: Client, price: int = PRICE) -> m.Job:
    number, _ = client.open(world.suite.open_terms(price))
    return entries(client)[number]


def claim_of(job: m.Job, number: int = 1, **changes: int) -> m.Claim:
    binding = signing.binding_hash(job.params, job.terms)
    return m.Claim(**{"id": number, "binding": binding, "key_tag": 5, **changes})


def claim_cost(worker: Worker) -> int:
    return int(worker.get(WorkerStakeGetters.claim_cost()))


# -- the winner --------------------------------------------------------------------------------------------


def test_winner_leaves_bond_and_gas_and_locks_nothing(world: World, client: Client, worker: Worker) -> None:
    open_job(world, client)
    before, free = worker.get_state(), client.get_state().free
    claimed = worker.claim(client, 1)
    job, after = entries(client)[1], worker.get_state()
    assert (job.status, job.worker) == (1, signing.account_id(worker.address))
    assert job.deadline == world.chain.now + 3600
    assert (job.lock, job.amount, job.fee, job.collateral) == (0, 0, 0, Nano.ton(4))
    assert job.key_or_result == signing.key_tag(worker.claim_key)
    # All that came is kept for the worker but what the transaction took, or will have at most.
    (arrival,) = at(claimed, client.address)
    assert arrival.in_msg.value == BOND + gas_fee(c.GAS_ESCROW_WORK)
    assert BOND < job.payout <= arrival.in_msg.value - arrival.total_fees
    assert job.hold == RESERVED + job_gas(client) + job.payout
    assert client.get_state().free >= free
    assert (after.locked, after.bucket, locks(worker)) == (0, before.bucket, {})
    assert (after.stake, after.earned, after.seqno) == (before.stake, 0, before.seqno + 1)
    assert before.gas - after.gas == -net(claimed, worker.address) <= BOND + claim_cost(worker)


@pytest.mark.parametrize("end", ["accept", "accept signed", "finalize", "pay", "refund", "slash", "silence"])
def test_bond_comes_back_with_every_outcome(
    world: World, client: Client, worker: Worker, stranger: Actor, end: str
) -> None:
    open_job(world, client)
    worker.claim(client, 1)
    if end == "accept signed":
        kept = entries(client)[1].payout
        signature = worker.sign_result(client, 1, PRICE)
        done = client.act(signing.accept_signed(1, PRICE, hash_of("result"), signature, worker.claim_key))
        reward = the_payment(done, m.Reward)
        assert reward.value == PRICE + kept
        assert client.get_state().reserved == 0
        return
    worker.submit_claimed(client, 1, PRICE)
    job = entries(client)[1]
    assert (job.status, job.collateral, job.lock) == (2, worker.get_state().locked, min(locks(worker)))
    assert job.payout - PRICE >= BOND + gas_fee(c.GAS_STAKE_CREDIT)
    if end == "accept":
        done = client.act(signing.accept_result(1))
    elif end == "finalize":
        world.chain.set_now(job.deadline)
        done = stranger.send(client.address, GAS, m.Finalize(id=1).to_cell())
    else:
        client.act(signing.dispute_result(1))
        if end == "silence":
            world.chain.warp(3 * 86_400)
            done = stranger.send(client.address, GAS, m.Finalize(id=1).to_cell())
        else:
            pay, slash = (PRICE if end == "pay" else 0), (Nano.ton(4) if end == "slash" else 0)
            verdict = world.suite.verdict(client, worker, 1, pay, slash)
            done = stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
    kind = {"refund": m.Release, "slash": m.Slash}.get(end, m.Reward)
    outcome = the_payment(done, kind)
    owed = job.payout if kind is m.Reward else job.payout - PRICE
    assert outcome.value >= owed
    assert (client.get_state().reserved, locks(worker)) == (0, {})


def test_claimed_worker_ends_with_price_and_all_but_its_fees(
    world: World, client: Client, worker: Worker
) -> None:
    """To the nanoTON: what it has at the end is what it had, the price, and nothing else but its own fees."""
    open_job(world, client)
    before = worker.balance
    done = [*worker.claim(client, 1), *worker.submit_claimed(client, 1, PRICE)]
    done += client.act(signing.accept_result(1))
    spent = sum(int(t.cost) for t in at(done, worker.address))
    spent += sum(int(t.cost) for t in at(done, client.address) if t.in_msg.src == worker.address)
    # What the escrow puts aside for writing its table, and does not use, is the only other thing.
    assert 0 <= before + PRICE - spent - worker.balance < 2 * gas_fee(c.GAS_ENTRY_TAIL)


def test_claim_pays_its_own_way_at_a_deep_table(world: World, client: Client, worker: Worker) -> None:
    for _ in range(c.MAX_JOBS):
        client.open(world.suite.open_terms(Nano.ton("0.01")))
    free = client.get_state().free
    for number in (1, 64, 128):
        worker.claim(client, number)
        assert status(client, number) == 1
        assert client.get_state().free >= free


# -- losers --------------------------------------------------------------------------------------------------


def lost(world: World, worker: Worker, action: signing.Action, code: ExitCode) -> list[Transaction]:
    """Claim, and see it come back: the stake's seqno is all that changes, its fees all that it costs."""
    before, state = worker.balance, worker.get_state()
    done = worker.act(action)
    refusal = next(t for t in done if t.op == m.Claim.OPCODE and not t.in_msg.bounced)
    assert ExitCode(refusal.exit_code or 0) is code
    (back,) = refusal.out_msgs
    assert back.bounced
    bounced_fee = refusal.total_fees - refusal.compute_fee - refusal.storage_fee + back.fwd_fee
    assert back.value == refusal.in_msg.value - refusal.compute_fee - bounced_fee
    after = worker.get_state()
    assert (after.seqno, after.gas) == (state.seqno + 1, state.gas - (before - worker.balance))
    assert (after.stake, after.earned, after.locked, after.bucket) == (
        state.stake,
        state.earned,
        state.locked,
        state.bucket,
    )
    spent = sum(int(t.cost) for t in done if t.address == worker.address or t is refusal)
    assert before - worker.balance == spent - refusal.storage_fee
    return done


def test_loser_gets_its_value_back_to_the_nanoton(world: World, client: Client, worker: Worker) -> None:
    open_job(world, client)
    losers = [world.worker("second"), world.worker("third")]
    actions = [loser.claim_action(client, 1) for loser in losers]
    worker.claim(client, 1)
    before = state_of(world.chain, client.address)
    for loser, action in zip(losers, actions, strict=True):
        lost(world, loser, action, ExitCode.TAKEN)
    assert state_of(world.chain, client.address) == before
    # Nor can the winner claim once more, and pay twice.
    lost(world, worker, losers[0].claim_action(client, 1), ExitCode.TAKEN)


def test_claim_comes_back_when_it_is_premature_or_late(world: World, client: Client, worker: Worker) -> None:
    job = open_job(world, client)
    later = signing.claim(
        2,
        signing.binding_hash(job.params, job.terms),
        m.ClaimTarget(escrow=signing.account_id(client.address), bond=BOND, key_tag=1),
    )
    lost(world, worker, later, ExitCode.NO_JOB)
    client.open(world.suite.open_terms(PRICE, claim_period=job.deadline + 1 - world.chain.now))
    world.chain.set_now(job.deadline + 1)
    lost(world, worker, worker.claim_action(client, 1), ExitCode.TOO_LATE)
    # The last second is in time.
    worker.claim(client, 2)
    assert status(client, 2) == 1


@pytest.mark.parametrize("wrong", ["terms", "parameters", "another worker", "window 0"])
def test_claim_comes_back_when_it_does_not_fit(
    world: World, client: Client, worker: Worker, wrong: str
) -> None:
    if wrong == "parameters":
        # The escrow is not synced yet.
        enact(world, fee_bps=200)
    if wrong == "window 0":
        client.open(world.suite.directed_terms(worker, window=0))
    elif wrong == "another worker":
        client.open(world.suite.directed_terms(world.worker("other")))
    else:
        open_job(world, client)
    job = entries(client)[1]
    params, terms = job.params, job.terms
    if wrong == "terms":
        terms = world.suite.open_terms(PRICE + 1).to_cell()
    elif wrong == "parameters":
        params = world.suite.params_cell
        assert params.hash != job.params.hash
    target = m.ClaimTarget(escrow=signing.account_id(client.address), bond=BOND, key_tag=1)
    lost(world, worker, signing.claim(1, signing.binding_hash(params, terms), target), ExitCode.UNFIT_CLAIM)


def test_worker_can_claim_under_the_parameters_of_the_job_only(
    world: World, client: Client, worker: Worker
) -> None:
    """A job keeps the parameters that it was opened under, whatever both sides hold when it is claimed."""
    govern(world, propose(world, changed(world, late_penalty_bps=1000, compensation_bps=50).to_cell()))
    world.chain.warp(TIMELOCK)
    old = open_job(world, client)
    govern(world, m.Execute(query_id=0))
    sync(world, client, worker)
    client.open(world.suite.open_terms(PRICE, claim_period=7200))
    new = entries(client)[2]
    assert (claim_bond(PRICE, old.params), claim_bond(PRICE, new.params)) == (BOND, Nano.ton("0.1"))
    assert (old.late_bps, new.late_bps) == (400, 1000)
    for number, share in ((1, SHARE), (2, Nano.ton("0.005"))):
        worker.claim(client, number)
        assert status(client, number) == 1
        world.chain.warp(3601)
        kept = entries(client)[number].payout
        (burning,) = at(client.act(signing.reclaim_late(number)), BURN)
        assert burning.in_msg.value == kept - share


# -- the bond ------------------------------------------------------------------------------------------------


@cache
def at_leisure() -> tuple[World, Client]:
    """One network for many examples, each on its own."""
    world = new_world()
    return world, world.client(deposit=Nano.ton(9_000), daily_limit=Nano.ton(100_000))


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(price=st.one_of(st.sampled_from([1, 24, 25, 26, 9_999, 10_000, 10_001]), st.integers(1, 10**12)))
def test_least_bond_is_the_one_that_both_sides_compute(price: int) -> None:
    """Rounded up, to the nanoTON: with it a claim is taken, with one less it comes back."""
    world, client = at_leisure()
    source = world.suite.governor.address
    with world.chain.isolated():
        for _ in range(2):
            client.open(world.suite.open_terms(price))
        jobs = entries(client)
        bond = claim_bond(price, jobs[1].params)
        assert (bond - 1) * 10_000 < price * 400 <= bond * 10_000
        world.chain.send_internal(client.address, bond + GAS, claim_of(jobs[1]).to_cell(), src=source)
        overhead = bond + GAS - entries(client)[1].payout
        for value, taken in ((overhead + bond - 1, False), (overhead + bond, True)):
            body = claim_of(jobs[2], 2).to_cell()
            arrival, *_ = world.chain.send_internal(client.address, value, body, src=source)
            assert (arrival.exit_code == 0) is taken
            assert taken or ExitCode(arrival.exit_code or 0) is ExitCode.LOW_VALUE
        assert entries(client)[2].payout == bond
        world.chain.warp(3601)
        burned = sum(t.in_msg.value for t in at(client.act(signing.reclaim_late(2)), BURN))
        assert burned == bond - late_compensation(price, jobs[2].params)


def test_worker_cannot_claim_with_too_little_gas(world: World, client: Client) -> None:
    """Neither stake nor earnings pay for a bond; the last nanoTON of gas does."""
    worker = world.worker("poor")
    open_job(world, client)
    action = worker.claim_action(client, 1)
    # The import fee is taken before the contract looks.
    imported = int(world.worker("probe").act(action)[0].import_fee)
    needed = BOND + claim_cost(worker) + imported
    for more, enough in ((-1, False), (0, True)):
        spare = worker.get_state().gas
        if spare > needed + more:
            body = m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(spare - needed - more))
            worker.from_owner(body)
        else:
            worker.owner.send(worker.address, GAS)
            body = m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(worker.get_state().gas - needed - more))
            worker.from_owner(body)
        assert worker.get_state().gas == needed + more
        if not enough:
            denied(worker, lambda: worker.act(action), ExitCode.INSUFFICIENT_FREE)
        else:
            worker.act(action)
    state = worker.get_state()
    assert (state.stake, state.gas >= 0) == (Nano.ton(100), True)


def test_worker_cannot_claim_with_less_than_the_bond(world: World, client: Client, worker: Worker) -> None:
    """What is named too small by the operator may be made up by gas that is left; nothing else may."""
    open_job(world, client)
    lost(world, worker, worker.claim_action(client, 1, 0), ExitCode.LOW_VALUE)
    lost(world, worker, worker.claim_action(client, 1, BOND - gas_fee(c.GAS_ESCROW_WORK)), ExitCode.LOW_VALUE)
    worker.act(worker.claim_action(client, 1, BOND + 5))
    assert status(client, 1) == 1


@pytest.mark.parametrize("who", ["hot key", "anyone"])
def test_claimer_that_never_submits_loses_its_bond_and_blocks_the_job_for_its_work_period(
    world: World, client: Client, worker: Worker, stranger: Actor, who: str
) -> None:
    open_job(world, client)
    worker.claim(client, 1)
    job, gas = entries(client)[1], worker.get_state().gas
    world.chain.set_now(job.deadline)
    denied(client, lambda: client.act(signing.reclaim_late(1)), ExitCode.TOO_EARLY)
    reclaim = m.ReclaimLate(id=1).to_cell()
    refused(
        world.chain,
        client.address,
        lambda: stranger.send(client.address, GAS, reclaim),
        ExitCode.TOO_EARLY,
    )
    world.chain.warp(1)
    balance, free = client.balance, client.get_state().free
    if who == "anyone":
        done = stranger.send(client.address, GAS, reclaim)
    else:
        done = client.act(signing.reclaim_late(1))
    assert client.job(1) is None
    # Compensation stays here, all else that the worker left is burned; nothing of it can bounce.
    burned = job.payout - SHARE
    (burning,) = at(done, BURN)
    assert (burning.in_msg.value, burning.in_msg.bounce) == (burned, False)
    assert at(done, worker.address) == []
    (arrival,) = at(done, client.address)
    brought = GAS if who == "anyone" else 0
    assert client.balance == balance + brought - burned - arrival.cost
    assert client.get_state().reserved == 0
    assert client.get_state().free == free + job.hold - burned + brought - arrival.cost
    state = worker.get_state()
    assert (state.stake, state.gas, state.locked) == (Nano.ton(100), gas, 0)


def test_client_with_nothing_free_can_reclaim_by_an_empty_bucket(
    world: World, client: Client, worker: Worker
) -> None:
    for _ in range(8):
        open_job(world, client)
    for number in range(1, 9):
        worker.claim(client, number)
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    world.chain.warp(3601)
    for number in range(1, 9):
        client.act(signing.reclaim_late(number))
    assert (client.get_state().jobs, client.get_state().reserved) == (0, 0)


# -- thieves -----------------------------------------------------------------------------------------------


def test_stranger_cannot_claim_for_a_worker(world: World, client: Client, worker: Worker) -> None:
    open_job(world, client)
    action = worker.claim_action(client, 1)
    rejected(world.chain, worker, worker.external(action, key=key_of("thief")), ExitCode.BAD_SIGNATURE)
    external = worker.external(action)
    world.chain.send_external(external)
    assert status(client, 1) == 1
    rejected(world.chain, worker, external, ExitCode.BAD_SEQNO)


def test_operator_thief_can_send_spare_gas_and_nothing_else_anywhere(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """A claim's account is not derived, no more than a finalisation's: the bound is the spare gas. (Deriving
    it would cost 0.0003 TON per claim, and a thief's own genuine escrow would still get its share.)
    """
    number, _ = client.open(world.suite.directed_terms(worker, price=PRICE))
    worker.submit(client, number, PRICE)
    client.act(signing.accept_result(number))
    before = worker.get_state()
    target = m.ClaimTarget(
        escrow=signing.account_id(stranger.address), bond=Nano(before.gas - claim_cost(worker)), key_tag=1
    )
    # The import fee was not counted: nothing is left of that for a bond.
    denied(worker, lambda: worker.act(signing.claim(1, 1, target)), ExitCode.INSUFFICIENT_FREE)
    most = Nano(before.gas - claim_cost(worker) - 1_000_000)
    target = m.ClaimTarget(escrow=signing.account_id(stranger.address), bond=most, key_tag=1)
    worker.act(signing.claim(1, 1, target))
    after = worker.get_state()
    assert (after.stake, after.earned, after.fee_due) == (before.stake, before.earned, before.fee_due)
    assert 0 <= after.gas < claim_cost(worker)
    assert worker.balance >= after.stake + after.earned + after.fee_due + c.STAKE_RENT


def test_batch_of_claims_takes_no_more_than_its_maximum(world: World, client: Client, worker: Worker) -> None:
    for _ in range(4):
        open_job(world, client)
    actions = [worker.claim_action(client, number) for number in range(1, 5)]
    # What a batch of four costs anyway is part of it.
    spend = 3 * (BOND + claim_cost(worker)) - int(worker.get(WorkerStakeGetters.external_cost(4)))
    before = worker.get_state().gas
    done = worker.act(*actions, max_spend=spend)
    assert skips(done, worker.address) == [(4, ExitCode.INSUFFICIENT_FREE)]
    assert [status(client, number) for number in range(1, 5)] == [1, 1, 1, 0]
    assert before - worker.get_state().gas <= spend + int(worker.get(WorkerStakeGetters.external_cost(4)))


# -- crossings ---------------------------------------------------------------------------------------------


def test_claim_that_crosses_a_cancellation_comes_back(world: World, client: Client, worker: Worker) -> None:
    open_job(world, client)
    world.chain.hold()
    worker.claim(client, 1)
    client.act(signing.cancel_job(1))
    done = world.chain.release()
    refusal = at(done, client.address)[0]
    assert ExitCode(refusal.exit_code or 0) is ExitCode.NO_JOB
    assert (client.get_state().reserved, locks(worker)) == (0, {})
    assert at(done, worker.address)[0].in_msg.bounced


def test_client_cannot_cancel_a_job_that_was_just_claimed(
    world: World, client: Client, worker: Worker
) -> None:
    open_job(world, client)
    external = client.external(signing.cancel_job(1))
    worker.claim(client, 1)
    rejected(world.chain, client, external, ExitCode.WRONG_STATE)


def test_claim_that_crosses_an_acceptance_comes_back(world: World, client: Client, worker: Worker) -> None:
    client.open(world.suite.directed_terms(worker, price=PRICE))
    signature = worker.sign_result(client, 1, PRICE)
    world.chain.hold()
    worker.claim(client, 1)
    client.act(signing.accept_signed(1, PRICE, hash_of("result"), signature))
    done = world.chain.release()
    assert ExitCode(next(t.exit_code for t in done if t.op == m.Claim.OPCODE) or 0) is ExitCode.NO_JOB
    state = worker.get_state()
    assert (state.earned, state.fee_due) == (Nano.ton("0.99"), Nano.ton("0.01"))


def test_acceptance_that_crosses_a_claim_needs_the_key_again(
    world: World, client: Client, worker: Worker
) -> None:
    """Signed for an offer, it finds a claim, which shows only the end of the key: refused, free of charge."""
    client.open(world.suite.directed_terms(worker, price=PRICE))
    signature = worker.sign_result(client, 1, PRICE)
    external = client.external(signing.accept_signed(1, PRICE, hash_of("result"), signature))
    worker.claim(client, 1)
    rejected(world.chain, client, external, ExitCode.CELL_UNDERFLOW)
    client.act(signing.accept_signed(1, PRICE, hash_of("result"), signature, worker.claim_key))
    assert worker.get_state().earned == Nano.ton("0.99")


def test_claims_of_two_workers_that_cross_bind_the_one_that_arrives_first(
    world: World, client: Client, worker: Worker
) -> None:
    rival = world.worker("rival")
    open_job(world, client)
    world.chain.hold()
    worker.claim(client, 1)
    rival.claim(client, 1)
    world.chain.step(1)
    world.chain.release()
    assert entries(client)[1].worker == signing.account_id(rival.address)
    assert len(sent(rival.submit_claimed(client, 1, PRICE), m.SubmitClaimed)) == 1
    assert (locks(worker), worker.get_state().locked) == ({}, 0)
