"""Addresses and hashes in all the spellings that toncenter reads and writes.

Pure: knows neither HTTP nor accounts.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from pytoniq_core.crypto.crc import crc16

from cocoon_sdk.errors import MalformedError

_RAW = re.compile(r"\A(-?[0-9]{1,10}):([0-9a-fA-F]{64})\Z")
_FRIENDLY_CHARS = 48
_BOUNCEABLE, _NON_BOUNCEABLE, _TEST_ONLY = 0x11, 0x51, 0x80
_HASH_BITS = 256


@dataclass(frozen=True, slots=True)
class AddressForm:
    """One account address and how it was spelt."""

    workchain: int
    account: bytes
    raw: bool
    bounceable: bool = True
    test_only: bool = False

    @property
    def key(self) -> int:
        """The integer that keys accounts in the sandbox."""
        return (self.workchain & 0xFF) << _HASH_BITS | int.from_bytes(self.account, "big")

    def raw_form(self, *, upper: bool = False) -> str:
        """Return `workchain:hex`."""
        digits = self.account.hex()
        return f"{self.workchain}:{digits.upper() if upper else digits}"

    def friendly(self, *, bounceable: bool | None = None, url_safe: bool = True) -> str:
        """Return the 48 characters with checksum; `bounceable` None keeps what was given."""
        tag = _BOUNCEABLE if (self.bounceable if bounceable is None else bounceable) else _NON_BOUNCEABLE
        tag |= _TEST_ONLY if self.test_only else 0
        body = bytes([tag, self.workchain & 0xFF]) + self.account
        data = body + crc16(body)
        return (base64.urlsafe_b64encode(data) if url_safe else base64.b64encode(data)).decode("ascii")

    @property
    def given_type(self) -> str:
        """How `detectAddress` names the spelling."""
        if self.raw:
            return "raw_form"
        return "friendly_bounceable" if self.bounceable else "friendly_non_bounceable"


def parse_address(text: object) -> AddressForm:
    """Read the raw or the user-friendly form of a standard address. Raises `MalformedError`."""
    if isinstance(text, str):
        raw = _RAW.match(text)
        if raw is not None and -128 <= int(raw[1]) < 128:
            return AddressForm(int(raw[1]), bytes.fromhex(raw[2]), raw=True)
        if len(text) == _FRIENDLY_CHARS:
            data = _base64(text)
            tag = data[0] & ~_TEST_ONLY if data else -1
            known = tag in (_BOUNCEABLE, _NON_BOUNCEABLE)
            if known and crc16(data[:-2]) == data[-2:]:
                workchain = data[1] - 256 if data[1] > 127 else data[1]
                bounceable, test_only = tag == _BOUNCEABLE, bool(data[0] & _TEST_ONLY)
                return AddressForm(workchain, data[2:34], False, bounceable, test_only)
    raise MalformedError(f"Failed to parse ton_addr: '{str(text)[:80]}'")


def friendly_address(key: int | None) -> str:
    """Write an account key as toncenter does: bounceable, URL-safe; empty for None (outside of the chain)."""
    return "" if key is None else address_of_key(key).friendly()


def address_of_key(key: int) -> AddressForm:
    """Return the address of an account key."""
    workchain = key >> _HASH_BITS
    account = (key & (1 << _HASH_BITS) - 1).to_bytes(32, "big")
    return AddressForm(workchain - 256 if workchain > 127 else workchain, account, raw=True)


def parse_hash(text: object) -> bytes:
    """Read 32 bytes from hex, base64 or URL-safe base64 (also unpadded). Raises `MalformedError`."""
    data = b""
    if isinstance(text, str):
        if len(text) == 64 and re.fullmatch(r"[0-9a-fA-F]{64}", text):
            return bytes.fromhex(text)
        if len(text) == 44 or (len(text) == 43 and not set(text) & {"+", "/"}):
            data = _base64(text.ljust(44, "="))
    if len(data) != 32:
        raise MalformedError(f"invalid hash: '{str(text)[:80]}'")
    return data


def detect_address(form: AddressForm) -> dict[str, Any]:
    """Answer of detectAddress."""
    return {
        "@type": "ext.utils.detectedAddress",
        "raw_form": form.raw_form(),
        "bounceable": _variant(form, bounceable=True),
        "non_bounceable": _variant(form, bounceable=False),
        "given_type": form.given_type,
        "test_only": form.test_only,
    }


def detect_hash(data: bytes) -> dict[str, Any]:
    """Answer of detectHash."""
    return {
        "@type": "ext.utils.detectedHash",
        "b64": base64.b64encode(data).decode("ascii"),
        "b64url": base64.urlsafe_b64encode(data).decode("ascii").rstrip("="),
        "hex": data.hex(),
    }


def _variant(form: AddressForm, *, bounceable: bool) -> dict[str, Any]:
    return {
        "@type": "ext.utils.detectedAddressVariant",
        "b64": form.friendly(bounceable=bounceable, url_safe=False),
        "b64url": form.friendly(bounceable=bounceable),
    }


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return b""
