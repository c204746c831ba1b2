"""The border between the public cell type (pytoniq-core) and the emulator's C++ cells.

Owns conversions, the integer account key and a small reader over C++ slices. Knows nothing of
transactions or accounts. Conversions serialise a whole tree, so the message loop stays on the C++ side
and converts only what somebody asks for.
"""

from __future__ import annotations

import base64
from typing import Any, TypeAlias

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.boc import encode_boc_base64
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.engine import PyCellBuilder, PyDict, load_as_cell_slice, parse_string_to_cell

NativeCell: TypeAlias = Any
"""A C++ cell of the engine; immutable, cheap to keep."""
NativeSlice: TypeAlias = Any

STD_ADDRESS_BITS = 267
_ADDRESS_HASH_BITS = 256


def to_native(cell: Cell) -> NativeCell:
    """Convert a public cell to the engine's."""
    # Not the library's own writer: that visits a shared cell once for every way to it.
    return parse_string_to_cell(encode_boc_base64(cell))


def from_native(native: NativeCell) -> Cell:
    """Convert an engine's cell to the public type."""
    return Cell.one_from_boc(base64.b64decode(native.to_boc()))


def native_from_boc(boc: bytes) -> NativeCell:
    """Parse a bag of cells with one root straight into the engine; raises `MalformedError`."""
    try:
        return parse_string_to_cell(base64.b64encode(boc).decode())
    except (RuntimeError, UnicodeDecodeError) as error:  # the latter when the engine's message is not text
        raise MalformedError("a bag of cells cannot be read", why="it is not one well-formed root") from error


def native_hash(native: NativeCell) -> bytes:
    """Return the 32 bytes of a cell's representation hash."""
    return bytes.fromhex(native.get_hash())


def native_slice(native: NativeCell) -> NativeSlice:
    """Open an ordinary or exotic cell for reading."""
    return load_as_cell_slice(native, True)


def remainder(rest: NativeSlice) -> NativeCell:
    """Return what is left of a slice as a cell of its own."""
    return PyCellBuilder().store_slice(rest).get_cell(False)


def native_dict(root: NativeCell, key_bits: int) -> Any:
    """Open a dictionary whose root edge is `root`."""
    return PyDict(key_bits, False, load_as_cell_slice(root, False))


def empty_dict(key_bits: int) -> Any:
    """Make an empty dictionary."""
    return PyDict(key_bits, False)


def address_key(address: Address) -> int:
    """Map an address to the integer that keys accounts: eight bits of workchain, then the hash.

    `Address.__hash__` of pytoniq-core spreads poorly, and an integer needs no Python object per message.
    """
    workchain: int = address.wc & 0xFF
    return workchain << _ADDRESS_HASH_BITS | int.from_bytes(address.hash_part, "big")


def key_address(key: int) -> Address:
    """Map an account key back to its address."""
    workchain = key >> _ADDRESS_HASH_BITS
    if workchain > 127:
        workchain -= 256
    return Address((workchain, (key & (1 << _ADDRESS_HASH_BITS) - 1).to_bytes(32, "big")))


def read_key(source: NativeSlice) -> int:
    """Read workchain and hash as an account key. In two steps: the engine reads at most 257 bits at once."""
    workchain = int(source.load_uint(8))
    return workchain << _ADDRESS_HASH_BITS | int(source.load_uint(_ADDRESS_HASH_BITS))


class Reader:
    """Read TL-B fields one after the other from a C++ slice."""

    __slots__ = ("slice",)

    def __init__(self, source: NativeSlice) -> None:
        self.slice = source

    @classmethod
    def of(cls, native: NativeCell) -> Reader:
        """Open a cell."""
        return cls(load_as_cell_slice(native, True))

    def uint(self, bits: int) -> int:
        """Read an unsigned integer of up to 256 bits."""
        return int(self.slice.load_uint(bits))

    def sint(self, bits: int) -> int:
        """Read a signed integer."""
        return int(self.slice.load_int(bits))

    def bit(self) -> bool:
        """Read one bit."""
        return bool(self.slice.load_uint(1) == "1")

    def var_uint(self, limit: int) -> int:
        """Read `VarUInteger limit` (the TL-B parameter: 16 for coins, 7 for gas, 3 for the gas credit)."""
        return int(self.slice.load_var_integer_str(limit, False))

    def coins(self) -> int:
        """Read `Coins`."""
        return int(self.slice.load_var_integer_str(16, False))

    def currencies(self) -> int:
        """Read `CurrencyCollection` and return its coins; extra currencies are skipped."""
        amount = int(self.slice.load_var_integer_str(16, False))
        if self.slice.load_uint(1) == "1":
            self.slice.advance_refs(1)
        return amount

    def ref(self) -> NativeCell:
        """Read a reference."""
        return self.slice.fetch_ref()

    def skip(self, bits: int) -> None:
        """Skip bits."""
        if not self.slice.advance(bits):
            raise MalformedError("a cell ends too early", why=f"{bits} more bits were expected")

    def address_key(self) -> int | None:
        """Read `MsgAddress` and return its account key; None for addr_none and external addresses."""
        tag = self.uint(2)
        if tag == 0b00:
            return None
        if tag == 0b01:
            self.skip(self.uint(9))
            return None
        if tag == 0b10 and not self.bit():
            return read_key(self.slice)
        raise MalformedError(
            "an address cannot be read",
            why="it is of the variable-length or anycast kind, which TON no longer routes",
        )
