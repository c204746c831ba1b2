"""A clock that tests turn by hand: whoever sleeps on it wakes when enough time was let pass."""

from __future__ import annotations

import asyncio


class SteppedClock:
    """Implements `Clock`."""

    def __init__(self, start: int) -> None:
        self._now = float(start)
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> int:
        return int(self._now)

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + seconds, waiter))
        await waiter

    async def pass_by(self, seconds: float) -> None:
        """Let time pass in one go, and let everybody who woke do their work."""
        await turns()
        self._now += seconds
        due = [waiter for until, waiter in self._sleepers if until <= self._now]
        self._sleepers = [item for item in self._sleepers if item[0] > self._now]
        for waiter in due:
            if not waiter.done():
                waiter.set_result(None)
        await turns()


async def turns(count: int = 10) -> None:
    """Let the event loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)
