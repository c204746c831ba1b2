"""`LiteServer`: a liteserver over a `Node`.

Owns nothing but the wiring: a listener, the service that answers from the node's blocks, and the global
configuration by which clients find both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cocoon_sdk.sandbox.liteserver.config import global_config, write_global_config
from cocoon_sdk.sandbox.liteserver.keys import DEFAULT_SEED, ServerKey
from cocoon_sdk.sandbox.liteserver.limits import Limits
from cocoon_sdk.sandbox.liteserver.listener import LOOPBACK, Listener
from cocoon_sdk.sandbox.liteserver.service import NodeService
from cocoon_sdk.sandbox.node import Node


class LiteServer(Listener):
    """Serves a node to lite clients over ADNL-TCP, with proofs: `async with LiteServer(node) as server`.

    `host` is an IPv4 address, loopback unless told otherwise; `port` 0 takes a free one. `seed` (32 bytes)
    makes the server's key; the default is the same for every sandbox.
    """

    def __init__(
        self,
        node: Node,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        seed: bytes = DEFAULT_SEED,
        limits: Limits | None = None,
    ) -> None:
        bounds = limits or Limits()
        self.node = node
        self.answers = NodeService(node, bounds)
        super().__init__(self.answers, ServerKey(seed), host=host, port=port, limits=bounds)

    async def start(self) -> None:
        """Listen. Raises `ConfigError` when the port cannot be had.

        On a chain that has only its first block, a second one is made, and `reset` goes back to that: clients
        that prove the newest block from the first (pytoniq at trust level 0) expect the two to differ.
        """
        if self.node.head is self.node.archive.init_block:
            await self.node.mine()
            await self.node.set_base()
        await super().start()

    def global_config(self) -> dict[str, Any]:
        """Return the configuration that lite clients take, for this server alone."""
        return global_config(self.node.archive, [self])

    def write_global_config(self, path: Path) -> None:
        """Write the same as a JSON file."""
        write_global_config(path, self.node.archive, [self])
