"""Which basechain block a masterchain block committed, with proofs.

Owns the shape of the answer: there is one shard, the whole basechain.
"""

from __future__ import annotations

from cocoon_sdk.sandbox.blocks import shard_descr, shard_proof, shards_data, shards_proof
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.sandbox.liteserver.ids import BASECHAIN, NO_BLOCK, WHOLE_SHARD, Answer, find_master, tl_id
from cocoon_sdk.sandbox.liteserver.tl import Record
from cocoon_sdk.sandbox.node import Node

_REFUSAL = "reference block must belong to the masterchain"


def get_all_shards_info(node: Node, query: Record) -> Answer:
    """Answer with the shards that a masterchain block lists."""
    block = find_master(node.archive, query["id"], _REFUSAL)
    return "allShardsInfo", {
        "id": tl_id(block.id),
        "proof": shards_proof(block),
        "data": shards_data(block),
    }


def get_shard_info(node: Node, query: Record) -> Answer:
    """Answer with the shard that has an account or is one, at a masterchain block."""
    block = find_master(node.archive, query["id"], _REFUSAL)
    if not query["shard"]:
        raise QueryError("requested shard is invalid")
    # Inexact questions name any part of the shard; every part of the basechain lies in its only one.
    is_there = query["workchain"] == BASECHAIN and (query["shard"] == WHOLE_SHARD or not query["exact"])
    return "shardInfo", {
        "id": tl_id(block.id),
        "shardblk": tl_id(block.shard_block.id if is_there else NO_BLOCK),
        "shard_proof": shard_proof(block),
        "shard_descr": shard_descr(block) if is_there else b"",
    }
