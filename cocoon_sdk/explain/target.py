"""What a person asks about: a job, a transaction or an account, written as one word.

Owns the notation. Pure.

    ESCROW/ID        a job
    ADDRESS@LT       a transaction by account and logical time
    ADDRESS@HASH     a transaction by account and hash (hexadecimal or base64)
    HASH             a transaction by hash alone, to be looked for in known accounts
    ADDRESS          an account
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.errors import MalformedError

_HEX: Final = re.compile(r"\A[0-9a-fA-F]{64}\Z")
_BASE64: Final = re.compile(r"\A[A-Za-z0-9+/_-]{43}=?\Z")
_NUMBER: Final = re.compile(r"\A\d{1,20}\Z")
_MAX_ID: Final = (1 << 32) - 1
_MAX_LT: Final = (1 << 64) - 1
_RAW: Final = re.compile(r"\A-?\d{1,3}:[0-9a-fA-F]{64}\Z")
_FRIENDLY: Final = re.compile(r"\A[A-Za-z0-9+/_-]{48}\Z")


@dataclass(frozen=True, slots=True)
class JobTarget:
    """A job of an escrow."""

    escrow: Address
    job_id: int


@dataclass(frozen=True, slots=True)
class TransactionTarget:
    """A transaction: by account and lt, by account and hash, or by hash alone."""

    address: Address | None
    lt: int | None = None
    hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class AccountTarget:
    """An account."""

    address: Address


Target: TypeAlias = JobTarget | TransactionTarget | AccountTarget


def parse_address(text: str) -> Address:
    """Read an address in any usual form. Raises `MalformedError`."""
    # Checked here, since pytoniq-core takes raw forms of any length.
    if _RAW.match(text) or _FRIENDLY.match(text):
        try:
            return Address(text)
        except Exception:  # noqa: S110 - pytoniq-core raises whatever it meets first, for a wrong checksum too
            pass
    raise MalformedError(
        f"not an address: {text[:80]!r}",
        hint="An address looks like EQ... (48 characters) or 0:... (64 hexadecimal digits)",
    )


def parse_job(text: str) -> JobTarget:
    """Read ESCROW/ID. Raises `MalformedError`."""
    address, slash, number = text.rpartition("/")
    if not slash or not _NUMBER.match(number) or not 0 < int(number) <= _MAX_ID:
        raise MalformedError(f"not a job: {text[:80]!r}", hint="Write ESCROW/ID, such as EQ.../1")
    return JobTarget(parse_address(address), int(number))


def parse_target(text: str) -> Target:
    """Read what a person asks about. Raises `MalformedError`."""
    text = text.strip()
    address, at, rest = text.partition("@")
    if at:
        return _transaction(parse_address(address), rest)
    # Addresses and hashes in plain base64 may hold a slash, and even end in one and digits; jobs are longer.
    if _FRIENDLY.match(text):
        return AccountTarget(parse_address(text))
    found = parse_hash(text)
    if found is not None:
        return TransactionTarget(None, hash=found)
    return parse_job(text) if "/" in text else AccountTarget(parse_address(text))


def _transaction(address: Address, rest: str) -> TransactionTarget:
    if _NUMBER.match(rest) and 0 < int(rest) <= _MAX_LT:
        return TransactionTarget(address, lt=int(rest))
    found = parse_hash(rest)
    if found is None:
        raise MalformedError(
            f"not a transaction: {rest[:80]!r}", hint="Behind @ stands the logical time or the hash"
        )
    return TransactionTarget(address, hash=found)


def parse_hash(text: str) -> bytes | None:
    """Read 32 bytes in hexadecimal or base64; None when the text is neither."""
    if _HEX.match(text):
        return bytes.fromhex(text)
    if not _BASE64.match(text):
        return None
    try:
        return base64.b64decode(text.rstrip("=").translate(str.maketrans("-_", "+/")) + "=", validate=True)
    except binascii.Error:
        return None
