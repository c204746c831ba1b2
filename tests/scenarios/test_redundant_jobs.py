"""The same job at several workers that check each other: who agrees is paid, the odd one out is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.auditing import AuditOutcome, AuditPolicy, DisputeStep, NoAgreementError
from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.redundant import AsyncRedundantJob, Opinion, agreement
from cocoon_sdk.errors import ConfigError, InsufficientEscrowError, NoWorkerError
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.audit_town import HOT, AuditTown, audit_town, thresholds
from tests.helpers.sdk import MODEL_NAME, chat

REQUEST: dict[str, Any] = {"messages": chat(), **HOT}


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[AuditTown]:
    async with audit_town(blockchain, tmp_path) as made:
        yield made


async def test_odd_one_out_is_refused_and_left_and_the_others_are_paid(town: AuditTown) -> None:
    await town.worker("alice", input_price="0.1")
    await town.worker("mallory", lies=True, input_price="0.2")
    await town.worker("bob", input_price="0.3")
    client = await town.client(audit=AuditPolicy(share=0.0, every_s=3600.0))
    redundant = await client.jobs.create_redundant(
        model=MODEL_NAME, request=REQUEST, workers=3, thresholds=thresholds()
    )
    assert len({job.id for job in redundant.jobs}) == 3
    await town.settle()
    found = await redundant.result(timeout=30)

    by = {part.worker.to_str(): part for part in found.parts}
    alice, mallory, bob = (by[town.account(name).to_str()] for name in ("alice", "mallory", "bob"))
    assert (alice.agreed, mallory.agreed, bob.agreed) == (True, False, True)
    assert (alice.refused, mallory.refused, bob.refused) == (False, True, False)
    assert found.result is alice.result
    # Each honest one is found right by the other, and wrong by the liar's model.
    assert sorted(opinion.agrees for opinion in alice.opinions) == [False, True]
    assert [opinion.objects for opinion in mallory.opinions] == [True, True]

    # Every nanoTON: two answers at their prices, and what six checks cost.
    assert alice.result is not None
    assert bob.result is not None
    assert (alice.paid, mallory.paid, bob.paid) == (alice.result.amount, 0, bob.result.amount)
    assert found.paid == alice.result.amount + bob.result.amount
    checks = 0
    for name, part in (("alice", alice), ("mallory", mallory), ("bob", bob)):
        for other in (alice, mallory, bob):
            if other is not part:
                assert other.result is not None
                usage = other.result.usage
                checks += town.price(name, usage.input_tokens, 1)
                checks += town.price(name, usage.input_tokens + usage.output_tokens, 1)
    assert found.checks == checks
    states = [(await job.status()).state for job in redundant.jobs]
    assert sorted(states) == sorted([JobState.PAID, JobState.PAID, JobState.OFFERED])

    # The refused answer was handed over only: it is disputed when its worker submits it.
    assert mallory.dispute is DisputeStep.WANTED
    liar = next(job for job in redundant.jobs if job.id == mallory.job_id)
    while (await liar.status()).state is not JobState.SUBMITTED:
        town.place.rig.warp(60)
        await town.settle()
    await client.audits.keep()
    assert (await liar.status()).state is JobState.DISPUTED
    (finding,) = await client.audits.list()
    assert (finding.outcome, finding.dispute) == (AuditOutcome.FAILED, DisputeStep.DISPUTED)
    assert [offer.address for offer in await client.workers.list(MODEL_NAME)] == [
        town.account("alice"),
        town.account("bob"),
    ]


async def test_nobody_is_paid_or_accused_when_two_do_not_agree(town: AuditTown) -> None:
    await town.worker("alice")
    await town.worker("mallory", lies=True, input_price="0.2")
    client = await town.client(audit=AuditPolicy(share=0.0, thresholds=(thresholds(),)))
    redundant = await client.jobs.create_redundant(model=MODEL_NAME, request=REQUEST, workers=2)
    await town.settle()
    with pytest.raises(NoAgreementError):
        await redundant.result(timeout=30)
    assert [(await job.status()).state for job in redundant.jobs] == [JobState.OFFERED] * 2
    assert await client.audits.list() == ()


async def test_two_of_three_agree_when_the_third_gives_no_answer(town: AuditTown) -> None:
    await town.worker("alice")
    await town.worker("bob", input_price="0.2")
    await town.worker("carol", input_price="0.3")
    client = await town.client(audit=AuditPolicy(share=0.0, thresholds=(thresholds(),)))
    redundant = await client.jobs.create_redundant(model=MODEL_NAME, request=REQUEST)
    for name in ("alice", "bob"):
        await town.services[name].settle()
    again = await client.jobs.get_redundant([job.id for job in redundant.jobs])  # as after a restart
    found = await again.result(timeout=0)
    assert [part.agreed for part in found.parts] == [True, True, False]
    assert found.parts[2].why.startswith("no answer: ")
    assert await client.audits.list() == ()


async def test_answer_without_an_opinion_is_neither_paid_nor_disputed(
    town: AuditTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two agree; what they could not look at was paid like theirs."""
    for name, price in (("alice", "0.1"), ("bob", "0.2"), ("carol", "0.3")):
        await town.worker(name, input_price=price)
    client = await town.client(audit=AuditPolicy(share=0.0, thresholds=(thresholds(),)))
    redundant = await client.jobs.create_redundant(model=MODEL_NAME, request=REQUEST)
    await town.settle()
    ask = AsyncRedundantJob._opinion

    async def opinion(self: AsyncRedundantJob, answer: Any, by: WorkerOffer) -> Opinion:
        if answer.offer.address == town.account("carol"):
            return Opinion(by.address, None, "its endpoint is down", Nano(0))
        return await ask(self, answer, by)

    monkeypatch.setattr(AsyncRedundantJob, "_opinion", opinion)
    found = await redundant.result(timeout=30)
    carol = found.parts[2]
    assert [part.agreed for part in found.parts] == [True, True, False]
    assert (carol.undecided, carol.refused, carol.paid) == (True, False, 0)
    assert "neither paid nor disputed" in carol.why
    job = redundant.jobs[2]
    assert (await job.status()).state is JobState.OFFERED
    assert (await job.accept(unaudited=True)).state is JobState.PAID  # the caller decides


async def test_check_that_asks_for_too_much_is_no_opinion(town: AuditTown) -> None:
    await town.worker("alice")
    await town.worker("bob", input_price="0.2")
    client = await town.client(audit=AuditPolicy(share=0.0, thresholds=(thresholds(),)))
    redundant = await client.jobs.create_redundant(
        model=MODEL_NAME, request=REQUEST, workers=2, most_per_check=Nano(1)
    )
    await town.settle()
    with pytest.raises(NoAgreementError, match=r"checking cost 0"):
        await redundant.result(timeout=30)


async def test_redundant_job_cannot_be_opened_when_it_cannot_work(town: AuditTown) -> None:
    await town.worker("alice")
    await town.worker("bob")
    await town.worker("carol", sampling="unverified")
    client = await town.client(audit=AuditPolicy(share=0.0))
    options: dict[str, Any] = {"model": MODEL_NAME, "request": REQUEST}
    with pytest.raises(ConfigError, match="thresholds are not at hand"):
        await client.jobs.create_redundant(**options)
    options["thresholds"] = thresholds()
    with pytest.raises(NoWorkerError, match="2 of different owners"):
        await client.jobs.create_redundant(**options)
    with pytest.raises(ConfigError, match="2 to 7 workers"):
        await client.jobs.create_redundant(**options, workers=1)
    with pytest.raises(ConfigError, match="without a window"):
        await client.jobs.create_redundant(**options, workers=2, window_s=0)
    await check_poor(town, options)


async def check_poor(town: AuditTown, options: dict[str, Any]) -> None:
    """What suffices for one job does not for two; nothing is opened then."""
    poor: AsyncCocoon = await town.client("poor", audit=AuditPolicy(share=0.0))
    cost = await poor.jobs.estimate(model=MODEL_NAME, request=REQUEST)
    free = (await poor.escrow.balance()).free
    await poor.escrow.withdraw(free - cost.total - cost.total // 2)
    await poor.jobs.estimate(model=MODEL_NAME, request=REQUEST)
    with pytest.raises(InsufficientEscrowError, match="2 jobs"):
        await poor.jobs.create_redundant(**options, workers=2)
    assert (await poor.escrow.balance()).jobs == 0


@pytest.mark.parametrize(
    ("count", "agrees", "expected"),
    [
        (2, {(0, 1), (1, 0)}, {0, 1}),
        (2, {(0, 1)}, set()),
        (3, {(0, 1), (1, 0), (2, 0)}, {0, 1}),  # what an outsider says counts for nobody
        (3, {(0, 1), (1, 2), (2, 0)}, set()),
        (3, {(0, 1), (1, 0), (0, 2), (2, 0)}, {0, 1}),  # ambiguous: the earlier one, nobody is refused
        (4, {(0, 1), (1, 0), (2, 3), (3, 2)}, set()),  # half is no majority
        (5, {(a, b) for a in (1, 3, 4) for b in (1, 3, 4) if a != b}, {1, 3, 4}),
    ],
)
def test_majority_is_a_set_that_finds_each_other_right(
    count: int, agrees: set[tuple[int, int]], expected: set[int]
) -> None:
    assert agreement(count, agrees) == expected
