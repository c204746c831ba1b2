"""Transactions and messages as toncenter v2 shows them in JSON.

Owns two dialects: that of getTransactions (addresses as text, a readable `message`) and tonlib's own, which
getTransactionsStd and getBlockTransactionsExt speak. Must not know HTTP.
"""

from __future__ import annotations

from typing import Any

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.cells import NativeCell, NativeSlice, Reader, native_hash, native_slice
from cocoon_sdk.sandbox.messages import Message
from cocoon_sdk.sandbox.toncenter.addresses import address_of_key, friendly_address
from cocoon_sdk.sandbox.toncenter.shapes import (
    account_address,
    b64,
    cell_b64,
    extra_currencies,
    transaction_id,
)
from cocoon_sdk.sandbox.transactions import Transaction

ENCRYPTED_COMMENT_OP = 0x2167DA4B
SHORT_ID_MODE = 7
"""Which fields `blocks.shortTxId` carries: account, logical time and hash."""
_MAX_TEXT_BYTES = 1 << 17


def transaction(item: Transaction) -> dict[str, Any]:
    """Return one item of getTransactions."""
    account = address_of_key(item.key).raw_form(upper=True)
    return {**_transaction(item, "ext.transaction", _message), "account": account}


def transaction_ext(item: Transaction) -> dict[str, Any]:
    """Return one item of getBlockTransactionsExt."""
    account = address_of_key(item.key).raw_form(upper=True)
    return {**_transaction(item, "raw.transactionExt", _message_std), "account": account}


def transaction_std(item: Transaction) -> dict[str, Any]:
    """Return one item of getTransactionsStd."""
    return _transaction(item, "raw.transaction", _message_std)


def short_transaction_id(item: Transaction) -> dict[str, Any]:
    """Return one item of getBlockTransactions."""
    return {
        "@type": "blocks.shortTxId",
        "mode": SHORT_ID_MODE,
        "account": address_of_key(item.key).raw_form(),
        "lt": str(item.lt),
        "hash": b64(item.hash),
    }


def _transaction(item: Transaction, kind: str, message: Any) -> dict[str, Any]:
    # As tonlib counts: the forward fees of outgoing messages are part of what the transaction cost.
    fee = int(item.cost)
    storage_fee = 0 if item.storage is None else int(item.storage.collected)
    return {
        "@type": kind,
        "address": account_address(item.key),
        "utime": item.now,
        "data": cell_b64(item.native),
        "transaction_id": transaction_id(item.lt, item.hash),
        "fee": str(fee),
        "storage_fee": str(storage_fee),
        "other_fee": str(fee - storage_fee),
        "in_msg": message(item.in_msg),
        "out_msgs": [message(sent) for sent in item.out_msgs],
    }


def _message(view: Message) -> dict[str, Any]:
    data, text = _content(view)
    return {
        **_header(view, "ext.message", data),
        "source": friendly_address(view.src_key),
        "destination": friendly_address(view.dst_key),
        "message": text,
    }


def _message_std(view: Message) -> dict[str, Any]:
    return {
        **_header(view, "raw.message", _content(view)[0]),
        "source": account_address(view.src_key),
        "destination": account_address(view.dst_key),
    }


def _header(view: Message, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": kind,
        "hash": b64(view.hash),
        "source": "",
        "destination": "",
        "value": str(int(view.value)),
        "extra_currencies": _currencies(view) if view.is_internal else [],
        "fwd_fee": str(int(view.fwd_fee)),
        "ihr_fee": "0",
        "created_lt": str(view.created_lt),
        "body_hash": b64(native_hash(view.native_body)),
        "msg_data": data,
    }


def _currencies(view: Message) -> list[dict[str, Any]]:
    reader = Reader.of(view.native)
    reader.skip(4)
    reader.address_key()
    reader.address_key()
    reader.coins()
    return extra_currencies(reader)


def _content(view: Message) -> tuple[dict[str, Any], str]:
    """Describe the body: a comment as text, anything else as a cell. Also in readable form."""
    body = view.native_body
    if view.op in (0, ENCRYPTED_COMMENT_OP):
        text = _text(native_slice(body))
        if text is not None:
            kind = "msg.dataText" if view.op == 0 else "msg.dataEncryptedText"
            return {"@type": kind, "text": b64(text)}, text.decode("utf-8", "replace")
    data = {"@type": "msg.dataRaw", "body": cell_b64(body), "init_state": cell_b64(view.native_init)}
    first = _root_bytes(body)
    # The line break is the service's own, kept for old clients.
    return data, f"{b64(first)}\n" if first else ""


def _root_bytes(cell: NativeCell) -> bytes:
    """Return the data of a cell without its references, padded with zero bits."""
    source = native_slice(cell)
    bits = source.bits
    return int(source.to_bitstring() or "0", 2).__lshift__(-bits % 8).to_bytes((bits + 7) // 8, "big")


def _text(source: NativeSlice) -> bytes | None:
    """Read what follows the operation of a comment, through the chain of cells; None if it is no text."""
    source.advance(32)
    digits: list[str] = []
    total = 0
    while True:
        part = source.to_bitstring()
        total += len(part)
        if total > 8 * _MAX_TEXT_BYTES:
            return None
        digits.append(part)
        if not source.refs:
            break
        try:
            source = native_slice(source.prefetch_ref(0))
        except (RuntimeError, MalformedError):
            return None
    bits = "".join(digits)
    return None if len(bits) % 8 else int(bits or "0", 2).to_bytes(len(bits) // 8, "big")
