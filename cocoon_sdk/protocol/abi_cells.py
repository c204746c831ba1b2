"""Strict cursors over cells: every read is checked, nothing is cut short silently.

Owns `Reader` and `Writer`. It must not know field types, structs or messages. Why not pytoniq-core's own
slices: they return fewer bits than asked for at the end of a cell, accept exotic cells and raise half a
dozen kinds of exceptions; protocol code needs one answer to bad bytes, `MalformedError`.
"""

from __future__ import annotations

from pytoniq_core import Builder, Cell, Slice

from cocoon_sdk.errors import MalformedError

_MAX_BITS, _MAX_REFS = 1023, 4


def bad(why: str) -> MalformedError:
    """Return the error of one field or cell; the struct around it adds where it happened."""
    return MalformedError(why)


class Reader:
    """A cursor over the bits and references of one ordinary cell."""

    __slots__ = ("_left", "_refs", "_value")

    def __init__(self, value: int, bits: int, refs: list[Cell]) -> None:
        self._value, self._left, self._refs = value, bits, refs

    @classmethod
    def of_cell(cls, cell: Cell) -> Reader:
        """Start at the beginning of a cell. Raises `MalformedError` for an exotic one."""
        if not isinstance(cell, Cell):
            raise bad(f"a cell was expected, not {type(cell).__name__}")
        if cell.is_exotic:
            raise bad("an ordinary cell was expected, not an exotic one (pruned, library or proof)")
        return cls._of(cell.bits, list(cell.refs))

    @classmethod
    def of_slice(cls, source: Slice) -> Reader:
        """Start where a slice stands; the slice itself does not move. Raises `MalformedError`."""
        if not isinstance(source, Slice):
            raise bad(f"a slice was expected, not {type(source).__name__}")
        if source.is_special():
            raise bad("an ordinary cell was expected, not an exotic one (pruned, library or proof)")
        return cls._of(source.bits, list(source.refs[source.ref_offset :]))

    @classmethod
    def _of(cls, bits: object, refs: list[Cell]) -> Reader:
        size: int = len(bits)  # type: ignore[arg-type]
        padded: bytes = bits.tobytes()  # type: ignore[attr-defined]
        return cls(int.from_bytes(padded, "big") >> (len(padded) * 8 - size), size, refs)

    @property
    def bits_left(self) -> int:
        """Bits not yet read."""
        return self._left

    @property
    def refs_left(self) -> int:
        """References not yet read."""
        return len(self._refs)

    def uint(self, bits: int) -> int:
        """Read an unsigned integer. Raises `MalformedError` when fewer bits are left."""
        if bits > self._left:
            raise bad(f"{bits} bits were expected, {self._left} are left")
        self._left -= bits
        value = self._value >> self._left
        self._value &= (1 << self._left) - 1
        return value

    def int(self, bits: int) -> int:
        """Read a signed integer. Raises `MalformedError` when fewer bits are left."""
        value = self.uint(bits)
        return value - (1 << bits) if bits and value >> (bits - 1) else value

    def ref(self) -> Cell:
        """Read a reference. Raises `MalformedError` when none is left."""
        if not self._refs:
            raise bad("a reference was expected, none is left")
        return self._refs.pop(0)

    def rest(self) -> Cell:
        """Read everything that is left, as a cell."""
        target = Writer()
        target.integer(self._value, self._left)
        for ref in self._refs:
            target.ref(ref)
        self._value, self._left, self._refs = 0, 0, []
        return target.cell()

    def finish(self) -> None:
        """Raise `MalformedError` unless everything has been read."""
        if self._left or self._refs:
            raise bad(f"{self._left} bits and {len(self._refs)} references too many")


class Writer:
    """Collects the bits and references of one cell within the limits of a cell."""

    __slots__ = ("_bits", "_refs", "_value")

    def __init__(self) -> None:
        self._value, self._bits = 0, 0
        self._refs: list[Cell] = []

    def integer(self, value: int, bits: int) -> None:
        """Append the lowest `bits` bits of an integer whose range the caller has checked."""
        if self._bits + bits > _MAX_BITS:
            raise bad(f"the cell overflows: {self._bits + bits} bits, at most {_MAX_BITS} fit")
        self._value = self._value << bits | value & ((1 << bits) - 1)
        self._bits += bits

    def ref(self, cell: Cell) -> None:
        """Append a reference."""
        if len(self._refs) == _MAX_REFS:
            raise bad(f"the cell overflows: at most {_MAX_REFS} references fit")
        self._refs.append(cell)

    def append(self, cell: Cell) -> None:
        """Append the content of an ordinary cell."""
        source = Reader.of_cell(cell)
        bits = source.bits_left
        self.integer(source.uint(bits), bits)
        while source.refs_left:
            self.ref(source.ref())

    def cell(self) -> Cell:
        """Return the finished cell. Raises `MalformedError` when it lies too deep."""
        builder = Builder()
        if self._bits:  # pytoniq-core cannot store an integer of no bits
            builder.store_uint(self._value, self._bits)
        for ref in self._refs:
            builder.store_ref(ref)
        try:
            return builder.end_cell()
        except Exception as error:  # pytoniq-core's CellError is not exported
            raise bad(f"the cell cannot be built: {error}") from None
