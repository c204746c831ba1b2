"""How jobs went and where they stand, as `cocoon explain` tells it: the ways that a job can go."""

from __future__ import annotations

import pytest

from cocoon_sdk.data import InlineData, encode_data
from cocoon_sdk.explain.job_facts import (
    ArbiterPaid,
    CanDo,
    JobCancelled,
    JobClaimed,
    JobDisputed,
    JobOpened,
    JobReclaimed,
    JobStatus,
    JobTotals,
    MessageRefused,
    PaidBecause,
    PayloadPlace,
    Refusal,
    ResultSubmitted,
    SlashArrived,
    StandsNow,
    VerdictExecuted,
    WorkerPaid,
    WorkerSlashed,
    WorkRefused,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import fees
from cocoon_sdk.types import Nano
from tests.helpers.explanations import kinds, only, status, tell
from tests.helpers.suite import GAS, Client, Suite, Worker, hash_of

HOUR = 3600


async def test_reader_can_follow_a_directed_job_from_opening_to_payment(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob), data=encode_data(InlineData(b"sealed")))
    suite.chain.warp(60)
    bob.submit(alice, job_id, Nano.ton("0.7"))
    suite.chain.warp(60)
    transactions = alice.act(signing.accept_result(job_id))

    told = await tell(suite, alice, job_id)

    assert kinds(told) == [JobOpened, ResultSubmitted, WorkerPaid]
    opened, paid = only(told, JobOpened), only(told, WorkerPaid)
    assert (opened.worker, opened.payload, opened.price) == (bob.address, PayloadPlace.INLINE, Nano.ton(1))
    assert (paid.amount, paid.fee, paid.because) == (
        Nano.ton("0.7"),
        Nano.ton("0.007"),
        PaidBecause.ACCEPTED,
    )
    assert paid.at == suite.chain.now
    assert status(told) is JobStatus.ENDED
    assert kinds(told, "What can happen next") == []
    totals = only(told, JobTotals)
    assert (totals.to_worker, totals.protocol_fee) == (Nano.ton("0.693"), Nano.ton("0.007"))
    assert totals.client_network_fees >= fees([transactions[0]])
    assert "the client accepted the result" in str(told)


async def test_amounts_set_aside_are_those_of_the_contract(suite: Suite, alice: Client, bob: Worker) -> None:
    gas: set[int] = set()
    for changes in ({}, {"items": 64}, {"window": 0}, {"max_price": Nano(7)}):
        job_id, _ = alice.open(suite.directed_terms(bob, **changes))
        told, entry = await tell(suite, alice, job_id), alice.job(job_id)
        assert entry is not None
        opened = only(told, JobOpened)
        assert (opened.price, opened.collateral) == (entry.price, entry.collateral)
        assert only(told, StandsNow).held == entry.hold
        gas.add(entry.hold - opened.price - opened.bond)
    assert len(gas) == 1  # besides price and bond, every job sets the same gas aside
    assert gas.pop() > 0


async def test_reader_learns_the_deadline_and_what_follows_it(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob))
    bob.submit(alice, job_id, Nano.ton("0.7"))
    entry = alice.job(job_id)
    assert entry is not None
    told = await tell(suite, alice, job_id)
    assert status(told) is JobStatus.SUBMITTED
    steps = [fact for fact in told.facts if isinstance(fact, CanDo)]
    assert [(step.who, step.since, step.until) for step in steps] == [
        ("the client", None, entry.deadline - 1),
        ("the client", None, None),
        ("anyone", entry.deadline, None),
    ]
    assert "(in 1 h) anyone can finalise" in str(told)


async def test_reader_can_see_a_job_without_window_paid_at_once(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob, window=0))
    bob.submit(alice, job_id, Nano.ton("0.2"))
    told = await tell(suite, alice, job_id)
    assert kinds(told) == [JobOpened, ResultSubmitted, WorkerPaid]
    assert only(told, WorkerPaid).because is PaidBecause.NO_WINDOW


async def test_reader_can_see_a_cooperative_end(suite: Suite, alice: Client, bob: Worker) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob))
    amount, result = Nano.ton("0.5"), hash_of("result")
    alice.act(signing.accept_signed(job_id, amount, result, bob.sign_result(alice, job_id, amount, result)))
    paid = only(await tell(suite, alice, job_id), WorkerPaid)
    assert (paid.amount, paid.because, paid.result_hash) == (amount, PaidBecause.ACCEPTED_SIGNED, result)


async def test_reader_can_see_who_finalised_after_the_window(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob))
    bob.submit(alice, job_id, Nano.ton("0.7"))
    stranger = suite.chain.actor("stranger")
    stranger.send(alice.address, GAS, m.Finalize(id=job_id).to_cell())
    suite.chain.warp(HOUR)
    stranger.send(alice.address, GAS, m.Finalize(id=job_id).to_cell())
    told = await tell(suite, alice, job_id)
    assert kinds(told) == [JobOpened, ResultSubmitted, MessageRefused, WorkerPaid]
    refused, paid = only(told, MessageRefused), only(told, WorkerPaid)
    assert (refused.sender, refused.name, refused.message) == (stranger.address, "TOO_EARLY", "finalize")
    assert (paid.because, paid.by) == (PaidBecause.WINDOW_OVER, stranger.address)


async def test_reader_can_follow_the_competition_for_an_open_job(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    carol = suite.worker("carol")
    job_id, _ = alice.open(suite.open_terms())
    slower = carol.claim_action(alice, job_id)
    bob.claim(alice, job_id)
    carol.act(slower)
    bob.submit_claimed(alice, job_id, Nano.ton("0.4"))
    suite.chain.warp(HOUR)
    alice.act(signing.accept_result(job_id))
    told = await tell(suite, alice, job_id)
    assert kinds(told) == [JobOpened, JobClaimed, WorkRefused, ResultSubmitted, WorkerPaid]
    refused = only(told, WorkRefused)
    assert (refused.worker, refused.reason, refused.freed) == (carol.address, Refusal.TAKEN, 0)
    assert Nano.ton("0.04") < refused.returned < Nano.ton("0.05")
    assert only(told, JobOpened).worker is None
    assert only(told, JobClaimed).bond == Nano.ton("0.04")
    assert "another worker had claimed it first" in str(told)
    assert "Its value went back to it" in str(told)


async def test_reader_can_see_the_late_penalty(suite: Suite, alice: Client, bob: Worker) -> None:
    job_id, _ = alice.open(suite.open_terms())
    bob.claim(alice, job_id)
    suite.chain.warp(HOUR + 1)
    bob.submit_claimed(alice, job_id, Nano.ton("0.4"))
    before = await tell(suite, alice, job_id)
    assert kinds(before)[-1] is WorkRefused
    refused = only(before, WorkRefused)
    assert (refused.reason, refused.freed) == (Refusal.LATE_SUBMISSION, Nano.ton(4))
    assert status(before) is JobStatus.CLAIMED
    alice.act(signing.reclaim_late(job_id))
    told = await tell(suite, alice, job_id)
    assert kinds(told)[-1] is JobReclaimed
    late = only(told, JobReclaimed)
    assert (late.worker, late.back) == (bob.address, Nano.ton("0.01"))
    # The rest of the bond, and the gas that its claim had left there.
    assert Nano.ton("0.03") < late.burned < Nano.ton("0.04")
    totals = only(told, JobTotals)
    assert (totals.slashed, totals.burned) == (late.back + late.burned, late.burned)
    assert "of the worker's bond" in str(told).lower()


async def test_reader_can_see_a_dispute_that_the_worker_loses(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob))
    bob.submit(alice, job_id, Nano.ton("0.7"))
    alice.act(signing.dispute_result(job_id))
    pending = await tell(suite, alice, job_id)
    disputed = only(pending, JobDisputed)
    assert disputed.evidence_until == suite.chain.now + 12 * HOUR
    assert disputed.verdict_until == suite.chain.now + 60 * HOUR
    assert status(pending) is JobStatus.DISPUTED
    verdict = suite.verdict(alice, bob, job_id, pay=0, slash=Nano.ton(4))
    suite.governor.send(alice.address, Nano.ton("0.2"), verdict.to_cell())
    told = await tell(suite, alice, job_id)
    assert kinds(told) == [
        JobOpened,
        ResultSubmitted,
        JobDisputed,
        VerdictExecuted,
        ArbiterPaid,
        ArbiterPaid,
        ArbiterPaid,
        WorkerSlashed,
        SlashArrived,
    ]
    slashed = only(told, WorkerSlashed)
    assert (slashed.amount, slashed.back) == (Nano.ton(4), Nano.ton("0.165"))
    shares = {fact.amount for fact in told.facts if isinstance(fact, ArbiterPaid)}
    assert len(shares) == 1  # equal; each pays its own way out of its share
    assert only(told, JobTotals).to_arbiters == 3 * shares.pop() <= Nano.ton("0.15")
    assert only(told, VerdictExecuted).signers == 3


async def test_reader_can_see_a_dispute_that_arbiters_left_alone(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob))
    bob.submit(alice, job_id, Nano.ton("0.7"))
    alice.act(signing.dispute_result(job_id))
    suite.chain.warp(60 * HOUR)
    suite.governor.send(alice.address, GAS, m.Finalize(id=job_id).to_cell())
    assert only(await tell(suite, alice, job_id), WorkerPaid).because is PaidBecause.ARBITERS_SILENT


@pytest.mark.parametrize("by_owner", [True, False])
async def test_reader_can_see_who_cancelled(suite: Suite, alice: Client, by_owner: bool) -> None:
    job_id, _ = alice.open(suite.open_terms())
    if by_owner:
        alice.from_owner(m.CancelJob(query_id=0, id=job_id))
    else:
        alice.act(signing.cancel_job(job_id))
    told = await tell(suite, alice, job_id)
    assert kinds(told) == [JobOpened, JobCancelled]
    assert only(told, JobCancelled).by_owner is by_owner
