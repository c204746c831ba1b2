"""What all wrappers share: typed getters, derived addresses, genuineness, and signed externals that arrive.

Owns reading accounts over any `Chain` and the whole life of one external: sign, send, wait, find, judge.
Must not know adapters, wallets, or what actions mean.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, Protocol, Self, TypeVar

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import AccountState, AccountStatus, Chain, ChainHead
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.contracts.code import previous_code_cell
from cocoon_sdk.contracts.network import Deployment, Network
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainError,
    ChainTimeoutError,
    ExternalRejectedError,
    ForgedAccountError,
    GetterError,
    MalformedError,
)
from cocoon_sdk.history import DecodedTransaction, MessageKind, walk
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.abi_cells import Reader
from cocoon_sdk.protocol.abi_errors import ContractError
from cocoon_sdk.protocol.abi_runtime import GetterCall
from cocoon_sdk.protocol.exit_codes import (
    BadSeqnoError,
    PendingError,
    UnexpectedIdError,
    error_for_exit_code,
)
from cocoon_sdk.protocol.getters import EscrowGetters, RegistryGetters
from cocoon_sdk.types import Nano

T = TypeVar("T")

VALID_FOR_S: Final = 120
"""How long an external stays valid; after that it can never take effect."""
WAIT_S: Final = 180.0
"""How long a sender looks for its external unless told otherwise."""
_ATTEMPTS: Final = 8
_BLOCK_WAIT_S: Final = 10.0
_STATE_INIT_HEAD: Final = bytes((2, 1, 0b0011_0100))
"""Cell descriptors of two references and five bits, and the bits themselves: code and data, nothing else."""


_IDENTITY_PREFIX_BITS: Final = 16 + 267 + 11


class ExternalExpiredError(ChainError):
    """An external did not get into a block while it was valid; it never will, and cost nothing."""


def derive_address(code_hash: int, code_depth: int, data: Cell) -> Address:
    """Return the address that code, known by hash and depth only, and init data give in workchain 0."""
    depths = code_depth.to_bytes(2, "big") + data.get_depth().to_bytes(2, "big")
    hashes = code_hash.to_bytes(32, "big") + data.hash
    return Address((0, hashlib.sha256(_STATE_INIT_HEAD + depths + hashes).digest()))


@dataclass(frozen=True, slots=True)
class Genuine:
    """An account that was checked: who owns it, and whether it runs the previous of the given codes."""

    address: Address
    owner: Address
    index: int
    previous_code: bool


def derived_from(
    codes: m.Codes, registry: Address, owner: Address, index: int, address: Address
) -> Genuine | None:
    """Return who an escrow or stake is if it derives from one of `codes`, else None. Workchain 0 only."""
    # Escrows and stakes are born with the same form of data; only their code tells them apart.
    data = m.AccountIdentity(registry=registry, owner=owner, index=index).to_cell()
    for code, depth, previous in (
        (codes.hash, codes.depth, False),
        (codes.previous_hash, codes.previous_depth, True),
    ):
        # A hash of 0 stands for "no previous code": nothing derives from it.
        if code and derive_address(code, depth, data) == address:
            return Genuine(address, owner, index, previous)
    return None


def peer_codes(peers: Cell) -> m.Codes:
    """Read the codes of the other side that an account's owner deals with. Raises `MalformedError`.

    Accounts keep them as what representations begin with (contracts/accounts.tact, `peersOf`): that of an
    identity, then of a StateInit with the current code, then with the previous one.
    """
    source = Reader.of_cell(peers)
    source.uint(_IDENTITY_PREFIX_BITS)
    found = []
    for _ in range(2):
        source.uint(8 * len(_STATE_INIT_HEAD))
        depth = source.uint(16)
        source.uint(16)  # depth of the init data, which has no references
        found.append((source.uint(256), depth))
    source.finish()
    (code, depth), (previous, previous_depth) = found
    return m.Codes(hash=code, depth=depth, previous_hash=previous, previous_depth=previous_depth)


async def registry_rules(chain: Chain, registry: Address) -> tuple[m.Params, m.ParamsRules]:
    """Return the parameters in force and their rules. Raises what `Contract.get` raises."""
    call = RegistryGetters.params()
    params = m.Params.from_cell(call.decode(await chain.run_getter(registry, call.method, call.args)))
    return params, m.ParamsRules.from_cell(params.rules)


class Contract:
    """One account of the suite, read over a `Chain`."""

    NAME: ClassVar[str]

    def __init__(self, chain: Chain, address: Address, *, clock: Clock | None = None) -> None:
        self.chain, self.address = chain, address
        self.clock: Clock = clock or SystemClock()

    @classmethod
    def at(cls, chain: Chain, address: Address, *, clock: Clock | None = None) -> Self:
        """Wrap the account at an address, whatever is there; see `verify_genuine` before trusting it."""
        return cls(chain, address, clock=clock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address.to_str()}>"

    async def get(self, call: GetterCall[T]) -> T:
        """Run a typed get-method.

        Raises `AccountNotFoundError` (nothing deployed), `GetterError`, `MalformedError` (another contract).
        """
        return call.decode(await self.chain.run_getter(self.address, call.method, call.args))

    async def account(self) -> AccountState:
        """Return the raw account."""
        return await self.chain.account(self.address)

    async def is_deployed(self) -> bool:
        """Tell whether the account holds code."""
        return (await self.account()).status is AccountStatus.ACTIVE


class SignedView(Protocol):
    """What `state()` of every account with a hot key tells."""

    @property
    def active(self) -> bool:
        """Whether the registry has answered."""
        ...

    @property
    def epoch(self) -> int:
        """Unix time of activation."""
        ...

    @property
    def seqno(self) -> int:
        """Number of the next external."""
        ...


V = TypeVar("V", bound=SignedView)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to sign: 1 to 8 actions, and the most they may take out of free funds, in nanoTON."""

    actions: Sequence[signing.Action]
    max_spend: Nano


class OwnedContract(Contract, Generic[V]):
    """An account that derives from an owner and an index, and obeys a hot key through signed externals.

    One instance sends one external at a time; several instances and processes may share a key, since a
    seqno that somebody else took first is tried again.
    """

    PURPOSE: ClassVar[int]

    def __init__(
        self,
        chain: Chain,
        address: Address,
        *,
        clock: Clock | None = None,
        deployment: Deployment | None = None,
    ) -> None:
        super().__init__(chain, address, clock=clock)
        self.deployment = deployment
        self._lock = asyncio.Lock()

    @classmethod
    def from_owner(
        cls,
        chain: Chain,
        network: Network,
        owner: Address,
        index: int = 0,
        *,
        previous_code: bool = False,
        clock: Clock | None = None,
    ) -> Self:
        """Wrap the account that this package's code gives an owner; it may not exist yet.

        With `previous_code` the one that the code before gave: to end what runs there and to empty it. What
        that code does not know it refuses.
        """
        code = previous_code_cell(cls.NAME) if previous_code else None
        deployment = cls._deployment(network, owner, index, code)
        return cls(chain, deployment.address, clock=clock, deployment=deployment)

    @classmethod
    def _deployment(cls, network: Network, owner: Address, index: int, code: Cell | None) -> Deployment:
        raise NotImplementedError

    @classmethod
    def listed_codes(cls, rules: m.ParamsRules) -> m.Codes:
        """Return the codes that the registry lists for this kind of account."""
        raise NotImplementedError

    async def state(self) -> V:
        """Return the whole state. Raises what `get` raises."""
        raise NotImplementedError

    async def identity(self) -> m.AccountIdentity:
        """Return registry, owner and index as the account itself states them."""
        # Both kinds of account answer in the same form.
        return await self.get(EscrowGetters.identity())

    async def verify_genuine(self, network: Network) -> Genuine:
        """Check that the address derives from a code that the registry lists, and return who it is.

        Raises `ForgedAccountError` for an account of other code, `AccountNotFoundError` when nothing is
        deployed, `PendingError` when it never became active (docs/protocol.md 2).
        """
        what = f"{self.address.to_str()} is not a genuine {self.NAME}"
        if not await self.is_deployed():
            raise AccountNotFoundError(what, why="nothing is deployed there")
        try:
            identity = await self.identity()
        except (GetterError, MalformedError) as error:
            raise ForgedAccountError(what, why="it runs another contract") from error
        _, rules = await registry_rules(self.chain, network.registry)
        genuine = derived_from(
            self.listed_codes(rules), network.registry, identity.owner, identity.index, self.address
        )
        if genuine is None or identity.registry != network.registry:
            raise ForgedAccountError(
                what,
                why="its address does not follow from its identity and a code that the registry lists",
                hint="Do not send anything there",
            )
        if not (await self.state()).active:
            raise PendingError(f"{self.address.to_str()} is not active")
        return genuine

    # -- externals ----------------------------------------------------------------------------------

    async def domain(self, view: SignedView | None = None) -> signing.Domain:
        """Return the domain of this account's signatures. Raises `PendingError` before it is active."""
        view = view or await self.state()
        if not view.active:
            raise PendingError(f"cannot sign for {self.address.to_str()}")
        return signing.Domain(await self.chain.global_id(), self.address, view.epoch)

    async def send_external(
        self,
        key: SigningKey,
        *actions: signing.Action,
        max_spend: Nano | None = None,
        wait_s: float = WAIT_S,
    ) -> DecodedTransaction:
        """Sign actions, send them, and return the account's transaction once it is there.

        Raises what `act` raises.
        """

        async def same(_view: V) -> Plan:
            return Plan(actions, max_spend or Nano(0))

        return await self.act(key, same, wait_s=wait_s)

    async def act(
        self, key: SigningKey, plan: Callable[[V], Awaitable[Plan]], *, wait_s: float = WAIT_S
    ) -> DecodedTransaction:
        """Sign what `plan` makes of the current state, send it, and return the account's transaction.

        `plan` is called again for every attempt. Raises the named error of the exit code when the external
        was refused (it then cost nothing) or when an action was skipped (the others were done);
        `ExternalExpiredError` when it got into no block; `ChainTimeoutError` when nothing is known after
        `wait_s` seconds; `ExternalRejectedError` when the endpoint names no code.
        """
        async with self._lock:
            for _ in range(_ATTEMPTS):
                try:
                    return await self._once(key, plan, wait_s)
                except (BadSeqnoError, UnexpectedIdError) as error:
                    taken: ContractError = error
            raise taken

    async def _once(
        self, key: SigningKey, plan: Callable[[V], Awaitable[Plan]], wait_s: float
    ) -> DecodedTransaction:
        head, last_lt = await self.chain.head(), (await self.account()).last_lt
        view = await self.state()
        wanted = await plan(view)
        valid_until = head.now + VALID_FOR_S
        body = signing.external_body(
            key,
            self.PURPOSE,
            await self.domain(view),
            seqno=view.seqno,
            valid_until=valid_until,
            max_spend=wanted.max_spend,
            actions=wanted.actions,
        )
        try:
            await self.chain.send(signing.external_message(self.address, body))
        except ExternalRejectedError as error:
            await self._refused(error, view, head)
        except ChainTimeoutError:
            pass  # it may have got through all the same: the history tells
        transaction = await self._arrival(body, last_lt, head, valid_until, wait_s)
        for position in range(1, len(wanted.actions) + 1):
            code = transaction.skip_code(position)
            if code is not None:
                raise error_for_exit_code(code, f"{self.NAME} skipped action {position}")
        return transaction

    async def _refused(self, error: ExternalRejectedError, view: SignedView, head: ChainHead) -> None:
        """Raise what a refusal means; a seqno that was read too old is worth waiting for a block."""
        what = f"{self.NAME} {self.address.to_str()} refused an external"
        named = None if error.exit_code is None else error_for_exit_code(error.exit_code, what)
        if named is None or isinstance(named, BadSeqnoError | UnexpectedIdError):
            moved = (await self.state()).seqno != view.seqno
            if named is None and not moved:
                raise error
            if not moved:
                await self.chain.wait_head(head.seqno, _BLOCK_WAIT_S)
            named = named or BadSeqnoError(what)
        raise named from error

    async def _arrival(
        self, body: Cell, after_lt: int, head: ChainHead, valid_until: int, wait_s: float
    ) -> DecodedTransaction:
        """Wait for the transaction of our external; raise `BadSeqnoError` when another one took its place."""
        seqno = body.begin_parse().skip_bits(512).load_uint(32)
        give_up = self.clock.now() + wait_s
        what = f"an external to {self.NAME} {self.address.to_str()}"
        while True:
            async for transaction in walk(self.chain, self.address, after_lt=after_lt):
                incoming = transaction.in_message
                if incoming is None or incoming.kind is not MessageKind.EXTERNAL_IN:
                    continue
                if incoming.body.hash == body.hash:
                    return transaction
                if incoming.body.begin_parse().skip_bits(512).load_uint(32) == seqno:
                    raise BadSeqnoError(f"{what} came second")
            if head.now > valid_until:
                raise ExternalExpiredError(what, why="no block took it while it was valid", hint="Send again")
            left = give_up - self.clock.now()
            if left <= 0:
                raise ChainTimeoutError(
                    what,
                    why=f"no trace of it after {wait_s:g} s",
                    hint="It may still take effect: look at the account before you send again",
                )
            head = await self.chain.wait_head(head.seqno, min(left, _BLOCK_WAIT_S))
