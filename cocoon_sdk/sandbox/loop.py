"""The hot loop: execute one queued message and put what it sent into the queue.

Owns the book-keeping of a single step: logical time, account, history, fees, outgoing messages. It reads
only the fields it needs and leaves every cell on the engine's side; what to execute next, and when, is the
blockchain's business.
"""

from __future__ import annotations

from cocoon_sdk.sandbox.accounts import EMPTY_ACCOUNT
from cocoon_sdk.sandbox.cells import STD_ADDRESS_BITS, NativeCell, read_key
from cocoon_sdk.sandbox.engine import PyDict, load_as_cell_slice
from cocoon_sdk.sandbox.errors import EmulationError
from cocoon_sdk.sandbox.state import Log, QueuedMessage, State
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.sandbox.tvm import Tvm

_BITS_BEFORE_OUT_COUNT = 4 + 256 + 64 + 256 + 64 + 32
_STATUS_BITS = 2 + 2
_OUT_COUNT_AND_STATUS_BITS = 15 + _STATUS_BITS
_INTERNAL_FLAG_BITS = 3  # ihr_disabled, bounce, bounced
_STD_ADDRESS_TAG = "4"  # addr_std, not anycast
_NO_HISTORY = Log()


def execute(tvm: Tvm, state: State, item: QueuedMessage) -> Transaction:
    """Execute one message at the next logical time; nothing changes when it raises.

    Raises `ExternalRejectedError` and `EmulationError`.
    """
    key = item.dst_key
    account, transaction = attempt(tvm, state, item)
    routed = [_route(message, key, transaction) for message in transaction.native_out_messages]
    state.queue.extend(message for message in routed if message is not None)
    state.accounts[key] = account
    state.histories[key] = state.histories.get(key, _NO_HISTORY).append(transaction)
    state.log = state.log.append(transaction)
    state.lt = transaction.lt + len(routed)  # outgoing messages took lt+1, lt+2, ...
    state.fees += transaction.total_fees + item.fwd_fee
    return transaction


def attempt(tvm: Tvm, state: State, item: QueuedMessage) -> tuple[NativeCell, Transaction]:
    """Execute one message without keeping anything; return the receiver's new account and the transaction.

    Raises `ExternalRejectedError` and `EmulationError`.
    """
    lt = state.lt + 1
    before = state.accounts.get(item.dst_key, EMPTY_ACCOUNT)
    account, native = tvm.execute(before, item.native, state.now, lt)
    source = load_as_cell_slice(native, False)
    source.advance(_BITS_BEFORE_OUT_COUNT)
    out_count = int(source.load_uint(_OUT_COUNT_AND_STATUS_BITS)) >> _STATUS_BITS
    messages = source.fetch_ref()
    return account, Transaction(
        native,
        key=item.dst_key,
        lt=lt,
        now=state.now,
        total_fees=int(source.load_var_integer_str(16, False)),
        in_message=item.native,
        out_messages=out_messages(messages, out_count) if out_count else (),
        parent=item.parent,
        seqno=state.seqno + 1,
    )


def out_messages(messages: NativeCell, count: int) -> tuple[NativeCell, ...]:
    """Return the outgoing messages of a transaction, from the cell that holds its messages."""
    source = load_as_cell_slice(messages, False)
    source.advance_refs(1)  # the incoming message
    root = load_as_cell_slice(source.fetch_ref(), False)
    if count == 1:  # mostly; the dictionary is then one edge, and its reference the message
        return (root.fetch_ref(),)
    dictionary = PyDict(15, False, root)
    return tuple(dictionary.lookup_ref_str(str(index), 15, False) for index in range(count))


def _route(message: NativeCell, src_key: int, sender: Transaction) -> QueuedMessage | None:
    """Read receiver and forward fee of an outgoing message; None when it leaves the chain."""
    source = load_as_cell_slice(message, False)
    if source.load_uint(1) == "1":
        return None
    source.advance(_INTERNAL_FLAG_BITS + STD_ADDRESS_BITS)
    if source.load_uint(3) != _STD_ADDRESS_TAG:
        raise EmulationError(
            "a message cannot be routed", why="its receiver is an anycast or variable-length address"
        )
    dst_key = read_key(source)
    source.load_var_integer_str(16, False)  # value
    if source.load_uint(1) == "1":
        source.advance_refs(1)  # extra currencies
    source.load_var_integer_str(16, False)  # ihr fee: the receiver's, not a validator's
    return QueuedMessage(message, dst_key, src_key, int(source.load_var_integer_str(16, False)), sender)
