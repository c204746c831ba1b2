"""Audits with all real but the models: contracts on a sandbox, workers with endpoints, sessions, checks.

The engines are `vllm_double`s, and labelled so: the honest ones share one table of logits, a cheater's is
another. Thresholds are those of exact machines. Every result is drawn unless a test says otherwise.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pytoniq_core import Address

from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.auditing import AuditPolicy, OwnVerifier
from cocoon_sdk.protocol.pricing import Tariff
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.thresholds import Thresholds, fit
from cocoon_worker.main import make_engine
from cocoon_worker.service import WorkerService
from tests.helpers.gateway_rig import PRICES, GatewayTown
from tests.helpers.sdk import MODEL_NAME, Town
from tests.helpers.suite import hash_of
from tests.helpers.vllm_double import END, MODEL, VllmDouble, vllm_double

HOT: dict[str, Any] = {"temperature": 1.0, "max_tokens": 24}


def thresholds() -> Thresholds:
    """Return the limits of machines that differ by what rounding does."""
    honest = [Numbers(0.001, 0.002, 0.0, 0.0)] * 200
    limits = fit({"table": honest}, longest=64)
    return Thresholds(model_id=Hash(hash_of("manifest")), greedy=limits, sampled=limits)


def cheap_table(tokens: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what another, cheaper model makes of it."""
    seed = hashlib.sha256(b"cheap" + ",".join(map(str, tokens[-1:])).encode()).digest()
    logits = np.array([each / 64 for each in seed[: END + 1]])
    logits[END] = -4.0  # long answers, so that there is something to see in each
    found: np.ndarray[Any, np.dtype[np.float64]] = logits - np.log(np.exp(logits).sum())
    return found


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class AuditTown:
    """A town whose workers are verifiable; `verifier` is the client's own endpoint."""

    place: GatewayTown
    verifier: VllmDouble
    folder: Path
    doubles: dict[str, VllmDouble] = field(default_factory=dict)
    services: dict[str, WorkerService] = field(default_factory=dict)

    @property
    def town(self) -> Town:
        return self.place.town

    async def worker(self, name: str, *, lies: bool = False, **offer: Any) -> WorkerService:
        """Return a running worker; one that `lies` serves the cheap table."""
        options = {"table": cheap_table} if lies else {}
        double = await self.place.stack.enter_async_context(vllm_double(**options))
        self.doubles[name] = double
        return await self.worker_before(name, {"url": double.url}, engine_model=MODEL, **offer)

    async def worker_before(self, name: str, engine: dict[str, Any], **offer: Any) -> WorkerService:
        """Return a running worker in front of an engine that is there."""
        stack, rig = self.place.stack, self.place.rig
        sold = {**PRICES, "model": MODEL_NAME, "sampling": "replayable", **offer}
        engine = {"kind": "openai", "platform": "cpu", "dtype": "float32", **engine}
        config = rig.config(name, endpoint=True, offer=sold, engine_settings=engine)
        port = free_port()
        endpoint = {"port": port, "public_url": f"http://127.0.0.1:{port}"}
        assert config.endpoint is not None
        config = config.model_copy(update={"endpoint": config.endpoint.model_copy(update=endpoint)})
        service = WorkerService(
            config, rig.chain, make_engine(config), rig.clock, operator=rig.account(name).key
        )
        await stack.enter_async_context(service)
        await service.settle()
        self.services[name] = service
        return service

    def policy(self, **changes: Any) -> AuditPolicy:
        """Return a policy by which everything is checked with the client's own endpoint."""
        own = OwnVerifier(self.verifier.url.removesuffix("/v1"), models={MODEL_NAME: MODEL})
        fields: dict[str, Any] = {
            "share": 1.0,
            "verifier": own,
            "thresholds": (thresholds(),),
            "draw": lambda: 0.0,
            "every_s": 3600.0,
            **changes,
        }
        return AuditPolicy(**fields)

    async def client(self, name: str = "client", **options: Any) -> AsyncCocoon:
        """Return a client with an open escrow, whose audits go by `policy` unless it says otherwise."""
        fields = {
            "audit": self.policy(),
            "database": self.folder / f"{name}.sqlite",
            "clock": self.place.rig.clock,
            **options,
        }
        return await self.town.client(name, **fields)

    def price(self, name: str, prompt: int, output: int) -> int:
        """Return what tokens of a worker cost in a session, in nanoTON."""
        offer = self.services[name].info().offers[0]
        return Tariff(offer.terms).price(prompt, 0, output)

    def account(self, name: str) -> Address:
        """Return a worker's stake."""
        return self.place.rig.account(name).address

    def forget_offers(self, client: AsyncCocoon) -> None:
        """Let a client look again who offers the model."""
        client.inference._house.catalogue.outdated(MODEL_NAME)

    async def settle(self) -> None:
        """Let every worker see to what is on chain."""
        for service in self.services.values():
            await service.settle()


@asynccontextmanager
async def audit_town(
    blockchain: Blockchain, folder: Path, limits: Thresholds | None = None, *, seats: int = 5
) -> AsyncIterator[AuditTown]:
    """Make a town whose model has these limits, and so many arbiters; everything is closed at the end."""
    limits = limits or thresholds()
    calibration, model_id = bytes(limits.digest()), bytes(limits.model_id)
    town = Town(blockchain, calibration=calibration, model_id=model_id, seats=seats)
    place = GatewayTown(town, folder)
    async with place.stack, vllm_double() as verifier:
        yield AuditTown(place, verifier, folder)
        await town.close()
