"""Run a get-method of the compiled sample on the real TVM."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytoniq_core import Address, Builder, Cell, Slice
from tonpy.tvm.tvm import TVM, method_name_to_id
from tonpy.types import Cell as NativeCell
from tonpy.types import CellSlice as NativeSlice

SAMPLE = Path(__file__).parent / "sample"
OWNER = Address((0, bytes(range(32))))
INDEX = 7


class TvmRefusal(Exception):
    """The get-method threw."""


def _native(cell: Cell) -> NativeCell:
    return NativeCell(base64.b64encode(cell.to_boc()).decode())


def _to_native(value: Any) -> Any:
    if isinstance(value, Slice):
        return _native(value.to_cell()).begin_parse()
    return _native(value) if isinstance(value, Cell) else value


def _from_native(value: Any) -> Any:
    if isinstance(value, NativeSlice):
        return Cell.one_from_boc(value.to_boc()).begin_parse()
    if isinstance(value, NativeCell):
        return Cell.one_from_boc(value.to_boc())
    return [_from_native(item) for item in value] if isinstance(value, list) else value


_CODE = _native(Cell.one_from_boc((SAMPLE / "Sample.code.boc").read_bytes()))
_DATA = _native(Builder().store_address(OWNER).store_uint(INDEX, 32).store_maybe_ref(None).end_cell())


def call(method: str | int, *args: Any) -> list[Any]:
    """Return the stack that the get-method leaves. Raises `TvmRefusal`."""
    vm = TVM(code=_CODE, data=_DATA)
    number = method if isinstance(method, int) else method_name_to_id(method)
    vm.set_stack([*(_to_native(argument) for argument in args), number])
    stack = vm.run(allow_non_success=True)
    if vm.exit_code not in (0, -1):
        raise TvmRefusal(vm.exit_code)
    return [_from_native(item) for item in stack]


def run(request: Any) -> Any:
    """Make a generated `GetterCall` and decode its answer."""
    answer: Sequence[Any] = call(request.method, *request.args)
    return request.decode(list(answer))
