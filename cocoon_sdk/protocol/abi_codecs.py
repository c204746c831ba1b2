"""Field codecs: how one value lies in a cell, and how it travels on the stack of a get-method.

Owns integers, coins, booleans, addresses, cells, bytes, text, optionals and references, after Tact's
serialisation rules. It must not know maps
(`abi_dict`), structs and messages (`abi_runtime`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from pytoniq_core import Address, Cell, Slice

from cocoon_sdk.protocol.abi_cells import Reader, Writer, bad
from cocoon_sdk.types import Nano

StackItem: TypeAlias = "int | Cell | Slice | list[StackItem] | None"
"""One value of a get-method's stack; the same shape as the `Chain` protocol's stack values."""

MAX_TEXT_BYTES = 8192
"""Longest `String` field that is read or written, in UTF-8 bytes."""

_TEXT_BYTES_PER_CELL = 127
_MIN_WORKCHAIN, _MAX_WORKCHAIN = -128, 127

T = TypeVar("T")


class Codec(Generic[T]):
    """Reads and writes one field, in a cell and on the stack."""

    __slots__ = ()

    def read(self, source: Reader) -> T:
        """Read the field. Raises `MalformedError`."""
        raise NotImplementedError

    def write(self, target: Writer, value: T) -> None:
        """Write the field. Raises `MalformedError` when the value does not fit."""
        raise NotImplementedError

    def unstack(self, item: StackItem) -> T:
        """Convert a value from a get-method's stack. Raises `MalformedError`."""
        raise NotImplementedError

    def stack(self, value: T) -> StackItem:
        """Convert an argument of a get-method for the stack. Raises `MalformedError`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class IntCodec(Codec[int]):
    """An integer of exactly `bits` bits."""

    bits: int
    signed: bool

    def read(self, source: Reader) -> int:
        """Read the integer."""
        return source.int(self.bits) if self.signed else source.uint(self.bits)

    def write(self, target: Writer, value: int) -> None:
        """Write the integer; refuses what does not fit."""
        target.integer(self._checked(value), self.bits)

    def unstack(self, item: StackItem) -> int:
        """Take an integer within the field's range."""
        return self._checked(item)

    def stack(self, value: int) -> StackItem:
        """Return the integer."""
        return self._checked(value)

    def _checked(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise bad(f"an integer was expected, not {type(value).__name__}")
        low = -(1 << (self.bits - 1)) if self.signed else 0
        high = (1 << (self.bits - self.signed)) - 1
        if not low <= value <= high:
            raise bad(f"{value} is outside {low}..{high}")
        return int(value)


@dataclass(frozen=True, slots=True)
class VarIntCodec(Codec[Any]):
    """A length-prefixed integer (`VarUInteger 16` and its relatives); `money` makes it a `Nano`."""

    length_bits: int
    signed: bool
    money: bool = False

    def read(self, source: Reader) -> int:
        """Read the integer, in a longer form than needed too: a contract accepts it, so we must see it."""
        size = source.uint(self.length_bits)
        value = source.int(size * 8) if self.signed else source.uint(size * 8)
        return Nano(value) if self.money else value

    def write(self, target: Writer, value: int) -> None:
        """Write the integer in as few bytes as possible."""
        value = self._checked(value)
        size = self._size(value)
        target.integer(size, self.length_bits)
        target.integer(value, size * 8)

    def unstack(self, item: StackItem) -> int:
        """Take an integer within the field's range."""
        value = self._checked(item)
        return Nano(value) if self.money else value

    def stack(self, value: int) -> StackItem:
        """Return the integer."""
        return self._checked(value)

    def _size(self, value: int) -> int:
        if value == 0:
            return 0
        bits = (value if value >= 0 else ~value).bit_length() + self.signed
        return (bits + 7) // 8

    def _checked(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise bad(f"an integer was expected, not {type(value).__name__}")
        if (value < 0 and not self.signed) or self._size(value) >= 1 << self.length_bits:
            raise bad(
                f"{int(value)} does not fit a {'signed' if self.signed else 'unsigned'} variable integer"
            )
        return int(value)


@dataclass(frozen=True, slots=True)
class BoolCodec(Codec[bool]):
    """One bit; -1 and 0 on the stack."""

    def read(self, source: Reader) -> bool:
        """Read the bit."""
        return source.uint(1) == 1

    def write(self, target: Writer, value: bool) -> None:
        """Write the bit."""
        if not isinstance(value, bool):
            raise bad(f"a bool was expected, not {type(value).__name__}")
        target.integer(int(value), 1)

    def unstack(self, item: StackItem) -> bool:
        """Take -1 or 0."""
        if not isinstance(item, int) or item not in (0, -1):
            raise bad(f"a bool (-1 or 0) was expected on the stack, not {item!r}")
        return item == -1

    def stack(self, value: bool) -> StackItem:
        """Return -1 or 0."""
        return -1 if value else 0


@dataclass(frozen=True, slots=True)
class AddressCodec(Codec[Any]):
    """`addr_std` without anycast; with `optional` also `addr_none`, which is None."""

    optional: bool = False

    def read(self, source: Reader) -> Address | None:
        """Read the address."""
        tag = source.uint(2)
        if tag == 0 and self.optional:
            return None
        if tag != 2 or source.uint(1) != 0:
            raise bad("a standard address was expected")
        workchain = source.int(8)
        return Address((workchain, source.uint(256).to_bytes(32, "big")))

    def write(self, target: Writer, value: Address | None) -> None:
        """Write the address."""
        if value is None and self.optional:
            target.integer(0, 2)
            return
        if not isinstance(value, Address):
            raise bad(f"an address was expected, not {type(value).__name__}")
        if value.anycast is not None or len(value.hash_part) != 32:
            raise bad("the address is not a standard one")
        if not _MIN_WORKCHAIN <= value.wc <= _MAX_WORKCHAIN:
            raise bad(f"workchain {value.wc} does not fit 8 bits")
        target.integer(0b100, 3)
        target.integer(value.wc, 8)
        target.integer(int.from_bytes(value.hash_part, "big"), 256)

    def unstack(self, item: StackItem) -> Address | None:
        """Take a slice that holds exactly one address, or null when optional."""
        if item is None and self.optional:
            return None
        source = Reader.of_slice(_slice(item))
        address = self.read(source)
        source.finish()
        return address

    def stack(self, value: Address | None) -> StackItem:
        """Return the address as a slice, None as null."""
        if value is None and self.optional:
            return None
        target = Writer()
        self.write(target, value)
        return target.cell().begin_parse()


@dataclass(frozen=True, slots=True)
class CellCodec(Codec[Cell]):
    """A `Cell`, `Slice` or `Builder` field: in a reference, or as the rest of the cell."""

    rest: bool = False

    def read(self, source: Reader) -> Cell:
        """Read the reference, or everything that is left."""
        return source.rest() if self.rest else source.ref()

    def write(self, target: Writer, value: Cell) -> None:
        """Write the reference, or the cell's content."""
        cell = self.unstack(value)
        if self.rest:
            target.append(cell)
        else:
            target.ref(cell)

    def unstack(self, item: StackItem) -> Cell:
        """Take a cell, or a slice as a cell."""
        if isinstance(item, Slice):
            return Reader.of_slice(item).rest()
        if not isinstance(item, Cell):
            raise bad(f"a cell was expected, not {type(item).__name__}")
        return item

    def stack(self, value: Cell) -> StackItem:
        """Return the cell."""
        return self.unstack(value)


@dataclass(frozen=True, slots=True)
class SliceCodec(CellCodec):
    """The same bits as `CellCodec`; as an argument of a get-method it travels as a slice."""

    def stack(self, value: Cell) -> StackItem:
        """Return the cell as a slice."""
        return self.unstack(value).begin_parse()


@dataclass(frozen=True, slots=True)
class BytesCodec(Codec[bytes]):
    """Exactly `size` bytes in place."""

    size: int

    def read(self, source: Reader) -> bytes:
        """Read the bytes."""
        return source.uint(self.size * 8).to_bytes(self.size, "big")

    def write(self, target: Writer, value: bytes) -> None:
        """Write the bytes; the length must be exact."""
        if not isinstance(value, bytes) or len(value) != self.size:
            raise bad(f"exactly {self.size} bytes were expected")
        target.integer(int.from_bytes(value, "big"), self.size * 8)

    def unstack(self, item: StackItem) -> bytes:
        """Take a slice of exactly that size."""
        source = Reader.of_slice(_slice(item))
        value = self.read(source)
        source.finish()
        return value

    def stack(self, value: bytes) -> StackItem:
        """Return the bytes as a slice."""
        target = Writer()
        self.write(target, value)
        return target.cell().begin_parse()


@dataclass(frozen=True, slots=True)
class TextCodec(Codec[str]):
    """A `String`: UTF-8 in a reference, continued cell by cell."""

    def read(self, source: Reader) -> str:
        """Read the text, at most `MAX_TEXT_BYTES`."""
        return self._read(Reader.of_cell(source.ref()))

    def write(self, target: Writer, value: str) -> None:
        """Write the text, at most `MAX_TEXT_BYTES`."""
        target.ref(self._cell(value))

    def unstack(self, item: StackItem) -> str:
        """Take a slice with text."""
        return self._read(Reader.of_slice(_slice(item)))

    def stack(self, value: str) -> StackItem:
        """Return the text as a slice."""
        return self._cell(value).begin_parse()

    def _read(self, source: Reader) -> str:
        data = bytearray()
        while True:
            if source.bits_left % 8:
                raise bad("text does not consist of whole bytes")
            size = source.bits_left // 8
            data += source.uint(size * 8).to_bytes(size, "big")
            if len(data) > MAX_TEXT_BYTES:
                raise bad(f"text is longer than {MAX_TEXT_BYTES} bytes")
            if not source.refs_left:
                break
            if not size:  # an empty link would let a short chain of cells loop us without progress
                raise bad("text continues from an empty cell")
            following = source.ref()
            source.finish()
            source = Reader.of_cell(following)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise bad("text is not UTF-8") from None

    def _cell(self, value: str) -> Cell:
        if not isinstance(value, str):
            raise bad(f"text was expected, not {type(value).__name__}")
        try:
            data = value.encode("utf-8")
        except UnicodeEncodeError:
            raise bad("text holds a lone surrogate, which UTF-8 cannot say") from None
        if len(data) > MAX_TEXT_BYTES:
            raise bad(f"text is longer than {MAX_TEXT_BYTES} bytes")
        parts = [data[i : i + _TEXT_BYTES_PER_CELL] for i in range(0, len(data), _TEXT_BYTES_PER_CELL)] or [
            b""
        ]
        cell: Cell | None = None
        for part in reversed(parts):
            target = Writer()
            target.integer(int.from_bytes(part, "big"), len(part) * 8)
            if cell is not None:
                target.ref(cell)
            cell = target.cell()
        return cell


@dataclass(frozen=True, slots=True)
class MaybeCodec(Codec[Any]):
    """One bit, then the value if it is 1; null on the stack is None."""

    inner: Codec[Any]

    def read(self, source: Reader) -> Any:
        """Read the bit and the value."""
        return self.inner.read(source) if source.uint(1) else None

    def write(self, target: Writer, value: Any) -> None:
        """Write the bit and the value."""
        target.integer(int(value is not None), 1)
        if value is not None:
            self.inner.write(target, value)

    def unstack(self, item: StackItem) -> Any:
        """Take null or the value."""
        return None if item is None else self.inner.unstack(item)

    def stack(self, value: Any) -> StackItem:
        """Return null or the value."""
        return None if value is None else self.inner.stack(value)


@dataclass(frozen=True, slots=True)
class RefCodec(Codec[Any]):
    """A value in a cell of its own (struct values of maps)."""

    inner: Codec[Any]

    def read(self, source: Reader) -> Any:
        """Read the referenced cell to its end."""
        inner = Reader.of_cell(source.ref())
        value = self.inner.read(inner)
        inner.finish()
        return value

    def write(self, target: Writer, value: Any) -> None:
        """Write the value into a new cell."""
        inner = Writer()
        self.inner.write(inner, value)
        target.ref(inner.cell())


def _slice(item: StackItem) -> Slice:
    """Take a slice; get-methods of some providers hand out a cell instead."""
    if isinstance(item, Cell):
        return Reader.of_cell(item).rest().begin_parse()
    if not isinstance(item, Slice):
        raise bad(f"a slice was expected, not {type(item).__name__}")
    return item


def uint(bits: int) -> IntCodec:
    """Return the codec of `Int as uintN`."""
    return IntCodec(bits, signed=False)


def sint(bits: int) -> IntCodec:
    """Return the codec of `Int as intN`."""
    return IntCodec(bits, signed=True)


COINS = VarIntCodec(4, signed=False, money=True)
VARUINT16 = VarIntCodec(4, signed=False)
VARUINT32 = VarIntCodec(5, signed=False)
VARINT16 = VarIntCodec(4, signed=True)
VARINT32 = VarIntCodec(5, signed=True)
BOOL = BoolCodec()
ADDRESS = AddressCodec()
MAYBE_ADDRESS = AddressCodec(optional=True)
CELL = CellCodec()
SLICE = SliceCodec()
REST = CellCodec(rest=True)
TEXT = TextCodec()
