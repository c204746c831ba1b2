"""`AsyncCocoon`: what an app developer holds.

Owns putting the parts of one client together and taking them apart again. Must not choose an adapter
(`cocoon_sdk.client.connect` does) or read environment variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.arbiters import Arbiters
from cocoon_sdk.client.auditing import AsyncAudits, AuditPolicy
from cocoon_sdk.client.auditing.consequences import Surroundings
from cocoon_sdk.client.auditing.evidence_book import EvidenceVault
from cocoon_sdk.client.connect import connect_chain
from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import AsyncWorkers
from cocoon_sdk.client.escrow import AsyncEscrow
from cocoon_sdk.client.handover import HandoverClient
from cocoon_sdk.client.job_audits import JobAudits
from cocoon_sdk.client.jobs import AsyncJobs
from cocoon_sdk.client.models import AsyncModels
from cocoon_sdk.client.openai.resources import AsyncOpenAIResources
from cocoon_sdk.client.sessions.account import DEFAULT_DATABASE, AsyncSessions, DatabasePlace
from cocoon_sdk.client.sessions.answers.inference import InferenceClient
from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SpendLimits
from cocoon_sdk.client.sessions.values import Bill, InferenceRequest
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.registry import Registry
from cocoon_sdk.contracts.sender import OwnerWallet
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.data import AddressPolicy, DataSource, DataStore, HttpSource, RoutingSource
from cocoon_sdk.errors import ConfigError

if TYPE_CHECKING:  # it needs NumPy, and clients that check nothing do not
    from cocoon_sdk.client.cross_checks import CrossChecks

Owner: TypeAlias = "OwnerWallet | Callable[[Chain], OwnerWallet] | Address | str"


class AsyncCocoon:
    """A client of one network: its escrow, the workers, the models, its jobs.

    `registry` names the network, `hot_key` opens jobs. `owner` is the owner's wallet, a function that makes
    it of the chain (`lambda chain: KeyWallet.from_mnemonic(chain, words)`), or only its address: then all
    works but what moves the owner's money. `source` reads results by location (default: HTTP and HTTPS from
    public addresses), `store` takes payloads that are too large for a message. `private_networks` (CIDR) are
    networks of ours that workers' URLs may point to. `arbiters` maps their verdict keys (hex) to URLs: they
    get the evidence of disputes.

    Inference (`chat`, `completions`, `embeddings`) opens sessions with workers by itself: under
    `session_policy`, never beyond `spend_limits`. What was signed is kept in `database`: the path of a file
    (default: one in the user's home) or the URL of a PostgreSQL database.

    `previous_code` takes the owner's escrow under the contract code that was current before, to end what runs
    there and to take the money out.

    `audit` is the share of results (0.05: one in twenty) that is checked by itself, or an `AuditPolicy`: see
    `audits`.

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
        previous_code: bool = False,
        previous_hot_keys: tuple[SigningKey, ...] = (),
        source: DataSource | None = None,
        store: DataStore | None = None,
        private_networks: tuple[str, ...] = (),
        clock: Clock | None = None,
        arbiters: Mapping[str, str] | None = None,
        database: DatabasePlace = DEFAULT_DATABASE,
        session_policy: SessionPolicy | None = None,
        spend_limits: SpendLimits | None = None,
        audit: float | AuditPolicy | None = None,
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
            escrow=Escrow.from_owner(
                chain, network, address, index, previous_code=previous_code, clock=clock
            ),
            registry=Registry.at(chain, network.registry, clock=clock),
            clock=clock,
            hot_key=hot_key,
            previous_hot_keys=previous_hot_keys,
            wallet=wallet,
            source=source,
            store=store,
            policy=policy,
            arbiters=Arbiters(arbiters) if arbiters else None,
        )
        self._handover = HandoverClient(policy)
        self.escrow = AsyncEscrow(self._context)
        self.models = AsyncModels(self._context)
        self.workers = AsyncWorkers(self._context, self.models)
        self.audits = self._make_audits(AuditPolicy.of(audit), database, spend_limits)
        watch = self.audits.policy is not None
        audits = JobAudits(self.audits, self._context, self.workers, self.models)
        known = audit.thresholds if isinstance(audit, AuditPolicy) else ()

        def crossing() -> CrossChecks:
            from cocoon_sdk.client.cross_checks import CrossChecks

            return CrossChecks(audits, self._ask, known)

        self.jobs = AsyncJobs(
            self._context, self.models, self.workers, self._handover, crossing, audits if watch else None
        )
        self.sessions = AsyncSessions(
            self._context, self.workers, database=database, policy=session_policy, limits=spend_limits
        )
        self.inference = InferenceClient(
            self.workers,
            self.models,
            self.sessions,
            policy,
            on_finished=self.audits.finished if watch else None,
            on_ended=self.audits.ended if watch else None,
        )
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

    def _make_audits(
        self, policy: AuditPolicy | None, database: DatabasePlace, limits: SpendLimits | None
    ) -> AsyncAudits:
        examiner = None
        if policy is not None:
            try:
                from cocoon_sdk.client.auditing.examining import make_examiner
            except ImportError as error:
                raise ConfigError(
                    "results cannot be audited",
                    why=f"{error.name} is not installed",
                    hint="Install it: pip install 'cocoon-sdk[verify]'",
                ) from None
            examiner = make_examiner(policy, self.workers.list, self._ask)
        around = Surroundings(
            domain=self._context.escrow.domain,
            job=lambda number: self.jobs.get(number, accept="manual"),
            leave=self._leave,
            come_back=self._come_back,
            bonds_limit=None if limits is None else limits.per_day,
            with_evidence=self._context.arbiters is not None,
            sessions=lambda: self.sessions,
            vault=EvidenceVault(
                self._context.escrow.address, self._context.hot_key, self._context.previous_hot_keys
            ),
        )
        return AsyncAudits(policy, database, examiner, around, self._context.clock)

    async def _ask(self, request: InferenceRequest, **options: Any) -> tuple[bytes, Bill]:
        return await self.inference.answer(request, **options)

    def _leave(self, worker: Address, why: str) -> None:
        self.workers.leave(worker, why)
        self.inference.leave(worker, why)

    def _come_back(self, worker: Address) -> None:
        self.workers.come_back(worker)
        self.inference.come_back(worker)

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
        if self.audits.policy is not None:
            self.audits.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close connections, the chain's included. Jobs go on on chain, sessions stay open.

        Audits that have begun are waited for first, as long as their policy says.
        """
        await self.audits.close()
        await self.inference.close()
        await self.sessions.close()
        await self._handover.close()
        if self._context.arbiters is not None:
            await self._context.arbiters.close()
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
