"""Keeping a sandbox: its chain in a folder across restarts, and saved sets of accounts to start from.

Nothing here makes blocks or serves them; whoever writes to disk for the sandbox is in this room.
"""

from cocoon_sdk.sandbox.storage.errors import (
    FolderBusyError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageVersionError,
)
from cocoon_sdk.sandbox.storage.folder import SandboxFolder
from cocoon_sdk.sandbox.storage.sqlite_vault import SqliteVault

__all__ = [
    "FolderBusyError",
    "SandboxFolder",
    "SqliteVault",
    "StorageCorruptError",
    "StorageError",
    "StorageFullError",
    "StorageVersionError",
]
