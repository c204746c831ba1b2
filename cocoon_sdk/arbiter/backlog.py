"""Which places have to be looked at, and when again: a retry list with back-off, and its bounds.

Owns pauses and bounds; who has the next turn is `Turns`' business. Must not know the chain, or what is found.
Whatever is wrong with one dispute (its history cannot be read, its account is broken on purpose) costs only
that one a pause; and whoever has a history that takes many looks has them one by one, in turns with everybody
else.

Only what is looked at in turn has an effect on what comes next: a place is taken, and then it has failed, is
unfinished, was found to be nothing or is settled. Of any other look nothing is said here but `put`, `begun`,
or that the place is settled.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, OrderedDict
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.arbiter.finding_store import FindingStore, Place
from cocoon_sdk.arbiter.turns import Rank, Turns
from cocoon_sdk.storage import StorageError

MAX_NEW: Final = 256
"""Places of escrows never looked at, beyond which no more are taken from the markets for now."""
OF_ONE: Final = 16
"""Places of one escrow that count for that: its disputes are looked at few at a time, and others' go on. Once
it was looked at none does: then its places wait for each other, and no other escrow's wait for them."""
MOST_NEW: Final = 16_384
"""Places that wait for their first look, whatever they count."""
MAX_WAITING: Final = 4096
"""Places that were looked at and wait for the next look; beyond, who took most looks is forgotten."""
MAX_FOREIGN: Final = 16_384
"""Addresses that are no escrows of this network, and are remembered for that."""
FOREIGN_S: Final = 600
"""How long: an endpoint that lags may not have seen an escrow yet, and registries list new codes."""
FIRST_PAUSE_S: Final = 30
MAX_PAUSE_S: Final = 1800
_GONE_LOOKS: Final = 2
"""Looks that must find nothing before a notice is: the endpoint may not have seen the dispute yet."""


@dataclass(slots=True, eq=False)
class _Waiting:
    tries: int = 0
    gone: int = 0
    looks: int = 0
    """How many ended before everything was read."""
    is_under_way: bool = False
    is_begun: bool = False
    """Whether somebody who asked had it looked at, and its next look comes in turn."""

    @property
    def rank(self) -> Rank:
        """Its place among those of its escrow: what was begun comes first, then what failed least.

        The second look at what may be nothing does not wait for the first ones at others: it may show that
        all of them are nothing.
        """
        return (not self.looks and not self.gone, self.tries)


class Backlog:
    """Places by the time of their next look, in unix seconds of the chain. Notices outlast a restart."""

    def __init__(self, store: FindingStore) -> None:
        self._store = store
        self._turns = Turns()
        self._waiting: dict[Place, _Waiting] = {}
        self._of: dict[Address, dict[Place, None]] = {}
        self._foreign: OrderedDict[Address, int] = OrderedDict()
        self._looked_at: dict[Place, _Waiting] = {}
        self._pauses: list[tuple[int, int, Place, _Waiting]] = []
        self._numbers = itertools.count()  # of two pauses that end together the one that began first
        self._new: Counter[Address] = Counter()  # places of each escrow that was never looked at
        self._counted = 0  # those of them that count towards MAX_NEW

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, place: Place) -> bool:
        return place in self._waiting

    @property
    def has_room(self) -> bool:
        """Whether more may be taken from the markets, whose cursor then waits instead of us."""
        return len(self._waiting) - len(self._looked_at) < MOST_NEW and self._counted < MAX_NEW

    async def load(self) -> None:
        """Go on with the notices from before a restart. Raises `StorageError`."""
        for place in await self._store.notices():
            self.put(place)

    async def add(self, place: Place, now: int) -> None:
        """Keep a notice until it is settled. Raises `StorageError`: then the notice is read again."""
        await self._store.add_notice(place, now)
        self.put(place)

    def put(self, place: Place) -> None:
        """Look at a place soon; one that waits already keeps its time and its turn."""
        if place in self._waiting:
            return
        self._waiting[place] = each = _Waiting()
        self._of.setdefault(place.escrow, {})[place] = None
        if self._turns.is_new(place.escrow):
            self._counted += self._new[place.escrow] < OF_ONE
            self._new[place.escrow] += 1
        self._turns.put(place, each.rank)

    def begun(self, place: Place) -> None:
        """Go on, in turn, with a place of which a look out of turn has not read everything."""
        self.put(place)
        self._waiting[place].is_begun = True

    def is_begun(self, place: Place) -> bool:
        """Tell whether a look at a place ended unfinished, so that its next one will come."""
        each = self._waiting.get(place)
        return each is not None and (each.looks > 0 or each.is_begun)

    def take(self, now: int) -> Place | None:
        """Return what is to be looked at next, None for nothing now. Its taker says what became of it."""
        while self._pauses and self._pauses[0][0] <= now:
            *_, paused, each = heappop(self._pauses)
            if self._waiting.get(paused) is each:
                self._turns.put(paused, each.rank)
        place = self._turns.take()
        if place is not None:
            self._waiting[place].is_under_way = True
            self._counted -= min(self._new.pop(place.escrow, 0), OF_ONE)
        return place

    # -- what became of a place that was taken; of any other, nothing changes ------------------------------

    async def unfinished(self, place: Place) -> None:
        """Go on with a place when its escrow has its next turn."""
        each = self._back(place)
        if each is not None:
            each.looks += 1
            each.tries = each.gone = 0
            self._looked_at[place] = each
            self._turns.put(place, each.rank)
            await self._forget_one()

    async def failed(self, place: Place, now: int) -> None:
        """Look again later."""
        each = self._back(place)
        if each is not None:
            each.gone = 0
            self._pause(place, each, now + min(MAX_PAUSE_S, FIRST_PAUSE_S << min(each.tries, 16)))
            await self._forget_one()

    async def found_nothing(self, place: Place, now: int) -> bool:
        """Look once more, then let go of it: true when it was let go of.

        Raises `StorageError`: then its look is still to be accounted for.
        """
        each = self._waiting.get(place)
        if each is None or not each.is_under_way:
            return False
        each.gone += 1
        if each.gone >= _GONE_LOOKS:
            await self.settled(place)
            return True
        self._back(place)
        self._pause(place, each, now + FIRST_PAUSE_S)
        await self._forget_one()
        return False

    # -- the end -------------------------------------------------------------------------------------------

    async def settled(self, place: Place) -> None:
        """Forget a place: it is followed, or nothing is there. Raises `StorageError`: it waits on then."""
        await self._store.drop_notice(place)
        self._remove(place)

    def is_foreign(self, address: Address, now: int) -> bool:
        """Tell whether an address was found a while ago to be no escrow."""
        return self._foreign.get(address, 0) > now

    async def settled_foreign(self, address: Address, now: int) -> None:
        """Forget all places of an address, which is no escrow, and remember that. Raises `StorageError`."""
        await self._store.drop_notices_of(address)
        for place in list(self._of.get(address, ())):
            self._remove(place)
        self._foreign[address] = now + FOREIGN_S
        self._foreign.move_to_end(address)
        if len(self._foreign) > MAX_FOREIGN:
            self._foreign.popitem(last=False)

    async def _forget_one(self) -> None:
        if len(self._looked_at) <= MAX_WAITING:
            return
        found = {place: each for place, each in self._looked_at.items() if not each.is_under_way}
        if found:
            place = max(found, key=lambda other: found[other].tries + found[other].looks)
            self._remove(place)
            with contextlib.suppress(StorageError):  # what stays there is looked at after a restart
                await self._store.drop_notice(place)

    def _remove(self, place: Place) -> None:
        each = self._waiting.pop(place, None)
        if each is None:
            return
        others = self._of[place.escrow]
        del others[place]
        if not others:
            del self._of[place.escrow]
        if each.is_under_way:
            self._turns.ended(place.escrow)
        else:
            self._turns.drop(place)
        if self._looked_at.pop(place, None) is None and place.escrow in self._new:
            self._new[place.escrow] -= 1
            self._counted -= self._new[place.escrow] < OF_ONE
            if not self._new[place.escrow]:
                del self._new[place.escrow]

    def _back(self, place: Place) -> _Waiting | None:
        """Take note that a look in turn is over; None when there was none, or the place is forgotten."""
        each = self._waiting.get(place)
        if each is None or not each.is_under_way:
            return None
        each.is_under_way = False
        self._turns.ended(place.escrow)
        return each

    def _pause(self, place: Place, each: _Waiting, until: int) -> None:
        each.tries += 1
        self._looked_at[place] = each
        heappush(self._pauses, (until, next(self._numbers), place, each))
