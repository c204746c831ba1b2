"""What an external message would cost, in the terms of toncenter's estimateFee.

Owns the estimate: the transaction is executed for real on the present state and thrown away; what needs no
execution (importing the message, rent) is computed from the network's prices, so that it is told for rejected
messages too. Must not know HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytoniq_core import Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.sandbox.accounts import ShardAccount
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.cells import NativeCell, Reader, key_address, native_dict, native_slice, to_native
from cocoon_sdk.sandbox.config import NetworkConfig
from cocoon_sdk.sandbox.messages import state_init
from cocoon_sdk.sandbox.transactions import Transaction

_MASTERCHAIN = 0xFF
_STORAGE_PRICES, _MSG_PRICES = 18, {True: 24, False: 25}
_FIXED_POINT_BITS = 16


@dataclass(frozen=True, slots=True)
class Fees:
    """Of one transaction, in nanoTON: import, rent, gas, and forward fees of all it sends."""

    in_fwd_fee: int = 0
    storage_fee: int = 0
    gas_fee: int = 0
    fwd_fee: int = 0

    def json(self) -> dict[str, Any]:
        """As tonlib's `fees`."""
        return {
            "@type": "fees",
            "in_fwd_fee": self.in_fwd_fee,
            "storage_fee": self.storage_fee,
            "gas_fee": self.gas_fee,
            "fwd_fee": self.fwd_fee,
        }


def build_message(blockchain: Blockchain, key: int, body: Cell, code: Cell | None, data: Cell | None) -> Cell:
    """Wrap a body in an external message; code and data go along only while the account has no code.

    Laid out as tonlib does it, since the layout decides the import fee: all inline, the body in a cell of its
    own where it does not fit.
    """
    address = key_address(key)
    builder = begin_cell().store_uint(0b10, 2).store_uint(0, 2).store_address(address).store_coins(0)
    missing = blockchain.status(address) is not AccountStatus.ACTIVE
    if missing and code is not None and data is not None:
        builder.store_uint(0b10, 2).store_cell(state_init(code, data))
    else:
        builder.store_bit(0)
    if len(body.bits) < builder.available_bits and len(body.refs) <= builder.available_refs:
        return builder.store_bit(0).store_cell(body).end_cell()
    return builder.store_bit(1).store_ref(body).end_cell()


def estimate(blockchain: Blockchain, key: int, message: Cell, *, check_signatures: bool) -> Fees:
    """Estimate the fees of an external message to `key` now. Gas is 0 when it would not be accepted.

    Raises `ExternalRejectedError` for what no node would relay.
    """
    account = blockchain.shard_account(key_address(key))
    config, masterchain = blockchain.config, key >> 256 == _MASTERCHAIN
    native = to_native(message)
    import_fee = _import_fee(config, native, masterchain)
    rent = _rent(config, account, blockchain.now, masterchain)
    try:
        done = blockchain.try_external(native, check_signatures=check_signatures)
    except ExternalRejectedError:
        return Fees(import_fee, rent)
    return Fees(import_fee, rent, int(done.compute_fee), _forward_fee(done))


def _forward_fee(done: Transaction) -> int:
    return 0 if done.action is None else int(done.action.forward_fees)


def _import_fee(config: NetworkConfig, message: NativeCell, masterchain: bool) -> int:
    """Apply `MsgForwardPrices` to all cells below the root, each distinct one once."""
    prices = config.native_param(_MSG_PRICES[masterchain])
    if prices is None:
        return 0
    reader = Reader.of(prices)
    reader.skip(8)
    lump, bit_price, cell_price = reader.uint(64), reader.uint(64), reader.uint(64)
    cells, bits = _size_below(message)
    return lump + _round_up(bits * bit_price + cells * cell_price)


def _size_below(root: NativeCell) -> tuple[int, int]:
    seen: set[str] = set()
    cells = bits = 0
    waiting = [root]
    while waiting:
        source = native_slice(waiting.pop())
        for index in range(source.refs):
            child = source.prefetch_ref(index)
            name = child.get_hash()
            if name not in seen:
                seen.add(name)
                cells, bits = cells + 1, bits + native_slice(child).bits
                waiting.append(child)
    return cells, bits


def _rent(config: NetworkConfig, account: ShardAccount, now: int, masterchain: bool) -> int:
    """Return what the account's storage costs from its last payment until `now`, over all price periods."""
    root = config.native_param(_STORAGE_PRICES)
    if root is None or account.status is AccountStatus.NONEXIST or not account.last_paid:
        return 0
    reader = Reader.of(Reader.of(account.native).ref())
    reader.skip(1)
    reader.address_key()
    cells, bits = reader.var_uint(7), reader.var_uint(7)
    periods: list[tuple[int, int, int]] = []

    def add(_: Any, value: Any) -> bool:
        entry = Reader(value)
        entry.skip(8)
        since, basic = entry.uint(32), (entry.uint(64), entry.uint(64))
        bit_price, cell_price = (entry.uint(64), entry.uint(64)) if masterchain else basic
        periods.append((since, bit_price, cell_price))
        return True

    native_dict(root, 32).map(add)
    total, upto = 0, now
    for since, bit_price, cell_price in sorted(periods, reverse=True):
        start = max(since, account.last_paid)
        if start < upto:
            total += (upto - start) * (bits * bit_price + cells * cell_price)
            upto = start
    return _round_up(total)


def _round_up(fixed: int) -> int:
    """Drop the 16 fractional bits, in favour of the validators as the network does."""
    return -(-fixed >> _FIXED_POINT_BITS)
