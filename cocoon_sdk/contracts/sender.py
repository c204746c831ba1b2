"""`OwnerWallet`: the seam between wrappers and whatever holds the owner's money.

Owns the message that an owner sends and the protocol. Must not know keys or wallet contracts; see
`cocoon_sdk.client.wallets` for implementations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from pytoniq_core import Address, Cell

from cocoon_sdk.types import Nano

PAY_FEES_SEPARATELY: Final = 1
IGNORE_ERRORS: Final = 2


@dataclass(frozen=True, slots=True)
class OwnerMessage:
    """One internal message of an owner's wallet; `value` in nanoTON, `mode` as in TON's send modes.

    The default mode pays fees beside the value and drops a message that cannot be sent: a failing action
    would let anybody replay a wallet's request.
    """

    to: Address
    value: Nano
    body: Cell | None = None
    state_init: Cell | None = None
    bounce: bool = True
    mode: int = PAY_FEES_SEPARATELY | IGNORE_ERRORS


@runtime_checkable
class OwnerWallet(Protocol):
    """Something that sends messages in an owner's name."""

    @property
    def address(self) -> Address:
        """The owner's address: accounts derive from it."""
        ...

    async def send(self, messages: Sequence[OwnerMessage]) -> None:
        """Send the messages in order and return once the wallet's own contract has taken the request.

        Raises `ChainError` or one of its subclasses; `ConfigError` when there is nothing to pay with.
        """
        ...
