"""Where bytes are: inside a message, or at a URL together with their hash and length.

Owns the data cell that messages carry and the form of URLs. Must not fetch anything. A data cell is a cell
chain (`cocoon_sdk.data.inline`) that starts with a tag byte:

    0 | content
    1 | SHA-256 of the content (32) | length (uint64) | URL in ASCII (1 to 1024 bytes)
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from pytoniq_core import Cell

from cocoon_sdk.data.inline import MAX_CHAIN_BYTES, bytes_to_chain, chain_to_bytes
from cocoon_sdk.errors import CocoonError, HashMismatchError, MalformedError
from cocoon_sdk.protocol.hashing import HASH_BYTES, same_hash, sha256
from cocoon_sdk.types import Hash

MAX_INLINE_BYTES: Final = MAX_CHAIN_BYTES - 1
"""Largest content of a data cell (the tag takes one byte)."""
MAX_URL_BYTES: Final = 1024
REMOTE_SCHEMES: Final = frozenset({"https", "http", "s3", "gs", "az", "ipfs"})
"""What a location from outside may name unless told otherwise; `file` only where it is enabled on purpose."""
_INLINE: Final = b"\x00"
_LOCATION: Final = b"\x01"
_LENGTH_BYTES: Final = 8
_URL: Final = re.compile(r"\A[a-z][a-z0-9+.-]{0,15}://[!-\[\]-~]+\Z")  # printable, no blank, no backslash
_MAX_LENGTH: Final = 1 << 40


class LocationRefusedError(CocoonError):
    """A location points to where this process must not go: a scheme or an address that is not allowed."""


def check_url(url: str) -> str:
    """Return the scheme of a URL that is fit for a location.

    Raises `MalformedError` for user names, fragments, blanks, backslashes, or more than 1024 characters.
    """
    what = "not a usable URL"
    if len(url) > MAX_URL_BYTES or not _URL.match(url):
        raise MalformedError(
            what, why=f"expected scheme://... of at most {MAX_URL_BYTES} printable ASCII characters"
        )
    try:
        parts = urlsplit(url)
        web, host = parts.scheme in ("http", "https"), parts.hostname
        _ = parts.port if web else None  # raises ValueError when it is not a port number
    except ValueError:
        raise MalformedError(what, why="host or port is wrong") from None
    if "@" in parts.netloc or "#" in url:
        raise MalformedError(what, why="user names and fragments are not allowed")
    if web and not host:
        raise MalformedError(what, why="it names no host")
    return parts.scheme


@dataclass(frozen=True, slots=True)
class Location:
    """A URL, the SHA-256 of the bytes found there, and their number. Raises `MalformedError`."""

    url: str
    sha256: Hash
    length: int

    def __post_init__(self) -> None:
        check_url(self.url)
        if len(self.sha256) != HASH_BYTES or not 0 <= self.length <= _MAX_LENGTH:
            raise MalformedError("not a usable location", why="hash or length is out of range")

    @property
    def scheme(self) -> str:
        """The URL's scheme."""
        return self.url.partition(":")[0]

    @classmethod
    def of(cls, url: str, data: bytes) -> Location:
        """Describe `data` as found at `url`. Raises `MalformedError` for an unusable URL."""
        return cls(url, sha256(data), len(data))

    def check(self, data: bytes) -> bytes:
        """Return `data` if it is what the location promises. Raises `HashMismatchError`."""
        if len(data) != self.length or not same_hash(sha256(data), self.sha256):
            raise HashMismatchError(
                "the content is not what its location promises",
                why="length or hash differs",
                hint="Ask the sender to store it again",
            )
        return data


@dataclass(frozen=True, slots=True)
class InlineData:
    """Content that travels inside the message itself, at most `MAX_INLINE_BYTES`."""

    content: bytes = field(repr=False)


DataRef: TypeAlias = InlineData | Location


def encode_data(data: DataRef) -> Cell:
    """Return the data cell. Raises `MalformedError` when inline content is too large."""
    if isinstance(data, InlineData):
        return bytes_to_chain(_INLINE + data.content)
    return bytes_to_chain(
        _LOCATION + data.sha256 + data.length.to_bytes(_LENGTH_BYTES, "big") + data.url.encode("ascii")
    )


def decode_data(cell: Cell, *, schemes: Collection[str] = REMOTE_SCHEMES) -> DataRef:
    """Read a data cell.

    Raises `MalformedError` for anything not in form, `LocationRefusedError` for a scheme not in `schemes`.
    """
    what = "cannot read the data cell"
    data = chain_to_bytes(cell)
    if data[:1] == _INLINE:
        return InlineData(data[1:])
    if data[:1] != _LOCATION:
        raise MalformedError(what, why="unknown tag", hint="Update cocoon-sdk")
    digest, rest = data[1 : 1 + HASH_BYTES], data[1 + HASH_BYTES :]
    try:
        url = rest[_LENGTH_BYTES:].decode("ascii")
    except UnicodeDecodeError:
        raise MalformedError(what, why="the URL is not ASCII") from None
    location = Location(url, Hash(digest), int.from_bytes(rest[:_LENGTH_BYTES], "big"))
    require_scheme(location, schemes)
    return location


def require_scheme(location: Location, schemes: Collection[str]) -> None:
    """Raise `LocationRefusedError` unless the location's scheme is one of `schemes`."""
    if location.scheme not in schemes:
        raise LocationRefusedError(
            f"refused a {location.scheme} location",
            why=f"only {', '.join(sorted(schemes)) or 'inline data'} is enabled here",
            hint="Send the data another way, or enable the scheme",
        )
