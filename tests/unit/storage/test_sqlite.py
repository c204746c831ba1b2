"""SQLite: the file, other processes, a full disk, and a process that is killed."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cocoon_sdk.storage import (
    Schema,
    SqliteDatabase,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageVersionError,
    open_database,
)
from cocoon_sdk.storage import sqlite as module

COUNTS = Schema("counts", (("CREATE TABLE counts (name TEXT PRIMARY KEY, amount BIGINT, raw BYTEA)",),))
ADD = "UPDATE counts SET amount = amount + 1"


_VICTIM = """
import asyncio, os, signal, sys
from cocoon_sdk.storage import open_database
async def main():
    database = await open_database(sys.argv[1])
    for amount in range(1, 6):
        await database.execute("UPDATE counts SET amount = ?", amount)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow, as a full disk or a quota would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "client.db"


async def test_files_can_be_read_by_nobody_else(path: Path) -> None:
    database = await open_database(path, COUNTS)
    await database.execute("INSERT INTO counts VALUES ('a', 0, NULL)")
    names = sorted(each.name for each in path.parent.iterdir())
    assert names == ["client.db", "client.db-shm", "client.db-wal"]
    for each in path.parent.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await database.close()


async def test_writer_is_refused_with_a_name_when_another_process_does_not_let_go(path: Path) -> None:
    database = SqliteDatabase(path, patience_s=0.0)
    await database.migrate(COUNTS)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageLockedError):
        await database.execute("INSERT INTO counts VALUES ('a', 0, NULL)")
    with pytest.raises(StorageLockedError):
        async with database.transaction():
            raise AssertionError("not ours")
    assert await database.fetch("SELECT * FROM counts") == []  # reading waits for nobody
    other.execute("COMMIT")
    other.close()
    assert await database.execute("INSERT INTO counts VALUES ('a', 0, NULL)") == 1
    await database.close()


async def test_writer_waits_without_holding_up_its_loop_until_another_process_lets_go(path: Path) -> None:
    database = await open_database(path, COUNTS)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(database.execute("INSERT INTO counts VALUES ('a', 0, NULL)"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not writing.done()
    other.execute("COMMIT")
    assert await writing == 1
    other.close()
    await database.close()


async def test_nothing_is_kept_when_the_disk_is_full(path: Path) -> None:
    database = await open_database(path, COUNTS)
    await database.execute("INSERT INTO counts VALUES ('a', 0, NULL)")
    with no_room():
        with pytest.raises(StorageFullError):
            await database.execute(ADD)
        with pytest.raises(StorageFullError):
            async with database.transaction() as within:
                await within.execute(ADD)
    assert [tuple(row) for row in await database.fetch("SELECT amount FROM counts")] == [(0,)]
    assert await database.execute(ADD) == 1
    await database.close()
    again = await open_database(path, COUNTS)
    assert [tuple(row) for row in await again.fetch("SELECT amount FROM counts")] == [(1,)]
    await again.close()


def killed(path: Path) -> int:
    """Run a process that counts to five and is killed; return how it ended."""
    return subprocess.run([sys.executable, "-c", _VICTIM, str(path)], check=False).returncode


def in_file_alone(path: Path) -> int:
    """Return the count that stands in the file, without its log."""
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    alone = sqlite3.connect(copy)
    ((amount,),) = alone.execute("SELECT amount FROM counts").fetchall()
    alone.close()
    return int(amount)


def damage(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database, surely" * 200)


async def test_user_cannot_use_another_programs_file(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StorageVersionError):
        await open_database(path, COUNTS)


async def test_user_cannot_use_a_damaged_file(path: Path) -> None:
    damage(path)
    with pytest.raises(StorageCorruptError):
        await open_database(path, COUNTS)


async def test_user_gets_a_named_error_when_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        await open_database(tmp_path / "file" / "client.db")


async def test_user_is_told_when_using_a_database_inside_its_own_transaction(path: Path) -> None:
    database = await open_database(path, COUNTS)
    async with database.transaction():
        with pytest.raises(StorageError, match="inside its own transaction"):
            await database.execute(ADD)
        with pytest.raises(StorageError, match="inside its own transaction"):
            await database.fetch("SELECT 1")
    await database.close()


async def test_log_is_folded_into_the_file_beside_the_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FOLD_EVERY", 50)
    database = SqliteDatabase(path)
    await database.migrate(COUNTS)
    await database.execute("INSERT INTO counts VALUES ('a', 0, NULL)")
    added = 0
    while (thread := database._folding) is None:
        await database.execute(ADD)
        added += 1
    # A commit meanwhile would be legal, but the file alone need not be whole then: SQLite leaves out pages
    # whose newest version somebody may not see yet.
    thread.join()
    assert in_file_alone(path) == added
    for _ in range(60 - added):
        await database.execute(ADD)
    assert [tuple(row) for row in await database.fetch("SELECT amount FROM counts")] == [(60,)]
    await database.close()


async def test_every_commit_survives_a_process_that_is_killed(path: Path) -> None:
    database = await open_database(path, COUNTS)
    await database.execute("INSERT INTO counts VALUES ('a', 0, NULL)")
    assert killed(path) == -9
    assert [tuple(row) for row in await database.fetch("SELECT amount FROM counts")] == [(5,)]
    await database.close()


async def test_log_begins_anew_even_when_somebody_writes_without_a_pause(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FOLD_EVERY", 20)
    monkeypatch.setattr(module, "_BEGIN_ANEW_AFTER", 100)
    database = SqliteDatabase(path)
    await database.migrate(COUNTS)
    await database.execute("INSERT INTO counts VALUES ('a', 0, NULL)")
    for _ in range(1000):
        await database.execute(ADD)
    log = path.with_name("client.db-wal")
    assert size(log) < 200 * 1100  # each commit is a page of 1 KiB or two, and the log's own
    assert [tuple(row) for row in await database.fetch("SELECT amount FROM counts")] == [(1000,)]
    await database.close()


def size(path: Path) -> int:
    return path.stat().st_size
