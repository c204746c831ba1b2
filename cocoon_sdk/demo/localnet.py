"""A whole network on this machine: sandbox, toncenter API on loopback, and a freshly deployed suite.

Owns starting and stopping it, and funded wallets. The chain's clock follows the machine's, so that everything
that talks to it over HTTP works as it does in production.
"""

from __future__ import annotations

import asyncio
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
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_sdk.sandbox.http_api import ToncenterServer
from cocoon_sdk.types import Nano

LOOPBACK: Final = "127.0.0.1"
ARBITERS: Final = 3
GOVERNOR_FUNDS: Final = Nano.ton(10)
_TICK_S: Final = 0.25
_POLL_S: Final = 0.1


class LocalNetwork:
    """A network in this process. Use it with `async with`; leaving closes sockets and tasks.

    Entering raises `OSError` when the port is taken. `models` are listed by the registry from the start.
    """

    def __init__(
        self, models: Sequence[FirstModel] = (), *, port: int = 0, clock: Clock | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._models, self._port = tuple(models), port
        self.blockchain = Blockchain(now=self._clock.now())
        self.names: dict[Address, str] = {}
        self._closing = AsyncExitStack()
        self._server: ToncenterServer | None = None
        self._genesis: Genesis | None = None

    async def __aenter__(self) -> Self:
        try:
            local = SandboxChain(self.blockchain)
            self._closing.push_async_callback(local.close)
            server = ToncenterServer(local, control=self.blockchain, port=self._port)
            await self._closing.enter_async_context(server)
            self._server = server
            ticking = asyncio.create_task(self._tick(), name="sandbox-clock")
            self._closing.push_async_callback(_cancel, ticking)
        except BaseException:
            await self._closing.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    @property
    def endpoint(self) -> str:
        """URL of the toncenter API, as `ToncenterChain` takes it."""
        assert self._server is not None
        return f"{self._server.url}/api/v2"

    @property
    def genesis(self) -> Genesis:
        """What was deployed. Only after `deploy`."""
        assert self._genesis is not None
        return self._genesis

    @property
    def network(self) -> Network:
        """The network. Only after `deploy`."""
        return self.genesis.network

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
        self._genesis = plan_genesis(governor.address, parameters, self._models)
        self.name("registry", self._genesis.registry.address)
        for model, market in zip(self._models, self._genesis.markets, strict=True):
            self.name(f"market of {model.name}", market.address)
        return await deploy_genesis(self.connect(), governor, self._genesis, clock=self._clock)

    def _arbiters(self) -> list[ArbiterIdentity]:
        """Make arbiters' keys; their payout wallets hold nothing until a dispute is decided."""
        found = []
        for number in range(1, ARBITERS + 1):
            key = SigningKey.generate()
            payout = KeyWallet(self.connect(), key).address
            self.name(f"arbiter {number}", payout)
            found.append(ArbiterIdentity(key.verify_key, payout))
        return found

    async def _tick(self) -> None:
        """Let the chain's time follow the clock: each second makes a block."""
        while True:
            await self._clock.sleep(_TICK_S)
            now = self._clock.now()
            if now > self.blockchain.now:
                self.blockchain.set_now(now)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
