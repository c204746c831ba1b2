"""Vouchers in files: back as they were, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address

from cocoon_sdk.crypto import SigningKey
from cocoon_sdk.errors import CocoonError, HashMismatchError, MalformedError
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.voucher_file import MAX_FILE_BYTES, SavedVoucher
from cocoon_sdk.protocol.vouchers import MAX_VOUCHER, SessionRef, Voucher
from cocoon_sdk.types import Nano

KEY = SigningKey(bytes(range(32)))


def saved(amount: int = 5, *, global_id: int = -239, session_id: int = 7, epoch: int = 99) -> SavedVoucher:
    domain = Domain(global_id, Address((0, b"\x01" * 32)), epoch)
    session = SessionRef(domain, session_id, Address((0, b"\x02" * 32)))
    return SavedVoucher(session, KEY.verify_key, Voucher.sign(KEY, session, Nano(amount)))


@given(
    st.integers(1, MAX_VOUCHER),
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.integers(1, 0xFFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
)
def test_voucher_can_be_read_as_it_was_written(
    amount: int, global_id: int, session_id: int, epoch: int
) -> None:
    voucher = saved(amount, global_id=global_id, session_id=session_id, epoch=epoch)
    data = voucher.to_bytes()
    assert len(data) <= MAX_FILE_BYTES
    assert SavedVoucher.from_bytes(data) == voucher


@given(st.integers(1, MAX_VOUCHER), st.data())
def test_part_of_a_voucher_can_be_read_as_it_was_written(amount: int, data: st.DataObject) -> None:
    part = Nano(data.draw(st.integers(0, amount)))
    voucher = replace(saved(amount), part=part)
    read = SavedVoucher.from_bytes(voucher.to_bytes())
    assert (read.claim, read.forgo) == (part, amount - part)
    assert (read.voucher, read.session) == (voucher.voucher, voucher.session)
    # Who knows nothing of parts can read a voucher that is claimed whole.
    assert (b'"claim"' in voucher.to_bytes()) is (part < amount)


@pytest.mark.parametrize("claim", [-1, 6, True, "1", None])
def test_part_beyond_the_voucher_cannot_pass(claim: object) -> None:
    document = json.loads(saved(5).to_bytes())
    with pytest.raises(MalformedError):
        SavedVoucher.from_bytes(json.dumps({**document, "claim": claim}).encode())


@pytest.mark.parametrize("field", ["global_id", "epoch", "session_id", "amount"])
def test_changed_number_cannot_pass(field: str) -> None:
    document = json.loads(saved().to_bytes())
    document[field] += 1
    with pytest.raises(HashMismatchError):
        SavedVoucher.from_bytes(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("form", "cocoon-voucher-v2"),
        ("escrow", "0:" + "1" * 63),
        ("escrow", "1:" + "1" * 64),
        ("escrow", 5),
        ("worker", "0:" + "x" * 64),
        ("voucher_key", "00" * 32),
        ("voucher_key", "00"),
        ("signature", "ab" * 63),
        ("amount", 0),
        ("amount", True),
        ("amount", "5"),
        ("amount", MAX_VOUCHER + 1),
        ("session_id", 0),
        ("extra", 1),
    ],
)
def test_other_form_cannot_pass(field: str, value: Any) -> None:
    document = {**json.loads(saved().to_bytes()), field: value}
    with pytest.raises(MalformedError):
        SavedVoucher.from_bytes(json.dumps(document).encode())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_can_only_be_refused_by_name(data: bytes) -> None:
    with pytest.raises(CocoonError):
        SavedVoucher.from_bytes(data)


def test_files_of_one_session_have_one_name() -> None:
    assert saved(5).name == saved(6).name != saved(5, session_id=8).name
    assert saved().name == "01" * 32 + "-7.voucher.json"
