"""The context (c7) of a get-method as `runSmcMethod` gives it to clients that run the method themselves.

Owns the tuple's form in TON's liteservers. Knows nothing of proofs.
"""

from __future__ import annotations

import base64
from typing import Any

from pytoniq_core import begin_cell

from cocoon_sdk.sandbox.accounts import ShardAccount
from cocoon_sdk.sandbox.blocks import Block
from cocoon_sdk.sandbox.cells import key_address, native_hash, native_slice, to_native
from cocoon_sdk.sandbox.engine import PyStackEntry, make_tuple
from cocoon_sdk.sandbox.node import Node

_MAGIC = 0x076EF1EA


def context_boc(node: Node, block: Block, key: int, account: ShardAccount, *, extended: bool) -> bytes:
    """Return a bag with one `VmStackValue`: the tuple of the context's tuple.

    Without `extended` it ends before the configuration, which clients know from a proof of their own.
    """
    zero, null = _integer(0), PyStackEntry()
    address = native_slice(to_native(begin_cell().store_address(key_address(key)).end_cell()))
    elements = [
        _integer(_MAGIC),
        zero,  # actions
        zero,  # messages sent
        _integer(block.gen_utime),
        _integer(block.end_lt),  # of the block
        _integer(block.end_lt),  # of the transaction
        _integer(int.from_bytes(native_hash(block.root), "big")),  # random seed
        make_tuple([_integer(int(account.balance)), null]),
        PyStackEntry(cell_slice=address),
        PyStackEntry(cell=node.blockchain.config.native) if extended else null,
    ]
    if extended:
        elements += [
            PyStackEntry(cell=account.code) if account.code is not None else null,
            make_tuple([zero, null]),  # incoming value
            zero,  # storage fees
            null,  # previous blocks
        ]
    context: Any = make_tuple([make_tuple(elements)])
    bag: bytes = base64.b64decode(context.serialize(0).to_boc())
    return bag


def _integer(value: int) -> Any:
    return PyStackEntry(big_int=str(value))
