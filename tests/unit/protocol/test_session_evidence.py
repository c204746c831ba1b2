"""Evidence of sessions: it reads back, has one encoding, is bounded, and says nothing that nobody signed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address

from cocoon_sdk.crypto import SigningKey
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.hashing import Tag, tagged_hash
from cocoon_sdk.protocol.session_evidence import (
    MAX_RECORDS,
    MAX_SESSION_EVIDENCE_BYTES,
    EvidenceRecord,
    SessionEvidence,
    evidence_digest,
)
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.protocol.vouchers import NO_PROOF, Receipt, ResponseHash, SessionRef, request_hash
from cocoon_sdk.types import Hash, Nano

ESCROW, STAKE = (Address((0, bytes([n]) * 32)) for n in (1, 2))
SESSION = SessionRef(Domain(-239, ESCROW, 1_700_000_000), 7, STAKE)
OTHER = replace(SESSION, session_id=8)
OPERATOR, STRANGER = SigningKey(b"\x06" * 32), SigningKey(b"\x07" * 32)
TERMS = Terms(
    model_id=Hash(b"\x21" * 32),
    model_entry_hash=Hash(b"\x22" * 32),
    input_price=Nano(100),
    cached_input_price=Nano(50),
    output_price=Nano(400),
    minimum_price=Nano(0),
    sampling=SamplingClass.REPLAYABLE,
)


def signed(
    rid: int = 3,
    *,
    kind: str = "completion",
    request: bytes = b'{"prompt":"secret"}',
    pieces: tuple[bytes, ...] = (b'{"choices":[]}', b"{}"),
    commitment: bytes = b'{"v":1}',
    session: SessionRef = SESSION,
    key: SigningKey = OPERATOR,
) -> EvidenceRecord:
    response = ResponseHash()
    for piece in pieces:
        response.update(piece)
    receipt = Receipt(
        rid=rid,
        request_hash=request_hash(kind, request),
        response_hash=response.digest(),
        terms_hash=TERMS.terms_hash,
        proof_hash=tagged_hash(Tag.COMMITMENT, commitment) if commitment else NO_PROOF,
        input_tokens=100,
        cached_input_tokens=40,
        output_tokens=7,
        charged=Nano(900),
        total=Nano(12_000),
    )
    return EvidenceRecord.of(
        receipt,
        key.verify_key,
        receipt.sign(key, session),
        kind=kind,
        request=request,
        pieces=pieces,
        commitment=commitment,
        terms=TERMS,
    )


RECORDS = st.builds(
    signed,
    st.integers(1, (1 << 53) - 1),
    kind=st.sampled_from(("chat.completion", "completion")),
    request=st.binary(max_size=40),
    pieces=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4).map(tuple),
    commitment=st.binary(max_size=30),
)


@given(st.lists(RECORDS, min_size=1, max_size=4, unique_by=lambda record: record.rid))
def test_evidence_reads_back_and_is_signed(records: list[EvidenceRecord]) -> None:
    evidence = SessionEvidence.of(SESSION, records)
    data = evidence.to_bytes()
    again = SessionEvidence.from_bytes(data)
    assert again == evidence
    assert again.session == SESSION
    assert again.digest() == evidence_digest(data)
    assert [record.rid for record in again.records] == sorted(record.rid for record in records)
    assert all(record.is_signed(SESSION) for record in records)
    assert not any(record.is_signed(OTHER) for record in records)
    assert {record.signer for record in records} == {OPERATOR.verify_key}


@given(st.binary(max_size=400))
def test_nothing_is_read_out_of_noise(data: bytes) -> None:
    for text in (data, b"\x01" + data):
        with pytest.raises(MalformedError):
            SessionEvidence.from_bytes(text)


@given(st.data())
def test_evidence_that_was_altered_has_another_hash_and_is_not_signed(data: st.DataObject) -> None:
    text = bytearray(SessionEvidence.of(SESSION, [signed()]).to_bytes())
    right = evidence_digest(bytes(text))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= data.draw(st.integers(1, 255))
    assert evidence_digest(bytes(text)) != right
    try:
        evidence = SessionEvidence.from_bytes(bytes(text))
    except MalformedError:
        return
    if evidence.name == SESSION.to_bytes():
        assert not any(record.is_signed(SESSION) for record in evidence.records)


def test_evidence_has_one_encoding() -> None:
    evidence = SessionEvidence.of(SESSION, [signed()])
    fields = msgspec.msgpack.decode(evidence.to_bytes()[1:])
    assert b"\x01" + msgspec.msgpack.encode(fields) == evidence.to_bytes()
    # The same number in more bytes than it needs.
    data = evidence.to_bytes()
    at = data.index(b"\x03\xaacompletion")
    with pytest.raises(MalformedError, match="canonical"):
        SessionEvidence.from_bytes(data[:at] + b"\xcc\x03" + data[at + 1 :])
    with pytest.raises(MalformedError):
        SessionEvidence.from_bytes(data + b"\x00")


@pytest.mark.parametrize("rids", [(1, 1), (2, 1)])
def test_evidence_cannot_show_a_request_twice_or_out_of_order(rids: tuple[int, int]) -> None:
    records = [signed(rid) for rid in rids]
    fields = [SESSION.to_bytes(), [msgspec.to_builtins(each, builtin_types=(bytes,)) for each in records]]
    with pytest.raises(MalformedError):
        SessionEvidence.from_bytes(b"\x01" + msgspec.msgpack.encode(fields))
    if rids[0] == rids[1]:
        with pytest.raises(MalformedError):
            SessionEvidence.of(SESSION, records)


def test_evidence_is_bounded() -> None:
    with pytest.raises(MalformedError, match="records"):
        SessionEvidence.of(SESSION, [])
    with pytest.raises(MalformedError, match="records"):
        SessionEvidence.of(SESSION, [signed(rid) for rid in range(1, MAX_RECORDS + 2)])
    large = [signed(rid, request=bytes(1 << 20)) for rid in range(1, 18)]
    with pytest.raises(MalformedError, match="exceed"):
        SessionEvidence.of(SESSION, large).to_bytes()
    with pytest.raises(MalformedError, match="too large"):
        SessionEvidence.from_bytes(bytes(MAX_SESSION_EVIDENCE_BYTES + 1))
    with pytest.raises(MalformedError):
        signed(request=bytes((1 << 20) + 1))
    with pytest.raises(MalformedError):
        signed(pieces=())
    with pytest.raises(MalformedError):
        signed(pieces=(b"",))


@pytest.mark.parametrize(
    "response", [b"\0\0\0\x05abc", b"\0\0\0\x00", b"\0\0\0\x01ab", b"\xff\xff\xff\xffab"]
)
def test_record_cannot_be_read_when_its_pieces_are_cut_short(response: bytes) -> None:
    fields = msgspec.to_builtins(signed(), builtin_types=(bytes,))
    fields[3] = response
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields, EvidenceRecord)


@pytest.mark.parametrize(
    "change",
    [
        {"rid": 4},
        {"input_tokens": 101},
        {"cached_input_tokens": 41},
        {"output_tokens": 8},
        {"charged": 901},
        {"total": 12_001},
        {"kind": "chat.completion"},
        {"request": b"{}"},
        {"response": b"\0\0\0\x02{}"},
        {"commitment": b""},
        {"commitment": b'{"v":2}'},
        {"terms": b"{}"},
        {"operator": STRANGER.verify_key.raw},
        {"operator": bytes(32)},
        {"signature": bytes(64)},
    ],
)
def test_worker_is_not_held_to_what_it_did_not_sign(change: dict[str, Any]) -> None:
    record = signed()
    assert record.is_signed(SESSION)
    assert not msgspec.structs.replace(record, **change).is_signed(SESSION)


def test_record_cannot_be_made_of_a_receipt_about_something_else() -> None:
    record = signed()
    with pytest.raises(MalformedError, match="something else"):
        EvidenceRecord.of(
            record.receipt,
            OPERATOR.verify_key,
            record.signature,
            kind=record.kind,
            request=record.request,
            pieces=[*record.pieces, b"{}"],
            commitment=record.commitment,
            terms=TERMS,
        )


def test_evidence_shows_no_content_when_it_is_printed() -> None:
    assert "secret" not in repr(SessionEvidence.of(SESSION, [signed()]))


def test_session_is_named_by_76_bytes_and_no_other_number_of_them() -> None:
    assert SessionRef.from_bytes(SESSION.to_bytes()) == SESSION
    for data in (b"", SESSION.to_bytes()[:-1], SESSION.to_bytes() + b"\0"):
        with pytest.raises(MalformedError):
            SessionRef.from_bytes(data)
