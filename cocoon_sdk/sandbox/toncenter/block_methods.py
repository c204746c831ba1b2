"""Methods about blocks and the network's configuration."""

from __future__ import annotations

from typing import Any

from cocoon_sdk.sandbox.blocks import BlockId, MasterBlock
from cocoon_sdk.sandbox.blocks.cells import read_cell
from cocoon_sdk.sandbox.cells import NativeCell, native_hash, to_native
from cocoon_sdk.sandbox.config import NetworkConfig
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.block_proofs import block_signatures, shard_block_proof
from cocoon_sdk.sandbox.toncenter.headers import block_header
from cocoon_sdk.sandbox.toncenter.methods import MASTERCHAIN, Blocks, Method, method
from cocoon_sdk.sandbox.toncenter.params import Params, Refused, invalid
from cocoon_sdk.sandbox.toncenter.shapes import b64, block_id, cell_b64, tvm_cell

EXTERNAL_QUEUE_LIMIT = 8000
"""Of messages per shard, as liteservers tell it."""
MAX_LIBRARIES = 16

_BLOCK = "workchain shard seqno root_hash file_hash"


class BlockMethods:
    """Answers which blocks there are and what the network is like."""

    def __init__(self, node: Node) -> None:
        self._node, self._blocks = node, Blocks(node)

    def table(self) -> dict[str, Method]:
        """Return the methods by name."""
        return {
            "getMasterchainInfo": method(self._masterchain_info),
            "getMasterchainBlockSignatures": method(self._signatures, "seqno"),
            "getShardBlockProof": method(self._shard_block_proof, "workchain shard seqno from_seqno"),
            "getConsensusBlock": method(self._consensus_block),
            "lookupBlock": method(self._lookup_block, "workchain shard seqno lt unixtime"),
            "shards": method(self._shards, "seqno"),
            "getShards": method(self._shards, "seqno"),
            "getBlockHeader": method(self._block_header, _BLOCK),
            "getOutMsgQueueSize": method(self._queue_sizes),
            "getOutMsgQueueSizes": method(self._queue_sizes),
            "getConfigParam": method(self._config_param, "config_id param seqno"),
            "getConfigAll": method(self._config_all, "seqno"),
            "getLibraries": method(self._libraries, "libraries"),
        }

    # -- blocks -------------------------------------------------------------------------------------------

    async def _masterchain_info(self, _: Params) -> Any:
        head, zero = self._node.head, self._node.archive.zero_state_masterchain
        # The zero state is named with shard 0, as tonlib does it.
        init = BlockId(MASTERCHAIN, 0, 0, zero.root_hash, zero.file_hash)
        return {
            "@type": "blocks.masterchainInfo",
            "last": block_id(head.id),
            "state_root_hash": b64(native_hash(head.state)),
            "init": block_id(init),
        }

    async def _consensus_block(self, _: Params) -> Any:
        head = self._node.head
        return {
            "@type": "ext.blocks.consensusBlock",
            "consensus_block": head.id.seqno,
            "timestamp": head.gen_utime,
        }

    async def _lookup_block(self, params: Params) -> Any:
        return block_id(self._blocks.by_one_of(params).id)

    async def _shards(self, params: Params) -> Any:
        params.raw("seqno")
        return {"@type": "blocks.shards", "shards": [block_id(self._blocks.master(params).shard_block.id)]}

    async def _block_header(self, params: Params) -> Any:
        return block_header(self._blocks.exactly(params))

    async def _signatures(self, params: Params) -> Any:
        params.raw("seqno")
        return block_signatures(self._blocks.master(params))

    async def _shard_block_proof(self, params: Params) -> Any:
        block, since = self._blocks.exactly(params), params.positive("from_seqno")
        start = self._node.head if since is None else self._blocks.master_at(since)
        return shard_block_proof(block, self._node.archive.master_of(block), start)

    async def _queue_sizes(self, _: Params) -> Any:
        head = self._node.head
        waiting = [item.dst_key >> 256 == 0 for item in self._node.blockchain.queued]
        sizes = ((head.id, len(waiting) - sum(waiting)), (head.shard_block.id, sum(waiting)))
        return {
            "@type": "blocks.outMsgQueueSizes",
            "shards": [
                {"@type": "blocks.outMsgQueueSize", "id": block_id(block), "size": size}
                for block, size in sizes
            ],
            "ext_msg_queue_size_limit": EXTERNAL_QUEUE_LIMIT,
        }

    # -- configuration ------------------------------------------------------------------------------------

    async def _config_param(self, params: Params) -> Any:
        given = [name for name in ("config_id", "param") if params.has(name)]
        if len(given) != 1:
            raise invalid("only one of config_id or param should be specified")
        index = params.integer(given[0])
        if index < 0:
            raise invalid("param should be non-negative")
        return _config_info(_config(self._blocks.master(params)).native_param(index))

    async def _config_all(self, params: Params) -> Any:
        return _config_info(_config(self._blocks.master(params)).native)

    async def _libraries(self, params: Params) -> Any:
        wanted = sorted(set(params.hashes("libraries")))
        if len(wanted) > MAX_LIBRARIES:
            words = f"too many libraries requested, {MAX_LIBRARIES} maximum"
            raise Refused(400, f"INVALID_FIELD: Field library_list has invalid value : {words}")
        known = {library.hash: library for library in self._node.blockchain.libraries}
        entries = [
            {"@type": "smc.libraryEntry", "hash": b64(name), "data": cell_b64(to_native(known[name]))}
            for name in wanted
            if name in known
        ]
        return {"@type": "smc.libraryResult", "result": entries}


def _config_info(cell: NativeCell | None) -> dict[str, Any]:
    return {"@type": "configInfo", "config": tvm_cell(cell)}


def _config(block: MasterBlock) -> NetworkConfig:
    """Return the configuration in the state after a block: the sandbox's, with its own validator in it."""
    extra = read_cell(block.state)[1][-1]
    bits, refs = read_cell(extra)
    has_shards = bits[16] == "1"  # after the tag of `McStateExtra`
    return NetworkConfig(refs[1 if has_shards else 0])
