"""Vouchers and receipts: what a session's two sides sign off chain (docs/protocol.md 4).

Owns both values, their digests and checks. Must not know who keeps them, how they travel, or what a request
costs. A *voucher* is the client's: "this worker may redeem so much of this session in all". A *receipt* is
the worker's: "this answer to this request, by these terms, brought the session to this amount".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.crypto.keys import SigningKey, VerifyKey
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.hashing import HASH_BYTES, Tag, tagged_hash
from cocoon_sdk.protocol.signing import Domain, account_id, voucher_digest
from cocoon_sdk.types import Hash, Nano

MAX_VOUCHER: Final = Nano((1 << 53) - 1)
"""Largest cumulative amount, in nanoTON: 9 million TON (what travels on chain has 53 bits)."""
SESSION_REF_BYTES: Final = 76
_VOUCHER_KEY: Final = b"cocoon.v1.voucher-key"


@dataclass(frozen=True, slots=True)
class SessionRef:
    """One session: the domain of its escrow, its number there, and the worker's stake.

    Raises `MalformedError` for numbers that no session has, and for accounts outside workchain 0.
    """

    domain: Domain
    session_id: int
    worker: Address

    def __post_init__(self) -> None:
        account_id(self.worker)
        account_id(self.domain.contract)
        numbers = (self.session_id, self.domain.epoch, self.domain.global_id + (1 << 31))
        if not all(0 <= number < 1 << 32 for number in numbers):
            raise MalformedError("cannot name the session", why="a number has more than 32 bits")

    def to_bytes(self) -> bytes:
        """Return 76 bytes that name this session and no other, on any network."""
        return b"".join(
            (
                self.domain.global_id.to_bytes(4, "big", signed=True),
                bytes(self.domain.contract.hash_part),
                self.domain.epoch.to_bytes(4, "big"),
                self.session_id.to_bytes(4, "big"),
                account_id(self.worker).to_bytes(32, "big"),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> SessionRef:
        """Read what `to_bytes` wrote. Raises `MalformedError` unless it has 76 bytes."""
        if len(data) != SESSION_REF_BYTES:
            raise MalformedError("cannot read the name of a session", why=f"it has {len(data)} bytes")
        return cls(
            Domain(
                int.from_bytes(data[:4], "big", signed=True),
                Address((0, bytes(data[4:36]))),
                int.from_bytes(data[36:40], "big"),
            ),
            int.from_bytes(data[40:44], "big"),
            Address((0, bytes(data[44:]))),
        )


@dataclass(frozen=True, slots=True)
class Voucher:
    """A promise of `amount` nanoTON in all, since the session began. 64 bytes of ed25519."""

    amount: Nano
    signature: bytes

    @classmethod
    def sign(cls, key: SigningKey, session: SessionRef, amount: Nano) -> Voucher:
        """Sign with the session's voucher key. Raises `MalformedError` for an amount out of bounds."""
        return cls(amount, key.sign(_digest(session, amount)))

    def verified_by(self, key: VerifyKey, session: SessionRef) -> bool:
        """Tell whether the session's voucher key signed exactly this."""
        return 0 < self.amount <= MAX_VOUCHER and key.verify(_digest(session, self.amount), self.signature)


def _digest(session: SessionRef, amount: int) -> Hash:
    if not 0 < amount <= MAX_VOUCHER:
        raise MalformedError("cannot sign the voucher", why="its amount is out of bounds")
    return voucher_digest(session.domain, session.worker, session.session_id, amount)


def voucher_key(hot_key: SigningKey, escrow: Address, session_id: int) -> SigningKey:
    """Derive a session's voucher key from the escrow's hot key: nothing to keep, nothing to lose.

    Whoever holds the hot key can sign; the key itself reveals nothing about the hot key, nor about the keys
    of other sessions.
    """
    content = _VOUCHER_KEY + bytes(escrow.hash_part) + session_id.to_bytes(4, "big")
    return SigningKey(hashlib.blake2b(content, key=hot_key.reveal(), digest_size=32).digest())


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker signs for one answer. Hashes are tagged SHA-256, amounts nanoTON.

    `rid` is the request's number in the session. `charged` is the price of this answer, `total` what the
    session has used up with it. `terms_hash` names model and prices. `proof_hash` commits to what shows how
    the answer was made; zero where the terms promise nothing of the kind.
    """

    rid: int
    request_hash: Hash
    response_hash: Hash
    terms_hash: Hash
    proof_hash: Hash
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    charged: Nano
    total: Nano

    def digest(self, session: SessionRef) -> Hash:
        """Return what the operator key signs."""
        numbers = (
            self.rid,
            self.input_tokens,
            self.cached_input_tokens,
            self.output_tokens,
            int(self.charged),
            int(self.total),
        )
        if not all(0 <= number < 1 << 64 for number in numbers):
            raise MalformedError("cannot make the receipt", why="a number is out of bounds")
        hashes = (self.request_hash, self.response_hash, self.terms_hash, self.proof_hash)
        if not all(len(each) == HASH_BYTES for each in hashes):
            raise MalformedError("cannot make the receipt", why="a hash has not 32 bytes")
        fixed = b"".join(number.to_bytes(8, "big") for number in numbers)
        return tagged_hash(Tag.SESSION_RECEIPT, session.to_bytes(), fixed, *hashes)

    def sign(self, operator: SigningKey, session: SessionRef) -> bytes:
        """Return the operator's signature. Raises `MalformedError` for numbers out of bounds."""
        return operator.sign(self.digest(session))

    def verified_by(self, operator: VerifyKey, session: SessionRef, signature: bytes) -> bool:
        """Tell whether the worker's operator key signed exactly this."""
        return operator.verify(self.digest(session), signature)


NO_PROOF: Final = Hash(bytes(HASH_BYTES))
"""`proof_hash` of an answer for which nothing is promised beyond the counts."""


def request_hash(kind: str, body: bytes) -> Hash:
    """Return the hash of a request as it travelled: its kind and the bytes of its body.

    Raises `MalformedError` for a kind that no frame can carry.
    """
    if not kind.isascii() or len(kind) > 255:
        raise MalformedError("cannot hash the request", why="its kind is not a short word in ASCII")
    return tagged_hash(Tag.SESSION_REQUEST, len(kind).to_bytes(1, "big"), kind.encode("ascii"), body)


class ResponseHash:
    """Hashes an answer while it streams: every piece of data, in order, each with its length."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        tag = Tag.SESSION_RESPONSE
        self._hash = hashlib.sha256(bytes([len(tag)]) + tag.encode("ascii"))

    def update(self, data: bytes) -> None:
        """Take in the next piece."""
        self._hash.update(len(data).to_bytes(4, "big"))
        self._hash.update(data)

    def digest(self) -> Hash:
        """Return the hash of everything so far."""
        return Hash(self._hash.digest())
