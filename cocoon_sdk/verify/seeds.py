"""The seed rule: who draws the noise of an answer, and from what.

Owns the derivations. Must not know the noise itself (`noise`), jobs or links. The seed is nobody's choice: a
worker cannot try seeds until an answer is cheap, and a client that varies its own request only gets another
answer. Everything that enters is known before the worker begins and is committed to by the client.

    job:     T(SEED_JOB,     domain hash (32) | job id (8) | payload hash (32))
    session: T(SEED_REQUEST, session (76) | rid (8) | request hash (32))

with T = `cocoon_sdk.protocol.hashing.tagged_hash` and integers big-endian; the first 16 bytes are the seed.
Where a request asks for several choices, `cocoon_sdk.verify.noise.choice_seed` gives each its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.constants import PURPOSE_ESCROW_EXTERNAL
from cocoon_sdk.protocol.hashing import HASH_BYTES, Tag, tagged_hash

if TYPE_CHECKING:  # both take long to load, and only their methods are used
    from cocoon_sdk.protocol.signing import Domain
    from cocoon_sdk.protocol.vouchers import SessionRef

SEED_BYTES: Final = 16


def job_seed(domain: Domain, job_id: int, payload_hash: bytes) -> bytes:
    """Return the seed of a job's answer. `domain` is the escrow's. Raises `MalformedError` out of bounds."""
    _check_number("job id", job_id)
    _check_hash("payload hash", payload_hash)
    parts = (domain.hash(PURPOSE_ESCROW_EXTERNAL), job_id.to_bytes(8, "big"), payload_hash)
    return tagged_hash(Tag.SEED_JOB, *parts)[:SEED_BYTES]


def request_seed(session: SessionRef, rid: int, request_hash: bytes) -> bytes:
    """Return the seed of the answer to a session's request number `rid`.

    `request_hash` is that of `cocoon_sdk.protocol.vouchers`. Raises `MalformedError` out of bounds.
    """
    _check_number("request number", rid)
    _check_hash("request hash", request_hash)
    return tagged_hash(Tag.SEED_REQUEST, session.to_bytes(), rid.to_bytes(8, "big"), request_hash)[
        :SEED_BYTES
    ]


def _check_number(name: str, number: int) -> None:
    if not 0 <= number < 1 << 64:
        raise MalformedError("cannot derive the seed", why=f"the {name} has more than 64 bits")


def _check_hash(name: str, value: bytes) -> None:
    if len(value) != HASH_BYTES:
        raise MalformedError("cannot derive the seed", why=f"the {name} has not {HASH_BYTES} bytes")
