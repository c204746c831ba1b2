"""`LiveActor`: a funded wallet of a `LiveSandbox`, with its key in the forms that foreign clients take.

Owns those forms. What it asks and sends goes through the sandbox's own thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytoniq_core import Address, Cell

from cocoon_sdk.sandbox.actors import IGNORE_ERRORS, PAY_FEES_SEPARATELY, Actor
from cocoon_sdk.types import Nano

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.blockchain import Blockchain
    from cocoon_sdk.sandbox.transactions import Transaction


class LiveActor:
    """A V4R2 wallet with the usual wallet id; get one with `LiveSandbox.actor`."""

    def __init__(
        self,
        wallet: Actor,
        *,
        words: tuple[str, ...] | None,
        look: Callable[[Callable[[Blockchain], Nano]], Nano],
        act: Callable[[Callable[[Blockchain], list[Transaction]]], list[Transaction]],
    ) -> None:
        self._wallet, self._words, self._look, self._act = wallet, words, look, act

    @property
    def name(self) -> str:
        """What traces call it."""
        return self._wallet.name

    @property
    def address(self) -> Address:
        """The wallet's address; `str` gives its text."""
        return self._wallet.address

    @property
    def mnemonic(self) -> tuple[str, ...] | None:
        """The 24 words of its key; None unless they were asked for."""
        return self._words

    @property
    def private_key(self) -> bytes:
        """The 32-byte Ed25519 seed, as NaCl's `SigningKey` takes it."""
        return self._wallet.private_key

    @property
    def secret_key(self) -> bytes:
        """Seed and public key, 64 bytes, as pytoniq, tonutils and @ton/crypto take it."""
        return self._wallet.private_key + self._wallet.public_key

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        return self._wallet.public_key

    @property
    def balance(self) -> Nano:
        """The wallet's balance in nanoTON."""
        return self._look(lambda chain: chain.balance(self.address))

    def send(
        self,
        to: Address,
        value: int,
        body: Cell | None = None,
        *,
        state_init: Cell | None = None,
        bounce: bool = True,
        mode: int = PAY_FEES_SEPARATELY | IGNORE_ERRORS,
    ) -> list[Transaction]:
        """Send one message; return its transactions, the wallet's own first, once they are in a block.

        Raises `ExternalRejectedError` when the wallet does not accept the request.
        """
        return self._act(
            lambda _: self._wallet.send(to, value, body, state_init=state_init, bounce=bounce, mode=mode)
        )

    def __repr__(self) -> str:
        return f"<LiveActor {self.name} {self.address.to_str()}>"
