"""In- and out-message descriptors: where every message of a block came from and where it went.

Owns the TL-B of `InMsg`, `OutMsg`, `MsgEnvelope` and `EnqueuedMsg` with the augmentations of their
dictionaries. Which form fits which message is `routing.py`'s decision.
"""

from __future__ import annotations

from cocoon_sdk.sandbox.blocks.augmented import Augmentation, Leaf
from cocoon_sdk.sandbox.blocks.cells import coins, currencies, hash_bits, make_cell, read_coins
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.messages import Message

ImportFees = tuple[int, int]
"""Fees collected and value imported, in nanoTON."""
_ADDRESS_BITS = 256
_HERE = "01100000"  # interm_addr_regular with 96 destination bits: the message is where it goes
_AT_SENDER = "00000000"


def _read_import_fees(bits: str, position: int) -> tuple[ImportFees, int]:
    fees, position = read_coins(bits, position)
    value, position = read_coins(bits, position)
    return (fees, value), position + 1


def _read_currencies(bits: str, position: int) -> tuple[int, int]:
    amount, position = read_coins(bits, position)
    return amount, position + 1


IN_MESSAGES: Augmentation[ImportFees] = Augmentation(
    key_bits=256,
    zero=(0, 0),
    write=lambda extra: coins(extra[0]) + currencies(extra[1]),
    read=_read_import_fees,
    combine=lambda one, other: (one[0] + other[0], one[1] + other[1]),
)
"""`InMsgDescr`."""
OUT_MESSAGES: Augmentation[int] = Augmentation(
    key_bits=256, zero=0, write=currencies, read=_read_currencies, combine=int.__add__
)
"""`OutMsgDescr`; the extra is the value exported in nanoTON."""
ACCOUNT_BLOCKS: Augmentation[int] = OUT_MESSAGES
"""`ShardAccountBlocks`; the extra is the fees of transactions in nanoTON."""
ACCOUNT_TRANSACTIONS: Augmentation[int] = Augmentation(
    key_bits=64, zero=0, write=currencies, read=_read_currencies, combine=int.__add__
)
"""The transactions of one account block; the extra is their fees in nanoTON."""


def message_key(message: Message) -> int:
    """Return the key of a message's descriptor: its hash."""
    return int(message.native.get_hash(), 16)


def total_value(message: Message) -> int:
    """NanoTON that travels with an internal message: its value and the fees that come with it."""
    return int(message.value) + int(message.ihr_fee) + int(message.fwd_fee)


def envelope(message: Message, *, abroad: bool = False) -> NativeCell:
    """Return the `MsgEnvelope`; `abroad` when the message goes to the other workchain."""
    start = _AT_SENDER if abroad else _HERE
    return make_cell(f"0100{start}{_HERE}{coins(int(message.fwd_fee))}", message.native)


def queue_key(message: Message, workchain: int) -> int:
    """Return the key in the sender's queue: the next hop's workchain and prefix, and the hash."""
    dst = (message.dst_key or 0) & (1 << _ADDRESS_BITS) - 1
    next_hop = (workchain & 0xFFFF_FFFF) << 64 | dst >> (_ADDRESS_BITS - 64)
    return next_hop << _ADDRESS_BITS | message_key(message)


def enqueued(message: Message, wrapped: NativeCell) -> Leaf[int]:
    """Return the `EnqueuedMsg` for the queue."""
    return Leaf(f"{message.created_lt:064b}", (wrapped,), message.created_lt)


# -- in ---------------------------------------------------------------------------------------------------


def import_ext(message: NativeCell, transaction: NativeCell) -> Leaf[ImportFees]:
    """Return `msg_import_ext`: a message from outside of the network."""
    return Leaf("000", (message, transaction), (0, 0))


def import_imm(wrapped: NativeCell, transaction: NativeCell, fwd_fee: int) -> Leaf[ImportFees]:
    """Return `msg_import_imm`: a message processed in the block that it was created in.

    Minted messages have it too, without a matching out-message, as in the masterchain's own minting.
    """
    return Leaf("011" + coins(fwd_fee), (wrapped, transaction), (fwd_fee, 0))


def import_fin(wrapped: NativeCell, transaction: NativeCell, message: Message) -> Leaf[ImportFees]:
    """Return `msg_import_fin`: a message taken from a queue."""
    fee = int(message.fwd_fee)
    return Leaf("100" + coins(fee), (wrapped, transaction), (fee, total_value(message)))


# -- out --------------------------------------------------------------------------------------------------


def export_ext(message: NativeCell, transaction: NativeCell) -> Leaf[int]:
    """Return `msg_export_ext`: a message that leaves the network."""
    return Leaf("000", (message, transaction), 0)


def export_imm(wrapped: NativeCell, transaction: NativeCell, reimport: Leaf[ImportFees]) -> Leaf[int]:
    """Return `msg_export_imm`: a message processed in the block that it was created in."""
    return Leaf("010", (wrapped, transaction, make_cell(reimport.bits, *reimport.refs)), 0)


def export_new(wrapped: NativeCell, transaction: NativeCell, message: Message) -> Leaf[int]:
    """Return `msg_export_new`: a message that went into the queue."""
    return Leaf("001", (wrapped, transaction), total_value(message))


def export_deq_imm(wrapped: NativeCell, reimport: Leaf[ImportFees]) -> Leaf[int]:
    """Return `msg_export_deq_imm`: a message that left the queue because its own chain processed it."""
    return Leaf("100", (wrapped, make_cell(reimport.bits, *reimport.refs)), 0)


def export_deq_short(wrapped: NativeCell, key: int, import_lt: int) -> Leaf[int]:
    """Return `msg_export_deq_short`: a message that left the queue because the other chain took it."""
    next_hop = f"{key >> _ADDRESS_BITS:096b}"
    return Leaf(f"1101{hash_bits(wrapped)}{next_hop}{import_lt:064b}", (), 0)
