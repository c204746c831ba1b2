"""`Judge`: the seam between the decision table and whatever scores content.

Owns the protocol, and which numbers of a finding are told. Must not know evidence's way here, or amounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.receipts import SessionCase
from cocoon_sdk.protocol.disputes import MAX_FAULTS, Ground, Measure, Measured
from cocoon_sdk.verify.checking import Findings
from cocoon_sdk.verify.ladder import MILLION


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says, and what it measured; None where no number decided."""

    ground: Ground
    measured: Measured | None = None


def measured(findings: Findings) -> Measured:
    """Return a finding's numbers with their limits, and its faults by name: nothing of its content."""
    limits, numbers = findings.limits, findings.numbers
    measures = (
        ()
        if numbers is None or limits is None
        else tuple(
            Measure(
                name=name,
                value=round(value * MILLION),
                refund=limits.limits(name).refund,
                slash=limits.limits(name).slash,
            )
            for name, value in numbers.items()
        )
    )
    kinds = dict.fromkeys(fault.kind.value for fault in findings.faults)
    return Measured(measures=measures, faults=tuple(kinds)[:MAX_FAULTS])


class Judge(Protocol):
    """Scores cases; every honest arbiter's must come to the same ground."""

    async def judge(self, case: Case) -> Judgement:
        """Return `HONEST`, `SUSPECT`, `REFUND` or `SLASH`; `NOT_CHECKABLE` for what nobody could judge.

        Raises `JudgingError` when that cannot be told here and now: the arbiter tries again, or is silent.
        """
        ...

    async def judge_session(self, case: SessionCase) -> Judgement:
        """Return `HONEST`, `SUSPECT`, `SLASH`, `NO_COMMITMENT` or `NOT_CHECKABLE` for records that count.

        Raises as `judge` does.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
