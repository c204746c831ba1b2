"""Payloads and results: sealed, committed to, and opened only by the right side for the right job."""

from __future__ import annotations

import hashlib
import itertools
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address

from cocoon_sdk.crypto import BoxKey, seal
from cocoon_sdk.errors import CocoonError, DecryptionError, HashMismatchError, MalformedError
from cocoon_sdk.protocol.canonical import canonical_bytes
from cocoon_sdk.protocol.envelope import (
    JobKind,
    JobRef,
    PackedPayload,
    PayloadPlain,
    ResultPlain,
    open_payload,
    open_result,
    parse_payload_text,
    parse_result_text,
    payload_hash,
    publish_payload,
    read_payload_header,
    result_hash,
    seal_payload,
    seal_result,
    seal_result_text,
)
from cocoon_sdk.protocol.hashing import Tag, tagged_hash
from cocoon_sdk.protocol.pricing import Usage

PREKEY = BoxKey(b"\x01" * 32)
OLD_PREKEY = BoxKey(b"\x02" * 32)
CLIENT = BoxKey(b"\x03" * 32)
SALT = bytes(range(16))
JOB = JobRef(escrow="0:" + "ab" * 32, id=7)
PAYLOAD = PayloadPlain(
    kind=JobKind.CHAT_COMPLETION,
    model="Qwen/Qwen3-8B",
    request={"messages": [{"role": "user", "content": "What is the capital of France?"}], "stop": None},
    salt=SALT,
)
RESULT = ResultPlain(
    job=JOB,
    response={"choices": [{"message": {"content": "Paris."}}], "system_fingerprint": None},
    usage=Usage(input_tokens=14, output_tokens=3),
    proof={"seed": 5, "logprobs": [-0.25, -1.5]},
    salt=SALT,
)
requests = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text("aé\0\U0001f600", max_size=300),
    max_size=5,
)


def wire_payload(text: bytes, packed: bytes | None = None) -> PackedPayload:
    """Seal any text by hand, as a dishonest client could."""
    box = seal(zlib.compress(text) if packed is None else packed, CLIENT, PREKEY.public_key)
    data = b"\x01" + CLIENT.public_key.raw + PREKEY.key_id + box
    return PackedPayload(data, text, payload_hash(data, text), CLIENT)


@given(requests, st.sampled_from(JobKind))
def test_worker_can_open_a_payload(request: dict[str, Any], kind: JobKind) -> None:
    payload = PayloadPlain(kind=kind, model="m", request=request)
    for packed in (seal_payload(payload, PREKEY.public_key), publish_payload(payload)):
        assert open_payload(packed.data, [OLD_PREKEY, PREKEY], packed.payload_hash) == payload
        assert parse_payload_text(packed.text) == payload
        assert payload_hash(packed.data, packed.text) == packed.payload_hash
        assert read_payload_header(packed.data).client_key == packed.client_key.public_key


@given(requests)
def test_client_can_open_a_result(response: dict[str, Any]) -> None:
    result = ResultPlain(job=JOB, response=response, usage=Usage(input_tokens=1))
    sealed = seal_result(result, CLIENT.public_key)
    assert open_result(sealed.data, CLIENT, sealed.result_hash, job=JOB) == result
    assert parse_result_text(sealed.text) == result
    again = seal_result_text(sealed.text, CLIENT.public_key)
    assert again != sealed.data
    assert open_result(again, CLIENT, sealed.result_hash) == result


def _tagged(tag: bytes, data: bytes) -> bytes:
    return hashlib.sha256(bytes([len(tag)]) + tag + data).digest()


def test_commitments_are_frozen() -> None:
    # The chain holds them: a change of these values is a change of the protocol.
    parts = _tagged(b"cocoon.v1.payload.wire", b"wire") + _tagged(b"cocoon.v1.payload.text", b"text")
    assert payload_hash(b"wire", b"text") == _tagged(b"cocoon.v1.payload", parts)
    sealed = seal_result(RESULT, CLIENT.public_key)
    assert sealed.result_hash == _tagged(b"cocoon.v1.result", sealed.text)
    assert sealed.result_hash.hex() == "d507f9479028320c9eefa89b67a367614e98e162a1bb2f2f3fd3d0a34120217b"


def test_hashes_of_different_things_never_collide() -> None:
    data = b"same"
    hashes = [tagged_hash(tag, data) for tag in Tag]
    hashes += [payload_hash(data, data), payload_hash(data, b""), payload_hash(b"", data)]
    assert all(left != right for left, right in itertools.combinations(hashes, 2))
    assert all(3 <= len(tag) < 256 and tag.isascii() for tag in Tag)


def test_client_makes_fresh_keys_and_salts_for_every_job() -> None:
    first, second = (PayloadPlain(kind=JobKind.COMPLETION, model="m", request={}) for _ in range(2))
    assert first.salt != second.salt
    packed = [seal_payload(first, PREKEY.public_key) for _ in range(2)]
    assert packed[0].client_key != packed[1].client_key
    assert seal_payload(first, PREKEY.public_key, client_key=CLIENT).client_key == CLIENT


def test_stranger_sees_neither_content_nor_exact_length() -> None:
    sizes = set()
    for length in range(20):
        payload = PAYLOAD.model_copy(update={"request": {"prompt": "x" * length}})
        packed = seal_payload(payload, PREKEY.public_key)
        assert b"prompt" not in packed.data
        sizes.add(len(packed.data))
    assert len(sizes) == 1


def test_content_is_not_shown_when_models_are_printed() -> None:
    shown = f"{PAYLOAD} {PAYLOAD!r} {RESULT!r} {seal_payload(PAYLOAD, PREKEY.public_key)!r}"
    shown += repr(seal_result(RESULT, CLIENT.public_key))
    assert "France" not in shown
    assert "Paris" not in shown
    assert repr(SALT)[2:-1] not in shown


def test_worker_cannot_open_a_payload_when_the_prekey_was_deleted() -> None:
    packed = seal_payload(PAYLOAD, OLD_PREKEY.public_key)
    for keys in ([], [PREKEY]):
        with pytest.raises(DecryptionError, match=OLD_PREKEY.key_id.hex()):
            open_payload(packed.data, keys, packed.payload_hash)


def test_worker_cannot_open_a_payload_when_the_job_names_another() -> None:
    other = seal_payload(PAYLOAD, PREKEY.public_key)
    for packed in (seal_payload(PAYLOAD, PREKEY.public_key), publish_payload(PAYLOAD)):
        with pytest.raises(HashMismatchError, match="Decline the job"):
            open_payload(packed.data, [PREKEY], other.payload_hash)


def test_client_cannot_commit_to_another_text_than_it_sent() -> None:
    packed = seal_payload(PAYLOAD, PREKEY.public_key)
    lie = canonical_bytes({**PAYLOAD.to_wire(), "model": "larger"})
    with pytest.raises(HashMismatchError):
        open_payload(packed.data, [PREKEY], payload_hash(packed.data, lie))


def test_public_payload_cannot_stand_for_a_sealed_one() -> None:
    packed = publish_payload(PAYLOAD, client_key=CLIENT)
    assert read_payload_header(packed.data).prekey_id is None
    with pytest.raises(DecryptionError):
        open_payload(b"\x01" + packed.data[1:], [PREKEY], packed.payload_hash)


@given(st.data())
def test_worker_cannot_open_a_payload_when_it_is_altered_or_cut(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from([seal_payload(PAYLOAD, PREKEY.public_key), publish_payload(PAYLOAD)]))
    bit = data.draw(st.integers(0, 8 * len(good.data) - 1))
    flipped = bytearray(good.data)
    flipped[bit // 8] ^= 1 << bit % 8
    cut = good.data[: data.draw(st.integers(0, len(good.data) - 1))]
    for wrong in (bytes(flipped), cut, good.data + b"\0"):
        with pytest.raises((DecryptionError, HashMismatchError, MalformedError)):
            open_payload(wrong, [PREKEY], good.payload_hash)


@given(st.data())
def test_client_cannot_open_a_result_when_it_is_altered_or_cut(data: st.DataObject) -> None:
    good = seal_result(RESULT, CLIENT.public_key)
    bit = data.draw(st.integers(0, 8 * len(good.data) - 1))
    flipped = bytearray(good.data)
    flipped[bit // 8] ^= 1 << bit % 8
    if bit == 8 * 33 - 1:
        # X25519 ignores the top bit of a public key: the text, which the hash commits to, is the same.
        flipped = bytearray(good.data + b"\0")
    cut = good.data[: data.draw(st.integers(0, len(good.data) - 1))]
    for wrong in (bytes(flipped), cut, good.data + b"\0"):
        with pytest.raises((DecryptionError, HashMismatchError, MalformedError)):
            open_result(wrong, CLIENT, good.result_hash)


@given(st.binary(max_size=500), st.sampled_from([b"", b"\x01", b"\x02", b"\x03"]))
def test_garbage_raises_named_errors_only(data: bytes, prefix: bytes) -> None:
    with pytest.raises(CocoonError):
        open_payload(prefix + data, [PREKEY], bytes(32))
    with pytest.raises(CocoonError):
        open_result(prefix + data, CLIENT, bytes(32))
    for text in (data, canonical_bytes(data.hex())):
        packed = wire_payload(text)
        with pytest.raises(MalformedError):
            open_payload(packed.data, [PREKEY], packed.payload_hash)
        sealed = seal_result_text(text, CLIENT.public_key)
        with pytest.raises(MalformedError):
            open_result(sealed, CLIENT, result_hash(text))


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"kind": "finetune"},
        {"kind": 1},
        {"model": ""},
        {"model": "m" * 201},
        {"request": []},
        {"request": None},
        {"salt": "00" * 15},
        {"salt": "GG" * 16},
        {"surprise": 1},
    ],
)
def test_worker_cannot_open_a_payload_when_a_field_is_out_of_bounds(changes: dict[str, object]) -> None:
    packed = wire_payload(canonical_bytes({**PAYLOAD.to_wire(), **changes}))
    with pytest.raises(MalformedError, match="PayloadPlain") as caught:
        open_payload(packed.data, [PREKEY], packed.payload_hash)
    assert "France" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"job": {"escrow": "-1:" + "ab" * 32, "id": 1}},
        {"job": {"escrow": "0:" + "AB" * 32, "id": 1}},
        {"job": {"escrow": "0:" + "ab" * 32, "id": -1}},
        {"usage": {"input_tokens": 1, "cached_input_tokens": 2, "output_tokens": 0}},
        {"response": "Paris"},
        {"proof": []},
        {"surprise": 1},
    ],
)
def test_client_cannot_open_a_result_when_a_field_is_out_of_bounds(changes: dict[str, object]) -> None:
    text = canonical_bytes({**RESULT.to_wire(), **changes})
    with pytest.raises(MalformedError, match="ResultPlain"):
        open_result(seal_result_text(text, CLIENT.public_key), CLIENT, result_hash(text))


@pytest.mark.parametrize("field", ["v", "kind", "salt"])
def test_worker_cannot_open_a_payload_when_a_field_is_missing(field: str) -> None:
    text = canonical_bytes({name: value for name, value in PAYLOAD.to_wire().items() if name != field})
    packed = wire_payload(text)
    with pytest.raises(MalformedError, match=f"missing {field}"):
        open_payload(packed.data, [PREKEY], packed.payload_hash)


def test_worker_cannot_open_a_payload_when_it_is_a_bomb() -> None:
    packed = wire_payload(bytes(40_000_000))
    with pytest.raises(MalformedError, match="more than 33554432 bytes"):
        open_payload(packed.data, [PREKEY], packed.payload_hash)
    small = seal_payload(PAYLOAD, PREKEY.public_key)
    with pytest.raises(MalformedError, match="more than 100 bytes"):
        open_payload(small.data, [PREKEY], small.payload_hash, max_text_bytes=100)


@pytest.mark.parametrize("packed", [b"", b"junk", zlib.compress(b"{}")[:-1], zlib.compress(b"{}") + b"x"])
def test_worker_cannot_open_a_payload_when_the_compression_is_off(packed: bytes) -> None:
    payload = wire_payload(b"{}", packed)
    with pytest.raises(MalformedError, match="decompress"):
        open_payload(payload.data, [PREKEY], payload.payload_hash)


def test_worker_cannot_open_a_payload_when_the_client_key_has_low_order() -> None:
    for prefix in (b"\x01", b"\x02"):
        with pytest.raises(MalformedError, match="low order"):
            read_payload_header(prefix + bytes(400))


def test_client_cannot_open_a_result_when_it_is_for_another_key_or_job() -> None:
    sealed = seal_result(RESULT, CLIENT.public_key)
    with pytest.raises(DecryptionError, match="another key"):
        open_result(sealed.data, PREKEY, sealed.result_hash)
    with pytest.raises(HashMismatchError, match="another job"):
        open_result(sealed.data, CLIENT, sealed.result_hash, job=JOB.model_copy(update={"id": 8}))
    with pytest.raises(HashMismatchError, match="dispute"):
        open_result(sealed.data, CLIENT, bytes(32))


def test_job_is_named_by_its_escrow_in_the_base_workchain() -> None:
    assert JobRef.of(Address((0, b"\xab" * 32)), 7) == JOB
    with pytest.raises(MalformedError, match="JobRef"):
        JobRef.of(Address((-1, b"\xab" * 32)), 7)


def test_payload_cannot_be_played_back_as_a_result() -> None:
    packed = seal_payload(PAYLOAD, PREKEY.public_key)
    reflected = b"\x03" + PREKEY.public_key.raw + packed.client_key.key_id + packed.data[41:]
    with pytest.raises(HashMismatchError):
        open_result(reflected, packed.client_key, packed.payload_hash)


@pytest.mark.parametrize("bad", [float("nan"), 2**60, b"x", "\ud800", object()])
def test_client_cannot_seal_a_request_when_json_does_not_hold_it(bad: object) -> None:
    payload = PayloadPlain(kind=JobKind.COMPLETION, model="m", request={"a": [bad]})
    with pytest.raises(MalformedError):
        seal_payload(payload, PREKEY.public_key)


def test_client_cannot_seal_a_request_when_it_contains_itself() -> None:
    request: dict[str, Any] = {}
    request["self"] = request
    payload = PAYLOAD.model_copy(update={"request": request})
    with pytest.raises(MalformedError):
        seal_payload(payload, PREKEY.public_key)
