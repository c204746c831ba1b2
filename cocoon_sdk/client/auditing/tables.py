"""The tables of audits, and the rows of findings and scores as values.

Owns the schema and reading and writing rows. Must not know what is changed when. One SQL serves SQLite and
PostgreSQL.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from pytoniq_core import Address

from cocoon_sdk.client.auditing.records import (
    Audited,
    AuditOutcome,
    AuditRecord,
    AuditSubject,
    DisputeStep,
    WorkerScore,
)
from cocoon_sdk.protocol.signing import Domain, account_address, account_id
from cocoon_sdk.storage import Schema, Statements
from cocoon_sdk.types import Hash, Nano

SECONDS_A_DAY: Final = 86400
MAX_LISTED: Final = 10_000
MAX_WHY: Final = 500

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
        (
            "ALTER TABLE client_audit_scores ADD COLUMN answers BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE client_audit_scores ADD COLUMN unreceipted BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE client_audit_scores ADD COLUMN receipts TEXT NOT NULL DEFAULT '{}'",
        ),
        (
            """
            CREATE TABLE client_audit_evidence (
                uid TEXT PRIMARY KEY, data BYTEA NOT NULL, kept_at BIGINT NOT NULL
            )
            """,
        ),
    ),
)

COLUMNS: Final = (
    "what, global_id, escrow, epoch, number, request, worker, model_id, model, amount, outcome, started_at, "
    "ended_at, level, why, numbers, verifier, cost, dispute, dispute_why, bond"
)
SELECT: Final = f"SELECT {COLUMNS} FROM client_audits "  # noqa: S608 - constants only
SCORE_COLUMNS: Final = (
    "worker, model_id, model, passed, suspect, failed, unchecked, state, left_at, left_why, "
    "answers, unreceipted"
)


async def keep_evidence(within: Statements, uid: str, sealed: bytes, now: int) -> None:
    """Keep what a result's dispute stands on."""
    await within.execute(
        "INSERT INTO client_audit_evidence (uid, data, kept_at) VALUES (?, ?, ?) "
        "ON CONFLICT (uid) DO NOTHING",
        uid,
        sealed,
        now,
    )


async def take_turn(within: Statements, domain: Domain) -> None:
    """Let nobody else decide about this escrow's allowances until the transaction ends."""
    await within.execute(
        "INSERT INTO client_audit_turns (name, turns) VALUES (?, 1) "
        "ON CONFLICT (name) DO UPDATE SET turns = client_audit_turns.turns + 1",
        bytes(domain.contract.hash_part).hex(),
    )


async def sum_of(within: Statements, domain: Domain, column: str, condition: str, *values: int | str) -> int:
    """Return what a column of an escrow's findings comes to. `column` and `condition` are ours."""
    rows = await within.fetch(
        f"SELECT CAST(COALESCE(SUM({column}), 0) AS BIGINT) FROM client_audits "  # noqa: S608 - ours only
        f"WHERE global_id = ? AND escrow = ? AND {condition}",
        *place_of(domain)[:2],
        *values,
    )
    return int(rows[0][0])


def score_of_row(row: Any) -> WorkerScore:
    """Return the score of a row of `SCORE_COLUMNS`."""
    worker, model_id, model, passed, suspect, failed, unchecked, state, left_at, left_why = row[:10]
    answers, unreceipted = row[10:]
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
        answers=answers,
        unreceipted=unreceipted,
    )


def place_of(domain: Domain) -> tuple[int, bytes, int]:
    """Return what names an escrow in one of its lives: network, account, epoch."""
    return domain.global_id, bytes(domain.contract.hash_part), domain.epoch


def account_of(address: Address) -> bytes:
    """Return an account of workchain 0 as it is kept."""
    return account_id(address).to_bytes(32, "big")


def row_of_record(record: AuditRecord) -> tuple[Any, ...]:
    """Return a finding as a row of `COLUMNS`."""
    subject = record.subject
    return (
        str(subject.what),
        *place_of(subject.domain),
        subject.number,
        subject.request,
        account_of(subject.worker),
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


def record_of_row(row: Any) -> AuditRecord:
    """Return the finding of a row of `COLUMNS`."""
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
