"""The story of a network with a cheater in it, told with any engines: caught, slashed, left, to the nanoTON.

Three workers sell one model: Alice and Bob honestly, Mallory something cheaper, for less. A client asks who
is cheapest, checks a share of its results with the other workers, for their price, and disputes by itself.
More than half of the arbiters have to agree. Of `FIVE`, one lies and one is offline from beginning to end. Of
`THREE`, one lies and one is offline when the dispute begins, and comes back: as long as it is away there is
one honest voice, which no rule can tell from the liar's, and nothing is decided.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from cocoon_sdk.arbiter.judging import Judge
from cocoon_sdk.cli.inquiry import arbiters_found, audits_found
from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.auditing import AuditOutcome, DisputeStep
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.demo.books import Books
from cocoon_sdk.explain import JobTarget, explain
from cocoon_sdk.explain.facts import Fact
from cocoon_sdk.explain.findings import ArbiterFound, AuditFound
from cocoon_sdk.explain.job_facts import (
    ArbiterPaid,
    JobDisputed,
    SlashArrived,
    VerdictExecuted,
    WorkerSlashed,
)
from cocoon_sdk.history import JobEventKind
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.thresholds import Thresholds
from tests.helpers.arbiters import Court, Purse, dispute_of, paid_arbiters, purse
from tests.helpers.audit_town import AuditTown
from tests.helpers.sdk import MODEL_NAME, Town


class Jury(NamedTuple):
    """The arbiters of a story by index: those `away` are honest and come back once the others have voted."""

    seats: int
    honest: tuple[int, ...]
    liar: int
    away: tuple[int, ...] = ()

    @property
    def majority(self) -> int:
        """How many have to agree."""
        return self.seats // 2 + 1

    async def take_seats(self, court: Court, judge: Callable[[], Judge]) -> None:
        """Start those who are there; the first honest one sends what is decided."""
        for index in self.honest:
            await court.start(index, real=judge(), wallet=index == self.honest[0])
        await court.start(self.liar, says=Ground.HONEST)

    async def decide(self, court: Court, judge: Callable[[], Judge], job: AsyncJob) -> None:
        """Let them vote; then, where that decides nothing, those who were away as well."""
        await court.rounds()
        if self.away:
            assert (await job.status()).state is JobState.DISPUTED
            for index in self.away:
                await court.start(index, real=judge())
            await court.rounds()


FIVE: Final = Jury(5, honest=(0, 1, 2), liar=3)
THREE: Final = Jury(3, honest=(0,), liar=2, away=(1,))
CHEAPER: Final[dict[str, Any]] = {"output_price": "10"}
FAIR: Final[dict[str, Any]] = {"output_price": "20"}
JOBS: Final = 6
"""Jobs after the cheater was left."""
QUESTIONS: Final = (
    "What is the capital of France?",
    "Name three rivers.",
    "Write a line about the sea.",
    "Count from one to ten.",
    "Why is the sky blue?",
    "What do bees make?",
    "Say something about bread.",
    "How long is a day on Mars?",
)
SAMPLINGS: Final[tuple[dict[str, Any], ...]] = (
    {"temperature": 0.8},
    {"temperature": 0},
    {"temperature": 1, "top_p": 0.9},
)


async def asked(town: AuditTown, client: AsyncCocoon, number: int) -> AsyncJob:
    """Ask whoever is cheapest, as an app does; return when the result and its audit are there."""
    request = {
        "messages": [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
        "max_tokens": 32,
        **SAMPLINGS[number % len(SAMPLINGS)],
    }
    job = await client.jobs.create(model=MODEL_NAME, request=request)
    await town.settle()
    await job.result(timeout=300)
    assert await client.audits.idle()
    return job


async def live_through(
    town: AuditTown, court: Court, limits: Thresholds, jury: Jury, judge: Callable[[], Judge]
) -> tuple[AsyncCocoon, AsyncJob]:
    """Play it, hold everything against what is promised, and return the client and the slashed job.

    `judge` makes an honest arbiter's judge.
    """
    await jury.take_seats(court, judge)
    chance = random.Random(5)
    policy = town.policy(share=0.5, verifier=None, thresholds=(limits,), draw=chance.random)
    client = await town.client(audit=policy, arbiters=court.urls)
    mallory = town.account("mallory")
    books = Books(town.town.chain)

    # It is the cheapest, so it is asked; and it goes well until a result is drawn.
    jobs: list[AsyncJob] = []
    while not (
        failed := [each for each in await client.audits.list() if each.outcome is AuditOutcome.FAILED]
    ):
        assert len(jobs) < len(QUESTIONS), "it is not caught"
        jobs.append(await asked(town, client, len(jobs)))
        assert (await jobs[-1].status()).worker == mallory
    (finding,) = failed
    assert (finding.subject.worker, finding.subject.number) == (mallory, jobs[-1].id)
    assert finding.level == "slash"
    assert len(finding.verifier.split(", ")) == 2, "one verifier alone accuses nobody"

    # It submits, to be paid for it. The client disputes, the arbiters look.
    for _ in range(20):
        if (await jobs[-1].status()).state is JobState.SUBMITTED:
            break
        town.place.rig.warp(60)
        await town.settle()
    await client.audits.keep()
    (finding,) = [each for each in await client.audits.list() if each.outcome is AuditOutcome.FAILED]
    assert finding.dispute is DisputeStep.DISPUTED
    rules = await rules_of(client, jobs[-1].id)
    stake = town.place.rig.account("mallory")
    before = purse(town.town, client, stake)
    await jury.decide(court, judge, jobs[-1])
    assert (await jobs[-1].status()).state is JobState.SLASHED
    check_slashed(town.town, rules, before, purse(town.town, client, stake), jury)
    await check_explained(town.town, court, client, jobs[-1], jury)

    # Everything after that goes to the others, and is what it says it is.
    honest = [await asked(town, client, number) for number in range(JOBS)]
    assert {(await job.status()).worker for job in honest} <= {town.account("alice"), town.account("bob")}
    assert {(await job.status()).state for job in honest} == {JobState.PAID}
    findings = await client.audits.list()
    accused = {each.subject.worker for each in findings if each.outcome is not AuditOutcome.PASSED}
    assert accused == {mallory}
    scores = {score.worker: score for score in await client.audits.scores()}
    assert scores[mallory].left_at > 0
    assert all(score.left_at == 0 for worker, score in scores.items() if worker != mallory)
    assert sum(score.passed for worker, score in scores.items() if worker != mallory) >= 2
    disputed = [
        job.id
        for job in (*jobs, *honest)
        if JobEventKind.DISPUTED in [event.kind for event in await job.history()]
    ]
    assert disputed == [jobs[-1].id]
    statement = books.close({})
    assert statement.is_balanced, statement.verdict()
    return client, jobs[-1]


@dataclass(frozen=True)
class Rules:
    """What a verdict that takes everything moves, by the parameters of the job, in nanoTON."""

    slash: int
    fee: int
    compensation: int


async def rules_of(client: AsyncCocoon, job_id: int) -> Rules:
    """Read them from the disputed job."""
    dispute = await dispute_of(client, job_id)
    entry = await Escrow.at(client.chain, client.escrow.address).job(job_id)
    assert entry is not None
    rules = m.ParamsRules.from_cell(m.Params.from_cell(dispute.params).rules)
    compensation = max(rules.compensation_floor, entry.price * rules.compensation_bps // c.BASIS_POINTS)
    slash = int(dispute.collateral) * rules.slash_bps // c.BASIS_POINTS
    return Rules(slash, int(rules.arbiter_fee), int(compensation))


def check_slashed(town: Town, rules: Rules, before: Purse, after: Purse, jury: Jury) -> None:
    """Hold what the verdict moved against the rules, to the nanoTON."""
    assert before.stake - after.stake == rules.slash > rules.fee + rules.compensation
    assert after.burned - before.burned == rules.slash - rules.fee - rules.compensation
    assert (after.locked, after.earned, after.fee_due) == (0, before.earned, before.fee_due)
    paid = paid_arbiters(town, before, after, share=rules.fee // jury.majority)
    assert paid == sorted((*jury.honest, *jury.away))


async def check_explained(town: Town, court: Court, client: AsyncCocoon, job: AsyncJob, jury: Jury) -> None:
    """Hold what `cocoon explain` says about the job against what happened, with the numbers behind it."""

    async def inquire(number: int, dispute: Hash | None) -> Sequence[Fact]:
        assert dispute is not None
        return [*await audits_found(client, number), *await arbiters_found(court.urls, dispute)]

    target = JobTarget(client.escrow.address, job.id)
    explained = await explain(client.chain, target, network=town.suite.network, inquire=inquire)
    (audited,) = [fact for fact in explained.facts if isinstance(fact, AuditFound)]
    assert audited.outcome == "failed"
    voted = {fact.arbiter: fact for fact in explained.facts if isinstance(fact, ArbiterFound)}
    right = dict.fromkeys((*jury.honest, *jury.away), "slash")
    assert {index: each.ground for index, each in voted.items()} == right | {jury.liar: "honest"}
    for index in right:
        assert any(each["value"] > each["slash"] for each in voted[index].numbers.values())
    kinds = [type(fact) for fact in explained.facts]
    assert {JobDisputed, VerdictExecuted, WorkerSlashed, SlashArrived} <= set(kinds)
    assert kinds.count(ArbiterPaid) == jury.majority
