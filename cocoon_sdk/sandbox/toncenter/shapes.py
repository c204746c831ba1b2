"""Blocks, accounts and cells as toncenter v2 shows them in JSON.

Owns the small shapes that many answers share, and those of accounts. Must not know HTTP nor how a node finds
things. Amounts and logical times are decimal strings, hashes and cells base64, as toncenter has them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.sandbox.accounts import ShardAccount
from cocoon_sdk.sandbox.blocks import BlockId, MasterBlock
from cocoon_sdk.sandbox.cells import NativeCell, Reader, native_dict
from cocoon_sdk.sandbox.node_getters import account_at
from cocoon_sdk.sandbox.toncenter.addresses import friendly_address
from cocoon_sdk.types import Nano

_STATES = {
    AccountStatus.NONEXIST: "uninitialized",
    AccountStatus.UNINIT: "uninitialized",
    AccountStatus.ACTIVE: "active",
    AccountStatus.FROZEN: "frozen",
}
_MAX_CURRENCIES = 256
_CURRENCY_ID_BITS = 32
_BYTE_LENGTH_BITS = 5  # of `VarUInteger 32`
_HAS_INDEX, _HAS_CHECKSUM, _REF_SIZE = 0x80, 0x40, 0x07  # of a bag's flags


def b64(data: bytes) -> str:
    """Standard base64 text."""
    return base64.b64encode(data).decode("ascii")


def cell_b64(native: NativeCell | None) -> str:
    """A bag with one root as base64; empty for None."""
    return "" if native is None else b64(_plain(base64.b64decode(native.to_boc())))


def _plain(bag: bytes) -> bytes:
    """Take index and checksum out of the engine's bag: not every old client reads the former."""
    flags, ref_size, offset_size = bag[4], bag[4] & _REF_SIZE, bag[5]
    header = 6 + 4 * ref_size + offset_size  # numbers of cells, roots and absent cells, size, the root
    count = int.from_bytes(bag[6 : 6 + ref_size], "big")
    cells = header + (count * offset_size if flags & _HAS_INDEX else 0)
    end = len(bag) - (4 if flags & _HAS_CHECKSUM else 0)
    return bag[:4] + bytes([ref_size]) + bag[5:header] + bag[cells:end]


def tvm_cell(native: NativeCell | None) -> dict[str, Any]:
    """One cell as tonlib's `tvm.cell`."""
    return {"@type": "tvm.cell", "bytes": cell_b64(native)}


def block_id(block: BlockId) -> dict[str, Any]:
    """Identify a block."""
    return {
        "@type": "ton.blockIdExt",
        "workchain": block.workchain,
        "shard": str(block.shard),
        "seqno": block.seqno,
        "root_hash": b64(block.root_hash),
        "file_hash": b64(block.file_hash),
    }


def transaction_id(lt: int, hash_: bytes) -> dict[str, Any]:
    """Name a transaction; (0, zeros) stands for none."""
    return {"@type": "internal.transactionId", "lt": str(lt), "hash": b64(hash_)}


def account_address(key: int | None) -> dict[str, Any]:
    """Name an account; empty for None."""
    return {"@type": "accountAddress", "account_address": friendly_address(key)}


def extra_currencies(reader: Reader) -> list[dict[str, Any]]:
    """Read `ExtraCurrencyCollection`, at most its first 256 entries."""
    if not reader.bit():
        return []
    found: list[dict[str, Any]] = []
    entries = native_dict(reader.ref(), _CURRENCY_ID_BITS)

    def add(key: Any, value: Any) -> bool:
        amount = Reader(value)
        units = amount.uint(8 * amount.uint(_BYTE_LENGTH_BITS))
        found.append(
            {"@type": "extraCurrency", "id": int(key.load_uint(_CURRENCY_ID_BITS)), "amount": str(units)}
        )
        return len(found) < _MAX_CURRENCIES

    entries.map(add)
    return found


@dataclass(frozen=True)
class AccountView:
    """One account in the state after a masterchain block; a missing one reads as nonexistent."""

    key: int
    block: MasterBlock

    @cached_property
    def account(self) -> ShardAccount:
        """The fields of the account."""
        return account_at(self.block, self.key)

    @property
    def balance(self) -> Nano:
        """NanoTON held."""
        return self.account.balance

    @property
    def state(self) -> str:
        """Answer of getAddressState."""
        return _STATES[self.account.status]

    @cached_property
    def currencies(self) -> list[dict[str, Any]]:
        """Extra currencies held."""
        return self._rest[0]

    @cached_property
    def frozen_hash(self) -> bytes:
        """Hash of the state of a frozen account; empty for others."""
        return self._rest[1]

    @property
    def last_transaction_id(self) -> dict[str, Any]:
        """Name of the newest transaction."""
        return transaction_id(self.account.last_lt, self.account.last_hash)

    @cached_property
    def _rest(self) -> tuple[list[dict[str, Any]], bytes]:
        """Read what `ShardAccount` steps over."""
        reader = Reader.of(Reader.of(self.account.native).ref())
        if not reader.bit():
            return [], b""
        reader.address_key()
        reader.var_uint(7), reader.var_uint(7)
        if reader.uint(3) == 1:
            reader.skip(256)
        reader.skip(32)
        if reader.bit():
            reader.coins()
        reader.skip(64)
        reader.coins()
        currencies = extra_currencies(reader)
        frozen = not reader.bit() and reader.bit()
        return currencies, reader.uint(256).to_bytes(32, "big") if frozen else b""

    def information(self) -> dict[str, Any]:
        """Answer of getAddressInformation."""
        return {
            "@type": "raw.fullAccountState",
            "balance": str(int(self.balance)),
            "extra_currencies": self.currencies,
            "last_transaction_id": self.last_transaction_id,
            "block_id": block_id(self.block.id),
            "code": cell_b64(self.account.code),
            "data": cell_b64(self.account.data),
            "frozen_hash": b64(self.frozen_hash),
            "sync_utime": self.block.gen_utime,
            "state": self.state,
            "suspended": False,
        }
