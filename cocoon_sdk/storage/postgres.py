"""PostgreSQL: one database for several machines.

Owns the pool of connections, and turns errors of the server and of the network into named ones. Must not know
any table. Needs asyncpg (`cocoon-sdk[postgres]`), which is imported when a database is opened.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlsplit

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.storage.base import VERSIONS, Row, Schema, Statements, Value, apply
from cocoon_sdk.storage.errors import (
    StorageConflictError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageUnreachableError,
    StorageVersionError,
)

if TYPE_CHECKING:
    import asyncpg

DEFAULT_CONNECTIONS: Final = 8
TIMEOUT_S: Final = 10.0
"""How long one statement, or connecting, may take."""
_SCHEMA_LOCK: Final = 0x434F4344
"""Number of the advisory lock under which tables are made: two that start at once do it in turn."""
_OLDEST_SERVER: Final = 110_000
_CHANGED: Final = re.compile(r"(\d+)\Z")

# SQLSTATE classes (PostgreSQL manual, appendix A).
_FULL: Final = ("53100",)
_LOCKED: Final = ("40001", "40P01", "55P03", "57014")
_UNREACHABLE: Final = ("08", "53300", "57P")
_CORRUPT: Final = ("XX001", "XX002")
_CONFLICT: Final = ("23",)


@final
class PostgresDatabase:
    """A pool of connections to one database. Make it with `open`."""

    def __init__(self, pool: asyncpg.Pool, where: str) -> None:
        self._pool, self._where = pool, where

    @classmethod
    async def open(cls, url: str, *, connections: int = DEFAULT_CONNECTIONS) -> PostgresDatabase:
        """Connect to `postgresql://user:password@host:port/database`.

        Raises `ConfigError` without asyncpg or for a bad URL, `StorageUnreachableError` when no server
        answers or it does not let us in, `StorageVersionError` for a server older than 11.
        """
        try:
            import asyncpg
        except ImportError:
            raise ConfigError(
                "cannot use PostgreSQL", why="asyncpg is not installed", hint="Install cocoon-sdk[postgres]"
            ) from None
        where = without_password(url)
        with _named(where):
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=connections,
                timeout=TIMEOUT_S,
                command_timeout=TIMEOUT_S,
                server_settings={"application_name": "cocoon"},
            )
        self = cls(pool, where)
        try:
            with _named(where):
                version = int(await pool.fetchval("SHOW server_version_num"))
        except BaseException:
            pool.terminate()
            raise
        if version < _OLDEST_SERVER:
            await self.close()
            raise StorageVersionError(
                f"cannot use the database {where}", why="the server is older than PostgreSQL 11"
            )
        return self

    def __repr__(self) -> str:
        return f"PostgresDatabase({self._where!r})"

    @property
    def where(self) -> str:
        """The URL without its password."""
        return self._where

    async def execute(self, sql: str, *values: Value) -> int:
        """Run a statement."""
        with _named(self._where):
            return _changed(await self._pool.execute(_numbered(sql), *values))

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run a statement for each row."""
        with _named(self._where):
            await self._pool.executemany(_numbered(sql), rows)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        """Run a query."""
        with _named(self._where):
            return [tuple(row) for row in await self._pool.fetch(_numbered(sql), *values)]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Statements]:
        """Run the block on one connection; each of its statements sees what others had committed by then."""
        with _named(self._where):
            connection = await self._pool.acquire()
        try:
            transaction = connection.transaction()
            with _named(self._where):
                await transaction.start()
            try:
                yield _Inside(connection, self._where)
            except BaseException:
                if not connection.is_closed():
                    with _named(self._where):
                        await transaction.rollback()
                raise
            with _named(self._where):
                await transaction.commit()
        finally:
            await self._pool.release(connection)

    async def migrate(self, schema: Schema) -> None:
        """Create or renew tables."""
        async with self.transaction() as transaction:
            await transaction.fetch(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
            await transaction.execute(VERSIONS)
            await apply(transaction, schema, self._where)

    async def close(self) -> None:
        """Close all connections."""
        try:
            await asyncio.wait_for(self._pool.close(), TIMEOUT_S)
        except (TimeoutError, OSError):
            self._pool.terminate()


@final
class _Inside:
    """Statements on the connection of a transaction."""

    __slots__ = ("_connection", "_where")

    def __init__(self, connection: Any, where: str) -> None:
        self._connection, self._where = connection, where

    async def execute(self, sql: str, *values: Value) -> int:
        with _named(self._where):
            return _changed(await self._connection.execute(_numbered(sql), *values))

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        with _named(self._where):
            await self._connection.executemany(_numbered(sql), rows)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        with _named(self._where):
            return [tuple(row) for row in await self._connection.fetch(_numbered(sql), *values)]


_statements: dict[str, str] = {}
_MAX_STATEMENTS: Final = 1000


def _numbered(sql: str) -> str:
    """Return the statement with PostgreSQL's parameters: `$1`, `$2`."""
    known = _statements.get(sql)
    if known is None:
        first, *others = sql.split("?")
        known = first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))
        if len(_statements) < _MAX_STATEMENTS:
            _statements[sql] = known
    return known


def _changed(status: str) -> int:
    """Read the number at the end of what the server answers: `UPDATE 1`."""
    found = _CHANGED.search(status)
    return int(found.group(1)) if found else 0


def without_password(url: str) -> str:
    """Return what may be shown of a URL. Raises `ConfigError` for one that cannot be read."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        raise ConfigError("the URL of the database cannot be read") from None
    user = f"{parts.username}@" if parts.username else ""
    return f"postgresql://{user}{parts.hostname or ''}{port}{parts.path}"


@contextmanager
def _named(where: str) -> Iterator[None]:
    import asyncpg

    what = f"cannot use the database {where}"
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _of_server(what, error) from None
    except (asyncpg.InterfaceError, OSError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        hint = "Look whether the server runs and can be reached from here"
        raise StorageUnreachableError(what, why=why[:200], hint=hint) from None


def _of_server(what: str, error: asyncpg.PostgresError) -> StorageError:
    state, why = error.sqlstate or "", str(error)[:200]
    if state.startswith(_FULL):
        return StorageFullError(what, why=why, hint="Make room at the server; nothing was sent meanwhile")
    if state.startswith(_LOCKED):
        return StorageLockedError(what, why=why, hint="Others are writing the same; try again")
    if state.startswith(_UNREACHABLE) or state.startswith(("28", "3D")):
        hint = "Check user, password and name of the database, and how many connections it allows"
        return StorageUnreachableError(what, why=why, hint=hint)
    if state.startswith(_CORRUPT):
        return StorageCorruptError(what, why=why, hint="Restore the database from a copy")
    if state.startswith(_CONFLICT):
        return StorageConflictError(what, why=why)
    return StorageError(what, why=f"{why} ({state})")
