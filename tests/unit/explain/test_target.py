"""What a person may write to name a job, a transaction or an account."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pytoniq_core import Address

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.explain import AccountTarget, JobTarget, TransactionTarget, parse_job, parse_target

addresses = st.binary(min_size=32, max_size=32).map(lambda raw: Address((0, raw)))
hashes = st.binary(min_size=32, max_size=32)


@given(addresses, st.integers(1, 2**32 - 1), st.booleans(), st.booleans())
def test_reader_can_name_a_job_in_every_form_of_address(
    address: Address, job_id: int, friendly: bool, url_safe: bool
) -> None:
    text = address.to_str(is_user_friendly=friendly, is_url_safe=url_safe)
    assert parse_target(f"{text}/{job_id}") == JobTarget(address, job_id)


@given(addresses, st.booleans(), st.booleans())
@example(
    Address((0, b"vdO\x15-R\x9dG\x1c\xf1T\xe2\xe0\xd2j\xd90k`\x81\x00\x84\xc0+\xd8\xd8D{E\xb7\xa4\x01")),
    True,
    False,
)
def test_reader_can_name_an_account_in_every_form_of_address(
    address: Address, friendly: bool, url_safe: bool
) -> None:
    text = address.to_str(is_user_friendly=friendly, is_url_safe=url_safe)
    assert parse_target(f" {text} ") == AccountTarget(address)


@given(addresses, st.integers(1, 2**64 - 1), hashes)
def test_reader_can_name_a_transaction_by_lt_or_hash(address: Address, lt: int, digest: bytes) -> None:
    text = address.to_str()
    assert parse_target(f"{text}@{lt}") == TransactionTarget(address, lt=lt)
    for written in (
        digest.hex(),
        base64.b64encode(digest).decode(),
        base64.urlsafe_b64encode(digest).decode().rstrip("="),
    ):
        assert parse_target(f"{text}@{written}") == TransactionTarget(address, hash=digest)


@given(hashes)
@example(b"\xff" * 31 + b"\x01")
def test_reader_can_name_a_transaction_by_hash_alone(digest: bytes) -> None:
    plain = base64.b64encode(digest).decode()
    for written in (digest.hex(), plain, plain.rstrip("=")):
        assert parse_target(written) == TransactionTarget(None, hash=digest)


@pytest.mark.parametrize("text", ["", "/", "1", "a/1", "@5", "EQabc", "x" * 10_000, "0:12/5", "\x00", "é/1"])
def test_reader_cannot_name_anything_with_nonsense(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_target(text)


@pytest.mark.parametrize(
    "tail", ["/0", "/4294967296", "/-1", "/1.5", "@0", "@18446744073709551616", "@zz", "@"]
)
def test_reader_cannot_name_a_job_or_transaction_out_of_range(tail: str) -> None:
    with pytest.raises(MalformedError):
        parse_target(Address((0, bytes(32))).to_str() + tail)


def test_reader_cannot_name_a_job_without_an_id() -> None:
    with pytest.raises(MalformedError, match="ESCROW/ID"):
        parse_job(Address((0, bytes(32))).to_str())
