"""Whole workers on a sandbox, without real time: real contracts, the echo engine, scripted clients.

Owns wiring and the client's side of a job. Time is `Rig.warp`: the chain's and the machine's clock together.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.crypto import BoxKey
from cocoon_sdk.data import InlineData, decode_data, encode_data
from cocoon_sdk.history import ChainMessage, SubmitAction, actions_of, walk
from cocoon_sdk.history.actions import AccountKind
from cocoon_sdk.protocol import (
    JobKind,
    JobRef,
    PackedPayload,
    PayloadPlain,
    ResultPlain,
    open_result,
    publish_payload,
    seal_payload,
    signing,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_sdk.types import Nano
from cocoon_worker.config import (
    DataConfig,
    EndpointConfig,
    EngineConfig,
    OfferConfig,
    Policy,
    SessionsConfig,
    WorkerConfig,
)
from cocoon_worker.engine.base import Engine
from cocoon_worker.engine.echo import ECHO_MODEL, EchoEngine
from cocoon_worker.records import JobKey, JobRecord
from cocoon_worker.service import WorkerService
from cocoon_worker.states import JobState
from tests.helpers.suite import Client, Suite, Worker, as_int

REQUEST: dict[str, Any] = {"messages": [{"role": "user", "content": "one two three"}], "max_tokens": 32}
PRICE = Nano.ton("0.5")


@dataclass
class OpenedJob:
    """A job as its client knows it."""

    client: Client
    id: int
    packed: PackedPayload

    @property
    def key(self) -> JobKey:
        return JobKey(signing.account_id(self.client.address), self.id)

    @property
    def url_path(self) -> str:
        return f"/v1/results/0:{self.client.address.hash_part.hex()}/{self.id}"

    def open(self, sealed: bytes, result_hash: bytes) -> ResultPlain:
        """Open a result as the client does: with the job's key, against hash and job."""
        ref = JobRef.of(self.client.address, self.id)
        return open_result(sealed, self.packed.client_key, result_hash, job=ref)


@dataclass
class Rig:
    """One sandbox with the suite, and workers on it; they reach it through `chain`, in process by default."""

    root: Path
    blockchain: Blockchain = field(default_factory=Blockchain)
    chain: Chain = field(default=None)  # type: ignore[assignment]  # made below
    suite: Suite = field(default=None)  # type: ignore[assignment]  # made below

    def __post_init__(self) -> None:
        self.suite = self.suite or Suite(self.blockchain)
        self.chain = self.chain or SandboxChain(self.blockchain)
        self.clock = ManualClock(self.blockchain.now)
        self.accounts: dict[str, Worker] = {}

    def warp(self, seconds: int) -> None:
        """Let time pass, for the chain and for this machine."""
        self.clock.advance(seconds)
        self.blockchain.warp(seconds)

    # -- workers -------------------------------------------------------------------------------------------

    def account(self, name: str, **options: Any) -> Worker:
        """Return the stake of a worker, deployed when it is first asked for."""
        if name not in self.accounts:
            self.accounts[name] = self.suite.worker(name, **options)
        return self.accounts[name]

    def config(
        self,
        name: str,
        *,
        endpoint: bool = False,
        policy: dict[str, Any] | None = None,
        offer: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        sessions: dict[str, Any] | None = None,
        engine_settings: dict[str, Any] | None = None,
    ) -> WorkerConfig:
        """Return settings of a worker that sells the echo, unless they say otherwise."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        offers: dict[str, Any] = {
            "model": "echo-model",
            "model_id": self.suite.model_id.hex(),
            "engine_model": ECHO_MODEL,
            "input_price": "100",
            "output_price": "200",
            "minimum_price": "0.01",
            "tokens_per_second": 10.0,
        }
        public = EndpointConfig(host="127.0.0.1", port=0, public_url="http://worker.example")
        return WorkerConfig(
            registry=self.suite.network.registry.to_str(),
            owner=self.account(name).owner.address.to_str(),
            operator_key_file=folder / "unused.json",
            prekey_dir=folder / "prekeys",
            data_dir=folder / "data",
            engine=EngineConfig(**(engine_settings or {"kind": "echo"})),
            offers=(OfferConfig(**{**offers, **(offer or {})}),),
            endpoint=public if endpoint else None,
            policy=Policy(**(policy or {})),
            data=DataConfig(**(data or {})),
            sessions=SessionsConfig(**(sessions or {})),
        )

    def service(
        self, name: str, *, chain: Chain | None = None, engine: Engine | None = None, **options: Any
    ) -> WorkerService:
        """Return a worker, not started; the same name has the same stake, keys and journal."""
        return WorkerService(
            self.config(name, **options),
            chain or self.chain,
            engine or EchoEngine(clock=self.clock),
            self.clock,
            operator=self.account(name).key,
        )

    # -- clients -------------------------------------------------------------------------------------------

    def pack(
        self,
        service: WorkerService,
        *,
        public: bool = False,
        request: dict[str, Any] | None = None,
        model: str = "echo-model",
        kind: JobKind = JobKind.CHAT_COMPLETION,
        prekey: BoxKey | None = None,
    ) -> PackedPayload:
        """Return a payload for a worker, sealed to its current prekey unless `public`."""
        plain = PayloadPlain(kind=kind, model=model, request=REQUEST if request is None else request)
        if public:
            return publish_payload(plain)
        current = service.info().current_prekey(self.clock.now())
        assert current is not None
        return seal_payload(plain, current.key if prekey is None else prekey.public_key)

    def terms(
        self, service: WorkerService, packed: PackedPayload, *, worker: Worker | None, **changes: Any
    ) -> m.JobTerms:
        """Return the terms of a job under the worker's current offer; open when `worker` is None."""
        offered = service.info().offers[0].terms
        fields: dict[str, Any] = {
            "payload_hash": as_int(packed.payload_hash),
            "terms_hash": as_int(offered.terms_hash),
            "price": PRICE,
            **changes,
        }
        price = fields.pop("price")
        if worker is None:
            return self.suite.open_terms(price, **fields)
        return self.suite.directed_terms(worker, price, **fields)

    def open_job(
        self,
        client: Client,
        service: WorkerService,
        name: str | None,
        *,
        packed: PackedPayload | None = None,
        data: Any = None,
        terms: m.JobTerms | None = None,
        **changes: Any,
    ) -> OpenedJob:
        """Open a job for the named worker, or an open one (`name` None) with a public payload."""
        packed = packed or self.pack(service, public=name is None)
        worker = None if name is None else self.account(name)
        terms = terms or self.terms(service, packed, worker=worker, **changes)
        cell = encode_data(InlineData(packed.data)) if data is None else data
        job_id, _ = client.open(terms, data=cell)
        return OpenedJob(client, job_id, packed)

    async def submitted(self, name: str, job: OpenedJob) -> tuple[bytes, bytes, Nano] | None:
        """Return sealed bytes, hash and amount of the one submission for a job that the stake made."""
        found: list[tuple[bytes, bytes, Nano]] = []
        async for transaction in walk(self.chain, self.account(name).address):
            for action, skipped in actions_of(transaction, AccountKind.STAKE):
                if not isinstance(action, SubmitAction):
                    continue
                if skipped is None and action.job_id == job.id:
                    assert action.data is not None
                    content = decode_data(action.data)
                    assert isinstance(content, InlineData)
                    found.append((content.content, action.result_hash, action.amount))
        assert len(found) <= 1, "more than one submission"
        return found[0] if found else None

    async def work_messages(self, name: str) -> list[ChainMessage]:
        """Return every claim and submission that left a stake, oldest first."""
        sent: list[ChainMessage] = []
        async for transaction in walk(self.chain, self.account(name).address):
            sent += [
                message
                for message in transaction.out_messages
                if isinstance(message.content, m.Claim | m.Submit | m.SubmitClaimed)
            ]
        return sent[::-1]


def record(service: WorkerService, job: OpenedJob) -> JobRecord:
    """Return the worker's record of a job."""
    found = service.journal.job(job.key)
    assert found is not None
    return found


def state(service: WorkerService, job: OpenedJob) -> JobState:
    """Return where a job stands for a worker."""
    return record(service, job).state


async def kill(service: WorkerService) -> None:
    """End a worker as SIGKILL would: nothing is written or finished, only memory and lock are gone."""
    tasks = list(service._tasks.values())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    service._tasks.clear()
    if service._server is not None:
        await service._server.stop()
    service.journal.close()
