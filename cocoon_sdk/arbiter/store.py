"""What an arbiter keeps: disputes, evidence, votes, signatures. kill -9 safe; a restart finds all of it.

Owns the tables and the rule that holds over them: one vote and one verdict for a dispute, ever. Must not know
what evidence means or how votes are counted. Evidence is overwritten on disk when it is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.arbiter.errors import SecondVerdictError
from cocoon_sdk.arbiter.finding_store import FindingStore
from cocoon_sdk.arbiter.panel import Numbers, Panel
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_canonical
from cocoon_sdk.protocol.disputes import (
    Item,
    ItemKind,
    Opinions,
    Receipt,
    SignedVerdict,
    Vote,
    VoteCommitment,
)
from cocoon_sdk.storage import Database, Schema, Statements
from cocoon_sdk.types import Hash, Nano

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
MAX_SIGNED: Final = 2
"""Commitments or verdicts of one arbiter in one dispute that are kept: two prove that it is not honest."""


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


@dataclass(frozen=True, slots=True)
class OwnVote:
    """Our vote, whether it was shown to anybody, and the verdict that we signed."""

    vote: Vote = field(repr=False)
    shown: bool
    signed: Numbers | None


class ArbiterStore:
    """One arbiter's memory, in a database of its own. All methods raise `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.finding = FindingStore(database)

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

    # -- our own -------------------------------------------------------------------------------------------

    async def own(self, digest: bytes) -> OwnVote | None:
        """Return our vote."""
        rows = await self._database.fetch(
            "SELECT vote, shown, pay, slash FROM arbiter_own WHERE digest = ?", bytes(digest)
        )
        if not rows:
            return None
        text, shown, pay, slash = rows[0]
        return OwnVote(_read(text), bool(shown), None if pay is None else (pay, slash))

    async def put_vote(self, vote: Vote, commitment: VoteCommitment) -> None:
        """Keep our vote and its commitment, before either leaves.

        Raises `SecondVerdictError` when there is another one already.
        """
        async with self._database.transaction() as within:
            added = await within.execute(
                "INSERT INTO arbiter_own VALUES (?, ?, 0, NULL, NULL) ON CONFLICT (digest) DO NOTHING",
                bytes(vote.dispute),
                _write(vote),
            )
            if not added:
                raise SecondVerdictError("refused to vote twice in one dispute")
            await _add_commitment(within, vote.dispute, commitment, late=False)

    async def show_vote(self, vote: Vote) -> None:
        """Note that our vote is about to be shown: who commits from now on may have seen it."""
        async with self._database.transaction() as within:
            await within.execute("UPDATE arbiter_own SET shown = 1 WHERE digest = ?", bytes(vote.dispute))
            await _add_vote(within, vote)

    async def put_verdict(self, digest: bytes, signed: SignedVerdict) -> None:
        """Keep our signature, before it leaves. Raises `SecondVerdictError` when we signed something else."""
        async with self._database.transaction() as within:
            changed = await within.execute(
                "UPDATE arbiter_own SET pay = ?, slash = ? WHERE digest = ?"
                " AND (pay IS NULL OR (pay = ? AND slash = ?))",
                *(int(signed.pay), int(signed.slash), bytes(digest), int(signed.pay), int(signed.slash)),
            )
            if not changed:
                raise SecondVerdictError("refused to sign a second verdict in one dispute")
            await _add_verdict(within, digest, signed)

    # -- what others signed --------------------------------------------------------------------------------

    async def add_opinions(
        self,
        digest: bytes,
        commitments: Iterable[VoteCommitment],
        votes: Iterable[Vote],
        verdicts: Iterable[SignedVerdict],
        *,
        late: bool,
    ) -> None:
        """Keep what others signed and we have checked; what is known already changes nothing."""
        async with self._database.transaction() as within:
            for commitment in commitments:
                await _add_commitment(within, digest, commitment, late=late)
            for vote in votes:
                await _add_vote(within, vote)
            for signed in verdicts:
                await _add_verdict(within, digest, signed)

    async def panel(self, digest: bytes, threshold: int) -> Panel:
        """Return all that is known to be signed in a dispute."""
        commitments: dict[int, set[Hash]] = {}
        late: set[int] = set()
        for signer, vote, _signature, was_late in await self._commitments(digest):
            commitments.setdefault(signer, set()).add(Hash(vote))
            if was_late:
                late.add(signer)
        verdicts: dict[int, dict[Numbers, bytes]] = {}
        for signer, pay, slash, signature in await self._verdicts(digest):
            verdicts.setdefault(signer, {})[pay, slash] = signature
        rows = await self._database.fetch(
            "SELECT signer, vote FROM arbiter_votes WHERE digest = ? ORDER BY signer", bytes(digest)
        )
        return Panel(
            threshold=threshold,
            commitments=commitments,
            votes={signer: _read(vote) for signer, vote in rows},
            verdicts=verdicts,
            late=late,
        )

    async def commitments(self, digest: bytes) -> list[VoteCommitment]:
        """Return every commitment, to be passed on."""
        return [
            VoteCommitment(index=signer, vote=Hash(vote), signature=signature)
            for signer, vote, signature, _late in await self._commitments(digest)
        ]

    async def opinions(self, digest: Hash) -> Opinions:
        """Return all that is known to be signed in a dispute, one that has ended too."""
        panel = await self.panel(digest, 0)
        return Opinions(
            dispute=digest,
            commitments=tuple(await self.commitments(digest)),
            votes=tuple(panel.votes.values()),
            verdicts=tuple(
                SignedVerdict(index=index, pay=Nano(pay), slash=Nano(slash), signature=signature)
                for index, signed in panel.verdicts.items()
                for (pay, slash), signature in signed.items()
            ),
        )

    async def _commitments(self, digest: bytes) -> list[tuple[int, bytes, bytes, int]]:
        rows = await self._database.fetch(
            "SELECT signer, vote, signature, late FROM arbiter_commitments WHERE digest = ?"
            " ORDER BY signer, vote",
            bytes(digest),
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    async def _verdicts(self, digest: bytes) -> list[tuple[int, int, int, bytes]]:
        rows = await self._database.fetch(
            "SELECT signer, pay, slash, signature FROM arbiter_verdicts WHERE digest = ?"
            " ORDER BY signer, pay, slash",
            bytes(digest),
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]


async def _add_commitment(
    within: Statements, digest: bytes, commitment: VoteCommitment, *, late: bool
) -> None:
    if await _is_full(within, "commitments", digest, commitment.index):
        return
    await within.execute(
        "INSERT INTO arbiter_commitments VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (digest, signer, vote) DO NOTHING",
        bytes(digest),
        commitment.index,
        bytes(commitment.vote),
        commitment.signature,
        int(late),
    )


async def _add_vote(within: Statements, vote: Vote) -> None:
    await within.execute(
        "INSERT INTO arbiter_votes VALUES (?, ?, ?) ON CONFLICT (digest, signer) DO NOTHING",
        bytes(vote.dispute),
        vote.index,
        _write(vote),
    )


async def _add_verdict(within: Statements, digest: bytes, signed: SignedVerdict) -> None:
    if await _is_full(within, "verdicts", digest, signed.index):
        return
    await within.execute(
        "INSERT INTO arbiter_verdicts VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (digest, signer, pay, slash) DO NOTHING",
        bytes(digest),
        signed.index,
        int(signed.pay),
        int(signed.slash),
        signed.signature,
    )


async def _is_full(within: Statements, table: str, digest: bytes, signer: int) -> bool:
    """Tell whether an arbiter has signed so much in a dispute that no more of it is kept."""
    rows = await within.fetch(
        f"SELECT COUNT(*) FROM arbiter_{table} WHERE digest = ? AND signer = ?",  # noqa: S608
        bytes(digest),
        signer,
    )
    return int(rows[0][0]) >= MAX_SIGNED


def _write(vote: Vote) -> str:
    return canonical_bytes(vote.to_wire()).decode("utf-8")


def _read(text: str) -> Vote:
    return Vote.from_wire(parse_canonical(text.encode("utf-8")))
