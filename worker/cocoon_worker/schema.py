"""The journal's tables.

Owns the SQL of the schema, its version, and the steps from older versions. Money is stored as whole
nanoTON: all TON there is fits 63 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SCHEMA_VERSION: Final = 5

SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (account BLOB PRIMARY KEY, lt INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE jobs (
    escrow BLOB NOT NULL,
    id INTEGER NOT NULL,
    state TEXT NOT NULL,
    is_open INTEGER NOT NULL,
    notice_lt INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    lock INTEGER NOT NULL,
    claimed INTEGER NOT NULL,
    bond INTEGER NOT NULL,
    collateral INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    paid INTEGER NOT NULL,
    fee INTEGER NOT NULL,
    slashed INTEGER NOT NULL,
    ready_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    reason TEXT NOT NULL,
    facts TEXT,
    PRIMARY KEY (escrow, id)
) WITHOUT ROWID;
CREATE INDEX jobs_by_state ON jobs (state, created_at);
CREATE TABLE payloads (
    escrow BLOB NOT NULL, id INTEGER NOT NULL,
    data BLOB NOT NULL, prekey_id BLOB NOT NULL,
    PRIMARY KEY (escrow, id)
);
CREATE TABLE results (
    escrow BLOB NOT NULL, id INTEGER NOT NULL,
    sealed BLOB NOT NULL, sealed_hash BLOB NOT NULL, text BLOB NOT NULL, result_hash BLOB NOT NULL,
    amount INTEGER NOT NULL, signature BLOB NOT NULL, created_at INTEGER NOT NULL,
    PRIMARY KEY (escrow, id)
);
CREATE INDEX results_by_content ON results (sealed_hash);
CREATE TABLE externals (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    seqno INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    message BLOB NOT NULL,
    body_hash BLOB NOT NULL UNIQUE,
    info_hash BLOB NOT NULL,
    state TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    sends INTEGER NOT NULL
);
CREATE INDEX externals_by_state ON externals (state, seqno);
CREATE TABLE actions (
    external INTEGER NOT NULL REFERENCES externals (number) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    escrow BLOB,
    id INTEGER,
    model_id BLOB NOT NULL,
    PRIMARY KEY (external, position)
) WITHOUT ROWID;
"""

SESSION_SCHEMA: Final = """
CREATE TABLE sessions (
    escrow BLOB NOT NULL,
    id INTEGER NOT NULL,
    state TEXT NOT NULL,
    escrow_owner BLOB NOT NULL,
    escrow_index INTEGER NOT NULL,
    escrow_previous_code INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    voucher_key BLOB NOT NULL,
    deposit INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    settle_at INTEGER NOT NULL,
    close_delay INTEGER NOT NULL,
    fee_bps INTEGER NOT NULL,
    signed INTEGER NOT NULL,
    signature BLOB NOT NULL,
    booked INTEGER NOT NULL,
    next_rid INTEGER NOT NULL,
    forgone INTEGER NOT NULL,
    redeemed INTEGER NOT NULL,
    paid INTEGER NOT NULL,
    fee INTEGER NOT NULL,
    asked INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    redeemed_at INTEGER NOT NULL,
    guard TEXT NOT NULL,
    collateral INTEGER NOT NULL,
    lock INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    missing_since INTEGER NOT NULL,
    looked_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (escrow, id)
) WITHOUT ROWID;
CREATE INDEX sessions_by_state ON sessions (state, created_at)
"""

PARTS_SCHEMA: Final = "ALTER TABLE sessions ADD COLUMN takes_parts INTEGER NOT NULL DEFAULT 0"

MIGRATIONS: Final[Mapping[int, str]] = {
    # Each job had a lock of its own, whose number stayed; only claims had one before a submission.
    1: """
UPDATE jobs SET nonce = nonce * locked, locked = nonce <> 0;
ALTER TABLE jobs RENAME COLUMN nonce TO lock;
ALTER TABLE jobs RENAME COLUMN locked TO claimed
""",
    2: SESSION_SCHEMA,
    # Claims locked collateral, and took no bond along.
    3: "ALTER TABLE jobs ADD COLUMN bond INTEGER NOT NULL DEFAULT 0",
    # Vouchers were redeemed whole only; sessions from then are with escrows that know nothing else.
    4: PARTS_SCHEMA,
}
"""What turns each older version into the next one."""
