"""How often honest answers exceed what: the ladder of one statistic, and what may be bet on it.

Owns the ladder's form, how it is made from honest values, and bets. Must not know which statistic it is, nor
what follows from a bet (`score`).

Of n honest values the probability to exceed the (r+1)-th largest again is, whatever their distribution, that
of an order statistic of n uniform numbers: Beta(r + 1, n - r), and for several r together it is known just as
exactly (H. A. David, H. N. Nagaraja, *Order Statistics*, 2003). So no distribution is assumed.

A bet pays by the *share* p of the rarest step that a value exceeds: (1 - w) + w * p^(k-1) / c. For an honest
worker its mean is at most 1 when c is at least the mean of p^(k-1), and that is a weighted sum of the steps'
probabilities. The ladder carries a bound of this sum for each k. (One bound for the sum, not the sum of a
bound for each step: they are hardly ever all unlucky together, and every bet would lose a fifth. And c, not
the 1 / k of a p that may be anything: on so few steps it would give away half of every bet.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Final, Self

import numpy as np
from pydantic import Field, model_validator

from cocoon_sdk.protocol.models import WireModel
from cocoon_sdk.verify.statistics import CAP

MILLION: Final = 1_000_000
MAX_STEPS: Final = 8
EXPONENTS: Final = (0.2, 0.4)
"""The bets' k: the lower, the more it pays for rare values."""
_SHARES: Final = (0.5, 0.25, 0.12, 0.06, 0.03, 0.01, 0.003)
"""Of honest values, which exceed the steps. Each is at most half of the one before: then no two of them come
to the same value, with `_LEAST_RANK`."""
_LEAST_RANK: Final = 2
"""Honest values that lie above a step, at least: of rarer steps too little is known to bet on them."""
_DRAWS: Final = 1 << 18
_CAUTION: Final = 4.0
"""Standard deviations by which a quantile of drawn numbers is taken further out."""

Micro = Annotated[int, Field(ge=0, le=int(CAP) * MILLION * 16)]
"""A statistic in millionths of a nat."""
Share = Annotated[int, Field(ge=1, le=MILLION)]
Mean = Annotated[int, Field(ge=MILLION, le=MILLION * MILLION)]


class Step(WireModel):
    """About `share` millionths of the worst setting's honest answers exceed `value` millionths of a nat."""

    value: Micro
    share: Share


class Ladder(WireModel):
    """Steps from common to rare; `means` are the bounds for `EXPONENTS`, in millionths."""

    steps: Annotated[tuple[Step, ...], Field(strict=False, max_length=MAX_STEPS)]
    means: Annotated[
        tuple[Mean, ...], Field(strict=False, min_length=len(EXPONENTS), max_length=len(EXPONENTS))
    ]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for lower, upper in pairwise(self.steps):
            if not (lower.value <= upper.value and lower.share > upper.share):
                raise ValueError("a ladder does not rise to rarer values")
        return self

    def share(self, value: float) -> float:
        """Return the share of the rarest step that a value (nat) exceeds; 1 for none."""
        return (
            min((step.share for step in self.steps if value * MILLION > step.value), default=MILLION)
            / MILLION
        )

    def e_value(self, value: float, bet: int, stake: float) -> float:
        """Return what bet number `bet` (of `EXPONENTS`) makes of 1 with `stake` of it at stake.

        `value` is in nat. An honest worker's mean is at most 1.
        """
        paid = math.pow(self.share(value), EXPONENTS[bet] - 1) * MILLION / self.means[bet]
        return (1 - stake) + stake * paid


def make_ladder(groups: Sequence[Sequence[float]], *, floor: float, doubt: float) -> Ladder:
    """Return the ladder of the worst of several settings, given honest values of each (nat).

    No step is below `floor`. All of it holds with probability 1 - `doubt` over the draw of the values.
    """
    falling = [sorted(group, reverse=True) for group in groups]
    smallest = min(len(group) for group in groups)
    wanted = [share for share in _SHARES if _rank(share, smallest) >= _LEAST_RANK]
    shares = tuple((_rank(share, smallest) + 1) / (smallest + 1) for share in wanted)
    ranks = [tuple(_rank(share, len(group)) for share in wanted) for group in groups]
    values = [
        max(floor, *(group[each[place]] for group, each in zip(falling, ranks, strict=True)))
        for place in range(len(wanted))
    ]
    share_of_doubt = doubt / (len(groups) * len(EXPONENTS))
    bounds = [
        _largest_means(len(group), each, shares, share_of_doubt)
        for group, each in zip(groups, ranks, strict=True)
    ]
    return Ladder(
        steps=tuple(
            Step(value=micro(value), share=math.ceil(share * MILLION))  # up: a bet pays the less
            for value, share in zip(values, shares, strict=True)
        ),
        means=tuple(math.ceil(max(each) * MILLION) for each in zip(*bounds, strict=True)),
    )


def micro(nat: float) -> int:
    """Return a statistic in millionths, rounded up."""
    return min(int(CAP) * MILLION * 16, math.ceil(nat * MILLION))


def _rank(share: float, count: int) -> int:
    """Return how many of `count` values may lie above one that this share of others exceed, in the mean."""
    return max(0, math.floor(share * (count + 1)) - 1)


@lru_cache(maxsize=64)
def _largest_means(
    count: int, ranks: tuple[int, ...], shares: tuple[float, ...], doubt: float
) -> tuple[float, ...]:
    """Return for each of `EXPONENTS` what the mean of p^(k-1) exceeds with a probability of at most `doubt`.

    Drawn, with a seed: the probabilities to exceed order statistics are sums of exponential numbers over the
    sum of all.
    """
    numbers = np.random.Generator(np.random.PCG64(20_030_725))
    rising = ranks[::-1]
    steps = np.diff((-1, *rising))
    sums = np.cumsum([numbers.gamma(float(step), size=_DRAWS) for step in steps], axis=0)
    exceeded = (sums / (sums[-1] + numbers.gamma(float(count - rising[-1]), size=_DRAWS)))[::-1]
    beyond = doubt * _DRAWS
    place = max(0, math.floor(beyond - _CAUTION * math.sqrt(beyond)) - 1)
    found = []
    for k in EXPONENTS:
        paid = [math.pow(share, k - 1) for share in (1.0, *shares)]
        means = 1 + np.diff(paid) @ exceeded
        found.append(float(np.partition(means, _DRAWS - 1 - place)[_DRAWS - 1 - place]))
    return tuple(found)
