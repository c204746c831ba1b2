"""Transactions: of an account, of a block, one by one, with proofs.

Owns paging and its bounds, which are those of TON's liteservers.
"""

from __future__ import annotations

from cocoon_sdk.sandbox.blocks import Block, TransactionNotFoundError, transactions_proof
from cocoon_sdk.sandbox.blocks.block import KEY_MASK
from cocoon_sdk.sandbox.blocks.cells import to_boc, to_boc_of
from cocoon_sdk.sandbox.cells import key_address
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.sandbox.liteserver.ids import Answer, account_key, find, tl_id
from cocoon_sdk.sandbox.liteserver.tl import Record
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.transactions import Transaction

MAX_HISTORY = 16
MAX_LISTED = 256
_LT_MASK = (1 << 64) - 1
_WITH_ACCOUNT, _WITH_LT, _WITH_HASH = 1, 2, 4
_WITH_PROOF, _REVERSE, _AFTER = 32, 64, 128


def get_one_transaction(node: Node, query: Record) -> Answer:
    """Answer with the transaction of an account at a logical time, if the block has it, and the proof."""
    block = find(node.archive, query["id"])
    if query["account"]["workchain"] != block.workchain:
        raise QueryError("requested account id is not contained in the shard of the specified block")
    key, lt = account_key(query["account"]), query["lt"] & _LT_MASK
    found = [one for one in block.transactions if one.key == key and one.lt == lt]
    return "transactionInfo", {
        "id": tl_id(block.id),
        "proof": transactions_proof(block, [(key, lt)]),
        "transaction": to_boc(found[0].native) if found else b"",
    }


def get_transactions(node: Node, query: Record) -> Answer:
    """Answer with an account's transactions, from a given one back in time."""
    key, lt, digest = account_key(query["account"]), query["lt"] & _LT_MASK, query["hash"]
    found: list[Transaction] = []
    blocks: list[Block] = []
    while len(found) < min(query["count"], MAX_HISTORY) and lt:
        try:
            transaction, block = node.archive.transaction(digest)
        except TransactionNotFoundError:
            break
        if transaction.key != key or transaction.lt != lt:
            break
        found.append(transaction)
        blocks.append(block)
        lt, digest = transaction.prev_lt, transaction.prev_hash
    if not found and query["count"] and lt:
        raise QueryError(_why_not(node, key, lt))
    return "transactionList", {
        "ids": [tl_id(block.id) for block in blocks],
        "transactions": to_boc_of([one.native for one in found]),
    }


def _why_not(node: Node, key: int, lt: int) -> str:
    """Tell a wrong hash from a time at which the account did nothing."""
    if node.blockchain.transactions(key_address(key), limit=1, before_lt=lt + 1, after_lt=lt - 1):
        return "transaction hash mismatch"
    return "cannot locate transaction in block with specified logical time"


def list_block_transactions(node: Node, query: Record) -> Answer:
    """Answer with the names of a block's transactions, in pages."""
    block, chosen, incomplete, proof = _page(node, query)
    fields = query["mode"] & ~256
    ids = [
        {
            "mode": fields,
            "account": (one.key & KEY_MASK).to_bytes(32, "big"),
            "lt": one.lt,
            "hash": one.hash,
        }
        for one in chosen
    ]
    return "blockTransactions", {
        "id": tl_id(block.id),
        "req_count": query["count"],
        "incomplete": incomplete,
        "ids": ids,
        "proof": proof,
    }


def list_block_transactions_ext(node: Node, query: Record) -> Answer:
    """Answer with a block's transactions themselves, in pages."""
    block, chosen, incomplete, proof = _page(node, query)
    return "blockTransactionsExt", {
        "id": tl_id(block.id),
        "req_count": query["count"],
        "incomplete": incomplete,
        "transactions": to_boc_of([one.native for one in chosen]),
        "proof": proof,
    }


def _page(node: Node, query: Record) -> tuple[Block, list[Transaction], bool, bytes]:
    """Choose the transactions of a page; like TON's servers, call it complete only when it was not filled."""
    block, mode = find(node.archive, query["id"]), query["mode"]
    ordered = list(block.transactions)
    after = 0, 0
    if mode & _REVERSE:
        ordered.reverse()
    if mode & _AFTER:
        after = (int.from_bytes(query["after"]["account"], "big"), query["after"]["lt"] & _LT_MASK)
        if mode & _REVERSE:
            ordered = [one for one in ordered if _place(one) < after]
        else:
            ordered = [one for one in ordered if _place(one) > after]
    limit = min(query["count"], MAX_LISTED)
    chosen = ordered[:limit]
    incomplete = len(chosen) == limit
    proof = b""
    if mode & _WITH_PROOF:
        places = [(one.key, one.lt) for one in chosen]
        if mode & _AFTER:  # clients begin to look there
            places.insert(0, after)
        proof = transactions_proof(block, places)
    return block, chosen, incomplete, proof


def _place(transaction: Transaction) -> tuple[int, int]:
    return transaction.key & KEY_MASK, transaction.lt
