"""Errors of keeping a sandbox on disk.

Owns the names, and which of them an error of SQLite or the file system is.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cocoon_sdk.sandbox.errors import SandboxError


class StorageError(SandboxError):
    """A sandbox cannot be kept or read back."""


class FolderBusyError(StorageError):
    """Another process has the folder."""


class StorageFullError(StorageError):
    """There is no room for the next block. What was kept so far is whole."""


class StorageCorruptError(StorageError):
    """What was kept cannot be read, or contradicts itself."""


class StorageVersionError(StorageError):
    """What was kept has a form that this version does not know."""


_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


def explained(error: sqlite3.Error, path: Path) -> StorageError:
    """Name an error of SQLite: what failed, why, what to do."""
    what, why = f"cannot keep the sandbox in {path}", str(error)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is detail
    if code == sqlite3.SQLITE_FULL:
        return StorageFullError(what, why=why, hint="make room on the disk, then start the sandbox again")
    if code in _BUSY:
        return FolderBusyError(what, why=why, hint="end the other process that has the file open")
    if code in _CORRUPT:
        return corrupt(path, why)
    return StorageError(what, why=why, hint="look at the folder's permissions and at the disk")


def corrupt(path: Path, why: str) -> StorageCorruptError:
    """Build the error for a file that cannot be believed."""
    return StorageCorruptError(
        f"the sandbox in {path} cannot be read",
        why=why,
        hint="move the folder away and start anew; nothing outside depends on it",
    )
