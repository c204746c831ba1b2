"""SQLite: the database of one machine, a file.

Owns the file, its connection and its settings. Must not know any table. A commit runs on the calling thread:
in WAL mode with synchronous=NORMAL it is some tens of microseconds, less than handing it to another thread
costs. It is in the file when it returns and survives `kill -9`; only a machine that loses power may lose the
newest commits, never part of one. The slow part, folding the log into the file with the disk's own waiting,
is done beside, on a thread and a connection of its own.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, final

from cocoon_sdk.storage.base import VERSIONS, Row, Schema, Statements, Value, apply
from cocoon_sdk.storage.errors import (
    StorageConflictError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageVersionError,
)

PATIENCE_S: Final = 5.0
"""How long a writer waits for another process before it gives up."""
_PAUSE_S: Final = 0.005
_APPLICATION_ID: Final = 0x434F4344  # "COCD": tells our files from other people's
_FOLD_EVERY: Final = 4000
"""Commits between two foldings beside: about as many pages of 1 KiB in the log."""
_BEGIN_ANEW_AFTER: Final = 32768
"""Commits after which one waits until the log is folded whole, so that it begins anew: it never does while
somebody writes without a pause."""

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_TAKES_NO_MORE: Final = frozenset(
    # What the kernel says for a quota or a limit of the process is an error of input and output to SQLite.
    {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE}
)


@final
class SqliteDatabase:
    """One file with one connection; several processes may have it open, and their writers wait in turn."""

    def __init__(self, path: str | Path, *, patience_s: float = PATIENCE_S) -> None:
        self._path, self._patience_s = Path(path).expanduser().absolute(), patience_s
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[object] | None = None
        self._commits = self._since_anew = 0
        self._folding: threading.Thread | None = None
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made before SQLite does, so that it and its side files are nobody else's business.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageError(
                f"cannot open the database {self._path}",
                why=error.strerror or str(error),
                hint="Look at the folder's permissions, or name another place",
            ) from None
        with self._named():
            # Autocommit: a statement alone is its own transaction.
            self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=patience_s)
        try:
            with self._named():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def __repr__(self) -> str:
        return f"SqliteDatabase({str(self._path)!r})"

    @property
    def where(self) -> str:
        """The file's path."""
        return str(self._path)

    def _prepare(self) -> None:
        run = self._connection.execute
        (application,) = run("PRAGMA application_id").fetchone()
        if application != _APPLICATION_ID:
            if application or run("SELECT name FROM sqlite_master LIMIT 1").fetchone():
                raise StorageVersionError(
                    f"cannot use the database {self._path}",
                    why="it is another program's",
                    hint="Name another file",
                )
            # Small pages: a commit writes one or two of them whole. Counts before anything is written only.
            run("PRAGMA page_size = 1024")
            run(f"PRAGMA application_id = {_APPLICATION_ID}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("PRAGMA wal_autocheckpoint = 0")
        # From here on the loop waits, not SQLite, which would stop the whole thread.
        run("PRAGMA busy_timeout = 0")

    # -- statements ---------------------------------------------------------------------------------

    async def execute(self, sql: str, *values: Value) -> int:
        """Run a statement, at once and on this thread unless somebody else is writing."""
        if self._writer is None:
            try:
                changed = self._connection.execute(sql, values).rowcount
            except sqlite3.Error as error:
                if not _is_busy(error):
                    raise self._error(error) from None
            else:
                self._count_commit()
                return changed
        async with self._turn():
            changed = await self._patiently(sql, values)
        self._count_commit()
        return changed

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run a statement for each row."""
        async with self.transaction() as transaction:
            await transaction.execute_many(sql, rows)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        """Run a query."""
        if self._writer is None:
            try:
                return list(self._connection.execute(sql, values))
            except sqlite3.Error as error:
                if not _is_busy(error):
                    raise self._error(error) from None
        async with self._turn():
            return await self._rows(sql, values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Statements]:
        """Hold the file's write lock for the block."""
        async with self._turn():
            await self._patiently("BEGIN IMMEDIATE")
            try:
                yield _Inside(self, self._connection)
                with self._named():
                    self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        self._count_commit()

    async def migrate(self, schema: Schema) -> None:
        """Create or renew tables."""
        async with self.transaction() as transaction:
            await transaction.execute(VERSIONS)
            await apply(transaction, schema, self.where)

    async def close(self) -> None:
        """Close the file; SQLite folds its log into it."""
        if self._folding is not None:
            self._folding.join()
        with self._named():
            self._connection.close()

    # -- waiting ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Keep other tasks of this loop out, whose statements would fall into our transaction."""
        task = asyncio.current_task()
        if self._writer is task and task is not None:
            raise StorageError("cannot use the database inside its own transaction", hint="Use what it gave")
        async with self._writing:
            self._writer = task
            try:
                yield
            finally:
                self._writer = None

    async def _patiently(self, sql: str, values: Sequence[Value] = ()) -> int:
        async for last in self._tries():
            try:
                return self._connection.execute(sql, values).rowcount
            except sqlite3.Error as error:
                if last or not _is_busy(error):
                    raise self._error(error) from None
        raise AssertionError("unreachable")

    async def _rows(self, sql: str, values: Sequence[Value]) -> list[Row]:
        async for last in self._tries():
            try:
                return list(self._connection.execute(sql, values))
            except sqlite3.Error as error:
                if last or not _is_busy(error):
                    raise self._error(error) from None
        raise AssertionError("unreachable")

    async def _tries(self) -> AsyncIterator[bool]:
        """Yield for each try whether it is the last one, with pauses that let other tasks run."""
        for _ in range(int(self._patience_s / _PAUSE_S)):
            yield False
            await asyncio.sleep(_PAUSE_S)
        yield True

    # -- folding the log into the file --------------------------------------------------------------

    def _count_commit(self) -> None:
        self._commits += 1
        self._since_anew += 1
        if self._since_anew >= _BEGIN_ANEW_AFTER:
            self._begin_anew()
        elif self._commits >= _FOLD_EVERY and (self._folding is None or not self._folding.is_alive()):
            self._commits = 0
            self._folding = threading.Thread(target=_fold, args=(self._path,), name="fold", daemon=True)
            self._folding.start()

    def _begin_anew(self) -> None:
        """Fold the little that was written since the last folding, here and now, so that the log is empty."""
        self._commits = self._since_anew = 0
        if self._folding is not None:
            self._folding.join()
        with suppress(sqlite3.Error):  # a reader in another process prevents it: next time, then
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    # -- errors -------------------------------------------------------------------------------------

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _error(self, error: sqlite3.Error) -> StorageError:
        what, why = f"cannot use the database {self._path}", str(error)
        extended = getattr(error, "sqlite_errorcode", 0) or 0
        code = extended & 0xFF  # the rest is detail
        if code == sqlite3.SQLITE_FULL or extended in _TAKES_NO_MORE:
            return StorageFullError(what, why=why, hint="Make room on the disk; nothing was sent meanwhile")
        if code in _BUSY:
            return StorageLockedError(what, why=why, hint="Another process is writing to it; try again")
        if code in _CORRUPT:
            return StorageCorruptError(what, why=why, hint="Restore it from a copy, or name another file")
        if code == sqlite3.SQLITE_CONSTRAINT:
            return StorageConflictError(what, why=why)
        return StorageError(what, why=why, hint="Look at the folder's permissions and at the disk")


@final
class _Inside:
    """Statements inside a transaction: the file is ours, nothing waits."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: SqliteDatabase, connection: sqlite3.Connection) -> None:
        self._database, self._connection = database, connection

    async def execute(self, sql: str, *values: Value) -> int:
        with self._database._named():
            return self._connection.execute(sql, values).rowcount

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        with self._database._named():
            self._connection.executemany(sql, rows)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        with self._database._named():
            return list(self._connection.execute(sql, values))


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY


def _fold(path: Path) -> None:
    """Move what can be moved from the log to the file, without holding up anybody."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    except sqlite3.Error:
        return  # the next one, or the last commit's own folding, will say what is wrong
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:
        pass
    finally:
        connection.close()
