"""What tests of queries have in common: names of accounts and blocks, questions, messages."""

from __future__ import annotations

from typing import Any

from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.sandbox import contract_address
from cocoon_sdk.sandbox.blocks import Block
from cocoon_sdk.sandbox.liteserver.ids import tl_id
from cocoon_sdk.sandbox.liteserver.tl import lite_schema
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ACCEPTS, contract
from tests.unit.sandbox.liteserver.wire import RawClient

TON = Nano.ton("1")
ALICE = Address((0, b"\x11" * 32))
BOB = Address((0, b"\x22" * 32))
NOBODY = Address((0, b"\x99" * 32))
SCHEMA = lite_schema()
SOME_ID = {"workchain": 0, "shard": 1, "seqno": 1, "root_hash": bytes(32), "file_hash": bytes(32)}
REMEMBERS = """
    DUP -1 EQINT
    IF:<{ ACCEPT DROP 32 PLDU NEWC 32 STU ENDC c4 POPCTR
    }>ELSE<{ DROP c4 PUSHCTR CTOS 32 PLDU }>
"""
"""Returns the first 32 bits of its data; an external message replaces them by its body's."""


def account(address: Address) -> dict[str, Any]:
    return {"workchain": address.wc, "id": address.hash_part}


def block_record(block: Block) -> dict[str, Any]:
    return tl_id(block.id)


async def good(client: RawClient, query: str, **fields: Any) -> dict[str, Any]:
    kind, answer = await client.call(query, **fields)
    assert kind != "error", answer
    return answer


async def refused(client: RawClient, query: str, **fields: Any) -> tuple[int, str]:
    kind, answer = await client.call(query, **fields)
    assert kind == "error", (kind, answer)
    return answer["code"], answer["message"]


def asked(name: str, **fields: Any) -> bytes:
    return SCHEMA.encode(f"liteServer.{name}", **fields)


def waiting(seqno: int, timeout_ms: int, query: bytes) -> bytes:
    return asked("waitMasterchainSeqno", seqno=seqno, timeout_ms=timeout_ms) + query


def external(address: Address, body: Cell | None = None) -> bytes:
    cell = begin_cell().store_uint(0b10, 2).store_uint(0, 2).store_address(address).store_coins(0)
    cell = cell.store_bit(0).store_bit(1).store_ref(body or begin_cell().end_cell())
    boc: bytes = cell.end_cell().to_boc()
    return boc


async def accepting_contract(node: Node) -> Address:
    init = contract(ACCEPTS)
    await node.apply(lambda chain: chain.deploy(init, TON))
    return contract_address(init)
