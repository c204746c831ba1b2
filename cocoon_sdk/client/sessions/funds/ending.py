"""Ending sessions: nothing is signed any more, the chain is told, and later the rest is freed.

Owns these steps and disputes, so that each can be done again after a death at any point. Must not know when
to do them.
"""

from __future__ import annotations

from dataclasses import replace

from cocoon_sdk.client.sessions.errors import SessionRefusedError, StaleSessionError
from cocoon_sdk.client.sessions.funds.desk import SessionDesk, log
from cocoon_sdk.client.sessions.funds.onchain import bond_of, check_disputable, check_room, is_open
from cocoon_sdk.client.sessions.funds.records import SessionRecord, SessionState
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.exit_codes import NoSessionError, SessionClosingError
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.types import Nano

ENDED_ELSEWHERE = "it had ended on chain"


class SessionEnding:
    """Closes and settles. Methods raise `StorageError` and `ChainError` kinds besides."""

    def __init__(self, desk: SessionDesk) -> None:
        self._desk, self._store, self._chain = desk, desk.store, desk.chain

    async def close(self, record: SessionRecord, why: str, *, by_force: bool = False) -> SessionRecord:
        """End a session: from now on nothing is signed, then the chain is told. Returns the record.

        Raises `StaleSessionError` when another process holds it and it is not taken `by_force`.
        """
        leased = await self.leased(record, "close", by_force=by_force)
        await self._store.closing(leased.uid, self._desk.holder, 0, why)
        entry = await self._chain.session(leased.session_id)
        if entry is not None and is_open(entry):
            try:
                async with self._desk.turn():
                    await self._chain.close(leased.session_id)
            except (SessionClosingError, NoSessionError) as error:
                log.info("session %d was being ended already: %s", leased.session_id, error.why)
            entry = await self._chain.session(leased.session_id)
        if entry is None:
            return await self._missing(leased)
        settle_at = settles_at(entry)
        await self._store.closing(leased.uid, self._desk.holder, settle_at, why)
        log.info("session %d closed: %s", leased.session_id, why)
        return replace(leased, state=SessionState.CLOSING, settle_at=settle_at, why=leased.why or why)

    async def dispute(
        self, record: SessionRecord, evidence_hash: bytes, model_id: bytes, *, by_force: bool = False
    ) -> SessionRecord:
        """Dispute a guarded session: from now on nothing is signed. Returns the record.

        Raises `SessionRefusedError` when it cannot be disputed, `InsufficientEscrowError` and
        `SpendLimitError` when bond and gas are not there, `StaleSessionError` as `close`.
        """
        entry = await self.disputable(record.session_id)
        leased = await self.leased(record, "dispute", by_force=by_force)
        why = "disputed"
        await self._store.closing(leased.uid, self._desk.holder, 0, why)
        async with self._desk.turn():
            await self._chain.dispute(leased.session_id, entry, evidence_hash, model_id)
        disputed = await self._chain.session(leased.session_id)
        settle_at = settles_at(disputed or entry)
        await self._store.closing(leased.uid, self._desk.holder, settle_at, why)
        log.info("session %d disputed", leased.session_id)
        return replace(leased, state=SessionState.CLOSING, settle_at=settle_at, why=leased.why or why)

    async def disputable(self, session_id: int) -> m.Session:
        """Return the entry of a session that can be disputed now, with what is free. Raises as `dispute`."""
        sight = await self._desk.look()
        entry = sight.sessions.get(session_id)
        if entry is None:
            what = f"cannot dispute session {session_id}"
            raise SessionRefusedError(what, why="the escrow does not have it (any more)")
        check_disputable(session_id, entry, sight.now)
        room = await self._chain.room_to_dispute(sight.view, entry)
        check_room(room, bond_of(entry), f"cannot dispute session {session_id}")
        return entry

    async def expire(self, record: SessionRecord, settle_at: int) -> SessionRecord:
        """Note that a session is over without a close: it has expired, or somebody else closed it."""
        leased = await self.leased(record, "end")
        await self._store.closing(leased.uid, self._desk.holder, settle_at, "it has expired or was closed")
        return replace(leased, state=SessionState.CLOSING, settle_at=settle_at)

    async def settle(self, record: SessionRecord, *, by_force: bool = False) -> SessionRecord:
        """Free what is left of a session whose time is over. Returns the record.

        Raises `TooEarlyError` before that time, `StaleSessionError` as `close`.
        """
        leased = await self.leased(record, "settle", by_force=by_force)
        entry = await self._chain.session(leased.session_id)
        if entry is None:
            return await self._missing(leased)
        try:
            async with self._desk.turn():
                await self._chain.settle(leased.session_id)
        except NoSessionError as error:
            log.info("session %d was settled already: %s", leased.session_id, error.why)
        return await self._gone(leased, Nano(entry.redeemed), "settled")

    async def note_gone(self, record: SessionRecord) -> SessionRecord:
        """Note that the chain has a session no more: its worker closed it, or somebody settled it."""
        leased = await self.leased(record, "end")
        return await self._gone(leased, leased.redeemed, ENDED_ELSEWHERE)

    async def leased(self, record: SessionRecord, verb: str, *, by_force: bool = False) -> SessionRecord:
        """Take a record for us. Raises `StaleSessionError` when another process has it and keeps it."""
        leased = await self._desk.lease(record, by_force=by_force)
        if leased is None:
            raise StaleSessionError(
                f"cannot {verb} session {record.session_id}",
                why=f"{record.holder} holds it",
                hint="Stop that process, wait until its lease has run out, or force it",
            )
        return leased

    async def _missing(self, record: SessionRecord) -> SessionRecord:
        """Note that the chain does not have a session (any more).

        An endpoint that lags may not have it yet. Then it stays to be closed: who gave it up now would leave
        its deposit to nobody.
        """
        if (await self._chain.look()).view.next_id > record.session_id:
            return await self._gone(record, record.redeemed, ENDED_ELSEWHERE)
        log.info("session %d is not seen on chain yet, and is closed later", record.session_id)
        return replace(record, state=SessionState.CLOSING)

    async def _gone(self, record: SessionRecord, redeemed: Nano, why: str) -> SessionRecord:
        await self._store.closed(record.uid, self._desk.holder, redeemed, why)
        log.info("session %d ended (%s): its worker took %s", record.session_id, why, redeemed)
        return replace(record, state=SessionState.CLOSED, redeemed=redeemed, why=record.why or why)
