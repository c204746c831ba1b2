"""Disputes before whole arbiters: real contracts, real HTTP, the SDK as the client; balances to the nanoTON.

What scores the content is a scripted double (`ScriptedJudge`), the workers' side is played by hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cocoon_sdk.arbiter.errors import OpinionError, SecondVerdictError
from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.judging import Judgement
from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.arbiters import ArbiterUnreachableError
from cocoon_sdk.client.errors import EvidenceNotSentError
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.client.wallets import SignerWallet
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.disputes import (
    Ground,
    Item,
    ItemKind,
    Opinions,
    Receipt,
    Vote,
    VoteCommitment,
    commitment_digest,
    receipt_digest,
)
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.arbiters import (
    Court,
    Purse,
    ScriptedJudge,
    Submission,
    dispute_of,
    paid_arbiters,
    purse,
    submit,
    verifiable,
)
from tests.helpers.audit import at
from tests.helpers.sdk import MODEL_NAME, ScriptedWorker, Town, chat

EVIDENCE_S = 12 * 3600
ARBITRATION_S = 48 * 3600
ARBITER_FEE = int(Nano.ton("0.15"))
COMPENSATION = int(Nano.ton("0.015"))


@pytest.fixture
async def town(blockchain: Blockchain) -> AsyncIterator[Town]:
    made = Town(blockchain)
    yield made
    await made.close()


@pytest.fixture
async def court(town: Town, tmp_path: Path) -> AsyncIterator[Court]:
    made = Court(town.chain, town.adapter, town.suite, tmp_path)
    yield made
    await made.close()


@pytest.fixture
def worker(town: Town) -> ScriptedWorker:
    made = town.worker(announced=False)
    verifiable(made)
    return made


async def submitted(
    town: Town, court: Court, worker: ScriptedWorker, *, with_arbiters: bool = True, **wrong: object
) -> tuple[AsyncCocoon, AsyncJob, Submission]:
    """Open a job and submit for it."""
    client = await town.client(arbiters=court.urls if with_arbiters else None)
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    return client, job, await submit(worker, client, job.id, **wrong)  # type: ignore[arg-type]


def warp(town: Town, seconds: int) -> None:
    town.chain.warp(seconds)


# -- verdicts and money --------------------------------------------------------------------------------------


@dataclass
class Trial:
    """A dispute that the arbiters looked at, and what everybody held before and after."""

    client: AsyncCocoon
    job: AsyncJob
    submission: Submission
    before: Purse
    after: Purse


async def tried(town: Town, court: Court, worker: ScriptedWorker, **wrong: object) -> Trial:
    """Dispute with the client's evidence, and let the arbiters work."""
    client, job, submission = await submitted(town, court, worker, **wrong)  # type: ignore[arg-type]
    await job.dispute()
    before = purse(town, client, worker)
    await court.rounds()
    return Trial(client, job, submission, before, purse(town, client, worker))


def check_money(town: Town, before: Purse, after: Purse, *, paid: int, slashed: int) -> None:
    """Hold every account that a verdict touches against its numbers, to the nanoTON."""
    fee = -(-paid * 100 // 10_000)
    assert (after.stake, after.locked) == (before.stake - slashed, 0)
    assert (after.earned - before.earned, after.fee_due - before.fee_due) == (paid - fee, fee)
    assert after.burned - before.burned == max(0, slashed - ARBITER_FEE - COMPENSATION)
    assert after.reserved == 0
    # k of them are paid equally, out of the bond; the forward fee comes out of each share.
    assert len(paid_arbiters(town, before, after, share=ARBITER_FEE // 3)) == 3


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


# -- evidence ------------------------------------------------------------------------------------------------


async def test_worker_cannot_win_when_it_withholds_its_result(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(3):
        await court.start(index, wallet=index == 0)
    trial = await tried(town, court, worker, without_data=True)
    before, after, job, client = trial.before, trial.after, trial.job, trial.client
    assert (await job.status()).state is JobState.DISPUTED
    assert before.payouts == after.payouts
    warp(town, EVIDENCE_S + 3 * 3600 + 1)
    await court.rounds()
    assert (await job.status()).state is JobState.SLASHED
    check_money(town, before, purse(town, client, worker), paid=0, slashed=before.locked)
    assert not any(judge.cases for judge in court.judges.values())


async def test_worker_that_shows_its_result_only_now_pays_the_arbiters(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(3):
        await court.start(index, wallet=index == 0)
    amount = Nano.ton("0.2")
    worker.announce(terms=worker.terms(sampling="replayable", minimum_price=amount))
    trial = await tried(town, court, worker, without_data=True)
    before, job, client = trial.before, trial.job, trial.client
    # One arbiter is enough: it passes on what it took.
    dispute = await dispute_of(client, job.id)
    (member,) = [each for each in dispute.members.values() if each.index == 1]
    arbiters = court.arbiters()
    taken = await arbiters.deliver(dispute, trial.submission.items, member)
    assert ItemKind.RESULT in taken.taken, taken.problem
    await court.rounds()
    assert all(ItemKind.RESULT in court.hearing(index, dispute).held for index in range(3))
    # The client might still say that it had the result: so everybody waits.
    assert (await job.status()).state is JobState.DISPUTED
    warp(town, EVIDENCE_S + 3 * 3600 + 1)
    await court.rounds()
    assert (await job.status()).state is JobState.PAID
    after = purse(town, client, worker)
    check_money(town, before, after, paid=int(amount) - 1 - ARBITER_FEE, slashed=0)


async def test_client_cannot_win_when_it_withholds_the_payload(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(3):
        await court.start(index, wallet=index == 0)
    client, job, _ = await submitted(town, court, worker, with_arbiters=False)
    await job.dispute()
    with pytest.raises(EvidenceNotSentError, match="does not know where"):
        await job.send_evidence()
    before = purse(town, client, worker)
    await court.rounds()
    assert (await job.status()).state is JobState.DISPUTED
    warp(town, EVIDENCE_S + 3 * 3600 + 1)
    await court.rounds()
    assert (await job.status()).state is JobState.PAID
    check_money(town, before, purse(town, client, worker), paid=int(worker.price()), slashed=0)


async def test_worker_cannot_win_when_what_it_delivered_does_not_open(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(3):
        await court.start(index, wallet=index == 0)
    trial = await tried(town, court, worker, delivered=b"\x03" + bytes(400))
    before, job, client = trial.before, trial.job, trial.client
    assert (await job.status()).state is JobState.DISPUTED  # it may show the result until the deadline
    warp(town, EVIDENCE_S + 3 * 3600 + 1)
    await court.rounds()
    assert (await job.status()).state is JobState.SLASHED
    check_money(town, before, purse(town, client, worker), paid=0, slashed=before.locked)


@pytest.mark.parametrize(
    ("wrong", "state", "slashes"),
    [
        ({"text": b"no result at all"}, JobState.SLASHED, True),
        ({"proof": {}}, JobState.SLASHED, True),
        ({"proof": {"v": 1}}, JobState.SLASHED, True),
        ({"amount": Nano.ton("0.05")}, JobState.REFUNDED, False),
    ],
    ids=["not a result", "no commitment", "not a commitment", "more than its price"],
)
async def test_worker_cannot_win_when_its_result_breaks_a_promise(
    town: Town,
    court: Court,
    worker: ScriptedWorker,
    wrong: dict[str, object],
    state: JobState,
    slashes: bool,
) -> None:
    for index in range(3):
        await court.start(index, wallet=index == 0)
    trial = await tried(town, court, worker, **wrong)
    before, after, job = trial.before, trial.after, trial.job
    assert (await job.status()).state is state
    check_money(town, before, after, paid=0, slashed=before.locked if slashes else 0)
    assert not any(judge.cases for judge in court.judges.values())  # nothing was left to judge


async def test_nobody_can_bring_forged_evidence(town: Town, court: Court, worker: ScriptedWorker) -> None:
    for index in range(3):
        await court.start(index)
    client, job, submission = await submitted(town, court, worker, with_arbiters=False)
    await job.dispute()
    dispute = await dispute_of(client, job.id)
    payload, result = submission.items
    forged = [
        Item(ItemKind.PAYLOAD, payload.data + b" "),
        Item(ItemKind.PAYLOAD, b"\xff\xff\xff\xff"),
        Item(ItemKind.RESULT, result.data.replace(b"Paris", b"Lyon!")),
        Item(ItemKind.CLIENT_KEY, bytes(range(32))),
        Item(ItemKind.CLIENT_KEY, b"short"),
        Item(ItemKind.RECEIVED, worker.account.key.sign(dispute.digest)),
        Item(ItemKind.TERMS, b"{}"),
    ]
    arbiters = court.arbiters()
    for item in forged:
        for delivered in await arbiters.send_evidence(dispute, [item]):
            assert delivered.reached
            assert not delivered.taken, item
            assert delivered.problem, item
    # A wrong key is refused beside the payload too, and what is right in the same delivery is kept.
    for delivered in await arbiters.send_evidence(dispute, [payload, forged[3]]):
        assert delivered.taken == {ItemKind.PAYLOAD}


async def test_evidence_cannot_come_late(town: Town, court: Court, worker: ScriptedWorker) -> None:
    for index in range(3):
        await court.start(index)
    client, job, submission = await submitted(town, court, worker, with_arbiters=False)
    await job.dispute()
    dispute = await dispute_of(client, job.id)
    arbiters = court.arbiters()
    await court.rounds(1)
    warp(town, EVIDENCE_S + 1)
    for delivered in await arbiters.send_evidence(dispute, submission.items):
        assert (delivered.taken, delivered.reached) == (frozenset(), True)
        assert "too late" in delivered.problem


async def test_evidence_that_other_arbiters_held_can_come_later(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    for index in range(2):
        await court.start(index)
    client, job, submission = await submitted(town, court, worker, with_arbiters=False)
    await job.dispute()
    dispute = await dispute_of(client, job.id)
    await court.rounds(1)
    hearing = court.hearing(0, dispute)
    period = hearing.times.period_s

    def held_by(item: Item, *indexes: int) -> Item:
        digest = receipt_digest(dispute.digest, item)
        keys = town.suite.arbiters
        return Item(item.kind, item.data, tuple(Receipt(each, keys[each].sign(digest)) for each in indexes))

    async def takes(item: Item) -> bool:
        delivered = await court.arbiters().deliver(dispute, [item], dispute.members[0])
        return item.kind in delivered.taken

    payload, result = submission.items
    warp(town, EVIDENCE_S + 1)
    assert not await takes(payload)
    # Its own word and a forged one do not count.
    assert not await takes(held_by(payload, 0))
    forged = Item(payload.kind, payload.data, (Receipt(3, bytes(64)), Receipt(77, bytes(64))))
    assert not await takes(forged)
    assert await takes(held_by(payload, 3))
    # What was taken is passed on with one receipt more, in time for all others.
    await court.rounds(1)
    assert court.hearing(1, dispute).held == [ItemKind.PAYLOAD]
    warp(town, period)
    assert not await takes(held_by(result, 3))
    assert not await takes(held_by(result, 3, 3))
    assert await takes(held_by(result, 3, 4))
    warp(town, period)
    await court.rounds(1)
    assert court.hearing(1, dispute).held == [ItemKind.PAYLOAD, ItemKind.RESULT]


# -- signatures ----------------------------------------------------------------------------------------------


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
