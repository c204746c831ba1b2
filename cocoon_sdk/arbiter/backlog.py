"""Which places have to be looked at, and when again: a retry list with back-off.

Owns order, pauses and bounds. Must not know the chain, or what is found. Whatever is wrong with one dispute
(its history cannot be read, its account is broken on purpose) costs only that one a pause.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from cocoon_sdk.arbiter.finding_store import FindingStore, Place

MAX_NEW: Final = 256
"""Places that wait for their first look, beyond which no more are taken from the markets for now."""
OF_ONE: Final = 16
"""Places of one escrow that count for that: its disputes are looked at few at a time, and others' go on."""
MOST_NEW: Final = 4096
"""Places that wait for their first look, whatever they count."""
MAX_WAITING: Final = 4096
"""Places that failed and wait to be looked at again; beyond, the one that failed most is forgotten."""
FIRST_PAUSE_S: Final = 30
MAX_PAUSE_S: Final = 1800
_GONE_LOOKS: Final = 2
"""Looks that must find nothing before a notice is: the endpoint may not have seen the dispute yet."""


@dataclass(slots=True)
class _Waiting:
    tries: int = 0
    gone: int = 0
    not_before: int = 0


class Backlog:
    """Places by the time of their next look, in unix seconds of the chain. Notices outlast a restart."""

    def __init__(self, store: FindingStore) -> None:
        self._store = store
        self._waiting: dict[Place, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether more may be taken from the markets, whose cursor then waits instead of us."""
        new = Counter(place.escrow for place, each in self._waiting.items() if not each.tries)
        return new.total() < MOST_NEW and sum(min(count, OF_ONE) for count in new.values()) < MAX_NEW

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
        """Return what is to be looked at now, those that failed least first."""
        found = [place for place, each in self._waiting.items() if each.not_before <= now]
        return sorted(found, key=lambda place: self._waiting[place].tries)

    async def failed(self, place: Place, now: int) -> None:
        """Look again later. Raises `StorageError`."""
        each = self._waiting.setdefault(place, _Waiting())
        each.not_before = now + min(MAX_PAUSE_S, FIRST_PAUSE_S << min(each.tries, 16))
        each.tries += 1
        each.gone = 0
        failed = [other for other, waiting in self._waiting.items() if waiting.tries]
        if len(failed) > MAX_WAITING:
            await self.settled(max(failed, key=lambda other: self._waiting[other].tries))

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
