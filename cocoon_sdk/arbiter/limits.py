"""How often one address may ask: a bucket for each, and a bound on how many are remembered.

Owns the arithmetic, and what counts as one address. Must not know HTTP or what is asked. Whoever is forgotten
begins with a full bucket.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_ADDRESSES: Final = 10_000
_MINUTE_S: Final = 60.0


_SITE_BITS: Final = 64


def origin(remote: str | None) -> str:
    """Return what counts as one address: of IPv6 the whole /64, which one host can have to itself."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return remote or ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _SITE_BITS), strict=False))


class RateLimiter:
    """Allows `per_minute` units of work to each address, refilled evenly."""

    def __init__(self, per_minute: float, now: Callable[[], float]) -> None:
        self._per_minute, self._now = per_minute, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str, cost: float = 1.0) -> bool:
        """Take `cost` from an address's bucket; False when it does not hold so much."""
        now = self._now()
        level, at = self._buckets.pop(address, (self._per_minute, now))
        level = min(self._per_minute, level + (now - at) * self._per_minute / _MINUTE_S)
        allowed = level >= cost
        self._buckets[address] = (level - cost if allowed else level, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed
