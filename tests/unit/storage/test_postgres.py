"""PostgreSQL: the real server, its absence, its end, and what is shown of its URL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.storage import Schema, StorageUnreachableError, open_database
from cocoon_sdk.storage.postgres import without_password
from tests.helpers.databases import database_place
from tests.helpers.postgres import postgres_server

COUNTS = Schema("counts", (("CREATE TABLE counts (name TEXT PRIMARY KEY, amount BIGINT, raw BYTEA)",),))


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with database_place("postgres", tmp_path) as found:
        yield found


def cut(url: str) -> None:
    """End every connection to a database, as a server does that is restarted."""
    name = url.partition("@/")[2].partition("?")[0]
    postgres_server().run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


async def test_user_gets_a_named_error_when_no_server_answers(tmp_path: Path) -> None:
    with pytest.raises(StorageUnreachableError):
        await open_database(f"postgresql://cocoon:secret@/x?host={tmp_path}")


async def test_user_gets_a_named_error_when_the_database_is_not_there(url: str) -> None:
    with pytest.raises(StorageUnreachableError) as caught:
        await open_database(url.replace("/test_", "/nothing_"))
    assert "nothing_" in str(caught.value)


async def test_next_call_finds_the_server_again_when_it_cut_the_connections(url: str) -> None:
    database = await open_database(url, COUNTS, connections=2)
    await database.execute("INSERT INTO counts VALUES ('a', 1, NULL)")
    cut(url)
    with pytest.raises(StorageUnreachableError):
        await database.execute("UPDATE counts SET amount = 2")
    assert await database.execute("UPDATE counts SET amount = amount + 10") == 1
    assert [tuple(row) for row in await database.fetch("SELECT amount FROM counts")] == [(11,)]
    await database.close()


async def test_transaction_cut_by_the_server_keeps_nothing(url: str) -> None:
    database = await open_database(url, COUNTS)

    async def write() -> None:
        async with database.transaction() as within:
            await within.execute("INSERT INTO counts VALUES ('a', 1, NULL)")
            cut(url)

    with pytest.raises(StorageUnreachableError):
        await write()
    assert await database.fetch("SELECT * FROM counts") == []
    await database.close()


@pytest.mark.parametrize(
    "given",
    ["postgresql://me:secret@db.example:5433/cocoon", "postgres://me:secret@db.example:5433/cocoon?x=secret"],
)
def test_password_is_never_shown(given: str) -> None:
    assert without_password(given) == "postgresql://me@db.example:5433/cocoon"


def test_url_that_cannot_be_read_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        without_password("postgresql://me:secret@host:port/x")
    assert "secret" not in str(caught.value)
