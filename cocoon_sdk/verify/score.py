"""The running score of a worker: evidence over many audits, valid whenever one looks at it.

Owns the score's rule and its small persistent form. Pure; must not know where audits come from, or what
follows when a worker is over the line.

A single answer hides light cheating, such as 8-bit weights sold as 16-bit ones: its numbers are those of an
honest answer on a bad day. Many such days in a row are not. For every audited answer and each statistic a
*bet* on the calibrated ladder (`ladder`) gives an e-value, a number whose mean is at most 1 for every honest
worker. The product of e-values is what a gambler has made of 1 by betting against honesty. For an honest
worker its mean stays at most 1 for ever, so by Ville's inequality it ever reaches 1 / alpha with a
probability of at most alpha, no matter how long and how often one looks; with fixed-sample tests, watching
long enough accuses everybody.

Nobody knows which statistic will show the cheat, how strongly, and since when. So the score is a weighted
mean over the statistics, over two bets, and over every audit as the beginning of the cheat: 1/(t(t+1)) for
the t-th, so that a worker who was honest a thousand times starts to be suspected without delay. A mean of
such processes is one itself. What is not seen in an answer (TOK where choices cannot be replayed) does not
change its processes.

The other uncertainty is the ladder's: it was made from honest checks, and holds with probability
1 - `thresholds.LADDER_DOUBT`. So an honest worker is ever accused with a probability of at most `ALPHA` plus
that, as long as its machine is like one of those in the calibration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Self

from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.verify.statistics import NAMES, Numbers
from cocoon_sdk.verify.thresholds import KindThresholds

ALPHA: Final = 0.001
"""Probability with which an honest worker is ever accused, at most, given a right ladder."""
BETS: Final = ((1.0, 0.9), (0.5, 0.1))
"""For each of `EXPONENTS` the stake and the weight: everything against who always cheats, half against who
sometimes does."""
SHARES: Final = {"lp_mean": 0.6, "lp_max": 0.05, "tok_mean": 0.3, "tok_max": 0.05}
"""Weights of the statistics: light cheats show in the means."""
MAX_AUDITS: Final = 1 << 40
_FIELDS: Final = frozenset({"v", "audits", "wealth", "peak"})
_FLOOR: Final = -1e9  # nat; lower than any wealth that could come back


@dataclass(frozen=True, slots=True)
class Score:
    """What `audits` audits of one worker and model come to. Make it with `Score()`, go on with `observe`.

    `wealth` holds ln of what each bet on each statistic has made of the beginnings so far; `peak` is ln of
    the highest evidence that there ever was: it decides, because who was over the line stays accused.
    """

    audits: int = 0
    wealth: tuple[float, ...] = (-math.inf,) * (len(NAMES) * len(BETS))
    peak: float = 0.0

    @property
    def evidence(self) -> float:
        """Natural logarithm of the evidence against the worker now; 0 at first, below it speaks for it."""
        # Beginnings that have not come yet hold 1 / (audits + 1) of all weight, each with the stake of 1.
        waiting = -math.log(self.audits + 1)
        logs = [
            math.log(SHARES[NAMES[index // len(BETS)]] * BETS[index % len(BETS)][1]) + _log_sum(each, waiting)
            for index, each in enumerate(self.wealth)
        ]
        high = max(logs)
        return high + math.log(math.fsum(math.exp(each - high) for each in logs))

    def accused(self, alpha: float = ALPHA) -> bool:
        """Tell whether the line for this error probability was ever crossed. Raises `ConfigError`."""
        if not 0 < alpha < 1:
            raise ConfigError("cannot judge the score", why="alpha is not between 0 and 1")
        return self.peak >= -math.log(alpha)

    def to_json(self) -> dict[str, Any]:
        """Return the persistent form."""
        wealth = [None if each == -math.inf else each for each in self.wealth]
        return {"v": 1, "audits": self.audits, "wealth": wealth, "peak": self.peak}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote; an empty object is a new score. Raises `MalformedError`."""
        if value == {}:
            return cls()
        if isinstance(value, dict) and value.keys() == _FIELDS and value["v"] == 1:
            audits, wealth, peak = value["audits"], value["wealth"], value["peak"]
            if (
                type(audits) is int
                and 0 <= audits <= MAX_AUDITS
                and isinstance(wealth, list)
                and len(wealth) == len(NAMES) * len(BETS)
                and all(each is None or _is_log(each) for each in wealth)
                and _is_log(peak)
                and peak >= 0
            ):
                logs = tuple(-math.inf if each is None else float(each) for each in wealth)
                return cls(audits, logs, float(peak))
        raise MalformedError("cannot read the worker's score", why="it is not in the form of this version")


def observe(score: Score, numbers: Numbers, thresholds: KindThresholds) -> Score:
    """Return the score after one more audit. The answer must not have been chosen by what it looks like."""
    audits = score.audits + 1
    begin = -math.log(audits) - math.log(audits + 1)
    seen = dict(numbers.items())
    wealth = []
    for index, before in enumerate(score.wealth):
        name, bet = NAMES[index // len(BETS)], index % len(BETS)
        gain = 0.0
        if name in seen:
            gain = math.log(thresholds.limits(name).ladder.e_value(seen[name], bet, BETS[bet][0]))
        wealth.append(max(_FLOOR, _log_sum(before, begin) + gain))
    after = Score(audits, tuple(wealth), score.peak)
    return Score(audits, after.wealth, max(score.peak, after.evidence))


def _is_log(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= -_FLOOR


def _log_sum(left: float, right: float) -> float:
    high, low = max(left, right), min(left, right)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
