"""Which masterchain block is acted on, and why it is believed.

Owns the newest block and the three degrees of trust in it. Everything else a liteserver says is proven
against such a block (`proofs`), so this is the only place where a server may be believed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from cocoon_sdk.chain.block_links import follow
from cocoon_sdk.chain.liteserver_anchor import Anchor
from cocoon_sdk.chain.liteserver_pool import Answer, LiteserverPool
from cocoon_sdk.chain.proofs import MASTERCHAIN, WHOLE_SHARD, BlockHeader, BlockId, ProofError, header_proof
from cocoon_sdk.errors import ChainStaleError

_LOG = logging.getLogger(__name__)
_REMEMBERED: Final = 64
_MAX_LINKS: Final = 4096
"""Most answers with links that one proof may need: sixteen key blocks each, many years of them."""


class Trust(StrEnum):
    """Why a masterchain block is believed.

    `PROVEN`: validators' signatures link it to the configuration's `init_block`. `AGREED`: several servers
    name the same block at its height. `SERVER`: one server says so.
    """

    PROVEN = "proven"
    AGREED = "agreed"
    SERVER = "server"


class LiteserverBlocks:
    """The blocks of one pool, under one degree of trust.

    Under `AGREED`, `quorum` servers must agree; under `PROVEN`, `anchor` keeps the newest key block.
    """

    def __init__(
        self, pool: LiteserverPool, *, trust: Trust, quorum: int, anchor: Path | None = None
    ) -> None:
        self._pool, self._trust = pool, trust
        self._quorum = quorum if trust is Trust.AGREED else 1
        self._believed: OrderedDict[BlockId, BlockHeader | None] = OrderedDict()
        self._anchor = Anchor(anchor, pool.config.init_block)
        self._key_block = self._anchor.load()
        self._checking = asyncio.Lock()
        self._seen = 0

    async def newest(self) -> BlockId:
        """Ask for the newest block, and return it once it is believed; never one older than before.

        Asked for every time, so that what is read after a message shows what the message did.
        """
        block = await self._pool.ask("getMasterchainInfo", {}, self._last, wait_seqno=self._seen)
        if block not in self._believed:
            async with self._checking:
                if block not in self._believed:
                    block = await self._check(block)
        self._seen = max(self._seen, block.seqno)
        return block

    async def header(self, block: BlockId) -> BlockHeader:
        """Return the header of a block that `newest` returned."""
        found = self._believed.get(block)
        if found is None:
            found = await self._pool.ask(
                "getBlockHeader",
                {"id": block.to_tl(), "mode": 0},
                lambda answer: header_proof(answer.get("header_proof"), block),
                wait_seqno=block.seqno,
            )
            self._remember(block, found)
        return found

    def _last(self, answer: Answer) -> BlockId:
        block = BlockId.from_tl(answer.get("last"))
        if block.workchain != MASTERCHAIN or block.shard != WHOLE_SHARD:
            raise ProofError("newest block", why="it is not one of the masterchain")
        if block.seqno < self._seen:
            raise ChainStaleError(
                "liteserver lags behind",
                why=f"its newest block is {block.seqno}, {self._seen} was seen before",
                hint="If the chain was set back on purpose, connect anew",
            )
        return block

    async def _check(self, block: BlockId) -> BlockId:
        if self._trust is Trust.PROVEN:
            await self._prove(block)
            self._remember(block, None)
        elif self._trust is Trust.AGREED:
            agreed = await self._pool.ask(
                "lookupBlock",
                {"mode": 1, "id": {"workchain": MASTERCHAIN, "shard": WHOLE_SHARD, "seqno": block.seqno}},
                lambda answer: self._looked_up(answer, block.seqno),
                wait_seqno=block.seqno,
                quorum=self._quorum,
            )
            block = agreed.id
            self._remember(block, agreed)
        else:
            self._remember(block, None)
        return block

    @staticmethod
    def _looked_up(answer: Answer, seqno: int) -> BlockHeader:
        block = BlockId.from_tl(answer.get("id"))
        if (block.workchain, block.shard, block.seqno) != (MASTERCHAIN, WHOLE_SHARD, seqno):
            raise ProofError(f"masterchain block {seqno}", why="another block came")
        return header_proof(answer.get("header_proof"), block)

    async def _prove(self, block: BlockId) -> None:
        """Follow signed links from the newest key block known; what is proven on the way is kept."""
        if block == self._key_block:
            return
        for _ in range(_MAX_LINKS):
            known = self._key_block
            question = {"mode": 1, "known_block": known.to_tl(), "target_block": block.to_tl()}
            reached, key = await self._pool.ask("getBlockProof", question, partial(_follow, known))
            if key != known:
                self._key_block = key
                self._keep(key)
            if reached == block:
                return
            if reached.seqno > block.seqno or key == known:
                break
        raise ProofError(f"block {block}", why="the links from the known key block do not lead to it")

    def _keep(self, block: BlockId) -> None:
        try:
            self._anchor.keep(block)
        except OSError as error:  # the next start proves it again
            _LOG.warning("the proven key block %s cannot be kept: %s", block, error)

    def _remember(self, block: BlockId, found: BlockHeader | None) -> None:
        self._believed[block] = found
        self._believed.move_to_end(block)
        if len(self._believed) > _REMEMBERED:
            self._believed.popitem(last=False)


def _follow(known: BlockId, answer: Answer) -> tuple[BlockId, BlockId]:
    return follow(known, answer.get("steps"))
