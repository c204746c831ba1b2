"""The SQLite file of a sandbox: how it is opened, what is in it, and that a change is whole or not there.

Owns the schema and its version, and turns errors of SQLite into named ones. Must not know chains.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cocoon_sdk.sandbox.storage.errors import StorageVersionError, corrupt, explained

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x434F434E  # "COCN": tells our files from other people's
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    seqno INTEGER PRIMARY KEY, master BLOB NOT NULL, base BLOB NOT NULL,
    master_fees TEXT NOT NULL, base_fees TEXT NOT NULL
);
CREATE TABLE states (seqno INTEGER PRIMARY KEY, master BLOB NOT NULL, base BLOB NOT NULL);
CREATE TABLE moments (
    name TEXT PRIMARY KEY, seqno INTEGER NOT NULL, now INTEGER NOT NULL, lt INTEGER NOT NULL,
    batches INTEGER NOT NULL, held INTEGER NOT NULL, minted TEXT NOT NULL, fees TEXT NOT NULL,
    ahead INTEGER NOT NULL, queue TEXT NOT NULL, libraries TEXT NOT NULL, delivered_keys TEXT NOT NULL
) WITHOUT ROWID;
"""


class Database:
    """An open file. Every method raises `StorageError` or one of its kinds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.touch(mode=0o600)
            # One writer, which also is the only reader: nobody else may even open the file.
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        except (sqlite3.Error, OSError) as error:
            raise _named(error, path) from error
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self.execute("PRAGMA locking_mode = EXCLUSIVE")
        # In WAL mode a commit is in the file when it returns, and a process that is killed loses none. Only
        # a machine that loses power may lose the newest ones (never part of one): a price of FULL, which
        # would wait for the disk at every block.
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = NORMAL")
        (application,) = self.rows("PRAGMA application_id")[0]
        (version,) = self.rows("PRAGMA user_version")[0]
        if not application and not version and not self.rows("SELECT name FROM sqlite_master LIMIT 1"):
            with self.transaction():
                for statement in _SCHEMA.strip().split(";\n"):
                    self.execute(statement)
                self.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif application != _APPLICATION_ID:
            raise corrupt(self.path, "it is another program's database")
        elif version != SCHEMA_VERSION:
            raise StorageVersionError(
                f"the sandbox in {self.path} cannot be read",
                why=f"it has form {version}; this version knows form {SCHEMA_VERSION}",
                hint="use the version that wrote it, or start anew in another folder",
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is written inside visible at once when it ends, or not at all when it fails."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Run a statement whose rows nobody wants."""
        try:
            self._connection.execute(statement, values).close()
        except sqlite3.Error as error:
            raise _named(error, self.path) from error

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""
        return list(self.stream(statement, values))

    def stream(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """Yield the rows of a query one by one."""
        try:
            yield from self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise _named(error, self.path) from error

    def close(self) -> None:
        """Close the file; SQLite folds its log into it."""
        try:
            self._connection.close()
        except sqlite3.Error as error:
            raise _named(error, self.path) from error


def _named(error: Exception, path: Path) -> Exception:
    if isinstance(error, sqlite3.Error):
        return explained(error, path)
    return explained(sqlite3.OperationalError(getattr(error, "strerror", None) or str(error)), path)
