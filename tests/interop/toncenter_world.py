"""A sandbox behind its toncenter API, with a wallet and a few contracts for foreign clients to talk to.

Owns the world and running a client's script in Node.js. Knows nothing of particular clients.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pytoniq_core import Address, begin_cell

from cocoon_sdk.sandbox.actors import Actor, Outgoing
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter import ToncenterServer
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.types import Nano
from tests.interop.ton_sandbox import HERE, node_path
from tests.unit.sandbox.contracts import contract, getter

NOBODY = Address((0, b"\x44" * 32))
DATA = begin_cell().store_uint(0xFACE, 16).end_cell()
UNTIL_S = 3600
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class World:
    """`echo` returns its arguments, `thrower` throws 42, `odd` returns 7, null, a pair and a list."""

    node: Node
    server: ToncenterServer
    alice: Actor
    echo: Address
    thrower: Address
    odd: Address

    @property
    def blockchain(self) -> Blockchain:
        return self.node.blockchain

    async def give(self, amount: int) -> None:
        """Let the wallet send money to nobody, in a block."""
        message = Outgoing(NOBODY, amount, bounce=False)
        await self.node.apply(lambda _: self.alice.send_many([message]))

    def sent(self, actor: Actor, limit: int = 1) -> list[Transaction]:
        return self.blockchain.transactions(actor.address, limit=limit)

    def task(self) -> dict[str, Any]:
        """What a script has to know."""
        return {
            "endpoint": f"{self.server.url}/api/v2/jsonRPC",
            "seed": self.alice.private_key.hex(),
            "until": self.blockchain.now + UNTIL_S,
            "nobody": NOBODY.to_str(is_bounceable=False),
            "echo": self.echo.to_str(),
            "thrower": self.thrower.to_str(),
            "odd": self.odd.to_str(),
        }

    async def script(self, name: str) -> Any:
        """Run a client's script in Node.js against the server and return what it printed."""
        process = await asyncio.create_subprocess_exec(
            node_path(),
            str(HERE / name),
            json.dumps(self.task()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode == 0, err.decode()
        return json.loads(out)


@asynccontextmanager
async def toncenter_world() -> AsyncIterator[World]:
    """Start the world."""
    blockchain = Blockchain()
    alice = blockchain.actor("alice")
    echo, thrower, odd = (
        blockchain.deploy(contract(body, DATA), Nano.ton(1), workchain=0)
        for body in (
            getter(""),
            getter("DEPTH 2 INT LESS IF:<{ 42 THROW }>"),
            getter("7 INT PUSHNULL 1 INT c4 PUSHCTR PAIR 3 INT PUSHNULL PAIR 2 INT SWAP PAIR"),
        )
    )
    async with Node(blockchain) as node, ToncenterServer(node) as server:
        yield World(node, server, alice, echo, thrower, odd)
