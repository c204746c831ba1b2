"""Errors of keeping data in a database, named alike for every kind of it."""

from __future__ import annotations

from cocoon_sdk.errors import CocoonError


class StorageError(CocoonError):
    """A database cannot be read or written. What was committed before is whole."""


class StorageLockedError(StorageError):
    """Another process kept the database locked for longer than we wait; nothing was changed."""


class StorageFullError(StorageError):
    """There is no room for what was to be written; nothing of it was kept."""


class StorageUnreachableError(StorageError):
    """The server cannot be reached, or the connection broke: what was under way may or may not be kept."""


class StorageVersionError(StorageError):
    """The database was written by a newer version, or by another program."""


class StorageCorruptError(StorageError):
    """The database cannot be read as what it was."""


class StorageConflictError(StorageError):
    """A row with that name is there already; nothing was changed."""
