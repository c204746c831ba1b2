"""A sandbox with several liteservers in front of it, some of which lie when a test says so."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cocoon_sdk.chain.liteserver import LiteserverChain
from cocoon_sdk.chain.liteserver_blocks import Trust
from cocoon_sdk.chain.liteserver_config import LiteserverConfig
from cocoon_sdk.chain.liteserver_limits import PoolLimits
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.sandbox import Actor, Blockchain, SandboxChain
from cocoon_sdk.sandbox.blockchain import DEFAULT_NOW
from cocoon_sdk.sandbox.liteserver.config import global_config
from cocoon_sdk.sandbox.liteserver.server import LiteServer
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.types import Nano

Change = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
"""Takes what was asked and the honest answer; returns what is sent instead."""


@dataclass
class World:
    """A node, its liteservers, and the same chain without anything in between."""

    node: Node
    servers: list[LiteServer]
    closing: AsyncExitStack
    alice: Actor = field(init=False)

    def __post_init__(self) -> None:
        self.blockchain = self.node.blockchain
        self.direct = SandboxChain(self.blockchain)
        self.clock = ManualClock(self.blockchain.now)
        self.alice = self.blockchain.actor("alice", Nano.ton(1000))

    def connect(
        self, count: int | None = None, *, limits: PoolLimits | None = None, **options: Any
    ) -> LiteserverChain:
        """Return a chain over the first `count` servers; it is closed in the end."""
        config = LiteserverConfig.from_dict(global_config(self.node.archive, self.servers[:count]))
        options = {"trust": Trust.AGREED, "max_lag_s": None, **options}
        chain = LiteserverChain(config, clock=self.clock, limits=limits, **options)
        self.closing.push_async_callback(chain.close)
        return chain

    def lie(self, name: str, change: Change, *servers: int) -> None:
        """Let servers (the first by default) answer a question with something else."""
        for server in servers or (0,):
            handlers = self.servers[server].answers.handlers
            honest = handlers[name]

            def answer(node: Node, asked: Any, honest: Any = honest) -> Any:
                kind, fields = honest(node, asked)
                return kind, change(asked, dict(fields))

            handlers[name] = answer


@asynccontextmanager
async def world(servers: int = 1, now: int = DEFAULT_NOW) -> AsyncIterator[World]:
    """Run a node and its servers; another time to start at makes another chain from the first block on."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Node(Blockchain(now=now)))
        made = [
            await stack.enter_async_context(LiteServer(node, seed=hashlib.sha256(bytes([number])).digest()))
            for number in range(servers)
        ]
        closing = await stack.enter_async_context(AsyncExitStack())
        found = World(node, made, closing)
        await node.mine()
        yield found
