"""Worker announcements: canonical, bounded, and believed only when the account names their hash."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.crypto import BoxKey, SigningKey
from cocoon_sdk.errors import CocoonError, HashMismatchError, MalformedError
from cocoon_sdk.protocol.canonical import canonical_bytes
from cocoon_sdk.protocol.hashing import Tag, sha256, tagged_hash
from cocoon_sdk.protocol.offers import MAX_INFO_BYTES, Offer, Prekey, WorkerInfo, decode_info, encode_info
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.types import Hash, Nano


def make_terms(**changes: Any) -> Terms:
    fields: dict[str, Any] = {
        "model_id": Hash(b"\x11" * 32),
        "model_entry_hash": Hash(b"\x22" * 32),
        "input_price": Nano(50_000_000),
        "cached_input_price": Nano(10_000_000),
        "output_price": Nano(200_000_000),
        "minimum_price": Nano(100),
        "sampling": SamplingClass.GREEDY,
    }
    return Terms(**{**fields, **changes})


PREKEYS = tuple(Prekey(key=BoxKey(bytes([n]) * 32).public_key, expires=1000 * n) for n in (2, 3, 1))
OFFER = Offer(model="Qwen/Qwen3-8B", terms=make_terms(), max_context=32_768, max_output_tokens=4096)
INFO = WorkerInfo(
    operator=SigningKey(bytes(32)).verify_key,
    endpoint="https://worker.example:8443/data",
    prekeys=PREKEYS,
    offers=(OFFER,),
)


def packed(wire: Any) -> tuple[bytes, Hash]:
    text = canonical_bytes(wire)
    return b"\x01" + zlib.compress(text), tagged_hash(Tag.WORKER_INFO, text)


def test_client_can_read_an_announcement() -> None:
    assert decode_info(encode_info(INFO), INFO.info_hash) == INFO


def test_info_hash_is_frozen() -> None:
    # Accounts carry it: a change of this value is a change of the protocol.
    assert INFO.info_hash.hex() == "55d5a2ea99581fc7c8a5866b15a5b7469dc010716a45d247220dd9a9aca483a8"


def test_client_cannot_read_an_announcement_when_the_account_names_another() -> None:
    with pytest.raises(HashMismatchError):
        decode_info(encode_info(INFO), bytes(32))


@given(st.data())
def test_client_cannot_read_an_announcement_when_it_is_altered_or_cut(data: st.DataObject) -> None:
    good = encode_info(INFO)
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    flipped = bytearray(good)
    flipped[bit // 8] ^= 1 << bit % 8
    for wrong in (bytes(flipped), good[: data.draw(st.integers(0, len(good) - 1))], good + b"\0"):
        try:
            # A zlib header has a few bits that do not matter; then the content is still the named one.
            assert decode_info(wrong, INFO.info_hash) == INFO
        except CocoonError:
            continue
        assert len(wrong) == len(good)


@given(st.binary(max_size=200))
def test_garbage_raises_named_errors_only(data: bytes) -> None:
    for each in (data, b"\x01" + data, b"\x01" + zlib.compress(data)):
        with pytest.raises(CocoonError):
            decode_info(each, tagged_hash(Tag.WORKER_INFO, data))


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": True},
        {"endpoint": "ftp://worker.example/"},
        {"endpoint": "https://user:word@worker.example/"},
        {"endpoint": "https://"},
        {"endpoint": "https://[::1"},
        {"endpoint": "https://worker.example:99999/"},
        {"endpoint": "https://worker.example/a b"},
        {"endpoint": "https://worker.example/" + "a" * 512},
        {"operator": "00" * 32},
        {"prekeys": []},
        {"prekeys": [PREKEYS[0].to_wire()] * 2},
        {"prekeys": [{"key": "00" * 32, "expires": 1}]},
        {"prekeys": [Prekey(key=BoxKey.generate().public_key, expires=1).to_wire() for _ in range(9)]},
        {"prekeys": [{**PREKEYS[0].to_wire(), "expires": -1}]},
        {"offers": [OFFER.to_wire()] * 2},
        {"offers": [{**OFFER.to_wire(), "model": "with blank"}]},
        {"offers": [{**OFFER.to_wire(), "model": ""}]},
        {"offers": [{**OFFER.to_wire(), "max_output_tokens": 32_769}]},
        {"offers": [{**OFFER.to_wire(), "max_context": 0, "max_output_tokens": 0}]},
        {"offers": None},
        {"surprise": 1},
    ],
)
def test_client_cannot_read_an_announcement_when_a_field_is_out_of_bounds(changes: dict[str, object]) -> None:
    data, info_hash = packed({**INFO.to_wire(), **changes})
    with pytest.raises(MalformedError, match="WorkerInfo"):
        decode_info(data, info_hash)


@pytest.mark.parametrize("field", ["v", "endpoint", "prekeys", "operator"])
def test_client_cannot_read_an_announcement_when_a_field_is_missing(field: str) -> None:
    data, info_hash = packed({name: value for name, value in INFO.to_wire().items() if name != field})
    with pytest.raises(MalformedError, match=f"missing {field}"):
        decode_info(data, info_hash)


def test_client_cannot_read_an_announcement_when_a_nested_field_is_missing() -> None:
    offer = OFFER.to_wire()
    del offer["terms"]["rounding"]
    data, info_hash = packed({**INFO.to_wire(), "offers": [offer]})
    with pytest.raises(MalformedError, match="missing rounding"):
        decode_info(data, info_hash)


def test_client_cannot_read_an_announcement_when_it_is_a_bomb() -> None:
    with pytest.raises(MalformedError, match="more than"):
        decode_info(b"\x01" + zlib.compress(bytes(5_000_000)), bytes(32))


def test_client_cannot_read_an_announcement_when_another_form_is_canonical() -> None:
    text = INFO.to_bytes().replace(b'"v":1', b'"v": 1')
    with pytest.raises(MalformedError, match="canonical"):
        decode_info(b"\x01" + zlib.compress(text), tagged_hash(Tag.WORKER_INFO, text))


def test_worker_cannot_announce_more_than_fits() -> None:
    def terms(n: int) -> Terms:
        return make_terms(model_id=sha256(bytes([n])), model_entry_hash=sha256(bytes([n, n])))

    offers = tuple(OFFER.model_copy(update={"model": f"m{n}", "terms": terms(n)}) for n in range(128))
    with pytest.raises(MalformedError, match=f"limit of {MAX_INFO_BYTES}"):
        encode_info(INFO.model_copy(update={"offers": offers}))
    many = INFO.model_copy(update={"offers": offers[:64]})
    assert decode_info(encode_info(many), many.info_hash) == many


def test_client_can_choose_the_prekey_that_lives_longest() -> None:
    assert INFO.current_prekey(0) == PREKEYS[1]
    assert INFO.current_prekey(2999) == PREKEYS[1]
    assert INFO.current_prekey(3000) is None
