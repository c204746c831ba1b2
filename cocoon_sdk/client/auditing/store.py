"""`AuditStore`: findings and scores in a database, safe for several processes that share it.

Owns every change of them, each with its condition: a result is checked once, a score never misses a finding,
an allowance is never given twice. Must not know how results are checked or disputed. What a method has
written is committed when it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from pytoniq_core import Address

from cocoon_sdk.client.auditing.dispute_store import DisputeStore
from cocoon_sdk.client.auditing.receipts import ReceiptScore
from cocoon_sdk.client.auditing.records import (
    AuditOutcome,
    AuditRecord,
    AuditSubject,
    DisputeStep,
    WorkerScore,
)
from cocoon_sdk.client.auditing.tables import (
    COLUMNS,
    MAX_LISTED,
    MAX_WHY,
    SCORE_COLUMNS,
    SECONDS_A_DAY,
    SELECT,
    account_of,
    keep_evidence,
    place_of,
    record_of_row,
    row_of_record,
    score_of_row,
    sum_of,
    take_turn,
)
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.storage import Database, Value
from cocoon_sdk.types import Hash, Nano

_BEGIN: Final = (
    f"INSERT INTO client_audits (uid, {COLUMNS}, bond_day, holder, lease_until) "  # noqa: S608 - constants
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
    "INSERT INTO client_audit_scores (global_id, worker, model_id, model, passed, suspect, failed, "  # noqa: S608 - constants only
    "unchecked, state, left_at, left_why) VALUES (?, ?, ?, ?, 0, 0, 0, 0, '{}', 0, '') "
    "ON CONFLICT (global_id, worker, model_id) DO UPDATE SET model = excluded.model "
    f"RETURNING {SCORE_COLUMNS}, receipts"
)
_ONE_SCORE: Final = "WHERE global_id = ? AND worker = ? AND model_id = ?"
_PUT_SCORE: Final = (
    "UPDATE client_audit_scores SET passed = ?, suspect = ?, failed = ?, unchecked = ?, state = ?, "  # noqa: S608
    f"left_at = ?, left_why = ? {_ONE_SCORE}"
)
_PUT_RECEIPTS: Final = (
    "UPDATE client_audit_scores SET answers = ?, unreceipted = ?, receipts = ?, left_at = ?, "  # noqa: S608
    f"left_why = ? {_ONE_SCORE}"
)
_SCORES: Final = f"SELECT {SCORE_COLUMNS} FROM client_audit_scores WHERE global_id = ? "  # noqa: S608


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
    evidence: bytes = field(default=b"", repr=False)
    """Sealed; kept if a dispute is wanted that stands on it."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a finding makes of a worker's score: its new state, and why the worker is to be left ("": no)."""

    state: dict[str, Any]
    leave: str
    dispute: DisputeStep = DisputeStep.NONE


@dataclass(frozen=True, slots=True)
class Scored:
    """Whose score it is: a worker's, for one model."""

    worker: Address
    model_id: Hash
    model: str


_COUNTED: Final = tuple(
    (outcome.value, outcome)
    for outcome in (AuditOutcome.PASSED, AuditOutcome.SUSPECT, AuditOutcome.FAILED, AuditOutcome.UNCHECKED)
)


Judge = Callable[[dict[str, Any]], Judgement]
"""Takes a score's state before a finding; it is called within a transaction, so it only computes."""


class AuditStore:
    """The audits in one database. Every method may raise `StorageError` or one of its kinds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.disputes = DisputeStore(database)

    # -- one check ------------------------------------------------------------------------------------

    async def begin(self, subject: AuditSubject, holder: str, now: int, until: int) -> bool:
        """Note that a result is being checked; False when it was checked already, or is, by anybody.

        A holder that has not concluded at `until` has died.
        """
        record = AuditRecord(subject, AuditOutcome.UNDER_WAY, now)
        rows = await self._database.fetch(_BEGIN, subject.uid, *row_of_record(record), 0, holder, until)
        return bool(rows)

    async def reserve(self, subject: AuditSubject, holder: str, cost: Nano, limit: Nano, now: int) -> bool:
        """Set aside what a check may cost; False when the escrow's day does not have it any more.

        A day is one of UTC, and what it holds is counted by when the checks began.
        """
        day = now - now % SECONDS_A_DAY
        async with self._database.transaction() as within:
            await take_turn(within, subject.domain)
            spent = await sum_of(within, subject.domain, "cost", "started_at >= ?", day)
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
        score_key = (subject.domain.global_id, account_of(subject.worker), bytes(subject.model_id))
        async with self._database.transaction() as within:
            if not await within.execute(_OURS, subject.uid, holder):
                return None
            ((*row, _),) = await within.fetch(_OPEN_SCORE, *score_key, subject.model)
            before = score_of_row(row)
            judged = judge(before.state)
            await within.execute(
                _CONCLUDE,
                str(made.outcome),
                made.level,
                made.why[:MAX_WHY],
                msgspec.json.encode(made.numbers or {}).decode(),
                made.verifier,
                0 if made.cost is None else int(made.cost),
                made.ended_at,
                str(judged.dispute),
                subject.uid,
            )
            if judged.dispute is DisputeStep.WANTED and made.evidence:
                await keep_evidence(within, subject.uid, made.evidence, made.ended_at)
            score = replace(
                before,
                **{name: getattr(before, name) + (made.outcome is counted) for name, counted in _COUNTED},
                state=judged.state,
            )
            score = _left(score, judged.leave, made.ended_at)
            await within.execute(
                _PUT_SCORE,
                *(getattr(score, name) for name, _ in _COUNTED),
                msgspec.json.encode(score.state).decode(),
                score.left_at,
                score.left_why,
                *score_key,
            )
        return score

    async def under_way(self, domain: Domain) -> list[tuple[AuditRecord, str, int]]:
        """Return the checks that have begun, each with its holder, and when that counts as dead."""
        rows = await self._database.fetch(
            f"SELECT holder, lease_until, {COLUMNS} FROM client_audits "  # noqa: S608 - constants only
            "WHERE outcome = 'under way' AND global_id = ? AND escrow = ? AND epoch = ?",
            *place_of(domain),
        )
        return [(record_of_row(row[2:]), str(row[0]), int(row[1])) for row in rows]

    # -- reading --------------------------------------------------------------------------------------

    async def get(self, uid: str) -> AuditRecord | None:
        """Return the finding of one result."""
        rows = await self._database.fetch(SELECT + "WHERE uid = ?", uid)
        return record_of_row(rows[0]) if rows else None

    async def findings(
        self, domain: Domain, *, worker: Address | None = None, most: int = MAX_LISTED
    ) -> list[AuditRecord]:
        """Return an escrow's findings, in all its lives, newest first."""
        condition = "WHERE global_id = ? AND escrow = ? "
        values: tuple[Value, ...] = place_of(domain)[:2]
        if worker is not None:
            condition, values = condition + "AND worker = ? ", (*values, account_of(worker))
        rows = await self._database.fetch(
            f"{SELECT}{condition}ORDER BY started_at DESC, uid LIMIT ?", *values, min(most, MAX_LISTED)
        )
        return [record_of_row(row) for row in rows]

    async def scores(self, global_id: int, *, left_only: bool = False) -> list[WorkerScore]:
        """Return what is known of all workers of a network, or of those that were left."""
        rows = await self._database.fetch(
            f"{_SCORES}{'AND left_at > 0 ' if left_only else ''}ORDER BY worker, model_id LIMIT ?",
            global_id,
            MAX_LISTED,
        )
        return [score_of_row(row) for row in rows]

    async def note_receipts(
        self,
        global_id: int,
        who: Scored,
        update: Callable[[ReceiptScore], ReceiptScore],
        now: int,
    ) -> WorkerScore:
        """Bring into a worker's score how answers of it ended, and leave it if bad luck explains them not."""
        key = (global_id, account_of(who.worker), bytes(who.model_id))
        async with self._database.transaction() as within:
            ((*row, text),) = await within.fetch(_OPEN_SCORE, *key, who.model)
            receipts = update(ReceiptScore.from_json(msgspec.json.decode(text)))
            score = replace(score_of_row(row), answers=receipts.trials, unreceipted=receipts.lost)
            score = _left(score, receipts.reason, now)
            await within.execute(
                _PUT_RECEIPTS,
                score.answers,
                score.unreceipted,
                msgspec.json.encode(receipts.to_json()).decode(),
                score.left_at,
                score.left_why,
                *key,
            )
        return score

    async def forgive(self, global_id: int, worker: Address) -> bool:
        """Begin a worker's scores anew; findings stay. False when there were none."""
        changed = await self._database.execute(
            "DELETE FROM client_audit_scores WHERE global_id = ? AND worker = ?",
            global_id,
            account_of(worker),
        )
        return changed > 0

    async def prune(self, before: int) -> int:
        """Forget findings of before that time that no dispute came of; return how many.

        What a dispute stands on goes with time alone: arbiters have long decided by then.
        """
        await self._database.execute("DELETE FROM client_audit_evidence WHERE kept_at < ?", before)
        return await self._database.execute(
            "DELETE FROM client_audits WHERE ended_at > 0 AND ended_at < ? AND dispute = ''", before
        )


def _left(score: WorkerScore, why: str, now: int) -> WorkerScore:
    """Return the score of a worker that is left for this reason, if there is one; the first reason stays."""
    return replace(score, left_at=now, left_why=why[:MAX_WHY]) if why and not score.left_at else score
