"""One row of the table of moments: what a chain is besides its blocks.

Owns turning a blockchain's present into a row and a row back into a state. Must not know SQLite.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pytoniq_core import begin_cell

from cocoon_sdk.sandbox.blocks import BlockProducer
from cocoon_sdk.sandbox.blocks.producer import Delivered
from cocoon_sdk.sandbox.cells import NativeCell, from_native, native_from_boc, to_native
from cocoon_sdk.sandbox.state import Log, QueuedMessage, State
from cocoon_sdk.sandbox.transactions import Transaction

NOW = ""
"""Name of the row that is the present."""


class Row(NamedTuple):
    """A moment. Money is decimal text, since it may exceed SQLite's 64 bits; lists are JSON."""

    name: str
    seqno: int
    now: int
    lt: int
    batches: int
    held: int
    minted: str
    fees: str
    ahead: int
    queue: str
    libraries: str
    delivered_keys: str

    @property
    def delivered(self) -> Delivered:
        """What the producer has to know of the queues."""
        base, master = json.loads(self.delivered_keys)
        return frozenset(map(int, base)), frozenset(map(int, master))


COLUMNS = ", ".join(Row._fields)


def row_of(name: str, producer: BlockProducer, offset: int) -> Row:
    """Describe the present."""
    chain = producer.blockchain
    queue = [
        [item.native.to_boc(), str(item.dst_key), _text(item.src_key), str(item.fwd_fee), _lt(item.parent)]
        for item in chain.queued
    ]
    return Row(
        name=name,
        seqno=producer.archive.head.seqno,
        now=chain.now,
        lt=chain.lt,
        batches=chain.seqno,
        held=int(chain.held),
        minted=str(int(chain.minted)),
        fees=str(int(chain.fees_collected)),
        ahead=offset,
        queue=json.dumps(queue),
        libraries=json.dumps([to_native(cell).to_boc() for cell in chain.libraries]),
        delivered_keys=json.dumps([[str(key) for key in sorted(keys)] for keys in producer.delivered]),
    )


def state_of(row: Row, accounts: Mapping[int, NativeCell], transactions: Sequence[Transaction]) -> State:
    """Build the state of a moment from its accounts and all transactions until then, oldest first."""
    state = State(
        now=row.now,
        lt=row.lt,
        seqno=row.batches,
        held=bool(row.held),
        minted=int(row.minted),
        fees=int(row.fees),
        accounts=dict(accounts),
        libraries=tuple(from_native(_cell(text)) for text in json.loads(row.libraries)),
    )
    by_lt: dict[int, Transaction] = {}
    for transaction in transactions:
        state.log = state.log.append(transaction)
        history = state.histories.get(transaction.key)
        state.histories[transaction.key] = (Log() if history is None else history).append(transaction)
        by_lt[transaction.lt] = transaction
    for key, history in state.histories.items():
        if key not in state.accounts:
            # It does not exist (any more), so no state has it; its next transaction names its last one.
            state.accounts[key] = _vanished(history.newest_first(limit=1)[0])
    state.queue = deque(
        QueuedMessage(_cell(boc), int(dst), None if src is None else int(src), int(fee), by_lt.get(parent))
        for boc, dst, src, fee, parent in json.loads(row.queue)
    )
    return state


def _vanished(last: Transaction) -> NativeCell:
    """Return the `ShardAccount` that the engine leaves of an account that does not exist."""
    account = begin_cell().store_ref(begin_cell().store_bit(0).end_cell())
    return to_native(account.store_bytes(last.hash).store_uint(last.lt, 64).end_cell())


def _cell(text: Any) -> NativeCell:
    return native_from_boc(base64.b64decode(text))


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _lt(transaction: Transaction | None) -> int:
    return 0 if transaction is None else transaction.lt
