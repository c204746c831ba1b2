"""Payloads and results: from plaintext to the bytes that travel, and the hashes that the chain holds.

Owns the plaintext models, sealing, opening and both commitments (docs/protocol.md, section 3.1). Must not
know how the bytes travel or what the engine does. Text is canonical JSON; `|` joins bytes.

    sealed payload   0x01 | client's box key (32) | prekey id (8)     | box(zlib(text), client -> prekey)
    public payload   0x02 | client's box key (32) | zlib(text)
    sealed result    0x03 | worker's box key (32) | client key id (8) | box(zlib(text), worker -> client)

    payload_hash = T(PAYLOAD, T(PAYLOAD_WIRE, all travelling bytes) | T(PAYLOAD_TEXT, text))
    result_hash  = T(RESULT, text)              with T = `cocoon_sdk.protocol.hashing.tagged_hash`

The client's key pair is made for one job, the worker's for one delivery: no key ever seals two messages,
and a box cannot be played back as another. The random salt in the text keeps guessable text from being
found by trying. A box alone does not commit to its key, hence the second hash in `payload_hash`: a worker
whose decryption does not match declines, and either side can later show text and bytes to an arbiter.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints
from pytoniq_core import Address

from cocoon_sdk.crypto.boxes import MAX_BOX_BYTES, open_box, seal
from cocoon_sdk.crypto.keys import BOX_KEY_ID_BYTES, KEY_BYTES, BoxKey, BoxPublicKey
from cocoon_sdk.errors import DecryptionError, HashMismatchError, KeyMaterialError, MalformedError
from cocoon_sdk.protocol.canonical import MAX_JSON_BYTES, canonical_bytes, parse_canonical
from cocoon_sdk.protocol.compression import compress, decompress
from cocoon_sdk.protocol.hashing import Tag, same_hash, tagged_hash
from cocoon_sdk.protocol.models import SALT_BYTES, ModelName, SaltHex, VersionOne, WireInt, WireModel
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.types import Hash

MAX_TEXT_BYTES: Final = MAX_JSON_BYTES
"""Largest plaintext of a payload or result; a worker may set a lower limit of its own."""
_DELIVERED_OTHER: Final = "The worker delivered something else than it committed to: dispute the job"
_SEALED_PAYLOAD: Final = 1
_PUBLIC_PAYLOAD: Final = 2
_SEALED_RESULT: Final = 3
_PUBLIC_HEADER: Final = 1 + KEY_BYTES
_SEALED_HEADER: Final = _PUBLIC_HEADER + BOX_KEY_ID_BYTES
MAX_ENVELOPE_BYTES: Final = _SEALED_HEADER + MAX_BOX_BYTES
"""Largest payload or result as it travels."""


class JobKind(StrEnum):
    """What is asked of the model; `request` is the body of the OpenAI endpoint of that name."""

    CHAT_COMPLETION = "chat.completion"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    TRANSCRIPTION = "transcription"
    BATCH = "batch"


class JobRef(WireModel):
    """Which job a result belongs to: the escrow's raw address in workchain 0, and the id of the entry."""

    escrow: Annotated[str, StringConstraints(pattern=r"\A0:[0-9a-f]{64}\z")]
    id: WireInt

    @classmethod
    def of(cls, escrow: Address, job_id: int) -> JobRef:
        """Name job `job_id` of an escrow. Raises `MalformedError` for an address outside of workchain 0."""
        return cls.from_wire({"escrow": f"{escrow.wc}:{escrow.hash_part.hex()}", "id": job_id})


def _new_salt() -> bytes:
    return os.urandom(SALT_BYTES)


class PayloadPlain(WireModel):
    """The plaintext of a payload. The salt is drawn when it is not given."""

    v: VersionOne = 1
    kind: Annotated[JobKind, Field(strict=False)]
    model: ModelName
    request: Annotated[dict[str, Any], Field(repr=False)]
    salt: SaltHex = Field(default_factory=_new_salt, repr=False)


class ResultPlain(WireModel):
    """The plaintext of a result: the OpenAI response, its use of tokens, and what makes it checkable."""

    v: VersionOne = 1
    job: JobRef
    response: Annotated[dict[str, Any], Field(repr=False)]
    usage: Usage
    proof: Annotated[dict[str, Any] | None, Field(repr=False)] = None
    salt: SaltHex = Field(default_factory=_new_salt, repr=False)


@dataclass(frozen=True, slots=True)
class PayloadHeader:
    """What is readable of a payload without a key. `prekey_id` is None for a public one."""

    client_key: BoxPublicKey
    prekey_id: bytes | None


@dataclass(frozen=True, slots=True)
class PackedPayload:
    """A payload ready to travel. Keep `client_key` (opens the result) and `text` (evidence) to the end."""

    data: bytes = field(repr=False)
    text: bytes = field(repr=False)
    payload_hash: Hash
    client_key: BoxKey


@dataclass(frozen=True, slots=True)
class SealedResult:
    """A result ready to travel. Keep `text` (evidence) until the job ended."""

    data: bytes = field(repr=False)
    text: bytes = field(repr=False)
    result_hash: Hash


def payload_hash(data: bytes, text: bytes) -> Hash:
    """Return the commitment to a payload's travelling bytes and its plaintext."""
    return tagged_hash(Tag.PAYLOAD, tagged_hash(Tag.PAYLOAD_WIRE, data), tagged_hash(Tag.PAYLOAD_TEXT, text))


def result_hash(text: bytes) -> Hash:
    """Return the commitment to a result's plaintext."""
    return tagged_hash(Tag.RESULT, text)


def parse_payload_text(text: bytes) -> PayloadPlain:
    """Read a payload's plaintext, for example as evidence. Raises `MalformedError`."""
    return PayloadPlain.from_wire(parse_canonical(text, max_bytes=MAX_TEXT_BYTES))


def parse_result_text(text: bytes) -> ResultPlain:
    """Read a result's plaintext, for example as evidence. Raises `MalformedError`."""
    return ResultPlain.from_wire(parse_canonical(text, max_bytes=MAX_TEXT_BYTES))


def seal_payload(
    payload: PayloadPlain, prekey: BoxPublicKey, *, client_key: BoxKey | None = None
) -> PackedPayload:
    """Encrypt a payload to one worker's prekey.

    `client_key` is fresh when not given; give one, used for this job only, if it has to be stored before
    anything is sent. Raises `MalformedError` when the content is not JSON or too large.
    """
    key = client_key or BoxKey.generate()
    text = canonical_bytes(payload.to_wire(), max_bytes=MAX_TEXT_BYTES)
    head = bytes([_SEALED_PAYLOAD]) + key.public_key.raw + prekey.key_id
    data = head + seal(compress(text), key, prekey)
    return PackedPayload(data, text, payload_hash(data, text), key)


def publish_payload(payload: PayloadPlain, *, client_key: BoxKey | None = None) -> PackedPayload:
    """Pack a payload that everybody may read, for a job that any worker may claim.

    The result is sealed to the client all the same. Raises `MalformedError`
    when the content is not JSON or too large.
    """
    key = client_key or BoxKey.generate()
    text = canonical_bytes(payload.to_wire(), max_bytes=MAX_TEXT_BYTES)
    data = bytes([_PUBLIC_PAYLOAD]) + key.public_key.raw + compress(text)
    if len(data) > MAX_ENVELOPE_BYTES:
        raise MalformedError(
            "cannot pack the payload", why="it is too large", hint="Split it into several jobs"
        )
    return PackedPayload(data, text, payload_hash(data, text), key)


def read_payload_header(data: bytes) -> PayloadHeader:
    """Read the unencrypted part of a payload. Raises `MalformedError`."""
    what = "cannot read the payload"
    if len(data) > MAX_ENVELOPE_BYTES:
        raise MalformedError(what, why=f"{len(data)} bytes exceed the limit of {MAX_ENVELOPE_BYTES}")
    if data[:1] == bytes([_SEALED_PAYLOAD]) and len(data) > _SEALED_HEADER:
        prekey_id: bytes | None = bytes(data[_PUBLIC_HEADER:_SEALED_HEADER])
    elif data[:1] == bytes([_PUBLIC_PAYLOAD]) and len(data) > _PUBLIC_HEADER:
        prekey_id = None
    else:
        raise MalformedError(what, why="unknown version, or cut short")
    return PayloadHeader(_header_key(data, what), prekey_id)


def open_payload(
    data: bytes, keys: Iterable[BoxKey], expected_hash: bytes, *, max_text_bytes: int = MAX_TEXT_BYTES
) -> PayloadPlain:
    """Open a payload with the prekey among `keys` it was sealed to, and check it against the job's hash.

    Raises `DecryptionError` (no such prekey, or altered), `HashMismatchError` (not what the job names) or
    `MalformedError` (no payload, or more than `max_text_bytes`). Nothing is parsed before the hash is right.
    """
    header = read_payload_header(data)
    if header.prekey_id is None:
        packed = bytes(data[_PUBLIC_HEADER:])
    else:
        packed = _open_with(data, _find_key(keys, header.prekey_id), header.client_key)
    return parse_payload_text(_checked_payload(data, packed, expected_hash, max_text_bytes))


def open_payload_text(data: bytes, keys: Iterable[BoxKey], expected_hash: bytes) -> bytes:
    """Open a payload as `open_payload` does and return its plaintext, for example as evidence."""
    header = read_payload_header(data)
    packed = bytes(data[_PUBLIC_HEADER:])
    if header.prekey_id is not None:
        packed = _open_with(data, _find_key(keys, header.prekey_id), header.client_key)
    return _checked_payload(data, packed, expected_hash, MAX_TEXT_BYTES)


def _checked_payload(data: bytes, packed: bytes, expected_hash: bytes, max_text_bytes: int) -> bytes:
    text = decompress(packed, max_text_bytes)
    if not same_hash(payload_hash(data, text), expected_hash):
        raise HashMismatchError(
            "this is not the payload that the job names", why="the hash differs", hint="Decline the job"
        )
    return text


def open_own_payload(
    data: bytes, client_key: BoxKey, prekey: BoxPublicKey | None, expected_hash: bytes
) -> tuple[PayloadPlain, bytes]:
    """Open a payload with the client's own key of the job; return it with its plaintext bytes.

    `prekey` is the worker's that it was sealed to, None for a public payload. Raises `DecryptionError`
    (another job's key, another prekey, or altered), `HashMismatchError` or `MalformedError`.
    """
    what = "cannot open the payload again"
    header = read_payload_header(data)
    if header.client_key != client_key.public_key:
        raise DecryptionError(what, why="it was sealed with another key", hint="Use the job's own client key")
    if (None if prekey is None else prekey.key_id) != header.prekey_id:
        raise DecryptionError(what, why="it was sealed to another prekey")
    packed = bytes(data[_PUBLIC_HEADER:]) if prekey is None else _open_with(data, client_key, prekey)
    text = decompress(packed, MAX_TEXT_BYTES)
    if not same_hash(payload_hash(data, text), expected_hash):
        raise HashMismatchError("this is not the payload that the job names", why="the hash differs")
    return parse_payload_text(text), text


def seal_result(result: ResultPlain, client_key: BoxPublicKey) -> SealedResult:
    """Encrypt a result to the job's client key, from a key pair that is forgotten at once.

    Raises `MalformedError` when the content is not JSON or too large.
    """
    text = canonical_bytes(result.to_wire(), max_bytes=MAX_TEXT_BYTES)
    return SealedResult(seal_result_text(text, client_key), text, result_hash(text))


def seal_result_text(text: bytes, client_key: BoxPublicKey) -> bytes:
    """Encrypt a result's stored plaintext once more, for another delivery; its hash stays the same."""
    key = BoxKey.generate()
    head = bytes([_SEALED_RESULT]) + key.public_key.raw + client_key.key_id
    return head + seal(compress(text), key, client_key)


def open_result(
    data: bytes, client_key: BoxKey, expected_hash: bytes, *, job: JobRef | None = None
) -> ResultPlain:
    """Open a result with the job's client key and check it against the hash on chain, and `job` if given.

    Raises `DecryptionError` (another job's key, or altered), `HashMismatchError` (not what the worker
    committed to, or committed to for another job) or `MalformedError`.
    """
    result = parse_result_text(open_result_text(data, client_key, expected_hash))
    if job is not None and result.job != job:
        why = "it names another job"
        raise HashMismatchError("this is another job's result", why=why, hint=_DELIVERED_OTHER)
    return result


def open_result_text(data: bytes, client_key: BoxKey, expected_hash: bytes) -> bytes:
    """Open a result as `open_result` does and return its plaintext, which nobody has parsed yet."""
    what = "cannot read the result"
    if not _SEALED_HEADER < len(data) <= MAX_ENVELOPE_BYTES or data[0] != _SEALED_RESULT:
        raise MalformedError(what, why="unknown version, cut short, or too large")
    worker_key = _header_key(data, what)
    if not hmac.compare_digest(bytes(data[_PUBLIC_HEADER:_SEALED_HEADER]), client_key.key_id):
        raise DecryptionError(
            what, why="it is sealed to another key", hint="Use the client key of this very job"
        )
    text = decompress(_open_with(data, client_key, worker_key), MAX_TEXT_BYTES)
    if not same_hash(result_hash(text), expected_hash):
        why = "the hash differs"
        raise HashMismatchError("this is not the result on chain", why=why, hint=_DELIVERED_OTHER)
    return text


def _header_key(data: bytes, what: str) -> BoxPublicKey:
    try:
        return BoxPublicKey(bytes(data[1:_PUBLIC_HEADER]))
    except KeyMaterialError as error:
        raise MalformedError(what, why=error.why) from None


def _find_key(keys: Iterable[BoxKey], key_id: bytes) -> BoxKey:
    for key in keys:
        if key.key_id == key_id:
            return key
    raise DecryptionError(
        "cannot open the payload",
        why=f"it is sealed to prekey {key_id.hex()}, which is not ours or was deleted",
        hint="The client should read the worker's current announcement again",
    )


def _open_with(data: bytes, recipient: BoxKey, sender: BoxPublicKey) -> bytes:
    return open_box(bytes(data[_SEALED_HEADER:]), recipient, sender)
