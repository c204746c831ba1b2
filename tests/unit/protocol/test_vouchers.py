"""Vouchers and receipts: each counts for one session, one amount, one answer, and nowhere else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address

from cocoon_sdk.crypto import SigningKey
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.signing import Domain, result_digest, voucher_digest
from cocoon_sdk.protocol.vouchers import (
    MAX_VOUCHER,
    NO_PROOF,
    Receipt,
    ResponseHash,
    SessionRef,
    Voucher,
    request_hash,
    voucher_key,
)
from cocoon_sdk.types import Hash, Nano

ESCROW, STAKE, ELSEWHERE = (Address((0, bytes([n]) * 32)) for n in (1, 2, 3))
SESSION = SessionRef(Domain(-239, ESCROW, 1_700_000_000), 7, STAKE)
KEY, OPERATOR = SigningKey(b"\x05" * 32), SigningKey(b"\x06" * 32)

OTHERS = {
    "network": replace(SESSION, domain=replace(SESSION.domain, global_id=-3)),
    "escrow": replace(SESSION, domain=replace(SESSION.domain, contract=ELSEWHERE)),
    "epoch": replace(SESSION, domain=replace(SESSION.domain, epoch=1_700_000_001)),
    "session": replace(SESSION, session_id=8),
    "worker": replace(SESSION, worker=ELSEWHERE),
    "swapped accounts": SessionRef(Domain(-239, STAKE, 1_700_000_000), 7, ESCROW),
}

RECEIPT = Receipt(
    rid=3,
    request_hash=Hash(b"\x11" * 32),
    response_hash=Hash(b"\x12" * 32),
    terms_hash=Hash(b"\x13" * 32),
    proof_hash=NO_PROOF,
    input_tokens=100,
    cached_input_tokens=40,
    output_tokens=7,
    charged=Nano(900),
    total=Nano(12_000),
)


# -- vouchers ----------------------------------------------------------------------------------------------


@given(st.integers(1, MAX_VOUCHER))
def test_worker_can_check_a_voucher(amount: int) -> None:
    voucher = Voucher.sign(KEY, SESSION, Nano(amount))
    assert voucher.verified_by(KEY.verify_key, SESSION)
    assert KEY.verify_key.verify(voucher_digest(SESSION.domain, STAKE, 7, amount), voucher.signature)


@pytest.mark.parametrize("other", OTHERS)
def test_voucher_cannot_be_used_for_another(other: str) -> None:
    voucher = Voucher.sign(KEY, SESSION, Nano(500))
    assert not voucher.verified_by(KEY.verify_key, OTHERS[other])


def test_voucher_cannot_be_used_when_amount_or_key_differ() -> None:
    voucher = Voucher.sign(KEY, SESSION, Nano(500))
    for amount in (499, 501, 500 + (1 << 53), 500 + (1 << 64), 0, -500):
        assert not replace(voucher, amount=Nano(amount)).verified_by(KEY.verify_key, SESSION)
    assert not voucher.verified_by(OPERATOR.verify_key, SESSION)
    for signature in (b"", bytes(64), voucher.signature[:63], voucher.signature + b"\0"):
        assert not replace(voucher, signature=signature).verified_by(KEY.verify_key, SESSION)


def test_voucher_has_one_signature_only() -> None:
    # S + the group's order would verify in a lax implementation: the same voucher with other bytes.
    order = 2**252 + 27742317777372353535851937790883648493
    voucher = Voucher.sign(KEY, SESSION, Nano(500))
    scalar = int.from_bytes(voucher.signature[32:], "little") + order
    other = voucher.signature[:32] + scalar.to_bytes(32, "little")
    assert not replace(voucher, signature=other).verified_by(KEY.verify_key, SESSION)


@pytest.mark.parametrize("amount", [0, -1, MAX_VOUCHER + 1])
def test_client_cannot_sign_a_voucher_out_of_bounds(amount: int) -> None:
    with pytest.raises(MalformedError, match="out of bounds"):
        Voucher.sign(KEY, SESSION, Nano(amount))


def test_voucher_is_no_result_of_a_job() -> None:
    # The other thing that is signed for an escrow with an id and an amount.
    voucher, result = voucher_digest(SESSION.domain, STAKE, 7, 500), Hash(bytes(32))
    assert voucher != result_digest(SESSION.domain, STAKE, 7, result, 500)


def test_session_keys_differ_and_reveal_nothing_of_each_other() -> None:
    hot, again = SigningKey(b"\x07" * 32), SigningKey(b"\x07" * 32)
    keys = {
        voucher_key(key, escrow, number).verify_key
        for key in (hot, OPERATOR)
        for escrow in (ESCROW, STAKE)
        for number in (1, 2, 256, 1 << 24)
    }
    assert len(keys) == 16
    assert hot.verify_key not in keys
    assert voucher_key(hot, ESCROW, 1) == voucher_key(again, ESCROW, 1)
    expected = hashlib.blake2b(
        b"cocoon.v1.voucher-key" + b"\x01" * 32 + b"\0\0\0\x01", key=b"\x07" * 32, digest_size=32
    )
    assert voucher_key(hot, ESCROW, 1).reveal() == expected.digest()


# -- sessions ----------------------------------------------------------------------------------------------


def test_session_has_one_name() -> None:
    name = SESSION.to_bytes()
    assert name == b"\xff\xff\xff\x11" + b"\x01" * 32 + b"\x65\x53\xf1\x00" + b"\0\0\0\x07" + b"\x02" * 32
    assert len({name, *(other.to_bytes() for other in OTHERS.values())}) == 1 + len(OTHERS)


@pytest.mark.parametrize("session_id", [-1, 1 << 32])
def test_session_cannot_be_named_out_of_bounds(session_id: int) -> None:
    with pytest.raises(MalformedError, match="32 bits"):
        replace(SESSION, session_id=session_id)
    with pytest.raises(MalformedError, match="32 bits"):
        replace(SESSION, domain=replace(SESSION.domain, epoch=session_id))


def test_session_cannot_be_on_the_masterchain() -> None:
    twin = Address((-1, b"\x01" * 32))
    with pytest.raises(MalformedError, match="workchain 0"):
        replace(SESSION, domain=replace(SESSION.domain, contract=twin))
    with pytest.raises(MalformedError, match="workchain 0"):
        replace(SESSION, worker=twin)


# -- receipts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", OTHERS)
def test_receipt_cannot_be_used_for_another(other: str) -> None:
    signature = RECEIPT.sign(OPERATOR, SESSION)
    assert RECEIPT.verified_by(OPERATOR.verify_key, SESSION, signature)
    assert not RECEIPT.verified_by(OPERATOR.verify_key, OTHERS[other], signature)
    assert not RECEIPT.verified_by(KEY.verify_key, SESSION, signature)


@pytest.mark.parametrize("name", list(Receipt.__dataclass_fields__))
def test_receipt_binds_every_field(name: str) -> None:
    value = getattr(RECEIPT, name)
    other: Any = Hash(b"\xff" * 32) if isinstance(value, bytes) else value + 1
    changed = replace(RECEIPT, **{name: other})
    assert not changed.verified_by(OPERATOR.verify_key, SESSION, RECEIPT.sign(OPERATOR, SESSION))


def test_receipt_binds_the_order_of_its_fields() -> None:
    swapped = replace(RECEIPT, request_hash=RECEIPT.response_hash, response_hash=RECEIPT.request_hash)
    assert swapped.digest(SESSION) != RECEIPT.digest(SESSION)
    swapped = replace(RECEIPT, input_tokens=RECEIPT.output_tokens, output_tokens=RECEIPT.input_tokens)
    assert swapped.digest(SESSION) != RECEIPT.digest(SESSION)


@pytest.mark.parametrize("change", [{"rid": -1}, {"total": Nano(1 << 64)}, {"proof_hash": Hash(b"")}])
def test_receipt_cannot_be_made_out_of_bounds(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError, match="cannot make the receipt"):
        replace(RECEIPT, **change).sign(OPERATOR, SESSION)  # type: ignore[arg-type]


def test_hashes_keep_their_bytes() -> None:
    # Another implementation computes the same from docs/sessions.md.
    def tagged(tag: str, content: bytes) -> bytes:
        return hashlib.sha256(bytes([len(tag)]) + tag.encode() + content).digest()

    kind, body = "chat.completion", b'{"messages":[]}'
    assert request_hash(kind, body) == tagged("cocoon.v1.session.request", b"\x0f" + kind.encode() + body)
    pieces = ResponseHash()
    for piece in (b"one", b"", b"three"):
        pieces.update(piece)
    content = b"\0\0\0\x03one" + b"\0\0\0\0" + b"\0\0\0\x05three"
    assert pieces.digest() == tagged("cocoon.v1.session.response", content)
    numbers = (3, 100, 40, 7, 900, 12_000)
    content = SESSION.to_bytes() + b"".join(number.to_bytes(8, "big") for number in numbers)
    content += b"\x11" * 32 + b"\x12" * 32 + b"\x13" * 32 + bytes(32)
    assert RECEIPT.digest(SESSION) == tagged("cocoon.v1.session.receipt", content)


@given(st.lists(st.binary(max_size=20), max_size=6), st.lists(st.binary(max_size=20), max_size=6))
def test_answers_hash_alike_only_when_their_pieces_are_the_same(one: list[bytes], two: list[bytes]) -> None:
    hashes = ResponseHash(), ResponseHash()
    for each, pieces in zip(hashes, (one, two), strict=True):
        for piece in pieces:
            each.update(piece)
    assert (hashes[0].digest() == hashes[1].digest()) == (one == two)


def test_requests_hash_alike_only_when_kind_and_body_are_the_same() -> None:
    assert request_hash("chat", b"x") != request_hash("cha", b"tx")
    for kind in ("chät", "x" * 256):
        with pytest.raises(MalformedError, match="cannot hash"):
            request_hash(kind, b"")
