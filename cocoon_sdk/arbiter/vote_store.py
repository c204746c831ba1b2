"""What is signed in disputes, by us and by others, as it is kept: votes, commitments, verdicts.

Owns the rule over our own: one vote and one verdict for a dispute, ever, on disk before either leaves. Must
not know how votes are counted, or evidence. The tables are `ArbiterStore`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cocoon_sdk.arbiter.errors import SecondVerdictError
from cocoon_sdk.arbiter.panel import Numbers, Panel
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_canonical
from cocoon_sdk.protocol.disputes import Opinions, SignedVerdict, Vote, VoteCommitment
from cocoon_sdk.storage import Database, Statements
from cocoon_sdk.types import Hash, Nano

MAX_SIGNED: Final = 2
"""Commitments or verdicts of one arbiter in one dispute that are kept: two prove that it is not honest."""


@dataclass(frozen=True, slots=True)
class OwnVote:
    """Our vote, whether it was shown to anybody, and the verdict that we signed."""

    vote: Vote = field(repr=False)
    shown: bool
    signed: Numbers | None


class VoteStore:
    """Votes in an arbiter's database. All methods raise `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
