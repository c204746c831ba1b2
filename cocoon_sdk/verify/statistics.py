"""The evidence of one answer, token by token, and the four numbers that it comes down to.

Owns the statistics. Must not know limits or verdicts (`thresholds`, `checking`), nor where log-probabilities
come from (`rescoring`). Two things are looked at:

* *LP*, how far the committed log-probability of a token is from the recomputed one. It shows another model,
  other weights or another prompt, whatever the sampling; it is blind to how tokens were chosen, and to a
  cheater who re-scores foreign text with the true model before committing.
* *TOK*, the regret of a token under the replayed choice: how far logits would have to move for this token to
  be the one that seed and sampling parameters ask for. It needs nothing that the worker says.

Both are in nat of raw logits, so that one limit serves all temperatures. Of each the mean and the maximum
are taken: small differences everywhere show in the one, a few replaced tokens in the other. The mean is
taken over at least `MEAN_FLOOR` tokens: over three, it would be a maximum by another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from cocoon_sdk.verify.commitment import LOGPROB_STEPS, MAX_STEPS, Choice
from cocoon_sdk.verify.replay import replay
from cocoon_sdk.verify.rescoring import Ids, Rescored
from cocoon_sdk.verify.sampling import Sampling

MEAN_FLOOR: Final = 32
CAP: Final = 32.0
"""Nat at which a single token's deviation counts at most: beyond it all is impossible alike."""
_LEAST: Final = -MAX_STEPS / LOGPROB_STEPS


class Numbers(NamedTuple):
    """The statistics of one answer, in nat. TOK is None where the choices cannot be replayed."""

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


@dataclass(frozen=True, slots=True)
class TokenEvidence:
    """One output token. Log-probabilities and regret in nat; `rank` 1 is the model's best token.

    `regret` is None where the choice cannot be replayed; else `expected` is the token that the replay would
    have taken (of those that are known).
    """

    choice: int
    position: int
    token: int
    committed: float
    recomputed: float
    rank: int
    regret: float | None
    expected: int | None

    @property
    def difference(self) -> float:
        """How far the committed log-probability is from the recomputed one, in nat, at most `CAP`."""
        return min(CAP, abs(self.committed - self.recomputed))

    def to_json(self) -> dict[str, Any]:
        """Return all fields, rounded to what is worth reading."""
        return {
            "choice": self.choice,
            "position": self.position,
            "token": self.token,
            "committed": round(self.committed, 6),
            "recomputed": round(self.recomputed, 6),
            "rank": self.rank,
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
                regret=regret,
                expected=expected,
            )
        )
    return found


def numbers(tokens: Sequence[TokenEvidence]) -> Numbers:
    """Return the statistics of an answer's tokens; all zero for an answer without any."""
    differences = np.array([token.difference for token in tokens])
    regrets = [token.regret for token in tokens]
    known = np.array([regret for regret in regrets if regret is not None])
    lp = _mean_and_max(differences)
    if len(known) < len(regrets):
        return Numbers(*lp, None, None)
    return Numbers(*lp, *_mean_and_max(known))


def _mean_and_max(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    if not values.size:
        return 0.0, 0.0
    return float(values.sum()) / max(values.size, MEAN_FLOOR), float(values.max())


def _bounded(rescored: Rescored, position: int) -> float:
    return max(float(rescored.logprobs[position]), _LEAST)
