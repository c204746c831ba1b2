"""Places for what strangers send us: how many at a time, how slowly, and who makes room for whom.

Owns shares and deadlines of bodies that are being read. Must not know what is in them. Nobody keeps a place
by sending slowly: a body must come at a lowest rate, and when all places are taken, whoever holds more than
one gives one up for somebody who has none, then the slowest does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from cocoon_sdk.arbiter.errors import BusyError
from cocoon_sdk.errors import MalformedError

GRACE_S: Final = 10.0
"""How long a body may take, whatever its size."""
SLOWEST: Final = 64 * 1024
"""Bytes a second that it must bring beyond that."""
SETTLED_S: Final = 5.0
"""A body that was read for less cannot be told from a slow one yet, and keeps its place."""
_HEAD: Final = 64


@dataclass(slots=True, eq=False)
class Place:
    """One body that is being read or worked on; times are the loop's, in seconds."""

    origin: str
    began: float
    size: int = 0
    complete: bool = False
    evicted: bool = False
    deadline: asyncio.Timeout | None = None

    def rate(self, now: float) -> float:
        """Return how many bytes a second came so far."""
        return self.size / max(now - self.began, 1e-6)


class Places:
    """At most `most` at a time, and `each` of one origin. `now` is the loop's clock."""

    def __init__(self, most: int, each: int, now: Callable[[], float]) -> None:
        self._most, self._each, self._now = most, each, now
        self._taken: set[Place] = set()

    @asynccontextmanager
    async def place(self, origin: str) -> AsyncIterator[Place]:
        """Take a place for as long as the block lasts. Raises `BusyError`."""
        counts = Counter(place.origin for place in self._taken)
        if counts[origin] >= self._each:
            raise BusyError("too much comes from this address at once", hint="Try again")
        if len(self._taken) >= self._most and not self._make_room(counts, counts[origin]):
            raise BusyError("too much is being delivered", hint="Try again")
        taken = Place(origin, self._now())
        self._taken.add(taken)
        try:
            yield taken
        finally:
            self._taken.discard(taken)

    async def read(
        self,
        place: Place,
        chunks: AsyncIterable[bytes],
        limit: int,
        fits: Callable[[bytes], bool] = lambda _: True,
    ) -> bytes:
        """Read a body of at most `limit` bytes whose head `fits`.

        Raises `MalformedError`, `BusyError` when another one needs the place more, and `TimeoutError` when it
        comes too slowly.
        """
        body, checked = bytearray(), False
        try:
            async with asyncio.timeout_at(place.began + GRACE_S) as place.deadline:
                async for chunk in chunks:
                    body += chunk
                    place.size = len(body)
                    if len(body) > limit:
                        raise MalformedError("the body is too large", why=f"at most {limit} bytes")
                    if not checked and len(body) >= _HEAD:
                        checked = True
                        if not fits(bytes(body[:_HEAD])):
                            raise MalformedError("the body is not in form")
                    if not place.evicted:
                        place.deadline.reschedule(place.began + GRACE_S + place.size / SLOWEST)
        except TimeoutError:
            if place.evicted:
                raise BusyError("too much is being delivered", why="others are faster") from None
            raise
        place.complete = True
        return bytes(body)

    def _make_room(self, counts: Counter[str], own: int) -> bool:
        """Take a place from somebody for an origin that holds `own` of them."""
        now = self._now()
        reading = [place for place in self._taken if not place.complete and place.deadline is not None]
        greedy = [place for place in reading if counts[place.origin] > own + 1]
        settled = [place for place in reading if now - place.began >= SETTLED_S and own == 0]
        for candidates in (greedy, settled):
            if candidates:
                slowest = min(candidates, key=lambda place: place.rate(now))
                slowest.evicted = True
                assert slowest.deadline is not None
                slowest.deadline.reschedule(now)
                self._taken.discard(slowest)
                return True
        return False
