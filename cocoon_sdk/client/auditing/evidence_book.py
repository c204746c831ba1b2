"""The answers of sessions that can still become evidence: the last ones of each, while their session goes on.

Owns which are remembered, and making evidence of them. Must not know findings, disputes or databases: what is
remembered here is gone with the process, what a dispute stands on is kept (`EvidenceVault`, `DisputeStore`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.client.auditing.records import Audited, AuditSubject
from cocoon_sdk.client.sessions.answers.finished import FinishedAnswer
from cocoon_sdk.client.sessions.bounds import PIECE_BYTES
from cocoon_sdk.crypto.boxes import open_box, seal
from cocoon_sdk.crypto.keys import BoxKey, SigningKey
from cocoon_sdk.errors import DecryptionError
from cocoon_sdk.protocol.session_evidence import MAX_RECORDS, EvidenceRecord, SessionEvidence

MAX_BYTES: Final = 64 * 1024 * 1024
"""What is remembered over all sessions, with what keeping each piece and each token takes."""
_TOKEN_BYTES: Final = 80
"""What a commitment takes in memory for each token: its number and its log-probability."""
_PURPOSE: Final = b"cocoon evidence"


class EvidenceBook:
    """The newest answers of each session, `MAX_RECORDS` at most, `MAX_BYTES` together."""

    def __init__(self, most_bytes: int = MAX_BYTES) -> None:
        self._most, self._bytes = most_bytes, 0
        self._sessions: OrderedDict[bytes, OrderedDict[int, FinishedAnswer]] = OrderedDict()

    def note(self, answer: FinishedAnswer) -> None:
        """Remember an answer; the oldest of the session that is longest without one make room."""
        name = answer.receipt.session.to_bytes()
        answers = self._sessions.setdefault(name, OrderedDict())
        self._sessions.move_to_end(name)
        answers[answer.receipt.receipt.rid] = answer
        self._bytes += _size(answer)
        if len(answers) > MAX_RECORDS:
            self._forget(answers)
        while self._bytes > self._most:
            oldest = next(iter(self._sessions))
            self._forget(self._sessions[oldest])
            if not self._sessions[oldest]:
                del self._sessions[oldest]

    def _forget(self, answers: OrderedDict[int, FinishedAnswer]) -> None:
        _, answer = answers.popitem(last=False)
        self._bytes -= _size(answer)

    def answer(self, subject: AuditSubject) -> FinishedAnswer | None:
        """Return the answer of a result, if it is remembered."""
        return self._of(subject).get(subject.request)

    def answers(self, subject: AuditSubject) -> dict[int, FinishedAnswer]:
        """Return what is remembered of a result's session, by request numbers, which rise."""
        return dict(sorted(self._of(subject).items()))

    def sessions_with(
        self, worker: Address, *, but: AuditSubject | None = None
    ) -> list[dict[int, FinishedAnswer]]:
        """Return what is remembered of each session with a worker, as `answers` does; not that of `but`."""
        other = None if but is None else self._of(but)
        return [
            dict(sorted(answers.items()))
            for answers in self._sessions.values()
            if answers is not other and next(iter(answers.values())).offer.address == worker
        ]

    def _of(self, subject: AuditSubject) -> OrderedDict[int, FinishedAnswer]:
        if subject.what is not Audited.REQUEST:
            return OrderedDict()
        for answers in self._sessions.values():
            session = next(iter(answers.values())).receipt.session
            if (session.domain, session.session_id) == (subject.domain, subject.number):
                return answers
        return OrderedDict()


def evidence_of(answers: Sequence[FinishedAnswer]) -> SessionEvidence:
    """Return the evidence that answers of a session are. Raises `MalformedError` when they are too large."""
    records = []
    for answer in answers:
        signed = answer.receipt
        commitment = signed.commitment
        records.append(
            EvidenceRecord.of(
                signed.receipt,
                signed.operator,
                signed.signature,
                kind=answer.kind,
                request=answer.body,
                pieces=answer.travelled,
                commitment=b"" if commitment is None else commitment.to_bytes(),
                terms=answer.offer.terms,
            )
        )
    return SessionEvidence.of(answers[0].receipt.session, records)


def evidence_bytes(answer: FinishedAnswer) -> int:
    """Return about how many bytes of evidence an answer takes."""
    commitment = answer.receipt.commitment
    return _bytes(answer) + (0 if commitment is None else len(commitment.to_bytes()))


def _size(answer: FinishedAnswer) -> int:
    return _bytes(answer) + answer.receipt.receipt.output_tokens * _TOKEN_BYTES


def _bytes(answer: FinishedAnswer) -> int:
    return len(answer.body) + sum(len(piece) + PIECE_BYTES for piece in answer.travelled)


class EvidenceVault:
    """Seals evidence for the client's own database: who reads that sees no prompts.

    The key follows from the hot key and the escrow. Evidence that was sealed under one of `previous` hot keys
    opens, too.
    """

    def __init__(self, escrow: Address, hot_key: SigningKey, previous: Sequence[SigningKey] = ()) -> None:
        self._keys = [_box_key(key, escrow) for key in (hot_key, *previous)]

    def seal(self, evidence: SessionEvidence) -> bytes:
        """Return it sealed. Raises `MalformedError` when it is too large for evidence."""
        return seal(evidence.to_bytes(), self._keys[0], self._keys[0].public_key)

    def open(self, sealed: bytes) -> SessionEvidence:
        """Open what `seal` made. Raises `DecryptionError`, or `MalformedError` for what is no evidence."""
        for key in self._keys[:-1]:
            try:
                return SessionEvidence.from_bytes(open_box(sealed, key, key.public_key))
            except DecryptionError:
                continue
        last = self._keys[-1]
        return SessionEvidence.from_bytes(open_box(sealed, last, last.public_key))


def _box_key(hot_key: SigningKey, escrow: Address) -> BoxKey:
    digest = hashlib.blake2b(escrow.hash_part, digest_size=32, key=hot_key.reveal(), person=_PURPOSE)
    return BoxKey(digest.digest())
