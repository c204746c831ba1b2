"""Owner wallets over any `Chain`: from a mnemonic, from a tonsdk wallet, from anything that signs requests.

Owns building wallet requests and waiting until the wallet took them. Must not know what the messages mean.
Keys stay in their objects: no repr, error or log shows them. A wallet is deployed with its first request.
pytoniq's own wallet classes insist on a lite client, so only its wallet codes and data forms are used.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, Protocol

from pytoniq.contract.wallets.wallet import WALLET_V3_R2_CODE, WALLET_V4_R2_CODE
from pytoniq_core import Address, Cell, begin_cell
from tonsdk.boc import Cell as TonsdkCell

from cocoon_sdk.chain.base import AccountStatus, Chain
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.contracts.accounts import ExternalExpiredError
from cocoon_sdk.contracts.network import Deployment
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.crypto.mnemonics import signing_key_from_mnemonic
from cocoon_sdk.errors import ChainTimeoutError, ConfigError
from cocoon_sdk.types import Nano

DEFAULT_WALLET_ID: Final = 698983191
MAX_MESSAGES: Final = 4
_VALID_FOR_S: Final = 60
_WAIT_S: Final = 120
_BLOCK_WAIT_S: Final = 10.0
_FEE_ALLOWANCE: Final = Nano.ton("0.02")


class WalletVersion(StrEnum):
    """Wallet contracts that `KeyWallet` speaks."""

    V3R2 = "v3r2"
    V4R2 = "v4r2"


class _Wallet:
    """Sends one request at a time and waits until the wallet's seqno moved."""

    def __init__(self, chain: Chain, clock: Clock | None) -> None:
        self._chain = chain
        self._clock: Clock = clock or SystemClock()
        self._lock = asyncio.Lock()

    @property
    def address(self) -> Address:
        """The wallet's address."""
        raise NotImplementedError

    def _batch_size(self) -> int:
        return MAX_MESSAGES

    def _request(self, messages: Sequence[OwnerMessage], seqno: int, valid_until: int) -> Cell:
        """Return the signed external message."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address.to_str()}>"

    async def balance(self) -> Nano:
        """Return the wallet's balance in nanoTON."""
        return (await self._chain.account(self.address)).balance

    async def send(self, messages: Sequence[OwnerMessage]) -> None:
        """Send messages in order; see `OwnerWallet.send`."""
        async with self._lock:
            size = self._batch_size()
            for start in range(0, len(messages), size):
                await self._send(messages[start : start + size])

    async def _send(self, messages: Sequence[OwnerMessage]) -> None:
        needed = sum((message.value for message in messages), _FEE_ALLOWANCE)
        account = await self._chain.account(self.address)
        if account.balance < needed:
            raise ConfigError(
                f"the owner's wallet {self.address.to_str()} cannot pay",
                why=f"it holds {account.balance}, the request needs {needed} with fees",
                hint="Send TON to the wallet first",
            )
        head = await self._chain.head()
        seqno = _seqno(account.data) if account.status is AccountStatus.ACTIVE else 0
        valid_until = head.now + _VALID_FOR_S
        # After a time-out it may have got through all the same: the seqno tells.
        with contextlib.suppress(ChainTimeoutError):
            await self._chain.send(self._request(messages, seqno, valid_until))
        give_up = self._clock.now() + _WAIT_S
        while True:
            account = await self._chain.account(self.address)
            if account.status is AccountStatus.ACTIVE and _seqno(account.data) > seqno:
                return
            what = f"a request to the wallet {self.address.to_str()}"
            if head.now > valid_until + _VALID_FOR_S:
                raise ExternalExpiredError(what, why="no block took it while it was valid", hint="Send again")
            left = give_up - self._clock.now()
            if left <= 0:
                raise ChainTimeoutError(
                    what,
                    why=f"no trace of it after {_WAIT_S} s",
                    hint="It may still take effect: look at the wallet before you send again",
                )
            head = await self._chain.wait_head(head.seqno, min(left, _BLOCK_WAIT_S))


class KeyWallet(_Wallet):
    """A V3R2 or V4R2 wallet from its key; `wallet_id` as every wallet app sets it."""

    def __init__(
        self,
        chain: Chain,
        key: SigningKey,
        *,
        version: WalletVersion | str = WalletVersion.V4R2,
        wallet_id: int = DEFAULT_WALLET_ID,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(chain, clock)
        self._key, self._wallet_id = key, wallet_id
        try:
            self.version = WalletVersion(version)
        except ValueError:
            known = ", ".join(WalletVersion)
            raise ConfigError(f"unknown wallet version {version!r}", why=f"known are {known}") from None
        v4 = self.version is WalletVersion.V4R2
        data = begin_cell().store_uint(0, 32).store_uint(wallet_id, 32).store_bytes(key.verify_key.raw)
        if v4:
            data.store_bit(0)  # no plugins
        self._deployment = Deployment.of(WALLET_V4_R2_CODE if v4 else WALLET_V3_R2_CODE, data.end_cell())

    @classmethod
    def from_mnemonic(
        cls,
        chain: Chain,
        words: str | Sequence[str],
        *,
        version: WalletVersion | str = WalletVersion.V4R2,
        wallet_id: int = DEFAULT_WALLET_ID,
        clock: Clock | None = None,
    ) -> KeyWallet:
        """Open the wallet of 24 words. Raises `KeyMaterialError`, which never shows a word."""
        key = signing_key_from_mnemonic(words)
        return cls(chain, key, version=version, wallet_id=wallet_id, clock=clock)

    @property
    def address(self) -> Address:
        """The wallet's address."""
        return self._deployment.address

    def _request(self, messages: Sequence[OwnerMessage], seqno: int, valid_until: int) -> Cell:
        request = begin_cell().store_uint(self._wallet_id, 32).store_uint(valid_until, 32)
        request.store_uint(seqno, 32)
        if self.version is WalletVersion.V4R2:
            request.store_uint(0, 8)  # operation: plain transfer
        for message in messages:
            request.store_uint(message.mode, 8).store_ref(_internal(message))
        unsigned = request.end_cell()
        body = begin_cell().store_bytes(self._key.sign(unsigned.hash)).store_cell(unsigned).end_cell()
        return _external(self.address, body, self._deployment.state_init if seqno == 0 else None)


class TonsdkWallet(_Wallet):
    """A wallet object of tonsdk, as it is: what `Wallets.create` and `Wallets.from_mnemonics` return.

    tonsdk sends one message per request and stamps requests with this machine's clock.
    """

    def __init__(self, chain: Chain, wallet: Any, *, clock: Clock | None = None) -> None:
        super().__init__(chain, clock)
        if not callable(getattr(wallet, "create_transfer_message", None)) or not hasattr(wallet, "address"):
            raise ConfigError(
                "not a tonsdk wallet",
                why=f"{type(wallet).__name__} has no create_transfer_message",
                hint="Pass the wallet object, the last of what Wallets.create returns",
            )
        self._wallet = wallet
        self._address = Address(wallet.address.to_string(True, True, True))

    @property
    def address(self) -> Address:
        """The wallet's address."""
        return self._address

    def _batch_size(self) -> int:
        return 1

    def _request(self, messages: Sequence[OwnerMessage], seqno: int, valid_until: int) -> Cell:
        (message,) = messages
        made = self._wallet.create_transfer_message(
            to_addr=message.to.to_str(is_bounceable=message.bounce),
            amount=int(message.value),
            seqno=seqno,
            payload=None if message.body is None else _to_tonsdk(message.body),
            send_mode=message.mode,
            state_init=None if message.state_init is None else _to_tonsdk(message.state_init),
        )
        return Cell.one_from_boc(bytes(made["message"].to_boc(False)))


class RequestSigner(Protocol):
    """Anything with an address that signs wallet requests, such as an actor of the sandbox."""

    @property
    def address(self) -> Address:
        """The wallet's address."""
        ...

    def request(
        self, messages: Sequence[Any], *, seqno: int | None = None, valid_until: int | None = None
    ) -> Cell:
        """Return a signed external message; `messages` have the fields of `OwnerMessage`."""
        ...


class SignerWallet(_Wallet):
    """A wallet whose requests somebody else signs; it has to be deployed already."""

    def __init__(self, chain: Chain, signer: RequestSigner, *, clock: Clock | None = None) -> None:
        super().__init__(chain, clock)
        self._signer = signer

    @property
    def address(self) -> Address:
        """The wallet's address."""
        return self._signer.address

    def _request(self, messages: Sequence[OwnerMessage], seqno: int, valid_until: int) -> Cell:
        return self._signer.request(messages, seqno=seqno, valid_until=valid_until)


def _seqno(data: Cell | None) -> int:
    # All wallets up to V4 start their data with the seqno; asking the account saves a get-method.
    return 0 if data is None or len(data.bits) < 32 else int(data.begin_parse().load_uint(32))


def _internal(message: OwnerMessage) -> Cell:
    head = begin_cell().store_uint(0b01, 2).store_bit(int(message.bounce)).store_bit(0).store_uint(0, 2)
    # no extra currencies; ihr fee, forward fee, lt and time are filled in by the network
    head.store_address(message.to).store_coins(int(message.value)).store_uint(0, 1 + 4 + 4 + 64 + 32)
    return _with_init_and_body(head, message.body or Cell.empty(), message.state_init)


def _external(to: Address, body: Cell, init: Cell | None) -> Cell:
    head = begin_cell().store_uint(0b10, 2).store_uint(0, 2).store_address(to).store_coins(0)
    return _with_init_and_body(head, body, init)


def _with_init_and_body(head: Any, body: Cell, init: Cell | None) -> Cell:
    if init is None:
        head.store_bit(0)
    else:
        head.store_uint(0b11, 2).store_ref(init)
    return head.store_bit(1).store_ref(body).end_cell()


def _to_tonsdk(cell: Cell) -> Any:
    return TonsdkCell.one_from_boc(cell.to_boc())
