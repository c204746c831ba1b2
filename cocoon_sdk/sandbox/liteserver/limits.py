"""Every bound the server keeps against clients that are broken, slow or too many.

Owns the numbers and their meaning, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a server; times in seconds, sizes in bytes. The defaults do for a whole test suite."""

    max_connections: int = 1024
    """Connections beyond it are closed at once."""
    handshake_timeout_s: float = 10.0
    """A connection that has not sent its 256 bytes by then is closed."""
    idle_timeout_s: float = 600.0
    """A connection that sends nothing for so long is closed; most clients ping, ton-lite-client does not."""
    write_timeout_s: float = 30.0
    """A client that does not read its answers for so long is cut off."""
    max_frame_bytes: int = 1 << 20
    """Largest packet taken from a client; no query needs a tenth of it."""
    read_buffer_bytes: int = (1 << 20) + (1 << 16)
    """Above it, nothing more is read from that client until its queries are answered."""
    write_buffer_bytes: int = 1 << 20
    """Above it, no further query of that client is begun until it has read."""
    max_running: int = 128
    """Queries of one connection that are worked on at a time; the others wait in its buffer."""
    max_waiting: int = 256
    """Queries of one connection that wait for a block; the next one is refused with an error."""
    max_wait_s: float = 8.0
    """Longest wait for a block: below the ten seconds after which clients give up by themselves."""
    follow_s: float = 0.5
    """Longest that an answer to `sendMessage` is held back for a client that follows the chain."""

    def __post_init__(self) -> None:
        if self.read_buffer_bytes < self.max_frame_bytes + 4:
            raise ValueError("read_buffer_bytes must hold a packet of max_frame_bytes and its length")
        if min(self.max_connections, self.max_running, self.max_waiting) < 1:
            raise ValueError("max_connections, max_running and max_waiting must be at least 1")
