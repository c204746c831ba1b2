"""`SessionStore`: a client's sessions in a database, safe for several processes that share it.

Owns every change of a record, each with its condition: who is not the holder changes nothing. Must not know
how a record is a row (`tables`), chains, keys or the network. What a method has written is committed when it
returns. One SQL serves SQLite and PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cocoon_sdk.client.sessions.errors import SpendLimitError, StaleSessionError
from cocoon_sdk.client.sessions.funds.records import (
    SECONDS_A_DAY,
    Exposure,
    SessionRecord,
    SessionState,
    SpendLimits,
)
from cocoon_sdk.client.sessions.funds.tables import (
    COLUMNS,
    MAX_WHY,
    escrow_values,
    record_of,
    values_of,
)
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.vouchers import Voucher
from cocoon_sdk.storage import Database, Statements
from cocoon_sdk.types import Nano

_SELECT: Final = f"SELECT {COLUMNS} FROM client_sessions "  # noqa: S608 - constants only
_IN_ESCROW: Final = "global_id = ? AND escrow = ? AND epoch = ?"

_INSERT: Final = (
    f"INSERT INTO client_sessions ({COLUMNS}, day, signed_before_day) "  # noqa: S608 - constants only
    f"VALUES ({', '.join('?' * 26)})"
)
_PUT_VOUCHER: Final = (
    "UPDATE client_sessions SET signed = ?, signature = ?, accounted = ?, next_rid = ?, used_at = ?, "
    "lease_until = CASE WHEN lease_until < ? THEN ? ELSE lease_until END, day = ?, "
    "signed_before_day = CASE WHEN day = ? THEN signed_before_day ELSE signed END "
    "WHERE uid = ? AND holder = ? AND signed = ? AND state = 'open'"
)
_PUT_PROGRESS: Final = (
    "UPDATE client_sessions SET accounted = ?, next_rid = ?, used_at = ? WHERE uid = ? AND holder = ?"
)
_TAKE: Final = (
    "UPDATE client_sessions SET pending_deposit = pending_deposit "  # noqa: S608 - constants only
    f"WHERE uid = ? AND holder = ? AND state = 'open' RETURNING {COLUMNS}"
)
_LEASE: Final = (
    "UPDATE client_sessions SET holder = ?, lease_until = ? "  # noqa: S608 - constants only
    "WHERE uid = ? AND state <> 'closed' AND (holder IS NULL OR holder IN (?, ?) OR lease_until <= ?) "
    f"RETURNING {COLUMNS}"
)
_RENEW: Final = "UPDATE client_sessions SET lease_until = ? WHERE holder = ? RETURNING uid"
_MOST_DEPOSIT: Final = "CASE WHEN pending_deposit > deposit THEN pending_deposit ELSE deposit END"
_EXPOSURE: Final = (
    "SELECT CAST(COALESCE(SUM(signed), 0) AS BIGINT), "  # noqa: S608 - constants only
    "CAST(COALESCE(SUM(CASE WHEN day = ? THEN signed - signed_before_day ELSE 0 END), 0) AS BIGINT), "
    "CAST(COALESCE(SUM(CASE WHEN state IN ('opening', 'open') AND epoch = ? "
    f"THEN {_MOST_DEPOSIT} - signed ELSE 0 END), 0) AS BIGINT) "
    "FROM client_sessions WHERE global_id = ? AND escrow = ?"
)


class SessionStore:
    """The sessions in one database. Every method may raise `StorageError` or one of its kinds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def where(self) -> str:
        """Where the database is, for people."""
        return self._database.where

    # -- reading ------------------------------------------------------------------------------------

    async def get(self, uid: str) -> SessionRecord | None:
        """Return a record by its own name."""
        rows = await self._database.fetch(_SELECT + "WHERE uid = ?", uid)
        return record_of(rows[0]) if rows else None

    async def find(self, domain: Domain, session_id: int) -> SessionRecord | None:
        """Return the record of a session by its number on chain; the newest of several attempts."""
        rows = await self._database.fetch(
            f"{_SELECT}WHERE {_IN_ESCROW} AND session_id = ? ORDER BY opened_at DESC, uid LIMIT 1",
            *escrow_values(domain),
            session_id,
        )
        return record_of(rows[0]) if rows else None

    async def sessions(self, domain: Domain, states: Iterable[SessionState]) -> list[SessionRecord]:
        """Return an escrow's sessions in these states, oldest first."""
        wanted = tuple(states)
        marks = ", ".join("?" * len(wanted))
        rows = await self._database.fetch(
            f"{_SELECT}WHERE {_IN_ESCROW} AND state IN ({marks}) ORDER BY opened_at, session_id",
            *escrow_values(domain),
            *wanted,
        )
        return [record_of(row) for row in rows]

    async def exposure(self, domain: Domain, now: int) -> Exposure:
        """Return what limits are held against; what was signed in earlier lives of the escrow counts too."""
        return await _exposure(self._database, domain, now)

    # -- opening and topping up: within limits, before anything leaves ------------------------------

    async def create(self, record: SessionRecord, limits: SpendLimits, now: int) -> None:
        """Store a session that is about to be opened; its deposit counts from now on.

        Raises `SpendLimitError` when a limit leaves no room for it; then nothing is stored.
        """
        async with self._database.transaction() as within:
            await _check_limits(within, record.domain, limits, now, record.deposit, record.deposit)
            values = values_of(record)
            await within.execute(_INSERT, *values, now // SECONDS_A_DAY, 0)

    async def number(self, uid: str, holder: str, session_id: int, expires: int, pending_until: int) -> None:
        """Note under which number a session is about to be opened. Raises `StaleSessionError`."""
        await self._change(
            "session_id = ?, expires = ?, pending_until = ?",
            (session_id, expires, pending_until),
            uid,
            holder,
            "state = 'opening'",
        )

    async def opened(self, uid: str, holder: str) -> None:
        """Note that the chain has the session. Raises `StaleSessionError`."""
        await self._change("state = 'open', pending_until = 0", (), uid, holder, "state = 'opening'")

    async def plan_top_up(
        self, uid: str, holder: str, deposit: Nano, pending_until: int, limits: SpendLimits, now: int
    ) -> None:
        """Note that an external is about to bring the deposit to `deposit`, which counts from now on.

        Raises `SpendLimitError` when a limit leaves no room, `StaleSessionError`.
        """
        async with self._database.transaction() as within:
            # Takes the row: what was read of it here cannot change until the transaction ends.
            rows = await within.fetch(_TAKE, uid, holder)
            if not rows:
                raise _stale(uid)
            record = record_of(rows[0])
            more = deposit - max(record.deposit, record.pending_deposit)
            await _check_limits(within, record.domain, limits, now, more, deposit)
            await within.execute(
                "UPDATE client_sessions SET pending_deposit = ?, pending_until = ? WHERE uid = ?",
                int(deposit),
                pending_until,
                uid,
            )

    async def deposited(self, uid: str, holder: str, deposit: Nano) -> None:
        """Note what the deposit is on chain; no top-up is under way any more. Raises `StaleSessionError`."""
        await self._change(
            "deposit = ?, pending_deposit = 0, pending_until = 0", (int(deposit),), uid, holder, "1 = 1"
        )

    # -- paying: the hot path -----------------------------------------------------------------------

    async def put_voucher(
        self,
        uid: str,
        holder: str,
        *,
        before: int,
        voucher: Voucher,
        accounted: int,
        next_rid: int,
        now: int,
        lease_until: int,
    ) -> None:
        """Keep a voucher before it is sent, if we still hold the session and `before` is what was signed.

        Extends the lease too. Raises `StaleSessionError` otherwise: nothing is kept then, and nothing may
        leave.
        """
        day = now // SECONDS_A_DAY
        changed = await self._database.execute(
            _PUT_VOUCHER,
            int(voucher.amount),
            voucher.signature,
            accounted,
            next_rid,
            now,
            lease_until,
            lease_until,
            day,
            day,
            uid,
            holder,
            before,
        )
        if changed != 1:
            raise _stale(uid)

    async def put_progress(self, uid: str, holder: str, *, accounted: int, next_rid: int, now: int) -> None:
        """Keep what came and the number of the next request. Raises `StaleSessionError`."""
        changed = await self._database.execute(_PUT_PROGRESS, accounted, next_rid, now, uid, holder)
        if changed != 1:
            raise _stale(uid)

    # -- leases -------------------------------------------------------------------------------------

    async def lease(
        self, uid: str, holder: str, now: int, until: int, *, instead_of: str | None = None
    ) -> SessionRecord | None:
        """Take a session that nobody holds, or whose holder is overdue or is the one named by `instead_of`.

        None when another one has it. The holder before can sign nothing from then on, even if it lives and
        knows nothing of it.
        """
        rows = await self._database.fetch(_LEASE, holder, until, uid, holder, instead_of or holder, now)
        return record_of(rows[0]) if rows else None

    async def renew(self, holder: str, until: int) -> frozenset[str]:
        """Extend all leases of a holder; return the names of what it still holds."""
        rows = await self._database.fetch(_RENEW, until, holder)
        return frozenset(str(row[0]) for row in rows)

    async def release(self, uid: str, holder: str) -> None:
        """Give a session back, so that others may take it at once; nothing happens when it is not ours."""
        await self._database.execute(
            "UPDATE client_sessions SET holder = NULL, lease_until = 0 WHERE uid = ? AND holder = ?",
            uid,
            holder,
        )

    async def release_all(self, holder: str) -> None:
        """Give back everything that a holder has."""
        await self._database.execute(
            "UPDATE client_sessions SET holder = NULL, lease_until = 0 WHERE holder = ?", holder
        )

    # -- ending -------------------------------------------------------------------------------------

    async def closing(self, uid: str, holder: str, settle_at: int, why: str) -> None:
        """Note that nothing more is signed, and when the rest can be freed. Raises `StaleSessionError`."""
        await self._change(
            "state = 'closing', settle_at = ?, why = CASE WHEN why = '' THEN ? ELSE why END",
            (settle_at, why[:MAX_WHY]),
            uid,
            holder,
            "state <> 'closed'",
        )

    async def closed(self, uid: str, holder: str, redeemed: Nano, why: str) -> None:
        """Note that the chain has the session no more. Raises `StaleSessionError`."""
        await self._change(
            "state = 'closed', redeemed = ?, why = CASE WHEN why = '' THEN ? ELSE why END, "
            "pending_deposit = 0, pending_until = 0, holder = NULL, lease_until = 0",
            (int(redeemed), why[:MAX_WHY]),
            uid,
            holder,
            "state <> 'closed'",
        )

    async def redeemed(self, uid: str, redeemed: Nano) -> None:
        """Note what the worker has taken out on chain; whoever looked may say so."""
        await self._database.execute(
            "UPDATE client_sessions SET redeemed = ? WHERE uid = ? AND redeemed < ?",
            int(redeemed),
            uid,
            int(redeemed),
        )

    async def forget(self, uid: str, holder: str) -> None:
        """Remove a session that was never opened. Raises `StaleSessionError`."""
        changed = await self._database.execute(
            "DELETE FROM client_sessions WHERE uid = ? AND holder = ? AND state = 'opening'", uid, holder
        )
        if changed != 1:
            raise _stale(uid)

    # -- locks between processes --------------------------------------------------------------------

    async def lock(
        self, name: str, holder: str, now: int, until: int, *, instead_of: str | None = None
    ) -> bool:
        """Take a lock as a lease is taken; also extends our own."""
        rows = await self._database.fetch(
            "INSERT INTO client_locks (name, holder, until) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until "
            "WHERE client_locks.holder IS NULL OR client_locks.holder IN (?, ?) "
            "OR client_locks.until <= ? RETURNING name",
            name,
            holder,
            until,
            holder,
            instead_of or holder,
            now,
        )
        return bool(rows)

    async def lock_holder(self, name: str) -> str | None:
        """Return who has a lock, overdue or not."""
        rows = await self._database.fetch("SELECT holder FROM client_locks WHERE name = ?", name)
        return rows[0][0] if rows else None

    async def unlock(self, name: str, holder: str) -> None:
        """Give a lock back; nothing happens when it is not ours."""
        await self._database.execute(
            "UPDATE client_locks SET holder = NULL, until = 0 WHERE name = ? AND holder = ?", name, holder
        )

    async def _change(
        self, setting: str, values: tuple[int | str, ...], uid: str, holder: str, condition: str
    ) -> None:
        changed = await self._database.execute(
            # What is put in comes from this module only.
            f"UPDATE client_sessions SET {setting} WHERE uid = ? AND holder = ? AND {condition}",  # noqa: S608
            *values,
            uid,
            holder,
        )
        if changed != 1:
            raise _stale(uid)


def _stale(uid: str) -> StaleSessionError:
    return StaleSessionError(
        f"cannot change the session {uid[:8]}",
        why="another process holds it now, or signed for it, or it has ended",
        hint="Take another session; processes that share an escrow share one database",
    )


async def _exposure(within: Statements, domain: Domain, now: int) -> Exposure:
    ((signed, today, outstanding),) = await within.fetch(
        _EXPOSURE,
        now // SECONDS_A_DAY,
        domain.epoch,
        domain.global_id,
        bytes(domain.contract.hash_part),
    )
    return Exposure(Nano(signed), Nano(today), Nano(outstanding))


async def _check_limits(
    within: Statements, domain: Domain, limits: SpendLimits, now: int, more: Nano, deposit: Nano
) -> None:
    """Hold `more` on top of everything, and a session's whole deposit, against the limits."""
    # One row per escrow, taken by whoever checks: two processes never both see the same room.
    name = f"limits of {domain.contract.hash_part.hex()}"
    await within.execute(
        "INSERT INTO client_locks (name, holder, until) VALUES (?, NULL, 0) "
        "ON CONFLICT (name) DO UPDATE SET until = 0",
        name,
    )
    what = f"cannot put {more} into a session"
    if limits.per_session is not None and deposit > limits.per_session:
        raise SpendLimitError(
            what,
            why=f"its deposit would be {deposit}, the limit of a session is {limits.per_session}",
            hint="Raise the limit per session",
        )
    exposure = await _exposure(within, domain, now)
    room = exposure.room(limits)
    if room is not None and more > room:
        raise SpendLimitError(
            what,
            why=f"the limits leave {room}: signed today {exposure.signed_today}, in all {exposure.signed}, "
            f"and {exposure.outstanding} may still be signed in open sessions",
            hint="Raise the limit per day or in all, close idle sessions, or wait for the next day (UTC)",
        )
