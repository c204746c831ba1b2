"""Troubles of jobs, as `cocoon explain` tells them: what was refused and why, what waits, who is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pytoniq_core import Address, begin_cell

from cocoon_sdk.cli.asking import worker_asker
from cocoon_sdk.data import Location, encode_data
from cocoon_sdk.explain import JobTarget, NotAnEscrowError, explain
from cocoon_sdk.explain.job_facts import (
    ActionSkipped,
    JobOpened,
    JobStatus,
    JobTotals,
    NobodyThere,
    NoticeReturned,
    OutcomeKind,
    OutcomeRedelivered,
    OutcomeUndelivered,
    OutcomeWaiting,
    PayloadPlace,
    Refusal,
    ResultSubmitted,
    WorkerAnswer,
    WorkerPaid,
    WorkerSays,
    WorkRefused,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import SandboxChain
from cocoon_sdk.types import Nano
from cocoon_worker.config import EndpointConfig
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.service import WorkerService
from tests.helpers.explanations import kinds, only, status, tell
from tests.helpers.gateway_troubles import free_port
from tests.helpers.suite import GAS, Client, Suite, Worker, hash_of
from tests.helpers.worker_rig import Rig

HOUR = 3600


async def test_reader_learns_why_the_escrow_refused_each_message(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    carol = suite.worker("carol")
    job_id, _ = alice.open(suite.directed_terms(bob))
    target = bob.target(alice, job_id)
    other = replace(target, job_hash=1)
    carol.submit(alice, job_id, 5, target=target)
    bob.submit(alice, job_id, Nano.ton(2), target=target)
    bob.submit(alice, job_id, 5, target=other)
    suite.chain.warp(HOUR + 1)
    bob.submit(alice, job_id, 5, target=target)
    alice.act(signing.cancel_job(job_id))
    bob.submit(alice, job_id, 5, target=target)
    told = await tell(suite, alice, job_id)
    reasons = [fact.reason for fact in told.facts if isinstance(fact, WorkRefused)]
    assert reasons == [
        Refusal.DIRECTED,
        Refusal.OVER_PRICE,
        Refusal.WRONG_BINDING,
        Refusal.LATE_SUBMISSION,
        Refusal.ENDED,
    ]


async def test_reader_learns_why_signed_actions_were_skipped(suite: Suite, alice: Client) -> None:
    poor = suite.worker("poor", stake=Nano.ton(1))
    job_id, _ = alice.open(suite.directed_terms(poor))
    alice.act(signing.dispute_result(job_id), signing.accept_result(job_id))
    target = poor.target(alice, job_id)
    submit = signing.submit(job_id, Nano(5), target, hash_of("result"))
    poor.act(submit, signing.finalize(99, alice.address), max_spend=10**9)
    told = await tell(suite, alice, job_id)
    skipped = [fact for fact in told.facts if isinstance(fact, ActionSkipped)]
    assert [(fact.account, fact.name) for fact in skipped] == [
        (alice.address, "WRONG_STATE"),
        (alice.address, "WRONG_STATE"),
        (poor.address, "INSUFFICIENT_STAKE"),
    ]
    assert "Add stake" in str(told)


async def test_reader_sees_that_nobody_is_at_the_named_worker(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    ghost = Worker(suite, suite.network.stake(alice.owner.address), alice.owner, bob.key, bob.purpose)
    job_id, _ = alice.open(suite.directed_terms(ghost))
    told = await tell(suite, alice, job_id)
    assert kinds(told) == [JobOpened]
    assert only(told, NobodyThere).worker == ghost.address


async def test_reader_sees_that_an_open_job_reached_no_market(suite: Suite, alice: Client) -> None:
    job_id, _ = alice.open(suite.open_terms(model_id=7))
    told = await tell(suite, alice, job_id)
    assert kinds(told) == [JobOpened, NoticeReturned]
    assert only(told, NoticeReturned).to == suite.network.market((7).to_bytes(32, "big")).address


async def test_reader_can_see_an_outcome_that_waits_and_its_delivery(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    ghost = Worker(suite, suite.network.stake(alice.owner.address), alice.owner, bob.key, bob.purpose)
    job_id, _ = alice.open(suite.directed_terms(ghost))
    amount = Nano.ton("0.5")
    signature = bob.key.sign(
        signing.result_digest(alice.domain(), ghost.address, job_id, hash_of("result"), amount)
    )
    alice.act(signing.accept_signed(job_id, amount, hash_of("result"), signature))
    told = await tell(suite, alice, job_id)
    assert kinds(told)[-2:] == [WorkerPaid, OutcomeUndelivered]
    waiting = only(told, OutcomeWaiting)
    assert (waiting.worker, waiting.outcome, waiting.amount) == (ghost.address, OutcomeKind.REWARD, amount)
    suite.governor.send(alice.address, GAS, m.Deliver(id=job_id, kind=0).to_cell())
    again = await tell(suite, alice, job_id)
    assert OutcomeRedelivered in kinds(again)
    assert only(again, OutcomeRedelivered).by == suite.governor.address
    assert only(again, OutcomeWaiting).sent is False  # it bounced once more
    body = m.ConfigureStake(
        query_id=0, operator_key=bob.key.verify_key.to_int(), info_hash=0, max_locked=0, daily_lock=0
    )
    init = ghost.deployment.state_init
    alice.owner.send(ghost.address, Nano.ton(1), body.to_cell(), state_init=init)
    suite.governor.send(alice.address, GAS, m.Deliver(id=job_id, kind=0).to_cell())
    arrived = await tell(suite, alice, job_id)
    assert only(arrived, OutcomeWaiting).sent is True
    assert "nothing is owed" in str(arrived)


async def test_reader_hears_what_the_worker_says_while_it_is_asked(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob))
    asked: list[tuple[Address, Address, int]] = []

    async def ask(worker: Address, escrow: Address, number: int) -> WorkerSays:
        asked.append((worker, escrow, number))
        return WorkerSays(worker=worker, answer=WorkerAnswer.REFUSED, reason="the price is too low")

    told = await tell(suite, alice, job_id, ask=ask)
    assert asked == [(bob.address, alice.address, job_id)]
    assert 'The worker refused the job before any work: "the price is too low".' in str(told)
    bob.submit(alice, job_id, 5)
    await tell(suite, alice, job_id, ask=ask)
    assert len(asked) == 1


async def test_reader_hears_the_worker_s_own_reason_for_refusing(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    client = rig.suite.client("alice")
    port = free_port()
    endpoint = EndpointConfig(host="127.0.0.1", port=port, public_url=f"http://127.0.0.1:{port}")
    config = rig.config("bob").model_copy(update={"endpoint": endpoint})
    engine, operator = EchoEngine(clock=rig.clock), rig.account("bob").key
    async with WorkerService(config, rig.chain, engine, rig.clock, operator=operator) as service:
        await service.settle()
        job = rig.open_job(client, service, "bob", terms_hash=1)
        await service.settle()
        ask = worker_asker(rig.chain, ["127.0.0.0/8"])
        told = await tell(rig.suite, client, job.id, ask=ask)
        refused = only(told, WorkerSays)
        assert (refused.worker, refused.answer) == (rig.account("bob").address, WorkerAnswer.REFUSED)
        assert "terms" in refused.reason
        # The announced address is private: without leave it is not even tried.
        shy = only(await tell(rig.suite, client, job.id, ask=worker_asker(rig.chain)), WorkerSays)
        assert shy.answer is WorkerAnswer.UNREACHABLE


async def test_payload_at_a_url_is_told_apart(suite: Suite, alice: Client, bob: Worker) -> None:
    data = encode_data(Location.of("https://example.org/payload", b"sealed"))
    job_id, _ = alice.open(suite.directed_terms(bob), data=data)
    assert only(await tell(suite, alice, job_id), JobOpened).payload is PayloadPlace.BY_REFERENCE
    job_id, _ = alice.open(suite.directed_terms(bob), data=begin_cell().store_uint(255, 8).end_cell())
    assert only(await tell(suite, alice, job_id), JobOpened).payload is PayloadPlace.UNREADABLE


async def test_jobs_of_one_batch_of_actions_are_told_apart(suite: Suite, alice: Client, bob: Worker) -> None:
    first = alice.get_state().next_id
    terms = suite.directed_terms(bob).to_cell()
    alice.act(signing.open_job(first, terms), signing.open_job(first + 1, terms), max_spend=Nano.ton(4))
    bob.submit(alice, first + 1, 7)
    told = [await tell(suite, alice, number) for number in (first, first + 1)]
    assert [kinds(each) for each in told] == [[JobOpened], [JobOpened, ResultSubmitted]]
    assert only(told[0], JobTotals).shared


@pytest.mark.parametrize("number", [1, 2, 4_294_967_295])
async def test_reader_is_told_when_a_job_never_was(suite: Suite, alice: Client, number: int) -> None:
    assert status(await tell(suite, alice, number)) is JobStatus.UNKNOWN


async def test_reader_cannot_ask_for_a_job_of_something_else(suite: Suite, bob: Worker) -> None:
    for address in (bob.address, suite.market, bob.owner.address, Address((0, bytes(32)))):
        with pytest.raises(NotAnEscrowError):
            await explain(SandboxChain(suite.chain), JobTarget(address, 1))
