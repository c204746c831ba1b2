"""Compression of what travels: zlib with a hard bound on what comes out.

Owns nothing but the two functions. Compressed bytes are never hashed on their own as the meaning of a
message: one text has many compressed forms.
"""

from __future__ import annotations

import zlib

from cocoon_sdk.errors import MalformedError


def compress(text: bytes) -> bytes:
    """Compress with the best ratio zlib has: bytes cost more than time here."""
    return zlib.compress(text, 9)


def decompress(data: bytes, max_bytes: int) -> bytes:
    """Decompress one complete zlib stream of at most `max_bytes` of text.

    Raises `MalformedError` for a bomb (memory stays bounded), a cut stream, or bytes after its end.
    """
    what = "cannot decompress"
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, max_bytes + 1)  # one more than allowed tells "full" from "too much"
    except zlib.error:
        raise MalformedError(what, why="it is not a zlib stream") from None
    if len(text) > max_bytes:
        raise MalformedError(what, why=f"it holds more than {max_bytes} bytes")
    if not stream.eof or stream.unused_data:
        raise MalformedError(what, why="the stream is cut, or something follows it")
    return text
