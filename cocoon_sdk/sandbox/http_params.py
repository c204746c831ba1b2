"""Parameters of HTTP calls, checked as they are read.

Owns turning query strings and JSON bodies into typed values, with toncenter's statuses for bad ones. Must
not know the methods.
"""

from __future__ import annotations

import re
from typing import Any

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.boc import decode_base64, decode_boc_base64

MAX_MESSAGE_BYTES = 1 << 17
"""Of an external message as a bag of cells; the network itself takes at most 64 KiB."""


class Refused(Exception):
    """A request that cannot be answered: HTTP status and words for the caller."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


class Params:
    """The parameters of one call, checked as they are read."""

    def __init__(self, values: Any) -> None:
        if not isinstance(values, dict):
            raise Refused(422, "params must be an object")
        self._values = values

    def raw(self, name: str) -> Any:
        """Return a parameter that must be there."""
        value = self._values.get(name)
        if value is None:
            raise Refused(422, f"Validation error: {name} is missing")
        return value

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Return an integer within bounds; decimal text counts, since JSON readers lose large numbers."""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        value = self.raw(name)
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,40}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Refused(422, f"Validation error: {name} must be an integer within {low}..{high}")
        return value

    def has(self, *names: str) -> bool:
        """Tell whether all these parameters are there."""
        return all(self._values.get(name) is not None for name in names)

    def address(self, name: str = "address") -> Address:
        """Return an address in any of its spellings."""
        value = self.raw(name)
        try:
            address = Address(value.replace("+", "-").replace("/", "_"))
            if len(address.hash_part) == 32 and -128 <= address.wc < 128:
                return address
        except Exception as error:  # the library signals a bad address with unrelated exception types
            raise Refused(416, "Incorrect address") from error
        raise Refused(416, "Incorrect address")

    def hash(self, name: str) -> bytes:
        """Return 32 bytes from base64 or hex."""
        value = self.raw(name)
        if isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value):
            return bytes.fromhex(value)
        data = decode_base64(value) if isinstance(value, str) and len(value) == 44 else b""
        if len(data) != 32:
            raise Refused(422, f"Validation error: {name} is not a hash")
        return data

    def boc(self, name: str) -> Cell:
        """Return the root cell of a bag that fits an external message."""
        return decode_boc_base64(self.raw(name), max_bytes=MAX_MESSAGE_BYTES)

    def method(self) -> str | int:
        """Return the name or number of a get-method."""
        value = self.raw("method")
        if isinstance(value, str) and 0 < len(value) <= 128:
            return value
        return self.integer("method", -(1 << 31), (1 << 32) - 1)
