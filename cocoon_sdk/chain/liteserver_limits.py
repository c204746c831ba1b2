"""Bounds on what is asked of liteservers, and the bucket that spaces requests.

Owns the numbers and their meaning. Pure: no sockets, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from cocoon_sdk.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds on what a pool does: times in seconds, rates for each server on its own.

    `requests_per_s` None sets no rate, and servers on this machine never have one. A request goes to
    `attempts` servers at most, one after another; a server that lied is left alone for `distrust_s`; `wait_s`
    is how long a server may take to catch up with a block that another one knows. `servers` of a longer list
    are connected to, drawn by chance.
    """

    timeout_s: float = 10.0
    connect_timeout_s: float = 5.0
    wait_s: float = 5.0
    requests_per_s: float | None = 10.0
    burst: int = 20
    concurrency: int = 16
    attempts: int = 4
    servers: int = 8
    distrust_s: int = 600
    max_answer_bytes: int = 1 << 24

    def __post_init__(self) -> None:
        numbers = [getattr(self, name) for name in self.__slots__]
        if any(number is not None and number <= 0 for number in numbers):
            raise ConfigError("liteserver settings make no sense", why="every limit must be positive")


class TokenBucket:
    """Spaces requests: `rate` a second on average, `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst, self._tokens = rate, burst, float(burst)
        self._last: float | None = None

    def reserve(self, now: float) -> float:
        """Take the next place at time `now` (any steady seconds); return the seconds to wait for it."""
        passed = 0.0 if self._last is None else max(0.0, now - self._last)
        self._last = now
        self._tokens = min(float(self._burst), self._tokens + passed * self._rate) - 1
        return max(0.0, -self._tokens / self._rate)
