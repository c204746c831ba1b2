"""Get-method stacks as liteservers write them: the TL-B `VmStack`, in both directions.

Owns the codec between `StackValue` and cells. Must not know sockets or accounts. Every bound is ours: what a
server sends is read by a checked cursor, and nothing recurses deeper than `MAX_NESTING`. The last element of
a tuple does not count as deeper, so that a list of the TVM, pairs in pairs, may be as long as cells allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytoniq_core import Cell, Slice

from cocoon_sdk.chain.base import StackValue
from cocoon_sdk.chain.stack import MAX_ENTRIES, MAX_NESTING, MAX_TUPLE
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.abi_cells import Reader, Writer

_TINY: Final = 1 << 63
_LIMIT: Final = 1 << 256
_NULL, _TINY_INT, _INT, _CELL, _SLICE, _TUPLE = 0x00, 0x01, 0x02, 0x03, 0x04, 0x07
_UNREADABLE = {0x05: "a builder", 0x06: "a continuation"}


class _Budget:
    """Counts the entries of one stack, however they nest."""

    def __init__(self) -> None:
        self._left = MAX_ENTRIES

    def take(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise MalformedError("stack is too large", why=f"more than {MAX_ENTRIES} entries")
        if depth > MAX_NESTING:
            raise MalformedError("stack nests too deeply", why=f"more than {MAX_NESTING} levels")


def encode_vm_stack(values: Sequence[StackValue]) -> Cell:
    """Write a stack, the last value on top.

    Raises `MalformedError` beyond a bound and `TypeError` for what is no stack value.
    """
    budget = _Budget()
    rest = Writer().cell()
    for position, value in enumerate(values):
        target = Writer()
        if position == len(values) - 1:
            target.integer(len(values), 24)
        target.ref(rest)
        target.append(_entry(value, budget, 0))
        rest = target.cell()
    if not values:
        empty = Writer()
        empty.integer(0, 24)
        return empty.cell()
    return rest


def decode_vm_stack(cell: Cell) -> list[StackValue]:
    """Read a stack, deepest value first. Raises `MalformedError`, for builders, continuations and NaN too."""
    budget = _Budget()
    reader = Reader.of_cell(cell)
    depth = reader.uint(24)
    if depth > MAX_ENTRIES:
        raise MalformedError("stack is too large", why=f"more than {MAX_ENTRIES} entries")
    values: list[StackValue] = []
    for _ in range(depth):
        rest = reader.ref()
        values.append(_get(reader, budget, 0))
        reader.finish()
        reader = Reader.of_cell(rest)
    reader.finish()
    values.reverse()
    return values


# -- writing ------------------------------------------------------------------------------------------------


def _entry(value: StackValue, budget: _Budget, depth: int) -> Cell:
    """Write one value; tuples from the innermost last element outwards."""
    around: list[list[StackValue]] = []
    while isinstance(value, list) and value:
        budget.take(depth)
        if len(value) > MAX_TUPLE:
            raise MalformedError("tuple is too long", why=f"{len(value)} elements, at most {MAX_TUPLE}")
        around.append(value)
        value = value[-1]
    budget.take(depth)
    target = Writer()
    _put(target, value)
    cell = target.cell()
    for items in reversed(around):
        entries = [_entry(item, budget, depth + 1) for item in items[:-1]]
        target = Writer()
        target.integer(_TUPLE, 8)
        target.integer(len(items), 16)
        for ref in _tuple_refs([*entries, cell]):
            target.ref(ref)
        cell = target.cell()
    return cell


def _put(target: Writer, value: StackValue) -> None:
    if value is None:
        target.integer(_NULL, 8)
    elif isinstance(value, list):
        target.integer(_TUPLE << 16, 24)  # an empty one: the others are written by their elements
    elif isinstance(value, Cell):
        target.integer(_CELL, 8)
        target.ref(value)
    elif isinstance(value, Slice):
        _put_slice(target, value.to_cell())
    elif isinstance(value, int):
        _put_int(target, -int(value) if isinstance(value, bool) else int(value))  # the TVM's true is -1
    else:
        raise TypeError(f"{type(value).__name__} is no stack value: pass int, Cell, Slice, None or a list")


def _put_int(target: Writer, value: int) -> None:
    if not -_LIMIT <= value < _LIMIT:
        raise MalformedError("number does not fit the TVM", why="257 bits with sign at most")
    if -_TINY <= value < _TINY:
        target.integer(_TINY_INT, 8)
        target.integer(value, 64)
    else:
        target.integer(_INT << 7, 15)
        target.integer(value, 257)


def _put_slice(target: Writer, cell: Cell) -> None:
    target.integer(_SLICE, 8)
    target.integer(0, 10)
    target.integer(len(cell.bits), 10)
    target.integer(0, 3)
    target.integer(len(cell.refs), 3)
    target.ref(cell)


def _tuple_refs(entries: list[Cell]) -> list[Cell]:
    """Return the references of a tuple: VmTuple n is (VmTupleRef n-1, the last entry)."""
    refs = entries[:1]
    for entry in entries[1:]:
        if len(refs) == 2:
            pair = Writer()
            for ref in refs:
                pair.ref(ref)
            refs = [pair.cell()]
        refs.append(entry)
    return refs


# -- reading ------------------------------------------------------------------------------------------------


def _get(reader: Reader, budget: _Budget, depth: int) -> StackValue:
    """Read one value. Whether `reader` has been read to the end is the caller's to see."""
    result: list[StackValue] = []
    holder, outermost = result, reader
    while True:
        budget.take(depth)
        tag = reader.uint(8)
        entries: list[Cell] = []
        if tag == _TUPLE:
            values: list[StackValue] = []
            holder.append(values)
            entries = _tuple_entries(reader)
            holder = values
        else:
            holder.append(_scalar(tag, reader))
        if reader is not outermost:
            reader.finish()
        if not entries:
            return result[0]
        for cell in entries[:-1]:
            entry = Reader.of_cell(cell)
            holder.append(_get(entry, budget, depth + 1))
            entry.finish()
        reader = Reader.of_cell(entries[-1])


def _scalar(tag: int, reader: Reader) -> StackValue:
    if tag == _NULL:
        return None
    if tag == _TINY_INT:
        return reader.int(64)
    if tag == _INT:
        return _get_int(reader)
    if tag == _CELL:
        return reader.ref()
    if tag == _SLICE:
        return _get_slice(reader)
    raise MalformedError("unsupported stack entry", why=_UNREADABLE.get(tag, f"type {tag}"))


def _get_int(reader: Reader) -> int:
    if reader.uint(7):  # vm_stk_nan, the only other entry that begins like this
        raise MalformedError("unsupported stack entry", why="not a number")
    return reader.int(257)


def _get_slice(reader: Reader) -> Slice:
    cell = reader.ref()
    first, end, first_ref, end_ref = reader.uint(10), reader.uint(10), reader.uint(3), reader.uint(3)
    source = Reader.of_cell(cell)
    if not (first <= end <= source.bits_left and first_ref <= end_ref <= source.refs_left):
        raise MalformedError("a slice of the stack lies outside its cell")
    source.uint(first)
    target = Writer()
    target.integer(source.uint(end - first), end - first)
    refs = [source.ref() for _ in range(end_ref)]
    for ref in refs[first_ref:]:
        target.ref(ref)
    return target.cell().begin_parse()


def _tuple_entries(reader: Reader) -> list[Cell]:
    """Read the references of a tuple; whether its own cell is read to the end is the caller's to see."""
    length = reader.uint(16)
    if length > MAX_TUPLE:
        raise MalformedError("tuple is too long", why=f"{length} elements, at most {MAX_TUPLE}")
    outermost, last = reader, []
    while length > 2:
        rest = reader.ref()
        last.append(reader.ref())
        if reader is not outermost:
            reader.finish()
        reader, length = Reader.of_cell(rest), length - 1
    entries = [reader.ref() for _ in range(length)]
    if reader is not outermost:
        reader.finish()
    return [*entries, *reversed(last)]
