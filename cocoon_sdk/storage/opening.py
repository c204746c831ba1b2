"""Choosing a database by its name: a path is SQLite, a `postgresql://` URL is PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.storage.base import Database, Schema
from cocoon_sdk.storage.postgres import DEFAULT_CONNECTIONS, PostgresDatabase
from cocoon_sdk.storage.sqlite import SqliteDatabase


async def open_database(
    place: str | Path, *schemas: Schema, connections: int = DEFAULT_CONNECTIONS
) -> Database:
    """Open the database and bring the rooms' tables to their newest version.

    `place` is the path of a file, which is made when it is missing, or the URL of a PostgreSQL database,
    which must exist; `connections` bounds the latter's pool. Raises `ConfigError` for a name that is neither,
    and `StorageError` or one of its kinds.
    """
    name = str(place)
    database: Database
    if name.startswith(("postgresql://", "postgres://")):
        database = await PostgresDatabase.open(name, connections=connections)
    elif "://" in name or not name:
        scheme = name.partition("://")[0]
        raise ConfigError(
            "cannot open the database",
            why=f"{scheme[:20]!r} is no kind of database that is known here",
            hint="Pass the path of a file, or postgresql://user:password@host/database",
        )
    else:
        database = SqliteDatabase(name)
    try:
        for schema in schemas:
            await database.migrate(schema)
    except BaseException:
        await database.close()
        raise
    return database
