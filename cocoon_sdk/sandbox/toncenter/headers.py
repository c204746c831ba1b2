"""Headers of blocks as toncenter shows them.

Owns reading `BlockInfo` from a block's cells. Must not know HTTP or how blocks are found.
"""

from __future__ import annotations

from typing import Any

from cocoon_sdk.sandbox.blocks import Block, BlockId
from cocoon_sdk.sandbox.cells import Reader
from cocoon_sdk.sandbox.toncenter.shapes import block_id


def block_header(block: Block) -> dict[str, Any]:
    """Answer of getBlockHeader."""
    root = Reader.of(block.root)
    root.skip(32)
    global_id = root.sint(32)
    info = Reader.of(root.ref())
    info.skip(32)
    version = info.uint(32)
    not_master, after_merge, before_split, after_split = (info.bit() for _ in range(4))
    want_split, want_merge, is_key, _ = (info.bit() for _ in range(4))
    info.skip(8 + 32 + 32)  # flags, seqno, vertical seqno
    info.skip(2 + 6 + 32 + 64)  # the shard
    gen_utime, start_lt, end_lt = info.uint(32), info.uint(64), info.uint(64)
    validators, catchain, min_ref, prev_key = (info.uint(32) for _ in range(4))
    if not_master:
        info.ref()  # the masterchain block it refers to
    previous = Reader.of(info.ref())
    return {
        "@type": "blocks.header",
        "id": block_id(block.id),
        "global_id": global_id,
        "version": version,
        "after_merge": after_merge,
        "after_split": after_split,
        "before_split": before_split,
        "want_merge": want_merge,
        "want_split": want_split,
        "validator_list_hash_short": validators - (1 << 32) if validators >> 31 else validators,
        "catchain_seqno": catchain,
        "min_ref_mc_seqno": min_ref,
        "is_key_block": is_key,
        "prev_key_block_seqno": prev_key,
        "start_lt": str(start_lt),
        "end_lt": str(end_lt),
        "gen_utime": gen_utime,
        "prev_blocks": [block_id(_previous(previous, block.id))],
    }


def _previous(reader: Reader, block: BlockId) -> BlockId:
    """Read `ExtBlkRef`; the sandbox neither splits nor merges shards, so that there is one."""
    reader.skip(64)
    seqno = reader.uint(32)
    root_hash, file_hash = reader.uint(256).to_bytes(32, "big"), reader.uint(256).to_bytes(32, "big")
    return BlockId(block.workchain, block.shard, seqno, root_hash, file_hash)
