"""Both dialects of get-method stacks: round trips, toncenter's spellings, bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import begin_cell

from cocoon_sdk.chain.boc import encode_boc_base64
from cocoon_sdk.chain.stack import (
    MAX_ENTRIES,
    MAX_NESTING,
    as_slice,
    decode_legacy,
    decode_typed,
    encode_legacy,
    encode_typed,
)
from cocoon_sdk.errors import MalformedError
from tests.unit.chain.strategies import comparable, stack_values

CELL = begin_cell().store_uint(0xABCD, 16).end_cell()
stacks = st.lists(stack_values, max_size=5)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@settings(max_examples=50)
@given(stacks)
def test_typed_stack_can_be_restored_when_it_went_through_json(stack: list[Any]) -> None:
    assert comparable(decode_typed(through_json(encode_typed(stack)))) == comparable(stack)


@settings(max_examples=50)
@given(stacks)
def test_legacy_arguments_can_be_restored_when_they_went_through_json(stack: list[Any]) -> None:
    assert comparable(decode_legacy(through_json(encode_legacy(stack)))) == comparable(stack)


@settings(max_examples=50)
@given(stacks)
def test_legacy_answer_can_be_restored_when_top_level_slices_count_as_cells(stack: list[Any]) -> None:
    restored = decode_legacy(through_json(encode_legacy(stack, answer=True)))
    assert [comparable(value) for value in restored] == [
        comparable(value, slices_as_cells=True) for value in stack
    ]


def test_legacy_writer_can_spell_values_as_toncenter_does() -> None:
    text = encode_boc_base64(CELL)
    values = [10, -255, CELL, CELL.begin_parse(), None]
    assert encode_legacy(values) == [
        ["num", "0xa"],
        ["num", "-0xff"],
        ["tvm.Cell", text],
        ["tvm.Slice", text],
        ["list", {"@type": "tvm.list", "elements": []}],
    ]
    assert encode_legacy(values[2:4], answer=True) == [["cell", {"bytes": text}]] * 2


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        (["num", 3], 3),
        (["num", "3"], 3),
        (["int", "-0x10"], -16),
        (["number", "0xFF"], 255),
        (["null", None], None),
        (["tvm.List", {"@type": "tvm.list", "elements": []}], None),
        (["tvm.Tuple", {"@type": "tvm.tuple", "elements": []}], []),
    ],
)
def test_legacy_reader_can_take_every_spelling_when_it_is_known(entry: Any, value: Any) -> None:
    assert decode_legacy([entry]) == [value]


@pytest.mark.parametrize("kind", ["cell", "tvm.Cell", "slice", "tvm.Slice"])
def test_legacy_reader_can_take_both_forms_of_a_cell(kind: str) -> None:
    text = encode_boc_base64(CELL)
    for form in (text, {"bytes": text, "object": {"data": {"b64": "q80=", "len": 16}, "refs": []}}):
        (value,) = decode_legacy([[kind, form]])
        assert comparable(value) == ("slice" if "lice" in kind else "cell", CELL.hash)


def test_typed_writer_can_write_a_chain_of_pairs_as_a_list() -> None:
    (entry,) = encode_typed([[1, [2, None]]])
    assert entry["@type"] == "tvm.stackEntryList"
    assert [item["number"]["number"] for item in entry["list"]["elements"]] == ["1", "2"]
    assert decode_typed([entry]) == [[1, [2, None]]]


def test_stack_can_carry_a_list_when_it_is_longer_than_the_nesting_bound() -> None:
    chain: Any = None
    for number in range(1000):
        chain = [number, chain]
    restored = decode_typed(encode_typed([chain]))[0]
    length = 0
    while restored is not None:
        assert isinstance(restored, list)
        restored, length = restored[1], length + 1
    assert length == 1000


def test_writer_can_turn_python_truth_into_the_tvms() -> None:
    assert decode_legacy(encode_legacy([True, False])) == [-1, 0]


@pytest.mark.parametrize("decode", [decode_typed, decode_legacy])
@pytest.mark.parametrize(
    "entries",
    [
        None,
        {},
        [None],
        [7],
        [["num"]],
        [["num", "12x"]],
        [["num", True]],
        [["num", "9" * 90]],
        [["num", str(1 << 256)]],
        [["tvm.Cell", "!!"]],
        [["cell", {}]],
        [["builder", "x"]],
        [["tuple", {"elements": 5}]],
        [{"@type": "tvm.stackEntryUnsupported"}],
        [{"@type": "tvm.stackEntryNumber", "number": {"number": "0.5"}}],
        [{"@type": "tvm.stackEntryNumber"}],
        [{"@type": ["tvm.stackEntryNumber"]}],
    ],
)
def test_reader_cannot_take_a_stack_when_it_is_malformed(decode: Any, entries: Any) -> None:
    with pytest.raises(MalformedError):
        decode(entries)


def test_reader_cannot_take_a_stack_when_it_exceeds_a_bound() -> None:
    deep: Any = {"@type": "tvm.stackEntryTuple", "tuple": {"elements": []}}
    for _ in range(MAX_NESTING):
        deep = {"@type": "tvm.stackEntryTuple", "tuple": {"elements": [deep]}}
    with pytest.raises(MalformedError, match="too deeply"):
        decode_typed([deep])
    number = {"@type": "tvm.stackEntryNumber", "number": {"number": "1"}}
    wide = {"@type": "tvm.stackEntryTuple", "tuple": {"elements": [number] * 256}}
    with pytest.raises(MalformedError, match="tuple is too long"):
        decode_typed([wide])
    with pytest.raises(MalformedError, match="too large"):
        decode_legacy([["num", "1"]] * (MAX_ENTRIES + 1))
    chain = {"@type": "tvm.stackEntryList", "list": {"elements": [number] * 2000}}
    with pytest.raises(MalformedError, match="too large"):
        decode_typed([chain] * 3)


def test_writer_cannot_write_a_stack_when_it_exceeds_a_bound() -> None:
    deep: Any = 1
    for _ in range(MAX_NESTING + 1):
        deep = [deep]
    with pytest.raises(MalformedError, match="too deeply"):
        encode_typed([deep])
    with pytest.raises(MalformedError, match="tuple is too long"):
        encode_legacy([[0] * 256])
    with pytest.raises(MalformedError, match="does not fit"):
        encode_legacy([1 << 256])
    with pytest.raises(TypeError):
        encode_legacy([0.5])


def test_caller_can_read_a_slice_when_the_endpoint_said_cell() -> None:
    assert as_slice(CELL).load_uint(16) == as_slice(CELL.begin_parse()).load_uint(16) == 0xABCD
    with pytest.raises(MalformedError, match="not a slice"):
        as_slice(5)
