"""Bytes as a chain of cells, and what the chain charges for carrying them.

Owns the chain's exact form, its bounds and the cost estimate. Must not know what the bytes are. Form: 127
bytes per cell, the rest in the first reference; only the last cell may hold less, and it is empty only
when there is nothing at all. Bytes have exactly one such form, and only that form is read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytoniq_core import Builder, Cell

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.types import Nano

BYTES_PER_CELL: Final = 127
MAX_CHAIN_BYTES: Final = 8 * 1024
"""Largest content of one chain: 65 cells, far below the network's limits for a message."""
_PRICES_TAG: Final = 0xEA
_PRICES_BITS: Final = 8 + 3 * 64 + 32 + 2 * 16


def bytes_to_chain(data: bytes) -> Cell:
    """Return the cell chain that holds `data`. Raises `MalformedError` above `MAX_CHAIN_BYTES`."""
    if len(data) > MAX_CHAIN_BYTES:
        raise MalformedError(
            "cannot put the data inline",
            why=f"{len(data)} bytes exceed the limit of {MAX_CHAIN_BYTES}",
            hint="Store it elsewhere and send its location",
        )
    starts = range(0, len(data), BYTES_PER_CELL) or range(1)
    tail: Cell | None = None
    for start in reversed(starts):
        builder = Builder().store_bytes(data[start : start + BYTES_PER_CELL])
        if tail is not None:
            builder.store_ref(tail)
        tail = builder.end_cell()
    return tail


def chain_to_bytes(chain: Cell) -> bytes:
    """Read a cell chain back. Raises `MalformedError` for any other form than `bytes_to_chain` gives."""
    what = "cannot read inline data"
    data, cell = bytearray(), chain
    while True:
        if cell.is_exotic or len(cell.bits) % 8 or len(cell.bits) > 8 * BYTES_PER_CELL or len(cell.refs) > 1:
            raise MalformedError(what, why="a cell is exotic, not of whole bytes, or has several references")
        part = cell.bits.tobytes()
        data += part
        if len(data) > MAX_CHAIN_BYTES:
            raise MalformedError(what, why=f"it holds more than {MAX_CHAIN_BYTES} bytes")
        if not cell.refs:
            if not part and data:
                raise MalformedError(what, why="the last cell is empty")
            return bytes(data)
        if len(part) != BYTES_PER_CELL:
            raise MalformedError(what, why="a cell before the last one is not full")
        cell = cell.refs[0]


@dataclass(frozen=True, slots=True)
class ForwardPrices:
    """Message prices of the base workchain (ConfigParam 25): the lump in nanoTON, the others times 2^16."""

    lump_price: int
    bit_price: int
    cell_price: int

    @classmethod
    def from_cell(cls, cell: Cell) -> ForwardPrices:
        """Read ConfigParam 25 (`msg_forward_prices#ea`). Raises `MalformedError`."""
        what = "cannot read the message prices"
        if cell.is_exotic or len(cell.bits) != _PRICES_BITS:
            raise MalformedError(what, why=f"expected an ordinary cell of {_PRICES_BITS} bits")
        reader = cell.begin_parse()
        if reader.load_uint(8) != _PRICES_TAG:
            raise MalformedError(what, why="unknown format", hint="Update cocoon-sdk")
        return cls(reader.load_uint(64), reader.load_uint(64), reader.load_uint(64))


def inline_cost(data_bytes: int, prices: ForwardPrices) -> Nano:
    """Return what `data_bytes` of inline data add to the fee of the message that carries them, in nanoTON.

    An upper bound: the chain counts equal cells once. The lump is not included, since the message is sent
    anyway. Raises `MalformedError` above `MAX_CHAIN_BYTES`.
    """
    if not 0 <= data_bytes <= MAX_CHAIN_BYTES:
        why = f"{data_bytes} bytes cannot be inline"
        raise MalformedError("cannot estimate the cost of inline data", why=why)
    cells = max(1, -(-data_bytes // BYTES_PER_CELL))
    scaled = 8 * data_bytes * prices.bit_price + cells * prices.cell_price
    return Nano(-(-scaled >> 16))  # up, as the network rounds
