"""A small town on the sandbox for tests of the SDK: a listed model, scripted workers, a client with an owner.

The workers' side is played step by step with the suite's own driver; nothing here hides what the SDK does.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.wallets import SignerWallet
from cocoon_sdk.contracts.registry import PROPOSE_MODEL, RegisteredModel, model_entry
from cocoon_sdk.crypto.keys import BoxKey
from cocoon_sdk.data import DataRef, InlineData, decode_data, encode_data
from cocoon_sdk.history import payload_of
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.envelope import (
    JobRef,
    PayloadPlain,
    ResultPlain,
    SealedResult,
    open_payload,
    read_payload_header,
    seal_result,
)
from cocoon_sdk.protocol.offers import Offer, Prekey, WorkerInfo, encode_info
from cocoon_sdk.protocol.pricing import Usage, price
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.sandbox import Blockchain, SandboxChain, Transaction
from cocoon_sdk.types import Nano
from tests.helpers.suite import Suite, Worker, as_int, hash_of, key_of

MODEL_NAME = "Org/Tiny-1B"
USAGE = Usage(input_tokens=12, output_tokens=5)
WEEK_S = 7 * 86400
LOCAL = ("127.0.0.0/8",)


def completion(text: str) -> dict[str, Any]:
    """Return the body of an OpenAI chat completion."""
    return {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": text}}]}


@dataclass
class ScriptedWorker:
    """A worker whose every step is taken by the test."""

    town: Town
    account: Worker
    prekey: BoxKey
    info: WorkerInfo | None = None

    @property
    def address(self) -> Address:
        return self.account.address

    def terms(self, **changes: Any) -> Terms:
        fields: dict[str, Any] = {
            "model_id": self.town.model.model_id,
            "model_entry_hash": self.town.model.entry_hash,
            "input_price": Nano.ton("10"),
            "cached_input_price": Nano.ton("10"),
            "output_price": Nano.ton("100"),
            "minimum_price": Nano.ton("0.001"),
            "sampling": SamplingClass.UNVERIFIED,
        }
        return Terms(**{**fields, **changes})

    def announce(
        self,
        *,
        terms: Terms | None = None,
        endpoint: str | None = None,
        expires_in: int = 2 * WEEK_S,
        **changes: Any,
    ) -> list[Transaction]:
        """Publish an announcement on the model's market."""
        offer = Offer(model=MODEL_NAME, terms=terms or self.terms(), max_context=4096, max_output_tokens=2048)
        fields: dict[str, Any] = {
            "operator": self.account.key.verify_key,
            "endpoint": endpoint,
            "prekeys": (Prekey(key=self.prekey.public_key, expires=self.town.chain.now + expires_in),),
            "offers": (offer,),
        }
        self.info = WorkerInfo(**{**fields, **changes})
        data = encode_data(InlineData(encode_info(self.info)))
        action = signing.announce(self.town.model.model_id, self.info.info_hash, data)
        return self.account.act(action, max_spend=Nano.ton(1))

    async def read(self, client: AsyncCocoon, job_id: int) -> tuple[PayloadPlain, bytes]:
        """Open a job's payload; also return its travelling bytes."""
        opened = await payload_of(self.town.adapter, client.escrow.address, job_id)
        assert opened.data is not None
        data = decode_data(opened.data)
        assert isinstance(data, InlineData)
        expected = m.JobTerms.from_cell(opened.terms).payload_hash.to_bytes(32, "big")
        return open_payload(data.content, [self.prekey], expected), data.content

    async def make(
        self, client: AsyncCocoon, job_id: int, text: str = "Paris.", usage: Usage = USAGE
    ) -> SealedResult:
        """Make and seal a result."""
        _, wire = await self.read(client, job_id)
        plain = ResultPlain(
            job=JobRef.of(client.escrow.address, job_id), response=completion(text), usage=usage
        )
        return seal_result(plain, read_payload_header(wire).client_key)

    def price(self, usage: Usage = USAGE) -> Nano:
        assert self.info is not None
        return price(usage, self.info.offers[0].terms)

    def target(self, client: AsyncCocoon, job_id: int) -> signing.JobTarget:
        return self.account.target(self.town.driver(client), job_id)

    async def answer(
        self,
        client: AsyncCocoon,
        job_id: int,
        text: str = "Paris.",
        *,
        amount: Nano | None = None,
        data: DataRef | None = None,
        without_data: bool = False,
        result_hash: bytes | None = None,
    ) -> SealedResult:
        """Submit a result on chain without a claim; the keyword arguments make wrong ones."""
        sealed = await self.make(client, job_id, text)
        cell = None if without_data else encode_data(data or InlineData(sealed.data))
        due = self.price() if amount is None else amount
        action = signing.submit(
            job_id, due, self.target(client, job_id), result_hash or sealed.result_hash, cell
        )
        self.account.act(action, max_spend=self.account.work_spend())
        return sealed

    def sign(self, client: AsyncCocoon, job_id: int, result_hash: bytes, amount: Nano) -> bytes:
        driver = self.town.driver(client)
        return self.account.sign_result(driver, job_id, amount, result_hash)

    async def handover(self, client: AsyncCocoon, job_id: int, **changes: Any) -> dict[str, Any]:
        """Return the JSON that the endpoint answers when the result is ready."""
        sealed = await self.make(client, job_id)
        amount = changes.pop("amount", self.price())
        answer = {
            "result": base64.b64encode(sealed.data).decode(),
            "result_hash": sealed.result_hash.hex(),
            "amount": str(int(amount)),
            "signature": self.sign(client, job_id, sealed.result_hash, amount).hex(),
        }
        return {**answer, **changes}


@dataclass
class Town:
    """A network with one listed model; the SDK reaches it through `adapter`, in process by default."""

    chain: Blockchain
    adapter: Chain = field(default=None)  # type: ignore[assignment]  # made below
    calibration: bytes = hash_of("calibration")
    model_id: bytes = hash_of("manifest")
    seats: int = 5
    suite: Suite = field(init=False)
    model: RegisteredModel = field(init=False)
    _made: list[AsyncCocoon] = field(default_factory=list, repr=False)
    _names: dict[int, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.suite = Suite(self.chain, seats=self.seats)
        self.adapter = self.adapter or SandboxChain(self.chain)
        model_id = self.model_id
        entry = model_entry(MODEL_NAME, self.calibration, Nano.ton("0.15"))
        governor, registry = self.suite.governor, self.suite.network.registry
        proposal = m.Propose(query_id=0, kind=PROPOSE_MODEL, model_id=as_int(model_id), content=entry)
        governor.send(registry, Nano.ton(1), proposal.to_cell())
        self.chain.warp(self.suite.parameters.timelock_s)
        governor.send(registry, Nano.ton(1), m.Execute(query_id=0).to_cell())
        self.model = RegisteredModel.from_cell(model_id, entry)
        market = self.suite.network.market(model_id)
        governor.send(market.address, Nano.ton("0.1"), state_init=market.state_init)

    def worker(self, name: str = "worker", *, announced: bool = True, **options: Any) -> ScriptedWorker:
        account = self.suite.worker(name, **options)
        worker = ScriptedWorker(self, account, BoxKey(hash_of(f"prekey of {name}")))
        if announced:
            worker.announce()
        return worker

    def cocoon(self, name: str = "client", chain: Any = None, **options: Any) -> AsyncCocoon:
        """Return a client whose escrow does not exist yet."""
        adapter = chain or self.adapter
        wallet = SignerWallet(adapter, self.chain.actor(name, Nano.ton(10_000)))
        fields: dict[str, Any] = {"owner": wallet, "private_networks": LOCAL}
        cocoon = AsyncCocoon(adapter, self.suite.network, key_of(name), **{**fields, **options})
        self._made.append(cocoon)
        self._names[id(cocoon)] = name
        return cocoon

    async def close(self) -> None:
        """Close every client that was made here."""
        for cocoon in self._made:
            await cocoon.close()

    async def client(
        self, name: str = "client", deposit: Nano | None = None, chain: Any = None, **options: Any
    ) -> AsyncCocoon:
        """Return a client with an open escrow."""
        cocoon = self.cocoon(name, chain, **options)
        await cocoon.escrow.open(deposit or Nano.ton(50), Nano.ton(1000))
        return cocoon

    def driver(self, client: AsyncCocoon) -> Any:
        """Return the suite's driver of a client's escrow."""
        from cocoon_sdk.protocol import constants as c
        from tests.helpers.suite import Client

        name = self._names.get(id(client), "client")
        owner = self.chain.actor(name, Nano.ton(10_000))
        deployment = self.suite.network.escrow(owner.address)
        assert deployment.address == client.escrow.address
        return Client(self.suite, deployment, owner, key_of(name), c.PURPOSE_ESCROW_EXTERNAL)


class Endpoint:
    """A worker's HTTP endpoint that answers what the test puts into `answers` (status, JSON), by job id."""

    def __init__(self) -> None:
        self.answers: dict[int, tuple[int, Mapping[str, Any]]] = {}
        self.calls: list[str] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request.path)
        status, body = self.answers.get(int(request.match_info["id"]), (404, {}))
        return web.json_response(dict(body), status=status)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/results/{escrow}/{id}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, shutdown_timeout=0.01).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def chat(text: str = "What is the capital of France?") -> list[dict[str, Any]]:
    """Return messages of a chat."""
    return [{"role": "user", "content": text}]
