"""Hypothesis strategies for cells and stack values."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from pytoniq_core import Cell, begin_cell


def _cell(bits: str, refs: list[Cell]) -> Cell:
    builder = begin_cell()
    if bits:
        builder.store_bits(bits)
    for ref in refs:
        builder.store_ref(ref)
    return builder.end_cell()


bit_strings = st.text(alphabet="01", max_size=80)
cells: st.SearchStrategy[Any] = st.recursive(
    bit_strings.map(lambda bits: _cell(bits, [])),
    lambda inner: st.builds(_cell, bit_strings, st.lists(inner, max_size=4)),
    max_leaves=12,
)
numbers = st.integers(min_value=-(1 << 256), max_value=(1 << 256) - 1)
stack_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), numbers, cells, cells.map(lambda cell: cell.begin_parse())),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def comparable(value: Any, *, slices_as_cells: bool = False) -> Any:
    """Turn a stack value into something that `==` compares by content (slices have no equality)."""
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if hasattr(value, "to_cell") and not isinstance(value, Cell):
        return ("cell" if slices_as_cells else "slice", value.to_cell().hash)
    return ("cell", value.hash) if isinstance(value, Cell) else value
