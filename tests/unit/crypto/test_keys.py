"""Ed25519 and X25519 keys: what is refused, what is shown, what signs."""

from __future__ import annotations

import copy
import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.crypto import (
    SMALL_ORDER_POINTS,
    BoxKey,
    BoxPublicKey,
    SigningKey,
    VerifyKey,
    WeakPublicKeyError,
)
from cocoon_sdk.errors import KeyMaterialError

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
SEED = bytes(range(32))
# RFC 8032, section 7.1, test 2.
RFC_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
RFC_SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def _x_of(y: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * pow(2, (P - 1) // 4, P) % P
    return root if root * root % P == square else None


def _double(x: int, y: int) -> tuple[int, int]:
    k = D * x * x * y * y % P
    return 2 * x * y * pow(1 + k, -1, P) % P, (y * y + x * x) * pow(1 - k, -1, P) % P


def test_small_order_points_are_exactly_the_encodings_whose_order_divides_eight() -> None:
    heights = set()
    for raw in SMALL_ORDER_POINTS:
        y = int.from_bytes(raw, "little") & (1 << 255) - 1
        x = _x_of(y % P)
        assert x is not None
        point = (x, y % P)
        for _ in range(3):
            point = _double(*point)
        assert point == (0, 1)
        heights.add(y)
    # Eight points have five different heights; of these, 0 and 1 also fit into 255 bits as y + p.
    assert len({y % P for y in heights}) == 5
    assert heights == {y + k * P for y in {y % P for y in heights} for k in (0, 1) if y + k * P < 2**255}
    assert len(SMALL_ORDER_POINTS) == 2 * len(heights) == 14


@pytest.mark.parametrize("raw", sorted(SMALL_ORDER_POINTS))
def test_verify_key_cannot_be_made_when_the_point_has_small_order(raw: bytes) -> None:
    with pytest.raises(WeakPublicKeyError, match="small order"):
        VerifyKey(raw)
    with pytest.raises(WeakPublicKeyError):
        VerifyKey.from_hex(raw.hex())
    with pytest.raises(WeakPublicKeyError):
        VerifyKey.from_int(int.from_bytes(raw, "big"))


def test_verify_key_cannot_be_made_when_it_is_off_the_curve_or_not_canonical() -> None:
    off_curve = next(y for y in range(2, 100) if _x_of(y) is None)
    for number in (off_curve, P + 3):
        with pytest.raises(WeakPublicKeyError, match="prime-order"):
            VerifyKey(number.to_bytes(32, "little"))


def test_verify_key_cannot_be_made_when_it_has_a_torsion_part() -> None:
    def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        k = D * a[0] * b[0] * a[1] * b[1] % P
        x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + k, -1, P) % P
        return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, P) % P

    y = int.from_bytes(SigningKey(SEED).verify_key.raw, "little") & (1 << 255) - 1
    x = _x_of(y)
    assert x is not None
    mixed_x, mixed_y = add((x, y), (0, P - 1))
    with pytest.raises(WeakPublicKeyError):
        VerifyKey((mixed_y | (mixed_x & 1) << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("number", [0, 1, P - 1, P, P + 1, P | 1 << 255])
def test_box_public_key_cannot_be_made_when_it_has_low_order(number: int) -> None:
    with pytest.raises(WeakPublicKeyError, match="low order"):
        BoxPublicKey(number.to_bytes(32, "little"))


@given(st.binary(max_size=70))
def test_garbage_keys_raise_named_errors_only(raw: bytes) -> None:
    for kind in (VerifyKey, BoxPublicKey, SigningKey, BoxKey):
        try:
            kind(raw)
        except KeyMaterialError:
            continue
        assert len(raw) == 32


@given(st.text(max_size=70))
def test_garbage_hex_raises_named_errors_only_and_never_shows_the_text(text: str) -> None:
    for kind in (VerifyKey, BoxPublicKey, SigningKey, BoxKey):
        with pytest.raises(KeyMaterialError) as caught:
            kind.from_hex(text)
        assert len(text) < 8 or text not in str(caught.value)


@pytest.mark.parametrize("number", [-1, 1 << 256])
def test_verify_key_cannot_be_made_when_the_integer_is_no_uint256(number: int) -> None:
    with pytest.raises(KeyMaterialError):
        VerifyKey.from_int(number)


def test_signing_key_makes_the_signature_of_rfc_8032() -> None:
    key = SigningKey.from_seed(RFC_SEED)
    assert key.verify_key.hex == RFC_PUBLIC
    assert key.sign(b"\x72").hex() == RFC_SIGNATURE
    assert key.verify_key.verify(b"\x72", bytes.fromhex(RFC_SIGNATURE))


@given(st.binary(max_size=64), st.integers(0, 511))
def test_verify_key_cannot_accept_a_signature_when_one_bit_differs(message: bytes, bit: int) -> None:
    key = SigningKey(SEED)
    signature = bytearray(key.sign(message))
    assert key.verify_key.verify(message, bytes(signature))
    signature[bit // 8] ^= 1 << bit % 8
    assert not key.verify_key.verify(message, bytes(signature))
    assert not key.verify_key.verify(message + b"\0", key.sign(message))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_verify_key_cannot_accept_a_signature_when_its_length_is_wrong(size: int) -> None:
    assert not SigningKey(SEED).verify_key.verify(b"m", bytes(size))


def test_public_keys_survive_every_form() -> None:
    key = SigningKey(SEED).verify_key
    assert VerifyKey.from_hex(key.hex) == VerifyKey.from_int(key.to_int()) == VerifyKey(bytes(key)) == key
    assert pickle.loads(pickle.dumps(key)) == key
    assert hash(VerifyKey(key.raw)) == hash(key)
    box = BoxKey(SEED).public_key
    assert pickle.loads(pickle.dumps(box)) == BoxPublicKey.from_hex(box.hex) == box
    assert box != key
    assert key != key.raw


@pytest.mark.parametrize("kind", [SigningKey, BoxKey])
def test_secret_keys_never_show_or_pickle_their_secret(kind: type[SigningKey] | type[BoxKey]) -> None:
    key = kind(SEED)
    for text in (repr(key), str(key), f"{key}", repr([key])):
        assert SEED.hex() not in text
        assert repr(SEED)[2:-1] not in text
        assert "<secret>" in text
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(KeyMaterialError, match="refused to pickle"):
            pickle.dumps(key, protocol)
    with pytest.raises(TypeError):
        hash(key)
    assert copy.deepcopy(key) is copy.copy(key) is key
    assert key.reveal() == SEED


@pytest.mark.parametrize("kind", [SigningKey, BoxKey])
def test_secret_keys_are_equal_only_when_the_secret_is(kind: type[SigningKey] | type[BoxKey]) -> None:
    assert kind(SEED) == kind(SEED)
    assert kind(SEED) != kind(SEED[::-1])
    assert kind.generate() != kind.generate()
    assert kind(SEED) != SEED
    with pytest.raises(AttributeError):
        kind(SEED)._secret = b""


def test_key_id_is_the_start_of_the_hash_of_the_public_key() -> None:
    key = BoxKey.from_hex(SEED.hex())
    assert key.key_id == key.public_key.key_id == hashlib.sha256(key.public_key.raw).digest()[:8]
