"""`Database`: the seam between what is stored and where.

Owns the protocol, schemas with versions, and the portable subset of SQL. Must not know any table.

SQL is written once for SQLite (3.35 or newer) and PostgreSQL:

* parameters are `?`, and no literal contains a question mark;
* columns are `BIGINT` (64 bits, signed), `TEXT` or `BYTEA`; sums are `CAST(SUM(x) AS BIGINT)`;
* `ON CONFLICT`, `RETURNING` and `CASE` may be used, automatic numbers and dates may not;
* a statement alone is a transaction. Whoever decides by what is read takes a row for itself with `UPDATE`
  first: from there on both kinds of database let nobody else at it until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from cocoon_sdk.storage.errors import StorageVersionError

Value: TypeAlias = "int | str | bytes | None"
Row: TypeAlias = Sequence[Any]

VERSIONS: Final = (
    "CREATE TABLE IF NOT EXISTS schema_versions (name TEXT PRIMARY KEY, version BIGINT NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one room: `steps[n]` are the statements that bring version n to n + 1.

    Steps are only ever added: what a released version has run is never changed.
    """

    name: str
    steps: tuple[tuple[str, ...], ...]


class Statements(Protocol):
    """Runs statements. All raise `StorageError` or one of its kinds."""

    async def execute(self, sql: str, *values: Value) -> int:
        """Run a statement; return how many rows it changed. Outside of a transaction it is kept on return."""
        ...

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run a statement once for each row of values, all of them in one transaction."""
        ...

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        """Run a query, or a statement with `RETURNING`; return its rows."""
        ...


@runtime_checkable
class Database(Statements, Protocol):
    """An open database, used from one event loop. Committed means: it survives the end of this process."""

    @property
    def where(self) -> str:
        """Where it is, without a password: for people."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Statements]:
        """Run several statements as one: all are kept when the block ends, none when it raises.

        Inside only what the block was given may be used. Writers wait for each other.
        """
        ...

    async def migrate(self, schema: Schema) -> None:
        """Create or renew a room's tables. Raises `StorageVersionError` for tables of a newer version."""
        ...

    async def close(self) -> None:
        """Close it; further calls fail."""
        ...


async def apply(within: Statements, schema: Schema, where: str) -> None:
    """Bring a room's tables to the newest version; the caller sees to it that nobody else does."""
    rows = await within.fetch("SELECT version FROM schema_versions WHERE name = ?", schema.name)
    version = int(rows[0][0]) if rows else 0
    if version > len(schema.steps):
        raise StorageVersionError(
            f"cannot use the database {where}",
            why=f"its {schema.name} have form {version}; this version knows form {len(schema.steps)}",
            hint="Use the version that wrote it, or a newer one",
        )
    if version == len(schema.steps):
        return
    for step in schema.steps[version:]:
        for statement in step:
            await within.execute(statement)
    await within.execute(
        "INSERT INTO schema_versions (name, version) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET version = excluded.version",
        schema.name,
        len(schema.steps),
    )
