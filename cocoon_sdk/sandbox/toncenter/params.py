"""Parameters of HTTP calls, checked as they are read.

Owns turning query strings and JSON bodies into typed values, with the statuses and words that toncenter has
for bad ones. Must not know the methods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pytoniq_core import Cell

from cocoon_sdk.chain.boc import decode_base64, decode_boc_base64
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.toncenter.addresses import AddressForm, parse_address, parse_hash

MAX_MESSAGE_BYTES = 1 << 17
"""Of an external message as a bag of cells; the network itself takes at most 64 KiB."""
MAX_LIBRARIES = 256
INT32 = (-(1 << 31), (1 << 31) - 1)
INT64 = (-(1 << 63), (1 << 63) - 1)

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_MAX_NAME_CHARS = 128
_T = TypeVar("_T")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Refused(Exception):
    """A request that cannot be answered: HTTP status and words for the caller."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


def invalid(words: str) -> Refused:
    """Refuse a request whose parameters can be read but make no sense."""
    return Refused(422, f"failed to validate request: {words}")


class Params:
    """The parameters of one call. `repeated` holds names that a query string gave several times.

    Reading raises `Refused` with status 422 for what is missing, of the wrong kind or out of bounds. The
    empty text counts as missing, as toncenter has it.
    """

    def __init__(
        self, values: Any, *, get: bool = False, repeated: dict[str, list[str]] | None = None
    ) -> None:
        self._get = get
        if not isinstance(values, dict):
            raise self._unreadable("an object was expected")
        self._values = values
        self._repeated = repeated or {}

    def only(self, names: Iterable[str]) -> Params:
        """Refuse parameters of other names, in a body; in a query string they are ignored."""
        unknown = sorted(set(self._values) - set(names)) if not self._get else []
        if unknown:
            raise self._unreadable(f"Error at path '/': Unknown property '{str(unknown[0])[:40]}'")
        return self

    def has(self, name: str) -> bool:
        """Tell whether a parameter is there."""
        value = self._values.get(name)
        return value is not None and value != ""

    def raw(self, name: str) -> Any:
        """Return a parameter that must be there."""
        if not self.has(name):
            raise self._bad(name, "Field is missing")
        return self._values[name]

    def integer(self, name: str, bounds: tuple[int, int] = INT32) -> int:
        """Return an integer within bounds; decimal text counts, since JSON readers lose large numbers."""
        value = self.raw(name)
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._bad(name, "an integer was expected")
        if not bounds[0] <= value <= bounds[1]:
            raise self._bad(name, f"the integer is not within {bounds[0]}..{bounds[1]}")
        return value

    def optional_integer(self, name: str, bounds: tuple[int, int] = INT32) -> int | None:
        """Return an integer, or None when it is missing."""
        return self.integer(name, bounds) if self.has(name) else None

    def positive(self, name: str, bounds: tuple[int, int] = INT32) -> int | None:
        """Return an integer above zero, or None when it is missing."""
        value = self.optional_integer(name, bounds)
        if value is not None and value <= 0:
            raise invalid(f"{name} should be positive")
        return value

    def non_negative(self, name: str, bounds: tuple[int, int] = INT64) -> int | None:
        """Return an integer that is not below zero, or None when it is missing."""
        value = self.optional_integer(name, bounds)
        if value is not None and value < 0:
            raise invalid(f"{name} should be non-negative")
        return value

    def count(self, name: str, default: int, most: int) -> int:
        """Return how many items are wanted."""
        value = self.positive(name, INT64)
        if value is not None and value > most:
            raise invalid(f"{name} should be less or equal {most}")
        return default if value is None else value

    def boolean(self, name: str, default: bool) -> bool:
        """Return a truth value; a query string spells it true, false, 1 or 0."""
        if not self.has(name):
            return default
        value = self._values[name]
        if isinstance(value, str | int) and not isinstance(value, bool):
            value = _BOOLEANS.get(str(value).lower())
        if not isinstance(value, bool):
            raise self._bad(name, "a boolean was expected")
        return value

    def address(self, name: str = "address") -> AddressForm:
        """Return an address in any of its spellings."""
        return self._parsed(name, parse_address)

    def hash(self, name: str) -> bytes:
        """Return 32 bytes from base64 or hex."""
        return self._parsed(name, parse_hash)

    def optional_hash(self, name: str) -> bytes | None:
        """Return 32 bytes, or None when they are missing."""
        return self.hash(name) if self.has(name) else None

    def hashes(self, name: str) -> list[bytes]:
        """Return hashes from an array, or from a parameter that a query string repeats."""
        values = self._repeated.get(name) or self._values.get(name) or []
        if not isinstance(values, list) or len(values) > MAX_LIBRARIES:
            raise self._bad(name, f"an array of at most {MAX_LIBRARIES} hashes was expected")
        try:
            return [parse_hash(value) for value in values]
        except MalformedError as error:
            raise self._bad(name, error.what) from error

    def account_part(self, name: str) -> bytes | None:
        """Return an account without its workchain, from an address or 32 bytes; None when it is missing."""
        if not self.has(name):
            return None
        try:
            return parse_address(self._values[name]).account
        except MalformedError:
            return self.hash(name)

    def bag(self, name: str) -> bytes:
        """Return the bytes of a bag of cells that fits an external message, unread."""
        value = self.raw(name)
        if not isinstance(value, str) or len(value) > MAX_MESSAGE_BYTES * 4 // 3 + 8:
            raise self._bad(name, f"base64 text of at most {MAX_MESSAGE_BYTES} bytes was expected")
        try:
            return decode_base64(value)
        except MalformedError as error:
            raise self._bad(name, f"invalid base64 encoded bytes: {error.why}") from error

    def cell(self, name: str) -> Cell:
        """Return the root of a bag of cells. A bag that cannot be read is refused with status 400."""
        self.bag(name)
        try:
            return decode_boc_base64(self.raw(name), max_bytes=MAX_MESSAGE_BYTES)
        except MalformedError as error:
            raise Refused(400, f"INVALID_BAG_OF_CELLS: {name}: {error}") from error

    def optional_cell(self, name: str) -> Cell | None:
        """Return the root of a bag of cells, or None when it is missing."""
        return self.cell(name) if self.has(name) else None

    def method(self) -> str | int:
        """Return the name or number of a get-method; digits alone are a number."""
        value = self.raw("method")
        if isinstance(value, str) and not _INTEGER.fullmatch(value):
            if len(value) > _MAX_NAME_CHARS:
                raise self._bad("method", f"a name of at most {_MAX_NAME_CHARS} characters was expected")
            return value
        return self.integer("method", (-(1 << 31), (1 << 32) - 1))

    def array(self, name: str) -> list[Any]:
        """Return an array that must be there."""
        value = self._values.get(name)
        if not isinstance(value, list):
            raise self._bad(name, "an array was expected")
        return value

    def _parsed(self, name: str, parse: Callable[[object], _T]) -> _T:
        try:
            return parse(self.raw(name))
        except MalformedError as error:
            raise self._bad(name, error.what) from error

    def _bad(self, name: str, why: str) -> Refused:
        return self._unreadable(
            f"failed to parse {name}: {why}" if self._get else f"Error at path '{name}': {why}"
        )

    def _unreadable(self, why: str) -> Refused:
        return Refused(422, f"failed to parse {'get' if self._get else 'post'} request: {why}")
