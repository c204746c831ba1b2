"""What both sides must agree on: messages, hashes, terms, prices. Pure: no I/O, no event loop, no clock.

What needs the contracts' messages (`messages`, `signing`, `vouchers`) is imported from its own module: they
take longer to load than all the rest together.
"""

from cocoon_sdk.protocol.canonical import canonical_bytes, parse_canonical, parse_json
from cocoon_sdk.protocol.envelope import (
    MAX_ENVELOPE_BYTES,
    MAX_TEXT_BYTES,
    JobKind,
    JobRef,
    PackedPayload,
    PayloadHeader,
    PayloadPlain,
    ResultPlain,
    SealedResult,
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
from cocoon_sdk.protocol.hashing import Tag, same_hash, sha256, tagged_hash
from cocoon_sdk.protocol.merkle import MerkleProof, MerkleTree, check_merkle_proof, merkle_root
from cocoon_sdk.protocol.metering import (
    DEFAULT_INCREMENT,
    MAX_INCREMENT,
    ClientLedger,
    MeteringError,
    WorkerLedger,
)
from cocoon_sdk.protocol.offers import (
    MAX_INFO_BYTES,
    Offer,
    Prekey,
    WorkerInfo,
    decode_info,
    encode_info,
)
from cocoon_sdk.protocol.pricing import Usage, max_price, price
from cocoon_sdk.protocol.terms import Rounding, SamplingClass, Terms

__all__ = [
    "DEFAULT_INCREMENT",
    "MAX_ENVELOPE_BYTES",
    "MAX_INCREMENT",
    "MAX_INFO_BYTES",
    "MAX_TEXT_BYTES",
    "ClientLedger",
    "JobKind",
    "JobRef",
    "MerkleProof",
    "MerkleTree",
    "MeteringError",
    "Offer",
    "PackedPayload",
    "PayloadHeader",
    "PayloadPlain",
    "Prekey",
    "ResultPlain",
    "Rounding",
    "SamplingClass",
    "SealedResult",
    "Tag",
    "Terms",
    "Usage",
    "WorkerInfo",
    "WorkerLedger",
    "canonical_bytes",
    "check_merkle_proof",
    "decode_info",
    "encode_info",
    "max_price",
    "merkle_root",
    "open_payload",
    "open_result",
    "parse_canonical",
    "parse_json",
    "parse_payload_text",
    "parse_result_text",
    "payload_hash",
    "price",
    "publish_payload",
    "read_payload_header",
    "result_hash",
    "same_hash",
    "seal_payload",
    "seal_result",
    "seal_result_text",
    "sha256",
    "tagged_hash",
]
