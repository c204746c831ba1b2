"""What each key may still spend at this gateway: chunks of its budget, taken from the database ahead.

Owns the chunks and the reservations made of them. Must not know SQL or HTTP. A request reserves the most it
may cost before it is sent and gives back the rest at its end, all in memory; the database is asked only when
a chunk is used up. So several gateways never overspend a budget together, and a gateway that is killed loses
the key at most what it held: a chunk, or what a dear request had reserved where that is more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, Protocol

from cocoon_sdk.clock import Clock
from cocoon_sdk.gateway.keys import ApiKey
from cocoon_sdk.types import Nano

DAY_S: Final = 86_400
DEFAULT_CHUNK: Final = Nano(10_000_000)
"""0.01 TON."""


class BudgetBook(Protocol):
    """Where budgets are kept (`KeyStore`)."""

    async def take(self, key_id: str, day: int, *, at_least: int, chunk: int) -> Nano:
        """Set aside a part of a key's budget. Raises `BudgetReachedError`."""
        ...

    async def settle(self, key_id: str, day: int, *, spent: int, returned: int) -> None:
        """Note what was used up of what was taken, and give back the rest."""
        ...

    async def charge(self, key_id: str, day: int, spent: int) -> None:
        """Note use beyond what was taken."""
        ...


@dataclass(slots=True)
class _Lease:
    """What this gateway holds of one key's budget for one day."""

    day: int
    free: int = 0
    reserved: int = 0
    spent: int = 0
    """Used up and not yet written down."""
    uncovered: int = 0
    """Used up beyond what was taken, not yet written down."""
    idle: bool = True

    @property
    def settled(self) -> bool:
        """Whether nothing is held and everything is written down."""
        return not (self.reserved or self.free or self.spent or self.uncovered)


@dataclass(slots=True)
class Reservation:
    """The most that one request may cost, in nanoTON, set aside until it is settled."""

    amount: Nano
    _lease: _Lease
    _reserved: int
    _open: bool = True

    def settle(self, cost: int) -> None:
        """Use up `cost` of it and free the rest; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        lease, covered = self._lease, min(cost, self._reserved)
        lease.reserved -= self._reserved
        lease.free += self._reserved - covered
        lease.spent += covered
        lease.uncovered += cost - covered


@dataclass(slots=True)
class Purse:
    """One key's money at this gateway. Of a key that is not `limited` only the use is written down."""

    key_id: str
    _book: BudgetBook
    _clock: Clock
    _chunk: int
    limited: bool
    _lease: _Lease = field(init=False)
    _old: list[_Lease] = field(default_factory=list)
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._lease = _Lease(self._today())

    @property
    def free(self) -> int:
        """What is held and not reserved, in nanoTON."""
        return self._lease.free

    def _today(self) -> int:
        return self._clock.now() // DAY_S

    async def reserve(self, most: Nano) -> Reservation:
        """Set aside `most`. Raises `BudgetReachedError` when the budget does not cover it."""
        lease = self._current()
        wanted = int(most) if self.limited else 0
        while lease.free < wanted:
            # In a task of its own: what is taken is not lost when the client goes away meanwhile.
            await asyncio.shield(asyncio.ensure_future(self._take(wanted)))
            lease = self._current()
        lease.idle = False
        lease.free -= wanted
        lease.reserved += wanted
        return Reservation(most, lease, wanted)

    async def _take(self, wanted: int) -> None:
        async with self._taking:
            lease = self._current()
            missing = wanted - lease.free
            if missing > 0:  # else others took, or freed, enough meanwhile
                granted = await self._book.take(self.key_id, lease.day, at_least=missing, chunk=self._chunk)
                lease.free += int(granted)

    def _current(self) -> _Lease:
        """Return today's lease; yesterday's is given back as soon as its requests have ended."""
        today = self._today()
        if self._lease.day != today:
            self._old.append(self._lease)
            self._lease = _Lease(today)
        return self._lease

    async def flush(self, *, everything: bool = False) -> None:
        """Write down what was used up, and give back what is not needed.

        That is everything, if so asked, or of an idle key or another day; else what exceeds a chunk.

        Raises `StorageError`; use that could not be written is written at the next flush.
        """
        current = self._current()
        for lease in (*self._old, current):
            kept = 0 if everything or lease is not current or lease.idle else self._chunk
            give_back = max(0, lease.free - kept)
            spent, uncovered = lease.spent, lease.uncovered
            # What is given back is gone even if that fails: it may have arrived, and must not be spent then.
            lease.free -= give_back
            await self._book.settle(self.key_id, lease.day, spent=spent, returned=give_back)
            lease.spent -= spent
            await self._book.charge(self.key_id, lease.day, uncovered)
            lease.uncovered -= uncovered
            lease.idle = lease.reserved == 0
        self._old = [lease for lease in self._old if not lease.settled]


class Budgets:
    """The purses of all keys that were used here."""

    def __init__(self, book: BudgetBook, clock: Clock, *, chunk: Nano = DEFAULT_CHUNK) -> None:
        self._book, self._clock, self._chunk = book, clock, int(chunk)
        self._purses: dict[str, Purse] = {}
        self._flushing = asyncio.Lock()

    def of(self, key: ApiKey) -> Purse:
        """Return a key's purse."""
        limited = key.limits.budget_total is not None or key.limits.budget_day is not None
        purse = self._purses.get(key.id)
        if purse is None:
            purse = Purse(key.id, self._book, self._clock, self._chunk, limited)
            self._purses[key.id] = purse
        purse.limited = limited
        return purse

    async def flush(self, *, everything: bool = False) -> None:
        """Write down all use; with `everything` also give back all that is held. Raises `StorageError`."""
        async with self._flushing:  # two at once would write the same use twice
            for purse in tuple(self._purses.values()):
                await purse.flush(everything=everything)
