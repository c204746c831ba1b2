"""Errors of the block room.

Owns the names for questions about blocks that do not exist and for transactions that cannot be sealed.
"""

from __future__ import annotations

from cocoon_sdk.sandbox.errors import SandboxError


class BlockNotFoundError(SandboxError):
    """The archive has no such block."""


class StateGoneError(BlockNotFoundError):
    """The block is there, but the state after it is no longer kept, as on a node that is no archive."""


class TransactionNotFoundError(SandboxError):
    """The archive has no such transaction."""


class SealError(SandboxError):
    """Transactions cannot become a block: they do not follow on what was sealed before."""
