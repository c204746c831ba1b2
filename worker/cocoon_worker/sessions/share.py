"""Who may use the engine: jobs and sessions share `policy.max_concurrent`.

Owns the count and the queue of session requests. Must not know requests or the engine. Jobs are never kept
waiting here: they have deadlines and collateral at stake, and their start is planned elsewhere. Sessions use
what jobs leave, and at least a quarter, so that a row of jobs does not silence them.
"""

from __future__ import annotations

import asyncio
from collections import deque

from cocoon_worker.errors import WorkerError


class EngineBusyError(WorkerError):
    """Too many requests wait for the engine already, or this one waited too long."""


class EngineShare:
    """Counts what runs. `waiting` and `running` are of sessions."""

    def __init__(self, capacity: int, max_waiting: int) -> None:
        self._capacity, self._max_waiting = capacity, max_waiting
        self._jobs = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self.running = 0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def note_jobs(self, running: int) -> None:
        """Say how many jobs the engine works on now."""
        self._jobs = running
        self._let_in()

    async def take(self, timeout_s: float) -> None:
        """Wait for a place, first come first served. Raises `EngineBusyError`."""
        if not self._queue and self._free():
            self.running += 1
            return
        if len(self._queue) >= self._max_waiting:
            raise EngineBusyError("the worker is busy", why=f"{len(self._queue)} requests wait already")
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            async with asyncio.timeout(timeout_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.release()  # it was let in at the very moment
            elif place in self._queue:
                self._queue.remove(place)
            if isinstance(error, TimeoutError):
                raise EngineBusyError("the worker is busy", why=f"no place within {timeout_s:g} s") from None
            raise

    def release(self) -> None:
        """Give a place back."""
        self.running -= 1
        self._let_in()

    def _free(self) -> bool:
        return self.running < max(self._capacity - self._jobs, -(-self._capacity // 4))

    def _let_in(self) -> None:
        while self._queue and self._free():
            place = self._queue.popleft()
            if not place.done():
                self.running += 1
                place.set_result(None)
