"""Sealed boxes: only the right keys open them, nothing can be altered, the length is hidden."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import Box, PrivateKey, PublicKey

from cocoon_sdk.crypto import MAX_BOX_TEXT_BYTES, BoxKey, bucket_bytes, open_box, seal, sealed_bytes
from cocoon_sdk.errors import DecryptionError, MalformedError

ALICE = BoxKey(b"\x01" * 32)
BOB = BoxKey(b"\x02" * 32)
EVE = BoxKey(b"\x03" * 32)


@given(st.binary(max_size=2000))
def test_recipient_can_open_what_was_sealed(text: bytes) -> None:
    box = seal(text, ALICE, BOB.public_key)
    assert len(box) == sealed_bytes(len(text))
    assert open_box(box, BOB, ALICE.public_key) == text
    assert seal(text, ALICE, BOB.public_key) != box


@pytest.mark.parametrize("text", [b"", b"\x80", b"\0" * 300, b"\x80\0\0", b"a" * 255, b"a" * 256])
def test_recipient_can_open_texts_that_look_like_padding(text: bytes) -> None:
    assert open_box(seal(text, ALICE, BOB.public_key), BOB, ALICE.public_key) == text


def test_nobody_else_can_open_a_box() -> None:
    box = seal(b"secret", ALICE, BOB.public_key)
    for recipient, sender in ((EVE, ALICE.public_key), (BOB, EVE.public_key)):
        with pytest.raises(DecryptionError, match="does not authenticate"):
            open_box(box, recipient, sender)


@given(st.binary(max_size=40), st.data())
def test_recipient_cannot_open_a_box_when_one_bit_differs(text: bytes, data: st.DataObject) -> None:
    box = bytearray(seal(text, ALICE, BOB.public_key))
    bit = data.draw(st.integers(0, 8 * len(box) - 1))
    box[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        open_box(bytes(box), BOB, ALICE.public_key)


@given(st.data())
def test_recipient_cannot_open_a_box_when_it_is_cut_or_longer(data: st.DataObject) -> None:
    box = seal(b"x" * 400, ALICE, BOB.public_key)
    cut = data.draw(st.integers(0, len(box) - 1))
    for wrong in (box[:cut], box + b"\0", box + box):
        with pytest.raises(DecryptionError):
            open_box(wrong, BOB, ALICE.public_key)


@given(st.binary(max_size=600))
def test_garbage_raises_named_errors_only(data: bytes) -> None:
    with pytest.raises(DecryptionError):
        open_box(data, BOB, ALICE.public_key)


@pytest.mark.parametrize(
    "padded",
    [
        bytes(256),  # no end mark
        b"a" * 256,  # no end mark either
        b"abc\x80".ljust(512, b"\0"),  # a larger bucket than needed
        b"abc\x81".ljust(256, b"\0"),
        (b"a" * 300 + b"\x80").ljust(300 + 2, b"\0"),  # no bucket has this size
    ],
)
def test_sender_cannot_hide_data_in_the_padding(padded: bytes) -> None:
    sender = Box(PrivateKey(ALICE.reveal()), PublicKey(BOB.public_key.raw))
    with pytest.raises(DecryptionError, match="padding"):
        open_box(bytes(sender.encrypt(padded)), BOB, ALICE.public_key)


def test_box_is_a_plain_nacl_box_when_another_library_reads_it() -> None:
    box = seal(b"abc", ALICE, BOB.public_key)
    reader = Box(PrivateKey(BOB.reveal()), PublicKey(ALICE.public_key.raw))
    assert reader.decrypt(box) == b"abc\x80".ljust(256, b"\0")


@given(st.integers(0, MAX_BOX_TEXT_BYTES))
def test_buckets_are_few_and_waste_little(size: int) -> None:
    bucket = bucket_bytes(size)
    assert bucket > size
    assert bucket == 256 or bucket <= (size + 1) * 1.12
    assert bucket_bytes(bucket - 1) == bucket
    assert bucket_bytes(bucket) > bucket
    # Few buckets: only the leading bits of a size are kept.
    assert bucket == 256 or bucket % (1 << (bucket.bit_length() - 2 - bucket.bit_length().bit_length())) == 0


def test_sender_cannot_seal_more_than_the_limit() -> None:
    with pytest.raises(MalformedError, match="exceed the limit"):
        seal(bytes(MAX_BOX_TEXT_BYTES + 1), ALICE, BOB.public_key)
