"""The running score of a worker's missing receipts: does it lose more answers than bad luck explains?

Owns the rule and its small persistent form. Pure; must not know where answers come from, or what follows.

A worker that delivers an answer and withholds the receipt is never audited, and one broken connection looks
like another. So what counts is how often. Each part of an answer that came is one trial: it ended with its
receipt, or without. For an honest worker with a poor connection a trial fails with a probability of at most
`HONEST`, whatever came before. A *bet* on a higher rate turns each trial into a factor of mean 1 at most; the
product is ever beyond 1 / `ALPHA` with a probability of at most `ALPHA`, however long and often one looks
(`cocoon_sdk.verify.score` says more). The score is the mean over a few rates and over every trial as the
beginning of the fraud, so that nobody can save up good answers for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Self

from cocoon_sdk.errors import MalformedError

HONEST: Final = 0.05
"""Share of its answers that an honest worker on a poor connection loses, at most."""
ALPHA: Final = 0.001
"""Probability with which such a worker is ever left, at most."""
RATES: Final = (0.1, 0.25, 0.6)
"""Rates of lost receipts that are bet on, with the same stake each."""
MAX_TRIALS: Final = 1 << 40
_LOST: Final = tuple(math.log(rate / HONEST) for rate in RATES)
_KEPT: Final = tuple(math.log((1 - rate) / (1 - HONEST)) for rate in RATES)
_FLOOR: Final = -1e9  # nat; lower than any wealth that could come back
_FIELDS: Final = frozenset({"v", "trials", "lost", "wealth", "peak"})


@dataclass(frozen=True, slots=True)
class ReceiptScore:
    """What `trials` answers of one worker come to, `lost` of which came without a receipt.

    `wealth` is ln of what each bet has made of the beginnings so far, `peak` ln of the highest evidence that
    there ever was.
    """

    trials: int = 0
    lost: int = 0
    wealth: tuple[float, ...] = (-math.inf,) * len(RATES)
    peak: float = 0.0

    @property
    def over(self) -> bool:
        """Whether bad luck does not explain it any more."""
        return self.peak >= -math.log(ALPHA)

    @property
    def reason(self) -> str:
        """Why the worker is to be left, empty while it is not."""
        if not self.over:
            return ""
        counted = f"{self.lost} of {self.trials} answers came without a receipt"
        return f"{counted}: more than broken connections explain"

    def with_receipts(self, count: int) -> ReceiptScore:
        """Return the score after `count` answers in a row that ended with their receipts."""
        if count < 1:
            return self
        trials = self.trials + count
        # What would have begun within the row begins after it: a bettor may wait.
        begun = math.log(1 / (self.trials + 1) - 1 / (trials + 1))
        wealth = tuple(
            max(_FLOOR, _log_sum(before + count * gain, begun))
            for before, gain in zip(self.wealth, _KEPT, strict=True)
        )
        return ReceiptScore(trials, self.lost, wealth, self.peak)

    def without_receipt(self) -> ReceiptScore:
        """Return the score after one answer that ended without its receipt."""
        trials = self.trials + 1
        begun = -math.log(trials) - math.log(trials + 1)
        wealth = tuple(
            _log_sum(before, begun) + gain for before, gain in zip(self.wealth, _LOST, strict=True)
        )
        waiting = -math.log(trials + 1)
        evidence = math.log(math.fsum(math.exp(_log_sum(each, waiting)) for each in wealth) / len(RATES))
        return ReceiptScore(trials, self.lost + 1, wealth, max(self.peak, evidence))

    def to_json(self) -> dict[str, Any]:
        """Return the persistent form."""
        wealth = [None if each == -math.inf else each for each in self.wealth]
        return {"v": 1, "trials": self.trials, "lost": self.lost, "wealth": wealth, "peak": self.peak}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote; an empty object is a new score. Raises `MalformedError`."""
        if value == {}:
            return cls()
        if isinstance(value, dict) and value.keys() == _FIELDS and value["v"] == 1:
            trials, lost, wealth, peak = value["trials"], value["lost"], value["wealth"], value["peak"]
            if (
                type(trials) is int
                and type(lost) is int
                and 0 <= lost <= trials <= MAX_TRIALS
                and isinstance(wealth, list)
                and len(wealth) == len(RATES)
                and all(each is None or _is_log(each) for each in wealth)
                and _is_log(peak)
                and peak >= 0
            ):
                logs = tuple(-math.inf if each is None else float(each) for each in wealth)
                return cls(trials, lost, logs, float(peak))
        raise MalformedError("cannot read the score of receipts", why="it is not in the form of this version")


def _is_log(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= -_FLOOR


def _log_sum(left: float, right: float) -> float:
    high, low = max(left, right), min(left, right)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
