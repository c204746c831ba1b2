"""Get-method stacks as toncenter v2 writes them in JSON, in both directions.

Owns the codec that the HTTP adapter and the HTTP server share. Must not know sockets. Two dialects exist:
the *typed* one (`runGetMethodStd`, lossless) and the *legacy* one (`runGetMethod`), whose answers show a
slice as a cell: use `as_slice` where a slice is expected. Null is an empty list, and a list is the TVM's
chain of pairs: `[1, [2, None]]` travels as a list of two elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from pytoniq_core import Cell, Slice

from cocoon_sdk.chain.base import StackValue
from cocoon_sdk.chain.boc import decode_boc_base64, encode_boc_base64
from cocoon_sdk.errors import MalformedError

Json: TypeAlias = Any
"""What `json.loads` returns: unchecked until a function of this module has looked at it."""

MAX_NESTING = 32
MAX_ENTRIES = 4096
MAX_TUPLE = 255
"""The TVM's own bound on the elements of one tuple."""

_NUMBER = re.compile(r"\A([+-]?)(?:0[xX]([0-9a-fA-F]{1,65})|([0-9]{1,80}))\Z")
_LOW, _HIGH = -(1 << 256), (1 << 256) - 1


class _Budget:
    """Counts the entries of one stack, however they nest."""

    def __init__(self) -> None:
        self._left = MAX_ENTRIES

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise MalformedError("stack is too large", why=f"more than {MAX_ENTRIES} entries")


def as_slice(value: StackValue) -> Slice:
    """Return a stack value that must be a slice, also when the endpoint reported it as a cell."""
    if isinstance(value, Cell):
        return value.begin_parse()
    if isinstance(value, Slice):
        return value
    raise MalformedError("stack value is not a slice", why=f"got {type(value).__name__}")


# -- typed dialect ------------------------------------------------------------------------------------


def encode_typed(values: Sequence[StackValue]) -> list[Json]:
    """Write a stack in the typed dialect.

    Raises `MalformedError` beyond a bound and `TypeError` for what is no stack value.
    """
    budget = _Budget()
    return [_typed(value, budget, 0) for value in values]


def decode_typed(entries: Json) -> list[StackValue]:
    """Read a stack in the typed dialect. Raises `MalformedError`."""
    budget = _Budget()
    return [_from_typed(entry, budget, 0) for entry in _array(entries)]


def _typed(value: StackValue, budget: _Budget, depth: int) -> Json:
    budget.take()
    if value is None or isinstance(value, list):
        if depth >= MAX_NESTING:
            raise MalformedError("stack nests too deeply", why=f"more than {MAX_NESTING} levels")
        chain = _chain(value)
        items = chain if chain is not None else list(value or [])
        if chain is None and len(items) > MAX_TUPLE:
            raise MalformedError("tuple is too long", why=f"{len(items)} elements, at most {MAX_TUPLE}")
        name = "tuple" if chain is None else "list"
        elements = [_typed(item, budget, depth + 1) for item in items]
        return {
            "@type": f"tvm.stackEntry{name.capitalize()}",
            name: {"@type": f"tvm.{name}", "elements": elements},
        }
    if isinstance(value, Cell):
        return {
            "@type": "tvm.stackEntryCell",
            "cell": {"@type": "tvm.cell", "bytes": encode_boc_base64(value)},
        }
    if isinstance(value, Slice):
        text = encode_boc_base64(value.to_cell())
        return {"@type": "tvm.stackEntrySlice", "slice": {"@type": "tvm.slice", "bytes": text}}
    number = {"@type": "tvm.numberDecimal", "number": str(_checked(value))}
    return {"@type": "tvm.stackEntryNumber", "number": number}


def _from_typed(entry: Json, budget: _Budget, depth: int) -> StackValue:
    budget.take()
    kind = _member(entry, "@type")
    if kind == "tvm.stackEntryNumber":
        return _number(_member(_member(entry, "number"), "number"))
    if kind == "tvm.stackEntryCell":
        return decode_boc_base64(_member(_member(entry, "cell"), "bytes"))
    if kind == "tvm.stackEntrySlice":
        return decode_boc_base64(_member(_member(entry, "slice"), "bytes")).begin_parse()
    if kind == "tvm.stackEntryTuple":
        return _from_elements("tuple", _member(entry, "tuple"), budget, depth)
    if kind == "tvm.stackEntryList":
        return _from_elements("list", _member(entry, "list"), budget, depth)
    raise MalformedError("unsupported stack entry", why=f"type {str(kind)[:40]!r}")


def _from_elements(name: str, holder: Json, budget: _Budget, depth: int) -> StackValue:
    if depth >= MAX_NESTING:
        raise MalformedError("stack nests too deeply", why=f"more than {MAX_NESTING} levels")
    items = [_from_typed(item, budget, depth + 1) for item in _array(_member(holder, "elements"))]
    if name == "tuple":
        if len(items) > MAX_TUPLE:
            raise MalformedError("tuple is too long", why=f"{len(items)} elements, at most {MAX_TUPLE}")
        return items
    chain: StackValue = None
    for item in reversed(items):
        chain = [item, chain]
    return chain


# -- legacy dialect -----------------------------------------------------------------------------------


def encode_legacy(values: Sequence[StackValue], *, answer: bool = False) -> list[Json]:
    """Write a stack in the legacy dialect: as arguments, or with `answer` as results (slices as cells).

    Raises like `encode_typed`.
    """
    budget = _Budget()
    return [_legacy(value, budget, answer) for value in values]


def decode_legacy(entries: Json) -> list[StackValue]:
    """Read a stack in the legacy dialect, in every spelling of both directions. Raises `MalformedError`."""
    budget = _Budget()
    return [_from_legacy(entry, budget) for entry in _array(entries)]


def _legacy(value: StackValue, budget: _Budget, answer: bool) -> Json:
    if value is None or isinstance(value, list):
        typed = _typed(value, budget, 0)
        name = "list" if "list" in typed else "tuple"
        return [name, typed[name]]
    budget.take()
    if isinstance(value, Cell | Slice):
        text = encode_boc_base64(value if isinstance(value, Cell) else value.to_cell())
        if answer:
            return ["cell", {"bytes": text}]
        return ["tvm.Cell" if isinstance(value, Cell) else "tvm.Slice", text]
    return ["num", hex(_checked(value))]


def _from_legacy(entry: Json, budget: _Budget) -> StackValue:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
        raise MalformedError("stack entry is not a pair of type and value")
    kind, value = entry[0].removeprefix("tvm.").lower(), entry[1]
    budget.take()
    if kind in ("num", "int", "number", "integer"):
        return _number(value)
    if kind in ("cell", "slice"):
        cell = decode_boc_base64(_member(value, "bytes") if isinstance(value, dict) else value)
        return cell if kind == "cell" else cell.begin_parse()
    if kind in ("tuple", "list"):
        return _from_elements(kind, value, budget, 0)
    if kind == "null":
        return None
    raise MalformedError("unsupported stack entry", why=f"type {entry[0][:40]!r}")


# -- shared -------------------------------------------------------------------------------------------


def _chain(value: list[StackValue] | None) -> list[StackValue] | None:
    """Return the items of a chain of pairs ending in null (null itself: none), or None for another tuple."""
    items: list[StackValue] = []
    rest: StackValue = value
    while rest is not None:
        if not isinstance(rest, list) or len(rest) != 2 or len(items) > MAX_ENTRIES:
            return None
        items.append(rest[0])
        rest = rest[1]
    return items


def _checked(value: Any) -> int:
    if isinstance(value, bool):
        return -int(value)  # the TVM's true is -1
    if not isinstance(value, int):
        raise TypeError(f"{type(value).__name__} is no stack value: pass int, Cell, Slice, None or a list")
    if not _LOW <= value <= _HIGH:
        raise MalformedError("number does not fit the TVM", why="257 bits with sign at most")
    return int(value)


def _number(value: Json) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return _checked(value)
    match = _NUMBER.match(value) if isinstance(value, str) else None
    if match is None:
        raise MalformedError("stack entry is not a number", why=f"got {str(value)[:40]!r}")
    sign, hexadecimal, decimal = match.groups()
    magnitude = int(hexadecimal, 16) if hexadecimal else int(decimal)
    return _checked(-magnitude if sign == "-" else magnitude)


def _member(holder: Json, name: str) -> Json:
    if not isinstance(holder, dict) or name not in holder:
        raise MalformedError("stack entry lacks a field", why=f"expected an object with {name!r}")
    return holder[name]


def _array(value: Json) -> Iterable[Json]:
    if not isinstance(value, list):
        raise MalformedError("stack is not an array")
    if len(value) > MAX_ENTRIES:
        raise MalformedError("stack is too large", why=f"more than {MAX_ENTRIES} entries")
    return value
