"""Canonical JSON (RFC 8785): one value, one sequence of bytes, so that JSON can be hashed.

Owns the bounds every JSON of the protocol obeys, parsing and writing. Must not know any message. Stricter
than the RFC: no number, integer or not, beyond +-(2^53 - 1) (large floats would print as integers that
other parsers cannot hold), no duplicate keys, no lone surrogates, and bounded size, depth and value count.
Errors never repeat content, which may be a private prompt.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

import rfc8785

from cocoon_sdk.errors import MalformedError

MAX_JSON_BYTES: Final = 32 * 1024 * 1024
MAX_JSON_DEPTH: Final = 64
MAX_JSON_VALUES: Final = 2_000_000
"""Bounds memory: Python needs up to about 100 bytes for a value that takes 2 bytes of JSON."""
MAX_SAFE_INTEGER: Final = 2**53 - 1
_MAX_NUMBER_DIGITS: Final = 400  # the longest shortest-form double has 25; some writers print more

_PARSE: Final = "cannot read JSON"
_WRITE: Final = "cannot write canonical JSON"


def canonical_bytes(value: Any, *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Write `value` as RFC 8785 bytes (UTF-8).

    Raises `MalformedError` for what JSON or the bounds do not allow (including cycles).
    """
    _check_bounds(value, _WRITE)
    try:
        data = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError):
        raise MalformedError(_WRITE, why="a value is not representable in JSON") from None
    if len(data) > max_bytes:
        raise MalformedError(_WRITE, why=f"{len(data)} bytes exceed the limit of {max_bytes}")
    return data


def parse_json(data: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read UTF-8 JSON within the bounds, canonical or not. Raises `MalformedError`."""
    if len(data) > max_bytes:
        raise MalformedError(_PARSE, why=f"{len(data)} bytes exceed the limit of {max_bytes}")
    # An upper bound of the number of values, taken before anything is allocated for them.
    if data.count(b",") + data.count(b"[") + data.count(b"{") >= MAX_JSON_VALUES:
        raise MalformedError(_PARSE, why=f"more than {MAX_JSON_VALUES} values (or commas and brackets)")
    try:
        # Decoded here because json.loads would also guess UTF-16 and UTF-32.
        value = json.loads(
            bytes(data).decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise MalformedError(_PARSE, why="it is not UTF-8") from None
    except RecursionError:
        raise MalformedError(_PARSE, why=f"it is nested deeper than {MAX_JSON_DEPTH}") from None
    except json.JSONDecodeError as error:
        raise MalformedError(_PARSE, why=f"it is not JSON at character {error.pos}") from None
    _check_bounds(value, _PARSE)
    return value


def parse_canonical(data: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read JSON that must already be in canonical form, byte for byte. Raises `MalformedError`."""
    value = parse_json(data, max_bytes=max_bytes)
    if canonical_bytes(value, max_bytes=max_bytes) != data:
        raise MalformedError(
            _PARSE, why="it is not in canonical form (RFC 8785)", hint="Write it with canonical_bytes"
        )
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise MalformedError(_PARSE, why="an object has the same key twice")
    return fields


def _parse_int(digits: str) -> int:
    if len(digits) > len(str(-MAX_SAFE_INTEGER)):  # also keeps int() away from its quadratic time
        raise MalformedError(_PARSE, why="an integer is beyond 2^53 - 1")
    return int(digits)


def _parse_float(digits: str) -> float:
    if len(digits) > _MAX_NUMBER_DIGITS:
        raise MalformedError(_PARSE, why=f"a number has more than {_MAX_NUMBER_DIGITS} digits")
    return float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(_PARSE, why=f"{name} is not JSON")


def _check_bounds(value: Any, what: str) -> None:
    # A loop, not recursion: the depth of what comes from outside must not become our stack's depth.
    level: list[Any] = [value]
    count, depth = 0, 0
    while level:
        depth += 1
        count += len(level)
        if count > MAX_JSON_VALUES:
            raise MalformedError(what, why=f"it holds more than {MAX_JSON_VALUES} values")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict | list | tuple) and depth > MAX_JSON_DEPTH:
                raise MalformedError(what, why=f"it is nested deeper than {MAX_JSON_DEPTH}")
            if isinstance(item, dict):
                for key in item:
                    _check_text(key, what)
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
            else:
                _check_scalar(item, what)
            if len(below) > MAX_JSON_VALUES:
                raise MalformedError(what, why=f"it holds more than {MAX_JSON_VALUES} values")
        level = below


def _check_scalar(item: Any, what: str) -> None:
    if isinstance(item, str):
        _check_text(item, what)
    elif isinstance(item, float):
        if not math.isfinite(item) or abs(item) > MAX_SAFE_INTEGER:
            raise MalformedError(what, why="a number is not finite or beyond 2^53 - 1")
    elif isinstance(item, int) and not isinstance(item, bool):
        if abs(item) > MAX_SAFE_INTEGER:
            raise MalformedError(what, why="an integer is beyond 2^53 - 1")
    elif item is not None and not isinstance(item, bool):
        raise MalformedError(what, why=f"a {type(item).__name__} is not a JSON value")


def _check_text(text: Any, what: str) -> None:
    if not isinstance(text, str):
        raise MalformedError(what, why="an object key is not a string")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise MalformedError(what, why="a string holds a lone surrogate") from None
