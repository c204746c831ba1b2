"""What a client shows about a guarded session: requests, answers, and what the worker signed about them.

Owns the form, its bounds, its one encoding, and the hash that `DisputeSession` names on chain. Must not know
who kept the records, whether the worker's key is the right one, or what an answer is worth (docs/arbiter.md).

A record holds contents and counts; the hashes of its receipt are computed from them. So there is nothing in
it that could contradict itself: either the worker signed exactly this, or the record says nothing.

    evidence = T(SESSION_EVIDENCE, 01 | MessagePack of [name of the session (76 bytes), records])
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Annotated, Final, Self

import msgspec
from msgspec import Meta, Struct

from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import KeyMaterialError, MalformedError
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_canonical
from cocoon_sdk.protocol.disputes import MAX_EVIDENCE_BYTES
from cocoon_sdk.protocol.hashing import Tag, tagged_hash
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.protocol.session_wire import (
    MAX_BODY_BYTES,
    Amount,
    Body,
    Count,
    Hash32,
    Name,
    RequestId,
    Signature,
)
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.protocol.vouchers import NO_PROOF, SESSION_REF_BYTES, Receipt, SessionRef, request_hash
from cocoon_sdk.types import Hash, Nano

MAX_RECORDS: Final = 32
"""Most records of one dispute: each one is a pass of the model, for every arbiter."""
MAX_SESSION_EVIDENCE_BYTES: Final = MAX_EVIDENCE_BYTES - (1 << 16)
"""So that it fits into one delivery, with the receipts of those who pass it on."""
MAX_PIECES: Final = 1 << 17
"""Most pieces of one answer: twice as many as it can have tokens."""
MAX_TERMS_BYTES: Final = 4096
MAX_RESPONSE_BYTES: Final = MAX_SESSION_EVIDENCE_BYTES - 2 * MAX_BODY_BYTES - MAX_TERMS_BYTES - 1024
"""Most bytes of an answer, with the length of each piece, that fit beside any request and commitment."""
PIECE_LENGTH_BYTES: Final = 4
_FORMAT: Final = b"\x01"
_WHAT: Final = "cannot read the evidence of the session"

_Blob = Annotated[bytes, Meta(min_length=PIECE_LENGTH_BYTES + 1, max_length=MAX_SESSION_EVIDENCE_BYTES)]
_TermsBytes = Annotated[bytes, Meta(min_length=2, max_length=MAX_TERMS_BYTES)]


class EvidenceRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One request of a session with its answer, as the worker's receipt covers them. Make it with `of`.

    `request` is the body as it travelled, `response` every piece of the answer, in order, each behind its
    length (4 bytes). `commitment` is the JSON that came before the receipt, empty if none was promised,
    `terms` the canonical JSON of the terms, `operator` the key that signed. Counts are tokens, amounts
    nanoTON.
    """

    rid: RequestId
    kind: Name
    request: Body
    response: _Blob
    input_tokens: Count
    cached_input_tokens: Count
    output_tokens: Count
    charged: Amount
    total: Amount
    commitment: Body
    terms: _TermsBytes
    operator: Hash32
    signature: Signature

    def __post_init__(self) -> None:
        _split(self.response)

    @classmethod
    def of(
        cls,
        receipt: Receipt,
        operator: VerifyKey,
        signature: bytes,
        *,
        kind: str,
        request: bytes,
        pieces: Iterable[bytes],
        commitment: bytes,
        terms: Terms,
    ) -> Self:
        """Return the record of what was received. `pieces` are the answer's exactly as they came.

        Raises `MalformedError` when the receipt is about something else, or it is too large for evidence.
        """
        what = "cannot keep the answer as evidence"
        try:
            record = msgspec.convert(
                [
                    receipt.rid,
                    kind,
                    request,
                    b"".join(len(piece).to_bytes(PIECE_LENGTH_BYTES, "big") + piece for piece in pieces),
                    receipt.input_tokens,
                    receipt.cached_input_tokens,
                    receipt.output_tokens,
                    int(receipt.charged),
                    int(receipt.total),
                    commitment,
                    canonical_bytes(terms.to_wire(), max_bytes=MAX_TERMS_BYTES),
                    operator.raw,
                    signature,
                ],
                cls,
            )
        except (msgspec.ValidationError, OverflowError) as error:
            raise MalformedError(what, why=str(error)[:200]) from None
        if record.receipt != receipt:
            raise MalformedError(what, why="the receipt is about something else than what is kept")
        return record

    @property
    def receipt(self) -> Receipt:
        """What the worker signed, if it signed this."""
        return Receipt(
            rid=self.rid,
            request_hash=request_hash(self.kind, self.request),
            response_hash=tagged_hash(Tag.SESSION_RESPONSE, self.response),
            terms_hash=self.read_terms().terms_hash,
            proof_hash=tagged_hash(Tag.COMMITMENT, self.commitment) if self.commitment else NO_PROOF,
            input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens,
            output_tokens=self.output_tokens,
            charged=Nano(self.charged),
            total=Nano(self.total),
        )

    @property
    def usage(self) -> Usage:
        """The tokens that were charged. Raises `MalformedError` for counts that contradict each other."""
        return Usage.from_wire(
            {
                "input_tokens": self.input_tokens,
                "cached_input_tokens": self.cached_input_tokens,
                "output_tokens": self.output_tokens,
            }
        )

    @property
    def pieces(self) -> list[bytes]:
        """The pieces of the answer, in order."""
        return _split(self.response)

    def read_terms(self) -> Terms:
        """Return the terms. Raises `MalformedError`."""
        return Terms.from_wire(parse_canonical(self.terms, max_bytes=MAX_TERMS_BYTES))

    @property
    def signer(self) -> VerifyKey | None:
        """The key that is said to have signed it, None for what is no key."""
        try:
            return VerifyKey(self.operator)
        except KeyMaterialError:
            return None

    def is_signed(self, session: SessionRef) -> bool:
        """Tell whether `operator` signed exactly this for `session`; whose key it is, is another question."""
        key = self.signer
        try:
            return key is not None and self.receipt.verified_by(key, session, self.signature)
        except MalformedError:
            return False

    def __repr__(self) -> str:
        return f"EvidenceRecord({self.rid}, {self.kind}, {len(self.request)} and {len(self.response)} bytes)"


class SessionEvidence(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All that a client shows about one session: 1 to `MAX_RECORDS` records, by rising request numbers."""

    name: Annotated[bytes, Meta(min_length=SESSION_REF_BYTES, max_length=SESSION_REF_BYTES)]
    records: Annotated[tuple[EvidenceRecord, ...], Meta(min_length=1, max_length=MAX_RECORDS)]

    def __post_init__(self) -> None:
        rids = [record.rid for record in self.records]
        if any(later <= earlier for earlier, later in itertools.pairwise(rids)):
            raise ValueError("the records do not rise by request number")

    @classmethod
    def of(cls, session: SessionRef, records: Iterable[EvidenceRecord]) -> Self:
        """Return the evidence of these records, in whatever order. Raises `MalformedError`."""
        listed = sorted(records, key=lambda record: record.rid)
        if not 1 <= len(listed) <= MAX_RECORDS:
            why = f"it takes 1 to {MAX_RECORDS} records, not {len(listed)}"
            raise MalformedError("cannot put the evidence together", why=why)
        try:
            return cls(session.to_bytes(), tuple(listed))
        except ValueError as error:
            raise MalformedError("cannot put the evidence together", why=str(error)) from None

    @property
    def session(self) -> SessionRef:
        """Which session it is about."""
        return SessionRef.from_bytes(self.name)

    def to_bytes(self) -> bytes:
        """Return it as it travels and is kept. Raises `MalformedError` above the bound."""
        data = _FORMAT + msgspec.msgpack.encode(self)
        if len(data) > MAX_SESSION_EVIDENCE_BYTES:
            raise MalformedError(
                "cannot put the evidence together",
                why=f"{len(data)} bytes exceed the limit of {MAX_SESSION_EVIDENCE_BYTES}",
                hint="Leave out records",
            )
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> SessionEvidence:
        """Read what `to_bytes` wrote, and no other encoding of it. Raises `MalformedError`."""
        if len(data) > MAX_SESSION_EVIDENCE_BYTES or data[:1] != _FORMAT:
            raise MalformedError(_WHAT, why="unknown format, or too large")
        try:
            evidence = msgspec.msgpack.decode(data[1:], type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise MalformedError(_WHAT, why="it is not in form") from None
        if evidence.to_bytes() != data:
            raise MalformedError(_WHAT, why="it is not in its canonical form")
        return evidence

    def digest(self) -> Hash:
        """Return what `DisputeSession` names on chain."""
        return evidence_digest(self.to_bytes())


def evidence_digest(data: bytes) -> Hash:
    """Return the hash of evidence as it travels, whatever is in it."""
    return tagged_hash(Tag.SESSION_EVIDENCE, data)


def _split(response: bytes) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at < len(response):
        begin = at + PIECE_LENGTH_BYTES
        at = begin + int.from_bytes(response[at:begin], "big")
        if begin > len(response) or not begin < at <= len(response) or len(found) >= MAX_PIECES:
            raise ValueError("the pieces of the answer are cut short, empty or too many")
        found.append(response[begin:at])
    return found
