"""`HeldSession`: a session that this process holds, and the only place where its vouchers are signed.

Owns the order of things: a voucher is kept before anybody sees it. Must not know chains or sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import final

from cocoon_sdk.client.sessions.errors import StaleSessionError
from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SessionRecord, SessionState
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.clock import Clock
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol.metering import ClientLedger, MeteringError
from cocoon_sdk.protocol.vouchers import SessionRef, Voucher
from cocoon_sdk.types import Nano


@final
class HeldSession:
    """One open session under our lease; get it from `SessionManager.acquire`.

    `ledger` counts what is signed and used, `next_rid` numbers requests, `greeted` tells that the worker
    agreed on that number: they belong to whoever runs the connection. `best` is the best voucher so far.
    `users` and `reserved` are the manager's. `guard` is the lock of the collateral that its worker has in
    it, as last seen on chain (0: none).
    """

    __slots__ = (
        "_clock",
        "_on_signed",
        "_policy",
        "_signing",
        "_store",
        "_unsure",
        "_worn_out",
        "best",
        "expires",
        "greeted",
        "guard",
        "holder",
        "ledger",
        "next_rid",
        "record",
        "ref",
        "reserved",
        "stale",
        "topping_up",
        "used_at",
        "users",
        "voucher_key",
    )

    def __init__(
        self,
        record: SessionRecord,
        voucher_key: SigningKey,
        store: SessionStore,
        policy: SessionPolicy,
        clock: Clock,
        holder: str,
        on_signed: Callable[[HeldSession], None],
    ) -> None:
        self.record, self.voucher_key, self.holder = record, voucher_key, holder
        self.ref: SessionRef = record.ref
        self.ledger = ClientLedger(
            record.deposit, increment=record.increment, signed=record.signed, accounted=record.accounted
        )
        self.best, self.next_rid, self.expires = record.best, record.next_rid, record.expires
        self.greeted, self.guard = False, 0
        self.users, self.reserved, self.used_at = 0, 0, max(record.used_at, record.opened_at)
        self.stale = ""
        """Why nothing can be signed any more; empty while it can."""
        self._worn_out = False
        self.topping_up = asyncio.Lock()
        self._store, self._policy, self._clock, self._on_signed = store, policy, clock, on_signed
        self._signing = asyncio.Lock()
        self._unsure = False

    def __repr__(self) -> str:
        return f"<HeldSession {self.ref.session_id} with {self.ref.worker.to_str()}>"

    @property
    def uid(self) -> str:
        """The record's own name."""
        return self.record.uid

    @property
    def worn(self) -> bool:
        """Whether too much was lost in it for new requests; those under way are still paid."""
        return self._worn_out or self.ledger.worn

    def wear_out(self) -> None:
        """Note that it takes no new requests."""
        self._worn_out = True

    @property
    def available(self) -> Nano:
        """What the deposit still holds that nobody has reserved."""
        return Nano(self.ledger.remaining - self.reserved)

    async def sign(self, amount: int) -> Voucher:
        """Return a voucher over at least `amount` nanoTON in all; it is kept when this returns.

        Several callers may sign at a time: who comes second may get the other's better voucher.

        Raises `MeteringError` beyond increment or deposit, `StaleSessionError` when another process holds the
        session by now, and `StorageError` when the voucher could not be kept. In every such case nothing must
        be sent; after the last, the same call may be tried again.
        """
        async with self._signing:
            if self._unsure:
                await self._look()
            if self.stale:
                raise self._stale_error()
            before, best = self.ledger.signed, self.best
            if best is not None and amount <= before:
                return best
            if not self.ledger.covers(amount):
                raise MeteringError("refused to sign a voucher", why="it exceeds what may be paid ahead")
            voucher = Voucher.sign(self.voucher_key, self.ref, Nano(amount))
            now = self._clock.now()
            self._unsure = True  # until we hear that it was kept: a broken connection leaves that open
            try:
                await self._store.put_voucher(
                    self.uid,
                    self.holder,
                    before=before,
                    voucher=voucher,
                    accounted=min(self.ledger.accounted, before),
                    next_rid=self.next_rid,
                    now=now,
                    lease_until=now + self._policy.lease_s,
                )
            except StaleSessionError:
                self.stale = "another process holds it, or it has ended"
                raise
            self._unsure = False
            self.ledger.signed, self.best, self.used_at = amount, voucher, now
        self._on_signed(self)
        return voucher

    async def save(self) -> None:
        """Keep what came so far and the number of the next request: at the end of a request, for example.

        Raises `StaleSessionError` and `StorageError`; nothing is lost by that but counts, which vouchers
        carry too.
        """
        self.used_at = self._clock.now()
        try:
            await self._store.put_progress(
                self.uid,
                self.holder,
                accounted=self.ledger.accounted,
                next_rid=self.next_rid,
                now=self.used_at,
            )
        except StaleSessionError:
            self.stale = "another process holds it, or it has ended"
            raise

    async def confirm(self) -> None:
        """Ask the database whether the session is still ours. Raises `StaleSessionError`, `StorageError`."""
        found = await self._store.get(self.uid)
        if found is None or found.holder != self.holder or found.state is not SessionState.OPEN:
            self.stale = self.stale or "another process holds it, or it has ended"
        if self.stale:
            raise self._stale_error()

    async def _look(self) -> None:
        """Find out whether the last voucher was kept. It may be given out then; it was not until now."""
        found = await self._store.get(self.uid)
        if found is None or found.holder != self.holder or found.state is not SessionState.OPEN:
            self.stale = "another process holds it, or it has ended"
            return
        if found.signed > self.ledger.signed:
            self.ledger.signed, self.best = int(found.signed), found.best
        self._unsure = False

    def _stale_error(self) -> StaleSessionError:
        return StaleSessionError(
            f"cannot sign for session {self.ref.session_id}", why=self.stale, hint="Take another session"
        )
