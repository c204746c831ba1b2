"""A node with one wallet behind the API, and ways to ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from pytoniq_core import Address, begin_cell

from cocoon_sdk.sandbox.actors import Actor, Outgoing
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter import ToncenterServer
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.types import Nano

NOBODY = Address((0, b"\x44" * 32))
GIFT = Nano.ton("0.1")


@dataclass(frozen=True, slots=True)
class Api:
    """The API and what is behind it."""

    node: Node
    server: ToncenterServer
    session: aiohttp.ClientSession
    alice: Actor

    @property
    def blockchain(self) -> Blockchain:
        return self.node.blockchain

    async def ask(self, verb: str, path: str, **how: Any) -> tuple[int, Any]:
        async with self.session.request(verb, f"{self.server.url}{path}", **how) as response:
            return response.status, await response.json()

    async def get(self, method: str, /, **params: Any) -> tuple[int, Any]:
        return await self.ask("GET", f"/api/v2/{method}", params=params)

    async def post(self, method: str, /, **params: Any) -> tuple[int, Any]:
        return await self.ask("POST", f"/api/v2/{method}", json=params)

    async def rpc(self, method: str, /, **params: Any) -> tuple[int, Any]:
        call = {"jsonrpc": "2.0", "id": "1", "method": method, "params": params}
        return await self.ask("POST", "/api/v2/jsonRPC", json=call)

    async def result(self, method: str, /, **params: Any) -> Any:
        """Ask over JSON-RPC and return the result of an answer that must be one."""
        status, body = await self.rpc(method, **params)
        assert (status, body["ok"]) == (200, True), body
        return body["result"]

    async def refusal(self, method: str, /, **params: Any) -> tuple[int, str]:
        """Ask over JSON-RPC and return status and words of an answer that must be a refusal."""
        status, body = await self.rpc(method, **params)
        assert (body["ok"], body["code"]) == (False, status), body
        return status, body["error"]

    async def give(self, to: Address = NOBODY, text: str = "", value: int = GIFT) -> list[Transaction]:
        """Let the wallet send money; return the transactions once they are in a block."""
        body = begin_cell().store_uint(0, 32).store_snake_string(text).end_cell() if text else None
        message = Outgoing(to, value, body, bounce=False)
        return await self.node.apply(lambda _: self.alice.send_many([message]))


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    blockchain = Blockchain()
    alice = blockchain.actor("alice")
    async with (
        Node(blockchain) as node,
        ToncenterServer(node) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Api(node, server, session, alice)
