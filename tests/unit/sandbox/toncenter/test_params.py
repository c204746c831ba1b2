"""Parameters of calls: kinds, bounds, and the words of refusals."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from pytoniq_core import begin_cell

from cocoon_sdk.sandbox.toncenter.params import MAX_MESSAGE_BYTES, Params, Refused

HASH = "08f504e165de1094fe0f0cf57d8feb92b796bd89ec3addc8e388b51b9a2324f3"
CELL = begin_cell().store_uint(7, 8).end_cell()


def test_reader_can_take_numbers_as_text_where_json_would_lose_digits() -> None:
    params = Params({"lt": str((1 << 63) - 1), "seqno": "12", "count": 3})
    assert params.non_negative("lt") == (1 << 63) - 1
    assert params.positive("seqno") == 12
    assert params.count("count", 40, 100) == 3
    assert params.count("absent", 40, 100) == 40
    assert Params({"seqno": ""}).positive("seqno") is None  # an empty text is nothing, as in the service


@pytest.mark.parametrize(
    ("values", "read", "words"),
    [
        ({}, lambda p: p.address(), "Error at path 'address': Field is missing"),
        ({"address": "x"}, lambda p: p.address(), "Failed to parse ton_addr: 'x'"),
        ({"n": "x"}, lambda p: p.integer("n"), "Error at path 'n': an integer was expected"),
        ({"n": True}, lambda p: p.integer("n"), "an integer was expected"),
        ({"n": 1.5}, lambda p: p.integer("n"), "an integer was expected"),
        ({"n": 1 << 31}, lambda p: p.integer("n"), "is not within"),
        ({"n": "9" * 200}, lambda p: p.integer("n"), "an integer was expected"),
        ({"n": 0}, lambda p: p.positive("n"), "n should be positive"),
        ({"n": -1}, lambda p: p.non_negative("n"), "n should be non-negative"),
        ({"n": 101}, lambda p: p.count("n", 1, 100), "n should be less or equal 100"),
        ({"h": "zz"}, lambda p: p.hash("h"), "invalid hash: 'zz'"),
        ({"b": "maybe"}, lambda p: p.boolean("b", False), "a boolean was expected"),
        ({"b": [1]}, lambda p: p.boolean("b", False), "a boolean was expected"),
        ({"m": 1, "method": "m" * 129}, lambda p: p.method(), "at most 128 characters"),
        ({"boc": "!"}, lambda p: p.bag("boc"), "invalid base64"),
        ({"boc": 5}, lambda p: p.bag("boc"), "base64 text"),
        ({"boc": "A" * (2 * MAX_MESSAGE_BYTES)}, lambda p: p.bag("boc"), "base64 text of at most"),
        ({"stack": "[]"}, lambda p: p.array("stack"), "an array was expected"),
        ({"l": [HASH] * 300}, lambda p: p.hashes("l"), "at most 256 hashes"),
        ({"l": ["x"]}, lambda p: p.hashes("l"), "invalid hash"),
        ({"a": "x"}, lambda p: p.account_part("a"), "invalid hash"),
        ({"x": 1}, lambda p: p.only(("y",)), "Unknown property 'x'"),
    ],
)
def test_reader_can_refuse_a_bad_parameter_with_422(
    values: dict[str, Any], read: Callable[[Params], object], words: str
) -> None:
    with pytest.raises(Refused) as caught:
        read(Params(values))
    assert caught.value.status == 422
    assert words in caught.value.words


def test_reader_can_refuse_what_is_no_object_and_a_damaged_bag() -> None:
    with pytest.raises(Refused, match="an object was expected"):
        Params([1])
    with pytest.raises(Refused, match="INVALID_BAG_OF_CELLS: body") as caught:
        Params({"body": "AAAA"}).cell("body")
    assert caught.value.status == 400


def test_reader_can_tell_a_query_string_from_a_body() -> None:
    with pytest.raises(Refused, match="failed to parse get request: failed to parse seqno"):
        Params({"seqno": "x"}, get=True).positive("seqno")
    with pytest.raises(Refused, match="failed to parse post request: Error at path 'seqno'"):
        Params({"seqno": "x"}).positive("seqno")
    # Unknown names in a query string are ignored: keys travel there.
    assert Params({"api_key": "k", "seqno": "3"}, get=True).only(("seqno",)).positive("seqno") == 3
    repeated = Params({"libraries": HASH}, get=True, repeated={"libraries": [HASH, HASH.upper()]})
    assert repeated.hashes("libraries") == [bytes.fromhex(HASH)] * 2


def test_reader_can_take_methods_cells_and_accounts() -> None:
    assert Params({"method": "seqno"}).method() == "seqno"
    assert Params({"method": "85143"}).method() == Params({"method": 85143}).method() == 85143
    text = base64.b64encode(CELL.to_boc()).decode()
    assert Params({"body": text}).cell("body") == CELL
    assert Params({"body": ""}).optional_cell("body") is None
    assert Params({"a": "0:" + HASH}).account_part("a") == bytes.fromhex(HASH)
    assert Params({"a": HASH}).account_part("a") == bytes.fromhex(HASH)
    assert Params({}).account_part("a") is None
    for value, meaning in ((True, True), ("true", True), ("0", False), (1, True)):
        assert Params({"b": value}).boolean("b", not meaning) is meaning
