"""What the transactions of one block did to messages: descriptors, the queue, and what value crossed.

Owns the decision which descriptor fits which message. A message that was created and processed in the same
block never sees the queue; one that waits, or goes to the other workchain, does, and leaves it when its own
chain processes it or when the other chain has taken it. A message from nowhere was minted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cocoon_sdk.sandbox.blocks import descriptors as tlb
from cocoon_sdk.sandbox.blocks.augmented import AugmentedDict, Leaf, Touched
from cocoon_sdk.sandbox.blocks.cells import make_cell
from cocoon_sdk.sandbox.blocks.descriptors import ImportFees
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.engine import load_as_cell_slice
from cocoon_sdk.sandbox.messages import Message
from cocoon_sdk.sandbox.transactions import Transaction

_ACCOUNT_BLOCK_TAG = "0101"
_HASH_UPDATE_TAG = "01110010"
_HASH_UPDATE_REF = 1


@dataclass(slots=True)
class Traffic:
    """The messages of one block, and the queue after it. Money in nanoTON."""

    queue: AugmentedDict[int]
    in_messages: dict[int, Leaf[ImportFees]] = field(default_factory=dict)
    out_messages: dict[int, Leaf[int]] = field(default_factory=dict)
    queue_changes: dict[int, Leaf[int] | None] = field(default_factory=dict)
    touched: Touched[int] = field(default_factory=dict)
    minted: int = 0
    taken_abroad: list[int] = field(default_factory=list)

    def new_queue(self) -> AugmentedDict[int]:
        """Return the queue after the block; `touched` receives what changed in the old one."""
        return self.queue.changed(self.queue_changes, self.touched) if self.queue_changes else self.queue


def route(
    workchain: int,
    transactions: Sequence[Transaction],
    queue: AugmentedDict[int],
    delivered: Iterable[int],
    abroad: AugmentedDict[int],
    processed_here: Mapping[int, Transaction],
    created_abroad: Mapping[int, Message],
    import_lt: int,
) -> Traffic:
    """Describe the messages of a block's transactions.

    `queue` is this chain's own before the block, `delivered` the keys in it that the other chain has taken,
    `abroad` the other chain's queue; `processed_here` maps message hashes to this block's transactions, and
    `created_abroad` those created by the other chain's transactions of the same moment.
    """
    traffic = Traffic(queue)
    for key in delivered:
        leaf = queue.get(key)
        if leaf is not None:
            traffic.queue_changes[key] = None
            traffic.out_messages[key & (1 << 256) - 1] = tlb.export_deq_short(leaf.refs[0], key, import_lt)
    created: dict[int, tuple[NativeCell, Message]] = {}
    for transaction in transactions:
        for message in transaction.out_msgs:
            created[tlb.message_key(message)] = (transaction.native, message)
    for key, transaction in processed_here.items():
        _import(traffic, workchain, key, transaction, created, abroad, created_abroad)
    for key, (native, message) in created.items():
        if message.is_external_out:
            traffic.out_messages[key] = tlb.export_ext(message.native, native)
        elif key not in processed_here:
            _enqueue(traffic, workchain, key, native, message)
    return traffic


def _import(
    traffic: Traffic,
    workchain: int,
    key: int,
    transaction: Transaction,
    created: Mapping[int, tuple[NativeCell, Message]],
    abroad: AugmentedDict[int],
    created_abroad: Mapping[int, Message],
) -> None:
    native = transaction.native
    if key in created:
        sender, message = created[key]  # the sender's view of it, which is read already
        wrapped = tlb.envelope(message)
        leaf = tlb.import_imm(wrapped, native, int(message.fwd_fee))
        traffic.out_messages[key] = tlb.export_imm(wrapped, sender, leaf)
        traffic.in_messages[key] = leaf
        return
    message = transaction.in_msg
    if message.is_external_in:
        traffic.in_messages[key] = tlb.import_ext(message.native, native)
        return
    place = tlb.queue_key(message, workchain)
    waiting = traffic.queue.get(place)
    if waiting is not None:
        leaf = tlb.import_fin(waiting.refs[0], native, message)
        traffic.queue_changes[place] = None
        traffic.out_messages[key] = tlb.export_deq_imm(waiting.refs[0], leaf)
    elif key in created_abroad or abroad.get(place) is not None:
        leaf = tlb.import_fin(tlb.envelope(message, abroad=True), native, message)
        traffic.taken_abroad.append(place)
    else:
        leaf = tlb.import_imm(tlb.envelope(message), native, 0)
        traffic.minted += int(message.value)
    traffic.in_messages[key] = leaf


def _enqueue(traffic: Traffic, workchain: int, key: int, native: NativeCell, message: Message) -> None:
    receiver = (message.dst_key or 0) >> 256
    receiver = receiver - 256 if receiver > 127 else receiver
    wrapped = tlb.envelope(message, abroad=receiver != workchain)
    traffic.out_messages[key] = tlb.export_new(wrapped, native, message)
    traffic.queue_changes[tlb.queue_key(message, receiver)] = tlb.enqueued(message, wrapped)


def by_in_message(transactions: Iterable[Transaction]) -> dict[int, Transaction]:
    """Map the hashes of incoming messages to the transactions that processed them.

    Of several that processed the same external message the first stays: a block describes a message once.
    """
    found: dict[int, Transaction] = {}
    for transaction in transactions:
        found.setdefault(tlb.message_key(transaction.in_msg), transaction)
    return found


# -- account blocks -----------------------------------------------------------------------------------------


def account_blocks(transactions: Sequence[Transaction]) -> AugmentedDict[int]:
    """Return the `ShardAccountBlocks` of transactions in order of execution."""
    accounts: dict[int, list[Transaction]] = {}
    for transaction in transactions:
        accounts.setdefault(transaction.key & (1 << 256) - 1, []).append(transaction)
    leaves = {account: _account_block(account, history) for account, history in accounts.items()}
    return AugmentedDict.of(tlb.ACCOUNT_BLOCKS, leaves)


def _account_block(account: int, history: Sequence[Transaction]) -> Leaf[int]:
    kind = tlb.ACCOUNT_TRANSACTIONS
    entries = {each.lt: Leaf("", (each.native,), int(each.total_fees)) for each in history}
    root = AugmentedDict.of(kind, entries).root
    assert root is not None
    bits, refs = root.content(kind)
    update = hash_update(history[0])
    if len(history) > 1:
        old = load_as_cell_slice(update, False).to_bitstring()[8:264]
        new = load_as_cell_slice(hash_update(history[-1]), False).to_bitstring()[264:520]
        update = make_cell(_HASH_UPDATE_TAG + old + new)
    return Leaf(f"{_ACCOUNT_BLOCK_TAG}{account:0256b}{bits}", (*refs, update), root.extra)


def hash_update(transaction: Transaction) -> NativeCell:
    """Return the `HASH_UPDATE Account` of a transaction."""
    return load_as_cell_slice(transaction.native, False).prefetch_ref(_HASH_UPDATE_REF)
