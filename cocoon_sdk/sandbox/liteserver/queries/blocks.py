"""Blocks, their headers and states, finding them, and proving that one chain has them.

Owns which links make up a proof chain: there is one key block, from which every other block is proven by its
signature; a block is led back to it through the masterchain's list of old blocks.
"""

from __future__ import annotations

import hashlib

from cocoon_sdk.sandbox.blocks import Block, MasterBlock, forward_link, header_proof, shards_proof
from cocoon_sdk.sandbox.blocks.cells import to_boc
from cocoon_sdk.sandbox.cells import native_hash
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.sandbox.liteserver.ids import (
    MASTERCHAIN,
    Answer,
    block_id,
    find,
    find_master,
    long_text,
    look_up,
    tl_id,
)
from cocoon_sdk.sandbox.liteserver.proofs import block_header, old_block_proof
from cocoon_sdk.sandbox.liteserver.tl import Record
from cocoon_sdk.sandbox.node import Node

MAX_STATE_SEQNO = 1000
_NOT_MASTERCHAIN = "masterchain block id must be specified"


def get_block(node: Node, query: Record) -> Answer:
    """Answer with a whole block."""
    block = find(node.archive, query["id"])
    return "blockData", {"id": tl_id(block.id), "data": block.boc}


def get_state(node: Node, query: Record) -> Answer:
    """Answer with a whole state; like TON's servers, only of early blocks, since states grow.

    Number 0 is what a chain began with, under the id that the global configuration tells.
    """
    wanted = block_id(query["id"])
    if wanted.seqno > MAX_STATE_SEQNO:
        raise QueryError("cannot request total state: possibly too large")
    archive = node.archive
    if wanted == archive.zero_state_masterchain:
        state = node.zero_states[0]
    elif wanted == archive.zero_state_basechain:
        state = node.zero_states[1]
    else:
        state = find(archive, query["id"]).state
    data = to_boc(state)
    return "blockState", {
        "id": tl_id(wanted),
        "root_hash": native_hash(state),
        "file_hash": hashlib.sha256(data).digest(),
        "data": data,
    }


def get_block_header(node: Node, query: Record) -> Answer:
    """Answer with the proof of a header, and of what else the mode asks for."""
    return _header(find(node.archive, query["id"]), query["mode"])


def lookup_block(node: Node, query: Record) -> Answer:
    """Answer with the header of the block at a number, logical time or unix time."""
    return _header(look_up(node.archive, query), query["mode"] >> 4)


def _header(block: Block, mode: int) -> Answer:
    proof = block_header(block, mode)
    return "blockHeader", {"id": tl_id(block.id), "mode": mode, "header_proof": proof}


def lookup_block_with_proof(node: Node, query: Record) -> Answer:
    """Answer with a block found by number or time, proven from a masterchain block the client trusts."""
    archive, mode = node.archive, query["mode"]
    trusted = find_master(archive, query["mc_block_id"], _NOT_MASTERCHAIN)
    block = look_up(archive, query)
    master = archive.master_of(block)
    if master.seqno > trusted.seqno:
        raise QueryError("specified mc block is older than block's masterchain ref")
    previous = b""
    if mode & 6 and block.seqno > 1:
        previous = header_proof(archive.by_seqno(block.workchain, block.seqno - 1))
    is_same = master is trusted
    return "lookupBlockResult", {
        "id": tl_id(block.id),
        "mode": mode,
        "mc_block_id": tl_id(master.id),
        "client_mc_state_proof": b"" if is_same else header_proof(trusted),
        "mc_block_proof": b"" if is_same else old_block_proof(trusted, master),
        "shard_links": _links(block, master),
        "header": header_proof(block),
        "prev_header": previous,
    }


def get_shard_block_proof(node: Node, query: Record) -> Answer:
    """Answer with the proof that a masterchain block committed a basechain block."""
    block = find(node.archive, query["id"])
    master = node.archive.master_of(block)
    return "shardBlockProof", {"masterchain_id": tl_id(master.id), "links": _links(block, master)}


def _links(block: Block, master: MasterBlock) -> list[Record]:
    if block is master:
        return []
    return [{"id": tl_id(block.id), "proof": shards_proof(master)}]


# -- proof chains ---------------------------------------------------------------------------------------


def get_block_proof(node: Node, query: Record) -> Answer:
    """Answer with the links that lead from a block the client knows to another, or to the newest."""
    source = _known(node, query["known_block"], "source")
    target = _known(node, query["target_block"], "destination") if query["mode"] & 1 else node.head
    key = node.archive.init_block
    steps: list[Record] = []
    if target.seqno < source.seqno:
        steps.append(_back(source, target))
    elif target.seqno > source.seqno:
        if source is not key:
            steps.append(_back(source, key))
        steps.append(_forward(node, key, target))
    return "partialBlockProof", {
        "complete": True,
        "from": tl_id(source.id),
        "to": tl_id(target.id),
        "steps": steps,
    }


def _known(node: Node, record: Record, role: str) -> MasterBlock:
    wanted = block_id(record)
    if wanted.workchain != MASTERCHAIN:
        raise QueryError(f"{role} block {long_text(wanted)} is not a valid masterchain block id")
    head = node.head.id
    if wanted.seqno > head.seqno:
        raise QueryError(
            f"client knows block {long_text(wanted)} newer than the reference masterchain block "
            f"{long_text(head)}"
        )
    try:
        return find_master(node.archive, record, _NOT_MASTERCHAIN)
    except QueryError:
        raise QueryError(
            f"proof {role} masterchain block {long_text(wanted)} is unknown from the perspective of "
            f"reference block {long_text(head)}"
        ) from None


def _back(source: MasterBlock, target: MasterBlock) -> Record:
    return {
        "@type": "liteServer.blockLinkBack",
        "to_key_block": target.is_key,
        "from": tl_id(source.id),
        "to": tl_id(target.id),
        "dest_proof": header_proof(target),
        "proof": header_proof(source),
        "state_proof": old_block_proof(source, target),
    }


def _forward(node: Node, key: MasterBlock, target: MasterBlock) -> Record:
    link = forward_link(key, target)
    return {
        "@type": "liteServer.blockLinkForward",
        "to_key_block": target.is_key,
        "from": tl_id(key.id),
        "to": tl_id(target.id),
        "dest_proof": link.dest_proof,
        "config_proof": link.config_proof,
        "signatures": {
            "@type": "liteServer.signatureSet.ordinary",
            "validator_set_hash": link.validator_set_hash,
            "catchain_seqno": link.catchain_seqno,
            "signatures": [{"node_id_short": link.node_id, "signature": link.signature}],
        },
    }
