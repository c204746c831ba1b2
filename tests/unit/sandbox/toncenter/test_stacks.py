"""Stacks of get-methods in both dialects, from the engine's entries."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Cell, Slice, begin_cell

from cocoon_sdk.chain.base import StackValue
from cocoon_sdk.chain.stack import decode_typed, encode_legacy, encode_typed
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.cells import to_native
from cocoon_sdk.sandbox.engine import PyStack, PyStackEntry, make_tuple
from cocoon_sdk.sandbox.stack import MAX_STACK, push_all
from cocoon_sdk.sandbox.toncenter.params import Refused
from cocoon_sdk.sandbox.toncenter.stacks import (
    MAX_DEPTH,
    MAX_ENTRIES,
    legacy_stack,
    read_legacy,
    read_typed,
    typed_stack,
)
from cocoon_sdk.sandbox.tvm import GetterContext
from tests.unit.sandbox.contracts import assemble, getter

CHILD = begin_cell().store_uint(5, 3).end_cell()
CELL = begin_cell().store_uint(0xABC, 12).store_ref(CHILD).end_cell()

_values: st.SearchStrategy[StackValue] = st.recursive(
    st.one_of(
        st.none(),
        st.integers(-(1 << 256), (1 << 256) - 1),
        st.just(CELL),
        st.integers(0, 1 << 60).map(lambda n: begin_cell().store_uint(n, 61).end_cell()),
    ),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def stack_of(*entries: Any) -> Any:
    """Build an engine's stack from its own entries."""
    stack = PyStack()
    for entry in entries:
        stack.push(entry)
    return stack


@settings(deadline=None)
@given(st.lists(_values, max_size=5))
def test_answer_can_say_whatever_a_stack_holds(values: list[StackValue]) -> None:
    # The same words as the codec that clients use, and clients get back what was there.
    assert typed_stack(push_all(values)) == encode_typed(values)
    json.dumps(legacy_stack(push_all(values)))


def test_old_dialect_can_show_cells_in_two_ways_and_slices_as_cells() -> None:
    [number, negative, cell, slice_, nothing] = legacy_stack(
        push_all([255, -16, CELL, CELL.begin_parse(), None])
    )
    assert (number, negative) == (["num", "0xff"], ["num", "-0x10"])
    assert cell == slice_
    assert Cell.one_from_boc(base64.b64decode(cell[1]["bytes"])) == CELL
    leaf = {"data": {"b64": base64.b64encode(b"\xa0").decode(), "len": 3}, "refs": [], "special": False}
    assert cell[1]["object"] == {
        "data": {"b64": base64.b64encode(b"\xab\xc0").decode(), "len": 12},
        "refs": [leaf],
        "special": False,
    }
    assert nothing == ["list", {"@type": "tvm.list", "elements": []}]


def test_lists_can_be_told_from_tuples() -> None:
    chain: StackValue = None
    for number in (3, 2, 1):
        chain = [number, chain]
    listed, pair = legacy_stack(push_all([chain, [1, 2]]))
    assert listed[0] == "list"
    assert [item["number"]["number"] for item in listed[1]["elements"]] == ["1", "2", "3"]
    assert pair[0] == "tuple"
    assert [item["number"]["number"] for item in pair[1]["elements"]] == ["1", "2"]


def test_values_that_have_no_words_can_be_named_unsupported() -> None:
    # A builder, a continuation, and what is not a number.
    code = to_native(assemble(getter("NEWC c0 PUSHCTR PUSHNAN")))
    context = GetterContext(now=1, lt=1, key=0, balance=0, code=code, data=None)
    stack = Blockchain().call_getter(context, "any", PyStack()).stack
    assert stack.depth() == 3
    assert legacy_stack(stack) == [["unsupported", ""]] * 3
    assert typed_stack(stack) == [{"@type": "tvm.stackEntryUnsupported"}] * 3


def test_answer_cannot_nest_or_grow_without_bound() -> None:
    deep = PyStackEntry(big_int="1")
    for _ in range(MAX_DEPTH + 1):
        deep = make_tuple([deep, deep])
    with pytest.raises(Refused, match="Result stack depth") as caught:
        typed_stack(stack_of(deep))
    assert caught.value.status in (500, 533)
    chain = PyStackEntry()
    for _ in range(MAX_ENTRIES + 10):
        chain = make_tuple([PyStackEntry(big_int="1"), chain])
    with pytest.raises(Refused, match="exceeds limit"):
        typed_stack(stack_of(chain))


def test_shared_cells_can_be_told_without_writing_each_place_out() -> None:
    cell = CHILD
    for _ in range(40):  # 2^40 places
        cell = begin_cell().store_ref(cell).store_ref(cell).end_cell()
    [[kind, value]] = legacy_stack(push_all([cell]))
    assert (kind, set(value)) == ("cell", {"bytes"})
    deep = CHILD
    for _ in range(600):
        deep = begin_cell().store_ref(deep).end_cell()
    [[_, value]] = legacy_stack(push_all([deep]))
    assert set(json.loads(json.dumps(value))) == {"bytes"}


@pytest.mark.parametrize("name", ["tvm.Builder", "null", "boolean"])
def test_caller_cannot_pass_types_that_the_service_does_not_take(name: str) -> None:
    with pytest.raises(Refused, match=f"Unsupported stack entry type: {name}") as caught:
        read_legacy([[name, "x"]])
    assert caught.value.status == 542


@pytest.mark.parametrize(
    "entries", [["num"], [["num", "x"]], [["num"]], [["tvm.Cell", "!!"]], [["num", "1"]] * (MAX_STACK + 1)]
)
def test_caller_cannot_pass_damaged_arguments(entries: list[Any]) -> None:
    with pytest.raises(Refused) as caught:
        read_legacy(entries)
    assert caught.value.status == 422
    with pytest.raises(Refused):
        read_typed(entries)


def test_caller_can_pass_arguments_in_both_dialects() -> None:
    values: list[StackValue] = [7, -7, CELL, [1, [2, CELL]]]
    assert read_legacy(encode_legacy(values)) == values
    assert read_typed(encode_typed(values)) == values
    [slice_] = read_legacy(encode_legacy([CELL.begin_parse()]))
    assert isinstance(slice_, Slice)
    assert slice_.to_cell() == CELL
    assert decode_typed(encode_typed(values)) == values
