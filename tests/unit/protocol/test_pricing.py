"""Terms and prices: the cell is exact, the price is monotone, rounded up once and never below the minimum."""

from __future__ import annotations

from fractions import Fraction
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pytoniq_core import Builder, Cell

from cocoon_sdk.errors import HashMismatchError, MalformedError
from cocoon_sdk.protocol.canonical import MAX_SAFE_INTEGER, canonical_bytes, parse_canonical
from cocoon_sdk.protocol.pricing import Usage, max_price, price
from cocoon_sdk.protocol.terms import TERMS_TAG, TERMS_TLB, Rounding, SamplingClass, Terms
from cocoon_sdk.types import Hash, Nano

amounts = st.integers(0, MAX_SAFE_INTEGER).map(Nano)
hashes = st.binary(min_size=32, max_size=32).map(Hash)
tokens = st.integers(0, 1 << 40)


@st.composite
def all_terms(draw: st.DrawFn) -> Terms:
    cached, full = sorted(draw(st.tuples(amounts, amounts)))
    return Terms(
        model_id=draw(hashes),
        model_entry_hash=draw(hashes),
        input_price=full,
        cached_input_price=cached,
        output_price=draw(amounts),
        minimum_price=draw(amounts),
        sampling=draw(st.sampled_from(SamplingClass)),
    )


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, full = sorted(draw(st.tuples(tokens, tokens)))
    return Usage(input_tokens=full, cached_input_tokens=cached, output_tokens=draw(tokens))


TERMS = Terms(
    model_id=Hash(b"\x11" * 32),
    model_entry_hash=Hash(b"\x22" * 32),
    input_price=Nano.ton("0.05"),
    cached_input_price=Nano.ton("0.01"),
    output_price=Nano.ton("0.2"),
    minimum_price=Nano(100),
    sampling=SamplingClass.REPLAYABLE,
)


def test_terms_tag_is_the_crc32_of_its_tlb_line() -> None:
    assert crc32(TERMS_TLB.encode()) == TERMS_TAG


def test_terms_hash_is_frozen() -> None:
    # Jobs on chain carry it: a change of this value is a change of the protocol.
    assert TERMS.terms_hash.hex() == "0cc0baec329ad9d219f07a1cd8b683c616b60996c20a915ca54baeb908d0765e"


@given(all_terms())
def test_terms_survive_cell_and_json(terms: Terms) -> None:
    assert Terms.from_cell(Cell.one_from_boc(terms.to_cell().to_boc())) == terms
    assert Terms.from_wire(parse_canonical(canonical_bytes(terms.to_wire()))) == terms
    terms.check_hash(terms.terms_hash)


@given(all_terms(), st.integers(0, 815))
def test_terms_hash_differs_when_one_bit_does(terms: Terms, bit: int) -> None:
    bits = terms.to_cell().bits.copy()
    bits.invert(bit)
    cell = Cell(bits, [])
    try:
        other = Terms.from_cell(cell)
    except MalformedError:
        return
    assert other != terms
    assert other.to_cell().hash == cell.hash
    with pytest.raises(HashMismatchError, match="not the terms of the job"):
        other.check_hash(terms.terms_hash)


@given(st.integers(0, 1023), st.integers(0, 2), st.randoms(use_true_random=False))
def test_garbage_cells_raise_named_errors_only(size: int, refs: int, random: object) -> None:
    builder = Builder().store_bits("10" * (size // 2))
    for _ in range(refs):
        builder.store_ref(Cell.empty())
    with pytest.raises(MalformedError):
        Terms.from_cell(builder.end_cell())


@pytest.mark.parametrize("extra", ["bit", "reference", "cut"])
def test_terms_cannot_be_read_when_something_is_added_or_missing(extra: str) -> None:
    bits = TERMS.to_cell().bits
    builder = Builder().store_bits(bits[:-1] if extra == "cut" else bits)
    if extra == "bit":
        builder.store_bit(0)
    elif extra == "reference":
        builder.store_ref(Cell.empty())
    with pytest.raises(MalformedError, match="816 bits"):
        Terms.from_cell(builder.end_cell())


@pytest.mark.parametrize(
    "changes",
    [
        {"input_price": None},
        {"input_price": -1},
        {"input_price": MAX_SAFE_INTEGER + 1},
        {"input_price": 1.0},
        {"input_price": "1"},
        {"input_price": True},
        {"cached_input_price": Nano.ton("0.06")},
        {"model_id": "11" * 31},
        {"model_id": "AA" * 32},
        {"sampling": "anything"},
        {"rounding": "floor"},
        {"surprise": 1},
    ],
)
def test_terms_cannot_be_read_when_a_field_is_out_of_bounds(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError, match="not a valid Terms"):
        Terms.from_wire({**TERMS.to_wire(), **changes})


def test_terms_are_frozen() -> None:
    with pytest.raises(ValidationError):
        TERMS.input_price = Nano(0)
    assert TERMS.rounding is Rounding.CEIL
    assert isinstance(TERMS.input_price, Nano)


@given(usages(), all_terms())
def test_price_is_the_exact_sum_rounded_up_once(usage: Usage, terms: Terms) -> None:
    fresh = usage.input_tokens - usage.cached_input_tokens
    exact = sum(
        Fraction(count * int(unit), 1_000_000)
        for count, unit in (
            (fresh, terms.input_price),
            (usage.cached_input_tokens, terms.cached_input_price),
            (usage.output_tokens, terms.output_price),
        )
    )
    result = price(usage, terms)
    assert isinstance(result, Nano)
    assert terms.minimum_price <= result
    assert result == terms.minimum_price or exact <= int(result) < exact + 1
    assert int(result) >= exact


@given(usages(), all_terms(), tokens)
def test_price_never_falls_when_more_is_used(usage: Usage, terms: Terms, more: int) -> None:
    wire = usage.to_wire()
    for field in ("input_tokens", "output_tokens"):
        larger = Usage.from_wire({**wire, field: min(wire[field] + more, 1 << 40)})
        assert price(larger, terms) >= price(usage, terms)
    uncached = Usage.from_wire({**wire, "cached_input_tokens": 0})
    assert price(uncached, terms) >= price(usage, terms)


@given(usages(), all_terms(), tokens, tokens)
def test_worker_cannot_charge_above_the_maximum_when_bounds_are_kept(
    usage: Usage, terms: Terms, more_input: int, more_output: int
) -> None:
    most = max_price(
        terms,
        max_input_tokens=min(usage.input_tokens + more_input, 1 << 40),
        max_output_tokens=min(usage.output_tokens + more_output, 1 << 40),
    )
    assert price(usage, terms) <= most


def test_price_of_a_known_use() -> None:
    usage = Usage(input_tokens=1001, cached_input_tokens=1, output_tokens=3)
    # 1000 x 50 + 1 x 10 + 3 x 200 nanoTON
    assert price(usage, TERMS) == 50_610
    assert price(Usage(input_tokens=1), TERMS) == 100
    assert max_price(TERMS, max_input_tokens=1001, max_output_tokens=3) == 50_650


@pytest.mark.parametrize(("inputs", "outputs"), [(-1, 0), (0, -1), ((1 << 40) + 1, 0), (0, (1 << 40) + 1)])
def test_maximum_price_cannot_be_computed_when_bounds_are_impossible(inputs: int, outputs: int) -> None:
    with pytest.raises(MalformedError):
        max_price(TERMS, max_input_tokens=inputs, max_output_tokens=outputs)


@pytest.mark.parametrize(
    "wire",
    [
        {"input_tokens": 1, "cached_input_tokens": 2},
        {"input_tokens": -1},
        {"input_tokens": 1.0},
        {"input_tokens": (1 << 40) + 1},
        {"input_tokens": True},
        {},
        {"input_tokens": 1, "free_tokens": 1},
        [],
        None,
    ],
)
def test_usage_cannot_be_read_when_it_is_out_of_bounds(wire: object) -> None:
    with pytest.raises(MalformedError, match="not a valid Usage"):
        Usage.from_wire(wire)


@given(usages(), usages(), all_terms())
def test_usages_of_a_batch_add_up_within_bounds(left: Usage, right: Usage, terms: Terms) -> None:
    try:
        both = left + right
    except MalformedError:
        assert max(left.input_tokens + right.input_tokens, left.output_tokens + right.output_tokens) > 1 << 40
        return
    assert both.input_tokens == left.input_tokens + right.input_tokens
    # One rounding for the batch is never dearer than one for each item.
    assert price(both, terms) <= price(left, terms) + price(right, terms)
