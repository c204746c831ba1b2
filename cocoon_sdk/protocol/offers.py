"""What a worker announces about itself: prekeys, endpoint and the models it offers.

Owns the announcement's form, bounds and hash. Must not know where it was read or whether the worker has
any stake. The hash is the `info` of the worker's account; only content that matches it is believed.
"""

from __future__ import annotations

from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from cocoon_sdk.errors import HashMismatchError, MalformedError
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_canonical
from cocoon_sdk.protocol.compression import compress, decompress
from cocoon_sdk.protocol.hashing import Tag, same_hash, tagged_hash
from cocoon_sdk.protocol.models import (
    BoxPublicKeyHex,
    ModelName,
    TokenCount,
    VerifyKeyHex,
    VersionOne,
    WireInt,
    WireModel,
)
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Hash

MAX_INFO_BYTES: Final = 8 * 1024 - 1
"""Largest encoded announcement: what fits into one inline data cell chain beside its tag."""
MAX_INFO_TEXT_BYTES: Final = 64 * 1024
_FORMAT: Final = b"\x01"


def _endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https", "ws", "wss") and parts.hostname and "@" not in parts.netloc
        _ = parts.port  # raises ValueError when it is not a port number
    except ValueError:
        usable = None
    if not usable:
        raise ValueError("expected an http(s) or ws(s) URL with a host and without user name")
    return url


Endpoint = Annotated[
    str,
    StringConstraints(min_length=1, max_length=512, pattern=r"\A[!-\[\]-~]+\z"),
    AfterValidator(_endpoint),
]


def check_endpoint(url: str) -> str:
    """Return a URL that an announcement may name. Raises `MalformedError`."""
    if len(url) > 512 or not url.isascii() or not url.isprintable() or " " in url:
        raise MalformedError("not a URL of an endpoint", why="it is too long or not in plain ASCII")
    try:
        return _endpoint(url)
    except ValueError as error:
        raise MalformedError("not a URL of an endpoint", why=str(error)) from None


class Prekey(WireModel):
    """A key to seal payloads to, and the unix time in seconds after which the worker may have deleted it."""

    key: BoxPublicKeyHex
    expires: WireInt


class Offer(WireModel):
    """One model under one set of terms. Limits in tokens; the context holds prompt and output together."""

    model: ModelName
    terms: Terms
    max_context: Annotated[TokenCount, Field(ge=1)]
    max_output_tokens: TokenCount

    @model_validator(mode="after")
    def _output_fits(self) -> Self:
        if self.max_output_tokens > self.max_context:
            raise ValueError("max_output_tokens exceeds max_context")
        return self


class WorkerInfo(WireModel):
    """A worker's announcement, version 1."""

    v: VersionOne = 1
    operator: VerifyKeyHex
    endpoint: Endpoint | None = None
    prekeys: Annotated[tuple[Prekey, ...], Field(strict=False, min_length=1, max_length=8)]
    offers: Annotated[tuple[Offer, ...], Field(strict=False, max_length=64)]

    @model_validator(mode="after")
    def _no_repetition(self) -> Self:
        if len({prekey.key for prekey in self.prekeys}) != len(self.prekeys):
            raise ValueError("a prekey is listed twice")
        if len({(offer.model, offer.terms.sampling) for offer in self.offers}) != len(self.offers):
            raise ValueError("a model is offered twice in the same sampling class")
        return self

    def current_prekey(self, now: int) -> Prekey | None:
        """Return the prekey that stays valid longest after `now` (unix seconds), or None when all expired."""
        alive = [prekey for prekey in self.prekeys if prekey.expires > now]
        return max(alive, key=lambda prekey: prekey.expires, default=None)

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that `info_hash` covers."""
        return canonical_bytes(self.to_wire(), max_bytes=MAX_INFO_TEXT_BYTES)

    @property
    def info_hash(self) -> Hash:
        """The tagged SHA-256 that the worker's account carries."""
        return tagged_hash(Tag.WORKER_INFO, self.to_bytes())


def encode_info(info: WorkerInfo) -> bytes:
    """Return the announcement as it travels: a format byte and compressed canonical JSON.

    Raises `MalformedError` when it exceeds `MAX_INFO_BYTES`.
    """
    data = _FORMAT + compress(info.to_bytes())
    if len(data) > MAX_INFO_BYTES:
        raise MalformedError(
            "cannot announce the worker",
            why=f"{len(data)} bytes exceed the limit of {MAX_INFO_BYTES}",
            hint="Announce fewer offers",
        )
    return data


def decode_info(data: bytes, expected_hash: bytes) -> WorkerInfo:
    """Read an announcement and check it against the hash in the worker's account.

    Raises `MalformedError` for anything but canonical content within the bounds, `HashMismatchError` for
    content that the account does not name.
    """
    if len(data) > MAX_INFO_BYTES or data[:1] != _FORMAT:
        raise MalformedError("cannot read the worker's announcement", why="too long or of an unknown format")
    text = decompress(data[1:], MAX_INFO_TEXT_BYTES)
    if not same_hash(tagged_hash(Tag.WORKER_INFO, text), expected_hash):
        raise HashMismatchError(
            "this is not the announcement that the worker's account names",
            why="the hash differs",
            hint="It may be outdated: look for a newer one",
        )
    return WorkerInfo.from_wire(parse_canonical(text, max_bytes=MAX_INFO_TEXT_BYTES))
