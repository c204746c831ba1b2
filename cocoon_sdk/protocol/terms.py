"""The terms of an offer, and their cell: what a job's terms hash commits to.

Owns the cell layout and its bounds. Must not know how prices are applied (`pricing`) or announced
(`offers`). The chain never parses the cell; it only stores and compares its hash.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, model_validator
from pytoniq_core import Builder, Cell

from cocoon_sdk.errors import HashMismatchError, MalformedError
from cocoon_sdk.protocol.hashing import HASH_BYTES
from cocoon_sdk.protocol.models import HashHex, WireModel, WireNano
from cocoon_sdk.types import Hash

TERMS_TLB: Final = (
    "terms model_id:bits256 model_entry_hash:bits256 input_price:uint64 cached_input_price:uint64 "
    "output_price:uint64 minimum_price:uint64 sampling:uint8 rounding:uint8 = Terms"
)
"""Prices in nanoTON per 1,000,000 tokens, the minimum in nanoTON per job; one cell, no references."""
TERMS_TAG: Final = 0x356D56F0
"""CRC32 of `TERMS_TLB`; the first 32 bits of the cell."""
_TERMS_BITS: Final = 32 + 2 * 256 + 4 * 64 + 2 * 8


class SamplingClass(StrEnum):
    """How far an arbiter can check the worker's choice of tokens."""

    UNVERIFIED = "unverified"
    """The engine's own sampling: likelihood can be checked, the choice of tokens cannot."""
    GREEDY = "greedy"
    """Only temperature 0 is served: every token must be (nearly) the most likely one."""
    REPLAYABLE = "replayable"
    """Seeded by the job and replayable by anybody."""


class Rounding(StrEnum):
    """How a price becomes whole nanoTON."""

    CEIL = "ceil"
    """Up, once per job, after summing."""


_SAMPLING_CODES: Final = {SamplingClass.UNVERIFIED: 0, SamplingClass.GREEDY: 1, SamplingClass.REPLAYABLE: 2}
_ROUNDING_CODES: Final = {Rounding.CEIL: 0}
_SAMPLING_BY_CODE: Final = {code: name for name, code in _SAMPLING_CODES.items()}
_ROUNDING_BY_CODE: Final = {code: name for name, code in _ROUNDING_CODES.items()}


class Terms(WireModel):
    """Under which conditions a worker runs one model. Prices in nanoTON per 1,000,000 tokens."""

    model_id: HashHex
    model_entry_hash: HashHex
    input_price: WireNano
    cached_input_price: WireNano
    output_price: WireNano
    minimum_price: WireNano
    sampling: Annotated[SamplingClass, Field(strict=False)]
    rounding: Annotated[Rounding, Field(strict=False)] = Rounding.CEIL

    @model_validator(mode="after")
    def _cached_is_not_dearer(self) -> Self:
        # Otherwise a cache hit, which only the worker sees, could raise the price above the stated maximum.
        if self.cached_input_price > self.input_price:
            raise ValueError("cached_input_price exceeds input_price")
        return self

    def to_cell(self) -> Cell:
        """Return the cell described by `TERMS_TLB`."""
        builder = Builder().store_uint(TERMS_TAG, 32)
        builder.store_bytes(self.model_id).store_bytes(self.model_entry_hash)
        for amount in (self.input_price, self.cached_input_price, self.output_price, self.minimum_price):
            builder.store_uint(int(amount), 64)
        builder.store_uint(_SAMPLING_CODES[self.sampling], 8)
        builder.store_uint(_ROUNDING_CODES[self.rounding], 8)
        return builder.end_cell()

    @property
    def terms_hash(self) -> Hash:
        """The cell hash that jobs carry."""
        return Hash(bytes(self.to_cell().hash))

    @classmethod
    def from_cell(cls, cell: Cell) -> Self:
        """Read a terms cell strictly. Raises `MalformedError`."""
        what = "cannot read the terms cell"
        if cell.is_exotic or cell.refs or len(cell.bits) != _TERMS_BITS:
            raise MalformedError(what, why=f"expected one ordinary cell of {_TERMS_BITS} bits, no references")
        reader = cell.begin_parse()
        tag = reader.load_uint(32)
        if tag != TERMS_TAG:
            raise MalformedError(what, why=f"tag {tag:#010x} is not {TERMS_TAG:#010x}")
        model_id, entry_hash = reader.load_bytes(HASH_BYTES), reader.load_bytes(HASH_BYTES)
        prices = [reader.load_uint(64) for _ in range(4)]
        sampling = _SAMPLING_BY_CODE.get(reader.load_uint(8))
        rounding = _ROUNDING_BY_CODE.get(reader.load_uint(8))
        if sampling is None or rounding is None:
            raise MalformedError(what, why="unknown sampling class or rounding", hint="Update cocoon-sdk")
        return cls.from_wire(
            {
                "model_id": model_id,
                "model_entry_hash": entry_hash,
                "input_price": prices[0],
                "cached_input_price": prices[1],
                "output_price": prices[2],
                "minimum_price": prices[3],
                "sampling": sampling,
                "rounding": rounding,
            }
        )

    def check_hash(self, expected: bytes) -> None:
        """Raise `HashMismatchError` unless these are the terms a job was opened under."""
        if self.terms_hash != expected:
            raise HashMismatchError(
                "these are not the terms of the job",
                why=f"their hash is {self.terms_hash.hex()}, the job names {bytes(expected).hex()}",
                hint="Read the worker's current offer again",
            )
