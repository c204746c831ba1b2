"""`AuditStore`: findings and scores in a database, safe for several processes that share it.

Owns the tables and every change, each with its condition: a result is checked once, a score never misses a
finding, an allowance is never given twice. Must not know how results are checked or disputed. What a method
has written is committed when it returns. One SQL serves SQLite and PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from pytoniq_core import Address

from cocoon_sdk.client.auditing.records import (
    OPEN_STEPS,
    Audited,
    AuditOutcome,
    AuditRecord,
    AuditSubject,
    DisputeStep,
    WorkerScore,
)
from cocoon_sdk.protocol.signing import Domain, account_address, account_id
from cocoon_sdk.storage import Database, Schema, Statements, Value
from cocoon_sdk.types import Hash, Nano

SECONDS_A_DAY: Final = 86400
MAX_LISTED: Final = 10_000
_MAX_WHY: Final = 500

AUDITS_SCHEMA: Final = Schema(
    "client audits",
    (
        (
            """
            CREATE TABLE client_audits (
                uid TEXT PRIMARY KEY, what TEXT NOT NULL, global_id BIGINT NOT NULL, escrow BYTEA NOT NULL,
                epoch BIGINT NOT NULL, number BIGINT NOT NULL, request BIGINT NOT NULL, worker BYTEA NOT NULL,
                model_id BYTEA NOT NULL, model TEXT NOT NULL, amount BIGINT NOT NULL, outcome TEXT NOT NULL,
                started_at BIGINT NOT NULL, ended_at BIGINT NOT NULL, level TEXT NOT NULL, why TEXT NOT NULL,
                numbers TEXT NOT NULL, verifier TEXT NOT NULL, cost BIGINT NOT NULL, dispute TEXT NOT NULL,
                dispute_why TEXT NOT NULL, bond BIGINT NOT NULL, bond_day BIGINT NOT NULL,
                holder TEXT, lease_until BIGINT NOT NULL
            )
            """,
            "CREATE INDEX client_audits_by_worker ON client_audits (worker, started_at)",
            "CREATE INDEX client_audits_by_dispute ON client_audits (dispute, escrow)",
            """
            CREATE TABLE client_audit_scores (
                global_id BIGINT NOT NULL, worker BYTEA NOT NULL, model_id BYTEA NOT NULL,
                model TEXT NOT NULL, passed BIGINT NOT NULL, suspect BIGINT NOT NULL, failed BIGINT NOT NULL,
                unchecked BIGINT NOT NULL, state TEXT NOT NULL, left_at BIGINT NOT NULL,
                left_why TEXT NOT NULL, PRIMARY KEY (global_id, worker, model_id)
            )
            """,
            "CREATE TABLE client_audit_turns (name TEXT PRIMARY KEY, turns BIGINT NOT NULL)",
        ),
    ),
)

_COLUMNS: Final = (
    "what, global_id, escrow, epoch, number, request, worker, model_id, model, amount, outcome, started_at, "
    "ended_at, level, why, numbers, verifier, cost, dispute, dispute_why, bond"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM client_audits "  # noqa: S608 - constants only
_BEGIN: Final = (
    f"INSERT INTO client_audits (uid, {_COLUMNS}, bond_day, holder, lease_until) "  # noqa: S608 - constants
    f"VALUES ({', '.join('?' * 25)}) ON CONFLICT (uid) DO NOTHING RETURNING uid"
)
_CONCLUDE: Final = (
    "UPDATE client_audits SET outcome = ?, level = ?, why = ?, numbers = ?, verifier = ?, cost = ?, "
    "ended_at = ?, dispute = ?, holder = NULL, lease_until = 0 WHERE uid = ?"
)
_OURS: Final = (
    "UPDATE client_audits SET lease_until = lease_until "
    "WHERE uid = ? AND holder = ? AND outcome = 'under way'"
)
_OPEN_SCORE: Final = (
    "INSERT INTO client_audit_scores (global_id, worker, model_id, model, passed, suspect, failed, "
    "unchecked, state, left_at, left_why) VALUES (?, ?, ?, ?, 0, 0, 0, 0, '{}', 0, '') "
    "ON CONFLICT (global_id, worker, model_id) DO UPDATE SET model = excluded.model "
    "RETURNING passed, suspect, failed, unchecked, state, left_at, left_why"
)
_PUT_SCORE: Final = (
    "UPDATE client_audit_scores SET passed = ?, suspect = ?, failed = ?, unchecked = ?, state = ?, "
    "left_at = ?, left_why = ? WHERE global_id = ? AND worker = ? AND model_id = ?"
)
_SCORES: Final = (
    "SELECT worker, model_id, model, passed, suspect, failed, unchecked, state, left_at, left_why "
    "FROM client_audit_scores WHERE global_id = ? "
)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a check came to, as it goes into the database. See `AuditRecord`."""

    outcome: AuditOutcome
    why: str
    ended_at: int
    level: str = ""
    numbers: dict[str, Any] | None = None
    verifier: str = ""
    cost: Nano | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a finding makes of a worker's score: its new state, and why the worker is to be left ("": no)."""

    state: dict[str, Any]
    leave: str
    dispute: DisputeStep = DisputeStep.NONE


Judge = Callable[[dict[str, Any]], Judgement]
"""Takes a score's state before a finding; it is called within a transaction, so it only computes."""


class AuditStore:
    """The audits in one database. Every method may raise `StorageError` or one of its kinds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- one check ------------------------------------------------------------------------------------

    async def begin(self, subject: AuditSubject, holder: str, now: int, until: int) -> bool:
        """Note that a result is being checked; False when it was checked already, or is, by anybody.

        A holder that has not concluded at `until` has died.
        """
        record = AuditRecord(subject, AuditOutcome.UNDER_WAY, now)
        rows = await self._database.fetch(_BEGIN, subject.uid, *_values(record), 0, holder, until)
        return bool(rows)

    async def reserve(self, subject: AuditSubject, holder: str, cost: Nano, limit: Nano, now: int) -> bool:
        """Set aside what a check may cost; False when the escrow's day does not have it any more.

        A day is one of UTC, and what it holds is counted by when the checks began.
        """
        day = now - now % SECONDS_A_DAY
        async with self._database.transaction() as within:
            await _turn(within, subject.domain)
            spent = await _sum(within, subject.domain, "cost", "started_at >= ?", day)
            if spent + cost > limit:
                return False
            changed = await within.execute(
                "UPDATE client_audits SET cost = ? WHERE uid = ? AND holder = ?",
                int(cost),
                subject.uid,
                holder,
            )
        return changed == 1

    async def conclude(
        self, subject: AuditSubject, holder: str, made: Conclusion, judge: Judge
    ) -> WorkerScore | None:
        """Keep what a check came to, and what that makes of the worker's score: both or none.

        None when the check is not `holder`'s any more: nothing is kept then.
        """
        score_key = (subject.domain.global_id, _account(subject.worker), bytes(subject.model_id))
        async with self._database.transaction() as within:
            if not await within.execute(_OURS, subject.uid, holder):
                return None
            ((*counts, state, left_at, left_why),) = await within.fetch(
                _OPEN_SCORE, *score_key, subject.model
            )
            judged = judge(msgspec.json.decode(state))
            await within.execute(
                _CONCLUDE,
                str(made.outcome),
                made.level,
                made.why[:_MAX_WHY],
                msgspec.json.encode(made.numbers or {}).decode(),
                made.verifier,
                0 if made.cost is None else int(made.cost),
                made.ended_at,
                str(judged.dispute),
                subject.uid,
            )
            counts[_COUNTED.index(made.outcome)] += 1
            if judged.leave and not left_at:
                left_at, left_why = made.ended_at, judged.leave[:_MAX_WHY]
            text = msgspec.json.encode(judged.state).decode()
            await within.execute(_PUT_SCORE, *counts, text, left_at, left_why, *score_key)
        return _score((score_key[1], subject.model_id, subject.model, *counts, text, left_at, left_why))

    async def under_way(self, domain: Domain) -> list[tuple[AuditRecord, str, int]]:
        """Return the checks that have begun, each with its holder, and when that counts as dead."""
        rows = await self._database.fetch(
            f"SELECT holder, lease_until, {_COLUMNS} FROM client_audits "  # noqa: S608 - constants only
            "WHERE outcome = 'under way' AND global_id = ? AND escrow = ? AND epoch = ?",
            *_place(domain),
        )
        return [(_record(row[2:]), str(row[0]), int(row[1])) for row in rows]

    # -- reading --------------------------------------------------------------------------------------

    async def get(self, uid: str) -> AuditRecord | None:
        """Return the finding of one result."""
        rows = await self._database.fetch(_SELECT + "WHERE uid = ?", uid)
        return _record(rows[0]) if rows else None

    async def findings(
        self, domain: Domain, *, worker: Address | None = None, most: int = MAX_LISTED
    ) -> list[AuditRecord]:
        """Return an escrow's findings, in all its lives, newest first."""
        condition = "WHERE global_id = ? AND escrow = ? "
        values: tuple[Value, ...] = _place(domain)[:2]
        if worker is not None:
            condition, values = condition + "AND worker = ? ", (*values, _account(worker))
        rows = await self._database.fetch(
            f"{_SELECT}{condition}ORDER BY started_at DESC, uid LIMIT ?", *values, min(most, MAX_LISTED)
        )
        return [_record(row) for row in rows]

    async def scores(self, global_id: int, *, left_only: bool = False) -> list[WorkerScore]:
        """Return what is known of all workers of a network, or of those that were left."""
        rows = await self._database.fetch(
            f"{_SCORES}{'AND left_at > 0 ' if left_only else ''}ORDER BY worker, model_id LIMIT ?",
            global_id,
            MAX_LISTED,
        )
        return [_score(row) for row in rows]

    async def forgive(self, global_id: int, worker: Address) -> bool:
        """Begin a worker's scores anew; findings stay. False when there were none."""
        changed = await self._database.execute(
            "DELETE FROM client_audit_scores WHERE global_id = ? AND worker = ?", global_id, _account(worker)
        )
        return changed > 0

    async def prune(self, before: int) -> int:
        """Forget findings of before that time that no dispute came of; return how many."""
        return await self._database.execute(
            "DELETE FROM client_audits WHERE ended_at > 0 AND ended_at < ? AND dispute = ''", before
        )

    # -- disputes -------------------------------------------------------------------------------------

    async def wanted(self, domain: Domain) -> list[AuditRecord]:
        """Return the findings whose dispute is to be sent, or to be seen to have arrived; oldest first."""
        marks = ", ".join("?" * len(OPEN_STEPS))
        rows = await self._database.fetch(
            f"{_SELECT}WHERE dispute IN ({marks}) AND global_id = ? AND escrow = ? AND epoch = ? "
            "ORDER BY started_at, uid",
            *(str(step) for step in OPEN_STEPS),
            *_place(domain),
        )
        return [_record(row) for row in rows]

    async def take(
        self, uid: str, holder: str, now: int, until: int, *, instead_of: str | None = None
    ) -> bool:
        """Take a dispute that is wanted, so that no other process sends it at the same time.

        One that somebody has can be taken from `until` of theirs on, or at once from the holder `instead_of`.
        """
        changed = await self._database.execute(
            "UPDATE client_audits SET holder = ?, lease_until = ? WHERE uid = ? AND dispute = 'wanted' "
            "AND (holder IS NULL OR holder IN (?, ?) OR lease_until <= ?)",
            holder,
            until,
            uid,
            holder,
            instead_of or holder,
            now,
        )
        return changed == 1

    async def holder_of(self, uid: str) -> str | None:
        """Return who has a check or its dispute in hand."""
        rows = await self._database.fetch("SELECT holder FROM client_audits WHERE uid = ?", uid)
        return rows[0][0] if rows else None

    async def stake(self, record: AuditRecord, holder: str, bond: Nano, limit: Nano, now: int) -> bool:
        """Count a dispute's bond against the day's, before it is sent; False when that is used up.

        A bond that was counted before stays counted, and fits.
        """
        day, domain = now // SECONDS_A_DAY, record.subject.domain
        async with self._database.transaction() as within:
            await _turn(within, domain)
            others = await _sum(within, domain, "bond", "bond_day = ? AND uid <> ?", day, record.uid)
            if not record.bond and others + bond > limit:
                return False
            changed = await within.execute(
                "UPDATE client_audits SET bond = ?, bond_day = CASE WHEN bond_day = 0 THEN ? ELSE bond_day "
                "END WHERE uid = ? AND holder = ? AND dispute = 'wanted'",
                int(bond),
                day,
                record.uid,
                holder,
            )
        return changed == 1

    async def settle(self, uid: str, holder: str, step: DisputeStep, why: str = "") -> None:
        """Note where a dispute stands, and let go of it. A bond that is not at stake counts no more."""
        at_stake = step in (DisputeStep.WANTED, DisputeStep.DISPUTED)
        await self._database.execute(
            "UPDATE client_audits SET dispute = ?, dispute_why = ?, holder = NULL, lease_until = 0, "
            "bond = CASE WHEN ? = 1 THEN bond ELSE 0 END WHERE uid = ? AND holder = ?",
            str(step),
            why[:_MAX_WHY],
            int(at_stake),
            uid,
            holder,
        )


_COUNTED: Final = (AuditOutcome.PASSED, AuditOutcome.SUSPECT, AuditOutcome.FAILED, AuditOutcome.UNCHECKED)


async def _turn(within: Statements, domain: Domain) -> None:
    """Let nobody else decide about this escrow's allowances until the transaction ends."""
    await within.execute(
        "INSERT INTO client_audit_turns (name, turns) VALUES (?, 1) "
        "ON CONFLICT (name) DO UPDATE SET turns = client_audit_turns.turns + 1",
        bytes(domain.contract.hash_part).hex(),
    )


async def _sum(within: Statements, domain: Domain, column: str, condition: str, *values: int | str) -> int:
    rows = await within.fetch(
        f"SELECT CAST(COALESCE(SUM({column}), 0) AS BIGINT) FROM client_audits "  # noqa: S608 - ours only
        f"WHERE global_id = ? AND escrow = ? AND {condition}",
        *_place(domain)[:2],
        *values,
    )
    return int(rows[0][0])


def _score(row: Any) -> WorkerScore:
    worker, model_id, model, passed, suspect, failed, unchecked, state, left_at, left_why = row
    return WorkerScore(
        worker=account_address(int.from_bytes(worker, "big")),
        model_id=Hash(bytes(model_id)),
        model=model,
        passed=passed,
        suspect=suspect,
        failed=failed,
        unchecked=unchecked,
        state=msgspec.json.decode(state),
        left_at=left_at,
        left_why=left_why,
    )


def _place(domain: Domain) -> tuple[int, bytes, int]:
    return domain.global_id, bytes(domain.contract.hash_part), domain.epoch


def _account(address: Address) -> bytes:
    return account_id(address).to_bytes(32, "big")


def _values(record: AuditRecord) -> tuple[Any, ...]:
    subject = record.subject
    return (
        str(subject.what),
        *_place(subject.domain),
        subject.number,
        subject.request,
        _account(subject.worker),
        bytes(subject.model_id),
        subject.model,
        int(subject.amount),
        str(record.outcome),
        record.started_at,
        record.ended_at,
        record.level,
        record.why,
        msgspec.json.encode(record.numbers).decode(),
        record.verifier,
        int(record.cost),
        str(record.dispute),
        record.dispute_why,
        int(record.bond),
    )


def _record(row: Any) -> AuditRecord:
    what, global_id, escrow, epoch, number, request, worker, model_id, model, amount = row[:10]
    outcome, started_at, ended_at, level, why, numbers, verifier, cost, dispute, dispute_why, bond = row[10:]
    subject = AuditSubject(
        what=Audited(what),
        domain=Domain(global_id, account_address(int.from_bytes(escrow, "big")), epoch),
        number=number,
        request=request,
        worker=account_address(int.from_bytes(worker, "big")),
        model_id=Hash(bytes(model_id)),
        model=model,
        amount=Nano(amount),
    )
    return AuditRecord(
        subject=subject,
        outcome=AuditOutcome(outcome),
        started_at=started_at,
        ended_at=ended_at,
        level=level,
        why=why,
        numbers=msgspec.json.decode(numbers),
        verifier=verifier,
        cost=Nano(cost),
        dispute=DisputeStep(dispute),
        dispute_why=dispute_why,
        bond=Nano(bond),
    )
