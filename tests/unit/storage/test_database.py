"""One interface, two databases: what holds for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.storage import (
    Database,
    Schema,
    StorageConflictError,
    StorageError,
    StorageVersionError,
    open_database,
)

ONE = Schema("things", (("CREATE TABLE things (name TEXT PRIMARY KEY, amount BIGINT NOT NULL, raw BYTEA)",),))
TWO = Schema(
    "things", (*ONE.steps, ("ALTER TABLE things ADD COLUMN more TEXT", "UPDATE things SET more = 'new'"))
)
OTHER = Schema("others", (("CREATE TABLE others (name TEXT PRIMARY KEY)",),))
INSERT = "INSERT INTO things (name, amount, raw) VALUES (?, ?, ?)"
ALL = "SELECT name, amount, raw FROM things ORDER BY name"


@pytest.fixture
async def database(place: str) -> AsyncIterator[Database]:
    opened = await open_database(place, ONE)
    yield opened
    await opened.close()


async def test_user_can_read_back_every_kind_of_value(database: Database) -> None:
    largest = (1 << 63) - 1
    assert await database.execute(INSERT, "a", largest, bytes(range(256))) == 1
    assert await database.execute(INSERT, "ü?", -largest, None) == 1
    rows = await database.fetch(ALL)
    assert [tuple(row) for row in rows] == [("a", largest, bytes(range(256))), ("ü?", -largest, None)]
    ((total,),) = await database.fetch("SELECT CAST(SUM(amount) AS BIGINT) FROM things")
    assert type(total) is int
    assert total == 0


async def test_user_can_tell_how_many_rows_changed(database: Database) -> None:
    await database.execute_many(INSERT, [("a", 1, None), ("b", 2, None), ("c", 2, None)])
    assert await database.execute("UPDATE things SET amount = 3 WHERE amount = ?", 2) == 2
    assert await database.execute("UPDATE things SET amount = 3 WHERE name = ?", "z") == 0
    assert await database.execute("DELETE FROM things WHERE amount = ?", 3) == 2


async def test_user_can_get_the_row_that_a_statement_made(database: Database) -> None:
    upsert = f"{INSERT} ON CONFLICT (name) DO UPDATE SET amount = things.amount + 1 RETURNING amount"
    assert [tuple(row) for row in await database.fetch(upsert, "a", 5, None)] == [(5,)]
    assert [tuple(row) for row in await database.fetch(upsert, "a", 5, None)] == [(6,)]


async def test_transaction_keeps_nothing_when_it_raises(database: Database) -> None:
    await database.execute(INSERT, "a", 1, None)

    async def fail() -> None:
        async with database.transaction() as within:
            await within.execute("UPDATE things SET amount = 9")
            await within.execute_many(INSERT, [("b", 2, None)])
            assert len(await within.fetch(ALL)) == 2
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await fail()
    assert [tuple(row) for row in await database.fetch(ALL)] == [("a", 1, None)]


async def test_transaction_keeps_everything_when_it_ends(database: Database) -> None:
    async with database.transaction() as within:
        await within.execute(INSERT, "a", 1, None)
        await within.execute(INSERT, "b", 2, b"x")
    assert len(await database.fetch(ALL)) == 2


async def test_statement_of_another_task_does_not_fall_into_a_transaction(database: Database) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def holder() -> None:
        async with database.transaction() as within:
            await within.execute(INSERT, "a", 1, None)
            begun.set()
            await go_on.wait()
            raise RuntimeError("on purpose")

    task = asyncio.create_task(holder())
    await begun.wait()
    other = asyncio.create_task(database.execute(INSERT, "b", 2, None))
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(RuntimeError, match="on purpose"):
        await task
    await other
    assert [row[0] for row in await database.fetch(ALL)] == ["b"]


async def test_transactions_wait_for_each_other_when_they_count(database: Database) -> None:
    await database.execute(INSERT, "a", 0, None)

    async def add() -> None:
        async with database.transaction() as within:
            # Takes the row: the number read next cannot be out of date when it is written.
            await within.execute("UPDATE things SET amount = amount WHERE name = 'a'")
            ((amount,),) = await within.fetch("SELECT amount FROM things WHERE name = 'a'")
            await asyncio.sleep(0)
            await within.execute("UPDATE things SET amount = ? WHERE name = 'a'", amount + 1)

    await asyncio.gather(*(add() for _ in range(20)))
    assert [row[1] for row in await database.fetch(ALL)] == [20]


async def test_user_gets_a_named_error_when_a_row_is_there_already(database: Database) -> None:
    await database.execute(INSERT, "a", 1, None)
    with pytest.raises(StorageConflictError):
        await database.execute(INSERT, "a", 2, None)

    async def both() -> None:
        async with database.transaction() as within:
            await within.execute(INSERT, "b", 2, None)
            await within.execute(INSERT, "a", 2, None)

    with pytest.raises(StorageConflictError):
        await both()
    assert len(await database.fetch(ALL)) == 1


async def test_user_gets_a_named_error_when_a_statement_is_wrong(database: Database) -> None:
    with pytest.raises(StorageError):
        await database.execute("UPDATE nothing SET x = 1")
    with pytest.raises(StorageError):
        await database.fetch("SELECT nothing")


async def test_new_version_can_renew_tables_and_keep_what_is_in_them(place: str) -> None:
    old = await open_database(place, ONE, OTHER)
    await old.execute(INSERT, "a", 1, None)
    await old.close()
    for _ in range(2):
        new = await open_database(place, TWO, OTHER)
        rows = await new.fetch("SELECT name, more FROM things")
        assert [tuple(row) for row in rows] == [("a", "new")]
        await new.close()


async def test_old_version_cannot_use_tables_of_a_newer_one(place: str) -> None:
    await (await open_database(place, TWO)).close()
    with pytest.raises(StorageVersionError, match="have form 2; this version knows form 1"):
        await open_database(place, ONE)


async def test_step_that_fails_leaves_the_old_version_whole(place: str) -> None:
    broken = Schema("things", (*ONE.steps, ("ALTER TABLE things ADD COLUMN more TEXT", "NO SUCH STATEMENT")))
    await (await open_database(place, ONE)).close()
    with pytest.raises(StorageError):
        await open_database(place, broken)
    again = await open_database(place, TWO)
    assert await again.fetch("SELECT more FROM things") == []
    await again.close()


async def test_two_can_make_the_tables_at_once(place: str) -> None:
    opened = await asyncio.gather(*(open_database(place, TWO, OTHER) for _ in range(4)))
    for each in opened:
        assert await each.fetch(ALL) == []
        await each.close()


async def test_everything_fails_with_a_name_after_closing(place: str) -> None:
    database = await open_database(place, ONE)
    await database.close()
    with pytest.raises(StorageError):
        await database.execute(INSERT, "a", 1, None)


@pytest.mark.parametrize("name", ["", "mysql://localhost/x", "sqlite://x"])
async def test_user_cannot_open_what_is_no_database(name: str) -> None:
    with pytest.raises(ConfigError):
        await open_database(name)
