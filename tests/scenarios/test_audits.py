"""A client's audits with real contracts and workers: nobody honest is accused, liars are left, disputed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.auditing import AuditFailedError, AuditOutcome, DisputeStep
from cocoon_sdk.client.auditing.records import Audited
from cocoon_sdk.client.results import Arrival
from cocoon_sdk.client.sessions import CHAT, Bill, InferenceRequest
from cocoon_sdk.errors import NoWorkerError
from cocoon_sdk.history import JobEventKind
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from cocoon_worker.service import WorkerService
from tests.helpers.audit_town import HOT, AuditTown, audit_town, cheap_table
from tests.helpers.sdk import MODEL_NAME, chat
from tests.helpers.vllm_double import END


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[AuditTown]:
    async with audit_town(blockchain, tmp_path) as made:
        yield made


async def job_of(town: AuditTown, client: Any, **options: Any) -> Any:
    """Open a job and let the workers submit its result."""
    request = {"messages": chat(), **HOT}
    job = await client.jobs.create(model=MODEL_NAME, request=request, **options)
    await town.settle()
    return job


async def submitted(town: AuditTown, service: WorkerService, job: Any) -> None:
    """Let time pass until a worker whose result nobody accepted submits it on chain."""
    for _ in range(20):
        if (await job.status()).state is JobState.SUBMITTED:
            return
        town.place.rig.warp(60)
        await service.settle()
    raise AssertionError("it does not submit")


async def test_honest_worker_is_paid_after_the_audit_of_its_job(town: AuditTown) -> None:
    await town.worker("alice")
    client = await town.client()
    job = await job_of(town, client)
    result = await job.result(timeout=30)
    assert not result.accepted
    assert await client.audits.idle()
    (finding,) = await client.audits.list()
    assert (finding.outcome, finding.why) == (AuditOutcome.PASSED, "as the named model answers")
    assert (finding.subject.what, finding.subject.number) == (Audited.JOB, job.id)
    assert (await job.status()).state is JobState.PAID
    (score,) = await client.audits.scores()
    assert (score.passed, score.failed, score.left_at) == (1, 0, 0)
    assert (await job.result()).accepted


async def test_lying_worker_is_left_at_once_and_disputed_when_it_submits(town: AuditTown) -> None:
    """It handed its result over: there is nothing to dispute before it submits."""
    liar = await town.worker("mallory", lies=True)
    client = await town.client()
    before = await client.escrow.balance()
    job = await job_of(town, client)
    assert (await job.result(timeout=30)).arrival is Arrival.HANDOVER
    assert await client.audits.idle()
    (finding,) = await client.audits.list()
    assert (finding.outcome, finding.level) == (AuditOutcome.FAILED, "slash")
    assert finding.dispute is DisputeStep.WANTED

    with pytest.raises(AuditFailedError):
        await job.accept()
    with pytest.raises(NoWorkerError, match="left after an audit"):
        await client.jobs.create(model=MODEL_NAME, messages=chat())
    candidates = await client.inference.explain_choice(MODEL_NAME)
    assert [candidate.usable for candidate in candidates] == []

    # Another process that shares the database leaves it, too.
    second = town.town.cocoon(
        audit=town.policy(), database=town.folder / "client.sqlite", clock=town.place.rig.clock
    )
    assert len(await second.workers.list(MODEL_NAME)) == 1
    await second.audits.keep()
    assert len(await second.workers.list(MODEL_NAME)) == 0

    await submitted(town, liar, job)
    await client.audits.keep()
    (finding,) = await client.audits.list()
    assert finding.dispute is DisputeStep.DISPUTED
    assert finding.bond == await job.bond() > 0
    assert (await job.status()).state is JobState.DISPUTED
    assert client.audits.numbers.disputed == 1
    await client.audits.keep()
    assert [event.kind for event in await job.history()].count(JobEventKind.DISPUTED) == 1
    assert (await client.escrow.balance()).reserved > before.reserved


@pytest.mark.parametrize(("most_bond", "step"), [("5", DisputeStep.DISPUTED), ("0.1", DisputeStep.REFUSED)])
async def test_worker_that_commits_to_nothing_is_disputed_within_the_policy(
    town: AuditTown, most_bond: str, step: DisputeStep
) -> None:
    """It submits on chain, under terms that promise a commitment."""
    worker = town.town.worker("silent", announced=False)
    worker.announce(terms=worker.terms(sampling=SamplingClass.REPLAYABLE))
    client = await town.client(audit=town.policy(most_bond=Nano.ton(most_bond)))
    job = await client.jobs.create(model=MODEL_NAME, messages=chat())
    await worker.answer(client, job.id)
    result = await job.result(timeout=30)
    assert (result.arrival, result.accepted) == (Arrival.INLINE, False)
    assert await client.audits.idle()
    (finding,) = await client.audits.list()
    assert (finding.outcome, finding.level, finding.dispute) == (AuditOutcome.FAILED, "slash", step)
    assert "no commitment" in finding.why
    disputed = step is DisputeStep.DISPUTED
    assert (await job.status()).state is (JobState.DISPUTED if disputed else JobState.SUBMITTED)
    assert finding.bond == (await job.bond() if disputed else 0)
    assert len(await client.workers.list(MODEL_NAME)) == 0
    assert not (await job.result()).accepted
    assert town.verifier.bodies == []


async def test_acceptance_by_hand_waits_for_the_audit_unless_it_is_told_not_to(town: AuditTown) -> None:
    await town.worker("alice")
    town.verifier.pause = asyncio.Event()
    client = await town.client()
    first = await job_of(town, client, accept="manual")
    await first.result(timeout=30)
    accepting = asyncio.create_task(first.accept())
    second = await job_of(town, client, accept="manual")
    await second.result(timeout=30)
    assert (await second.accept(unaudited=True)).state is JobState.PAID
    assert not accepting.done()
    assert (await first.status()).state is JobState.OFFERED
    town.verifier.pause.set()
    assert (await accepting).state is JobState.PAID
    assert await client.audits.idle()
    assert client.audits.numbers.passed == 2


async def ask(client: AsyncCocoon, **options: Any) -> tuple[bytes, Bill]:
    """Ask whoever fits, in a session."""
    body = json.dumps({"model": MODEL_NAME, "messages": chat(), **HOT, **options}).encode()
    return await client.inference.answer(InferenceRequest(CHAT, MODEL_NAME, body, False))


async def test_honest_worker_of_a_session_passes_and_a_lying_one_is_left(town: AuditTown) -> None:
    await town.worker("alice")
    client = await town.client()
    for _ in range(3):
        await ask(client)
    stream = client.inference.stream(
        InferenceRequest(CHAT, MODEL_NAME, json.dumps({"messages": chat(), **HOT}).encode(), True)
    )
    assert [piece async for piece in stream]
    assert await client.audits.idle()
    findings = await client.audits.list()
    assert [finding.outcome for finding in findings] == [AuditOutcome.PASSED] * 4
    assert {finding.subject.what for finding in findings} == {Audited.REQUEST}
    assert client.audits.numbers.cost == 0

    town.doubles["alice"].table = cheap_table  # from here on it serves something cheaper
    await ask(client)
    assert await client.audits.idle()
    newest = next(each for each in await client.audits.list() if each.outcome is not AuditOutcome.PASSED)
    assert (newest.outcome, newest.dispute) == (AuditOutcome.FAILED, DisputeStep.REFUSED)
    assert newest.dispute_why == "answers of sessions without a guard cannot be disputed"
    with pytest.raises(NoWorkerError):
        await ask(client)
    (score,) = await client.audits.scores()
    assert (score.passed, score.failed) == (4, 1)
    assert score.left_at > 0
    assert await client.audits.forgive(score.worker)
    await ask(client)


async def test_result_of_a_worker_that_promises_nothing_is_not_checked(town: AuditTown) -> None:
    await town.worker("carol", lies=True, sampling="unverified")
    client = await town.client()
    job = await job_of(town, client)
    await job.result(timeout=30)
    await ask(client)
    assert await client.audits.idle()
    assert {each.outcome for each in await client.audits.list()} == {AuditOutcome.UNCHECKED}
    assert (await job.status()).state is JobState.PAID
    assert client.audits.numbers.unchecked == 2
    (score,) = await client.audits.scores()
    assert (score.unchecked, score.checked, score.left_at) == (2, 0, 0)


async def test_nobody_is_accused_when_the_verifier_is_down(town: AuditTown) -> None:
    await town.worker("mallory", lies=True)
    client = await town.client()
    town.verifier.down = True
    job = await job_of(town, client)
    await job.result(timeout=30)
    assert await client.audits.idle()
    (finding,) = await client.audits.list()
    assert finding.outcome is AuditOutcome.UNCHECKED
    assert "503" in finding.why
    assert (await job.status()).state is JobState.PAID
    assert (await client.audits.scores())[0].left_at == 0


async def test_answer_is_not_kept_waiting_when_the_line_is_full(town: AuditTown) -> None:
    await town.worker("alice")
    town.verifier.pause = asyncio.Event()
    client = await town.client(audit=town.policy(waiting=1, at_once=1))
    for _ in range(4):
        await ask(client)
    numbers = client.audits.numbers
    assert (numbers.seen, numbers.chosen, numbers.dropped, numbers.waiting) == (4, 4, 2, 2)
    town.verifier.pause.set()
    assert await client.audits.idle()
    assert client.audits.numbers.passed == 2


async def test_share_is_drawn_after_the_answer_the_same_for_every_worker(town: AuditTown) -> None:
    await town.worker("alice")
    await town.worker("bob")
    drawn = iter([0.9, 0.05, 0.049, 0.5])
    client = await town.client(audit=town.policy(share=0.05, draw=lambda: next(drawn)))
    for _ in range(4):
        await ask(client)
    assert await client.audits.idle()
    assert (client.audits.numbers.seen, client.audits.numbers.chosen) == (4, 1)


# -- another worker as the verifier ------------------------------------------------------------------------


async def test_second_worker_checks_for_its_price(town: AuditTown) -> None:
    await town.worker("alice")
    client = await town.client(audit=town.policy(verifier=None))
    await ask(client)  # nobody else is there
    assert await client.audits.idle()
    (alone,) = await client.audits.list()
    assert (alone.outcome, alone.cost) == (AuditOutcome.UNCHECKED, 0)

    await town.worker("bob", input_price="0.2")
    town.forget_offers(client)
    _, bill = await ask(client)
    assert await client.audits.idle()
    checked = next(each for each in await client.audits.list() if each.outcome is not AuditOutcome.UNCHECKED)
    assert checked.outcome is AuditOutcome.PASSED
    assert checked.verifier == f"worker {town.place.rig.account('bob').address.to_str()}"
    usage = bill.usage
    prompt, output = usage.input_tokens, usage.output_tokens
    # The prompt is asked for once with one token made, then prompt and output are scored with one made.
    due = town.price("bob", prompt, 1) + town.price("bob", prompt + output, 1)
    assert checked.cost == due == client.audits.numbers.cost


async def test_lying_verifier_accuses_nobody(town: AuditTown) -> None:
    """It objects to every honest answer; the second look, by another owner, does not."""
    await town.worker("alice")
    await town.worker("mallory", lies=True, input_price="0.2")
    await town.worker("bob", input_price="0.3")
    client = await town.client(audit=town.policy(verifier=None))
    await ask(client)
    assert await client.audits.idle()
    (finding,) = await client.audits.list()
    assert finding.outcome is AuditOutcome.PASSED
    assert len(finding.verifier.split(", ")) == 2
    assert all(score.left_at == 0 for score in await client.audits.scores())


async def test_one_worker_alone_accuses_nobody(town: AuditTown) -> None:
    await town.worker("mallory", lies=True)
    await town.worker("bob", input_price="0.3")
    client = await town.client(audit=town.policy(verifier=None))
    await ask(client)
    assert await client.audits.idle()
    (finding,) = await client.audits.list()
    assert finding.outcome is AuditOutcome.UNCHECKED
    assert "no second" in finding.why
    assert finding.cost > 0


async def test_liar_with_answers_that_nobody_can_carry_is_left_for_their_beginning(town: AuditTown) -> None:
    """Its answers were longer than the context of everybody who could check them."""
    await town.worker("mallory", max_context=4096, max_output_tokens=1024)
    town.doubles["mallory"].table = _without_end
    for name, price in (("bob", "0.2"), ("carol", "0.3")):
        await town.worker(name, input_price=price, max_context=250, max_output_tokens=128)
    client = await town.client(audit=town.policy(verifier=None))
    _, bill = await ask(client, max_tokens=400)
    assert bill.usage.output_tokens == 400
    assert await client.audits.idle()
    (finding,) = await client.audits.list()
    assert finding.outcome is AuditOutcome.FAILED
    assert "of 400 tokens" in finding.why
    assert len(finding.verifier.split(", ")) == 2
    (score,) = [each for each in await client.audits.scores() if each.left_at]
    assert score.worker == town.account("mallory")


def _without_end(tokens: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    found = cheap_table(tokens)
    found[END] = -100.0
    return found


async def test_owner_of_a_checked_worker_is_its_stakes_whatever_it_announces(town: AuditTown) -> None:
    """One that offers nothing any more was taken for its own owner, whose other workers could check it."""
    await town.worker("alice")
    client = await town.client()
    job = await job_of(town, client)
    result = await job.result(timeout=30)
    audits = client.jobs._audits
    assert audits is not None
    listed = (await client.workers.list(MODEL_NAME)).find(town.account("alice"))
    assert listed is not None
    client.workers.leave(town.account("alice"), "it is gone")
    case = await audits.case(job, result)
    assert (case.owner, case.limits) == (listed.worker.owner, None)
    assert case.owner != case.subject.worker


async def test_checks_stop_when_the_day_has_cost_what_it_may(town: AuditTown) -> None:
    await town.worker("alice")
    await town.worker("bob", input_price="0.2")
    client = await town.client(audit=town.policy(verifier=None))
    await ask(client)
    assert await client.audits.idle()
    (first,) = await client.audits.list()
    poor = await town.client("poor", audit=town.policy(verifier=None, spend_per_day=first.cost))
    await ask(poor)
    assert await poor.audits.idle()
    (finding,) = await poor.audits.list()
    assert finding.outcome is AuditOutcome.UNCHECKED
    assert "of a day" in finding.why
