"""The generated codecs against the compiled contract: the TVM parses, writes and returns the same values."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytoniq_core import Address, Builder, Cell

from cocoon_sdk.errors import MalformedError
from tests.unit.codegen.sampled import addresses, cells, getters, messages, structs
from tests.unit.codegen.tvm import INDEX, OWNER, TvmRefusal, call, run

few = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
STRUCTS = ["Small", "Numbers", "Cells", "Overflow", "Nested", "Maps", "Wide"]
calls = getters.SampleGetters


def _snake(name: str) -> str:
    return name.lower()


@pytest.mark.parametrize("name", [*STRUCTS, "Empty"])
@few
@given(data=st.data())
def test_tvm_can_rewrite_our_cell_unchanged_when_it_parses_it(name: str, data: st.DataObject) -> None:
    value = data.draw(structs(getattr(messages, name)))
    cell = value.to_cell()
    assert run(getattr(calls, f"round_{_snake(name)}")(cell)) == cell
    assert type(value).from_cell(cell) == value


@pytest.mark.parametrize("name", STRUCTS)
@few
@given(data=st.data())
def test_tvm_can_return_every_field_as_it_was_when_it_parses_our_cell(name: str, data: st.DataObject) -> None:
    value = data.draw(structs(getattr(messages, name)))
    assert run(getattr(calls, f"fields_{_snake(name)}")(value.to_cell())) == value


@pytest.mark.parametrize("name", ["Small", "Nested", "Wide"])
@few
@given(data=st.data())
def test_tvm_can_return_an_optional_struct_when_it_is_there(name: str, data: st.DataObject) -> None:
    value = data.draw(structs(getattr(messages, name)))
    assert run(getattr(calls, f"maybe_{_snake(name)}")(value.to_cell())) == value


@pytest.mark.parametrize("name", ["Small", "Nested", "Wide"])
def test_tvm_can_return_none_when_an_optional_struct_is_missing(name: str) -> None:
    assert run(getattr(calls, f"maybe_{_snake(name)}")(None)) is None


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 130])
@pytest.mark.parametrize("step", [1, -1, 1 << 40])
def test_tvm_and_we_can_build_the_same_dictionary_when_given_the_same_entries(count: int, step: int) -> None:
    request = calls.build_map(count, step)
    stack = call(request.method, *request.args)
    expected = {(i - 3) * step: i * i for i in range(count)}
    assert request.decode(stack) == expected
    root = _maps(coins=expected).to_cell().refs[0] if expected else None
    assert root == stack[0]


def _maps(**given: Any) -> Any:
    names = ("ints", "coins", "flags", "inners", "cells", "people", "plain")
    empty: dict[str, Any] = {name: {} for name in names}
    return messages.Maps(**(empty | {"query_id": 0} | given))


@pytest.mark.parametrize("prefix", [0x0000, 0xFFFF, 0xAAAA])
@pytest.mark.parametrize("fork", range(16))
def test_tvm_and_we_can_choose_the_same_label_when_keys_part_at_any_bit(prefix: int, fork: int) -> None:
    ints = {prefix: -1, prefix ^ 1 << fork: 1, prefix ^ 1 << fork ^ (1 << fork) - 1: 2}
    cell = _maps(ints=ints).to_cell()
    request = calls.rebuild_map(cell)
    stack = call(request.method, *request.args)
    assert stack[0] == cell.refs[0]
    assert request.decode(stack) == ints


@few
@given(a=addresses, number=st.integers(-(1 << 200), 1 << 200))
def test_getters_can_take_and_return_plain_values_when_typed(a: Address, number: int) -> None:
    assert run(calls.echo_address(a)) == a
    assert run(calls.echo_maybe_address(None)) is None
    assert run(calls.is_owner(OWNER)) is True
    assert run(calls.is_owner(a)) is (a == OWNER)
    assert run(calls.maybe_int(None)) is None
    assert run(calls.sum(number, 1)) == number + 1


def test_contract_data_can_be_built_when_the_contract_has_parameters() -> None:
    data = run(calls.data())
    assert data == messages.SampleData(owner=OWNER, index=INDEX, state=None)
    stored = Builder().store_address(OWNER).store_uint(INDEX, 32).store_maybe_ref(None).end_cell()
    assert data.to_cell() == stored


@few
@given(name=st.sampled_from(STRUCTS), data=st.data())
def test_codec_cannot_accept_what_the_tvm_refuses_when_bits_are_changed(
    name: str, data: st.DataObject
) -> None:
    struct = getattr(messages, name)
    cell = data.draw(structs(struct)).to_cell()
    changed = _flip(cell, data.draw(st.integers(0, 2000)))
    try:
        value = struct.from_cell(changed)
    except MalformedError:
        return
    assert run(getattr(calls, f"fields_{_snake(name)}")(changed)) == value


@few
@given(name=st.sampled_from(STRUCTS), cell=cells())
def test_codec_cannot_accept_what_the_tvm_refuses_when_the_cell_is_garbage(name: str, cell: Cell) -> None:
    struct = getattr(messages, name)
    builder = Builder().store_uint(getattr(struct, "OPCODE", 0), 32 if hasattr(struct, "OPCODE") else 8)
    garbage = builder.store_slice(_head(cell)).end_cell()
    try:
        value: Any = struct.from_cell(garbage)
    except MalformedError:
        value = None
    try:
        answer = call(f"round{name}", garbage)
    except TvmRefusal:
        answer = None
    assert value is None or answer is not None


def _head(cell: Cell) -> Any:
    part = Builder().store_bits(cell.bits[:900])
    for ref in cell.refs:
        part.store_ref(ref)
    return part.end_cell().begin_parse()


def _flip(cell: Cell, position: int) -> Cell:
    """Change one bit of the root, or of its first reference beyond it."""
    size = len(cell.bits)
    if position >= size and cell.refs:
        return _rebuilt(cell.bits, [_flip(cell.refs[0], position - size), *cell.refs[1:]])
    if not size:
        return cell
    bits = cell.bits.copy()
    bits[position % size] = not bits[position % size]
    return _rebuilt(bits, cell.refs)


def _rebuilt(bits: Any, refs: list[Cell]) -> Cell:
    builder = Builder().store_bits(bits)
    for ref in refs:
        builder.store_ref(ref)
    return builder.end_cell()
