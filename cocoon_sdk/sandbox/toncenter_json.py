"""Accounts, blocks and transactions as toncenter v2 shows them in JSON.

Owns the shapes of answers. Must not know HTTP. Amounts and logical times are decimal strings, hashes and
cells base64, as toncenter has them. What the `Chain` protocol does not tell is left at toncenter's neutral
value: block hashes are zero and frozen hashes empty.
"""

from __future__ import annotations

import base64
from typing import Any

from pytoniq.contract.wallets import wallet
from pytoniq_core import Address, Cell
from pytoniq_core.tlb.transaction import (
    ExternalMsgInfo,
    ExternalOutMsgInfo,
    InternalMsgInfo,
    MessageAny,
    Transaction,
)

from cocoon_sdk.chain.base import AccountState, AccountStatus, ChainHead, TransactionRecord
from cocoon_sdk.chain.boc import encode_boc_base64

MASTERCHAIN = -1
WHOLE_SHARD = -(1 << 63)

_STATES = {
    AccountStatus.NONEXIST: "uninitialized",
    AccountStatus.UNINIT: "uninitialized",
    AccountStatus.ACTIVE: "active",
    AccountStatus.FROZEN: "frozen",
}


def b64(data: bytes) -> str:
    """Standard base64 text."""
    return base64.b64encode(data).decode("ascii")


def block_id(seqno: int) -> dict[str, Any]:
    """Identify a masterchain block."""
    return {
        "@type": "ton.blockIdExt",
        "workchain": MASTERCHAIN,
        "shard": str(WHOLE_SHARD),
        "seqno": seqno,
        "root_hash": b64(bytes(32)),
        "file_hash": b64(bytes(32)),
    }


def masterchain_info(head: ChainHead) -> dict[str, Any]:
    """Answer of getMasterchainInfo."""
    return {
        "@type": "blocks.masterchainInfo",
        "last": block_id(head.seqno),
        "state_root_hash": b64(bytes(32)),
        "init": block_id(0),
    }


def block_header(head: ChainHead, global_id: int) -> dict[str, Any]:
    """Answer of getBlockHeader; a masterchain block never splits or merges."""
    splits = ("after_merge", "after_split", "before_split", "want_merge", "want_split")
    return {
        "@type": "blocks.header",
        "id": block_id(head.seqno),
        "global_id": global_id,
        **dict.fromkeys(splits, False),
        "gen_utime": head.now,
        "prev_blocks": [block_id(head.seqno - 1)] if head.seqno else [],
    }


def account_state(state: AccountState) -> str:
    """Answer of getAddressState."""
    return _STATES[state.status]


def transaction_id(lt: int, hash_: bytes) -> dict[str, Any]:
    """Name a transaction; (0, zeros) stands for none."""
    return {"@type": "internal.transactionId", "lt": str(lt), "hash": b64(hash_)}


def address_information(state: AccountState, head: ChainHead) -> dict[str, Any]:
    """Answer of getAddressInformation."""
    return {
        "@type": "raw.fullAccountState",
        "balance": str(int(state.balance)),
        "extra_currencies": [],
        "code": _optional(state.code),
        "data": _optional(state.data),
        "last_transaction_id": transaction_id(state.last_lt, state.last_hash),
        "block_id": block_id(head.seqno),
        "frozen_hash": "",
        "sync_utime": head.now,
        "state": account_state(state),
    }


def extended_address_information(state: AccountState, head: ChainHead) -> dict[str, Any]:
    """Answer of getExtendedAddressInformation, without the parsing of known wallets."""
    inner: dict[str, Any] = {"@type": "uninited.accountState", "frozen_hash": ""}
    if state.status is AccountStatus.ACTIVE:
        code, data = _optional(state.code), _optional(state.data)
        inner = {"@type": "raw.accountState", "code": code, "data": data, "frozen_hash": ""}
    return {
        "@type": "fullAccountState",
        "address": _account_address(state.address),
        "balance": str(int(state.balance)),
        "extra_currencies": [],
        "last_transaction_id": transaction_id(state.last_lt, state.last_hash),
        "block_id": block_id(head.seqno),
        "sync_utime": head.now,
        "account_state": inner,
        "revision": 0,
    }


_WALLETS = {
    wallet.WALLET_V3_R1_CODE.hash: "wallet v3 r1",
    wallet.WALLET_V3_R2_CODE.hash: "wallet v3 r2",
    wallet.WALLET_V4_R2_CODE.hash: "wallet v4 r2",
}
"""Wallets by code hash whose data begins with seqno and wallet id."""


def wallet_information(state: AccountState) -> dict[str, Any]:
    """Answer of getWalletInformation: v3 and v4 wallets with their seqno and wallet id."""
    name = _WALLETS.get(state.code.hash, "") if state.code is not None else ""
    answer: dict[str, Any] = {
        "wallet": bool(name),
        "balance": str(int(state.balance)),
        "extra_currencies": [],
        "account_state": account_state(state),
        "last_transaction_id": transaction_id(state.last_lt, state.last_hash),
    }
    if name and state.data is not None:
        data = state.data.begin_parse()
        answer |= {"wallet_type": name, "seqno": data.load_uint(32), "wallet_id": data.load_uint(32)}
    return answer


# -- transactions -------------------------------------------------------------------------------------


def transaction(record: TransactionRecord) -> dict[str, Any]:
    """Return one item of getTransactions. Fees include what outgoing messages paid, as toncenter counts."""
    parsed = Transaction.deserialize(record.cell.begin_parse())
    incoming, outgoing = _message_cells(record.cell)
    out_msgs = [message(cell) for cell in outgoing]
    storage = getattr(parsed.description, "storage_ph", None)
    storage_fee = int(storage.storage_fees_collected) if storage is not None else 0
    fee = int(parsed.total_fees.grams)
    fee += sum(int(item["fwd_fee"]) + int(item["ihr_fee"]) for item in out_msgs)
    answer = {
        "@type": "raw.transaction",
        "address": _account_address(record.address),
        "account": record.address.to_str(is_user_friendly=False),
        "utime": record.now,
        "data": encode_boc_base64(record.cell),
        "transaction_id": transaction_id(record.lt, record.hash),
        "fee": str(fee),
        "storage_fee": str(storage_fee),
        "other_fee": str(fee - storage_fee),
        "out_msgs": out_msgs,
    }
    if incoming is not None:
        answer["in_msg"] = message(incoming)
    return answer


def message(cell: Cell) -> dict[str, Any]:
    """Describe one message cell."""
    parsed = MessageAny.deserialize(cell.begin_parse())
    info = parsed.info
    internal = info if isinstance(info, InternalMsgInfo) else None
    init = encode_boc_base64(parsed.init.serialize()) if parsed.init is not None else ""
    source = "" if isinstance(info, ExternalMsgInfo) else _friendly(info.src)
    destination = "" if isinstance(info, ExternalOutMsgInfo) else _friendly(info.dest)
    comment = _comment(parsed.body)
    if comment is None:
        data = {"@type": "msg.dataRaw", "body": encode_boc_base64(parsed.body), "init_state": init}
        text = b64(parsed.body.get_data_bytes())
    else:
        data = {"@type": "msg.dataText", "text": b64(comment.encode("utf-8"))}
        text = comment
    return {
        "@type": "raw.message",
        "hash": b64(cell.hash),
        "source": source,
        "destination": destination,
        "value": str(internal.value_coins if internal else 0),
        "extra_currencies": [],
        "fwd_fee": str(internal.fwd_fee if internal else 0),
        "ihr_fee": str(internal.ihr_fee if internal else 0),
        "created_lt": str(getattr(info, "created_lt", 0)),
        "body_hash": b64(parsed.body.hash),
        "msg_data": data,
        "message": text,
    }


def _message_cells(cell: Cell) -> tuple[Cell | None, list[Cell]]:
    holder = cell.refs[0].begin_parse()
    incoming = holder.load_ref() if holder.load_bit() else None
    outgoing = holder.load_dict(15, value_deserializer=lambda source: source.load_ref()) or {}
    return incoming, [outgoing[index] for index in sorted(outgoing)]


def _comment(body: Cell) -> str | None:
    """Read a text comment: operation 0, then UTF-8 in a chain of cells. None for anything else."""
    if len(body.bits) < 32 or len(body.bits) % 8 or body.get_data_bytes()[:4] != bytes(4):
        return None
    data, rest = body.get_data_bytes()[4:], body
    while len(rest.refs) == 1 and len(data) < 1 << 16:
        rest = rest.refs[0]
        data += rest.get_data_bytes()
    try:
        return str(data.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def _friendly(address: Any) -> str:
    return str(address.to_str()) if isinstance(address, Address) else ""


def _account_address(address: Address) -> dict[str, Any]:
    return {"@type": "accountAddress", "account_address": address.to_str()}


def _optional(cell: Cell | None) -> str:
    return "" if cell is None else encode_boc_base64(cell)
