"""Bags of cells: round trips, agreement with the library, bounds, and damage."""

from __future__ import annotations

import base64
import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.boc import (
    decode_boc,
    decode_boc_base64,
    encode_boc,
    encode_boc_base64,
    transaction_record,
)
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.cells import to_native
from tests.unit.chain.strategies import cells


def doubled(levels: int) -> Cell:
    cell = begin_cell().store_uint(7, 8).end_cell()
    for level in range(levels):
        cell = begin_cell().store_uint(level, 32).store_ref(cell).store_ref(cell).end_cell()
    return cell


@given(cells)
def test_reader_can_restore_a_cell_when_it_was_written(cell: Cell) -> None:
    assert decode_boc(encode_boc(cell)).hash == cell.hash
    assert decode_boc_base64(encode_boc_base64(cell)).hash == cell.hash


@given(cells)
def test_reader_can_agree_with_the_library_when_either_wrote(cell: Cell) -> None:
    assert Cell.one_from_boc(encode_boc(cell)).hash == cell.hash
    assert decode_boc(cell.to_boc(has_idx=True, hash_crc32=True)).hash == cell.hash


def test_writer_can_finish_when_shared_cells_make_2_to_the_1000_paths() -> None:
    cell = doubled(1000)
    data = encode_boc(cell)
    assert len(data) < 12_000
    assert decode_boc(data).hash == cell.hash


def test_reader_can_finish_fast_when_a_bag_has_many_small_cells() -> None:
    layer = [begin_cell().store_uint(number, 16).end_cell() for number in range(4096)]
    while len(layer) > 1:
        groups = [layer[start : start + 4] for start in range(0, len(layer), 4)]
        layer = []
        for group in groups:
            builder = begin_cell()
            for cell in group:
                builder.store_ref(cell)
            layer.append(builder.end_cell())
    assert decode_boc(encode_boc(layer[0])).hash == layer[0].hash


@given(st.binary(max_size=200))
def test_reader_cannot_crash_when_bytes_are_random(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_boc(data)


@given(cells, st.randoms(use_true_random=False))
def test_reader_can_only_refuse_or_restore_when_bytes_are_damaged(cell: Cell, rng: random.Random) -> None:
    data = bytearray(encode_boc(cell))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    with contextlib.suppress(MalformedError):
        assert isinstance(decode_boc(bytes(data)), Cell)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_reader_cannot_accept_a_bag_when_its_end_is_missing(cut: int) -> None:
    with pytest.raises(MalformedError):
        decode_boc(encode_boc(doubled(3))[:-cut])


def test_reader_cannot_accept_a_bag_when_it_exceeds_a_bound() -> None:
    data = encode_boc(doubled(9))
    assert decode_boc(data, max_bytes=len(data), max_cells=10)
    with pytest.raises(MalformedError, match="too large"):
        decode_boc(data, max_bytes=len(data) - 1)
    with pytest.raises(MalformedError, match="10 cells, at most 9"):
        decode_boc(data, max_cells=9)
    with pytest.raises(MalformedError, match="too large"):
        decode_boc_base64("A" * 1000, max_bytes=100)


def test_reader_cannot_accept_a_bag_when_bytes_follow_the_last_cell() -> None:
    data = bytearray(encode_boc(begin_cell().store_uint(7, 8).end_cell()))
    assert data[9] == 3  # the size of all cells
    data[9] += 1
    with pytest.raises(MalformedError, match="trailing"):
        decode_boc(bytes(data) + b"\x00")


@pytest.mark.parametrize("text", [None, 7, "?", "te6", "", "AAAA"])
def test_reader_cannot_accept_text_when_it_is_no_bag(text: object) -> None:
    with pytest.raises(MalformedError):
        decode_boc_base64(text)


def test_reader_can_accept_both_alphabets_when_text_is_base64() -> None:
    cell = begin_cell().store_bytes(b"\xfb\xef\xff" * 20).end_cell()
    standard = encode_boc_base64(cell)
    assert "+" in standard or "/" in standard
    urlsafe = base64.urlsafe_b64encode(encode_boc(cell)).decode()
    assert decode_boc_base64(urlsafe).hash == decode_boc_base64(standard[:8] + "\n" + standard[8:]).hash


def header(account: bytes, lt: int, prev_hash: bytes, prev_lt: int, now: int, tag: int = 7) -> Cell:
    builder = begin_cell().store_uint(tag, 4).store_bytes(account).store_uint(lt, 64).store_bytes(prev_hash)
    return builder.store_uint(prev_lt, 64).store_uint(now, 32).store_uint(0, 15).end_cell()


@given(
    st.integers(0, (1 << 64) - 1),
    st.binary(min_size=32, max_size=32),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 32) - 1),
)
def test_reader_can_read_a_transaction_header_when_it_is_of_the_account(
    lt: int, prev_hash: bytes, prev_lt: int, now: int
) -> None:
    address = Address((0, b"\x11" * 32))
    cell = header(address.hash_part, lt, prev_hash, prev_lt, now)
    record = transaction_record(address, cell)
    assert (record.lt, record.prev_hash, record.prev_lt, record.now) == (lt, prev_hash, prev_lt, now)
    assert record.hash == cell.hash


def test_reader_cannot_read_a_transaction_when_it_is_of_another_account_or_kind() -> None:
    address = Address((0, b"\x11" * 32))
    with pytest.raises(MalformedError, match="another account"):
        transaction_record(address, header(b"\x12" * 32, 1, bytes(32), 0, 0))
    with pytest.raises(MalformedError, match="not a transaction"):
        transaction_record(address, header(address.hash_part, 1, bytes(32), 0, 0, tag=6))
    with pytest.raises(MalformedError, match="not a transaction"):
        transaction_record(address, begin_cell().store_uint(7, 4).end_cell())


@pytest.mark.parametrize("bits", [0, 1, 7, 8, 1015, 1016, 1022, 1023])
def test_cell_can_have_any_number_of_bits_up_to_the_bound(bits: int) -> None:
    cell = begin_cell().store_bits("10" * (bits // 2) + "1" * (bits % 2)).end_cell() if bits else Cell.empty()
    assert decode_boc(encode_boc(cell)).hash == cell.hash


def test_bag_can_carry_hashes_as_the_engine_writes_them_into_larger_ones() -> None:
    tree = begin_cell().store_uint(0, 8).end_cell()
    for level in range(100):
        leaf = begin_cell().store_uint(level, 500).end_cell()
        tree = begin_cell().store_uint(level, 8).store_ref(tree).store_ref(leaf).end_cell()
    bag = base64.b64decode(to_native(tree).to_boc())
    assert len(bag) > len(encode_boc(tree)) + 34 * 3  # there are some
    assert decode_boc(bag).hash == tree.hash


def test_bag_can_give_the_same_cell_again_without_making_it_twice() -> None:
    bag = encode_boc(begin_cell().store_uint(7, 9).store_ref(begin_cell().end_cell()).end_cell())
    assert decode_boc(bag) is decode_boc(bag)


@pytest.mark.parametrize(
    "cell",
    [
        "0800",
        "0804FF00",
        "28480100" + "00" * 34,
        "28480103" + "00" * 34,
        "084603" + "00" * 34,
        "084402" + "00" * 33,
    ],
    ids=["no type", "unknown", "no level", "short branch", "proof of nothing", "odd library"],
)
def test_bag_cannot_hold_an_exotic_cell_of_a_wrong_form(cell: str) -> None:
    body = bytes.fromhex(cell)
    with pytest.raises(MalformedError):
        decode_boc(b"\xb5\xee\x9c\x72\x01\x01\x01\x01\x00" + bytes([len(body), 0]) + body)
