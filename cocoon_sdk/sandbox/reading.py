"""Transactions read back from their cells: from blocks on disk, or as another process sent them.

Owns taking a raw transaction apart as far as `Transaction` wants it, and finding which one caused which. Must
not know where the cells come from.
"""

from __future__ import annotations

from collections.abc import Iterable

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.cells import NativeCell, Reader
from cocoon_sdk.sandbox.loop import out_messages
from cocoon_sdk.sandbox.transactions import Transaction

_BITS_BEFORE_LT = 4 + 256
_BITS_OF_PREVIOUS = 256 + 64
_STATUS_BITS = 2 + 2


def read_transactions(
    cells: Iterable[tuple[int, NativeCell]],
    seqno: int = 0,
    senders: dict[str, Transaction] | None = None,
) -> list[Transaction]:
    """Read transactions, given as account keys and cells; return them in order of time.

    `senders` maps hashes of messages to the transactions that sent them; it receives those of these, and
    tells their parents. Raises `MalformedError`.
    """
    known = {} if senders is None else senders
    try:
        ordered = sorted(((_lt(cell), key, cell) for key, cell in cells), key=lambda item: item[0])
        return [_read(key, cell, lt, seqno, known) for lt, key, cell in ordered]
    except RuntimeError as error:  # the engine's word for reading past the end
        raise MalformedError("a transaction cannot be read", why=str(error)[:80]) from error


def _lt(cell: NativeCell) -> int:
    reader = Reader.of(cell)
    reader.skip(_BITS_BEFORE_LT)
    return reader.uint(64)


def _read(key: int, cell: NativeCell, lt: int, seqno: int, senders: dict[str, Transaction]) -> Transaction:
    reader = Reader.of(cell)
    reader.skip(_BITS_BEFORE_LT + 64 + _BITS_OF_PREVIOUS)
    now, count = reader.uint(32), reader.uint(15)
    reader.skip(_STATUS_BITS)
    messages = reader.ref()
    total_fees = reader.coins()
    holder = Reader.of(messages)
    if not holder.bit():
        raise MalformedError("a transaction cannot be read", why="it has no incoming message")
    incoming = holder.ref()
    transaction = Transaction(
        cell,
        key=key,
        lt=lt,
        now=now,
        total_fees=total_fees,
        in_message=incoming,
        out_messages=out_messages(messages, count) if count else (),
        parent=senders.pop(incoming.get_hash(), None),
        seqno=seqno,
    )
    for message in transaction.native_out_messages:
        senders[message.get_hash()] = transaction
    return transaction
