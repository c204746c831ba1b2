"""Commitments, verdicts and their signatures; and disputes that nobody means."""

from __future__ import annotations

import dataclasses

import pytest

from cocoon_sdk.arbiter.errors import OpinionError, SecondVerdictError
from cocoon_sdk.client.arbiter_endpoints import ArbiterUnreachableError
from cocoon_sdk.client.wallets import SignerWallet
from cocoon_sdk.protocol.disputes import (
    Ground,
    Opinions,
    Vote,
    VoteCommitment,
    commitment_digest,
)
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.types import Nano
from tests.helpers.arbiters import (
    Court,
    dispute_of,
    purse,
    submit,
)
from tests.helpers.audit import at
from tests.helpers.sdk import MODEL_NAME, ScriptedWorker, Town, chat
from tests.helpers.trials import (
    check_money,
    submitted,
    tried,
)


async def test_party_that_wins_can_hand_the_verdict_in(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.SLASH)  # none of them has a wallet
    trial = await tried(town, court, worker)
    before, after, job, client = trial.before, trial.after, trial.job, trial.client
    dispute, arbiters = await dispute_of(client, job.id), court.arbiters()
    assert before.payouts == after.payouts
    wallet = SignerWallet(town.adapter, town.chain.actor("winner", Nano.ton(1)))
    found = await arbiters.resolve(town.adapter, dispute, wallet)
    assert found is not None
    assert (found.pay, found.slash, sorted(found.signatures)) == (0, before.locked, [0, 1, 2])
    assert (await job.status()).state is JobState.SLASHED
    check_money(town, before, purse(town, client, worker), paid=0, slashed=before.locked)


async def test_verdict_cannot_be_played_back_in_another_dispute(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.REFUND)
    client, first, _ = await submitted(town, court, worker)
    second = await client.jobs.create(model=MODEL_NAME, messages=chat("And of Italy?"), accept="manual")
    await submit(worker, client, second.id)
    await first.dispute()
    await court.rounds()
    old = await dispute_of(client, first.id)
    for service in court.running.values():
        judged = service.hearing(old.digest)
        assert judged is not None
        assert await judged.complete() is not None
    for judge in court.judges.values():
        judge.says = None  # the second dispute gets no votes of its own
    await second.dispute()
    await court.rounds()
    dispute = await dispute_of(client, second.id)
    opinions = await court.hearing(0, old).opinions()
    here = court.hearing(1, dispute)
    for played in (opinions, opinions.model_copy(update={"dispute": dispute.digest})):
        with pytest.raises(OpinionError):
            await here.hear(played)
    assert await here.complete() is None
    # The escrow refuses it as well: signatures name dispute and job.
    found = await court.hearing(0, old).complete()
    assert found is not None
    (pay, slash), signatures = found
    caller = town.chain.actor("caller")
    for resolve, code in (
        (dispute.resolve(pay, slash, signatures), ExitCode.BAD_SIGNATURE),
        (dataclasses.replace(old.resolve(pay, slash, signatures), id=second.id), ExitCode.BAD_VERDICT),
    ):
        done = caller.send(client.escrow.address, Nano.ton("0.1"), resolve.to_cell())
        assert [each.exit_code for each in at(done, client.escrow.address)] == [code]
    assert (await second.status()).state is JobState.DISPUTED


async def test_arbiter_that_commits_twice_is_not_counted(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.REFUND if index else Ground.HONEST)
    client, job, _ = await submitted(town, court, worker)
    await job.dispute()
    await court.rounds()
    dispute = await dispute_of(client, job.id)
    hearing = court.hearing(1, dispute)
    # Arbiter 0 voted once already; its key signs another vote.
    key = town.suite.arbiters[0]
    other = Vote(
        dispute=dispute.digest, index=0, pay=Nano(1), slash=Nano(0), ground=Ground.HONEST, late=False
    )
    digest = other.digest()
    second = VoteCommitment(
        index=0, vote=digest, signature=key.sign(commitment_digest(dispute.digest, 0, digest))
    )
    await hearing.hear(Opinions(dispute=dispute.digest, commitments=(second,), votes=(other,)))
    panel = await hearing.panel()
    assert panel.honest == {1, 2}
    assert set(panel.counted()) <= {1, 2}
    await court.rounds()
    # It was passed on, and the arbiter itself falls silent: somebody has its key.
    assert (await court.hearing(2, dispute).panel()).honest == {1, 2}
    assert court.hearing(0, dispute).is_doubled


async def test_killed_arbiter_goes_on_with_the_same_vote(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    await court.start(0, says=Ground.SLASH)
    client, job, _ = await submitted(town, court, worker)
    await job.dispute()
    await court.rounds()
    dispute = await dispute_of(client, job.id)
    own = await court.hearing(0, dispute).own()
    assert own is not None
    assert not own.shown
    await court.stop(0)
    # It comes back with another opinion, beside others: what it committed to counts.
    for index in range(3):
        await court.start(index, says=Ground.SLASH if index else Ground.HONEST, wallet=index == 2)
    again = await court.hearing(0, dispute).own()
    assert again is not None
    assert again.vote == own.vote
    with pytest.raises(SecondVerdictError):
        await court.hearing(0, dispute).vote(Ground.HONEST)
    await job.send_evidence()
    await court.rounds()
    assert (await job.status()).state is JobState.SLASHED
    assert not court.judges[0].cases


async def test_arbiter_that_lost_its_store_cannot_vote_again(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(2):
        await court.start(index, says=Ground.SLASH)
    client, job, _ = await submitted(town, court, worker)
    await job.dispute()
    await court.rounds()
    dispute = await dispute_of(client, job.id)
    await court.stop(0)
    for file in court.root.glob("arbiter-0.sqlite*"):
        file.unlink()
    await court.start(0, says=Ground.HONEST)
    await court.rounds(1)
    hearing = court.hearing(0, dispute)
    await hearing.hear(await court.hearing(1, dispute).opinions())
    await job.send_evidence()
    await court.rounds()
    assert hearing.is_doubled
    assert await hearing.own() is None


# -- spam ----------------------------------------------------------------------------------------------------


async def test_spam_cannot_keep_arbiters_from_a_real_dispute(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(3):
        await court.start(index, says=Ground.SLASH, wallet=index == 0, max_disputes=2)
    _, job, _ = await submitted(town, court, worker)
    # More disputes without evidence than are followed at a time.
    spammer = town.cocoon()
    for _ in range(3):
        spam = await spammer.jobs.create(model=MODEL_NAME, messages=chat("spam"), accept="manual")
        await submit(worker, spammer, spam.id)
        await spam.dispute()
        await court.rounds(1)
    assert all(len(service.hearings()) == 2 for service in court.running.values())
    await job.dispute()
    await court.rounds()
    assert (await job.status()).state is JobState.SLASHED


async def test_strangers_cannot_make_arbiters_follow_what_is_not_disputed(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    await court.start(0, requests_per_minute=50)
    client, job, _ = await submitted(town, court, worker)
    await job.dispute()
    dispute = await dispute_of(client, job.id)
    endpoints, url = court.arbiters().endpoints, next(iter(court.urls.values()))
    wrong = [
        dataclasses.replace(dispute, number=7),
        dataclasses.replace(dispute, escrow=worker.address),
    ]
    for each in wrong:
        with pytest.raises(ArbiterUnreachableError, match="404"):
            await endpoints.announce(url, each)
    # Asking costs: the next one within a minute is refused without a look at the chain.
    with pytest.raises(ArbiterUnreachableError, match="429"):
        await endpoints.announce(url, wrong[0])
