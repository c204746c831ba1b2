"""The TL-B stack of liteservers: round trips, the library's and the engine's own spelling, bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Builder, Cell, begin_cell
from pytoniq_core.tlb.vm_stack import VmStack

from cocoon_sdk.chain.boc import decode_boc, encode_boc
from cocoon_sdk.chain.stack import MAX_ENTRIES, MAX_NESTING, MAX_TUPLE
from cocoon_sdk.chain.vm_stack import decode_vm_stack, encode_vm_stack
from cocoon_sdk.errors import MalformedError
from tests.unit.chain.strategies import cells, comparable, numbers, stack_values

CELL = begin_cell().store_uint(0xABCD, 16).store_ref(begin_cell().end_cell()).end_cell()
stacks = st.lists(stack_values, max_size=5)


def stack_of(depth: int, entry: Builder) -> Cell:
    """Return a stack that claims `depth` entries and has one, with `entry` behind its link."""
    rest = begin_cell().end_cell()
    return begin_cell().store_uint(depth, 24).store_ref(rest).store_cell(entry.end_cell()).end_cell()


@settings(max_examples=80)
@given(stacks)
def test_stack_can_be_restored_when_it_went_through_a_bag_of_cells(stack: list[Any]) -> None:
    restored = decode_vm_stack(decode_boc(encode_boc(encode_vm_stack(stack))))
    assert comparable(restored) == comparable(stack)


@settings(max_examples=40)
@given(st.lists(st.one_of(numbers, cells), max_size=5))
def test_stack_can_be_written_as_the_library_writes_it(stack: list[Any]) -> None:
    assert encode_vm_stack(stack).hash == VmStack.serialize(list(stack)).hash


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, MAX_TUPLE])
def test_tuple_can_have_any_length_up_to_the_bound(count: int) -> None:
    value: list[Any] = [list(range(count)), None, -(1 << 256), True]
    assert decode_vm_stack(encode_vm_stack(value)) == [list(range(count)), None, -(1 << 256), -1]


def test_list_of_the_tvm_can_be_as_long_as_cells_allow() -> None:
    chain: Any = None
    for item in range(900):
        chain = [item, chain]
    assert decode_vm_stack(encode_vm_stack([chain])) == [chain]
    for item in range(900):
        chain = [item, chain]
    with pytest.raises(MalformedError, match="depth"):
        encode_vm_stack([chain])


def test_slice_can_be_a_part_of_its_cell() -> None:
    entry = begin_cell().store_uint(4, 8).store_ref(CELL)
    entry.store_uint(4, 10).store_uint(12, 10).store_uint(0, 3).store_uint(1, 3)
    (value,) = decode_vm_stack(stack_of(1, entry))
    assert (value.load_uint(8), len(value.refs)) == (0xBC, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (begin_cell().store_uint(0x02FF, 16), "not a number"),
        (begin_cell().store_uint(5, 8).store_ref(CELL), "a builder"),
        (begin_cell().store_uint(6, 8), "a continuation"),
        (begin_cell().store_uint(9, 8), "type 9"),
        (begin_cell().store_uint(7, 8).store_uint(MAX_TUPLE + 1, 16), "256 elements"),
        (begin_cell().store_uint(7, 8).store_uint(3, 16).store_ref(CELL), "none is left"),
        (begin_cell().store_uint(1, 8).store_uint(0, 63), "64 bits were expected"),
        (begin_cell().store_uint(0, 9), "1 bits and 0 references too many"),
        (begin_cell().store_uint(3, 8), "a reference was expected"),
        (begin_cell().store_uint(4, 8).store_ref(CELL).store_uint(17 << 6, 26), "outside its cell"),
    ],
    ids=["nan", "builder", "continuation", "unknown", "long", "short", "cut", "rest", "no-cell", "slice"],
)
def test_server_cannot_send_an_entry_when_it_is_no_value(entry: Builder, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        decode_vm_stack(stack_of(1, entry))


def test_server_cannot_send_a_stack_when_its_depth_is_wrong() -> None:
    null = begin_cell().store_uint(0, 8)
    with pytest.raises(MalformedError, match="reference"):
        decode_vm_stack(stack_of(2, null))
    with pytest.raises(MalformedError, match="too large"):
        decode_vm_stack(stack_of(MAX_ENTRIES + 1, null))
    with pytest.raises(MalformedError, match="too many"):
        decode_vm_stack(stack_of(0, null))


def test_caller_cannot_pass_what_is_no_stack_value() -> None:
    nested: Any = None
    for _ in range(MAX_NESTING + 2):
        nested = [nested, 0]
    with pytest.raises(MalformedError, match="nests too deeply"):
        encode_vm_stack([nested])
    with pytest.raises(MalformedError, match="257 bits"):
        encode_vm_stack([1 << 256])
    with pytest.raises(MalformedError, match="too long"):
        encode_vm_stack([[0] * (MAX_TUPLE + 1)])
    with pytest.raises(TypeError, match="str is no stack value"):
        encode_vm_stack(["text"])
