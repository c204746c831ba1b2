"""Requests and tokens per minute, per key: buckets that refill steadily.

Owns the arithmetic. Must not know HTTP or storage. A gateway counts on its own: several gateways on one
database each allow the full rate (money is what they share, see `budgets`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

MINUTE_S: Final = 60.0
_ROUNDING: Final = 1e-6


class Bucket:
    """Holds at most `per_minute`, refilled evenly; may go below zero for what was only known afterwards."""

    __slots__ = ("_level", "_now", "_time", "per_minute")

    def __init__(self, per_minute: int, now: Callable[[], float]) -> None:
        if per_minute < 1:
            raise ValueError("a rate limit is at least 1 a minute")
        self.per_minute, self._now = per_minute, now
        self._level, self._time = float(per_minute), now()

    def level(self) -> float:
        """Return what is left now."""
        now = self._now()
        gained = (now - self._time) * self.per_minute / MINUTE_S
        self._level, self._time = min(float(self.per_minute), self._level + gained), now
        return self._level

    def take(self, amount: float) -> None:
        """Take `amount`, whether it is there or not."""
        self._level = self.level() - amount

    def wait_s(self, amount: float = 1.0) -> int:
        """Return in how many whole seconds `amount` will be there; 0 when it is there now."""
        missing = min(amount, float(self.per_minute)) - self.level()
        return 0 if missing <= _ROUNDING else max(1, math.ceil(missing * MINUTE_S / self.per_minute))
