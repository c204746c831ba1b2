"""A gateway on a free port in front of the labelled double, and official clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from cocoon_sdk.clock import ManualClock
from cocoon_sdk.gateway import SCHEMA, ApiKey, GatewayConfig, GatewayServer, KeyLimits, KeyStore, new_key
from cocoon_sdk.storage import Database, open_database
from tests.unit.gateway.double import EchoInference

NOON = 20_000 * 86_400 + 43_200


@dataclass
class House:
    """One database and the gateways on it."""

    database: Database
    clock: ManualClock
    store: KeyStore
    inference: EchoInference = field(default_factory=EchoInference)
    servers: list[GatewayServer] = field(default_factory=list)
    clients: list[Any] = field(default_factory=list)

    async def gateway(self, **options: Any) -> GatewayServer:
        config = GatewayConfig(**{"port": 0, "drain_s": 5.0, **options})
        server = GatewayServer(self.inference, self.store, config, clock=self.clock)
        await server.start()
        self.servers.append(server)
        return server

    async def key(self, name: str = "app", **limits: Any) -> tuple[ApiKey, str]:
        key, text = new_key(name, KeyLimits(**limits), self.clock.now())
        await self.store.add(key)
        for server in self.servers:
            await server.keys.refresh()
        return key, text

    def client(self, server: GatewayServer, key: str = "none", **options: Any) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(base_url=server.url, api_key=key, **{"max_retries": 0, **options})
        self.clients.append(client)
        return client

    def http(self, server: GatewayServer, **options: Any) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", **options)
        self.clients.append(session)
        return session

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        for server in self.servers:
            await server.abort()
        await self.database.close()


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where the database is; tests that care run on each kind."""
    return str(tmp_path / "gateway.sqlite")


@pytest.fixture
async def house(place: str) -> AsyncIterator[House]:
    database = await open_database(place, SCHEMA)
    house = House(database, ManualClock(NOON), KeyStore(database))
    yield house
    await house.close()
