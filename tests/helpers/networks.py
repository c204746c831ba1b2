"""One sandbox, three ways to it: in process, over ADNL with pytoniq, over toncenter's HTTP.

Owns starting what stands between a test and its blockchain, and nothing else: whoever acts on the blockchain
itself (scripted workers, owners) is seen by the SDK through blocks, as on a real network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.chain.http_transport import TransportLimits
from cocoon_sdk.chain.liteserver import LiteserverChain
from cocoon_sdk.chain.liteserver_blocks import Trust
from cocoon_sdk.chain.liteserver_config import LiteserverConfig
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_sdk.sandbox.liteserver.server import LiteServer
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.server import ToncenterServer

WAYS: Final = ("in_process", "adnl", "toncenter")
_POLL_S: Final = 0.01


@asynccontextmanager
async def network(way: str, blockchain: Blockchain) -> AsyncIterator[Chain]:
    """Run what `way` needs over a blockchain; yield a chain that reaches it, however old its blocks are."""
    async with AsyncExitStack() as stack:
        chain: Chain
        if way == "in_process":
            chain = SandboxChain(blockchain)
        else:
            node = await stack.enter_async_context(Node(blockchain))
            if way == "adnl":
                server = await stack.enter_async_context(LiteServer(node))
                config = LiteserverConfig.from_dict(server.global_config())
                chain = LiteserverChain(
                    config, trust=Trust.PROVEN, clock=ManualClock(blockchain.now), max_lag_s=None
                )
            else:
                api = await stack.enter_async_context(ToncenterServer(node))
                chain = ToncenterChain(
                    f"{api.url}/api/v2",
                    limits=TransportLimits(requests_per_s=None),
                    max_lag_s=None,
                    poll_s=_POLL_S,
                )
        stack.push_async_callback(chain.close)
        yield chain
