"""Times and spans as people read them: UTC with seconds, and how far away.

Owns their wording. Pure; the present is always an argument, since it is the chain's, not the machine's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_LAST_SECOND: Final = 253_402_300_799  # year 9999: what a date can still say


def utc(moment: int) -> str:
    """Write a unix time, such as `2026-05-28 20:26:40 UTC`."""
    if not 0 <= moment <= _LAST_SECOND:
        return f"unix time {moment}"
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(seconds: int) -> str:
    """Write a duration with its two largest units: `1 h 5 min`, `40 s`."""
    seconds = abs(seconds)
    parts: list[str] = []
    for name, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
        if len(parts) == 2 or (parts and not count):
            break
    return " ".join(parts) or "0 s"


def relative(moment: int, now: int) -> str:
    """Write how far away a moment is: `in 5 min`, `3 h ago`, `now`."""
    if moment == now:
        return "now"
    return f"in {span(moment - now)}" if moment > now else f"{span(now - moment)} ago"


def when(moment: int, now: int) -> str:
    """Write a moment both ways: `2026-05-28 20:26:40 UTC (in 5 min)`."""
    return f"{utc(moment)} ({relative(moment, now)})"
