"""Gumbel noise that anyone can draw again: from a seed, an output position and a token id, in integers only.

Owns the rule. A token drawn from a softmax is the one with the largest sum of logit / temperature and noise,
so who knows seed and position can repeat a choice without any library's or device's random numbers. Integers
only: the same noise to the last bit in NumPy and in torch, on any processor. Must not know models, requests
or how a seed came about.

The rule (docs/protocol.md, section 5). SHA-256 over a tag, the seed and the position (32 bits, big-endian)
begins with two 32-bit words a and b. A token's word is w = mix(mix(token ^ a) ^ b), where mix folds and
multiplies by `MIX`; it stands for a number u of (0, 1), and its noise is -ln(-ln u) in steps of 2^-16 nat.
Large noise decides choices, so u is taken the more finely the closer it is to 1: by the upper 16 bits of w,
by bits 23 to 8 where the upper 8 are all ones, by the lower 16 bits where the upper 16 are all ones.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from cocoon_sdk.errors import CocoonError

SEED_BYTES: Final = 16
NOISE_UNIT: Final = 1 / 65536
"""Nat for one step of noise."""
MAX_POSITION: Final = (1 << 32) - 1
MAX_TOKEN: Final = (1 << 31) - 1
MAX_CHOICES: Final = 1 << 16

MIX: Final = ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1))
"""`mix`: for each pair, x ^= x >> shift, then x *= factor, modulo 2^32 (a bijection without visible bias)."""
PART: Final = 1 << 16
"""Cells in each of the table's three parts: one for each way to take u from a word."""
TABLE_SHA256: Final = "a8f243406f7fd4174674599cfeb1da3490063669fa0cdaf7feabe0eb594af686"
"""Hash of the table as little-endian 32-bit integers."""

_ROW_TAG: Final = b"cocoon/noise/row/1"
_CHOICE_TAG: Final = b"cocoon/noise/choice/1"


class NoiseTableError(CocoonError):
    """This machine's logarithms do not give the agreed table; its noise would be another one."""


def row_key(seed: bytes, position: int) -> tuple[int, int]:
    """Return the two 32-bit words for one output position (0 is the first output token).

    Raises `ValueError` for a seed that is not `SEED_BYTES` long and for a position beyond 32 bits.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    if not 0 <= position <= MAX_POSITION:
        raise ValueError(f"position {position} is not within 0 and {MAX_POSITION}")
    digest = hashlib.sha256(_ROW_TAG + seed + position.to_bytes(4, "big")).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


def choice_seed(seed: bytes, index: int) -> bytes:
    """Return the seed of one choice of a request that asks for several: the first has the request's own.

    Raises `ValueError` for a seed of another length or an index outside 0 and `MAX_CHOICES` - 1.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    if not 0 <= index < MAX_CHOICES:
        raise ValueError(f"choice {index} is not within 0 and {MAX_CHOICES - 1}")
    if index == 0:
        return seed
    return hashlib.sha256(_CHOICE_TAG + seed + index.to_bytes(4, "big")).digest()[:SEED_BYTES]


def gumbel(seed: bytes, position: int, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return the noise of these token ids at one output position, in steps of `NOISE_UNIT` nat.

    Raises `ValueError` as `row_key` does, and for a token id outside 0 and `MAX_TOKEN`.
    """
    first, second = row_key(seed, position)
    if tokens.size and (tokens.min() < 0 or tokens.max() > MAX_TOKEN):
        raise ValueError(f"a token id is not within 0 and {MAX_TOKEN}")
    return table()[cells(words(tokens, first, second))]


def words(tokens: npt.NDArray[np.int64], first: int, second: int) -> npt.NDArray[np.uint32]:
    """Return each token's well-mixed 32-bit word under a row's two words."""
    return _mix(_mix(tokens.astype(np.uint32) ^ np.uint32(first)) ^ np.uint32(second))


def owners(mixed: npt.NDArray[np.uint32], first: int, second: int) -> npt.NDArray[np.int64]:
    """Return which number has each of these words under a row's two words: `words` the other way round."""
    return (_unmix(_unmix(mixed) ^ np.uint32(second)) ^ np.uint32(first)).astype(np.int64)


def cells(mixed: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Return where in `table` the noise of each word stands."""
    wide = mixed.astype(np.int64)
    tail = np.where(wide >> 16 == 0xFFFF, 2 * PART + (wide & 0xFFFF), PART + (wide >> 8 & 0xFFFF))
    return np.where(wide >> 24 == 0xFF, tail, wide >> 16)


def least_word(noise: float) -> int:
    """Return the smallest word whose noise is at least so many steps; 2^32 where none has so much."""
    steps, starts = _ladder()
    at = int(np.searchsorted(steps, noise, side="left"))
    return int(starts[at]) if at < starts.size else 1 << 32


@cache
def _ladder() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the cells that words have, from the least noise to the most, and the first word of each."""
    coarse = np.arange(PART - (PART >> 8), dtype=np.int64)
    starts = np.concatenate(
        [coarse << 16, (0xFF << 24) + (coarse << 8), (0xFFFF << 16) + np.arange(PART, dtype=np.int64)]
    )
    return table()[cells(starts.astype(np.uint32))], starts


@cache
def table() -> npt.NDArray[np.int32]:
    """Return the noise of every cell (3 * `PART` of them), in steps of `NOISE_UNIT`; read-only.

    Raises `NoiseTableError` where the machine's logarithms are not good enough for the agreed one. No value
    is closer than a millionth of a step to where rounding changes (a test says so), and double precision is
    a thousand times finer.
    """
    above = np.arange(PART, 0, -1, dtype=np.float64) - 0.5  # cells, counted from u = 1 to each one's middle
    distances = np.concatenate([above / 2.0**bits for bits in (16, 24, 32)])  # 1 - u
    values: npt.NDArray[np.int32] = np.rint(-np.log(-np.log1p(-distances)) / NOISE_UNIT).astype(np.int32)
    if hashlib.sha256(values.astype("<i4").tobytes()).hexdigest() != TABLE_SHA256:
        raise NoiseTableError(
            "the noise table came out differently on this machine",
            why="its logarithms are not accurate to double precision",
            hint="Use another build of NumPy",
        )
    values.setflags(write=False)
    return values


def _mix(word: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    for shift, factor in MIX:
        word = (word ^ (word >> np.uint32(shift))) * np.uint32(factor)
    return word


def _unmix(word: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    for shift, factor in reversed(MIX):
        word = word * np.uint32(pow(factor, -1, 1 << 32))
        # A fold is undone by the folds of the bits that it moved, until they have left the word.
        folded = word
        for moved in range(shift, 32, shift):
            folded = folded ^ (word >> np.uint32(moved))
        word = folded
    return word
