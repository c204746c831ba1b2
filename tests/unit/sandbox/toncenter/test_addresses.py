"""Spellings of addresses and hashes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.sandbox.toncenter.addresses import (
    address_of_key,
    detect_address,
    detect_hash,
    friendly_address,
    parse_address,
    parse_hash,
)

RAW = "0:83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8"
BOUNCEABLE = "EQCD39VS5jcptHL8vMjEXrzGaRcCVYto7HUn4bpAOg8xqB2N"
NON_BOUNCEABLE = "UQCD39VS5jcptHL8vMjEXrzGaRcCVYto7HUn4bpAOg8xqEBI"


@pytest.mark.parametrize("text", [RAW, RAW.upper(), BOUNCEABLE, NON_BOUNCEABLE])
def test_reader_can_take_every_spelling_of_the_services_own_example(text: str) -> None:
    form = parse_address(text)
    assert form.raw_form() == RAW
    assert form.friendly(bounceable=True) == BOUNCEABLE
    assert form.friendly(bounceable=False) == NON_BOUNCEABLE
    assert form.key == address_key(Address(RAW))


@pytest.mark.parametrize(
    ("text", "given_type"),
    [
        (RAW, "raw_form"),
        (BOUNCEABLE, "friendly_bounceable"),
        (NON_BOUNCEABLE, "friendly_non_bounceable"),
    ],
)
def test_reader_can_tell_how_an_address_was_spelt(text: str, given_type: str) -> None:
    answer = detect_address(parse_address(text))
    assert (answer["given_type"], answer["raw_form"], answer["test_only"]) == (given_type, RAW, False)
    assert answer["bounceable"]["b64url"] == BOUNCEABLE
    assert answer["non_bounceable"]["b64url"] == NON_BOUNCEABLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "EQnonsense",
        "0:1234",
        "200:" + "00" * 32,
        "-129:" + "00" * 32,
        BOUNCEABLE[:-1] + "O",  # the checksum fails
        "A" * 48,  # no known tag
        "*" * 48,
        None,
        7,
        {"a": 1},
    ],
)
def test_reader_cannot_take_what_is_no_address(text: object) -> None:
    with pytest.raises(MalformedError, match="Failed to parse ton_addr"):
        parse_address(text)


@given(st.integers(-128, 127), st.binary(min_size=32, max_size=32), st.booleans(), st.booleans())
def test_reader_can_take_back_every_spelling_it_wrote(
    workchain: int, account: bytes, bounceable: bool, url_safe: bool
) -> None:
    form = parse_address(f"{workchain}:{account.hex()}")
    again = parse_address(form.friendly(bounceable=bounceable, url_safe=url_safe))
    assert (again.workchain, again.account, again.bounceable) == (workchain, account, bounceable)
    library = Address((workchain, account))
    assert form.friendly() == library.to_str()
    assert friendly_address(address_key(library)) == library.to_str()
    assert address_of_key(form.key).raw_form() == form.raw_form()


def test_test_only_addresses_can_be_told_apart() -> None:
    text = Address(RAW).to_str(is_test_only=True)
    form = parse_address(text)
    assert form.test_only
    assert form.friendly() == text


@pytest.mark.parametrize(
    "text",
    [
        "CPUE4WXeEJT+Dwz1fY/rkreWvYnsOt3I44i1G5ojJPM=",
        "CPUE4WXeEJT-Dwz1fY_rkreWvYnsOt3I44i1G5ojJPM=",
        "CPUE4WXeEJT-Dwz1fY_rkreWvYnsOt3I44i1G5ojJPM",
        "08f504e165de1094fe0f0cf57d8feb92b796bd89ec3addc8e388b51b9a2324f3",
        "08F504E165DE1094FE0F0CF57D8FEB92B796BD89EC3ADDC8E388B51B9A2324F3",
    ],
)
def test_reader_can_take_every_spelling_of_a_hash(text: str) -> None:
    data = parse_hash(text)
    assert data.hex() == "08f504e165de1094fe0f0cf57d8feb92b796bd89ec3addc8e388b51b9a2324f3"
    assert detect_hash(data) == {
        "@type": "ext.utils.detectedHash",
        "b64": base64.b64encode(data).decode(),
        "b64url": "CPUE4WXeEJT-Dwz1fY_rkreWvYnsOt3I44i1G5ojJPM",
        "hex": data.hex(),
    }


@pytest.mark.parametrize(
    "text", ["", "not a hash", "CPUE4WXeEJT+Dwz1fY/rkreWvYnsOt3I44i1G5ojJPM", "zz" * 32, "A" * 45, None, 5]
)
def test_reader_cannot_take_what_is_no_hash(text: object) -> None:
    with pytest.raises(MalformedError, match="invalid hash"):
        parse_hash(text)
