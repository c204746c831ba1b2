"""Whatever bytes come in, a codec raises `MalformedError` or returns a value that it writes again."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Address, Builder, Cell

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol import abi_dict
from cocoon_sdk.protocol.abi_cells import Reader
from cocoon_sdk.protocol.abi_codecs import MAX_TEXT_BYTES, TEXT
from cocoon_sdk.types import Nano
from tests.unit.codegen.sampled import cells, messages, structs

NAMES = ["Small", "Numbers", "Cells", "Overflow", "Nested", "Maps", "Wide", "Empty"]
some = settings(max_examples=40, deadline=None)
ADDRESS = Address((0, b"\x01" * 32))


@some
@given(
    name=st.sampled_from(NAMES),
    cell=cells(),
    stack=st.lists(st.none() | st.integers() | cells(0), max_size=20),
)
def test_decoder_cannot_raise_anything_else_when_given_garbage(
    name: str, cell: Cell, stack: list[Any]
) -> None:
    struct = getattr(messages, name)
    attempts = (
        lambda: struct.from_cell(cell),
        lambda: struct.load(cell.begin_parse()),
        lambda: struct.from_stack(stack),
        lambda: struct.from_tuple(stack),
        lambda: struct.from_tuple(None),
    )
    for attempt in attempts:
        try:
            value = attempt()
        except MalformedError:
            continue
        assert isinstance(value, struct)


@some
@given(name=st.sampled_from(NAMES), data=st.data())
def test_decoder_cannot_accept_a_cell_when_it_is_cut_short_or_longer(name: str, data: st.DataObject) -> None:
    struct = getattr(messages, name)
    cell = data.draw(structs(struct)).to_cell()
    if len(cell.bits) < 1023:
        with pytest.raises(MalformedError, match=name):
            struct.from_cell(Builder().store_slice(cell.begin_parse()).store_bit(1).end_cell())
    if len(cell.refs) < 4:
        with pytest.raises(MalformedError, match=name):
            struct.from_cell(Builder().store_slice(cell.begin_parse()).store_ref(Cell.empty()).end_cell())
    for cut in range(1, min(len(cell.bits), 64)):
        with pytest.raises(MalformedError, match=name):
            struct.from_cell(_with_refs(cell.bits[:-cut], cell.refs))
    if cell.refs:
        with pytest.raises(MalformedError, match=name):
            struct.from_cell(_with_refs(cell.bits, cell.refs[:-1]))


def test_decoder_cannot_accept_a_tail_cell_when_it_has_more_than_its_fields() -> None:
    cell = _overflow().to_cell()
    tail = Builder().store_slice(cell.refs[0].begin_parse()).store_bit(0).end_cell()
    with pytest.raises(MalformedError, match="Overflow"):
        messages.Overflow.from_cell(_with_refs(cell.bits, [tail]))


def test_slice_can_stay_where_it_was_when_loading_fails() -> None:
    source = Builder().store_uint(messages.Small.OPCODE, 32).store_uint(5, 10).end_cell().begin_parse()
    with pytest.raises(MalformedError, match=r"Small\.query_id"):
        messages.Small.load(source)
    assert source.remaining_bits == 42


def test_slice_can_stand_behind_the_struct_when_loading_succeeds() -> None:
    inner = messages.Inner(id=5, who=ADDRESS, body=Cell.empty())
    builder = Builder().store_ref(Cell.empty())
    source = inner.store(builder).store_uint(3, 2).end_cell().begin_parse()
    source.load_ref()
    assert messages.Inner.load(source) == inner
    assert (source.remaining_bits, source.remaining_refs) == (2, 0)
    assert source.load_uint(2) == 3


def test_builder_cannot_change_when_the_struct_does_not_fit() -> None:
    builder = Builder().store_uint(0, 1000)
    with pytest.raises(MalformedError, match="does not fit"):
        messages.Small(query_id=1, flag=True).store(builder)
    assert builder.used_bits == 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("a", 2),
        ("a", -1),
        ("a", True),
        ("b", 128),
        ("b", -129),
        ("c", 1 << 256),
        ("d", 1 << 256),
        ("f", Nano(1 << 120)),
        ("f", -1),
        ("g", 1 << 120),
        ("h", 1 << 119),
        ("h", -(1 << 119) - 1),
        ("i", 1 << 248),
        ("j", 1 << 247),
        ("j", "7"),
        ("a", None),
        ("from_", 1),
        ("maybe_int", 1 << 32),
        ("maybe_bool", 0),
    ],
)
def test_encoder_cannot_write_a_number_when_it_is_out_of_range(field: str, value: Any) -> None:
    arguments = dict.fromkeys("abcdefghij", 0) | {
        "query_id": 0,
        "f": Nano(0),
        "from_": False,
        "maybe_int": None,
        "maybe_coins": None,
        "maybe_bool": None,
    }
    messages.Numbers(**arguments).to_cell()
    with pytest.raises(MalformedError, match=rf"Numbers\.{field}"):
        messages.Numbers(**(arguments | {field: value})).to_cell()


@pytest.mark.parametrize("who", [None, "0:00", Address((128, b"\x00" * 32)), Address((0, b"\x00" * 31))])
def test_encoder_cannot_write_an_address_when_it_is_not_standard(who: Any) -> None:
    with pytest.raises(MalformedError, match=r"Inner\.who"):
        messages.Inner(id=1, who=who, body=Cell.empty()).to_cell()


def test_coins_can_be_read_when_they_take_more_bytes_than_needed() -> None:
    padded = Builder().store_uint(2, 4).store_uint(7, 16).end_cell()
    codec = messages.Numbers.LAYOUT[0][6][1]
    value = codec.read(Reader.of_cell(padded))
    assert (value, type(value)) == (7, Nano)


def test_decoder_cannot_accept_an_exotic_cell_when_an_ordinary_one_is_due() -> None:
    library = Cell(Builder().store_uint(2, 8).store_uint(0, 256).end_cell().bits, [], 2)
    for attempt in (
        lambda: messages.Small.from_cell(library),
        lambda: messages.Small.load(library.begin_parse()),
        lambda: messages.Overflow.from_cell(_with_refs(_overflow().to_cell().bits, [library])),
    ):
        with pytest.raises(MalformedError, match="exotic"):
            attempt()


def test_dictionary_cannot_unfold_without_end_when_its_cells_are_shared() -> None:
    leaf = Builder().store_uint(0, 2).store_uint(0, 32).end_cell()
    node = leaf
    for _ in range(16):
        node = Builder().store_uint(0, 2).store_ref(node).store_ref(node).end_cell()
    with pytest.raises(MalformedError, match=str(abi_dict.MAX_ENTRIES)):
        list(abi_dict.parse(node, 16))


@pytest.mark.parametrize("label", ["0" + "1" * 17 + "0", "10" + "11111", "110" + "11111", "0" + "1" * 40])
def test_dictionary_cannot_have_a_label_when_it_is_longer_than_the_key(label: str) -> None:
    with pytest.raises(MalformedError):
        list(abi_dict.parse(Builder().store_bits(label).end_cell(), 16))


def test_text_cannot_be_read_or_written_when_it_is_too_long() -> None:
    with pytest.raises(MalformedError, match="longer"):
        TEXT.stack("x" * (MAX_TEXT_BYTES + 1))
    cell = Cell.empty()
    for _ in range(MAX_TEXT_BYTES // 127 + 1):
        cell = Builder().store_bytes(b"x" * 127).store_ref(cell).end_cell()
    with pytest.raises(MalformedError, match="longer"):
        TEXT.unstack(cell.begin_parse())


@pytest.mark.parametrize("data", [b"\xff", b"\xc3"])
def test_text_cannot_be_read_when_it_is_not_utf8(data: bytes) -> None:
    with pytest.raises(MalformedError, match="UTF-8"):
        TEXT.unstack(Builder().store_bytes(data).end_cell().begin_parse())


def _overflow() -> Any:
    empty = Cell.empty()
    return messages.Overflow(
        query_id=1, a=ADDRESS, b=ADDRESS, c=ADDRESS, d=1, e=2, f=empty, g=empty, h=empty, i=empty, j=3
    )


def _with_refs(bits: Any, refs: list[Cell]) -> Cell:
    builder = Builder().store_bits(bits)
    for ref in refs:
        builder.store_ref(ref)
    return builder.end_cell()
