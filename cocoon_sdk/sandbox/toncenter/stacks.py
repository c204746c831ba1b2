"""Get-method stacks in toncenter's two dialects, on the engine's own entries.

Owns answers of runGetMethod (legacy: pairs of type and value) and runGetMethodStd (tonlib's objects), and the
checks of arguments that differ from what `cocoon_sdk.chain.stack` reads. Must not know HTTP or methods.
"""

from __future__ import annotations

from typing import Any

from cocoon_sdk.chain.base import StackValue
from cocoon_sdk.chain.stack import decode_legacy, decode_typed
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.cells import NativeCell, native_slice, remainder
from cocoon_sdk.sandbox.stack import MAX_STACK
from cocoon_sdk.sandbox.toncenter.params import Refused
from cocoon_sdk.sandbox.toncenter.shapes import b64, cell_b64, tvm_cell

MAX_DEPTH = 100
MAX_ENTRIES = 8000
"""Of one answer, however they nest; tonlib's bound."""
MAX_OBJECT_CELLS = 1024
"""Cells that the legacy dialect spells out one by one; larger trees come as a bag alone."""

_NULL, _INT, _CELL, _BUILDER, _SLICE, _CONT, _TUPLE = range(7)
_NUMBERS = ("num", "int", "number", "integer")
_ARGUMENTS = frozenset(
    (*_NUMBERS, "cell", "tvm.Cell", "slice", "tvm.Slice", "tuple", "tvm.Tuple", "list", "tvm.List")
)


def read_legacy(entries: list[Any]) -> list[StackValue]:
    """Read arguments of runGetMethod. Raises `Refused`, with status 542 for types that cannot be passed."""
    for entry in entries:
        name = entry[0] if isinstance(entry, list) and len(entry) == 2 else None
        if isinstance(name, str) and name not in _ARGUMENTS:
            raise Refused(542, f"Unsupported stack entry type: {name[:40]}")
    return _read(decode_legacy, entries)


def read_typed(entries: list[Any]) -> list[StackValue]:
    """Read arguments of runGetMethodStd. Raises `Refused`."""
    return _read(decode_typed, entries)


def _read(decode: Any, entries: list[Any]) -> list[StackValue]:
    if len(entries) > MAX_STACK:
        raise Refused(422, f"{len(entries)} arguments, at most {MAX_STACK} fit a stack")
    try:
        values: list[StackValue] = decode(entries)
    except MalformedError as error:
        raise Refused(422, str(error)) from error
    return values


def legacy_stack(stack: Any) -> list[Any]:
    """Write what a get-method left, deepest value first, as pairs. Slices come as cells."""
    return [_legacy(entry, _Budget()) for entry in _entries(stack)]


def typed_stack(stack: Any) -> list[Any]:
    """Write what a get-method left, deepest value first, as tonlib's objects."""
    budget = _Budget()
    return [_typed(entry, budget, 0) for entry in _entries(stack)]


class _Budget:
    def __init__(self) -> None:
        self._left = MAX_ENTRIES

    def take(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise Refused(500, "TVM stack size exceeds limit")
        if depth >= MAX_DEPTH:
            raise Refused(533, f"Result stack depth >= {MAX_DEPTH}")


def _entries(stack: Any) -> list[Any]:
    return [stack.at(index) for index in range(stack.depth() - 1, -1, -1)]


def _typed(entry: Any, budget: _Budget, depth: int) -> dict[str, Any]:
    budget.take(depth)
    kind = entry.type()
    if kind == _INT:
        number = _number(entry)
        if number is not None:
            value = {"@type": "tvm.numberDecimal", "number": str(number)}
            return {"@type": "tvm.stackEntryNumber", "number": value}
    elif kind == _CELL:
        return {"@type": "tvm.stackEntryCell", "cell": tvm_cell(entry.as_cell())}
    elif kind == _SLICE:
        value = {"@type": "tvm.slice", "bytes": cell_b64(remainder(entry.as_cell_slice()))}
        return {"@type": "tvm.stackEntrySlice", "slice": value}
    elif kind in (_NULL, _TUPLE):
        name, items = _items(entry)
        elements = [_typed(item, budget, depth + 1) for item in items]
        return {
            "@type": f"tvm.stackEntry{name.capitalize()}",
            name: {"@type": f"tvm.{name}", "elements": elements},
        }
    return {"@type": "tvm.stackEntryUnsupported"}


def _legacy(entry: Any, budget: _Budget) -> list[Any]:
    kind = entry.type()
    if kind in (_CELL, _SLICE):
        cell = entry.as_cell() if kind == _CELL else remainder(entry.as_cell_slice())
        answer = {"bytes": cell_b64(cell)}
        spelt = _spell(cell)
        return ["cell", answer if spelt is None else {**answer, "object": spelt}]
    number = _number(entry) if kind == _INT else None
    if number is not None:
        return ["num", hex(number)]
    if kind in (_NULL, _TUPLE):
        typed = _typed(entry, budget, 0)
        name = "list" if "list" in typed else "tuple"
        return [name, typed[name]]
    return ["unsupported", ""]


def _number(entry: Any) -> int | None:
    try:
        return int(entry.as_int())
    except ValueError:  # not a number
        return None


def _items(entry: Any) -> tuple[str, list[Any]]:
    """Take a tuple apart: a chain of pairs that ends in null is a list, and null itself an empty one."""
    items: list[Any] = []
    rest = entry
    while rest.type() == _TUPLE and len(items) <= MAX_ENTRIES:
        pair = rest.as_tuple()
        if len(pair) != 2:
            break
        items.append(pair[0])
        rest = pair[1]
    return ("list", items) if rest.type() == _NULL else ("tuple", entry.as_tuple())


def _spell(root: NativeCell) -> dict[str, Any] | None:
    """Write a tree of cells out, shared ones at every place; None when it is too large or deep for that."""
    left = MAX_OBJECT_CELLS

    def spell(cell: NativeCell, depth: int) -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise OverflowError
        source = native_slice(cell)
        bits = source.to_bitstring()
        data = (int(bits or "0", 2) << -len(bits) % 8).to_bytes((len(bits) + 7) // 8, "big")
        return {
            "data": {"b64": b64(data), "len": len(bits)},
            "refs": [spell(source.prefetch_ref(index), depth + 1) for index in range(source.refs)],
            "special": bool(source.is_special()),
        }

    try:
        return spell(root, 0)
    except OverflowError:
        return None
