"""Gateways with everything behind them real: contracts on a sandbox, workers with endpoints, sessions, keys.

Owns wiring. The one stand-in is the echo engine, which says so.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.gateway import (
    SCHEMA,
    ApiKey,
    GatewayConfig,
    GatewayServer,
    KeyLimits,
    KeyStore,
    Treasury,
    new_key,
)
from cocoon_sdk.storage import Database, open_database
from cocoon_sdk.types import Nano
from cocoon_worker.config import EndpointConfig
from cocoon_worker.engine.base import Engine
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.service import WorkerService
from tests.helpers.sdk import Town
from tests.helpers.worker_rig import Rig

PRICES = {"input_price": "0.1", "output_price": "10", "minimum_price": "0"}
"""TON for a million tokens: 100 nanoTON for a word read, 10,000 for one written."""


@dataclass
class RunningGateway:
    """A gateway, its client, and its part of the database."""

    server: GatewayServer
    cocoon: AsyncCocoon
    store: KeyStore
    database: Database
    clients: list[Any] = field(default_factory=list)

    def openai(self, key: str = "none", **options: Any) -> openai.AsyncOpenAI:
        """Return the official client of this gateway."""
        client = openai.AsyncOpenAI(base_url=self.server.url, api_key=key, **{"max_retries": 0, **options})
        self.clients.append(client)
        return client

    async def close(self) -> None:
        """Stop as the command does: requests end, budgets and sessions are given back."""
        for client in self.clients:
            await client.close()
        await self.server.drain()
        await self.cocoon.inference.close()
        await self.cocoon.sessions.close()
        await self.database.close()


class GatewayTown:
    """A town with workers that have endpoints, and gateways of one escrow."""

    def __init__(self, town: Town, folder: Path) -> None:
        self.town, self.folder = town, folder
        self.rig = Rig(folder, town.chain, town.adapter, town.suite)
        self.rig.suite.model_id = town.model.model_id
        self.stack = AsyncExitStack()
        self._opened = False

    async def worker(self, name: str, *, engine: Engine | None = None, **offer: Any) -> WorkerService:
        """Return a running worker that sells the echo by sessions."""
        rig = self.rig
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        config = rig.config(name, endpoint=True, offer={**PRICES, **offer})
        endpoint = EndpointConfig(host="127.0.0.1", port=port, public_url=f"http://127.0.0.1:{port}")
        service = WorkerService(
            config.model_copy(update={"endpoint": endpoint}),
            rig.chain,
            engine or EchoEngine(clock=rig.clock),
            rig.clock,
            operator=rig.account(name).key,
        )
        await self.stack.enter_async_context(service)
        await service.settle()
        return service

    async def gateway(
        self, *, place: str | None = None, deposit: Nano | None = None, **options: Any
    ) -> RunningGateway:
        """Return a running gateway; all of them share one escrow, and the database at `place`."""
        client = {key: options.pop(key) for key in ("spend_limits", "session_policy") if key in options}
        database = await open_database(place or self.folder / "gateway.sqlite", SCHEMA)
        cocoon = self.town.cocoon(database=database, clock=self.rig.clock, **client)
        if not self._opened:
            await cocoon.escrow.open(deposit or Nano.ton(50), Nano.ton(1000))
            self._opened = True
        store = KeyStore(database)
        treasury = Treasury(await cocoon.sessions.manager(), lambda: 0.0)
        config = GatewayConfig(**{"port": 0, **options})
        server = GatewayServer(cocoon.inference, store, config, treasury=treasury, clock=self.rig.clock)
        await server.start()
        running = RunningGateway(server, cocoon, store, database)
        self.stack.push_async_callback(running.close)
        return running

    async def key(self, gateway: RunningGateway, name: str = "app", **limits: Any) -> tuple[ApiKey, str]:
        """Make an API key; return it and its text."""
        key, text = new_key(name, KeyLimits(**limits), self.rig.clock.now())
        await gateway.store.add(key)
        await gateway.server.keys.refresh()
        return key, text
