"""`AsyncEscrow`: the client's money, from opening the account to taking the rest out.

Owns what the owner does with the escrow, with every amount checked first. Must not know jobs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.contracts.escrow import OWNER_GAS, allowed_workers
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.crypto.keys import SigningKey, VerifyKey
from cocoon_sdk.errors import ChainTimeoutError, ConfigError, InsufficientEscrowError
from cocoon_sdk.history import DecodedTransaction, walk
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.exit_codes import error_for_exit_code
from cocoon_sdk.types import Nano

_WAIT_S: Final = 180
_BLOCK_WAIT_S: Final = 10.0
_WALLET_FEES: Final = Nano.ton("0.01")
"""More than a wallet's own request with one message costs."""


@dataclass(frozen=True, slots=True)
class EscrowBalance:
    """Where an escrow's money is; amounts in nanoTON.

    `free` can be withdrawn or spent on new jobs; `reserved` holds prices and bonds of open jobs, `job_gas`
    the gas set aside for them, `rent` a year of storage. `bucket` is what the hot key may still spend now.
    """

    total: Nano
    free: Nano
    reserved: Nano
    job_gas: Nano
    rent: Nano
    jobs: int
    bucket: Nano
    daily_limit: Nano


@dataclass(frozen=True, slots=True)
class OwnerTransfer:
    """What the owner's wallet sends, or with `dry_run` would send; amounts in nanoTON.

    `value` leaves the wallet; of it `gas` pays for the way, and what is not used stays in the escrow or
    comes back. `fees_at_most` bounds the wallet's own fees on top.
    """

    what: str
    messages: tuple[OwnerMessage, ...]
    value: Nano
    gas: Nano
    fees_at_most: Nano
    sent: bool


class AsyncEscrow:
    """The escrow of one client; get it as `AsyncCocoon.escrow`."""

    def __init__(self, context: ClientContext) -> None:
        self._context = context
        self._contract = context.escrow

    def __repr__(self) -> str:
        return f"<AsyncEscrow {self.address.to_str()}>"

    @property
    def address(self) -> Address:
        """The account's address, known before it exists."""
        return self._contract.address

    async def is_open(self) -> bool:
        """Tell whether the account exists and is active."""
        return await self._contract.is_deployed() and (await self.state()).active

    async def state(self) -> m.EscrowView:
        """Return the contract's whole state. Raises `AccountNotFoundError` before `open`."""
        return await self._contract.state()

    async def balance(self) -> EscrowBalance:
        """Return where the money is. Raises `AccountNotFoundError` before `open`."""
        view = await self.state()
        gas = Nano(view.jobs * await self._contract.job_gas()) if view.jobs else Nano(0)
        return EscrowBalance(
            total=Nano(view.balance),
            free=Nano(view.free),
            reserved=Nano(max(0, view.reserved - gas)),
            job_gas=gas,
            rent=Nano(view.balance - view.reserved - view.free),
            jobs=view.jobs,
            bucket=Nano(view.bucket),
            daily_limit=Nano(view.daily_limit),
        )

    async def open(
        self,
        deposit: Nano,
        daily_limit: Nano,
        *,
        allowed: Iterable[Address] | None = None,
        dry_run: bool = False,
    ) -> OwnerTransfer:
        """Create the account with `deposit` nanoTON to spend, and wait until it is active.

        The hot key may spend `daily_limit` nanoTON a day, on `allowed` workers only if given. A year's rent
        is added on top. Goes on where an interrupted opening stopped. Raises `ConfigError` when the account
        is open already.
        """
        if await self.is_open():
            raise ConfigError(
                f"the escrow {self.address.to_str()} is open already",
                hint="Use deposit, set_key and set_limits from now on",
            )
        key = self._context.hot_key.verify_key
        value = Nano(deposit + c.ESCROW_RENT + OWNER_GAS)
        message = self._contract.configure(key, daily_limit, allowed=allowed_workers(allowed), value=value)
        transfer = await self._send("open the escrow", message, dry_run=dry_run)
        if not dry_run:
            await self._wait_active()
        return transfer

    async def deposit(self, amount: Nano, *, dry_run: bool = False) -> OwnerTransfer:
        """Add `amount` nanoTON. Raises `ConfigError` for an amount that is not positive."""
        _positive(amount)
        return await self._send("deposit", self._contract.deposit(amount), gas=Nano(0), dry_run=dry_run)

    async def withdraw(self, amount: Nano, *, dry_run: bool = False) -> OwnerTransfer:
        """Send `amount` nanoTON of free money to the owner. Raises `InsufficientEscrowError`."""
        _positive(amount)
        free = Nano((await self.state()).free)
        if amount > free:
            raise InsufficientEscrowError(
                f"cannot withdraw {amount}",
                why=f"only {free} are free; jobs, their gas and rent hold the rest",
                hint="Wait for open jobs to end, or withdraw less",
            )
        return await self._send("withdraw", self._contract.withdraw(amount), dry_run=dry_run)

    async def set_key(self, key: SigningKey | VerifyKey, *, dry_run: bool = False) -> OwnerTransfer:
        """Replace the hot key; the old one can do nothing from then on.

        Given a signing key, this client goes on with it and can still open results sealed for the old one.
        """
        public = key.verify_key if isinstance(key, SigningKey) else key
        transfer = await self._send("set the hot key", self._contract.set_key(public), dry_run=dry_run)
        if not dry_run and isinstance(key, SigningKey):
            context = self._context
            context.previous_hot_keys = (context.hot_key, *context.previous_hot_keys)
            context.hot_key = key
        return transfer

    async def set_limits(
        self, daily_limit: Nano, *, allowed: Iterable[Address] | None = None, dry_run: bool = False
    ) -> OwnerTransfer:
        """Replace daily limit (nanoTON) and allowed workers (None: any); the bucket starts full."""
        message = self._contract.set_limits(daily_limit, allowed_workers(allowed))
        return await self._send("set the limits", message, dry_run=dry_run)

    async def accept_code(self, code_hash: bytes, *, dry_run: bool = False) -> OwnerTransfer:
        """Deal with workers of another code that the registry lists; the one before stays accepted."""
        return await self._send("accept a code", self._contract.accept_code(code_hash), dry_run=dry_run)

    async def sync_params(self, *, dry_run: bool = False) -> OwnerTransfer:
        """Take over the registry's newest parameters; open jobs keep those they were opened under."""
        return await self._send("take over the parameters", self._contract.sync_params(), dry_run=dry_run)

    # -- sending -----------------------------------------------------------------------------------

    async def _send(
        self, what: str, message: OwnerMessage, *, gas: Nano = OWNER_GAS, dry_run: bool
    ) -> OwnerTransfer:
        if not dry_run:
            wallet = self._context.owner_wallet(what)
            last_lt = (await self._contract.account()).last_lt
            await wallet.send([message])
            arrived = await self._arrival(what, message, wallet.address, last_lt)
            if not arrived.success and arrived.exit_code is not None and message.body is not None:
                raise error_for_exit_code(arrived.exit_code, f"cannot {what}")
        return OwnerTransfer(what, (message,), message.value, gas, _WALLET_FEES, sent=not dry_run)

    async def _arrival(
        self, what: str, message: OwnerMessage, owner: Address, after_lt: int
    ) -> DecodedTransaction:
        chain, clock = self._context.chain, self._context.clock
        body = None if message.body is None else message.body.hash
        give_up = clock.now() + _WAIT_S
        head = await chain.head()
        while True:
            async for transaction in walk(chain, self.address, after_lt=after_lt):
                incoming = transaction.in_message
                if incoming is not None and incoming.src == owner and not incoming.bounced:
                    if body is None and incoming.content is None and incoming.value == message.value:
                        return transaction
                    if incoming.body.hash == body:
                        return transaction
            head = await chain.wait_head(head.seqno, self._patience(what, give_up))

    async def _wait_active(self) -> None:
        chain, give_up = self._context.chain, self._context.clock.now() + _WAIT_S
        head = await chain.head()
        while not await self.is_open():
            head = await chain.wait_head(head.seqno, self._patience("open the escrow", give_up))

    def _patience(self, what: str, give_up: int) -> float:
        left = give_up - self._context.clock.now()
        if left <= 0:
            raise ChainTimeoutError(
                f"cannot tell whether this worked: {what}",
                why=f"the escrow showed nothing after {_WAIT_S} s",
                hint="Look at escrow.state() before you try again",
            )
        return min(left, _BLOCK_WAIT_S)


def _positive(amount: Nano) -> None:
    if amount <= 0:
        raise ConfigError(f"{amount} is not an amount to move", hint="Pass a positive amount in nanoTON")
