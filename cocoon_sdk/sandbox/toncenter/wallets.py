"""Wallet contracts that toncenter knows by their code.

Owns the table and what each keeps at the beginning of its data. Must not know HTTP.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from cocoon_sdk.sandbox.cells import Reader, native_hash
from cocoon_sdk.sandbox.toncenter.shapes import AccountView, account_address, b64, block_id, cell_b64


@dataclass(frozen=True, slots=True)
class _Kind:
    """`fields` are the layout of the data; `state` is tonlib's own name of the type, where it has one."""

    name: str
    fields: str
    state: str = ""
    revision: int = 0


_KINDS = {
    "oM/CxIruFqJx8s/AtzgtgXVs7LEBfQd/qqs7tgL2how=": _Kind("wallet v1 r1", "seqno"),
    "1JAvzJ+tdGmPqONTIgpo2g3PcuMryy657gQhfBfTBiw=": _Kind("wallet v1 r2", "seqno"),
    "WHzHie/xyE9G7DeX5F/ICaFP9a4k8eDHpqmcydyQYf8=": _Kind("wallet v1 r3", "seqno"),
    "XJpeaMEI4YchoHxC+ZVr+zmtd+xtYktgxXbsiO7mUyk=": _Kind("wallet v2 r1", "seqno"),
    "/pUw0yQ4Uwg+8u8LTCkIwKv2+hwx6iQ6rKpb+MfXU/E=": _Kind("wallet v2 r2", "seqno"),
    "thBBpYp5gLlG6PueGY48kE0keZ/6NldOpCUcQaVm9YE=": _Kind("wallet v3 r1", "seqno id", "wallet.v3", 1),
    "hNr6RJ+Ypph3ibojI1gHK8D3bcRSQAKl0JGLmnXS1Zk=": _Kind("wallet v3 r2", "seqno id", "wallet.v3", 2),
    "ZN1UgFUixb6KnbWc6gEFzPDQh4bKeb64y3nogKjXMi0=": _Kind("wallet v4 r1", "seqno id"),
    "/rX/aCDi/w2Ug+fg1iyBfYRniftK5YDIeIZtlZ2r1cA=": _Kind("wallet v4 r2", "seqno id", "wallet.v4", 2),
    "89fKU0k97trCizgZhqhJQDy6w9LFhHea8IEGWvCsS5M=": _Kind("wallet v5 beta", "allowed seqno id"),
    "IINLe3KxEhR+Gy+0V7hOdNGjDwT3N9T2KmaOlVLSty8=": _Kind("wallet v5 r1", "allowed seqno id"),
}
"""By the hash of the code, in base64."""


def wallet_information(view: AccountView) -> dict[str, Any]:
    """Answer of getWalletInformation."""
    kind = _kind(view)
    answer: dict[str, Any] = {
        "@type": "ext.accounts.walletInformation",
        "wallet": False,
        "balance": str(int(view.balance)),
        "account_state": view.state,
        "last_transaction_id": view.last_transaction_id,
    }
    fields = {} if kind is None else _fields(view, kind)
    if kind is not None and fields:
        answer |= {"wallet": True, "wallet_type": kind.name, **fields}
    return answer


def extended_information(view: AccountView) -> dict[str, Any]:
    """Answer of getExtendedAddressInformation: wallets of the kinds that tonlib itself reads, others raw."""
    kind = _kind(view)
    fields = _fields(view, kind) if kind is not None and kind.state else {}
    if view.account.code is None:
        state: dict[str, Any] = {"@type": "uninited.accountState", "frozen_hash": b64(view.frozen_hash)}
    elif kind is not None and fields:
        wallet_id = fields["wallet_id"] & 0xFFFFFFFF
        state = {"@type": f"{kind.state}.accountState", "wallet_id": wallet_id, "seqno": fields["seqno"]}
    else:
        code, data = cell_b64(view.account.code), cell_b64(view.account.data)
        state = {"@type": "raw.accountState", "code": code, "data": data, "frozen_hash": ""}
    return {
        "@type": "fullAccountState",
        "address": account_address(view.key),
        "balance": str(int(view.balance)),
        "extra_currencies": view.currencies,
        "last_transaction_id": view.last_transaction_id,
        "block_id": block_id(view.block.id),
        "sync_utime": view.block.gen_utime,
        "account_state": state,
        "revision": kind.revision if kind is not None and fields else 0,
    }


def _kind(view: AccountView) -> _Kind | None:
    code = view.account.code
    return None if code is None else _KINDS.get(base64.b64encode(native_hash(code)).decode("ascii"))


def _fields(view: AccountView, kind: _Kind) -> dict[str, Any]:
    """Read the beginning of a wallet's data; empty when it is too short."""
    if view.account.data is None:
        return {}
    reader = Reader.of(view.account.data)
    found: dict[str, Any] = {}
    try:
        for field in kind.fields.split():
            if field == "allowed":
                found["is_signature_allowed"] = reader.bit()
            elif field == "seqno":
                found["seqno"] = reader.uint(32)
            else:
                found["wallet_id"] = reader.sint(32)
    except RuntimeError:  # the engine's word for reading past the end
        return {}
    return found
