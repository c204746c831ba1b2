"""The worker's memory: what it saw, decided, computed, signed and sent, so that a restart repeats nothing.

Owns the stored form and the rules that hold over all of it: states change only along the tables, a job has at
most one result, and nothing is sent that is not here first. Must not know chains, engines or policies.
Everything is written inside `transaction()`; see `cocoon_worker.database` for its guarantees.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.watcher import Cursor
from cocoon_sdk.types import Nano
from cocoon_worker.database import Database
from cocoon_worker.errors import JournalError, JournalMismatchError
from cocoon_worker.records import (
    ExternalRecord,
    JobFacts,
    JobKey,
    JobRecord,
    PayloadRecord,
    PlannedAction,
    ResultRecord,
)
from cocoon_worker.schema import MIGRATIONS, PARTS_SCHEMA, SCHEMA, SCHEMA_VERSION, SESSION_SCHEMA
from cocoon_worker.states import (
    EXTERNAL_TRANSITIONS,
    JOB_TRANSITIONS,
    ActionKind,
    ExternalState,
    JobState,
    check_transition,
)

_JOB_COLUMNS: Final = (
    "escrow", "id", "state", "is_open", "notice_lt", "created_at", "updated_at", "deadline", "lock",
    "claimed", "bond", "collateral", "amount", "paid", "fee", "slashed", "ready_at", "not_before", "tries",
    "reason", "facts",
)  # fmt: skip
_MAX_REASON: Final = 500


class Journal:
    """One worker's journal; `owner` names network and stake, and a journal of another one is refused.

    Raises `JournalLockedError`, `JournalMismatchError`, `JournalFullError` or `JournalError`.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.database = Database(path)
        try:
            self._prepare(owner)
        except BaseException:
            self.database.close()
            raise

    def _prepare(self, owner: str) -> None:
        version = self.database.read("PRAGMA user_version")[0][0]
        if version == 0:
            with self.transaction():
                self.database.run_script(f"{SCHEMA}{SESSION_SCHEMA};{PARTS_SCHEMA}")
                self.put_meta("owner", owner)
                self.database.write(f"PRAGMA user_version={SCHEMA_VERSION}")
            return
        if version > SCHEMA_VERSION:
            raise JournalMismatchError(
                "cannot use this journal", why=f"it has version {version}", hint="Update the worker"
            )
        if self.meta("owner") != owner:
            raise JournalMismatchError(
                "cannot use this journal",
                why=f"it belongs to {self.meta('owner')}, this worker is {owner}",
                hint="Give each stake a data directory of its own",
            )
        for older in range(version, SCHEMA_VERSION):
            with self.transaction():
                self.database.run_script(MIGRATIONS[older])
                self.database.write(f"PRAGMA user_version={older + 1}")

    def close(self) -> None:
        """Let go of the file without writing anything."""
        self.database.close()

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context whose writes become durable together. See `Database.transaction`."""
        return self.database.transaction()

    # -- cursors and small things ---------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """Return a stored setting."""
        rows = self.database.read("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def put_meta(self, key: str, value: str) -> None:
        """Store a setting."""
        self.database.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def cursor(self, account: Address) -> Cursor | None:
        """Return how far an account was watched; None when it never was."""
        rows = self.database.read("SELECT lt, hash FROM cursors WHERE account = ?", (account.hash_part,))
        return Cursor(rows[0]["lt"], rows[0]["hash"]) if rows else None

    def put_cursor(self, account: Address, cursor: Cursor) -> None:
        """Store how far an account was watched, in the transaction of the effects."""
        self.database.write(
            "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (account.hash_part, cursor.lt, cursor.hash)
        )

    # -- jobs ------------------------------------------------------------------------------------------

    def add_job(self, job: JobRecord) -> bool:
        """Store a new job; False when it is known already, which changes nothing."""
        marks = ",".join("?" * len(_JOB_COLUMNS))
        sql = f"INSERT OR IGNORE INTO jobs ({','.join(_JOB_COLUMNS)}) VALUES ({marks})"  # noqa: S608
        return self.database.write(sql, _job_values(job)).rowcount == 1

    def put_job(self, job: JobRecord) -> None:
        """Store a known job's new state. Raises `IllegalTransitionError` outside of the table."""
        old = self.job(job.key)
        if old is None:
            raise JournalError(f"job {job.key} is not in the journal", hint="This is a bug: report it")
        check_transition(JOB_TRANSITIONS, old.state, job.state)
        setters = ",".join(f"{name} = ?" for name in _JOB_COLUMNS[2:])
        sql = f"UPDATE jobs SET {setters} WHERE escrow = ? AND id = ?"  # noqa: S608
        values = _job_values(job)
        self.database.write(sql, (*values[2:], *values[:2]))

    def job(self, key: JobKey) -> JobRecord | None:
        """Return a job."""
        rows = self.database.read("SELECT * FROM jobs WHERE escrow = ? AND id = ?", _key(key))
        return _job(rows[0]) if rows else None

    def jobs(self, states: Iterable[JobState], *, limit: int = 10_000) -> list[JobRecord]:
        """Return jobs in any of the states, oldest first."""
        names = [state.value for state in states]
        marks = ",".join("?" * len(names))
        sql = f"SELECT * FROM jobs WHERE state IN ({marks}) ORDER BY created_at, escrow, id LIMIT ?"  # noqa: S608
        return [_job(row) for row in self.database.read(sql, (*names, limit))]

    def locked_jobs(self) -> list[JobRecord]:
        """Return the jobs whose collateral the stake holds, whatever their state, the oldest locks first."""
        return [
            _job(row) for row in self.database.read("SELECT * FROM jobs WHERE lock <> 0 ORDER BY lock, id")
        ]

    def count_jobs(self) -> dict[JobState, int]:
        """Return how many jobs are in each state."""
        rows = self.database.read("SELECT state, COUNT(*) FROM jobs GROUP BY state")
        return {JobState(row[0]): row[1] for row in rows}

    def totals(self) -> tuple[Nano, Nano, Nano]:
        """Return what all jobs together were paid (before fees), the fees, and what was slashed.

        Lost bonds count as slashed.
        """
        row = self.database.read("SELECT TOTAL(paid), TOTAL(fee), TOTAL(slashed) FROM jobs")[0]
        return Nano(int(row[0])), Nano(int(row[1])), Nano(int(row[2]))

    # -- payloads and results ----------------------------------------------------------------------------

    def put_payload(self, key: JobKey, payload: PayloadRecord) -> None:
        """Keep a job's payload, as it travelled."""
        values = (*_key(key), payload.data, payload.prekey_id)
        self.database.write("INSERT OR REPLACE INTO payloads VALUES (?, ?, ?, ?)", values)

    def payload(self, key: JobKey) -> PayloadRecord | None:
        """Return a job's payload."""
        rows = self.database.read("SELECT * FROM payloads WHERE escrow = ? AND id = ?", _key(key))
        return PayloadRecord(rows[0]["data"], rows[0]["prekey_id"]) if rows else None

    def prekeys_in_use(self) -> set[bytes]:
        """Return the ids of prekeys that some unfinished job's payload is sealed to."""
        return {row[0] for row in self.database.read("SELECT DISTINCT prekey_id FROM payloads")} - {b""}

    def put_result(self, key: JobKey, result: ResultRecord) -> None:
        """Keep the one result of a job. Raises `JournalError` when there is one already."""
        if self.result(key) is not None:
            raise JournalError(f"job {key} has a result already", hint="This is a bug: report it")
        digest = hashlib.sha256(result.sealed).digest()
        values = (
            *_key(key), result.sealed, digest, result.text, result.result_hash,
            int(result.amount), result.signature, result.created_at,
        )  # fmt: skip
        self.database.write("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def result(self, key: JobKey) -> ResultRecord | None:
        """Return a job's result."""
        rows = self.database.read("SELECT * FROM results WHERE escrow = ? AND id = ?", _key(key))
        if not rows:
            return None
        row = rows[0]
        return ResultRecord(
            row["sealed"],
            row["text"],
            row["result_hash"],
            Nano(row["amount"]),
            row["signature"],
            row["created_at"],
        )

    def sealed_result(self, content_hash: bytes) -> tuple[JobKey, bytes] | None:
        """Return a result's travelling bytes by their SHA-256, and whose they are."""
        rows = self.database.read(
            "SELECT escrow, id, sealed FROM results WHERE sealed_hash = ? LIMIT 1", (content_hash,)
        )
        return (_job_key(rows[0]), rows[0]["sealed"]) if rows else None

    def wipe_evidence(self, key: JobKey) -> None:
        """Forget a finished job's payload and the result's plaintext."""
        self.database.write("DELETE FROM payloads WHERE escrow = ? AND id = ?", _key(key))
        self.database.write("UPDATE results SET text = x'' WHERE escrow = ? AND id = ?", _key(key))

    def prune(self, states: Iterable[JobState], *, results_before: int, jobs_before: int) -> None:
        """Forget results and rows of finished jobs that last changed before these times and lock nothing."""
        names = [state.value for state in states]
        marks = ",".join("?" * len(names))
        old = f"state IN ({marks}) AND lock = 0 AND updated_at < ?"
        self.database.write(
            f"DELETE FROM results WHERE (escrow, id) IN (SELECT escrow, id FROM jobs WHERE {old})",  # noqa: S608
            (*names, results_before),
        )
        self.database.write(f"DELETE FROM jobs WHERE {old}", (*names, jobs_before))  # noqa: S608
        done = (ExternalState.CONFIRMED.value, ExternalState.VOID.value, jobs_before)
        self.database.write("DELETE FROM externals WHERE state IN (?, ?) AND valid_until < ?", done)

    # -- outbox ------------------------------------------------------------------------------------------

    def add_external(
        self,
        *,
        seqno: int,
        valid_until: int,
        message: Cell,
        body_hash: bytes,
        actions: Iterable[PlannedAction],
        info_hash: bytes = b"",
    ) -> int:
        """Keep a signed external before it is sent; return its number."""
        values = (seqno, valid_until, message.to_boc(), body_hash, info_hash, ExternalState.PENDING.value)
        number = self.database.write(
            "INSERT INTO externals (seqno, valid_until, message, body_hash, info_hash, state, sent_at, sends)"
            " VALUES (?, ?, ?, ?, ?, ?, 0, 0)",
            values,
        ).lastrowid
        if number is None:
            raise JournalError("the journal did not number a message", hint="This is a bug: report it")
        for position, action in enumerate(actions, 1):
            key = (None, None) if action.key is None else _key(action.key)
            row = (number, position, action.kind.value, *key, action.model_id)
            self.database.write("INSERT INTO actions VALUES (?, ?, ?, ?, ?, ?)", row)
        return number

    def pending_external(self) -> ExternalRecord | None:
        """Return the external that is under way; there is at most one."""
        found = self._externals("state = ?", (ExternalState.PENDING.value,))
        return found[0] if found else None

    def external_by_body(self, body_hash: bytes) -> ExternalRecord | None:
        """Return an external by the hash of its body."""
        found = self._externals("body_hash = ?", (body_hash,))
        return found[0] if found else None

    def rivals(self, seqno: int) -> list[ExternalRecord]:
        """Return the externals with this seqno that are pending or expired."""
        states = (ExternalState.PENDING.value, ExternalState.EXPIRED.value)
        return self._externals("seqno = ? AND state IN (?, ?)", (seqno, *states))

    def set_external(self, external: ExternalRecord, state: ExternalState) -> None:
        """Move an external along its table. Raises `IllegalTransitionError`."""
        check_transition(EXTERNAL_TRANSITIONS, external.state, state)
        self.database.write("UPDATE externals SET state = ? WHERE number = ?", (state.value, external.number))

    def note_send(self, external: ExternalRecord, now: int) -> None:
        """Note that an external is about to be sent (again)."""
        self.database.write(
            "UPDATE externals SET sent_at = ?, sends = sends + 1 WHERE number = ?", (now, external.number)
        )

    def _externals(self, condition: str, values: tuple[object, ...]) -> list[ExternalRecord]:
        rows = self.database.read(f"SELECT * FROM externals WHERE {condition} ORDER BY number", values)  # noqa: S608
        return [self._external(row) for row in rows]

    def _external(self, row: sqlite3.Row) -> ExternalRecord:
        actions = self.database.read(
            "SELECT * FROM actions WHERE external = ? ORDER BY position", (row["number"],)
        )
        return ExternalRecord(
            number=row["number"],
            seqno=row["seqno"],
            valid_until=row["valid_until"],
            message=Cell.one_from_boc(row["message"]),
            body_hash=row["body_hash"],
            state=ExternalState(row["state"]),
            actions=tuple(
                PlannedAction(
                    ActionKind(each["kind"]),
                    None if each["escrow"] is None else _job_key(each),
                    each["model_id"],
                )
                for each in actions
            ),
            info_hash=row["info_hash"],
            sent_at=row["sent_at"],
            sends=row["sends"],
        )


def _key(key: JobKey) -> tuple[bytes, int]:
    return key.escrow.to_bytes(32, "big"), key.id


def _job_key(row: sqlite3.Row) -> JobKey:
    return JobKey(int.from_bytes(row["escrow"], "big"), row["id"])


def _job_values(job: JobRecord) -> tuple[object, ...]:
    return (
        *_key(job.key), job.state.value, int(job.is_open), job.notice_lt, job.created_at, job.updated_at,
        job.deadline, job.lock, int(job.claimed), int(job.bond), int(job.collateral), int(job.amount),
        int(job.paid), int(job.fee), int(job.slashed), job.ready_at, job.not_before, job.tries,
        job.reason[:_MAX_REASON], None if job.facts is None else job.facts.to_json(),
    )  # fmt: skip


def _job(row: sqlite3.Row) -> JobRecord:
    return JobRecord(
        key=_job_key(row),
        state=JobState(row["state"]),
        is_open=bool(row["is_open"]),
        notice_lt=row["notice_lt"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deadline=row["deadline"],
        lock=row["lock"],
        claimed=bool(row["claimed"]),
        bond=Nano(row["bond"]),
        collateral=Nano(row["collateral"]),
        amount=Nano(row["amount"]),
        paid=Nano(row["paid"]),
        fee=Nano(row["fee"]),
        slashed=Nano(row["slashed"]),
        ready_at=row["ready_at"],
        not_before=row["not_before"],
        tries=row["tries"],
        reason=row["reason"],
        facts=None if row["facts"] is None else JobFacts.from_json(row["facts"]),
    )
