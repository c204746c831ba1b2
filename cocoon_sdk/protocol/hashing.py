"""Domain-separated SHA-256: hashes of different things never collide, whatever their content.

Owns the list of tags. Must not know how the hashed bytes are made. A tagged hash is
`SHA256(len(tag) as one byte | tag in ASCII | parts, one after the other)`. At most the last part may vary
in length, so that the parts cannot be cut differently. Every tag is longer than 2 bytes, which keeps these
hashes apart from the Merkle hashes of `cocoon_sdk.protocol.merkle` (prefix bytes 0, 1 and 2).
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from typing import Final

from cocoon_sdk.types import Hash

HASH_BYTES: Final = 32


class Tag(StrEnum):
    """What a hash is about. Values are frozen: they are part of what is committed to on chain."""

    PAYLOAD = "cocoon.v1.payload"
    PAYLOAD_WIRE = "cocoon.v1.payload.wire"
    PAYLOAD_TEXT = "cocoon.v1.payload.text"
    RESULT = "cocoon.v1.result"
    WORKER_INFO = "cocoon.v1.worker-info"
    SESSION_REQUEST = "cocoon.v1.session.request"
    SESSION_RESPONSE = "cocoon.v1.session.response"
    SESSION_RECEIPT = "cocoon.v1.session.receipt"
    SESSION_EVIDENCE = "cocoon.v1.session.evidence"
    SEED_JOB = "cocoon.v1.seed.job"
    SEED_REQUEST = "cocoon.v1.seed.request"
    PROMPT_TOKENS = "cocoon.v1.prompt.tokens"
    COMMITMENT = "cocoon.v1.commitment"
    THRESHOLDS = "cocoon.v1.thresholds"
    DISPUTE = "cocoon.v1.dispute"
    DISPUTE_RECEIVED = "cocoon.v1.dispute.received"
    EVIDENCE_ITEM = "cocoon.v1.evidence.item"
    EVIDENCE_RECEIPT = "cocoon.v1.evidence.receipt"
    VOTE = "cocoon.v1.vote"
    VOTE_COMMITMENT = "cocoon.v1.vote.commitment"
    ARBITER_INFO = "cocoon.v1.arbiter-info"


def sha256(data: bytes) -> Hash:
    """Return the plain SHA-256 of `data`."""
    return Hash(hashlib.sha256(data).digest())


def tagged_hash(tag: Tag, *parts: bytes) -> Hash:
    """Return the SHA-256 of the tag and the parts, as the module describes."""
    digest = hashlib.sha256(bytes([len(tag)]) + tag.encode("ascii"))
    for part in parts:
        digest.update(part)
    return Hash(digest.digest())


def same_hash(left: bytes, right: bytes) -> bool:
    """Compare two hashes in constant time."""
    return hmac.compare_digest(left, right)
