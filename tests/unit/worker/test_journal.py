"""The journal: durable, one writer, one result per job, and honest about a full disk."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pytoniq_core import Address, begin_cell

from cocoon_sdk.chain.watcher import Cursor
from cocoon_sdk.types import Nano
from cocoon_worker.database import Database
from cocoon_worker.errors import (
    IllegalTransitionError,
    JournalError,
    JournalFullError,
    JournalLockedError,
    JournalMismatchError,
)
from cocoon_worker.journal import _JOB_COLUMNS, Journal, _job_values
from cocoon_worker.records import JobKey, PayloadRecord, PlannedAction
from cocoon_worker.schema import SCHEMA, SCHEMA_VERSION
from cocoon_worker.states import OVER, ActionKind, ExternalState, JobState
from tests.unit.worker.samples import NOW, job_record, result_record

OWNER = "-239:0:ab"
ACCOUNT = Address((0, bytes(32)))
MESSAGE = begin_cell().store_uint(7, 32).end_cell()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path, OWNER)
    yield journal
    journal.close()


def add_external(journal: Journal, seqno: int = 0, body: bytes = b"\x01" * 32) -> int:
    return journal.add_external(
        seqno=seqno,
        valid_until=NOW,
        message=MESSAGE,
        body_hash=body,
        actions=[
            PlannedAction(ActionKind.CLAIM, JobKey(1, 2)),
            PlannedAction(ActionKind.ANNOUNCE, model_id=b"\x05" * 32),
        ],
        info_hash=b"\x06" * 32,
    )


def write_version_1(path: Path) -> None:
    """What version 1 made of an empty journal: two columns had other names, one was not there."""
    with sqlite3.connect(path) as old:
        old.executescript(
            SCHEMA.replace("    bond INTEGER NOT NULL,\n", "")
            .replace("lock INTEGER", "nonce INTEGER")
            .replace("claimed INT", "locked INT")
        )
        old.execute("INSERT INTO meta VALUES ('owner', ?)", (OWNER,))
        old.execute("PRAGMA user_version=1")
    old.close()


def test_journal_can_return_everything_when_it_was_closed_and_opened(path: Path, journal: Journal) -> None:
    job = job_record(state=JobState.RUNNING, claimed=True, bond=Nano(7), lock=3, reason="why")
    with journal.transaction():
        assert journal.add_job(job)
        journal.put_payload(job.key, PayloadRecord(b"data", b"12345678"))
        journal.put_result(job.key, result_record())
        journal.put_cursor(ACCOUNT, Cursor(5, b"\x01" * 32))
        journal.put_meta("announced", "x")
        add_external(journal)
    journal.close()
    again = Journal(path, OWNER)
    try:
        assert again.job(job.key) == job
        assert again.jobs([JobState.RUNNING]) == [job]
        assert again.locked_jobs() == [job]
        assert again.payload(job.key) == PayloadRecord(b"data", b"12345678")
        assert again.prekeys_in_use() == {b"12345678"}
        assert again.result(job.key) == result_record()
        assert again.cursor(ACCOUNT) == Cursor(5, b"\x01" * 32)
        assert again.meta("announced") == "x"
        pending = again.pending_external()
        assert pending is not None
        assert pending.message.hash == MESSAGE.hash
        assert [action.kind for action in pending.actions] == [ActionKind.CLAIM, ActionKind.ANNOUNCE]
        assert pending.actions[0].key == JobKey(1, 2)
        assert pending.info_hash == b"\x06" * 32
    finally:
        again.close()


def test_second_worker_cannot_open_the_journal_when_the_first_has_it(path: Path, journal: Journal) -> None:
    with pytest.raises(JournalLockedError, match="in use"):
        Journal(path, OWNER)
    journal.close()
    Journal(path, OWNER).close()


def test_another_stake_cannot_use_the_journal(path: Path, journal: Journal) -> None:
    journal.close()
    with pytest.raises(JournalMismatchError, match="belongs to"):
        Journal(path, "-3:0:ab")
    Journal(path, OWNER).close()  # the refusal let go of the lock


def test_journal_cannot_be_opened_when_it_is_of_a_newer_version(path: Path, journal: Journal) -> None:
    with journal.transaction():
        journal.database.write("PRAGMA user_version=99")
    journal.close()
    with pytest.raises(JournalMismatchError, match="version 99"):
        Journal(path, OWNER)


def test_journal_can_be_used_on_when_an_older_version_wrote_it(path: Path) -> None:
    jobs = [
        job_record(key=JobKey(1, 1)),
        job_record(key=JobKey(1, 2), claimed=True, lock=7),
        job_record(key=JobKey(1, 3), claimed=True),
    ]
    write_version_1(path)
    with sqlite3.connect(path) as old:
        for job, (nonce, locked) in zip(jobs, ((0, 0), (7, 1), (8, 0)), strict=True):
            values = list(_job_values(job))
            at = _JOB_COLUMNS.index("lock")
            assert _JOB_COLUMNS[at : at + 3] == ("lock", "claimed", "bond")
            values[at : at + 3] = [nonce, locked]
            old.execute(f"INSERT INTO jobs VALUES ({','.join('?' * len(values))})", values)
    old.close()
    for _ in range(2):
        journal = Journal(path, OWNER)
        assert journal.jobs(JobState) == jobs
        assert journal.database.read("PRAGMA user_version")[0][0] == SCHEMA_VERSION
        with journal.transaction():
            journal.put_job(jobs[1])
        journal.close()


def test_another_stake_cannot_use_the_journal_when_an_older_version_wrote_it(path: Path) -> None:
    write_version_1(path)
    with pytest.raises(JournalMismatchError, match="belongs to"):
        Journal(path, "-3:0:ab")
    database = Database(path)
    assert database.read("PRAGMA user_version")[0][0] == 1
    database.close()


def test_stranger_cannot_read_the_journal(path: Path, journal: Journal) -> None:
    with journal.transaction():
        journal.put_meta("a", "b")
    for name in os.listdir(path.parent):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600, name


def test_nothing_is_written_when_a_step_fails_half_way(journal: Journal) -> None:
    def step() -> None:
        with journal.transaction():
            journal.add_job(job_record())
            with journal.transaction():  # joins the outer one
                journal.put_meta("a", "b")
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        step()
    assert journal.job(job_record().key) is None
    assert journal.meta("a") is None


def test_nothing_can_be_written_outside_of_a_transaction(journal: Journal) -> None:
    with pytest.raises(JournalError, match="outside"):
        journal.put_meta("a", "b")


def test_journal_cannot_grow_when_the_disk_is_full_and_keeps_what_it_had(journal: Journal) -> None:
    with journal.transaction():
        journal.add_job(job_record())
    journal.database.limit_pages(1)

    def grow() -> None:
        with journal.transaction():
            for number in range(2, 2000):
                key = JobKey(number, number)
                journal.add_job(job_record(key=key))
                journal.put_payload(key, PayloadRecord(bytes(4096)))

    with pytest.raises(JournalFullError, match="nothing was sent"):
        grow()
    assert journal.jobs(JobState) == [job_record()]
    journal.database.limit_pages(1 << 20)
    with journal.transaction():
        journal.put_meta("room", "again")


def test_damaged_file_cannot_be_used_and_says_so(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalError, match="cannot open the journal"):
        Journal(path, OWNER)


def test_job_cannot_move_outside_of_the_table(journal: Journal) -> None:
    with journal.transaction():
        journal.add_job(job_record())
    with pytest.raises(IllegalTransitionError), journal.transaction():
        journal.put_job(job_record(state=JobState.PAID))
    assert journal.job(job_record().key) == job_record()


def test_job_cannot_have_two_results(journal: Journal) -> None:
    job = job_record()
    with journal.transaction():
        journal.put_result(job.key, result_record())
    with pytest.raises(JournalError, match="has a result already"), journal.transaction():
        journal.put_result(job.key, result_record())


def test_known_job_cannot_be_added_again(journal: Journal) -> None:
    with journal.transaction():
        assert journal.add_job(job_record())
        assert not journal.add_job(job_record(notice_lt=99, state=JobState.PAID))
    assert journal.job(job_record().key) == job_record()


def test_external_cannot_be_forgotten_by_its_body_or_its_rivals(journal: Journal) -> None:
    with journal.transaction():
        add_external(journal, 4)
    first = journal.external_by_body(b"\x01" * 32)
    assert first is not None
    with journal.transaction():
        journal.note_send(first, NOW)
        journal.set_external(first, ExternalState.EXPIRED)
        add_external(journal, 4, b"\x02" * 32)
    assert [each.body_hash[0] for each in journal.rivals(4)] == [1, 2]
    pending = journal.pending_external()
    assert pending is not None
    assert pending.body_hash[0] == 2
    late = journal.external_by_body(b"\x01" * 32)
    assert late is not None
    assert (late.sends, late.sent_at) == (1, NOW)
    with journal.transaction():
        journal.set_external(pending, ExternalState.VOID)
        journal.set_external(late, ExternalState.CONFIRMED)
    with pytest.raises(IllegalTransitionError), journal.transaction():
        journal.set_external(replace(late, state=ExternalState.CONFIRMED), ExternalState.PENDING)


def test_evidence_can_be_wiped_while_the_result_stays(journal: Journal) -> None:
    job = job_record()
    with journal.transaction():
        journal.put_payload(job.key, PayloadRecord(b"data", b"12345678"))
        journal.put_result(job.key, result_record())
        journal.wipe_evidence(job.key)
    result = journal.result(job.key)
    assert result is not None
    assert (result.text, result.sealed) == (b"", b"sealed")
    assert journal.payload(job.key) is None
    assert journal.prekeys_in_use() == set()


def test_old_jobs_can_be_pruned_only_when_over_and_unlocked(journal: Journal) -> None:
    old = {"updated_at": NOW - 100}
    over = job_record(key=JobKey(1, 1), state=JobState.PAID, **old)
    locked = job_record(key=JobKey(1, 2), state=JobState.LOST, lock=1, **old)
    alive = job_record(key=JobKey(1, 3), state=JobState.RUNNING, **old)
    fresh = job_record(key=JobKey(1, 4), state=JobState.PAID)
    with journal.transaction():
        for job in (over, locked, alive, fresh):
            journal.add_job(job)
            journal.put_result(job.key, result_record())
        journal.prune(OVER, results_before=NOW - 50, jobs_before=NOW - 200)
    assert [journal.result(JobKey(1, n)) is not None for n in (1, 2, 3, 4)] == [False, True, True, True]
    with journal.transaction():
        journal.prune(OVER, results_before=NOW - 50, jobs_before=NOW - 50)
    assert {job.key.id for job in journal.jobs(JobState)} == {2, 3, 4}


def test_long_reason_cannot_fill_the_journal(journal: Journal) -> None:
    with journal.transaction():
        journal.add_job(job_record(reason="x" * 10_000))
    job = journal.job(job_record().key)
    assert job is not None
    assert len(job.reason) == 500
