"""Methods about transactions: of an account, of a block, and those at the two ends of a message."""

from __future__ import annotations

from typing import Any

from cocoon_sdk.sandbox.cells import key_address
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.addresses import AddressForm
from cocoon_sdk.sandbox.toncenter.methods import Blocks, Method, method
from cocoon_sdk.sandbox.toncenter.params import INT64, Params, Refused, invalid
from cocoon_sdk.sandbox.toncenter.shapes import block_id, transaction_id
from cocoon_sdk.sandbox.toncenter.transactions import (
    short_transaction_id,
    transaction,
    transaction_ext,
    transaction_std,
)
from cocoon_sdk.sandbox.transactions import Transaction

MAX_TRANSACTIONS = 1000
MAX_BLOCK_TRANSACTIONS = 10_000
MAX_LOCATED = 4096
"""Transactions of the receiver that are looked through for the one that took a message."""

_HISTORY = "address lt hash to_lt archival limit"
_IN_BLOCK = "workchain shard seqno root_hash file_hash after_lt after_hash count"
_ENDS = "source destination created_lt"


class TransactionMethods:
    """Answers what happened."""

    def __init__(self, node: Node) -> None:
        self._node, self._blocks = node, Blocks(node)

    def table(self) -> dict[str, Method]:
        """Return the methods by name."""
        return {
            "getTransactions": method(self._transactions, _HISTORY),
            "getTransactionsStd": method(self._transactions_std, _HISTORY),
            "getBlockTransactions": method(self._block_transactions, _IN_BLOCK),
            "getBlockTransactionsExt": method(self._block_transactions_ext, _IN_BLOCK),
            "tryLocateTx": method(self._locate_result, _ENDS),
            "tryLocateResultTx": method(self._locate_result, _ENDS),
            "tryLocateSourceTx": method(self._locate_source, _ENDS),
        }

    # -- of an account ----------------------------------------------------------------------------------

    async def _transactions(self, params: Params) -> Any:
        return [transaction(item) for item in self._history(params)]

    async def _transactions_std(self, params: Params) -> Any:
        found = self._history(params)
        last = found[-1] if found else None
        return {
            "@type": "raw.transactions",
            "transactions": [transaction_std(item) for item in found],
            "previous_transaction_id": transaction_id(0, bytes(32))
            if last is None
            else transaction_id(last.prev_lt, last.prev_hash),
        }

    def _history(self, params: Params) -> list[Transaction]:
        """Return transactions, newest first; the one that the cursor names is the first."""
        address, limit = params.address(), params.count("limit", 10, MAX_TRANSACTIONS)
        params.boolean("archival", False)  # everything is kept
        to_lt = params.optional_integer("to_lt", INT64) or 0
        lt, hash_ = params.non_negative("lt"), params.optional_hash("hash")
        if bool(lt) != (hash_ is not None):
            raise invalid("lt and hash should be used together")
        if not lt:
            return self._before(address, None, to_lt, limit)
        first = self._before(address, lt + 1, 0, 1)
        if not first or first[0].lt != lt:
            account = f"({address.workchain},{address.account[:8].hex()})"
            raise Refused(
                500,
                "LITE_SERVER_UNKNOWN: cannot compute block with specified transaction: "
                f"cannot find block {account} lt={lt}: lt not in db",
            )
        if first[0].hash != hash_:
            raise Refused(
                500, "LITE_SERVER_UNKNOWN: cannot locate transaction in block with specified logical time"
            )
        return self._before(address, lt + 1, to_lt, limit)

    def _before(
        self, address: AddressForm, before_lt: int | None, after_lt: int, limit: int
    ) -> list[Transaction]:
        account = key_address(address.key)
        return self._node.blockchain.transactions(
            account, limit=limit, before_lt=before_lt, after_lt=max(after_lt, 0)
        )

    # -- of a block -------------------------------------------------------------------------------------

    async def _block_transactions(self, params: Params) -> Any:
        return self._in_block(params, "blocks.transactions", short_transaction_id)

    async def _block_transactions_ext(self, params: Params) -> Any:
        return self._in_block(params, "blocks.transactionsExt", transaction_ext)

    def _in_block(self, params: Params, kind: str, shape: Any) -> dict[str, Any]:
        count = params.count("count", 40, MAX_BLOCK_TRANSACTIONS)
        block = self._blocks.exactly(params)
        after_lt, after = params.non_negative("after_lt"), params.account_part("after_hash")
        if (after_lt is None) != (after is None):
            raise invalid("after_lt and after_hash should be used together")
        found = sorted(block.transactions, key=_place)
        if after is not None and after_lt is not None:
            cursor = int.from_bytes(after, "big"), after_lt
            found = [item for item in found if _place(item) > cursor]
        return {
            "@type": kind,
            "id": block_id(block.id),
            "req_count": count,
            "incomplete": len(found) > count,
            "transactions": [shape(item) for item in found[:count]],
        }

    # -- at the ends of a message -------------------------------------------------------------------------

    async def _locate_source(self, params: Params) -> Any:
        source, destination, created_lt = self._ends(params)
        # A message's logical time lies right after that of the transaction that sent it.
        for item in self._before(source, created_lt, 0, 1):
            for sent in item.out_msgs:
                if (sent.dst_key, sent.created_lt) == (destination.key, created_lt):
                    return transaction(item)
        raise _not_located()

    async def _locate_result(self, params: Params) -> Any:
        source, destination, created_lt = self._ends(params)
        for item in self._before(destination, None, created_lt, MAX_LOCATED):
            if (item.in_msg.src_key, item.in_msg.created_lt) == (source.key, created_lt):
                return transaction(item)
        raise _not_located()

    def _ends(self, params: Params) -> tuple[AddressForm, AddressForm, int]:
        source, destination = params.address("source"), params.address("destination")
        params.raw("created_lt")
        return source, destination, params.non_negative("created_lt") or 0


def _not_located() -> Refused:
    return Refused(404, "transaction was not found")


def _place(item: Transaction) -> tuple[int, int]:
    """Order transactions of a block as its dictionaries have them: by account, then by logical time."""
    return item.key & (1 << 256) - 1, item.lt
