"""Messages survive building, the engine's cells and the lazy view."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address, Cell, begin_cell
from pytoniq_core.tlb.transaction import MessageAny

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox import Message, external_message, internal_message, state_init
from cocoon_sdk.sandbox.cells import address_key, from_native, key_address, to_native
from cocoon_sdk.types import MAX_COINS
from tests.unit.sandbox.contracts import EMPTY

addresses = st.builds(
    lambda workchain, hash_part: Address((workchain, hash_part)),
    st.sampled_from([-1, 0, 7, -128, 127]),
    st.binary(min_size=32, max_size=32),
)


@st.composite
def cells(draw: st.DrawFn, depth: int = 2) -> Cell:
    bits = draw(st.text("01", max_size=1023))
    builder = begin_cell().store_bits(bits)
    if depth:
        for child in draw(st.lists(cells(depth - 1), max_size=4 if depth == 2 else 1)):
            builder.store_ref(child)
    return builder.end_cell()


inits = st.one_of(st.none(), st.builds(state_init, cells(1), cells(1)))


@given(
    src=addresses,
    dst=addresses,
    value=st.integers(0, MAX_COINS),
    body=cells(),
    init=inits,
    bounce=st.booleans(),
    bounced=st.booleans(),
    created_lt=st.integers(0, 2**64 - 1),
    created_at=st.integers(0, 2**32 - 1),
)
def test_internal_message_can_be_read_back_whatever_it_holds(
    src: Address,
    dst: Address,
    value: int,
    body: Cell,
    init: Cell | None,
    bounce: bool,
    bounced: bool,
    created_lt: int,
    created_at: int,
) -> None:
    cell = internal_message(
        src=src, dst=dst, value=value, body=body, init=init, bounce=bounce, bounced=bounced,
        created_lt=created_lt, created_at=created_at,
    )  # fmt: skip
    view = Message(to_native(cell))
    assert view.is_internal
    assert (view.src, view.dst, view.value) == (src, dst, value)
    assert (view.bounce, view.bounced, view.created_lt, view.created_at) == (
        bounce,
        bounced,
        created_lt,
        created_at,
    )
    assert (view.fwd_fee, view.ihr_fee) == (0, 0)
    assert (view.body, view.init) == (body, init)
    assert view.op == (body.begin_parse().load_uint(32) if len(body.bits) >= 32 else None)
    assert (view.cell, view.hash) == (cell, cell.hash)


@given(dst=addresses, body=cells(), init=inits)
def test_external_message_can_be_read_back_and_by_others(dst: Address, body: Cell, init: Cell | None) -> None:
    cell = external_message(dst, body, init)
    view = Message(to_native(cell))
    assert view.is_external_in
    assert (view.src, view.dst, view.body, view.init, view.value) == (None, dst, body, init, 0)
    parsed = MessageAny.deserialize(cell.begin_parse())
    assert parsed.info.dest == dst
    assert parsed.body == body


@given(cells())
def test_cells_can_cross_to_the_engine_and_back(cell: Cell) -> None:
    assert from_native(to_native(cell)) == cell


@given(addresses)
def test_address_can_be_a_key_and_back(address: Address) -> None:
    assert key_address(address_key(address)) == address


def test_inline_state_init_can_be_read_when_another_library_wrote_it() -> None:
    code = begin_cell().store_uint(1, 8).end_cell()
    builder = (
        begin_cell()
        .store_uint(0b10, 2)
        .store_uint(0, 2)
        .store_address(Address((0, bytes(32))))
        .store_coins(0)
    )
    inline = builder.store_uint(0b10, 2).store_uint(0b00110, 5).store_ref(code).store_ref(EMPTY)
    view = Message(to_native(inline.store_bit(0).store_uint(0xAB, 8).end_cell()))
    assert view.init == state_init(code, EMPTY)
    assert view.body == begin_cell().store_uint(0xAB, 8).end_cell()


@pytest.mark.parametrize("bits", ["", "0110", "10" + "0" * 8, "1" * 20])
def test_message_cannot_be_read_when_it_ends_too_early(bits: str) -> None:
    view = Message(to_native(begin_cell().store_bits(bits).end_cell()))
    with pytest.raises(MalformedError):
        _ = view.value


def test_message_cannot_be_read_when_its_receiver_is_anycast() -> None:
    header = begin_cell().store_uint(0b0110, 4).store_uint(0, 2).store_uint(0b101, 3).store_uint(0, 500)
    with pytest.raises(MalformedError, match="anycast"):
        _ = Message(to_native(header.end_cell())).dst
