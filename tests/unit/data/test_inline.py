"""Inline data: one exact cell form, bounded, and its cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Builder, Cell

from cocoon_sdk.data import MAX_CHAIN_BYTES, ForwardPrices, bytes_to_chain, chain_to_bytes, inline_cost
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.types import Nano

# Mainnet, ConfigParam 25: lump 400000, bit 26214400, cell 2621440000 (times 2^-16: 400 and 40000).
MAINNET = ForwardPrices(400_000, 26_214_400, 2_621_440_000)


def _cell(data: bytes, *refs: Cell) -> Cell:
    builder = Builder().store_bytes(data)
    for ref in refs:
        builder.store_ref(ref)
    return builder.end_cell()


@given(st.binary(max_size=600) | st.integers(0, MAX_CHAIN_BYTES).map(lambda size: b"\x5a" * size))
def test_bytes_survive_the_chain(data: bytes) -> None:
    chain = bytes_to_chain(data)
    assert chain_to_bytes(Cell.one_from_boc(chain.to_boc())) == data
    depth, cell = 1, chain
    while cell.refs:
        depth, cell = depth + 1, cell.refs[0]
    assert depth == max(1, -(-len(data) // 127))


def test_sender_cannot_put_more_than_the_limit_inline() -> None:
    with pytest.raises(MalformedError, match="exceed the limit"):
        bytes_to_chain(bytes(MAX_CHAIN_BYTES + 1))


FULL = bytes(127)
TAIL = _cell(b"x")


@pytest.mark.parametrize(
    "chain",
    [
        _cell(b"short", TAIL),
        _cell(FULL, _cell(b"")),
        _cell(b"", TAIL),
        _cell(FULL, TAIL, TAIL),
        Builder().store_bits("1" * 7).end_cell(),
        Builder().store_bits("1" * 1023).end_cell(),
        _cell(FULL, Builder().store_bits("1" * 9).end_cell()),
        _cell(FULL, Cell(Builder().store_uint(2, 8).store_bytes(bytes(32)).bits, [], 2)),
    ],
)
def test_reader_cannot_accept_a_chain_when_another_form_is_exact(chain: Cell) -> None:
    with pytest.raises(MalformedError, match="inline data"):
        chain_to_bytes(chain)


def test_reader_cannot_accept_a_chain_when_it_is_longer_than_the_limit() -> None:
    cell = TAIL
    for _ in range(900):
        cell = _cell(FULL, cell)
    with pytest.raises(MalformedError, match="more than"):
        chain_to_bytes(cell)


@given(st.lists(st.binary(max_size=127), min_size=1, max_size=6))
def test_reader_accepts_exactly_what_the_writer_makes(parts: list[bytes]) -> None:
    cell: Cell | None = None
    for part in reversed(parts):
        cell = _cell(part) if cell is None else _cell(part, cell)
    assert cell is not None
    try:
        data = chain_to_bytes(cell)
    except MalformedError:
        assert bytes_to_chain(b"".join(parts)).hash != cell.hash
        return
    assert data == b"".join(parts)
    assert bytes_to_chain(data).hash == cell.hash


def test_cost_is_that_of_the_bits_and_cells() -> None:
    assert inline_cost(0, MAINNET) == 40_000
    assert inline_cost(127, MAINNET) == 127 * 8 * 400 + 40_000
    assert inline_cost(128, MAINNET) == 128 * 8 * 400 + 80_000
    assert isinstance(inline_cost(1, MAINNET), Nano)
    assert inline_cost(1, ForwardPrices(0, 1, 0)) == 1  # rounded up
    for size in (-1, MAX_CHAIN_BYTES + 1):
        with pytest.raises(MalformedError):
            inline_cost(size, MAINNET)


@given(st.integers(0, MAX_CHAIN_BYTES - 1))
def test_cost_never_falls_when_data_grows(size: int) -> None:
    assert inline_cost(size, MAINNET) <= inline_cost(size + 1, MAINNET)


def _prices(tag: int = 0xEA, extra: int = 0) -> Cell:
    builder = Builder().store_uint(tag, 8)
    for price in (400_000, 26_214_400, 2_621_440_000):
        builder.store_uint(price, 64)
    return builder.store_uint(98_304, 32).store_uint(21_845, 16).store_uint(21_845, 16 + extra).end_cell()


def test_prices_are_read_from_the_network_configuration() -> None:
    assert ForwardPrices.from_cell(_prices()) == MAINNET
    for cell in (_prices(0xEB), _prices(extra=1), Cell.empty()):
        with pytest.raises(MalformedError, match="message prices"):
            ForwardPrices.from_cell(cell)
