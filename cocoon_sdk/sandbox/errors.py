"""Errors that only the sandbox raises.

Owns the names for misuse of the sandbox and for failures of the emulator. Errors that a real network
would give as well (rejected externals, failed getters, missing accounts) come from
`cocoon_sdk.errors`, so that code tested here handles them the same way elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cocoon_sdk.errors import CocoonError

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.transactions import Transaction


class SandboxError(CocoonError):
    """Base of what goes wrong inside the sandbox itself."""


class EmulationError(SandboxError):
    """The emulator could not execute a message at all (a malformed message or account, time running back)."""


class MessageLimitError(SandboxError):
    """A run delivered as many messages as it may; `transactions` are those that were executed.

    The rest stays in the queue: look at `Blockchain.pending`, or go on with `Blockchain.run`.
    """

    def __init__(self, what: str, transactions: list[Transaction], *, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.transactions = transactions


class OutOfOrderError(SandboxError):
    """Delivering this message now would break TON's order between two accounts."""


class UnbalancedError(SandboxError):
    """Money appeared or vanished: the sums of the ledger differ."""


class StackError(SandboxError):
    """A value cannot travel to or from a get-method's stack."""
