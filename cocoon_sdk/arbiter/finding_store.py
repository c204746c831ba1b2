"""What an arbiter remembers of looking for disputes: how far each market was read, and what was heard there.

Owns two tables of the arbiter's database. Must not know what a notice is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.chain.watcher import Cursor
from cocoon_sdk.storage import Database

MAX_NOTICES: Final = 1 << 16
"""Most notices that are read back: of one market's last days, or after a restart."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody says that a dispute is: an escrow, and the id of a job or session of it."""

    escrow: Address
    number: int

    def __str__(self) -> str:
        return f"{self.number} of {self.escrow.to_str()}"


class FindingStore:
    """The memory of the search. All methods raise `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def cursor(self, account: Address) -> Cursor | None:
        """Return how far an account was watched; None when it never was."""
        rows = await self._database.fetch(
            "SELECT lt, hash FROM arbiter_cursors WHERE account = ?", account.hash_part
        )
        return Cursor(rows[0][0], rows[0][1]) if rows else None

    async def put_cursor(self, account: Address, cursor: Cursor) -> None:
        """Keep how far an account was watched."""
        await self._database.execute(
            "INSERT INTO arbiter_cursors VALUES (?, ?, ?)"
            " ON CONFLICT (account) DO UPDATE SET lt = excluded.lt, hash = excluded.hash",
            account.hash_part,
            cursor.lt,
            cursor.hash,
        )

    async def notices(self) -> list[Place]:
        """Return what was heard of and neither followed nor found to be nothing, oldest first."""
        rows = await self._database.fetch(
            "SELECT escrow, number FROM arbiter_notices ORDER BY noticed_at, escrow, number LIMIT ?",
            MAX_NOTICES,
        )
        return [Place(Address((0, row[0])), row[1]) for row in rows]

    async def add_notice(self, place: Place, now: int) -> None:
        """Keep a notice, before the cursor moves past it."""
        await self._database.execute(
            "INSERT INTO arbiter_notices VALUES (?, ?, ?) ON CONFLICT (escrow, number) DO NOTHING",
            place.escrow.hash_part,
            place.number,
            now,
        )

    async def drop_notice(self, place: Place) -> None:
        """Forget a notice: its dispute is followed, or there is none."""
        await self._database.execute(
            "DELETE FROM arbiter_notices WHERE escrow = ? AND number = ?",
            place.escrow.hash_part,
            place.number,
        )

    async def drop_notices_of(self, escrow: Address) -> None:
        """Forget all notices of an address."""
        await self._database.execute("DELETE FROM arbiter_notices WHERE escrow = ?", escrow.hash_part)
