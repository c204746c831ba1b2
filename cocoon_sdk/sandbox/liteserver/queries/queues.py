"""The queues of messages on their way: how many wait, in which chain.

Owns counting them. No message is ever deferred in a sandbox, so dispatch queues are empty.
"""

from __future__ import annotations

from cocoon_sdk.sandbox.blocks import Block
from cocoon_sdk.sandbox.blocks.cells import read_cell
from cocoon_sdk.sandbox.blocks.labels import read_label
from cocoon_sdk.sandbox.blocks.merkle import Cut
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.sandbox.liteserver.ids import Answer, find, tl_id
from cocoon_sdk.sandbox.liteserver.proofs import state_and
from cocoon_sdk.sandbox.liteserver.tl import Record
from cocoon_sdk.sandbox.node import Node

QUEUE_LIMIT = 8000
"""Above so many messages TON's collators take no externals; told to clients, never reached here."""
_KEY_BITS = 352
_WITH_PROOF, _WITH_BAG = 1, 4


def get_out_msg_queue_sizes(node: Node, query: Record) -> Answer:
    """Answer with the size of each chain's queue at the head, or of one shard's."""
    head = node.head
    blocks: list[Block] = [head, head.shard_block]
    if query["mode"] & 1:
        if not query["shard"]:
            raise QueryError("requested shard is invalid")
        blocks = [block for block in blocks if block.workchain == query["wc"]]
    sizes = [{"id": tl_id(block.id), "size": _count(block)} for block in blocks]
    return "outMsgQueueSizes", {"shards": sizes, "ext_msg_queue_size_limit": QUEUE_LIMIT}


def get_block_out_msg_queue_size(node: Node, query: Record) -> Answer:
    """Answer with the size of the queue after a block; the proof is the queue itself."""
    block = find(node.archive, query["id"])
    answer = {"mode": query["mode"], "id": tl_id(block.id), "size": _count(block)}
    if query["mode"] & _WITH_PROOF:
        answer["proof"] = state_and(block, Cut().keep(_queue_info(block)))
    return "blockOutMsgQueueSize", answer


def get_dispatch_queue_info(node: Node, query: Record) -> Answer:
    """Answer that no account has deferred messages."""
    block = find(node.archive, query["id"])
    if query["max_accounts"] <= 0:
        raise QueryError("invalid max_accounts")
    answer = {"mode": query["mode"], "id": tl_id(block.id), "account_dispatch_queues": [], "complete": True}
    if query["mode"] & _WITH_PROOF:
        answer["proof"] = state_and(block, Cut().open(_queue_info(block)))
    return "dispatchQueueInfo", answer


def get_dispatch_queue_messages(node: Node, query: Record) -> Answer:
    """Answer that no message is deferred."""
    block = find(node.archive, query["id"])
    if query["max_messages"] <= 0:
        raise QueryError("invalid max_messages")
    answer = {"mode": query["mode"], "id": tl_id(block.id), "messages": [], "complete": True}
    if query["mode"] & _WITH_PROOF:
        answer["proof"] = state_and(block, Cut().open(_queue_info(block)))
    if query["mode"] & _WITH_BAG:
        answer["messages_boc"] = b""
    return "dispatchQueueMessages", answer


def _queue_info(block: Block) -> NativeCell:
    return read_cell(block.state)[1][0]


def _count(block: Block) -> int:
    bits, refs = read_cell(_queue_info(block))
    return _leaves(refs[0], _KEY_BITS) if bits[0] == "1" else 0


def _leaves(edge: NativeCell, left: int) -> int:
    bits, refs = read_cell(edge)
    label, _ = read_label(bits, left)
    left -= len(label)
    return 1 if left == 0 else sum(_leaves(ref, left - 1) for ref in refs[:2])
