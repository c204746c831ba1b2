"""Injectable time: the only place of the SDK that may read the wall clock.

Owns the `Clock` protocol and its two implementations. Must not know about chains: block time comes
from a `Chain`, this is the time of the machine that runs the process.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A source of unix time in whole seconds and of waiting."""

    def now(self) -> int:
        """Return unix time in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task for `seconds`."""
        ...


class SystemClock:
    """The real clock."""

    def now(self) -> int:
        """Return the machine's unix time in seconds."""
        return int(time.time())

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that moves only when told to; sleeping advances it at once (for tests)."""

    def __init__(self, start: int) -> None:
        self._now = float(start)

    def now(self) -> int:
        """Return the current manual time in seconds."""
        return int(self._now)

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        if seconds < 0:
            raise ValueError("a clock does not run backwards")
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Advance by `seconds` and yield once to other tasks."""
        self.advance(seconds)
        await asyncio.sleep(0)
