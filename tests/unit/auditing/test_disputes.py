"""Automatic disputes: what the chain says decides, and neither the policy nor a day's bonds are exceeded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client.auditing import AuditPolicy
from cocoon_sdk.client.auditing.disputes import DisputeDesk
from cocoon_sdk.client.auditing.records import AuditOutcome, AuditRecord, DisputeStep
from cocoon_sdk.client.auditing.store import AuditStore
from cocoon_sdk.client.auditing.tables import AUDITS_SCHEMA
from cocoon_sdk.client.errors import EvidenceNotSentError, EvidenceTooLateError
from cocoon_sdk.client.job_status import JobStatus
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import ChainUnavailableError
from cocoon_sdk.protocol.exit_codes import TooLateError
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.storage import open_database
from cocoon_sdk.types import Nano
from tests.unit.auditing.test_store import DOMAIN, NOW, WORKER, concluded, subject

BOND = Nano(100)


@dataclass
class ScriptedJob:
    """Stands where a test puts it; a dispute moves it."""

    state: JobState = JobState.SUBMITTED
    late: bool = False
    fails: Exception | None = None
    evidence_fails: bool = False
    evidence_late: bool = False
    calls: list[str] = field(default_factory=list)

    async def status(self) -> JobStatus:
        return JobStatus(1, self.state, None, self.late, "", WORKER, None, None)

    async def bond(self) -> Nano:
        return BOND

    async def dispute(self) -> JobStatus:
        self.calls.append("dispute")
        if self.fails is not None:
            raise self.fails
        self.state = JobState.DISPUTED
        await self.send_evidence()
        return await self.status()

    async def send_evidence(self) -> None:
        self.calls.append("evidence")
        if self.evidence_fails:
            raise EvidenceNotSentError("the evidence is with no arbiter")
        if self.evidence_late:
            raise EvidenceTooLateError("the evidence is with 1 arbiters, 2 are needed")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AuditStore]:
    database = await open_database(tmp_path / "client.db", AUDITS_SCHEMA)
    yield AuditStore(database)
    await database.close()


def desk(store: AuditStore, job: ScriptedJob, *, limit: Nano | None = None, **policy: Any) -> DisputeDesk:
    return DisputeDesk(
        store.disputes,
        AuditPolicy(**policy),
        lambda number: job,
        "me",
        ManualClock(NOW),
        limit=limit,
        with_evidence=True,
    )


async def wanted(store: AuditStore, number: int = 1) -> AuditRecord:
    await concluded(store, subject(number), outcome=AuditOutcome.FAILED, dispute=DisputeStep.WANTED)
    return next(each for each in await store.disputes.wanted(DOMAIN) if each.subject.number == number)


@pytest.mark.parametrize(
    ("state", "late", "step"),
    [
        (JobState.SUBMITTED, False, DisputeStep.DISPUTED),
        (JobState.SUBMITTED, True, DisputeStep.TOO_LATE),
        (JobState.DISPUTED, False, DisputeStep.DISPUTED),
        (JobState.OFFERED, False, DisputeStep.WANTED),
        (JobState.OFFERED, True, DisputeStep.NOT_NEEDED),
        (JobState.PAID, False, DisputeStep.TOO_LATE),
        (JobState.REFUNDED, False, DisputeStep.NOT_NEEDED),
        (JobState.SLASHED, False, DisputeStep.NOT_NEEDED),
    ],
)
async def test_chain_decides_what_becomes_of_a_dispute(
    store: AuditStore, state: JobState, late: bool, step: DisputeStep
) -> None:
    job = ScriptedJob(state, late)
    assert await desk(store, job).run(await wanted(store)) is step
    ((record),) = await store.findings(DOMAIN)
    assert record.dispute is step
    disputed = state is JobState.SUBMITTED and not late
    assert job.calls.count("dispute") == (1 if disputed else 0)
    assert record.bond == (BOND if disputed else 0)
    assert await store.disputes.holder_of(record.uid) is None


async def test_dispute_that_cannot_be_sent_is_tried_again_with_the_same_bond(store: AuditStore) -> None:
    job = ScriptedJob(fails=ChainUnavailableError("the endpoint is down"))
    record = await wanted(store)
    assert await desk(store, job).run(record) is DisputeStep.WANTED
    job.fails = None
    (record,) = await store.disputes.wanted(DOMAIN)
    assert record.bond == BOND
    assert await desk(store, job, bonds_per_day=BOND).run(record) is DisputeStep.DISPUTED
    assert job.calls == ["dispute", "dispute", "evidence"]


async def test_evidence_is_sent_again_without_a_second_dispute(store: AuditStore) -> None:
    job = ScriptedJob(evidence_fails=True)
    assert await desk(store, job).run(await wanted(store)) is DisputeStep.WANTED
    (record,) = await store.disputes.wanted(DOMAIN)
    job.evidence_fails = False
    assert await desk(store, job).run(record) is DisputeStep.DISPUTED
    assert job.calls == ["dispute", "evidence", "evidence"]


async def test_evidence_is_sent_until_its_deadline_and_not_beyond(store: AuditStore) -> None:
    job = ScriptedJob(evidence_fails=True)
    assert await desk(store, job).run(await wanted(store)) is DisputeStep.WANTED
    (record,) = await store.disputes.wanted(DOMAIN)
    job.evidence_fails, job.evidence_late = False, True
    assert await desk(store, job).run(record) is DisputeStep.DISPUTED
    assert await store.disputes.wanted(DOMAIN) == []
    (record,) = await store.findings(DOMAIN)
    assert "2 are needed" in record.dispute_why


async def test_dispute_of_ours_that_ended_before_it_was_noted_is_no_late_one(store: AuditStore) -> None:
    job = ScriptedJob(evidence_fails=True)
    await desk(store, job).run(await wanted(store))
    job.state = JobState.SLASHED
    (record,) = await store.disputes.wanted(DOMAIN)
    assert await desk(store, job).run(record) is DisputeStep.DISPUTED
    (record,) = await store.findings(DOMAIN)
    assert "slashed" in record.dispute_why


async def test_window_that_ends_on_the_way_is_too_late(store: AuditStore) -> None:
    job = ScriptedJob(fails=TooLateError("the window is over"))
    assert await desk(store, job).run(await wanted(store)) is DisputeStep.TOO_LATE
    (record,) = await store.findings(DOMAIN)
    assert record.bond == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dispute": False}, "does not dispute"),
        ({"most_bond": Nano(99)}, "the policy allows"),
        ({"bonds_per_day": Nano(199)}, "does not fit"),
        ({"limit": Nano(199)}, "does not fit"),
    ],
)
async def test_neither_policy_nor_limits_are_exceeded(
    store: AuditStore, options: dict[str, Any], words: str
) -> None:
    job = ScriptedJob()
    assert await desk(store, job).run(await wanted(store, 1)) is DisputeStep.DISPUTED
    job.state = JobState.SUBMITTED
    assert await desk(store, job, **options).run(await wanted(store, 2)) is DisputeStep.REFUSED
    record = await store.get(subject(2).uid)
    assert record is not None
    assert words in record.dispute_why
    assert job.calls.count("dispute") == 1


async def test_dispute_in_another_process_is_left_alone(store: AuditStore) -> None:
    record, job = await wanted(store), ScriptedJob()
    assert await store.disputes.take(record.uid, "another", NOW, NOW + 60)
    assert await desk(store, job).run(record) is DisputeStep.WANTED
    assert job.calls == []
