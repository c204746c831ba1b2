"""Who owes what inside a session, counted by both sides on their own (docs/protocol.md 4).

Owns the two ledgers and their one promise: **whatever is cut at whatever point, neither side has lost more
than its own increment.** Must not know frames, keys, prices or storage. All amounts are nanoTON.

* The client signs vouchers ahead: `signed <= received + increment`, so at most one increment is paid for
  nothing, over the whole session and however often it is cut.
* The worker hands over only what is signed for, and does at most `max_unpaid` of work ahead (reading a
  prompt, or a short answer that comes in one piece) before anything of it is paid. Work that was done and
  then abandoned counts against it for the rest of the session.

Both sides bound their own risk with their own number; neither has to believe the other's.
"""

from __future__ import annotations

from typing import Final

from cocoon_sdk.errors import CocoonError
from cocoon_sdk.types import Nano

DEFAULT_INCREMENT: Final = Nano(1_000_000)
"""0.001 TON: less than opening a session costs, so going away with it never pays."""
MAX_INCREMENT: Final = Nano(5_000_000)


class MeteringError(CocoonError):
    """The other side's numbers cannot be right; nothing more is paid to it or done for it."""


class ClientLedger:
    """The client's count of one session. `signed` never passes `accounted + increment`, nor the deposit."""

    __slots__ = ("_finished", "_open", "deposit", "increment", "lost", "signed")

    def __init__(
        self, deposit: Nano, *, increment: Nano = DEFAULT_INCREMENT, signed: int = 0, accounted: int = 0
    ) -> None:
        if not 0 <= accounted <= signed <= deposit:
            raise MeteringError("cannot resume the session", why="its amounts contradict each other")
        self.deposit, self.increment = deposit, increment
        self.signed = signed
        self.lost = 0
        """What the worker counts and we never got, over all connections."""
        self._finished = accounted
        self._open: dict[int, int] = {}

    @property
    def accounted(self) -> int:
        """What the client has got for its vouchers, by its own count."""
        return self._finished + sum(self._open.values())

    @property
    def remaining(self) -> int:
        """What the deposit still holds for new work."""
        return int(self.deposit) - self.accounted

    def resume(self, booked: int) -> None:
        """Take over the worker's count after a connection broke; nothing is under way any more.

        Raises `MeteringError` when that count is below zero or beyond what was signed, or when what it claims
        without having delivered exceeds one increment in all: such a worker is left.
        """
        if not 0 <= booked <= self.signed:
            raise MeteringError("cannot resume the session", why="the worker counts more than was signed")
        mine = self.accounted
        self._open.clear()
        self.lost = max(0, self.lost + booked - mine)
        self._finished = booked
        if self.lost > self.increment:
            why = f"it counts {self.lost} nanoTON that were never delivered"
            raise MeteringError("the worker is not honest", why=why, hint="The session is closed")

    def charge(self, rid: int, amount: int) -> None:
        """Note what request `rid` costs so far.

        Raises `MeteringError` when that falls, or is not signed for.
        """
        before = self._open.get(rid, 0)
        if amount < before:
            raise MeteringError("the worker's count is wrong", why="a request became cheaper")
        self._open[rid] = amount
        if self.accounted > self.signed:
            self._open[rid] = before
            raise MeteringError("the worker's count is wrong", why="it charges more than was signed")

    def finish(self, rid: int) -> None:
        """Close the account of request `rid`: what it cost so far is final."""
        self._finished += self._open.pop(rid, 0)

    def payable(self, due: int = 0) -> Nano | None:
        """Return the amount of the voucher to sign now, or None.

        Pays ahead when less than half an increment is left, or up to what the worker waits for (`due`).
        """
        most = self._most()
        low = 2 * (self.signed - self.accounted) < int(self.increment)
        if most > self.signed and (low or due > self.signed):
            return Nano(most)
        return None

    def covers(self, due: int) -> bool:
        """Tell whether what the worker waits for can be signed at all, within increment and deposit."""
        return due <= self._most()

    def _most(self) -> int:
        # What never arrived is not paid ahead a second time.
        return min(int(self.deposit), self.accounted - self.lost + int(self.increment))

    def sign(self, amount: int) -> None:
        """Note a voucher, before it leaves.

        Raises `MeteringError` beyond increment or deposit, or when it falls.
        """
        if not self.signed < amount or not self.covers(amount):
            raise MeteringError("refused to sign a voucher", why="it exceeds what may be paid ahead")
        self.signed = amount


class WorkerLedger:
    """The worker's count of one session: what is signed, what is used up, and what is under way unpaid."""

    __slots__ = ("_ahead", "_finished", "_open", "deposit", "lost", "max_unpaid", "signed")

    def __init__(
        self, deposit: int, *, max_unpaid: int = DEFAULT_INCREMENT, signed: int = 0, booked: int = 0
    ) -> None:
        if not 0 <= booked <= signed <= deposit:
            raise MeteringError("cannot resume the session", why="its amounts contradict each other")
        self.deposit, self.max_unpaid, self.signed = deposit, max_unpaid, signed
        self.lost = 0
        """Work that was done and never paid."""
        self._finished = booked
        self._open: dict[int, int] = {}
        self._ahead: dict[int, int] = {}

    @property
    def booked(self) -> int:
        """What has been used up: all that was handed over."""
        return self._finished + sum(self._open.values())

    @property
    def ahead(self) -> int:
        """The most that work under way can cost before the first piece of it is handed over."""
        return sum(self._ahead.values())

    def admit(self, voucher: int) -> bool:
        """Take a verified voucher; False when it is not better than the best one, or beyond the deposit."""
        if not self.signed < voucher <= self.deposit:
            return False
        self.signed = voucher
        return True

    def may_ever_begin(self, at_most: int) -> bool:
        """Tell whether work that costs `at_most` before its first piece fits at all."""
        return at_most <= self.max_unpaid

    def may_begin(self, at_most: int) -> bool:
        """Tell whether such work may begin now, beside what is under way."""
        return self.booked + self.ahead + self.lost + at_most <= self.signed + self.max_unpaid

    def begin(self, rid: int, at_most: int) -> None:
        """Begin request `rid`. Raises `MeteringError` unless `may_begin`."""
        if not self.may_begin(at_most) or rid in self._open or rid in self._ahead:
            raise MeteringError("cannot begin the request", why="too much is unpaid")
        self._ahead[rid] = at_most

    def needed(self, rid: int, charge: int) -> int:
        """Return what must be signed before a piece that brings request `rid` to `charge` is handed over."""
        return self.booked - self._open.get(rid, 0) + charge

    def hand_over(self, rid: int, charge: int) -> None:
        """Book a piece, which may leave now. Raises `MeteringError` unless it is signed for."""
        if self.needed(rid, charge) > self.signed or charge < self._open.get(rid, 0):
            raise MeteringError("cannot hand over the answer", why="it is not signed for")
        self._ahead.pop(rid, None)
        self._open[rid] = charge

    def finish(self, rid: int) -> None:
        """Close the account of request `rid`: what was handed over of it is final."""
        self._ahead.pop(rid, None)
        self._finished += self._open.pop(rid, 0)

    def abandon(self, rid: int, charge: int) -> int:
        """Close the account of a request that was cancelled or cut off after work worth `charge`.

        Returns what it is charged: as much of it as is signed for; the rest is lost.
        """
        handed_over = self._open.get(rid, 0)
        covered = max(handed_over, min(charge, self.signed - self.booked + handed_over))
        self._ahead.pop(rid, None)
        self._open.pop(rid, None)
        self._finished += covered
        self.lost += max(0, charge - covered)
        return covered
