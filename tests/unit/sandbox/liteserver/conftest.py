"""A node behind a liteserver, and a client whose every byte tests can choose."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cocoon_sdk.sandbox.liteserver import Limits, LiteServer
from cocoon_sdk.sandbox.node import Node
from tests.unit.sandbox.liteserver.wire import RawClient


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node() as running:
        yield running


@pytest.fixture
async def server(node: Node) -> AsyncIterator[LiteServer]:
    async with LiteServer(node, limits=Limits(max_wait_s=5.0, follow_s=5.0)) as listening:
        yield listening


@pytest.fixture
async def client(server: LiteServer) -> AsyncIterator[RawClient]:
    connected = await RawClient.connect(server.port, server.key.public)
    yield connected
    await connected.close()
