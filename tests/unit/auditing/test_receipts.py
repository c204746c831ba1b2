"""Receipts that do not come: bad luck is forgiven, more than that is not, and nobody can save up for it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.client.auditing import AsyncAudits, AuditPolicy
from cocoon_sdk.client.auditing.consequences import Surroundings
from cocoon_sdk.client.auditing.receipt_watch import ReceiptWatch
from cocoon_sdk.client.auditing.receipts import ALPHA, HONEST, ReceiptScore
from cocoon_sdk.client.auditing.store import AuditStore
from cocoon_sdk.client.auditing.tables import AUDITS_SCHEMA
from cocoon_sdk.client.sessions.answers.finished import EndedPart
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.storage import StorageError, open_database
from tests.helpers.scripted_session_worker import ScriptedSessionWorker

NOW = 1_800_000_000
NETWORK = -3


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AuditStore]:
    database = await open_database(tmp_path / "client.db", AUDITS_SCHEMA)
    yield AuditStore(database)
    await database.close()


def part(at: float = 0.0, *, receipt: bool = False, complete: bool = False, name: str = "alice") -> EndedPart:
    """Return how a request that was sent at `at` ended two seconds later."""
    offer = ScriptedSessionWorker(name, port=1).offer
    return EndedPart(offer, receipt, complete, at, at + 2.0)


def losses_until_left(score: ReceiptScore) -> int:
    """Return how many receipts in a row a worker can withhold before it is left."""
    count = 0
    while not score.over:
        score, count = score.without_receipt(), count + 1
    return count


def test_worker_that_withholds_every_receipt_is_left_after_a_few() -> None:
    assert 3 <= losses_until_left(ReceiptScore()) <= 6


def test_worker_cannot_save_up_good_answers_for_withholding_later() -> None:
    """Ten thousand receipts buy a handful of answers more, not hundreds."""
    assert losses_until_left(ReceiptScore().with_receipts(10_000)) <= 15


def test_worker_cannot_hide_a_share_of_withheld_receipts_between_good_ones() -> None:
    score = ReceiptScore()
    for _ in range(300):
        if score.over:
            break
        score = score.with_receipts(4).without_receipt()
    assert score.over
    assert "came without a receipt" in score.reason


def test_honest_worker_on_a_poor_connection_is_not_left() -> None:
    """Its luck is drawn at the rate that is allowed for; the bound is on being left ever."""
    draw = random.Random(4711)
    left = 0
    for _ in range(400):
        score = ReceiptScore()
        for _ in range(400):
            lost = draw.random() < HONEST
            score = score.without_receipt() if lost else score.with_receipts(1)
        left += score.over
    assert left <= 400 * ALPHA + 3


@given(st.lists(st.integers(0, 40), max_size=30))
def test_score_survives_its_persistent_form(runs: list[int]) -> None:
    score = ReceiptScore()
    for count in runs:
        score = score.with_receipts(count).without_receipt()
    assert ReceiptScore.from_json(score.to_json()) == score
    assert (score.trials, score.lost) == (sum(runs) + len(runs), len(runs))


@pytest.mark.parametrize("bad", [[], {"v": 2}, {**ReceiptScore().to_json(), "lost": 1}, {"v": 1, "peak": 0}])
def test_score_of_another_form_is_refused(bad: Any) -> None:
    with pytest.raises(MalformedError):
        ReceiptScore.from_json(bad)


async def scored(watch: ReceiptWatch, store: AuditStore) -> tuple[int, int, bool]:
    await watch.bring_in(store, NETWORK, NOW)
    (score,) = await store.scores(NETWORK)
    return score.answers, score.unreceipted, bool(score.left_at)


async def test_answers_that_broke_together_count_once(store: AuditStore) -> None:
    """A connection with thirty requests under way breaks: that is one piece of bad luck."""
    watch = ReceiptWatch()
    for number in range(30):
        watch.note(part(number / 100))
    assert await scored(watch, store) == (1, 1, False)
    watch.note(part(10.0, receipt=True))
    watch.note(part(20.0))
    assert await scored(watch, store) == (3, 2, False)


async def test_complete_answers_without_receipts_count_each_even_together(store: AuditStore) -> None:
    """All of it came, only what could be audited did not: that is no broken connection."""
    watch = ReceiptWatch()
    for number in range(6):
        assert watch.note(part(number / 100, complete=True))
    assert await scored(watch, store) == (6, 6, True)
    (score,) = await store.scores(NETWORK, left_only=True)
    assert score.left_why.startswith("6 of 6 answers came without a receipt")


async def test_receipts_are_brought_in_with_losses_and_not_one_by_one(store: AuditStore) -> None:
    watch = ReceiptWatch()
    assert not any(watch.note(part(number, receipt=True)) for number in range(50))
    assert await store.scores(NETWORK) == []
    assert watch.note(part(100.0))
    assert await scored(watch, store) == (51, 1, False)
    assert watch.empty


async def test_nothing_is_lost_when_the_database_fails_meanwhile(store: AuditStore) -> None:
    class Failing:
        async def note_receipts(self, *values: Any) -> None:
            for number in (70.0, 80.0):
                watch.note(part(number))
            raise StorageError("the disk is full")

    watch = ReceiptWatch()
    for number in range(3):
        watch.note(part(number, receipt=True))
    with pytest.raises(StorageError):
        await watch.bring_in(Failing(), NETWORK, NOW)  # type: ignore[arg-type]
    assert await scored(watch, store) == (5, 2, False)


async def test_forgiven_worker_begins_anew(store: AuditStore) -> None:
    watch = ReceiptWatch()
    for number in range(6):
        watch.note(part(number, complete=True))
    offer = part().offer
    assert await watch.bring_in(store, NETWORK, NOW)
    assert await store.forgive(NETWORK, offer.address)
    watch.note(part(50.0, receipt=True))
    assert await scored(watch, store) == (1, 0, False)


async def test_finding_leaves_the_receipts_of_its_score_alone(store: AuditStore) -> None:
    watch = ReceiptWatch()
    watch.note(part(1.0))
    watch.note(replace(part(9.0), receipt=True))
    assert await scored(watch, store) == (2, 1, False)
    assert await scored(watch, store) == (2, 1, False)


async def test_worker_that_withholds_receipts_is_left_by_every_process_and_can_be_forgiven(
    tmp_path: Path,
) -> None:
    left: list[tuple[str, str]] = []

    async def domain() -> Domain:
        return Domain(NETWORK, part().offer.address, 1)

    def audits(name: str) -> AsyncAudits:
        around = Surroundings(
            domain=domain,
            job=lambda number: pytest.fail("nothing is disputed"),
            leave=lambda worker, why: left.append((name, why)),
            come_back=lambda worker: left.clear(),
        )
        policy = AuditPolicy(share=0.05, every_s=3600.0)
        return AsyncAudits(policy, tmp_path / "client.db", None, around, ManualClock(NOW))

    first, second = audits("first"), audits("second")
    for number in range(6):
        first.ended(part(float(number), complete=True))
    assert await first.idle()
    why = "6 of 6 answers came without a receipt: more than broken connections explain"
    assert left == [("first", why)]
    assert first.numbers.unreceipted == 6
    await second.keep()
    assert left == [("first", why), ("second", why)]
    (score,) = await second.scores()
    assert (score.unreceipted, score.left_why, score.checked) == (6, why, 0)
    assert await second.forgive(score.worker)
    assert left == []
    second.ended(part(90.0, receipt=True))
    await second.close()  # what was noted is kept
    (score,) = await first.scores()
    assert (score.answers, score.unreceipted, score.left_at) == (1, 0, 0)
    await first.close()
