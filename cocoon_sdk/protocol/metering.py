"""Who owes what inside a session, counted by both sides on their own (docs/sessions.md 5).

Owns the two ledgers and their one promise: **whatever is cut at whatever point, neither side has lost more
than its own increment.** Must not know frames, keys, prices or storage. All amounts are nanoTON.

* The client signs vouchers ahead: `signed <= accounted + increment`, where `accounted` is only what really
  came. So at most one increment is paid for nothing, over the whole session, however often it is cut, however
  many requests are cancelled and whatever the worker claims.
* The worker hands over only what is signed for (`booked <= signed`), and its work that is not handed over,
  under way (`ahead`) or in vain (`lost`), stays within `max_unpaid`, over the whole session.

Both sides bound their own risk with their own number; neither has to believe the other's. Between honest
sides `used` and `booked` are equal whenever everything sent has arrived, and a piece of an answer can always
be paid for if its price is within the client's `window`.
"""

from __future__ import annotations

from typing import Final

from cocoon_sdk.errors import CocoonError
from cocoon_sdk.types import Nano

DEFAULT_INCREMENT: Final = Nano(1_000_000)
"""0.001 TON: less than opening a session costs, so going away with it never pays."""
MAX_INCREMENT: Final = Nano(5_000_000)
"""Most that a client risks, 0.005 TON: more would be worth taking."""


_WORN: Final = 4


class MeteringError(CocoonError):
    """The other side's numbers cannot be right; nothing more is paid to it or done for it."""


class ClientLedger:
    """The client's count of one session. `signed` never passes `accounted + increment`, nor the deposit.

    To go on after a restart it needs `signed` and `accounted` as they were stored last, both together at the
    latest when a voucher leaves; what came since then counts as lost.
    """

    __slots__ = ("_open", "_used", "deposit", "increment", "lost", "signed")

    def __init__(
        self, deposit: Nano, *, increment: Nano = DEFAULT_INCREMENT, signed: int = 0, accounted: int = 0
    ) -> None:
        if not 0 <= accounted <= signed <= deposit:
            raise MeteringError("cannot resume the session", why="its amounts contradict each other")
        if not 0 < increment <= MAX_INCREMENT:
            why = f"an increment is at most {MAX_INCREMENT}"
            raise MeteringError("cannot use the session", why=why, hint="Choose a smaller increment")
        self.deposit, self.increment = deposit, increment
        self.signed = int(signed)
        self.lost = 0
        """What the worker counts and we never got, over all connections; never more than an increment."""
        self._used = int(accounted)
        self._open: dict[int, int] = {}

    @property
    def used(self) -> int:
        """What the session has used up as both sides count it: what came, and what was lost."""
        return self._used

    @property
    def accounted(self) -> int:
        """What the client has really got for its vouchers: this is stored, and said in `Hello`."""
        return self._used - self.lost

    @property
    def remaining(self) -> int:
        """What the deposit still holds for new work."""
        return int(self.deposit) - self._used

    @property
    def window(self) -> int:
        """Price of the dearest piece that can still be paid for."""
        return int(self.increment) - self.lost

    @property
    def worn(self) -> bool:
        """Tell whether so much was lost that less than a quarter of the increment can be paid ahead.

        Close the session then and open another.
        """
        return self.window * _WORN < self.increment

    def affords(self, piece: int) -> bool:
        """Tell whether a piece of an answer at this price can be paid for when the worker waits for it.

        The first piece includes the input; an answer in one piece is one piece.
        """
        return piece <= self.window and self._used + piece <= self.deposit

    def resume(self, booked: int) -> None:
        """Take over the worker's count after a connection broke; nothing is under way any more.

        Raises `MeteringError` when that count is below zero or beyond what was signed, or when what it claims
        without having delivered exceeds one increment in all: such a worker is left.
        """
        if not 0 <= booked <= self.signed:
            raise MeteringError("cannot resume the session", why="the worker counts more than was signed")
        self._open.clear()
        self.lost, self._used = max(0, booked - self.accounted), booked
        self._check_lost()

    def charge(self, rid: int, amount: int) -> None:
        """Note what request `rid` costs with the piece that came.

        Raises `MeteringError` when that falls, or is not signed for.
        """
        self._used += self._more(rid, amount)
        self._open[rid] = amount

    def finish(self, rid: int, charged: int | None = None) -> None:
        """Close the account of request `rid` at what `Done` or `Failed` charges (None: at what came).

        What is charged beyond the pieces that came counts as lost: the input of a request that was
        cancelled before its first piece, for example. Raises `MeteringError` when the charge is below what
        came, is not signed for, or when more than an increment would be lost.
        """
        undelivered = 0 if charged is None else self._more(rid, charged)
        self._open.pop(rid, None)
        self._used += undelivered
        self.lost += undelivered
        self._check_lost()

    def payable(self, due: int = 0) -> Nano | None:
        """Return the amount of the voucher to sign now, or None.

        Pays ahead when less than half a window is left, or when it reaches what the worker waits for (`due`);
        what it cannot reach changes nothing.
        """
        most = self._most()
        low = 2 * (self.signed - self._used) < self.window
        if most > self.signed and (low or self.signed < due <= most):
            return Nano(most)
        return None

    def covers(self, due: int) -> bool:
        """Tell whether what the worker waits for can be signed at all, within increment and deposit."""
        return due <= self._most()

    def sign(self, amount: int) -> None:
        """Note a voucher, before it leaves.

        Raises `MeteringError` beyond increment or deposit, or when it does not rise.
        """
        if not self.signed < amount or not self.covers(amount):
            raise MeteringError("refused to sign a voucher", why="it exceeds what may be paid ahead")
        self.signed = int(amount)

    def _most(self) -> int:
        # What never arrived is not paid ahead a second time.
        return min(int(self.deposit), self.accounted + int(self.increment))

    def _more(self, rid: int, amount: int) -> int:
        more = amount - self._open.get(rid, 0)
        if more < 0:
            raise MeteringError("the worker's count is wrong", why="a request became cheaper")
        if self._used + more > self.signed:
            raise MeteringError("the worker's count is wrong", why="it charges more than was signed")
        return more

    def _check_lost(self) -> None:
        if self.lost > self.increment:
            why = f"it counts {self.lost} nanoTON that were never delivered"
            raise MeteringError("the worker is not honest", why=why, hint="The session is closed")


class WorkerLedger:
    """The worker's count of one session: what is signed, what is used up, and what is done unpaid.

    To go on after a restart it needs `signed` (stored before a byte leaves that it pays for), and `booked`
    and `lost`, stored with each end of a request. It lives as long as the session, not as a connection: a
    client that comes back finds the same `lost`.
    """

    __slots__ = ("_ahead", "_open", "_reserved", "_used", "deposit", "lost", "max_unpaid", "signed")

    def __init__(
        self,
        deposit: int,
        *,
        max_unpaid: int = DEFAULT_INCREMENT,
        signed: int = 0,
        booked: int = 0,
        lost: int = 0,
    ) -> None:
        if not 0 <= booked <= signed <= deposit or lost < 0:
            raise MeteringError("cannot resume the session", why="its amounts contradict each other")
        self.deposit, self.max_unpaid, self.signed = deposit, max_unpaid, int(signed)
        self.lost = int(lost)
        """Work that was done and never paid, over the session's whole life."""
        self._used = int(booked)
        self._open: dict[int, int] = {}
        self._ahead: dict[int, int] = {}
        self._reserved = 0

    @property
    def booked(self) -> int:
        """What has been used up: all that was handed over, and what was charged for abandoned requests."""
        return self._used

    @property
    def ahead(self) -> int:
        """The most that work under way can cost which is not handed over yet."""
        return self._reserved

    def resume(self, accounted: int) -> None:
        """Take the client's word for what it has got, when we have forgotten it in a crash.

        Only ever raises `booked`, and not beyond what is signed.
        """
        self._used = max(self._used, min(accounted, self.signed))

    def admit(self, voucher: int) -> bool:
        """Take a verified voucher; False when it is not better than the best one, or beyond the deposit."""
        if not self.signed < voucher <= self.deposit:
            return False
        self.signed = int(voucher)
        return True

    def may_ever_begin(self, at_most: int) -> bool:
        """Tell whether work that costs `at_most` before its first piece fits at all.

        Neither beyond what is done unpaid, nor beyond the deposit, which could never pay for it.
        """
        return self.lost + at_most <= self.max_unpaid and self._used + at_most <= self.deposit

    def may_begin(self, at_most: int) -> bool:
        """Tell whether such work may begin now, beside what is under way.

        Vouchers that pay ahead do not count here: streams under way may use them up meanwhile.
        """
        return self.may_ever_begin(self._reserved + at_most)

    def may_begin_whole(self, at_most: int) -> bool:
        """Tell whether an answer that costs `at_most` may be made and handed over in one piece.

        It must fit what is signed already: how much more the client would sign at once, only it knows.
        """
        return self.may_begin(at_most) and self._used + self._reserved + at_most <= self.signed

    def begin(self, rid: int, at_most: int) -> None:
        """Begin request `rid`; no single step of the engine costs more than `at_most` later on.

        Raises `MeteringError` unless `may_begin`.
        """
        if not self.may_begin(at_most) or rid in self._open or rid in self._ahead:
            raise MeteringError("cannot begin the request", why="too much is unpaid")
        self._reserve(rid, at_most)

    def needed(self, rid: int, charge: int) -> int:
        """Return what must be signed before a piece that brings request `rid` to `charge` is handed over."""
        return self._used - self._open.get(rid, 0) + charge

    def hand_over(self, rid: int, charge: int, *, beyond: int = 0) -> None:
        """Book a piece, which may leave now. `beyond` is the most that the engine has done after this piece,
        or adds before we hear of it again (of what is reserved for the request anyway).

        Raises `MeteringError` unless it is signed for.
        """
        needed = self.needed(rid, charge)
        if needed > self.signed or charge < self._open.get(rid, 0):
            raise MeteringError("cannot hand over the answer", why="it is not signed for")
        self._reserve(rid, min(beyond, self._ahead.get(rid, 0)))
        self._open[rid] = charge
        self._used = needed

    def hold(self, rid: int, charge: int, *, step: int = 0) -> bool:
        """Note that the engine has brought request `rid` to `charge` while nothing of it may be handed over.

        False when it must stop here: another `step` could bring the work that is done unpaid above
        `max_unpaid`.
        """
        done = charge - self._open.get(rid, 0)
        others = self._reserved - self._ahead.get(rid, 0)
        goes_on = others + self.lost + done + step <= self.max_unpaid
        self._reserve(rid, done + step if goes_on else done)
        return goes_on

    def finish(self, rid: int) -> None:
        """Close the account of request `rid`: what was handed over of it is final."""
        self._reserve(rid, 0)
        self._open.pop(rid, None)

    def abandon(self, rid: int, charge: int) -> int:
        """Close the account of a request that was cancelled or cut off after work worth `charge`.

        Returns what it is charged: as much of it as is signed for; the rest is lost.
        """
        handed_over = self._open.pop(rid, 0)
        covered = max(handed_over, min(charge, self.signed - self._used + handed_over))
        self._reserve(rid, 0)
        self._used += covered - handed_over
        self.lost += max(0, charge - covered)
        return covered

    def _reserve(self, rid: int, amount: int) -> None:
        self._reserved += amount - self._ahead.pop(rid, 0)
        if amount:
            self._ahead[rid] = amount
