"""Which places have to be looked at, and when again: turns for each escrow, and a retry list with back-off.

Owns order, pauses and bounds. Must not know the chain, or what is found. Whatever is wrong with one dispute
(its history cannot be read, its account is broken on purpose) costs only that one a pause; and whoever has a
history that takes many looks has them one by one, in turns with everybody else.

The order. Every second look is for an escrow that was never looked at, in the order of arrival; every other
one for the escrow whose last look is longest ago. Where one kind has none, the other one has its turn.
So among `n` escrows that wait each has its next look within `2 n` looks, and one that is new waits for two
looks for each that is new and came before it: however many disputes others open, and however long their
histories are.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.arbiter.finding_store import FindingStore, Place

MAX_NEW: Final = 256
"""Places of escrows never looked at, beyond which no more are taken from the markets for now."""
OF_ONE: Final = 16
"""Places of one escrow that count for that: its disputes are looked at few at a time, and others' go on. Once
it was looked at none does: then its places wait for each other, and no other escrow's wait for them."""
MOST_NEW: Final = 16_384
"""Places that wait for their first look, whatever they count."""
MAX_WAITING: Final = 4096
"""Places that were looked at and wait for the next look; beyond, who took most looks is forgotten."""
MAX_ESCROWS: Final = 16_384
"""Escrows whose last look is remembered: more than can wait."""
FIRST_PAUSE_S: Final = 30
MAX_PAUSE_S: Final = 1800
_GONE_LOOKS: Final = 2
"""Looks that must find nothing before a notice is: the endpoint may not have seen the dispute yet."""


@dataclass(slots=True)
class _Waiting:
    tries: int = 0
    gone: int = 0
    not_before: int = 0
    looks: int = 0
    """How many ended before everything was read."""

    @property
    def is_new(self) -> bool:
        return not self.tries and not self.looks


class Backlog:
    """Places by the time of their next look, in unix seconds of the chain. Notices outlast a restart."""

    def __init__(self, store: FindingStore) -> None:
        self._store = store
        self._waiting: dict[Place, _Waiting] = {}
        self._last: OrderedDict[Address, None] = OrderedDict()
        self._new_ones_turn = True

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether more may be taken from the markets, whose cursor then waits instead of us."""
        new = Counter(place.escrow for place, each in self._waiting.items() if each.is_new)
        counted = sum(min(count, OF_ONE) for escrow, count in new.items() if escrow not in self._last)
        return new.total() < MOST_NEW and counted < MAX_NEW

    async def load(self) -> None:
        """Go on with the notices from before a restart. Raises `StorageError`."""
        for place in await self._store.notices():
            self.put(place)

    async def add(self, place: Place, now: int) -> None:
        """Keep a notice until it is settled. Raises `StorageError`: then the notice is read again."""
        await self._store.add_notice(place, now)
        self.put(place)

    def put(self, place: Place) -> None:
        """Look at a place soon; one that waits already keeps its time."""
        self._waiting.setdefault(place, _Waiting())

    def due(self, now: int) -> list[Place]:
        """Return what is to be looked at now, in the order of turns.

        Of one escrow what was begun comes first, then what failed least.
        """
        last = {escrow: at for at, escrow in enumerate(self._last)}
        found = [place for place, each in self._waiting.items() if each.not_before <= now]
        found.sort(key=lambda place: (not self._waiting[place].looks, self._waiting[place].tries))
        place_in_escrow: Counter[Address] = Counter()
        new: list[tuple[int, Place]] = []
        known: list[tuple[int, int, Place]] = []
        for place in found:
            rank = place_in_escrow[place.escrow]
            place_in_escrow[place.escrow] += 1
            if place.escrow in last:
                known.append((rank, last[place.escrow], place))
            else:
                new.append((rank, place))
        in_turn = [
            [place for *_, place in sorted(new, key=lambda each: each[0])],
            [place for *_, place in sorted(known, key=lambda each: each[:2])],
        ]
        if not self._new_ones_turn:
            in_turn.reverse()
        return [place for place in chain.from_iterable(zip_longest(*in_turn)) if place is not None]

    def looked(self, place: Place) -> None:
        """Note that a place has its look: its escrow's next one comes after everybody else's."""
        self._new_ones_turn = place.escrow in self._last
        self._last[place.escrow] = None
        self._last.move_to_end(place.escrow)
        if len(self._last) > MAX_ESCROWS:
            self._last.popitem(last=False)

    def is_begun(self, place: Place) -> bool:
        """Tell whether a look at a place ended unfinished, so that its next one will come."""
        each = self._waiting.get(place)
        return each is not None and each.looks > 0

    async def unfinished(self, place: Place) -> None:
        """Go on with a place when its escrow has its next turn. Raises `StorageError`."""
        each = self._waiting.setdefault(place, _Waiting())
        each.looks += 1
        each.tries = each.gone = each.not_before = 0
        await self._forget_one()

    async def failed(self, place: Place, now: int) -> None:
        """Look again later. Raises `StorageError`."""
        each = self._waiting.setdefault(place, _Waiting())
        each.not_before = now + min(MAX_PAUSE_S, FIRST_PAUSE_S << min(each.tries, 16))
        each.tries += 1
        each.gone = 0
        await self._forget_one()

    async def _forget_one(self) -> None:
        looked_at = {place: each for place, each in self._waiting.items() if not each.is_new}
        if len(looked_at) > MAX_WAITING:
            await self.settled(
                max(looked_at, key=lambda other: looked_at[other].tries + looked_at[other].looks)
            )

    async def found_nothing(self, place: Place, now: int) -> None:
        """Look once more, then let go of it. Raises `StorageError`."""
        each = self._waiting.setdefault(place, _Waiting())
        each.gone += 1
        each.tries += 1
        each.not_before = now + FIRST_PAUSE_S
        if each.gone >= _GONE_LOOKS:
            await self.settled(place)

    async def settled(self, place: Place) -> None:
        """Forget a place: it is followed, or nothing is there. Raises `StorageError`."""
        self._waiting.pop(place, None)
        await self._store.drop_notice(place)
