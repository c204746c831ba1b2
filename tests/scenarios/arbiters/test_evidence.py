"""Who has to show what, and when: evidence before whole arbiters."""

from __future__ import annotations

import pytest

from cocoon_sdk.client.errors import EvidenceNotSentError
from cocoon_sdk.protocol.disputes import (
    Item,
    ItemKind,
    Receipt,
    receipt_digest,
)
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.types import Nano
from tests.helpers.arbiters import (
    Court,
    dispute_of,
    purse,
)
from tests.helpers.sdk import ScriptedWorker, Town
from tests.helpers.trials import (
    ARBITER_FEE,
    EVIDENCE_S,
    check_money,
    submitted,
    tried,
    warp,
)


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
