"""`Judge`: the seam between the decision table and whatever scores content.

Owns the protocol. Must not know evidence's way here, or amounts.
"""

from __future__ import annotations

from typing import Protocol

from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.receipts import SessionCase
from cocoon_sdk.protocol.disputes import Ground


class Judge(Protocol):
    """Scores cases; every honest arbiter's must come to the same ground."""

    async def judge(self, case: Case) -> Ground:
        """Return `HONEST`, `SUSPECT`, `REFUND` or `SLASH`; `NOT_CHECKABLE` for what nobody could judge.

        Raises `JudgingError` when that cannot be told here and now: the arbiter tries again, or is silent.
        """
        ...

    async def judge_session(self, case: SessionCase) -> Ground:
        """Return `HONEST`, `SUSPECT`, `SLASH`, `NO_COMMITMENT` or `NOT_CHECKABLE` for records that count.

        Raises as `judge` does.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
