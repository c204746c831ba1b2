"""When what is due in a dispute (docs/arbiter.md). Pure; unix seconds of the chain.

Owns the deadlines and the rounds in which evidence travels between arbiters. Must not know evidence or votes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PERIODS: Final = 48
"""An arbitration timeout has so many periods; evidence that is forwarded may take one for each receipt."""
MARGIN_PERIODS: Final = 1
"""A verdict that is handed in later than so long before the end may come too late."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """The deadlines of one dispute under its own parameters; `tolerated` is n - k."""

    disputed_at: int
    evidence_s: int
    arbitration_s: int
    tolerated: int

    @property
    def evidence_until(self) -> int:
        """Last second in which parties bring evidence."""
        return self.disputed_at + self.evidence_s

    @property
    def period_s(self) -> int:
        """Time that evidence has from one arbiter to another."""
        return self.arbitration_s // PERIODS

    @property
    def last_round(self) -> int:
        """Number of receipts beyond which nobody waits: one of so many arbiters is honest."""
        return self.tolerated + 1

    @property
    def evidence_closed_at(self) -> int:
        """First second in which the evidence is what it is."""
        return self.evidence_until + self.last_round * self.period_s + 1

    @property
    def commit_until(self) -> int:
        """Votes are opened at the latest then."""
        return self.evidence_until + self.arbitration_s // 2

    @property
    def median_from(self) -> int:
        """From then on votes that differ are settled by their median."""
        return self.evidence_until + self.arbitration_s * 3 // 4

    @property
    def ends_at(self) -> int:
        """First second in which the escrow takes no verdict any more."""
        return self.evidence_until + self.arbitration_s

    def receipts_needed(self, now: int) -> int | None:
        """Return how many arbiters must have held evidence that comes now; None when it is too late."""
        beyond = now - self.evidence_until
        if beyond <= 0:
            return 0
        needed = -(-beyond // self.period_s)
        return needed if needed <= self.last_round else None
