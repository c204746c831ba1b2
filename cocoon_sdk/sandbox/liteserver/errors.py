"""What goes wrong between a lite client and the server, each with its consequence.

`WireError` ends a connection: after it nothing that follows can be read. `QueryError` is an answer: it
travels to the client as `liteServer.error`. The codes and texts are those of TON's own liteservers, since
clients decide by them. Knows nothing of sockets or blocks.
"""

from __future__ import annotations

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.errors import SandboxError

MAX_TEXT_BYTES = 4096
"""Longest error text that is sent; a VM's log can be longer."""


class WireError(MalformedError):
    """The peer does not speak ADNL over TCP, or breaks its bounds; the connection is closed."""


class TlError(MalformedError):
    """Bytes are not the TL object that was expected, or a value does not fit its TL type."""


class QueryError(SandboxError):
    """A query cannot be answered; `code` and `text` reach the client as `liteServer.error`."""

    FAILED = 0
    """An external message was not accepted, or the query itself cannot be read."""
    INVALID = -400
    """The arguments make no sense, or name something that does not exist."""
    INTERNAL = 602
    UNKNOWN_QUERY = 621
    NOT_READY = 651
    """The block is not known (yet)."""
    TIMEOUT = 652

    def __init__(self, text: str, code: int = INVALID) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
