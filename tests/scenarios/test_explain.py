"""What `cocoon explain` says about real jobs, transactions and accounts on the sandbox."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core import Address, begin_cell

from cocoon_sdk.cli.asking import worker_asker
from cocoon_sdk.contracts.code import code_cell
from cocoon_sdk.contracts.network import Deployment, Network
from cocoon_sdk.data import InlineData, Location, encode_data
from cocoon_sdk.errors import ForgedAccountError
from cocoon_sdk.explain import (
    AccountTarget,
    Explanation,
    JobTarget,
    NotAnEscrowError,
    TransactionTarget,
    explain,
)
from cocoon_sdk.explain.facts import (
    AccountKindName,
    AccountSeen,
    ActionSeen,
    ChildSeen,
    Fact,
    Outcome,
    Standing,
    TransactionSeen,
)
from cocoon_sdk.explain.job_facts import (
    ActionSkipped,
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
    NobodyThere,
    NoticeReturned,
    OutcomeKind,
    OutcomeRedelivered,
    OutcomeUndelivered,
    OutcomeWaiting,
    PaidBecause,
    PayloadPlace,
    Refusal,
    ResultSubmitted,
    SlashArrived,
    StandsNow,
    VerdictExecuted,
    WorkerAnswer,
    WorkerPaid,
    WorkerSays,
    WorkerSlashed,
    WorkRefused,
)
from cocoon_sdk.history import HistoryNotFoundError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import Blockchain, SandboxChain, fees
from cocoon_sdk.types import Nano
from cocoon_worker.config import EndpointConfig
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.service import WorkerService
from tests.helpers.suite import GAS, Client, Suite, Worker, hash_of
from tests.helpers.worker_rig import Rig

HOUR = 3600


@pytest.fixture
def suite() -> Suite:
    return Suite(Blockchain())


@pytest.fixture
def alice(suite: Suite) -> Client:
    return suite.client("alice")


@pytest.fixture
def bob(suite: Suite) -> Worker:
    return suite.worker("bob")


async def tell(suite: Suite, client: Client, job_id: int, **options: Any) -> Explanation:
    explanation = await explain(
        SandboxChain(suite.chain), JobTarget(client.address, job_id), network=suite.network, **options
    )
    json.dumps(explanation.to_json())
    assert str(explanation)
    return explanation


def kinds(explanation: Explanation, title: str = "What happened") -> list[type[Fact]]:
    section = next((x for x in explanation.sections if x.title == title), None)
    return [] if section is None else [type(fact) for fact in section.facts]


def only(explanation: Explanation, kind: type[Any]) -> Any:
    (found,) = [fact for fact in explanation.facts if isinstance(fact, kind)]
    return found


def status(explanation: Explanation) -> JobStatus:
    found: JobStatus = only(explanation, StandsNow).status
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- the ways a job goes ------------------------------------------------------------------------------


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


# -- what was refused, and why -------------------------------------------------------------------------


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


# -- accounts -------------------------------------------------------------------------------------------


async def seen(suite: Suite, address: Address, network: Network | None = None) -> AccountSeen:
    told = await explain(SandboxChain(suite.chain), AccountTarget(address), network=network)
    json.dumps(told.to_json())
    assert str(told)
    found: AccountSeen = only(told, AccountSeen)
    return found


async def test_reader_can_tell_every_kind_of_account(suite: Suite, alice: Client, bob: Worker) -> None:
    alice.open(suite.directed_terms(bob))
    expected = {
        alice.address: (AccountKindName.ESCROW, Standing.GENUINE),
        bob.address: (AccountKindName.STAKE, Standing.GENUINE),
        suite.market: (AccountKindName.MARKET, Standing.GENUINE),
        suite.network.registry: (AccountKindName.REGISTRY, Standing.NAMED),
        alice.owner.address: (AccountKindName.WALLET, Standing.NOT_OURS),
        Address((0, bytes(32))): (AccountKindName.NOTHING, Standing.NOT_OURS),
    }
    for address, wanted in expected.items():
        found = await seen(suite, address, suite.network)
        assert (found.what, found.standing) == wanted
        assert found.balance == suite.chain.balance(address)


async def test_reader_is_not_told_that_an_unnamed_registry_is_trusted(suite: Suite) -> None:
    assert (await seen(suite, suite.network.registry)).standing is Standing.GENUINE_CODE


def forged_escrow(suite: Suite, alice: Client) -> Address:
    """Deploy the genuine code with state that nobody could have started with."""
    honest = suite.chain.account(alice.address)
    assert honest.data is not None
    forged = Deployment.of(code_cell("Escrow"), honest.data)
    suite.chain.deploy(forged.state_init, Nano.ton(5))
    return forged.address


async def test_reader_is_warned_of_genuine_code_with_forged_state(suite: Suite, alice: Client) -> None:
    forged = forged_escrow(suite, alice)
    assert (await seen(suite, forged, suite.network)).standing is Standing.FORGED
    with pytest.raises(ForgedAccountError):
        await explain(SandboxChain(suite.chain), JobTarget(forged, 1))


async def test_reader_is_warned_of_an_account_of_another_registry(suite: Suite, alice: Client) -> None:
    other = Network(Address((0, bytes(32))))
    assert (await seen(suite, alice.address, other)).standing is Standing.OTHER_NETWORK


async def test_reader_is_warned_of_an_imitation(suite: Suite, alice: Client) -> None:
    # The same code behind a NOP: it answers `identity` as an escrow does, and does what it likes.
    genuine = code_cell("Escrow").begin_parse()
    code = begin_cell().store_uint(0, 8).store_slice(genuine).end_cell()
    imitation = Deployment.of(code, alice.deployment.data)
    suite.chain.deploy(imitation.state_init, Nano.ton(5))
    found = await seen(suite, imitation.address, suite.network)
    assert (found.what, found.standing) == (AccountKindName.UNKNOWN, Standing.IMITATION)


async def test_reader_sees_a_pending_account_for_what_it_is(suite: Suite) -> None:
    escrow = suite.network.escrow(suite.governor.address)
    suite.governor.send(escrow.address, GAS, state_init=escrow.state_init)
    told = await explain(SandboxChain(suite.chain), AccountTarget(escrow.address), network=suite.network)
    assert only(told, AccountSeen).standing is Standing.GENUINE
    assert "send SyncParams" in str(told)
    assert status(await explain(SandboxChain(suite.chain), JobTarget(escrow.address, 1))) is JobStatus.UNKNOWN


# -- transactions ---------------------------------------------------------------------------------------


async def test_reader_can_see_what_a_transaction_did_and_caused(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    _, done = alice.open(suite.directed_terms(bob))
    told = await explain(SandboxChain(suite.chain), TransactionTarget(alice.address, lt=done[0].lt))
    assert only(told, TransactionSeen).hash == done[0].hash
    outcome = only(told, Outcome)
    assert outcome.success
    assert outcome.fees + outcome.forward_fees == done[0].cost
    assert (only(told, ActionSeen).name, only(told, ActionSeen).exit_code) == ("open job", None)
    child = only(told, ChildSeen)
    assert child.child is not None
    assert (child.child.address, child.child.lt, child.fees) == (bob.address, done[1].lt, done[1].cost)


async def test_every_transaction_of_a_job_can_be_told(suite: Suite, alice: Client, bob: Worker) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob), data=encode_data(InlineData(b"sealed")))
    bob.submit(alice, job_id, Nano.ton("0.7"))
    alice.act(signing.dispute_result(job_id))
    verdict = suite.verdict(alice, bob, job_id, pay=5, slash=0)
    suite.governor.send(alice.address, Nano.ton("0.2"), verdict.to_cell())
    for transaction in suite.chain.transactions(limit=100):
        target = TransactionTarget(transaction.address, lt=transaction.lt)
        told = await explain(SandboxChain(suite.chain), target, network=suite.network)
        json.dumps(told.to_json())
        assert only(told, Outcome).success is transaction.success


async def test_reader_learns_the_name_of_a_failure(suite: Suite, alice: Client) -> None:
    stranger = suite.chain.actor("stranger")
    done = stranger.send(alice.address, GAS, m.Withdraw(query_id=1, amount=Nano(5)).to_cell())
    target = TransactionTarget(alice.address, hash=done[1].hash)
    told = await explain(SandboxChain(suite.chain), target)
    outcome = only(told, Outcome)
    assert (outcome.success, outcome.name) == (False, "NOT_OWNER")
    assert "Only the owner wallet may do this (NOT_OWNER 1001). Send the message from the owner." in str(told)


async def test_reader_can_find_a_transaction_by_its_hash_alone_among_known_accounts(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    _, done = alice.open(suite.directed_terms(bob))
    chain, target = SandboxChain(suite.chain), TransactionTarget(None, hash=done[1].hash)
    told = await explain(chain, target, known=(alice.address, bob.address))
    assert only(told, TransactionSeen).address == bob.address
    with pytest.raises(HistoryNotFoundError, match="ADDRESS@HASH"):
        await explain(chain, target, known=(alice.address,))


@pytest.mark.parametrize("name", [{"lt": 5}, {"hash": bytes(32)}])
async def test_reader_cannot_see_a_transaction_that_is_not_there(
    suite: Suite, alice: Client, name: dict[str, Any]
) -> None:
    with pytest.raises(HistoryNotFoundError):
        await explain(SandboxChain(suite.chain), TransactionTarget(alice.address, **name))
