"""One session in memory: its ledger, its vouchers, its requests under way, and the connection that serves it.

Owns the order that is the promise: a voucher is in the book before the ledger counts it, so before a byte
leaves that it pays for. Must not know sockets' handshakes, engines or prices.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.protocol.metering import WorkerLedger
from cocoon_sdk.protocol.session_wire import Failed, FailureCode, Pay, WorkerFrame
from cocoon_sdk.protocol.vouchers import SessionRef, Voucher
from cocoon_sdk.types import Nano
from cocoon_worker.sessions.book import SessionBook
from cocoon_worker.sessions.connection import Connection
from cocoon_worker.sessions.intake import AskRefusedError
from cocoon_worker.sessions.records import SessionEntry, SessionState
from cocoon_worker.sessions.tally import SessionTally

_MAX_WHY: Final = 1000


class Running(Protocol):
    """A request under way, as its session sees it."""

    def pump(self) -> None:
        """Hand over what is paid for."""
        ...

    def prove(self) -> bool:
        """Send the commitment with the receipt. False when that changes nothing."""
        ...

    def stop(self, why: str) -> None:
        """End it; `why` is `CANCELLED` or `LOST`."""
        ...

    async def ended(self) -> None:
        """Wait until it has ended."""
        ...


CANCELLED: Final = "cancelled"
"""The client asked for it."""
LOST: Final = "lost"
"""Nobody is there any more to answer."""


class BadVoucherError(Exception):
    """A voucher that no honest client sends."""


class SessionAccount:
    """One session that was served since this process started, connected or not.

    It outlives connections: what a client never paid for stays counted when it comes back.
    """

    def __init__(
        self, entry: SessionEntry, ref: SessionRef, book: SessionBook, max_unpaid: int, tally: SessionTally
    ) -> None:
        self.key, self.ref = entry.key, ref
        self.voucher_key: VerifyKey = entry.verify_key()
        self.expires = entry.expires
        self.ledger = WorkerLedger(
            int(entry.deposit),
            max_unpaid=max_unpaid,
            signed=int(entry.covered),
            booked=int(entry.booked),
            lost=int(entry.forgone),
        )
        self.next_rid = entry.next_rid
        self.requests: dict[int, Running] = {}
        self.connection: Connection | None = None
        self.taking_over = asyncio.Lock()
        self.unsaved = False
        self.over_on_chain = False
        """Whether its client closes it, or it has ended: it is served no more, whatever older blocks say."""
        self.redeemed = 0
        self._book, self._tally = book, tally
        self._waiting: deque[tuple[int, int, asyncio.Future[None]]] = deque()

    # -- the chain's side ----------------------------------------------------------------------------------

    def note(self, entry: SessionEntry) -> None:
        """Take over what the chain says anew."""
        self.ledger.deposit = max(self.ledger.deposit, int(entry.deposit))
        self.expires = entry.expires
        self.over_on_chain = self.over_on_chain or entry.state is not SessionState.OPEN
        self.redeemed = int(entry.redeemed)

    def resume(self, accounted: int, known: int) -> None:
        """Take the client's word for what it has got; `known` is what was signed before it said so.

        What the chain paid out beyond that, our book has forgotten altogether: it was worked for, whatever
        the client says now.
        """
        forgotten = self.redeemed if self.redeemed > known else 0
        self.ledger.resume(max(accounted, forgotten))

    # -- money ---------------------------------------------------------------------------------------------

    def admit(self, amount: int, signature: bytes) -> bool:
        """Take a voucher: first the book, then the ledger. False when it is no better than the best one.

        Raises `BadVoucherError` for one that does not verify or exceeds the deposit, and `JournalError` when
        it cannot be kept, which counts as if it had not come.
        """
        if amount <= self.ledger.signed:
            self._tally.vouchers.labels("useless").inc()
            return False
        if amount > self.ledger.deposit:
            raise BadVoucherError("it exceeds the session's deposit")
        if not Voucher(Nano(amount), signature).verified_by(self.voucher_key, self.ref):
            raise BadVoucherError("the session's voucher key did not sign it")
        self._book.put_voucher(self.key, Nano(amount), signature)
        self.ledger.admit(amount)
        self._tally.vouchers.labels("kept").inc()
        return True

    def paid(self, frame: Pay) -> bool:
        """Take a voucher and hand over what it pays for; see `admit`."""
        if not self.admit(frame.amount, frame.signature):
            return False
        for request in list(self.requests.values()):
            request.pump()
        return True

    def save(self) -> None:
        """Write the progress if a request ended since. Raises `JournalError`."""
        if self.unsaved:
            ledger = self.ledger
            self._book.put_progress(self.key, Nano(ledger.booked), self.next_rid, Nano(ledger.lost))
            self.unsaved = False

    # -- requests ------------------------------------------------------------------------------------------

    def number(self, rid: int) -> None:
        """Use up a request number. Raises `AskRefusedError` for one that does not count up."""
        if rid < self.next_rid:
            raise AskRefusedError(FailureCode.BAD_REQUEST, f"its number must be at least {self.next_rid}")
        self.next_rid = rid + 1

    async def begin(self, rid: int, at_most: int, timeout_s: float) -> None:
        """Reserve `at_most` for work ahead, waiting for other requests of the session if need be.

        Raises `AskRefusedError`: it never fits, or not in time.
        """
        self.check_ever(at_most)
        if not self._waiting and self.ledger.may_begin(at_most):
            self.ledger.begin(rid, at_most)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rid, at_most, turn))
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except TimeoutError:
            why = "other requests of the session are not paid yet"
            raise AskRefusedError(FailureCode.BUSY, why, retry_after_s=1) from None
        finally:
            if not turn.done():
                turn.cancel()
            self.let_in()

    def check_ever(self, at_most: int) -> None:
        """Raise `AskRefusedError` for work that is never begun in this session."""
        if self.ledger.may_ever_begin(at_most):
            return
        if self.ledger.booked + at_most > self.ledger.deposit:
            left = Nano(self.ledger.deposit - self.ledger.booked)
            why = f"{left} are left of the deposit, the request may need {Nano(at_most)} at once"
            raise AskRefusedError(FailureCode.SESSION, why)
        worn = at_most <= self.ledger.max_unpaid
        done = Nano(max(0, self.ledger.max_unpaid - self.ledger.lost))
        why = f"it may cost {Nano(at_most)} before its first piece, {done} of work are done unpaid"
        raise AskRefusedError(FailureCode.WORN if worn else FailureCode.TOO_DEAR, why)

    def let_in(self) -> None:
        """Let the next waiting request begin if it may by now, or learn that it never may."""
        while self._waiting:
            rid, at_most, turn = self._waiting[0]
            if not turn.done():
                try:
                    self.check_ever(at_most)
                except AskRefusedError as refusal:
                    turn.set_exception(refusal)
                else:
                    if not self.ledger.may_begin(at_most):
                        return
                    # At once, so that nobody comes in between.
                    self.ledger.begin(rid, at_most)
                    turn.set_result(None)
            self._waiting.popleft()

    def over(self, rid: int) -> None:
        """Forget a request that has ended; its charge is in the ledger."""
        self.requests.pop(rid, None)
        self.unsaved = True
        self.let_in()

    # -- connections ---------------------------------------------------------------------------------------

    def send(self, frame: WorkerFrame, *, now: bool = False) -> None:
        """Send a frame to whoever is connected."""
        if self.connection is not None:
            self.connection.send(frame, now=now)

    async def detach(self, connection: Connection, last: WorkerFrame | None) -> None:
        """End a connection of this session, and with it its requests; their progress is kept."""
        try:
            if self.connection is connection:
                self.connection = None
                requests = list(self.requests.values())
                for request in requests:
                    request.stop(LOST)
                for request in requests:
                    await request.ended()
                self.save()
        finally:
            await connection.end(last)


def failure(
    code: str, why: str, *, rid: int = 0, charged: int = 0, retry_after_s: int | None = None
) -> Failed:
    """Return a failure's frame; a text that is too long for it is cut."""
    return Failed(rid, code, why[:_MAX_WHY], charged, retry_after_s)
