"""One SQLite file with one writer: locking, durable transactions, and errors with names.

Owns the connection. Must not know what is stored. Every transaction is on the disk when it returns
(WAL, synchronous=FULL); what was deleted is overwritten (secure_delete). A swift transaction is handed to the
operating system instead (synchronous=NORMAL): it outlives the process, not a power cut before the next flush.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cocoon_worker.errors import JournalError, JournalFullError, JournalLockedError

_FULL: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
)


class Database:
    """An open database file. Raises `JournalLockedError` when another process (or object) has it open.

    `read_only`: beside whoever has it open, without a lock; every write is refused.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._depth = 0
        self._swift = False
        self._unflushed = False
        self._lock = -1
        if read_only:
            self._open_to_read()
            return
        self._lock = _take_lock(path.with_name(path.name + ".lock"))
        try:
            # Made before SQLite does, so that it and its side files are nobody else's business.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None)
            with self._named("cannot open the journal"):
                self._connection.row_factory = sqlite3.Row
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
                    self._connection.execute(f"PRAGMA {pragma}")
        except OSError as error:
            os.close(self._lock)
            raise JournalError(f"cannot open the journal {path}", why=error.strerror or "") from None
        except JournalError:
            os.close(self._lock)
            raise

    def _open_to_read(self) -> None:
        if not self._path.is_file():
            raise JournalError(f"cannot open the journal {self._path}", why="there is none")
        with self._named("cannot open the journal"):
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA query_only=ON")

    def close(self) -> None:
        """Let go of the file. Nothing is written: what was committed is all there is."""
        self._connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextmanager
    def transaction(self, *, swift: bool = False) -> Iterator[None]:
        """All that is written inside becomes durable together, or not at all; inner ones join the outer one.

        `swift`: it survives the end of this process at once, and a power cut from the next `flush` on; 50
        times as fast. Raises `JournalFullError` when it cannot be written, `JournalError` for a damaged file.
        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        with self._named("cannot write the journal"):
            if swift is not self._swift:
                self._connection.execute(f"PRAGMA synchronous={'NORMAL' if swift else 'FULL'}")
                self._swift = swift
            self._connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._connection.execute("COMMIT")
                self._unflushed = swift
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    def flush(self) -> None:
        """Make every swift transaction so far survive a power cut too. Raises what `transaction` raises."""
        if self._unflushed:
            with self.transaction():
                # A commit that writes nothing syncs nothing; this writes what is there already.
                self.write("UPDATE meta SET value = value WHERE key = 'owner'")

    def write(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute one statement inside a transaction."""
        if not self._depth:
            raise JournalError("a write outside of a transaction", hint="This is a bug: report it")
        with self._named("cannot write the journal"):
            return self._connection.execute(sql, values)

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        with self._named("cannot read the journal"):
            return self._connection.execute(sql, values).fetchall()

    def run_script(self, statements: str) -> None:
        """Execute several statements inside a transaction."""
        for statement in statements.split(";"):
            if statement.strip():
                self.write(statement)

    def limit_pages(self, pages: int) -> None:
        """Let the file grow to so many pages of 4 KiB and no further, as a quota would."""
        self._connection.execute(f"PRAGMA max_page_count={int(pages)}")

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _FULL:
                raise JournalFullError(
                    what,
                    why=str(error),
                    hint=f"Make room or give write access at {self._path.parent}; nothing was sent meanwhile",
                ) from None
            hint = f"Check the disk; keep {self._path.name} and its -wal file, they hold signed results"
            raise JournalError(what, why=str(error), hint=hint) from None


def _take_lock(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"cannot open the journal's lock {path}", why=error.strerror or "") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise JournalLockedError(
            f"the journal {path.stem} is in use",
            why="another worker holds its lock",
            hint="Run one worker per stake; stop the other one first",
        ) from None
    return descriptor
