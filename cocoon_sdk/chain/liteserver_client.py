"""pytoniq's `LiteClient` and `LiteBalancer`, with what a long-running process needs of them.

Owns one server's connection: encryption, TL, following blocks and reconnecting are pytoniq's; its proof
checks and its choice of servers are not used. Must not know questions. What is changed here and why: an error
while waiting for a block ended the following (error 652), a half-open connection stayed open, the size of an
answer had no bound, and random old blocks were asked for.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from typing import Any

from pytoniq import LiteBalancer, LiteClient
from pytoniq.liteclient.client import LiteServerError

from cocoon_sdk.chain.liteserver_config import Liteserver
from cocoon_sdk.chain.liteserver_limits import PoolLimits
from cocoon_sdk.chain.proofs import BlockId

_LOG = logging.getLogger(__name__)


class FollowingClient(LiteClient):  # type: ignore[misc]  # pytoniq comes without types
    """pytoniq's client that follows one thing only: which masterchain block its server has.

    `changed` is called whenever that or the connection changes.
    """

    def __init__(self, server: Liteserver, limits: PoolLimits, changed: Callable[[], None]) -> None:
        # Trust level 2: proofs are checked by us, to the end and in one place.
        key = base64.b64encode(server.key).decode("ascii")
        super().__init__(server.host, server.port, key, timeout=limits.timeout_s, trust_level=2)
        self._limits, self._on_change = limits, changed
        self.newest: BlockId | None = None
        self._broken = False

    @property
    def usable(self) -> bool:
        """Whether questions can be asked now."""
        listens = self.inited and self.listener is not None and not self.listener.done()
        return bool(listens and self.newest and not self._broken)

    async def give_up(self) -> None:
        """End this connection, so that the balancer makes a new one."""
        self._broken = True  # at once: `close` returns early while another task is closing
        await self.close()

    async def connect(self) -> None:
        """Connect and learn the newest block; leaves nothing open when it fails."""
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await super().connect()
        except BaseException:
            await self.close()  # or the half-open socket would stay
            raise
        self._broken = False
        self._on_change()

    async def receive(self, data_len: int) -> bytes:
        """Read the length or the content of a packet, which the bound must hold."""
        if data_len > self._limits.max_answer_bytes:
            await self.close()
            raise ConnectionAbortedError(f"an answer of {data_len} bytes was announced")
        return bytes(await super().receive(data_len))

    async def update_last_blocks(self) -> None:
        """Ask for the newest block."""
        self._saw(await self.get_masterchain_info())

    async def block_updater(self) -> None:
        """Ask for the block after the newest, again and again: servers answer when they have it."""
        wait_ms = int(self.timeout * 800)  # the server gives up before the client does
        while self.newest is not None:
            before = self.newest.seqno
            try:
                self._saw(await self.wait_masterchain_seqno(before + 1, wait_ms, "getMasterchainInfo", {}))
            except (LiteServerError, TimeoutError):
                pass  # no new block in that time: error 652, or an answer that comes later than we wait
            except Exception as error:  # the balancer sees that this task ended, and reconnects
                _LOG.debug("following %s ended: %s", self.server.host, error)
                return
            if self.newest.seqno <= before:
                await asyncio.sleep(0.1)  # a server that answers at once and never moves

    def _saw(self, answer: dict[str, Any]) -> None:
        self.newest = BlockId.from_tl(answer.get("last"))
        self.last_mc_block = self.newest
        self._on_change()


class ReconnectingBalancer(LiteBalancer):  # type: ignore[misc]
    """pytoniq's balancer, which connects and reconnects; who is asked is the pool's business."""

    @staticmethod
    async def check_archive(peer: FollowingClient) -> bool:
        """Leave a server in peace with questions about random old blocks: nothing here depends on them."""
        return False
