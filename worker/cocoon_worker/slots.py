"""Which of the stake's locks takes a job's collateral in.

Owns the choice: a lock of the same escrow while one is there, which is cheaper; else a free slot.
Pure; must not know jobs or the journal.
"""

from __future__ import annotations

from collections.abc import Iterable

from cocoon_sdk.contracts.worker_stake import StakeLock
from cocoon_sdk.protocol import constants as c


class Slots:
    """The stake's table of locks as it was read, less the slots that were given out since."""

    def __init__(self, locks: Iterable[StakeLock]) -> None:
        taken = set()
        self._by_escrow: dict[int, int] = {}
        for lock in locks:
            taken.add(lock.slot)
            self._by_escrow[lock.escrow] = lock.number
        self._free = (slot for slot in range(1, c.MAX_LOCKS + 1) if slot not in taken)

    def choose(self, escrow: int, *, afresh: bool) -> int | None:
        """Return what `JobTarget.lock` says for a job of that escrow; None when every slot is taken.

        `afresh`: a lock that is there was tried and ended meanwhile, so a new one is better.
        """
        shared = self._by_escrow.get(escrow)
        if shared is not None and not afresh:
            return shared
        return next(self._free, shared)
