"""Metadata of tokens as TEP-64 lays it out in cells.

Owns reading on-chain and off-chain content. Must not know contracts or HTTP.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.cells import NativeCell, NativeSlice, Reader, native_dict, native_slice

_ATTRIBUTES = (
    "uri",
    "name",
    "description",
    "image",
    "image_data",
    "symbol",
    "decimals",
    "amount_style",
    "render_type",
)
_KEYS = {int.from_bytes(hashlib.sha256(name.encode()).digest(), "big"): name for name in _ATTRIBUTES}
_ON_CHAIN, _OFF_CHAIN = 0, 1
_SNAKE, _CHUNKS = 0, 1
_MAX_BYTES = 8192
"""Of one attribute; what is beyond is cut off, as toncenter does."""
_MAX_CHUNKS = 1024


def token_content(root: NativeCell) -> dict[str, Any]:
    """Return toncenter's `TokenContent`. Raises `MalformedError` for what is no TEP-64 content."""
    try:
        reader = Reader.of(root)
        tag = reader.uint(8)
        if tag == _OFF_CHAIN:
            return {"type": "offchain", "data": _snake(reader.slice).decode("utf-8")}
        if tag == _ON_CHAIN:
            return {"type": "onchain", "data": _attributes(reader)}
    except (RuntimeError, UnicodeDecodeError) as error:
        raise MalformedError("token content cannot be read", why="cells or text are damaged") from error
    raise MalformedError("token content cannot be read", why=f"its first byte is {tag}, not 0 or 1")


def _attributes(reader: Reader) -> dict[str, str]:
    if not reader.bit():
        return {}
    entries = native_dict(reader.ref(), 256)
    found: dict[str, str] = {}
    for key, name in _KEYS.items():
        try:
            value = entries.lookup_str(str(key), 256, False)
        except RuntimeError:  # how the engine says that a key is missing
            continue
        try:
            found[name] = _text(name, _attribute(value))
        except (RuntimeError, UnicodeDecodeError, MalformedError):
            continue  # one damaged attribute does not hide the others
    return found


def _text(name: str, data: bytes) -> str:
    return base64.b64encode(data).decode("ascii") if name == "image_data" else data.decode("utf-8")


def _attribute(value: NativeSlice) -> bytes:
    if not value.bits and value.refs == 1:  # the standard's form; some contracts store the value directly
        value = native_slice(value.prefetch_ref(0))
    reader = Reader(value)
    tag = reader.uint(8)
    if tag == _SNAKE:
        return _snake(reader.slice)
    if tag == _CHUNKS:
        return _chunks(reader)
    raise MalformedError("a token's attribute cannot be read", why=f"its first byte is {tag}, not 0 or 1")


def _snake(source: NativeSlice) -> bytes:
    digits = source.to_bitstring()
    while source.refs and len(digits) < 8 * _MAX_BYTES:
        source = native_slice(source.prefetch_ref(0))
        digits += source.to_bitstring()
    return _bytes(digits)


def _chunks(reader: Reader) -> bytes:
    if not reader.bit():
        return b""
    entries = native_dict(reader.ref(), 32)
    digits = ""
    for index in range(_MAX_CHUNKS):
        try:
            chunk = entries.lookup_ref_str(str(index), 32, False)
        except RuntimeError:
            break
        digits += native_slice(chunk).to_bitstring()
        if len(digits) >= 8 * _MAX_BYTES:
            break
    return _bytes(digits)


def _bytes(digits: str) -> bytes:
    if len(digits) % 8:
        raise MalformedError("text cannot be read", why="it does not end at a byte")
    data = int(digits or "0", 2).to_bytes(len(digits) // 8, "big")
    return data[:_MAX_BYTES]
