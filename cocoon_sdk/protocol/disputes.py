"""What parties and arbiters tell each other about a dispute: evidence, commitments, votes.

The rules are in docs/arbiter.md.

Owns the forms, their bounds, their hashes and what is signed. Must not know how anything travels, what the
evidence is worth, or who decides. T is `cocoon_sdk.protocol.hashing.tagged_hash`; integers are big-endian.

    dispute    = T(DISPUTE, domain hash (32) | kind (1) | id (4) | time of the dispute (4))
    received   = T(DISPUTE_RECEIVED, dispute | result hash)             signed by the escrow's hot key
    item       = T(EVIDENCE_ITEM, kind (1) | data)
    receipt    = T(EVIDENCE_RECEIPT, dispute | item)                    signed by an arbiter's key
    vote       = T(VOTE, canonical JSON)
    commitment = T(VOTE_COMMITMENT, dispute | arbiter's index (1) | vote)   signed by an arbiter's key

The domain hash names network, escrow and activation, so nothing that is signed counts anywhere else. Every
item of evidence can be checked against what the chain holds, whoever brings it, and has only one right form.
"""

from __future__ import annotations

import os
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from cocoon_sdk.crypto.boxes import MAX_BOX_TEXT_BYTES, open_box, seal
from cocoon_sdk.crypto.keys import KEY_BYTES, SIGNATURE_BYTES, BoxKey, BoxPublicKey, SigningKey, VerifyKey
from cocoon_sdk.errors import KeyMaterialError, MalformedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_canonical, parse_json
from cocoon_sdk.protocol.hashing import HASH_BYTES, Tag, tagged_hash
from cocoon_sdk.protocol.models import (
    SALT_BYTES,
    BoxPublicKeyHex,
    HashHex,
    SaltHex,
    SignatureHex,
    VerifyKeyHex,
    VersionOne,
    WireInt,
    WireModel,
    WireNano,
)
from cocoon_sdk.protocol.offers import Endpoint
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.types import Hash

MAX_EVIDENCE_BYTES: Final = 16 * 1024 * 1024
"""Largest evidence of one delivery, all items together. What is larger cannot be brought before arbiters."""
MAX_ARBITERS: Final = 9
"""Most arbiters that parameters may name."""
MAX_OPINIONS_BYTES: Final = 64 * 1024
MAX_INFO_BYTES: Final = 2048
_FORMAT: Final = b"\x01"


class DisputeKind(IntEnum):
    """What is disputed."""

    JOB = 1
    SESSION = 2


def dispute_digest(domain: Domain, kind: DisputeKind, number: int, disputed_at: int) -> Hash:
    """Return what names a dispute: `domain` is the escrow's, `disputed_at` the chain's unix time."""
    parts = (bytes([kind]), number.to_bytes(4, "big"), disputed_at.to_bytes(4, "big"))
    return tagged_hash(Tag.DISPUTE, domain.hash(c.PURPOSE_ESCROW_EXTERNAL), *parts)


def received_digest(dispute: bytes, result_hash: bytes) -> Hash:
    """Return what a client signs to say that it had the result before it disputed."""
    return tagged_hash(Tag.DISPUTE_RECEIVED, dispute, result_hash)


# -- evidence ----------------------------------------------------------------------------------------------


class ItemKind(IntEnum):
    """One thing that can be shown. Each is bound by the chain, so it is there or not, never contradictory."""

    PAYLOAD = 1
    """The payload's travelling bytes and its plaintext (`payload_item`): bound by the payload hash."""
    RESULT = 2
    """The result's plaintext: bound by the result hash."""
    CLIENT_KEY = 3
    """The secret of the job's client key, 32 bytes: bound by the payload's header. It opens this job only."""
    RECEIVED = 4
    """The client's signature that it had the result: bound by the escrow's hot key."""
    TERMS = 5
    """The terms' canonical JSON: bound by the terms hash."""
    SESSION = 6
    """All that is shown about a session (`cocoon_sdk.protocol.session_evidence`): bound by the hash that the
    dispute names. The only item of a session's dispute, and of no other.
    """


class Receipt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An arbiter's word that it holds an item."""

    index: Annotated[int, msgspec.Meta(ge=0, le=255)]
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class Item(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One item of evidence with the receipts that it was forwarded with; a party's own has none."""

    kind: ItemKind
    data: bytes
    receipts: Annotated[tuple[Receipt, ...], msgspec.Meta(max_length=MAX_ARBITERS)] = ()

    def digest(self) -> Hash:
        """Return what receipts are signed over, beside the dispute."""
        return tagged_hash(Tag.EVIDENCE_ITEM, bytes([self.kind]), self.data)

    def __repr__(self) -> str:
        return f"Item({self.kind.name}, {len(self.data)} bytes, {len(self.receipts)} receipts)"


class Evidence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one delivery shows about one dispute: at most one item of each kind."""

    dispute: Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
    items: Annotated[tuple[Item, ...], msgspec.Meta(min_length=1, max_length=len(ItemKind))]

    def __post_init__(self) -> None:
        if len({item.kind for item in self.items}) < len(self.items):
            raise ValueError("something is shown twice")


def payload_item(wire: bytes, text: bytes) -> Item:
    """Return the item that opens a payload: its bytes as they travelled, and its plaintext."""
    return Item(ItemKind.PAYLOAD, len(wire).to_bytes(4, "big") + wire + text)


def split_payload(data: bytes) -> tuple[bytes, bytes]:
    """Return travelling bytes and plaintext of a payload item. Raises `MalformedError`."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise MalformedError("an opening of a payload is cut short")
    return data[4 : 4 + size], data[4 + size :]


def seal_evidence(evidence: Evidence, recipient: BoxPublicKey) -> bytes:
    """Encrypt evidence to one arbiter, from a key pair that is forgotten at once.

    Raises `MalformedError` above `MAX_EVIDENCE_BYTES`.
    """
    text = msgspec.msgpack.encode(evidence)
    if len(text) > MAX_EVIDENCE_BYTES:
        raise MalformedError(
            "cannot send the evidence",
            why=f"{len(text)} bytes exceed the limit of {MAX_EVIDENCE_BYTES}",
            hint="Jobs this large cannot be disputed: split them",
        )
    key = BoxKey.generate()
    return _FORMAT + key.public_key.raw + seal(text, key, recipient)


MAX_SEALED_BYTES: Final = 1 + KEY_BYTES + MAX_EVIDENCE_BYTES + MAX_EVIDENCE_BYTES // 8 + 1024
assert MAX_EVIDENCE_BYTES <= MAX_BOX_TEXT_BYTES


def may_be_evidence(head: bytes) -> bool:
    """Tell whether sealed evidence may begin so: what cannot need not be read to its end."""
    return head[:1] == _FORMAT


def open_evidence(data: bytes, key: BoxKey) -> Evidence:
    """Decrypt and read what `seal_evidence` made. Raises `DecryptionError` or `MalformedError`."""
    what = "cannot read the evidence"
    if len(data) > MAX_SEALED_BYTES or data[:1] != _FORMAT:
        raise MalformedError(what, why="unknown format, or too large")
    try:
        sender = BoxPublicKey(bytes(data[1 : 1 + KEY_BYTES]))
    except KeyMaterialError as error:
        raise MalformedError(what, why=error.why) from None
    text = open_box(bytes(data[1 + KEY_BYTES :]), key, sender)
    try:
        return msgspec.msgpack.decode(text, type=Evidence)
    except msgspec.MsgspecError:
        raise MalformedError(what, why="it is not in form") from None


def receipt_digest(dispute: bytes, item: Item) -> Hash:
    """Return what an arbiter signs for an item."""
    return tagged_hash(Tag.EVIDENCE_RECEIPT, dispute, item.digest())


# -- commitments and votes ---------------------------------------------------------------------------------


class Ground(StrEnum):
    """Why a vote is what it is; the table is in docs/arbiter.md."""

    CLIENT_SILENT = "client-silent"
    WORKER_SILENT = "worker-silent"
    BAD_PAYLOAD = "bad-payload"
    BAD_RESULT = "bad-result"
    OVERCHARGED = "overcharged"
    NO_COMMITMENT = "no-commitment"
    NOT_CHECKABLE = "not-checkable"
    HONEST = "honest"
    SUSPECT = "suspect"
    REFUND = "refund"
    SLASH = "slash"


Index = Annotated[int, Field(ge=0, le=255)]
MAX_FAULTS: Final = 8
"""Most faults that a vote names."""


class Measure(WireModel):
    """One statistic of an answer, with the limits of its model, in millionths of a nat."""

    name: Annotated[str, Field(pattern=r"^[a-z_]{1,16}$")]
    value: WireInt
    refund: WireInt
    slash: WireInt


class Measured(WireModel):
    """What a ground rests on: statistics, and what is wrong whatever they say. It repeats no content."""

    measures: Annotated[tuple[Measure, ...], Field(strict=False, max_length=8)] = ()
    faults: Annotated[
        tuple[Annotated[str, Field(pattern="^[ -~]{1,80}$")], ...],
        Field(strict=False, max_length=MAX_FAULTS),
    ] = ()


class Vote(WireModel):
    """What one arbiter holds to be right, in nanoTON; hidden behind its commitment until others committed."""

    v: VersionOne = 1
    dispute: HashHex
    index: Index
    pay: WireNano
    slash: WireNano
    ground: Annotated[Ground, Field(strict=False)]
    late: bool
    """Whether the worker showed the result only in the dispute, and so pays the arbiters."""
    measured: Measured | None = None
    """What this arbiter measured, so that everybody can see why; None where nothing was."""
    salt: SaltHex = Field(default_factory=lambda: os.urandom(SALT_BYTES), repr=False)

    @property
    def numbers(self) -> tuple[int, int]:
        """What goes on chain: pay and slash."""
        return int(self.pay), int(self.slash)

    def digest(self) -> Hash:
        """Return what the commitment commits to."""
        return tagged_hash(Tag.VOTE, canonical_bytes(self.to_wire(), max_bytes=MAX_OPINIONS_BYTES))


def commitment_digest(dispute: bytes, index: int, vote: bytes) -> Hash:
    """Return what an arbiter signs to commit to a vote."""
    return tagged_hash(Tag.VOTE_COMMITMENT, dispute, bytes([index]), vote)


class VoteCommitment(WireModel):
    """An arbiter's signed commitment to a vote."""

    index: Index
    vote: HashHex
    signature: SignatureHex

    def is_of(self, key: VerifyKey, dispute: bytes) -> bool:
        """Tell whether `key` signed it for this dispute."""
        return key.verify(commitment_digest(dispute, self.index, self.vote), self.signature)


class SignedVerdict(WireModel):
    """An arbiter's signature over a verdict, as the escrow checks it; amounts in nanoTON."""

    index: Index
    pay: WireNano
    slash: WireNano
    signature: SignatureHex


class Opinions(WireModel):
    """All that an arbiter knows to be signed about one dispute; what it sends and what it answers.

    Two commitments of one index prove that this arbiter is not honest, so both are passed on.
    """

    v: VersionOne = 1
    dispute: HashHex
    commitments: Annotated[tuple[VoteCommitment, ...], Field(strict=False, max_length=2 * MAX_ARBITERS)] = ()
    votes: Annotated[tuple[Vote, ...], Field(strict=False, max_length=MAX_ARBITERS)] = ()
    verdicts: Annotated[tuple[SignedVerdict, ...], Field(strict=False, max_length=2 * MAX_ARBITERS)] = ()

    def to_bytes(self) -> bytes:
        """Return it as it travels."""
        return canonical_bytes(self.to_wire(), max_bytes=MAX_OPINIONS_BYTES)

    @classmethod
    def from_bytes(cls, data: bytes) -> Opinions:
        """Read it. Raises `MalformedError`."""
        return cls.from_wire(parse_json(data, max_bytes=MAX_OPINIONS_BYTES))


# -- who an arbiter is -------------------------------------------------------------------------------------


class ArbiterInfo(WireModel):
    """Where an arbiter can be reached, and the key that evidence is sealed to; signed by its verdict key."""

    v: VersionOne = 1
    network: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    """The network's global id."""
    key: VerifyKeyHex
    box_key: BoxPublicKeyHex
    url: Endpoint
    since: WireInt
    """Unix time in seconds: of two announcements the later one counts."""
    signature: SignatureHex = bytes(SIGNATURE_BYTES)

    def digest(self) -> Hash:
        """Return what is signed: everything but the signature."""
        content: dict[str, Any] = self.to_wire()
        del content["signature"]
        return tagged_hash(Tag.ARBITER_INFO, canonical_bytes(content, max_bytes=MAX_INFO_BYTES))

    def signed(self, key: SigningKey) -> ArbiterInfo:
        """Return it with a signature."""
        return self.model_copy(update={"signature": key.sign(self.digest())})

    @property
    def is_genuine(self) -> bool:
        """Whether the key that it names signed it."""
        return self.key.verify(self.digest(), self.signature)

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return canonical_bytes(self.to_wire(), max_bytes=MAX_INFO_BYTES)

    @classmethod
    def from_bytes(cls, data: bytes) -> ArbiterInfo:
        """Read and check one. Raises `MalformedError`, also for a wrong signature."""
        info = cls.from_wire(parse_canonical(data, max_bytes=MAX_INFO_BYTES))
        if not info.is_genuine:
            raise MalformedError("an arbiter's announcement is not its own", why="the signature is wrong")
        return info
