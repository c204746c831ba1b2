"""Signatures and proofs of blocks as toncenter shows them: what a liteserver answers, in tonlib's JSON.

Must not know HTTP. The proofs themselves are those of the block room and of the liteserver.
"""

from __future__ import annotations

from typing import Any

from cocoon_sdk.sandbox.blocks import Block, MasterBlock
from cocoon_sdk.sandbox.blocks.proofs import header_proof, shards_proof
from cocoon_sdk.sandbox.liteserver.proofs import old_block_proof
from cocoon_sdk.sandbox.toncenter.params import Refused
from cocoon_sdk.sandbox.toncenter.shapes import b64, block_id


def block_signatures(block: MasterBlock) -> dict[str, Any]:
    """Answer of getMasterchainBlockSignatures; the sandbox has one validator."""
    validator = block.validator
    return {
        "@type": "blocks.blockSignatures",
        "id": block_id(block.id),
        "signatures": [
            {
                "@type": "blocks.signature",
                "node_id_short": b64(validator.short_id),
                "signature": b64(validator.sign(block.id)),
            }
        ],
    }


def shard_block_proof(block: Block, master: MasterBlock, start: MasterBlock) -> dict[str, Any]:
    """Answer of getShardBlockProof: from `start` back to `master`, which committed `block`.

    Raises `Refused` when `start` is older than that.
    """
    if start.id.seqno < master.id.seqno:
        raise Refused(500, "from mc block is too old")
    links = []
    if block is not master:
        link = {"id": block_id(block.id), "proof": b64(shards_proof(master))}
        links.append({"@type": "blocks.shardBlockLink", **link})
    return {
        "@type": "blocks.shardBlockProof",
        "from": block_id(start.id),
        "mc_id": block_id(master.id),
        "links": links,
        "mc_proof": [] if start is master else [_link_back(start, master)],
    }


def _link_back(source: MasterBlock, target: MasterBlock) -> dict[str, Any]:
    return {
        "@type": "blocks.blockLinkBack",
        "to_key_block": target.is_key,
        "from": block_id(source.id),
        "to": block_id(target.id),
        "dest_proof": b64(header_proof(target)),
        "proof": b64(header_proof(source)),
        "state_proof": b64(old_block_proof(source, target)),
    }
