"""The evidence of one answer, token by token, and the four numbers that it comes down to.

Owns the statistics. Must not know limits or verdicts (`thresholds`, `checking`), nor where log-probabilities
come from (`rescoring`). Two things are looked at:

* *LP*, how far the committed log-probability of a token is from the recomputed one. It shows another model,
  other weights or another prompt, whatever the sampling; it is blind to how tokens were chosen, and to a
  cheater who re-scores foreign text with the true model before committing.
* *TOK*, the regret of a token under the replayed choice: how far logits would have to move for this token to
  be the one that seed and sampling parameters ask for. It needs nothing that the worker says.

Both are in nat of raw logits. For TOK the noise is multiplied by the temperature, not the logits divided by
it: then the regret that a spread of logits explains is the same at every temperature; one limit serves all.

A log-probability hides most of such a spread where the model is sure, and shows all of it where it is not. If
all logits move independently by some sigma, it moves by sigma * sqrt((1 - p)^2 + sum of the others' p^2).
That factor is a token's *weight*. The mean of LP estimates sigma itself, which is the same for greedy and for
hot answers: it is the mean of difference / weight, where each token counts as the square root of its weight.
(Counting all alike, the tokens that show next to nothing would add their noise; counting by weight, few
tokens of a sure answer would count at all.) A difference counts from where rounding in the commitment ends.

Of each the mean and the maximum are taken: small differences everywhere show in the one, a few replaced
tokens in the other. Over three tokens, a mean would be a maximum by another name: that of TOK is taken over
`MEAN_FLOOR` tokens at least, and to that of LP `PERFECT` tokens without a difference are added, so that short
answers, which vary most, do not set the limit for long ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from cocoon_sdk.verify.commitment import LOGPROB_STEPS, MAX_STEPS, Choice
from cocoon_sdk.verify.replay import replay
from cocoon_sdk.verify.rescoring import Ids, Rescored
from cocoon_sdk.verify.sampling import Sampling

STATISTICS_VERSION: Final = 5
"""Numbers of another version cannot be compared with these, nor with limits made from them."""
MEAN_FLOOR: Final = 32
"""Fewest tokens that the mean of TOK is taken over."""
PERFECT: Final = 4.0
"""Tokens of weight 1 and no difference that are added to every answer before the mean of LP is taken."""
LEAST_WEIGHT: Final = 0.03
"""A lower weight counts as this one: below it there is little but rounding."""
ROUNDING: Final = 0.5 / LOGPROB_STEPS
"""What rounding moves a committed log-probability by at most, in nat."""
CAP: Final = 32.0
"""Nat at which a single token's deviation counts at most: beyond it all is impossible alike."""
_LEAST: Final = -MAX_STEPS / LOGPROB_STEPS


class Numbers(NamedTuple):
    """The statistics of one answer, in nat of raw logits. TOK is None where choices cannot be replayed."""

    lp_mean: float
    lp_max: float
    tok_mean: float | None
    tok_max: float | None

    def items(self) -> Iterator[tuple[str, float]]:
        """Iterate over the names and values that there are."""
        for name, value in zip(self._fields, self, strict=True):
            if value is not None:
                yield name, value


NAMES: Final = Numbers._fields
MEANS: Final = ("lp_mean", "tok_mean")


@dataclass(frozen=True, slots=True)
class TokenEvidence:
    """One output token. Log-probabilities and regret in nat; `rank` 1 is the model's best token.

    `weight` (0 to about 1.4) is how much of a spread of logits its log-probability shows.

    `regret` is None where the choice cannot be replayed; else `expected` is the token that the replay would
    have taken (of those that are known).
    """

    choice: int
    position: int
    token: int
    committed: float
    recomputed: float
    rank: int
    weight: float
    regret: float | None
    expected: int | None

    @property
    def difference(self) -> float:
        """How far the committed log-probability is from the recomputed one, in nat, at most `CAP`.

        What rounding alone explains is 0.
        """
        return min(CAP, max(0.0, abs(self.committed - self.recomputed) - ROUNDING))

    def to_json(self) -> dict[str, Any]:
        """Return all fields, rounded to what is worth reading."""
        return {
            "choice": self.choice,
            "position": self.position,
            "token": self.token,
            "committed": round(self.committed, 6),
            "recomputed": round(self.recomputed, 6),
            "rank": self.rank,
            "weight": round(self.weight, 6),
            "regret": None if self.regret is None else round(self.regret, 6),
            "expected": self.expected,
        }


@dataclass(frozen=True, slots=True)
class Replayed:
    """What is needed to replay one choice: its sampling parameters, its seed and the prompt's tokens."""

    sampling: Sampling
    seed: bytes
    prompt: Ids

    def choice(self, rescored: Rescored, position: int) -> tuple[float, int]:
        """Return the regret of the token at `position`, at most `CAP`, and the token that was expected."""
        token, logprob = int(rescored.tokens[position]), float(rescored.logprobs[position])
        there = rescored.top_tokens[position] >= 0
        tokens, logprobs = rescored.top_tokens[position][there], rescored.top_logprobs[position][there]
        # A list that is not full is the whole vocabulary.
        unlisted = float(logprobs[-1]) if there.all() else -np.inf
        if token not in tokens:
            tokens, logprobs = np.append(tokens, token), np.append(logprobs, logprob)
        done = replay(
            self.sampling,
            self.seed,
            position,
            tokens,
            np.maximum(logprobs, _LEAST),
            prompt=self.prompt,
            output=rescored.tokens[:position],
            unlisted=unlisted,
        )
        eligible = np.where(done.sure >= 0, done.scores, -np.inf)
        expected = token if not np.isfinite(eligible).any() else int(done.tokens[int(eligible.argmax())])
        regret = min(CAP, done.regret(token))
        return regret, token if regret == 0 else expected


def evidence(
    index: int, choice: Choice, rescorings: Sequence[Rescored], replayed: Replayed | None
) -> list[TokenEvidence]:
    """Return the evidence of choice `index`, one entry for each token.

    With several `rescorings` (the same prefill in different batches) the one closest to what the worker says
    counts at each token: what an honest machine's own spread explains is held against nobody.
    """
    found = []
    for position, (token, committed) in enumerate(zip(choice.tokens, choice.nats, strict=True)):
        scored = min(rescorings, key=lambda each: abs(_bounded(each, position) - committed))
        regret: float | None = None
        expected: int | None = None
        if replayed is not None:
            regret, expected = min(replayed.choice(each, position) for each in rescorings)
        found.append(
            TokenEvidence(
                choice=index,
                position=position,
                token=token,
                committed=committed,
                recomputed=_bounded(scored, position),
                rank=int(scored.ranks[position]),
                weight=_weight(scored, position),
                regret=regret,
                expected=expected,
            )
        )
    return found


def numbers(tokens: Sequence[TokenEvidence]) -> Numbers:
    """Return the statistics of an answer's tokens; all zero for an answer without any."""
    differences = [token.difference for token in tokens]
    roots = [math.sqrt(max(token.weight, LEAST_WEIGHT)) for token in tokens]
    shown = math.fsum(each / root for each, root in zip(differences, roots, strict=True))
    lp_mean = shown / (math.fsum(roots) + PERFECT)
    lp_max = max(differences, default=0.0)
    regrets = [token.regret for token in tokens if token.regret is not None]
    if len(regrets) < len(tokens):
        return Numbers(lp_mean, lp_max, None, None)
    tok_mean = math.fsum(regrets) / max(len(regrets), MEAN_FLOOR)
    return Numbers(lp_mean, lp_max, tok_mean, max(regrets, default=0.0))


def _weight(rescored: Rescored, position: int) -> float:
    own = float(np.exp(rescored.logprobs[position]))
    others = rescored.top_logprobs[position][rescored.top_tokens[position] != rescored.tokens[position]]
    return math.sqrt((1 - own) ** 2 + float(np.exp(2 * others).sum()))


def _bounded(rescored: Rescored, position: int) -> float:
    return max(float(rescored.logprobs[position]), _LEAST)
