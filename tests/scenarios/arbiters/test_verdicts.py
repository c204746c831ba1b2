"""Disputes before whole arbiters: real contracts, real HTTP, the SDK as the client; balances to the nanoTON.

What scores the content is a scripted double (`ScriptedJudge`), the workers' side is played by hand.
"""

from __future__ import annotations

import pytest

from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.judging import Judgement
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.disputes import (
    Ground,
)
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.types import Nano
from tests.helpers.arbiters import (
    Court,
    ScriptedJudge,
    paid_arbiters,
    purse,
)
from tests.helpers.sdk import ScriptedWorker, Town
from tests.helpers.trials import (
    ARBITER_FEE,
    ARBITRATION_S,
    EVIDENCE_S,
    check_money,
    tried,
    warp,
)


@pytest.mark.parametrize(
    ("says", "state", "slashes", "earns"),
    [
        (Ground.HONEST, JobState.PAID, False, True),
        (Ground.SUSPECT, JobState.PAID, False, True),
        (Ground.REFUND, JobState.REFUNDED, False, False),
        (Ground.SLASH, JobState.SLASHED, True, False),
    ],
)
async def test_arbiters_can_decide_as_they_find(
    town: Town,
    court: Court,
    worker: ScriptedWorker,
    says: Ground,
    state: JobState,
    slashes: bool,
    earns: bool,
) -> None:
    for index in range(5):
        await court.start(index, says=says, wallet=index == 3)
    trial = await tried(town, court, worker)
    before, after, job = trial.before, trial.after, trial.job
    assert (await job.status()).state is state
    paid, slashed = int(worker.price()) if earns else 0, before.locked if slashes else 0
    check_money(town, before, after, paid=paid, slashed=slashed)
    # Three had to judge the content that both sides had committed to; nobody judged it twice.
    judged = [len(judge.cases) for judge in court.judges.values()]
    assert sum(judged) >= 3
    assert max(judged) == 1


async def test_arbiters_can_decide_when_one_is_offline_and_one_lies(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index, says in enumerate([Ground.SLASH, Ground.HONEST, Ground.SLASH, Ground.SLASH]):
        await court.start(index, says=says, wallet=index == 2)
    trial = await tried(town, court, worker)
    before, after, job = trial.before, trial.after, trial.job
    assert (await job.status()).state is JobState.SLASHED
    check_money(town, before, after, paid=0, slashed=before.locked)
    # Neither the one that was away nor the one that voted for its friend is paid.
    assert paid_arbiters(town, before, after, share=ARBITER_FEE // 3) == [0, 2, 3]


async def test_arbiter_whose_judge_stumbles_over_the_content_does_not_judge_it_without_end(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    class Stumbling(ScriptedJudge):
        async def judge(self, case: Case) -> Judgement:
            self.cases.append(case)
            raise ValueError("what was asked has a form that nobody thought of")

    stumbling = Stumbling()
    await court.start(0, real=stumbling)
    for index in (1, 2, 3):
        await court.start(index, says=Ground.SLASH, wallet=index == 1)
    trial = await tried(town, court, worker)
    assert (await trial.job.status()).state is JobState.SLASHED
    assert len(stumbling.cases) <= 2


async def test_arbiters_cannot_decide_when_too_few_agree(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    # Of five one is offline and two lie, each in its own way: no three are left.
    for index, says in enumerate([Ground.SLASH, Ground.HONEST, Ground.REFUND, Ground.SLASH]):
        await court.start(index, says=says, wallet=True)
    trial = await tried(town, court, worker)
    before, after, job, client = trial.before, trial.after, trial.job, trial.client
    assert (await job.status()).state is JobState.DISPUTED
    assert before.payouts == after.payouts
    # Late in the dispute the median of the four votes counts, the milder one of the two in the middle.
    warp(town, EVIDENCE_S + ARBITRATION_S * 3 // 4 + 1)
    await court.rounds()
    assert (await job.status()).state is JobState.REFUNDED
    check_money(town, before, purse(town, client, worker), paid=0, slashed=0)


async def test_silent_arbiters_cannot_keep_the_worker_from_being_paid(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(2):
        await court.start(index, says=Ground.SLASH, wallet=True)
    trial = await tried(town, court, worker)
    before, job, client = trial.before, trial.job, trial.client
    warp(town, EVIDENCE_S + ARBITRATION_S)
    await court.rounds()
    assert not any(service.hearings() for service in court.running.values())
    town.chain.actor("anybody").send(client.escrow.address, Nano.ton("0.1"), m.Finalize(id=job.id).to_cell())
    assert (await job.status()).state is JobState.PAID
    after = purse(town, client, worker)
    assert after.payouts == before.payouts
    assert after.earned - before.earned == worker.price() - -(-int(worker.price()) * 100 // 10_000)
