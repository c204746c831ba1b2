"""TEP-64 content: what is on the chain, what is elsewhere, and what is damaged."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Cell, HashMap, begin_cell

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.cells import to_native
from cocoon_sdk.sandbox.toncenter.token_content import token_content


def snake(text: bytes, tag: int | None = 0) -> Cell:
    head = b"" if tag is None else bytes([tag])
    return begin_cell().store_snake_bytes(head + text).end_cell()


def on_chain(entries: dict[str, Cell]) -> Cell:
    table: HashMap = HashMap(256, value_serializer=lambda cell, builder: builder.store_ref(cell))
    for name, cell in entries.items():
        table.set_int_key(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big"), cell)
    return begin_cell().store_uint(0, 8).store_dict(table.serialize()).end_cell()


@settings(deadline=None)
@given(st.text(max_size=300))
def test_reader_can_follow_a_link_of_any_length(text: str) -> None:
    assert token_content(to_native(snake(text.encode(), 1))) == {"type": "offchain", "data": text}


def test_reader_can_find_known_attributes_only() -> None:
    chunks: HashMap = HashMap(32, value_serializer=lambda cell, builder: builder.store_ref(cell))
    chunks.set_int_key(0, snake(b"a chunked ", None))
    chunks.set_int_key(1, snake(b"description", None))
    described = begin_cell().store_uint(1, 8).store_dict(chunks.serialize()).end_cell()
    cell = on_chain(
        {
            "name": snake("Größe".encode()),
            "symbol": snake(b"SZE"),
            "description": described,
            "image_data": snake(b"\x00\xff"),
            "decimals": snake(b"\xff"),  # no text: left out
            "colour": snake(b"blue"),
        }
    )
    assert token_content(to_native(cell)) == {
        "type": "onchain",
        "data": {
            "name": "Größe",
            "symbol": "SZE",
            "description": "a chunked description",
            "image_data": base64.b64encode(b"\x00\xff").decode(),
        },
    }
    assert token_content(to_native(on_chain({}))) == {"type": "onchain", "data": {}}


def test_reader_can_take_attributes_that_lie_directly_in_the_dictionary() -> None:
    table: HashMap = HashMap(256, value_serializer=lambda cell, builder: builder.store_cell(cell))
    table.set_int_key(int.from_bytes(hashlib.sha256(b"name").digest(), "big"), snake(b"direct"))
    cell = begin_cell().store_uint(0, 8).store_dict(table.serialize()).end_cell()
    assert token_content(to_native(cell))["data"] == {"name": "direct"}


@pytest.mark.parametrize(
    "cell",
    [
        begin_cell().end_cell(),
        snake(b"what", 2),
        snake(b"\xff\xfe", 1),
        begin_cell().store_uint(0, 8).store_bit(1).end_cell(),
        begin_cell().store_uint(1, 8).store_uint(0, 3).end_cell(),
    ],
)
def test_reader_cannot_take_what_is_no_content(cell: Cell) -> None:
    with pytest.raises(MalformedError):
        token_content(to_native(cell))
