"""One encrypted session: bytes from the socket to packets, packets to bytes for the socket.

Owns the two AES-CTR streams, the frame (length, 32 random bytes, payload, SHA-256 of both) and the receive
buffer. Does no I/O and knows nothing of what packets mean.
"""

from __future__ import annotations

import hashlib
import os

from pytoniq_core.crypto.ciphers import create_aes_ctr_cipher

from cocoon_sdk.sandbox.liteserver.errors import WireError

_NONCE_BYTES = 32
_CHECKSUM_BYTES = 32
FRAME_OVERHEAD = _NONCE_BYTES + _CHECKSUM_BYTES
LENGTH_BYTES = 4
MAX_FRAME_BYTES = 1 << 24
"""Largest frame that TON's clients take, length field excluded."""


class Channel:
    """The server's end of a session that was opened with `secret` (160 bytes)."""

    def __init__(self, secret: bytes, max_frame_bytes: int) -> None:
        self._outgoing = create_aes_ctr_cipher(secret[:32], secret[64:80])
        self._incoming = create_aes_ctr_cipher(secret[32:64], secret[80:96])
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._awaited: int | None = None

    @property
    def buffered(self) -> int:
        """Received bytes that no packet was made of yet."""
        return len(self._buffer)

    def push(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def pop(self) -> bytes | None:
        """Return the payload of the next whole packet, or None. Raises `WireError`."""
        if self._awaited is None:
            if len(self._buffer) < LENGTH_BYTES:
                return None
            self._awaited = int.from_bytes(self._take(LENGTH_BYTES), "little")
            if not FRAME_OVERHEAD <= self._awaited <= self._max_frame_bytes:
                raise WireError(
                    "a packet was refused",
                    why=f"it announces {self._awaited} bytes, allowed are {FRAME_OVERHEAD} to "
                    f"{self._max_frame_bytes}",
                )
        if len(self._buffer) < self._awaited:
            return None
        frame = self._take(self._awaited)
        self._awaited = None
        body = frame[:-_CHECKSUM_BYTES]
        if hashlib.sha256(body).digest() != frame[-_CHECKSUM_BYTES:]:
            raise WireError("a packet was refused", why="its checksum is wrong")
        return body[_NONCE_BYTES:]

    def seal(self, payload: bytes) -> bytes:
        """Encrypt one packet; packets must be sent in the order they were sealed. Raises `WireError`."""
        length = len(payload) + FRAME_OVERHEAD
        if length > MAX_FRAME_BYTES:
            raise WireError(
                "a packet cannot be sent", why=f"it has {length} bytes, at most {MAX_FRAME_BYTES}"
            )
        body = os.urandom(_NONCE_BYTES) + payload
        frame = length.to_bytes(LENGTH_BYTES, "little") + body + hashlib.sha256(body).digest()
        sealed: bytes = self._outgoing.encrypt(frame)
        return sealed

    def _take(self, count: int) -> bytes:
        taken: bytes = self._incoming.decrypt(bytes(self._buffer[:count]))
        del self._buffer[:count]
        return taken
