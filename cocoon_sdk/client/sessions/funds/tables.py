"""The tables of a client's sessions, and a record as a row of them.

Owns the schema and both directions. Must not know who reads or changes rows (`SessionStore`).
"""

from __future__ import annotations

from typing import Any, Final

from cocoon_sdk.client.sessions.funds.records import SessionRecord, SessionState
from cocoon_sdk.protocol.signing import Domain, account_address, account_id
from cocoon_sdk.storage import Schema
from cocoon_sdk.types import Nano

SESSIONS_SCHEMA: Final = Schema(
    "client sessions",
    (
        (
            """
            CREATE TABLE client_sessions (
                uid TEXT PRIMARY KEY, global_id BIGINT NOT NULL, escrow BYTEA NOT NULL, epoch BIGINT NOT NULL,
                session_id BIGINT NOT NULL, worker BYTEA NOT NULL, model TEXT NOT NULL,
                increment BIGINT NOT NULL, deposit BIGINT NOT NULL, expires BIGINT NOT NULL,
                state TEXT NOT NULL, signed BIGINT NOT NULL, signature BYTEA NOT NULL,
                accounted BIGINT NOT NULL, next_rid BIGINT NOT NULL,
                redeemed BIGINT NOT NULL, holder TEXT, lease_until BIGINT NOT NULL,
                opened_at BIGINT NOT NULL, used_at BIGINT NOT NULL,
                pending_deposit BIGINT NOT NULL, pending_until BIGINT NOT NULL,
                settle_at BIGINT NOT NULL, why TEXT NOT NULL,
                day BIGINT NOT NULL, signed_before_day BIGINT NOT NULL
            )
            """,
            "CREATE INDEX client_sessions_of_escrow ON client_sessions (escrow, state)",
            "CREATE TABLE client_locks (name TEXT PRIMARY KEY, holder TEXT, until BIGINT NOT NULL)",
        ),
    ),
)

COLUMNS: Final = (
    "uid, global_id, escrow, epoch, session_id, worker, model, increment, deposit, expires, state, signed, "
    "signature, accounted, next_rid, redeemed, holder, lease_until, opened_at, used_at, "
    "pending_deposit, pending_until, settle_at, why"
)
MAX_WHY: Final = 500
"""Most characters that are kept of why a session ends."""


def escrow_values(domain: Domain) -> tuple[int, bytes, int]:
    """Return network, account and epoch of an escrow as the columns have them."""
    return domain.global_id, bytes(domain.contract.hash_part), domain.epoch


def values_of(record: SessionRecord) -> tuple[Any, ...]:
    """Return a record's values in the order of `COLUMNS`."""
    return (
        record.uid,
        *escrow_values(record.domain),
        record.session_id,
        account_id(record.worker).to_bytes(32, "big"),
        record.model,
        int(record.increment),
        int(record.deposit),
        record.expires,
        str(record.state),
        int(record.signed),
        record.signature,
        int(record.accounted),
        record.next_rid,
        int(record.redeemed),
        record.holder,
        record.lease_until,
        record.opened_at,
        record.used_at,
        int(record.pending_deposit),
        record.pending_until,
        record.settle_at,
        record.why[:MAX_WHY],
    )


def record_of(row: Any) -> SessionRecord:
    """Return the record in a row that has `COLUMNS`."""
    (uid, global_id, escrow, epoch, session_id, worker, model, increment, deposit, expires, state) = row[:11]
    (signed, signature, accounted, next_rid, redeemed, holder, lease_until) = row[11:18]
    (opened_at, used_at, pending_deposit, pending_until, settle_at, why) = row[18:]
    return SessionRecord(
        uid=uid,
        domain=Domain(global_id, account_address(int.from_bytes(escrow, "big")), epoch),
        session_id=session_id,
        worker=account_address(int.from_bytes(worker, "big")),
        model=model,
        increment=Nano(increment),
        deposit=Nano(deposit),
        expires=expires,
        state=SessionState(state),
        signed=Nano(signed),
        signature=bytes(signature),
        accounted=Nano(accounted),
        next_rid=next_rid,
        redeemed=Nano(redeemed),
        holder=holder,
        lease_until=lease_until,
        opened_at=opened_at,
        used_at=used_at,
        pending_deposit=Nano(pending_deposit),
        pending_until=pending_until,
        settle_at=settle_at,
        why=why,
    )
