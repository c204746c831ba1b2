"""Canonical JSON: one form only, within bounds, and never another error than ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.canonical import (
    MAX_JSON_DEPTH,
    MAX_JSON_VALUES,
    MAX_SAFE_INTEGER,
    canonical_bytes,
    parse_canonical,
    parse_json,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | st.floats(
    -MAX_SAFE_INTEGER, MAX_SAFE_INTEGER, allow_nan=False
)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=20,
)


@given(values)
@example({"a": 1.0, "b": -0.0, "c": 1e-7, "d": 5e-324, "e": 0.1 + 0.2})
def test_value_survives_writing_and_reading(value: Any) -> None:
    data = canonical_bytes(value)
    assert parse_canonical(data) == value
    assert canonical_bytes(parse_canonical(data)) == data
    assert json.loads(data) == value


def test_form_is_that_of_rfc_8785() -> None:
    # The example of RFC 8785, section 3.2.2 (its number 333333333.33333329 is within our range).
    source = rb"""{
        "numbers": [333333333.33333329, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"""
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_bytes(parse_json(source)) == expected.encode()
    # Keys are sorted by UTF-16 units: the astral character before U+FB33, unlike in code point order.
    assert canonical_bytes({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@given(
    st.binary(max_size=60)
    | st.text("[]{},:\"'\\0123456789.eE+-tfnulrasN \t\ud800é", max_size=60).map(
        lambda each: each.encode("utf-8", "surrogatepass")
    )
)
def test_garbage_raises_named_errors_only(data: bytes) -> None:
    for read in (parse_json, parse_canonical):
        try:
            value = read(data)
        except MalformedError:
            continue
        assert parse_canonical(canonical_bytes(value)) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1,"a":1}', "same key twice"),
        (b'{"a":{"b":1,"\\u0062":2}}', "same key twice"),
        (b"NaN", "NaN"),
        (b"-Infinity", "Infinity"),
        (b"1e999", "not finite"),
        (b"9007199254740992", "beyond"),
        (b"-9007199254740992", "beyond"),
        (b"1e16", "beyond"),
        (b"1" * 5000, "beyond"),
        (b"0." + b"1" * 5000, "digits"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'"\xff"', "UTF-8"),
        ('{"a":1}'.encode("utf-16"), "UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "not JSON"),
        (b"1 2", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1), "nested deeper"),
        (b"[" + b"0," * MAX_JSON_VALUES + b"0]", "values"),
    ],
)
def test_reader_cannot_accept_json_when_it_is_ambiguous_or_unbounded(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        parse_json(data)


@pytest.mark.parametrize("data", [b'{"b":1,"a":1}', b"1.0", b"[1, 2]", b'"\\u0061"', b"-0", b"1E2", b" 1"])
def test_reader_cannot_accept_json_as_canonical_when_another_form_is(data: bytes) -> None:
    parse_json(data)
    with pytest.raises(MalformedError, match="canonical form"):
        parse_canonical(data)


def test_reader_cannot_accept_json_when_it_is_larger_than_asked() -> None:
    assert parse_json(b'"123"', max_bytes=5) == "123"
    with pytest.raises(MalformedError, match="exceed the limit"):
        parse_json(b'"1234"', max_bytes=5)
    with pytest.raises(MalformedError, match="exceed the limit"):
        canonical_bytes("1234", max_bytes=5)


def test_depth_limit_is_exact() -> None:
    data = b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH
    assert canonical_bytes(parse_canonical(data)) == data


def _cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        1e16,
        "\ud800",
        {1: 2},
        {"\ud800": 1},
        b"x",
        {1},
        object(),
        _cycle(),
        [[_cycle()] * 1000] * 1000,
    ],
)
def test_writer_cannot_write_a_value_when_json_does_not_hold_it(value: Any) -> None:
    with pytest.raises(MalformedError):
        canonical_bytes({"value": value})


def test_errors_never_repeat_content() -> None:
    for data in (b'{"private": NaN}', b'{"private":1,"private":2}', b"{'private'}", b'["private\\ud800"]'):
        with pytest.raises(MalformedError) as caught:
            parse_json(data)
        assert "private" not in str(caught.value)
