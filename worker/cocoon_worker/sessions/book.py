"""The sessions' part of the journal: the best voucher of each, on disk before the byte that it pays for.

Owns the stored form and the rules that hold over all of it: amounts and request numbers never fall, a voucher
is kept with its signature, nothing passes the deposit. Must not know chains, connections or policies.

Vouchers and progress are committed when the call returns, to the operating system: they survive the end of
the process in any way. A power cut may take what was written since the last `flush`, which the worker's loop
does every round; a client that comes back brings its best voucher with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import fields
from enum import StrEnum
from typing import Any, Final

from cocoon_sdk.types import Nano
from cocoon_worker.database import Database
from cocoon_worker.sessions.errors import SessionBookError
from cocoon_worker.sessions.records import (
    SESSION_TRANSITIONS,
    GuardState,
    SessionEntry,
    SessionKey,
    SessionState,
)

_FIELDS: Final = tuple(each.name for each in fields(SessionEntry) if each.name != "key")
_COLUMNS: Final = ("escrow", "id", *_FIELDS)
_AMOUNTS: Final = frozenset({"deposit", "signed", "booked", "redeemed", "paid", "fee", "asked", "collateral"})
_NOTHING: Final = Nano(0)
_HOT: Final = frozenset({"signed", "signature", "booked", "next_rid", "forgone"})
"""Written by `put_voucher` and `put_progress` only: an entry that was read earlier must not undo them."""
MAX_ENTRIES: Final = 10_000
"""Sessions that one question returns at most."""
_MAX_REASON: Final = 500
_IS: Final = "escrow = ? AND id = ?"
_PAYABLE: Final = "MIN(CASE WHEN takes_parts THEN booked ELSE signed END, deposit)"
"""As `SessionEntry.payable`."""
_WORTH: Final = f"{_PAYABLE} > MAX(redeemed, paid)"
_LIVE: Final = (SessionState.OPEN.value, SessionState.CLOSING.value)


class SessionBook:
    """All sessions of one worker. Raises `JournalFullError` when it cannot write: then nothing is served."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def together(self) -> AbstractContextManager[None]:
        """Return a context whose vouchers and progress are committed at once, when it ends."""
        return self._database.transaction(swift=True)

    def flush(self) -> None:
        """Make all that was written so far survive a power cut too."""
        self._database.flush()

    # -- what connections need -------------------------------------------------------------------------------

    def entry(self, key: SessionKey) -> SessionEntry | None:
        """Return a session."""
        rows = self._database.read(f"SELECT * FROM sessions WHERE {_IS}", _key(key))  # noqa: S608
        return _entry(rows[0]) if rows else None

    def put_voucher(self, key: SessionKey, amount: Nano, signature: bytes) -> None:
        """Keep a better voucher that was verified; on disk when this returns.

        Raises `SessionBookError` when it is not better, or the session is unknown or ended.
        """
        sql = (
            f"UPDATE sessions SET signed = ?, signature = ? WHERE {_IS}"  # noqa: S608
            " AND signed < ? AND deposit >= ? AND state <> 'ended'"
        )
        values = (int(amount), signature, *_key(key), int(amount), int(amount))
        with self.together():
            if self._database.write(sql, values).rowcount != 1:
                raise _impossible(key, f"a voucher of {amount}")

    def put_progress(self, key: SessionKey, booked: Nano, next_rid: int, forgone: Nano = _NOTHING) -> None:
        """Keep what was handed over, which request comes next, and what was worked in vain; on disk then.

        Raises `SessionBookError` when any of them falls, or more is booked than signed.
        """
        sql = (
            f"UPDATE sessions SET booked = ?, next_rid = ?, forgone = ? WHERE {_IS}"  # noqa: S608
            " AND booked <= ? AND next_rid <= ? AND signed >= ? AND forgone <= ?"
        )
        new = (int(booked), next_rid, int(forgone))
        values = (*new, *_key(key), int(booked), next_rid, int(booked), int(forgone))
        with self.together():
            if self._database.write(sql, values).rowcount != 1:
                raise _impossible(key, f"{booked} booked before request {next_rid}")

    def put(self, entry: SessionEntry) -> None:
        """Keep a new session, or what happened to a known one; on disk when this returns.

        Of a known session the best voucher and the progress stay as they are. Raises `SessionBookError` for a
        step that the table of states does not know.
        """
        with self.together():
            old = self.entry(entry.key)
            if old is None:
                marks = ",".join("?" * len(_COLUMNS))
                sql = f"INSERT INTO sessions ({','.join(_COLUMNS)}) VALUES ({marks})"  # noqa: S608
                self._database.write(sql, (*_key(entry.key), *_values(entry, _FIELDS)))
                return
            if entry.state is not old.state and entry.state not in SESSION_TRANSITIONS[old.state]:
                raise _impossible(entry.key, f"a step from {old.state} to {entry.state}")
            cold = tuple(name for name in _FIELDS if name not in _HOT)
            setters = ",".join(f"{name} = ?" for name in cold)
            sql = f"UPDATE sessions SET {setters} WHERE {_IS}"  # noqa: S608
            self._database.write(sql, (*_values(entry, cold), *_key(entry.key)))

    def open_entries(self) -> list[SessionEntry]:
        """Return every session that has not ended on chain, oldest first."""
        return self._select("state IN (?, ?)", _LIVE)

    # -- what money needs ------------------------------------------------------------------------------------

    def entries(
        self, states: Iterable[SessionState] = SessionState, *, limit: int = MAX_ENTRIES
    ) -> list[SessionEntry]:
        """Return sessions in any of the states, oldest first."""
        names = [state.value for state in states]
        return self._select(f"state IN ({','.join('?' * len(names))})", names, limit)

    def unredeemed_entries(self) -> list[SessionEntry]:
        """Return the sessions that have not ended and hold money that is not redeemed."""
        return self._select(f"state IN (?, ?) AND {_WORTH}", _LIVE)

    def to_look_at(self, now: int, rest_s: int, limit: int) -> list[SessionEntry]:
        """Return sessions about which the chain may know more: something is under way or missing, or money is
        in them (or they are over) and nobody looked for `rest_s`. Those that are over come first.
        """
        over = "(state = 'closing' OR expires <= ?)"
        condition = (
            "state IN (?, ?) AND (missing_since <> 0 OR asked_at <> 0 OR guard = 'asked'"
            f" OR (looked_at <= ? AND ({_WORTH} OR {over})))"
        )
        order = f"NOT {over}, looked_at"
        return self._select(condition, (*_LIVE, now - rest_s, now, now), limit, order=order)

    def maybe_due(
        self, now: int, *, least: Nano, threshold: Nano, period_s: int, before_s: int, limit: int
    ) -> list[SessionEntry]:
        """Return the sessions of which some may have to be redeemed, those with the least time first.

        A coarse choice, so that a worker with many sessions need not read all of them every round.
        """
        due = f"{_PAYABLE} - MAX(redeemed, paid)"
        condition = (
            "state IN (?, ?) AND asked = 0 AND not_before <= ? AND (lock <> 0 AND settle_at <= ?"
            f" OR {due} >= ? AND (state = 'closing' OR expires <= ? OR {due} >= ? OR redeemed_at <= ?))"
        )
        values = (*_LIVE, now, now, int(least), now + before_s, int(threshold), now - period_s)
        return self._select(condition, values, limit, order="settle_at")

    def over_with_money(self, now: int, least: Nano) -> list[SessionEntry]:
        """Return the sessions that are over and hold at least so much that is not redeemed."""
        condition = f"state IN (?, ?) AND {_PAYABLE} - MAX(redeemed, paid) >= ?"
        return self._select(f"{condition} AND (state = 'closing' OR expires <= ?)", (*_LIVE, int(least), now))

    def least_margin(self, now: int, least: Nano) -> int | None:
        """Return the shortest time, in seconds, that is left for any session that holds at least so much."""
        left = (
            "CASE WHEN state = 'open' AND expires > ? THEN MIN(settle_at - ?, close_delay)"
            " ELSE settle_at - ? END"
        )
        row = self._database.read(
            f"SELECT MIN({left}) FROM sessions"  # noqa: S608
            f" WHERE state IN (?, ?) AND {_PAYABLE} - MAX(redeemed, paid) >= ?",
            (now, now, now, *_LIVE, int(least)),
        )[0]
        found: int | None = row[0]
        return found

    def wanting_guard(self, limit: int) -> list[SessionEntry]:
        """Return the open sessions for which collateral shall be locked."""
        return self._select("state = 'open' AND guard = 'wanted'", (), limit)

    def was_cleared(self, escrow: int) -> bool:
        """Tell whether a client disputed a session of this escrow (account id), and it came to nothing."""
        sql = "SELECT 1 FROM sessions WHERE escrow = ? AND guard = 'cleared' LIMIT 1"
        return bool(self._database.read(sql, (escrow.to_bytes(32, "big"),)))

    def locked_by(self, lock: int) -> list[SessionEntry]:
        """Return the sessions whose collateral a lock of our stake holds."""
        return self._select("lock = ? AND lock <> 0", (lock,))

    def totals(self) -> Mapping[str, Nano]:
        """Return sums over all sessions: signed, booked, redeemed, paid, fee, unredeemed, lost."""
        due = f"MAX(0, {_PAYABLE} - MAX(redeemed, paid))"
        row = self._database.read(
            f"SELECT SUM({due} * (state <> 'ended')) AS unredeemed,"  # noqa: S608
            f" SUM({due} * (state = 'ended')) AS lost,"
            " SUM(signed) AS signed, SUM(booked) AS booked, SUM(MAX(redeemed, paid)) AS redeemed,"
            " SUM(paid) AS paid, SUM(fee) AS fee FROM sessions"
        )[0]
        return {name: Nano(row[name] or 0) for name in row.keys()}  # noqa: SIM118 - a Row iterates values

    def count(self) -> dict[SessionState, int]:
        """Return how many sessions are in each state."""
        rows = self._database.read("SELECT state, COUNT(*) FROM sessions GROUP BY state")
        return {SessionState(row[0]): row[1] for row in rows}

    def prune(self, before: int) -> None:
        """Forget sessions that ended and last changed before this time, and lock nothing."""
        with self._database.transaction():
            self._database.write(
                "DELETE FROM sessions WHERE state = 'ended' AND lock = 0 AND updated_at < ?", (before,)
            )

    def _select(
        self,
        condition: str,
        values: Iterable[object],
        limit: int = MAX_ENTRIES,
        *,
        order: str = "created_at, escrow, id",
    ) -> list[SessionEntry]:
        sql = f"SELECT * FROM sessions WHERE {condition} ORDER BY {order} LIMIT ?"  # noqa: S608
        return [_entry(row) for row in self._database.read(sql, (*values, limit))]


def _key(key: SessionKey) -> tuple[bytes, int]:
    return key.escrow.to_bytes(32, "big"), key.session_id


def _values(entry: SessionEntry, names: Iterable[str]) -> tuple[object, ...]:
    return tuple(_stored(name, getattr(entry, name)) for name in names)


def _stored(name: str, value: Any) -> object:
    if name == "escrow_owner":
        return value.to_bytes(32, "big")
    if name == "reason":
        return value[:_MAX_REASON]
    if isinstance(value, StrEnum):
        return value.value
    return int(value) if isinstance(value, int) else value


def _entry(row: sqlite3.Row) -> SessionEntry:
    found: dict[str, Any] = {name: row[name] for name in _FIELDS}
    for name in _AMOUNTS:
        found[name] = Nano(found[name])
    found["escrow_owner"] = int.from_bytes(found["escrow_owner"], "big")
    found["escrow_previous_code"] = bool(found["escrow_previous_code"])
    found["takes_parts"] = bool(found["takes_parts"])
    found["state"] = SessionState(found["state"])
    found["guard"] = GuardState(found["guard"])
    return SessionEntry(key=SessionKey(int.from_bytes(row["escrow"], "big"), row["id"]), **found)


def _impossible(key: SessionKey, what: str) -> SessionBookError:
    return SessionBookError(
        f"cannot keep {what} of session {key}",
        why="it contradicts what is kept already",
        hint="This is a bug: report it with the worker's log",
    )
