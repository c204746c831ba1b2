"""Keeping data: one small interface over SQLite (a file) and PostgreSQL (a URL).

Owns opening, transactions, versions of tables, and the names of what goes wrong. Must not know what is kept.
"""

from cocoon_sdk.storage.base import Database, Row, Schema, Statements, Value
from cocoon_sdk.storage.errors import (
    StorageConflictError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageUnreachableError,
    StorageVersionError,
)
from cocoon_sdk.storage.opening import open_database
from cocoon_sdk.storage.postgres import PostgresDatabase
from cocoon_sdk.storage.sqlite import SqliteDatabase

__all__ = [
    "Database",
    "PostgresDatabase",
    "Row",
    "Schema",
    "SqliteDatabase",
    "Statements",
    "StorageConflictError",
    "StorageCorruptError",
    "StorageError",
    "StorageFullError",
    "StorageLockedError",
    "StorageUnreachableError",
    "StorageVersionError",
    "Value",
    "open_database",
]
