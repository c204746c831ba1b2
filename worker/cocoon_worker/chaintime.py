"""The chain's time, seen from here: what it has surely reached, and what it may have reached by now.

Owns the two estimates. Deadlines are judged by the later one, the end of waiting by the earlier one. The
machine's clock is used only for the time since the newest block was seen, so a wrong clock does no harm.
"""

from __future__ import annotations

from cocoon_sdk.chain.base import ChainHead
from cocoon_sdk.clock import Clock


class ChainTime:
    """Unix times in seconds; 0 before the first block was seen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._head = ChainHead(seqno=-1, now=0)
        self._seen_at = 0

    @property
    def seqno(self) -> int:
        """Number of the newest block that was seen."""
        return self._head.seqno

    def observe(self, head: ChainHead) -> None:
        """Take note of a block; an older one than known (a lagging endpoint) is ignored."""
        if head.seqno > self._head.seqno or (head.seqno == self._head.seqno and head.now > self._head.now):
            self._head, self._seen_at = head, self._clock.now()

    def surely(self) -> int:
        """Return the time of the newest block."""
        return self._head.now

    def maybe(self) -> int:
        """Return the newest block's time and what passed here since it was seen."""
        return self._head.now + max(0, self._clock.now() - self._seen_at)
