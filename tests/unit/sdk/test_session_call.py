"""How much a worker may send as one answer: no more than its receipt could ever be shown with."""

from __future__ import annotations

from itertools import repeat
from typing import Final

import pytest
from msgspec.structs import replace

from cocoon_sdk.client.auditing.evidence_book import EvidenceBook
from cocoon_sdk.client.sessions.answers.finished import FinishedAnswer
from cocoon_sdk.client.sessions.bounds import PIECE_BYTES, Ceiling, Tariff
from cocoon_sdk.client.sessions.errors import DishonestWorkerError
from cocoon_sdk.client.sessions.links.call import MAX_ANSWER_BYTES, Call, Question
from cocoon_sdk.client.sessions.values import CHAT, EMBEDDING, SignedReceipt
from cocoon_sdk.protocol.hashing import Tag, tagged_hash
from cocoon_sdk.protocol.metering import ClientLedger
from cocoon_sdk.protocol.session_evidence import (
    MAX_PIECES,
    MAX_RESPONSE_BYTES,
    PIECE_LENGTH_BYTES,
    EvidenceRecord,
    SessionEvidence,
)
from cocoon_sdk.protocol.session_wire import MAX_BODY_BYTES, Delta
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.protocol.vouchers import Receipt, ResponseHash, SessionRef, request_hash
from cocoon_sdk.types import Nano
from cocoon_worker.engine.base import EngineLimits
from tests.helpers.scripted_session_worker import DOMAIN, ScriptedSessionWorker

DELTA: Final = Delta(1, 0, 0, 0, True, b"{")
WORKER: Final = ScriptedSessionWorker("mallory", port=1)


def call(sampling: SamplingClass, kind: str = CHAT) -> Call:
    terms = WORKER.terms.model_copy(update={"sampling": sampling})
    ceiling = Ceiling(100, 100, Nano(0), Nano(0), Nano(0))
    question = Question(kind, b"{}", True, Tariff(terms), ceiling, None, 1e9)
    return Call(1, question, ClientLedger(Nano.ton(1)), 0.0)


def take(made: Call, count: int, data: bytes) -> None:
    """Let so many equal pieces come, and be read."""
    delta = replace(DELTA, data=data)
    for _ in repeat(None, count):
        made.take(delta, 1.0)
        made.ready()


VERIFIED: Final = next(each for each in SamplingClass if each is not SamplingClass.UNVERIFIED)


def test_answer_in_more_pieces_than_evidence_holds_is_a_lie() -> None:
    """Else a cheater cuts what it makes so small that nobody can ever show it to arbiters."""
    made = call(VERIFIED)
    take(made, MAX_PIECES, b"{")
    with pytest.raises(DishonestWorkerError, match="131072 pieces that evidence can hold"):
        take(made, 1, b"{")


def test_answer_of_more_bytes_than_evidence_holds_is_a_lie() -> None:
    made = call(VERIFIED)
    piece = bytes(MAX_BODY_BYTES - PIECE_LENGTH_BYTES)
    take(made, MAX_RESPONSE_BYTES // MAX_BODY_BYTES, piece)
    rest = MAX_RESPONSE_BYTES % MAX_BODY_BYTES - PIECE_LENGTH_BYTES
    with pytest.raises(DishonestWorkerError, match="bytes that evidence can hold"):
        take(made, 1, bytes(rest + 1))


@pytest.mark.parametrize(("sampling", "kind"), [(SamplingClass.UNVERIFIED, CHAT), (VERIFIED, EMBEDDING)])
def test_answer_that_is_never_evidence_is_bounded_by_the_memory_it_takes(
    sampling: SamplingClass, kind: str
) -> None:
    made = call(sampling, kind)
    most = MAX_ANSWER_BYTES // (PIECE_BYTES + 1)
    assert most > MAX_PIECES
    take(made, most, b"{")
    with pytest.raises(DishonestWorkerError, match="its answer exceeds"):
        take(made, 1, b"{")


def record_of(pieces: tuple[bytes, ...], body: bytes, commitment: bytes) -> SessionEvidence:
    ref, hashed = SessionRef(DOMAIN, 1, WORKER.address), ResponseHash()
    for piece in pieces:
        hashed.update(piece)
    proof = tagged_hash(Tag.COMMITMENT, commitment)
    asked = request_hash(CHAT, body)
    receipt = Receipt(1, asked, hashed.digest(), WORKER.terms.terms_hash, proof, 1, 0, 1, Nano(1), Nano(1))
    record = EvidenceRecord.of(
        receipt,
        WORKER.operator.verify_key,
        receipt.sign(WORKER.operator, ref),
        kind=CHAT,
        request=body,
        pieces=pieces,
        commitment=commitment,
        terms=WORKER.terms,
    )
    return SessionEvidence.of(ref, [record])


@pytest.mark.parametrize("count", [MAX_PIECES, 14])
def test_largest_answer_that_is_taken_fits_into_evidence_with_the_largest_request(count: int) -> None:
    each = MAX_RESPONSE_BYTES // count - PIECE_LENGTH_BYTES
    full = bytes(MAX_BODY_BYTES)
    assert len(record_of((bytes(each),) * count, full, full).to_bytes()) > MAX_RESPONSE_BYTES


def test_workers_own_limit_keeps_it_from_looking_like_a_liar() -> None:
    assert EngineLimits().max_response_bytes < MAX_RESPONSE_BYTES


def test_book_counts_what_small_pieces_take() -> None:
    """A million pieces of two bytes are not two megabytes."""
    pieces = (b"{}",) * 1000
    hashed = ResponseHash()
    receipt = Receipt(
        1,
        request_hash(CHAT, b"{}"),
        hashed.digest(),
        WORKER.terms.terms_hash,
        hashed.digest(),
        *(1, 0, 1, Nano(1), Nano(1)),
    )
    ref = SessionRef(DOMAIN, 1, WORKER.address)
    signed = SignedReceipt(receipt, ref, WORKER.operator.verify_key, bytes(64))
    book = EvidenceBook(most_bytes=1000 * PIECE_BYTES)
    book.note(FinishedAnswer(WORKER.offer, CHAT, b"{}", pieces, False, signed, pieces))
    assert len(book._sessions) == 0
