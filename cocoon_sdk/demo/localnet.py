"""A whole network on this machine: sandbox, its servers on loopback, and a freshly deployed suite.

Owns starting and stopping it, and funded wallets. The chain's clock follows the machine's, so that everything
that talks to it over HTTP works as it does in production.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.client.wallets import KeyWallet
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.contracts.genesis import FirstModel, Genesis, deploy_genesis, plan_genesis
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.parameters import ArbiterIdentity, NetworkParameters
from cocoon_sdk.contracts.sender import OwnerWallet
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.host import SandboxHost
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.types import Nano

LOOPBACK: Final = "127.0.0.1"
ARBITERS: Final = 3
GOVERNOR_FUNDS: Final = Nano.ton(10)
_POLL_S: Final = 0.1


class LocalNetwork:
    """A network in this process. Use it with `async with`; leaving closes sockets and tasks.

    `models` are listed by the registry from the start. `host` serves another sandbox than a fresh one in
    memory; `clock` must then be its node's. Entering raises `ConfigError` when a port is taken.
    """

    def __init__(
        self,
        models: Sequence[FirstModel] = (),
        *,
        clock: Clock | None = None,
        host: SandboxHost | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._models = tuple(models)
        self.host = host or SandboxHost(Node(clock=self._clock))
        self.names: dict[Address, str] = {}
        self._closing = AsyncExitStack()
        self._network: Network | None = None

    async def __aenter__(self) -> Self:
        await self._closing.enter_async_context(self.host)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    @property
    def node(self) -> Node:
        """The sandbox's node."""
        return self.host.node

    @property
    def blockchain(self) -> Blockchain:
        """The sandbox's accounts and transactions."""
        return self.host.node.blockchain

    @property
    def endpoint(self) -> str:
        """URL of the toncenter API, as `ToncenterChain` takes it."""
        return self.host.endpoint

    @property
    def network(self) -> Network:
        """The network. Only after `deploy` or `resume`."""
        assert self._network is not None
        return self._network

    def connect(self) -> Chain:
        """Open a connection of its own over HTTP, as an app or a worker has one; closed with the network."""
        chain = ToncenterChain(self.endpoint, clock=self._clock, poll_s=_POLL_S)
        self._closing.push_async_callback(chain.close)
        return chain

    def fund(self, name: str, address: Address, amount: Nano) -> None:
        """Mint money to an address and remember what it is called."""
        self.name(name, address)
        self.blockchain.faucet(address, amount)

    def name(self, name: str, address: Address) -> None:
        """Remember what an account is called."""
        self.names[address] = name

    def wallet(self, name: str, key: SigningKey, amount: Nano) -> KeyWallet:
        """Return a wallet with that key and `amount` nanoTON, connected over HTTP."""
        wallet = KeyWallet(self.connect(), key, clock=self._clock)
        self.fund(name, wallet.address, amount)
        return wallet

    async def deploy(self, governor: OwnerWallet | None = None) -> Network:
        """Deploy registry and markets from a governor's wallet. Raises what `deploy_genesis` raises."""
        governor = governor or self.wallet("governor", SigningKey.generate(), GOVERNOR_FUNDS)
        parameters = NetworkParameters(arbiters=self._arbiters())
        genesis: Genesis = plan_genesis(governor.address, parameters, self._models)
        self.name("registry", genesis.registry.address)
        for model, market in zip(self._models, genesis.markets, strict=True):
            self.name(f"market of {model.name}", market.address)
        self._network = genesis.network
        return await deploy_genesis(self.connect(), governor, genesis, clock=self._clock)

    def resume(self, registry: Address) -> Network:
        """Go on with a suite that was deployed on this chain before."""
        self.name("registry", registry)
        self._network = Network(registry)
        return self._network

    def _arbiters(self) -> list[ArbiterIdentity]:
        """Make arbiters' keys; their payout wallets hold nothing until a dispute is decided."""
        found = []
        for number in range(1, ARBITERS + 1):
            key = SigningKey.generate()
            payout = KeyWallet(self.connect(), key).address
            self.name(f"arbiter {number}", payout)
            found.append(ArbiterIdentity(key.verify_key, payout))
        return found
