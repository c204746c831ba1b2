"""`Judge`: the seam between the decision table and whatever scores content.

Owns the protocol. Must not know evidence's way here, or amounts.
"""

from __future__ import annotations

from typing import Protocol

from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.protocol.disputes import Ground


class Judge(Protocol):
    """Scores one case; every honest arbiter's must come to the same ground."""

    async def judge(self, case: Case) -> Ground:
        """Return `HONEST`, `SUSPECT`, `REFUND` or `SLASH`; `NOT_CHECKABLE` for what nobody could judge.

        Raises `JudgingError` when that cannot be told here and now: the arbiter tries again, or is silent.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
