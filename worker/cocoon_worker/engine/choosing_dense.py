"""Tokens chosen for a batch of rows, on any device that torch has: `choosing` without branches.

Owns the rendering for accelerators, where reading a value back stops the pipeline and computing noise that
decides nothing costs little. Integers are 32 bits wide and wrap; torch's right shift keeps the sign, so every
shift is masked. Must not know requests. Needs torch.
"""

from __future__ import annotations

from typing import Final

import torch

from cocoon_sdk.verify.noise import MIX, NOISE_UNIT, PART, table

_WORD: Final = 1 << 32


def noise_table(device: torch.device) -> torch.Tensor:
    """Return `noise.table` on this device."""
    return torch.from_numpy(table().copy()).to(device)


def signed(word: int) -> int:
    """Return a 32-bit word as torch's signed integer of the same bits."""
    return word - _WORD if word >= _WORD // 2 else word


def gumbel(noise: torch.Tensor, keys: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Return each token's noise under each row's two words (`keys`: rows by 2), in `NOISE_UNIT`."""
    words = torch.arange(vocabulary, dtype=torch.int32, device=keys.device).unsqueeze(0)
    for column in (0, 1):
        words = _mix(words ^ keys[:, column : column + 1])
    tail = torch.where(words >> 16 == -1, 2 * PART + (words & 0xFFFF), PART + (words >> 8 & 0xFFFF))
    return noise[torch.where(words >> 24 == -1, tail, words >> 16 & 0xFFFF)]


def choose(scaled: torch.Tensor, noise: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return each row's choice: the largest sum of logit / temperature (cut: minus infinity) and noise."""
    drawn = gumbel(noise, keys, scaled.shape[1]).to(torch.float32)
    return (scaled + drawn * NOISE_UNIT).argmax(dim=1)


def _mix(words: torch.Tensor) -> torch.Tensor:
    for shift, factor in MIX:
        words = (words ^ (words >> shift & (1 << 32 - shift) - 1)) * signed(factor)
    return words
