"""What an arbiter keeps: disputes, evidence, votes, signatures. kill -9 safe; a restart finds all of it.

Owns the tables, and what is kept of disputes and their evidence; what is signed is `VoteStore`'s. Must not
know what evidence means. Evidence is overwritten on disk when it is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.arbiter.finding_store import FindingStore
from cocoon_sdk.arbiter.vote_store import VoteStore
from cocoon_sdk.protocol.disputes import Item, ItemKind, Receipt
from cocoon_sdk.storage import Database, Schema
from cocoon_sdk.types import Hash

SCHEMA: Final = Schema(
    "arbiter",
    (
        (
            "CREATE TABLE arbiter_disputes (digest BYTEA PRIMARY KEY, escrow BYTEA NOT NULL,"
            " kind BIGINT NOT NULL, number BIGINT NOT NULL, disputed_at BIGINT NOT NULL,"
            " ended_at BIGINT NOT NULL, note TEXT NOT NULL)",
            "CREATE TABLE arbiter_items (digest BYTEA NOT NULL, kind BIGINT NOT NULL, data BYTEA NOT NULL,"
            " PRIMARY KEY (digest, kind))",
            "CREATE TABLE arbiter_receipts (digest BYTEA NOT NULL, kind BIGINT NOT NULL,"
            " signer BIGINT NOT NULL, signature BYTEA NOT NULL, PRIMARY KEY (digest, kind, signer))",
            "CREATE TABLE arbiter_own (digest BYTEA PRIMARY KEY, vote TEXT NOT NULL, shown BIGINT NOT NULL,"
            " pay BIGINT, slash BIGINT)",
            "CREATE TABLE arbiter_commitments (digest BYTEA NOT NULL, signer BIGINT NOT NULL,"
            " vote BYTEA NOT NULL, signature BYTEA NOT NULL, late BIGINT NOT NULL,"
            " PRIMARY KEY (digest, signer, vote))",
            "CREATE TABLE arbiter_votes (digest BYTEA NOT NULL, signer BIGINT NOT NULL, vote TEXT NOT NULL,"
            " PRIMARY KEY (digest, signer))",
            "CREATE TABLE arbiter_verdicts (digest BYTEA NOT NULL, signer BIGINT NOT NULL,"
            " pay BIGINT NOT NULL, slash BIGINT NOT NULL, signature BYTEA NOT NULL,"
            " PRIMARY KEY (digest, signer, pay, slash))",
            "CREATE TABLE arbiter_cursors (account BYTEA PRIMARY KEY, lt BIGINT NOT NULL,"
            " hash BYTEA NOT NULL)",
        ),
        (
            "ALTER TABLE arbiter_disputes ADD COLUMN seen_seqno BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE arbiter_disputes ADD COLUMN ends_at BIGINT NOT NULL DEFAULT 0",
            "CREATE TABLE arbiter_notices (escrow BYTEA NOT NULL, number BIGINT NOT NULL,"
            " noticed_at BIGINT NOT NULL, PRIMARY KEY (escrow, number))",
        ),
    ),
)
_TABLES: Final = ("items", "receipts", "own", "commitments", "votes", "verdicts", "disputes")


@dataclass(frozen=True, slots=True)
class Followed:
    """A dispute as it is kept. `ended_at` is 0 while it goes on; `note` says how it ended here.

    `seen_seqno` is how many externals the escrow had taken when the dispute was first seen, `ends_at` when
    the escrow takes no verdict any more: both 0 in rows of older versions.
    """

    digest: Hash
    escrow: Address
    kind: int
    number: int
    disputed_at: int
    ended_at: int
    note: str
    seen_seqno: int = 0
    ends_at: int = 0


class ArbiterStore:
    """One arbiter's memory, in a database of its own. All methods raise `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.finding = FindingStore(database)
        self.votes = VoteStore(database)

    async def prepare(self) -> None:
        """Create the tables; make deletions overwrite, and commits outlast a loss of power."""
        await self._database.migrate(SCHEMA)
        await self._database.fetch("PRAGMA secure_delete = ON")
        # A vote or signature that was sent and forgotten could be followed by another one.
        await self._database.execute("PRAGMA synchronous = FULL")

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()

    # -- disputes ------------------------------------------------------------------------------------------

    async def follow(self, followed: Followed) -> None:
        """Keep a dispute; one that is known stays as it is."""
        await self._database.execute(
            "INSERT INTO arbiter_disputes (digest, escrow, kind, number, disputed_at, ended_at, note,"
            " seen_seqno, ends_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
            bytes(followed.digest),
            followed.escrow.hash_part,
            followed.kind,
            followed.number,
            followed.disputed_at,
            followed.ended_at,
            followed.note,
            followed.seen_seqno,
            followed.ends_at,
        )

    async def disputes(self, *, ended: bool) -> list[Followed]:
        """Return those that go on, or those that ended, oldest first."""
        condition = "ended_at > 0" if ended else "ended_at = 0"
        rows = await self._database.fetch(
            "SELECT digest, escrow, kind, number, disputed_at, ended_at, note, seen_seqno, ends_at "  # noqa: S608
            f"FROM arbiter_disputes WHERE {condition} ORDER BY disputed_at, digest"
        )
        return [Followed(Hash(row[0]), Address((0, row[1])), *row[2:]) for row in rows]

    async def end(self, digest: bytes, now: int, note: str) -> None:
        """Note that a dispute is over, and forget its evidence."""
        async with self._database.transaction() as within:
            await within.execute(
                "UPDATE arbiter_disputes SET ended_at = ?, note = ? WHERE digest = ?",
                now,
                note[:200],
                bytes(digest),
            )
            await within.execute("DELETE FROM arbiter_items WHERE digest = ?", bytes(digest))

    async def forget(self, before: int) -> None:
        """Forget disputes that ended before a time: their votes could not count again."""
        async with self._database.transaction() as within:
            old = await within.fetch(
                "SELECT digest FROM arbiter_disputes WHERE ended_at > 0 AND ended_at < ?", before
            )
            for table in _TABLES:
                await within.execute_many(
                    f"DELETE FROM arbiter_{table} WHERE digest = ?",  # noqa: S608
                    [(row[0],) for row in old],
                )

    # -- evidence ------------------------------------------------------------------------------------------

    async def add_item(self, digest: bytes, item: Item) -> None:
        """Keep an item and its receipts; what is there stays."""
        async with self._database.transaction() as within:
            await within.execute(
                "INSERT INTO arbiter_items VALUES (?, ?, ?) ON CONFLICT (digest, kind) DO NOTHING",
                bytes(digest),
                int(item.kind),
                item.data,
            )
            await within.execute_many(
                "INSERT INTO arbiter_receipts VALUES (?, ?, ?, ?)"
                " ON CONFLICT (digest, kind, signer) DO NOTHING",
                [(bytes(digest), int(item.kind), each.index, each.signature) for each in item.receipts],
            )

    async def items(self, digest: bytes) -> dict[ItemKind, Item]:
        """Return all evidence of a dispute, with its receipts."""
        rows = await self._database.fetch(
            "SELECT kind, data FROM arbiter_items WHERE digest = ? ORDER BY kind", bytes(digest)
        )
        receipts = await self.receipts(digest)
        return {ItemKind(kind): Item(ItemKind(kind), data, receipts[ItemKind(kind)]) for kind, data in rows}

    async def receipts(self, digest: bytes) -> dict[ItemKind, tuple[Receipt, ...]]:
        """Return the receipts for each kind of evidence of a dispute, without the evidence itself."""
        rows = await self._database.fetch(
            "SELECT kind, signer, signature FROM arbiter_receipts WHERE digest = ? ORDER BY signer",
            bytes(digest),
        )
        return {kind: tuple(Receipt(row[1], row[2]) for row in rows if row[0] == kind) for kind in ItemKind}
