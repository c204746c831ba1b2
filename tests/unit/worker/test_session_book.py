"""The book of sessions: nothing falls, nothing passes the deposit, what was acknowledged survives SIGKILL."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cocoon_sdk.types import Nano
from cocoon_worker.database import Database
from cocoon_worker.errors import JournalError, JournalMismatchError
from cocoon_worker.journal import Journal
from cocoon_worker.schema import SCHEMA, SCHEMA_VERSION
from cocoon_worker.sessions.book import SessionBook
from cocoon_worker.sessions.errors import SessionBookError
from cocoon_worker.sessions.records import GuardState, SessionEntry, SessionKey, SessionState
from tests.unit.worker.samples import NOW
from tests.unit.worker.session_samples import KEY, session

OWNER = "-239:0:" + "ab" * 32
SIGNATURE = bytes(range(64))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path, OWNER)
    yield journal
    journal.close()


@pytest.fixture
def book(journal: Journal) -> SessionBook:
    return SessionBook(journal.database)


def read(book: SessionBook, key: SessionKey = KEY) -> SessionEntry:
    found = book.entry(key)
    assert found is not None
    return found


def test_book_can_return_everything_when_it_was_closed_and_opened(path: Path, book: SessionBook) -> None:
    entry = session(
        escrow_owner=(1 << 256) - 1,
        state=SessionState.CLOSING,
        guard=GuardState.GUARDED,
        collateral=Nano(5),
        lock=259,
        signed=Nano(3),
        signature=SIGNATURE,
        booked=Nano(2),
        next_rid=4,
        reason="why",
    )
    for each in fields(SessionEntry):  # every field, even one that is added later
        assert getattr(entry, each.name) is not None
    book.put(entry)
    book.put(session(key=SessionKey(1, 1), created_at=NOW + 1))
    book._database.close()
    again = Journal(path, OWNER)
    try:
        book = SessionBook(again.database)
        assert book.entry(KEY) == entry
        assert [each.key for each in book.open_entries()] == [KEY, SessionKey(1, 1)]
        assert book.entry(SessionKey(2, 2)) is None
    finally:
        again.close()


def test_book_cannot_keep_a_voucher_that_is_not_better_or_beyond_the_deposit(book: SessionBook) -> None:
    book.put(session())
    book.put_voucher(KEY, Nano(10), SIGNATURE)
    for amount in (10, 9, Nano.ton(2) + 1):
        with pytest.raises(SessionBookError):
            book.put_voucher(KEY, Nano(amount), bytes(64))
    with pytest.raises(SessionBookError):
        book.put_voucher(SessionKey(1, 1), Nano(10), SIGNATURE)
    found = read(book)
    assert (found.signed, found.signature) == (10, SIGNATURE)
    book.put(replace(found, state=SessionState.ENDED))
    with pytest.raises(SessionBookError):
        book.put_voucher(KEY, Nano(11), SIGNATURE)


def test_book_cannot_let_progress_fall_or_pass_what_is_signed(book: SessionBook) -> None:
    book.put(session())
    book.put_voucher(KEY, Nano(10), SIGNATURE)
    book.put_progress(KEY, Nano(4), 3)
    book.put_progress(KEY, Nano(4), 3)
    for booked, rid in ((3, 3), (4, 2), (11, 3)):
        with pytest.raises(SessionBookError):
            book.put_progress(KEY, Nano(booked), rid)
    assert (read(book).booked, read(book).next_rid) == (4, 3)


def test_book_remembers_work_that_was_never_paid(book: SessionBook) -> None:
    book.put(session())
    book.put_progress(KEY, Nano(0), 2, Nano(700))
    with pytest.raises(SessionBookError):
        book.put_progress(KEY, Nano(0), 3, Nano(699))
    book.put(replace(read(book), reason="looked at"))
    assert (read(book).forgone, read(book).next_rid) == (700, 2)


def test_older_knowledge_of_a_session_cannot_undo_its_best_voucher(book: SessionBook) -> None:
    book.put(session())
    old = read(book)
    book.put_voucher(KEY, Nano(10), SIGNATURE)
    book.put_progress(KEY, Nano(4), 3)
    book.put(replace(old, redeemed=Nano(2)))
    found = read(book)
    assert (found.signed, found.signature, found.booked, found.next_rid) == (10, SIGNATURE, 4, 3)
    assert found.redeemed == 2


def test_session_cannot_leave_the_table_of_its_states(book: SessionBook) -> None:
    for old, new in ((SessionState.CLOSING, SessionState.OPEN), (SessionState.ENDED, SessionState.CLOSING)):
        key = SessionKey(9, len(book.entries()))
        book.put(session(key=key, state=old))
        with pytest.raises(SessionBookError):
            book.put(session(key=key, state=new))


def test_book_can_commit_many_writes_together_or_none(book: SessionBook) -> None:
    book.put(session())

    def write() -> None:
        with book.together():
            book.put_voucher(KEY, Nano(10), SIGNATURE)
            book.put_progress(KEY, Nano(11), 2)

    with pytest.raises(SessionBookError):
        write()
    assert read(book).signed == 0


def test_book_can_sum_up_money_exactly(book: SessionBook) -> None:
    most = (1 << 53) - 1
    book.put(session(signed=Nano(most), deposit=Nano(most), redeemed=Nano(5), paid=Nano(7), fee=Nano(1)))
    book.put(session(key=SessionKey(1, 1), signed=Nano(30), deposit=Nano(20), booked=Nano(3)))
    book.put(session(key=SessionKey(1, 2), signed=Nano(9), paid=Nano(4), state=SessionState.ENDED))
    assert book.totals() == {
        "signed": most + 39,
        "booked": 3,
        "redeemed": 11,
        "paid": 11,
        "fee": 1,
        "unredeemed": most - 7 + 20,
        "lost": 5,
    }
    assert [each.key for each in book.unredeemed_entries()] == [SessionKey(1, 1), KEY]
    assert book.count() == {SessionState.OPEN: 2, SessionState.ENDED: 1}


def test_book_can_forget_only_what_ended_long_ago_and_locks_nothing(book: SessionBook) -> None:
    book.put(session(key=SessionKey(1, 1), state=SessionState.ENDED, updated_at=10))
    book.put(session(key=SessionKey(1, 2), state=SessionState.ENDED, updated_at=10, lock=257))
    book.put(session(key=SessionKey(1, 3), state=SessionState.CLOSING, updated_at=10))
    book.put(session(key=SessionKey(1, 4), state=SessionState.ENDED, updated_at=20))
    book.prune(20)
    assert {each.key.session_id for each in book.entries()} == {2, 3, 4}
    assert [each.key.session_id for each in book.locked_by(257)] == [2]
    assert book.locked_by(0) == []


def test_book_can_be_read_beside_the_worker_and_not_written(path: Path, book: SessionBook) -> None:
    book.put(session())
    reader = Database(path, read_only=True)
    try:
        book.put_voucher(KEY, Nano(10), SIGNATURE)
        assert read(SessionBook(reader)).signed == 10
        with pytest.raises(JournalError):
            SessionBook(reader).put_voucher(KEY, Nano(11), SIGNATURE)
    finally:
        reader.close()
    assert read(book).signed == 10
    with pytest.raises(JournalError, match="there is none"):
        Database(path.with_name("other.sqlite"), read_only=True)


def test_journal_of_the_version_before_can_keep_sessions(path: Path) -> None:
    with sqlite3.connect(path) as old:
        old.executescript(SCHEMA.replace("    bond INTEGER NOT NULL,\n", ""))
        old.execute("INSERT INTO meta VALUES ('owner', ?)", (OWNER,))
        old.execute("PRAGMA user_version=2")
    old.close()
    journal = Journal(path, OWNER)
    try:
        assert journal.database.read("PRAGMA user_version")[0][0] == SCHEMA_VERSION
        book = SessionBook(journal.database)
        book.put(session())
        assert read(book) == session()
    finally:
        journal.close()


def test_journal_without_parts_can_be_used_and_its_sessions_are_claimed_whole(path: Path) -> None:
    journal = Journal(path, OWNER)
    book = SessionBook(journal.database)
    book.put(session(signed=Nano(10), signature=SIGNATURE, booked=Nano(4)))
    with journal.transaction():
        journal.database.write("ALTER TABLE sessions DROP COLUMN takes_parts")
        journal.database.write("PRAGMA user_version=4")
    journal.close()
    journal = Journal(path, OWNER)
    try:
        found = read(SessionBook(journal.database))
        assert (found.takes_parts, found.payable, found.booked) == (False, 10, 4)
    finally:
        journal.close()


@pytest.mark.parametrize(
    ("takes_parts", "state", "unredeemed", "lost"),
    [
        (False, SessionState.OPEN, 10, 0),
        (True, SessionState.OPEN, 4, 0),
        (False, SessionState.ENDED, 0, 10),
        (True, SessionState.ENDED, 0, 4),
    ],
)
def test_what_is_due_is_what_is_claimed(
    book: SessionBook, takes_parts: bool, state: SessionState, unredeemed: int, lost: int
) -> None:
    book.put(
        session(signed=Nano(10), signature=SIGNATURE, booked=Nano(4), takes_parts=takes_parts, state=state)
    )
    totals = book.totals()
    assert (totals["unredeemed"], totals["lost"], read(book).lost) == (unredeemed, lost, lost)
    assert len(book.unredeemed_entries()) == (state is SessionState.OPEN)
    over = book.over_with_money(10**12, Nano(5))
    assert len(over) == (not takes_parts and state is SessionState.OPEN)


def test_another_worker_cannot_use_the_book(path: Path, journal: Journal) -> None:
    journal.close()
    with pytest.raises(JournalMismatchError):
        Journal(path, "-3:0:ab")


@pytest.mark.parametrize("flushed", [False, True])
def test_flush_can_make_swift_writes_outlive_a_power_cut(book: SessionBook, flushed: bool) -> None:
    """What was synced cannot be told from here; that a flush writes with full synchrony can."""
    book.put(session())
    database = book._database
    assert database.read("PRAGMA synchronous")[0][0] == 1  # NORMAL
    if flushed:
        book.flush()
        assert database.read("PRAGMA synchronous")[0][0] == 2  # FULL
        before = database.read("PRAGMA data_version")
        book.flush()  # nothing to do any more
        assert database.read("PRAGMA data_version") == before


WRITER = """
import sys
from pathlib import Path
from cocoon_sdk.types import Nano
from cocoon_worker.journal import Journal
from cocoon_worker.sessions.book import SessionBook
from cocoon_worker.sessions.records import SessionKey

journal = Journal(Path(sys.argv[1]), sys.argv[2])
book = SessionBook(journal.database)
key = SessionKey(int(sys.argv[3]), int(sys.argv[4]))
entry = book.entry(key)
for amount in range(int(entry.signed) + 1, int(entry.signed) + 100_000):
    with book.together():
        book.put_voucher(key, Nano(amount), amount.to_bytes(64, "big"))
        book.put_progress(key, Nano(amount), amount + 1)
    sys.stdout.write("x")  # the byte that the voucher pays for
    sys.stdout.flush()
"""


def test_worker_killed_at_any_moment_has_every_voucher_on_disk_whose_byte_it_sent(path: Path) -> None:
    journal = Journal(path, OWNER)
    SessionBook(journal.database).put(session())
    journal.close()
    signed = 0
    for wanted in (1, 2, 3, 17, 256, 1000):
        arguments = [sys.executable, "-c", WRITER, str(path), OWNER, str(KEY.escrow), str(KEY.session_id)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            received = len(process.stdout.read(wanted))
            os.kill(process.pid, signal.SIGKILL)
            received += len(process.stdout.read())
            assert process.wait() == -signal.SIGKILL
        assert received >= wanted
        journal = Journal(path, OWNER)  # nothing is left of the lock
        found = read(SessionBook(journal.database))
        journal.close()
        # One voucher may be on disk whose byte was not sent any more; the reverse would be a loss.
        assert signed + received <= found.signed <= signed + received + 1
        assert found.signature == int(found.signed).to_bytes(64, "big")
        assert (found.booked, found.next_rid) == (found.signed, found.signed + 1)
        signed = int(found.signed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(1, 6)), max_size=25), st.integers(1, 99)
)
def test_no_order_of_writes_can_make_the_book_fall_or_owe(
    book: SessionBook, writes: list[tuple[bool, int, int]], number: int
) -> None:
    key = SessionKey(number, len(book.entries()) + 1)
    book.put(session(key=key, deposit=Nano(30)))
    before = read(book, key)
    for is_voucher, amount, rid in writes:
        try:
            if is_voucher:
                book.put_voucher(key, Nano(amount), bytes([amount]) * 64)
            else:
                book.put_progress(key, Nano(amount), rid)
        except SessionBookError:
            assert read(book, key) == before
        after = read(book, key)
        assert before.signed <= after.signed <= 30
        assert before.booked <= after.booked <= after.signed
        assert before.next_rid <= after.next_rid
        assert after.signature == (bytes([after.signed]) * 64 if after.signed else b"")
        before = after
