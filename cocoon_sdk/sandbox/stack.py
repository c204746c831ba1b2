"""Values on their way to and from the VM's stack.

Owns the mapping between `StackValue` and the engine's stack entries. Knows nothing of methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytoniq_core import Cell, Slice

from cocoon_sdk.chain.base import StackValue
from cocoon_sdk.sandbox.cells import from_native, native_slice, remainder, to_native
from cocoon_sdk.sandbox.engine import PyStack, PyStackEntry, make_tuple
from cocoon_sdk.sandbox.errors import StackError

_NULL, _INT, _CELL, _BUILDER, _SLICE, _CONT, _TUPLE = range(7)
_INT_LIMIT = 1 << 256
_MAX_TUPLE = 255
MAX_STACK = 256
"""Most values that may be passed to a get-method."""


def push_all(values: Sequence[StackValue]) -> Any:
    """Build a stack, the last value on top. Raises `StackError`."""
    if len(values) > MAX_STACK:
        raise StackError(
            "a get-method cannot be called", why=f"{len(values)} arguments, at most {MAX_STACK} fit"
        )
    stack = PyStack()
    for value in values:
        stack.push(_entry(value))
    return stack


def pop_all(stack: Any) -> list[StackValue]:
    """Convert a stack, deepest value first. Raises `StackError` for continuations."""
    return [_value(stack.at(index)) for index in range(stack.depth() - 1, -1, -1)]


def _entry(value: StackValue) -> Any:
    if value is None:
        return PyStackEntry()
    if isinstance(value, bool):
        return PyStackEntry(big_int=str(-int(value)))  # true is -1 in TVM
    if isinstance(value, int):
        if not -_INT_LIMIT <= value < _INT_LIMIT:
            raise StackError("an integer does not fit the stack", why="it needs more than 257 bits")
        return PyStackEntry(big_int=str(int(value)))
    if isinstance(value, Cell):
        return PyStackEntry(cell=to_native(value))
    if isinstance(value, Slice):
        return PyStackEntry(cell_slice=native_slice(to_native(value.copy().to_cell())))
    if isinstance(value, list):
        if len(value) > _MAX_TUPLE:
            raise StackError(
                "a tuple does not fit the stack", why=f"{len(value)} elements, at most {_MAX_TUPLE}"
            )
        return make_tuple([_entry(element) for element in value])
    raise StackError(
        "a value cannot go onto the stack",
        why=f"{type(value).__name__} is not one of int, Cell, Slice, None, list",
        hint="pass an address as a slice",
    )


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise StackError("a get-method's result cannot be read", why="an integer on it is NaN") from None


def _value(entry: Any) -> StackValue:
    kind = entry.type()
    if kind == _NULL:
        return None
    if kind == _INT:
        return _integer(entry.as_int())
    if kind == _CELL:
        return from_native(entry.as_cell())
    if kind == _SLICE:
        return from_native(remainder(entry.as_cell_slice())).begin_parse()
    if kind == _BUILDER:
        return from_native(entry.as_cell_builder().get_cell(False)).begin_parse()
    if kind == _TUPLE:
        return [_value(element) for element in entry.as_tuple()]
    raise StackError(
        "a get-method's result cannot be read",
        why="it holds a continuation" if kind == _CONT else f"it holds an entry of kind {kind}",
    )
