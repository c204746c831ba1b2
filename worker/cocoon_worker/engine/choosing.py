"""One token chosen from one row of logits, on a CPU: penalties, temperature, min-p, top-k, top-p, noise.

Owns the choosing side of `cocoon_sdk.verify.replay`, in NumPy and made for speed: no row is sorted, and noise
is computed exactly only where it can decide. Must not know vLLM. The order is that of
`cocoon_sdk.verify.sampling`; everything is in nat of raw logits, noise times temperature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from cocoon_sdk.verify.noise import NOISE_UNIT, cells, least_word, owners, row_key, table, words
from cocoon_sdk.verify.sampling import MILLION, Sampling

Logits = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]

# In nat at temperature 1:
_NEAR: Final = 4.0  # how far below the best a token gets its noise at once
_DEEP: Final = 14.0  # noise that only one word in a million gives
_FIRST_DEPTH: Final = 3.0  # where top-p looks first


def choose(
    row: Logits,
    sampling: Sampling,
    seed: bytes,
    position: int,
    *,
    prompt: Sequence[int],
    output: Sequence[int],
) -> int | None:
    """Return the token that these parameters and this seed choose at one output position.

    `output` are the tokens before it. `row` is not changed. None where no token has a finite logit.
    """
    row = _penalised(row, sampling, prompt, output)
    best = float(row.max())
    if not math.isfinite(best):
        return None
    scale = sampling.temperature / MILLION
    floor = _floor(row, best, sampling, scale)
    first, second = row_key(seed, position)

    # The few likely tokens first: their best score says how much noise all others need.
    near = best - _NEAR * scale
    token, score = _best(row, np.flatnonzero(row >= max(floor, near)), scale, first, second)
    for others in _contenders(row, floor, near, score, scale, first, second):
        if others.size:
            other, lead = _best(row, others, scale, first, second)
            if lead > score:
                token, score = other, lead
    return token


def _contenders(
    row: Logits, floor: float, near: float, score: float, scale: float, first: int, second: int
) -> Iterator[Tokens]:
    """Yield the tokens below `near` that may have noise enough for more than `score`, and few others."""
    deep = score - _DEEP * scale
    if max(floor, deep) < near:
        tokens = np.flatnonzero((row >= max(floor, deep)) & (row < near))
        yield tokens[words(tokens, first, second) >= least_word((score - near) / scale / NOISE_UNIT)]
    if floor < deep:
        # What is needed here so few words give that asking whose they are beats asking every token.
        tokens = owners(_largest_words(), first, second)
        tokens = tokens[tokens < row.size]
        yield tokens[(row[tokens] < deep) & (row[tokens] >= floor)]


def _best(row: Logits, tokens: Tokens, scale: float, first: int, second: int) -> tuple[int, float]:
    noise = table()[cells(words(tokens, first, second))]
    scores = row[tokens].astype(np.float64) + noise * (NOISE_UNIT * scale)
    winner = int(scores.argmax())
    return int(tokens[winner]), float(scores[winner])


@cache
def _largest_words() -> npt.NDArray[np.uint32]:
    return np.arange(least_word(_DEEP / NOISE_UNIT), 1 << 32, dtype=np.uint32)


def _penalised(row: Logits, sampling: Sampling, prompt: Sequence[int], output: Sequence[int]) -> Logits:
    repetition = sampling.repetition_penalty / MILLION
    presence, frequency = sampling.presence_penalty / MILLION, sampling.frequency_penalty / MILLION
    if repetition != 1:
        row = row.copy()
        seen = _within(np.unique(np.array([*prompt, *output], dtype=np.int64)), row.size)
        row[seen] = np.where(row[seen] > 0, row[seen] / repetition, row[seen] * repetition)
    if output and (presence != 0 or frequency != 0):
        row = row.copy()
        seen, counts = np.unique(np.array(output, dtype=np.int64), return_counts=True)
        row[seen] -= (presence + frequency * counts).astype(np.float32)
    return row


def _within(tokens: Tokens, size: int) -> Tokens:
    """Leave out placeholders for images and the like, which stand in prompts beyond the vocabulary."""
    return tokens[(tokens >= 0) & (tokens < size)]


def _floor(row: Logits, best: float, sampling: Sampling, scale: float) -> float:
    """Return the lowest logit that min-p, top-k and top-p, in this order, let take part."""
    floor = -math.inf
    if sampling.min_p:
        floor = best + scale * math.log(sampling.min_p / MILLION)
    if 0 < sampling.top_k < row.size:
        floor = max(floor, float(np.partition(row, row.size - sampling.top_k)[row.size - sampling.top_k]))
    if sampling.top_p < MILLION:
        floor = max(floor, _top_p_floor(row, best, floor, sampling.top_p / MILLION, scale))
    return floor


def _top_p_floor(row: Logits, best: float, floor: float, share: float, scale: float) -> float:
    kept = row if floor == -math.inf else row[row >= floor]
    weights = np.exp((kept - np.float32(best)) / np.float32(scale))
    wanted = share * float(weights.sum(dtype=np.float64))
    depth = _FIRST_DEPTH * scale
    while True:
        # Sorted are only as many of the likely tokens as hold the share.
        likely = kept >= best - depth
        held = weights[likely]
        if float(held.sum(dtype=np.float64)) >= wanted or held.size == kept.size:
            falling = np.sort(kept[likely])[::-1].astype(np.float64)
            before = np.cumsum(np.exp((falling - best) / scale))
            return float(falling[np.searchsorted(before, wanted, side="left").clip(0, falling.size - 1)])
        depth *= 2
