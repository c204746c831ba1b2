"""`AsyncCocoon`: what an app developer holds.

Owns putting the parts of one client together and taking them apart again. Must not choose an adapter
(`cocoon_sdk.client.connect` does) or read environment variables.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.connect import connect_chain
from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import AsyncWorkers
from cocoon_sdk.client.escrow import AsyncEscrow
from cocoon_sdk.client.handover import HandoverClient
from cocoon_sdk.client.jobs import AsyncJobs
from cocoon_sdk.client.models import AsyncModels
from cocoon_sdk.client.openai.resources import AsyncOpenAIResources
from cocoon_sdk.client.sessions.account import DEFAULT_DATABASE, AsyncSessions, DatabasePlace
from cocoon_sdk.client.sessions.answers.inference import InferenceClient
from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SpendLimits
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.registry import Registry
from cocoon_sdk.contracts.sender import OwnerWallet
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.data import AddressPolicy, DataSource, DataStore, HttpSource, RoutingSource
from cocoon_sdk.errors import ConfigError

Owner: TypeAlias = "OwnerWallet | Callable[[Chain], OwnerWallet] | Address | str"


class AsyncCocoon:
    """A client of one network: its escrow, the workers, the models, its jobs.

    `registry` names the network, `hot_key` opens jobs. `owner` is the owner's wallet, a function that makes
    it of the chain (`lambda chain: KeyWallet.from_mnemonic(chain, words)`), or only its address: then all
    works but what moves the owner's money. `source` reads results by location (default: HTTP and HTTPS from
    public addresses), `store` takes payloads that are too large for a message. `private_networks` (CIDR) are
    networks of ours that workers' URLs may point to.

    Inference (`chat`, `completions`, `embeddings`) opens sessions with workers by itself: under
    `session_policy`, never beyond `spend_limits`. What was signed is kept in `database`: the path of a file
    (default: one in the user's home) or the URL of a PostgreSQL database.

    Use it with `async with`, or call `close`, which closes the chain too.
    """

    def __init__(
        self,
        chain: Chain,
        registry: Address | str | Network,
        hot_key: SigningKey,
        *,
        owner: Owner,
        index: int = 0,
        previous_hot_keys: tuple[SigningKey, ...] = (),
        source: DataSource | None = None,
        store: DataStore | None = None,
        private_networks: tuple[str, ...] = (),
        clock: Clock | None = None,
        database: DatabasePlace = DEFAULT_DATABASE,
        session_policy: SessionPolicy | None = None,
        spend_limits: SpendLimits | None = None,
    ) -> None:
        network = registry if isinstance(registry, Network) else Network(_address(registry, "registry"))
        if isinstance(owner, Address | str):
            wallet, address = None, _address(owner, "owner")
        else:
            wallet = owner if isinstance(owner, OwnerWallet) else owner(chain)
            address = wallet.address
        clock = clock or SystemClock()
        self._chain = chain
        self._http: HttpSource | None = None
        if source is None:
            self._http = HttpSource(private_networks=private_networks)
            source = RoutingSource({"http": self._http, "https": self._http})
        policy = AddressPolicy(private_networks)
        self._context = ClientContext(
            chain=chain,
            network=network,
            escrow=Escrow.from_owner(chain, network, address, index, clock=clock),
            registry=Registry.at(chain, network.registry, clock=clock),
            clock=clock,
            hot_key=hot_key,
            previous_hot_keys=previous_hot_keys,
            wallet=wallet,
            source=source,
            store=store,
            policy=policy,
        )
        self._handover = HandoverClient(policy)
        self.escrow = AsyncEscrow(self._context)
        self.models = AsyncModels(self._context)
        self.workers = AsyncWorkers(self._context, self.models)
        self.jobs = AsyncJobs(self._context, self.models, self.workers, self._handover)
        self.sessions = AsyncSessions(
            self._context, self.workers, database=database, policy=session_policy, limits=spend_limits
        )
        self.inference = InferenceClient(self.workers, self.models, self.sessions, policy)
        self.openai = AsyncOpenAIResources(self.inference)
        self.chat, self.completions = self.openai.chat, self.openai.completions
        self.embeddings = self.openai.embeddings

    @classmethod
    def connect(
        cls,
        endpoint: str,
        registry: Address | str | Network,
        hot_key: SigningKey,
        *,
        owner: Owner,
        api_key: str | None = None,
        **options: Any,
    ) -> Self:
        """Make a client over a toncenter v2 HTTP endpoint, or over liteservers: `mainnet`, `testnet`, a file.

        `options` as in the constructor. Raises `ConfigError`.
        """
        chain = connect_chain(endpoint, api_key=api_key, clock=options.get("clock"))
        return cls(chain, registry, hot_key, owner=owner, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} escrow {self.escrow.address.to_str()}>"

    @property
    def chain(self) -> Chain:
        """The chain that this client uses."""
        return self._chain

    @property
    def network(self) -> Network:
        """The network that this client is on."""
        return self._context.network

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close connections, the chain's included. Jobs go on on chain, sessions stay open."""
        await self.inference.close()
        await self.sessions.close()
        await self._handover.close()
        if self._http is not None:
            await self._http.close()
        await self._chain.close()


def _address(value: Address | str, what: str) -> Address:
    if isinstance(value, Address):
        return value
    try:
        return Address(value)
    except Exception as error:  # the library signals a bad address with several unrelated exception types
        raise ConfigError(f"the {what} is not an address of TON", why=str(error)[:80]) from None
