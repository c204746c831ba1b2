"""A choice of an engine done again: was this token the one that seed, parameters and logits ask for?

Owns the replay and its measure. Must not know models, transports or where log-probabilities come from.
Everything is in nat of raw logits: the noise times the temperature, not the logits divided by it.

A replay is not exact: the same model gives logits that differ a little between machines and batches. So a
choice has a *regret*: how far logits must move against one another for the choice to be right. An honest one
is mostly 0 and else as small as that spread, also where a token stands at the edge of a cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cocoon_sdk.verify.noise import NOISE_UNIT, gumbel
from cocoon_sdk.verify.sampling import MILLION, Sampling

MAX_VOCABULARY: Final = 1 << 20

Tokens = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """One choice done again: for every listed token its score, and whether a cut lets it take part.

    `scores` are logits after penalties plus noise, in nat of raw logits, without the cuts. `sure` says by
    how many nat a token is kept (negative: cut) if everything unknown stands against it, `possible` if it
    all stands for it; both are infinite where nothing cuts.
    """

    tokens: Tokens
    scores: Numbers
    sure: Numbers
    possible: Numbers

    def regret(self, chosen: int) -> float:
        """Return how far logits must move against one another, in nat, for this choice to be right.

        0 for the expected choice. What cannot be decided from the listed tokens counts for the chooser.
        Raises `ValueError` where the chosen token is not listed.
        """
        at = np.flatnonzero(self.tokens == chosen)
        if at.size != 1:
            raise ValueError(f"token {chosen} is not among the listed ones")
        own = self.scores[at[0]]
        if not np.isfinite(own):
            return math.inf
        # A better token stands in the way as long as neither its lead nor its place in the cuts is lost.
        ahead = float(np.minimum(self.scores - own, self.sure).max())
        return max(0.0, ahead, -float(self.possible[at[0]]))


def replay(
    sampling: Sampling,
    seed: bytes,
    position: int,
    tokens: Tokens,
    logprobs: Numbers,
    *,
    prompt: Tokens,
    output: Tokens,
    unlisted: float = -math.inf,
    vocabulary: int = MAX_VOCABULARY,
) -> Replay:
    """Do the choice at one output position again, from the raw log-probabilities of these tokens.

    `output` are the tokens before this position. `unlisted` is the largest raw log-probability that a token
    outside the list may have (the smallest of a top 20; minus infinity: none is missing), `vocabulary` how
    many tokens there are at most. Raises `ValueError` for lists that do not fit together and for a
    repetition penalty on less than everything: it needs raw logits (which may be given) of all tokens.
    """
    if tokens.ndim != 1 or tokens.shape != logprobs.shape or not tokens.size:
        raise ValueError("tokens and log-probabilities must be two lists of one length, not empty")
    if np.unique(tokens).size != tokens.size:
        raise ValueError("a token is listed twice")
    partial = unlisted > -math.inf
    logits = logprobs.astype(np.float64)
    if sampling.repetition_penalty != MILLION:
        if partial:
            raise ValueError("a repetition penalty cannot be replayed from some log-probabilities")
        factor = sampling.repetition_penalty / MILLION
        repeated = np.where(logits > 0, logits / factor, logits * factor)
        logits = np.where(np.isin(tokens, np.concatenate([prompt, output])), repeated, logits)
    shift, lowest, highest = _penalties(sampling, tokens, output)
    logits = logits - shift
    if sampling.greedy:
        free = np.full(logits.shape, math.inf)
        return Replay(tokens, logits, free, free)
    scale = sampling.temperature / MILLION
    row = _Row(logits, scale, ceiling=unlisted - lowest)
    row.cut_min_p(sampling.min_p / MILLION)
    row.cut_top_k(sampling.top_k)
    if sampling.top_p < MILLION:
        rest = (-math.inf, -math.inf)
        if partial:
            missing = vocabulary - tokens.size
            mass = 1.0 - float(np.exp(logprobs).sum())
            low, high = _rest(mass, unlisted, missing, scale)
            rest = (low - highest / scale, high - lowest / scale)
        row.cut_top_p(sampling.top_p / MILLION, rest, sampling.top_k)
    noise = gumbel(seed, position, tokens) * (NOISE_UNIT * scale)
    return Replay(tokens, logits + noise, row.sure, row.possible)


def _penalties(sampling: Sampling, tokens: Tokens, output: Tokens) -> tuple[Numbers, float, float]:
    """Return frequency and presence penalties, and the least and most for a token that is not listed."""
    presence, frequency = sampling.presence_penalty / MILLION, sampling.frequency_penalty / MILLION
    if not output.size or (presence == 0 and frequency == 0):
        return np.zeros(tokens.shape), 0.0, 0.0
    seen, counts = np.unique(output, return_counts=True)
    amounts = presence + frequency * counts
    places = np.minimum(np.searchsorted(seen, tokens), seen.size - 1)
    listed = np.where(seen[places] == tokens, amounts[places], 0.0)
    others = amounts[~np.isin(seen, tokens)]
    return listed, float(min(0.0, others.min(initial=0.0))), float(max(0.0, others.max(initial=0.0)))


def _rest(mass: float, each: float, count: int, scale: float) -> tuple[float, float]:
    """Bound ln of the sum of p^(1/scale) over `count` p that sum to `mass`, none above e^`each`."""
    if mass <= 0 or count <= 0:
        return -math.inf, -math.inf
    few = math.log(mass) + each * (1 / scale - 1)  # as concentrated as their bound allows
    many = math.log(count) * (1 - 1 / scale) + math.log(mass) / scale  # all alike
    return min(few, many), max(few, many)


class _Row:
    """Cuts of one row of logits, one after the other; each leaves the bounds `sure` and `possible`."""

    def __init__(self, logits: Numbers, scale: float, *, ceiling: float) -> None:
        self.logits, self.scale = logits, scale
        self.ceiling = ceiling  # no unlisted token's logit is above it
        self.sure = np.full(logits.shape, math.inf)
        self.possible = np.full(logits.shape, math.inf)
        self.whole = True  # nothing is cut yet
        self.floor = -math.inf  # every token below it is cut
        self.falling = np.sort(logits)[::-1]

    def _bound(self, sure: Numbers, possible: Numbers) -> None:
        self.sure, self.possible = np.minimum(self.sure, sure), np.minimum(self.possible, possible)
        self.whole = False

    def cut_min_p(self, share: float) -> None:
        if share == 0:
            return
        depth = self.scale * math.log(share)
        best = float(self.falling[0])
        self.floor = best + depth
        self._bound(self.logits - (max(best, self.ceiling) + depth), self.logits - self.floor)

    def cut_top_k(self, count: int) -> None:
        size = self.falling.size
        if count == 0 or (count >= size and self.ceiling == -math.inf):
            return
        last = float(self.falling[count - 1]) if count <= size else -math.inf
        after = float(self.falling[count]) if count < size else -math.inf
        highest_last, highest_after = max(last, self.ceiling), max(after, self.ceiling)
        self.floor = max(self.floor, last)
        self._bound(
            self.logits - np.where(self.logits >= highest_last, highest_after, highest_last),
            self.logits - np.where(self.logits >= last, after, last),
        )

    def cut_top_p(self, share: float, rest: tuple[float, float], top_k: int) -> None:
        """Cut what follows the first tokens that hold `share`; `rest` bounds ln of what is not listed."""
        reference = float(self.falling[0]) / self.scale
        low, high = rest
        if not self.whole:
            low = -math.inf
            if self.ceiling < self.floor:
                high = -math.inf
            elif top_k:
                above = int((self.logits >= self.ceiling).sum())
                most = math.log(top_k - above) if top_k > above else -math.inf
                high = min(high, most + self.ceiling / self.scale)
        least, most = _exp(low - reference), _exp(high - reference)

        order = np.argsort(-self.logits, kind="stable")
        falling = self.logits[order]
        weights = np.exp(falling / self.scale - reference)
        certain = np.concatenate([[0.0], np.cumsum(weights * (self.sure[order] >= 0))])
        likely = np.concatenate([[0.0], np.cumsum(weights * (self.possible[order] >= 0))])
        first = np.searchsorted(-falling, -falling, side="left")  # how many are better than each
        better = likely[first] + np.where(falling < self.ceiling, most, 0.0)
        sure = self.scale * (_log_odds(share) - _log_odds_of(better, certain[-1] + least))
        possible = self.scale * (_log_odds(share) - _log_odds_of(certain[first], likely[-1] + most))

        # A token also changes sides by passing the nearest one on the other side. Of those that are not
        # listed any may be cut, and as good as the last that is.
        kept, doubtful = falling[possible >= 0], falling[sure < 0]
        nearest_cut = max(float(doubtful[0]) if doubtful.size else -math.inf, self.ceiling)
        sure = np.where(sure >= 0, np.minimum(sure, np.maximum(falling - nearest_cut, 0.0)), sure)
        possible = np.where(possible < 0, np.maximum(possible, falling - kept[-1]), possible)
        back = np.empty_like(order)
        back[order] = np.arange(order.size)
        self._bound(sure[back], possible[back])


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))


def _log_odds_of(part: Numbers, whole: float) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(part < whole, np.log(part / (whole - part)), math.inf)
