"""Named actors: funded wallets for tests, each a real V4R2 wallet contract with a key of its own.

Owns deriving keys from names and signing wallet requests. An actor keeps no state: its sequence number is
read from the chain, so snapshots need not know about actors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nacl.signing import SigningKey
from pytoniq.contract.wallets.wallet import WALLET_V4_R2_CODE
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.sandbox.cells import Reader
from cocoon_sdk.sandbox.messages import contract_address, external_message, internal_message, state_init
from cocoon_sdk.types import Nano

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.blockchain import Blockchain
    from cocoon_sdk.sandbox.transactions import Transaction

DEFAULT_BALANCE = Nano.ton(1000)
WALLET_ID = 698983191
MAX_MESSAGES = 4
PAY_FEES_SEPARATELY = 1
IGNORE_ERRORS = 2
CARRY_ALL_BALANCE = 128
_VALIDITY_S = 60
_DEPLOY_PROBE = Nano.ton(1)
_MAX_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message for `Actor.send_many`; `value` in nanoTON, `mode` as in TON's send modes.

    The default mode pays fees beside the value and drops the message if it cannot be sent; wallets
    require the latter, since a failing action would let anybody replay the request.
    """

    to: Address
    value: int
    body: Cell | None = None
    state_init: Cell | None = None
    bounce: bool = True
    mode: int = PAY_FEES_SEPARATELY | IGNORE_ERRORS


class Actor:
    """A wallet with a name. The same name has the same key and address on every sandbox.

    Get one with `Blockchain.actor`, which also deploys and funds it. The key is public knowledge:
    anybody can derive it from the name, unless a `seed` (32 bytes) was given.
    """

    def __init__(self, blockchain: Blockchain, name: str, *, seed: bytes | None = None) -> None:
        self.name = name
        self._blockchain = blockchain
        self._identity = _identity(name, seed)

    @property
    def address(self) -> Address:
        """The wallet's address."""
        return self._identity.address

    @property
    def state_init(self) -> Cell:
        """The wallet's StateInit."""
        return self._identity.init

    @property
    def private_key(self) -> bytes:
        """The 32-byte Ed25519 seed."""
        return self._identity.seed

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        return self._identity.public_key

    @property
    def balance(self) -> Nano:
        """The wallet's balance in nanoTON."""
        return self._blockchain.balance(self.address)

    @property
    def seqno(self) -> int:
        """The wallet's sequence number; 0 before it is deployed."""
        data = self._blockchain.shard_account(self.address).data
        return 0 if data is None else Reader.of(data).uint(32)

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
        """Send one message and run all that follows; the wallet's own transaction comes first.

        Raises `ExternalRejectedError` when the wallet does not accept the request.
        """
        return self.send_many([Outgoing(to, value, body, state_init, bounce, mode)])

    def send_many(self, messages: Sequence[Outgoing]) -> list[Transaction]:
        """Send up to four messages with one request and run all that follows."""
        return self._blockchain.send_external(self.request(messages))

    def request(
        self, messages: Sequence[Outgoing], *, seqno: int | None = None, valid_until: int | None = None
    ) -> Cell:
        """Sign a wallet request and return the external message without sending it.

        `seqno` defaults to the wallet's, `valid_until` (unix seconds) to a minute from now.
        """
        if len(messages) > MAX_MESSAGES:
            raise ValueError(
                f"a V4R2 wallet sends at most {MAX_MESSAGES} messages at once, not {len(messages)}"
            )
        until = self._blockchain.now + _VALIDITY_S if valid_until is None else valid_until
        request = begin_cell().store_uint(WALLET_ID, 32).store_uint(until, 32)
        request.store_uint(self.seqno if seqno is None else seqno, 32).store_uint(
            0, 8
        )  # operation: plain transfer
        for message in messages:
            request.store_uint(message.mode, 8).store_ref(_relaxed(message))
        unsigned = request.end_cell()
        signature = SigningKey(self.private_key).sign(unsigned.hash).signature
        body = begin_cell().store_bytes(signature).store_cell(unsigned).end_cell()
        return external_message(self.address, body)

    def create(self, balance: int) -> None:
        """Deploy the wallet with minted money such that it holds exactly `balance` nanoTON afterwards.

        Deploying costs gas: a scratch chain measures how much, and that is minted on top.
        """
        chain = self._blockchain
        scratch = type(chain)(now=chain.now, config=chain.config)
        scratch.deploy(self.state_init, _DEPLOY_PROBE)
        fee = int(_DEPLOY_PROBE) - int(scratch.balance(self.address))
        chain.deploy(self.state_init, int(balance) + fee)

    def __repr__(self) -> str:
        return f"<Actor {self.name} {self.address.to_str()}>"


def wallet_state_init(public_key: bytes) -> Cell:
    """Return the StateInit of the V4R2 wallet of an Ed25519 public key, with the usual wallet id."""
    data = begin_cell().store_uint(0, 32).store_uint(WALLET_ID, 32).store_bytes(public_key).store_bit(0)
    return state_init(WALLET_V4_R2_CODE, data.end_cell())


@dataclass(frozen=True, slots=True)
class _Identity:
    seed: bytes
    public_key: bytes
    init: Cell
    address: Address


@lru_cache(maxsize=1024)
def _identity(name: str, seed: bytes | None) -> _Identity:
    encoded = name.encode()
    if not 0 < len(encoded) <= _MAX_NAME_BYTES:
        raise ValueError(f"an actor's name has 1 to {_MAX_NAME_BYTES} bytes, not {len(encoded)}")
    if seed is None:
        seed = hashlib.sha256(b"sandbox actor: " + encoded).digest()
    public_key = bytes(SigningKey(seed).verify_key)
    init = wallet_state_init(public_key)
    return _Identity(seed, public_key, init, contract_address(init))


def _relaxed(message: Outgoing) -> Cell:
    return internal_message(
        src=None,
        dst=message.to,
        value=message.value,
        body=message.body,
        init=message.state_init,
        bounce=message.bounce,
    )
