"""A bounded line of work beside the answers: a few at once, some waiting, the rest turned away.

Owns the bounds. Must not know what is done, and never keeps whoever brings work waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

log: Final = logging.getLogger("cocoon.audits")

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class AuditLine:
    """At most `at_once` pieces of work under way and `waiting` in line. Used from one event loop."""

    def __init__(self, waiting: int, at_once: int) -> None:
        self._most_waiting, self._at_once = waiting, at_once
        self._line: deque[Work] = deque()
        self._hands: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def length(self) -> int:
        """How many pieces are under way or waiting."""
        return len(self._line) + len(self._hands)

    def offer(self, work: Work) -> bool:
        """Have something done soon; False when there is no room for it."""
        if self._closed:
            return False
        if len(self._hands) < self._at_once:
            hand = asyncio.get_running_loop().create_task(self._do(work), name="cocoon audit")
            self._hands.add(hand)
            hand.add_done_callback(self._hands.discard)
            return True
        if len(self._line) >= self._most_waiting:
            return False
        self._line.append(work)
        return True

    async def _do(self, work: Work) -> None:
        while True:
            try:
                await work()
            except Exception:  # one that goes wrong must not end the others
                log.exception("an audit failed")
            if not self._line:
                return
            work = self._line.popleft()

    async def drain(self, seconds: float) -> bool:
        """Wait until all is done, at most so long; tell whether it is."""
        if self._hands:
            await asyncio.wait(self._hands, timeout=seconds)
        return not self._hands

    async def close(self) -> None:
        """Take nothing more, forget what waits and stop what is under way."""
        self._closed = True
        self._line.clear()
        for hand in self._hands:
            hand.cancel()
        await asyncio.gather(*self._hands, return_exceptions=True)
