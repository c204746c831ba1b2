"""Queries for accounts, get-methods and transactions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pytoniq_core import Address, Cell, VmStack, begin_cell

from cocoon_sdk.sandbox import contract_address
from cocoon_sdk.sandbox.blocks import Block, MasterBlock
from cocoon_sdk.sandbox.node import Node
from tests.unit.sandbox.contracts import contract, getter
from tests.unit.sandbox.liteserver.asking import (
    ALICE,
    BOB,
    NOBODY,
    REMEMBERS,
    TON,
    account,
    block_record,
    external,
    good,
    refused,
)
from tests.unit.sandbox.liteserver.wire import RawClient

# -- accounts ------------------------------------------------------------------------------------------


async def test_client_can_read_an_account_at_any_block(client: RawClient, node: Node) -> None:
    await node.faucet(ALICE, 2 * TON)
    before = node.head
    await node.faucet(ALICE, 3 * TON)
    states = {}
    for block in (before, before.shard_block, node.head, node.head.shard_block):
        answer = await good(client, "getAccountState", id=block_record(block), account=account(ALICE))
        holder = block.shard_block if isinstance(block, MasterBlock) else block
        assert answer["shardblk"] == block_record(holder)
        assert bool(answer["shard_proof"]) == isinstance(block, MasterBlock)
        states[block.id] = Cell.one_from_boc(answer["state"]).hash
        pruned = await good(client, "getAccountStatePrunned", id=block_record(block), account=account(ALICE))
        assert Cell.one_from_boc(pruned["state"])[0].get_hash(0) == states[block.id]
    assert states[before.id] == states[before.shard_block.id] != states[node.head.id]


async def test_client_can_ask_for_an_account_at_whatever_block_is_newest(
    client: RawClient, node: Node
) -> None:
    await node.faucet(ALICE, TON)
    newest = {**block_record(node.head), "seqno": -1, "root_hash": bytes(32), "file_hash": bytes(32)}
    answer = await good(client, "getAccountState", id=newest, account=account(ALICE))
    assert answer["id"] == block_record(node.head)
    assert answer["state"]


async def test_client_can_read_accounts_that_do_not_exist(client: RawClient, node: Node) -> None:
    head = block_record(node.head)
    for address in (NOBODY, Address((-1, b"\x44" * 32))):
        answer = await good(client, "getAccountState", id=head, account=account(address))
        assert answer["state"] == b""
        assert answer["proof"]
    elsewhere = {"workchain": 7, "id": bytes(32)}
    answer = await good(client, "getAccountState", id=head, account=elsewhere)
    assert answer["shardblk"]["root_hash"] == bytes(32)
    _, text = await refused(
        client, "getAccountState", id=block_record(node.head.shard_block), account=elsewhere
    )
    assert text == "reference block for a getAccountState() must belong to the masterchain"


@pytest.mark.parametrize("mode", range(64))
async def test_client_gets_of_a_getter_what_the_mode_asks_for(
    client: RawClient, node: Node, mode: int
) -> None:
    init = contract(getter("42 INT"))
    await node.apply(lambda chain: chain.deploy(init, TON))
    answer = await good(
        client,
        "runSmcMethod",
        mode=mode,
        id=block_record(node.head),
        account=account(contract_address(init)),
        method_id=85143,
        params=b"",
    )
    present = {"shard_proof": 1, "proof": 1, "state_proof": 2, "result": 4, "init_c7": 8}
    for field, bit in present.items():
        assert bool(answer.get(field)) == bool(mode & bit), field
    assert answer["exit_code"] == 0
    if mode & 4:
        assert VmStack.deserialize(Cell.one_from_boc(answer["result"]).begin_parse()) == [42]


async def test_getter_runs_on_the_state_of_the_block_that_was_asked_for(
    client: RawClient, node: Node
) -> None:
    init = contract(REMEMBERS, begin_cell().store_uint(5, 32).end_cell())
    address = contract_address(init)
    await node.apply(lambda chain: chain.deploy(init, TON))
    before = node.head
    await node.send(external(address, begin_cell().store_uint(6, 32).end_cell()))
    for block, value in ((before, 5), (node.head, 6)):
        answer = await good(
            client,
            "runSmcMethod",
            mode=4,
            id=block_record(block),
            account=account(address),
            method_id=1,
            params=b"",
        )
        assert VmStack.deserialize(Cell.one_from_boc(answer["result"]).begin_parse()) == [value]


async def test_getter_answers_with_its_exit_code_when_it_throws_or_has_no_code(
    client: RawClient, node: Node
) -> None:
    init = contract(getter("77 THROW"))
    await node.apply(lambda chain: chain.deploy(init, TON))
    for address, code in ((contract_address(init), 77), (NOBODY, -256)):
        answer = await good(
            client,
            "runSmcMethod",
            mode=4,
            id=block_record(node.head),
            account=account(address),
            method_id=1,
            params=b"",
        )
        assert answer["exit_code"] == code


@pytest.mark.parametrize(
    ("mode", "params", "text"),
    [
        (64, b"", "unsupported mode in runSmcMethod"),
        (4, bytes(65536), "more than 64k parameter bytes passed"),
        (4, b"junk", "cannot deserialize parameter list boc"),
    ],
)
async def test_getter_is_refused_when_its_call_makes_no_sense(
    client: RawClient, node: Node, mode: int, params: bytes, text: str
) -> None:
    init = contract(getter("1 INT"))
    await node.apply(lambda chain: chain.deploy(init, TON))
    code, message = await refused(
        client,
        "runSmcMethod",
        mode=mode,
        id=block_record(node.head),
        account=account(contract_address(init)),
        method_id=1,
        params=params,
    )
    assert code == -400
    assert message.startswith(text)


# -- transactions --------------------------------------------------------------------------------------


async def test_client_can_page_through_an_accounts_history(client: RawClient, node: Node) -> None:
    for _ in range(20):
        await node.faucet(ALICE, TON)
    history = node.blockchain.transactions(ALICE, limit=100)
    found: list[bytes] = []
    lt, digest = history[0].lt, history[0].hash
    while lt:
        answer = await good(client, "getTransactions", count=100, account=account(ALICE), lt=lt, hash=digest)
        cells = Cell.from_boc(answer["transactions"])
        assert len(cells) == len(answer["ids"]) <= 16
        found += [cell.hash for cell in cells]
        last = history[len(found) - 1]
        lt, digest = last.prev_lt, last.prev_hash
    assert found == [one.hash for one in history]
    one = history[3]
    block = node.archive.block_of(one)
    answer = await good(
        client, "getOneTransaction", id=block_record(block), account=account(ALICE), lt=one.lt
    )
    assert Cell.one_from_boc(answer["transaction"]).hash == one.hash
    absent = await good(client, "getOneTransaction", id=block_record(block), account=account(BOB), lt=one.lt)
    assert absent["transaction"] == b""
    assert absent["proof"]


async def test_client_is_told_why_a_history_cannot_begin_there(client: RawClient, node: Node) -> None:
    await node.faucet(ALICE, TON)
    one = node.blockchain.transactions(ALICE)[0]
    for lt, text in (
        (one.lt, "transaction hash mismatch"),
        (one.lt + 5, "cannot locate transaction in block with specified logical time"),
    ):
        refusal = await refused(
            client, "getTransactions", count=1, account=account(ALICE), lt=lt, hash=bytes(32)
        )
        assert refusal == (-400, text)
    empty = await good(client, "getTransactions", count=5, account=account(ALICE), lt=0, hash=bytes(32))
    assert empty == {"ids": [], "transactions": b""}


async def busy_block(node: Node) -> Block:
    """Seal a block with five transactions of three accounts."""
    await asyncio.gather(*(node.faucet(address, TON) for address in (ALICE, BOB, ALICE, NOBODY, ALICE)))
    return node.head.shard_block


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 256])
async def test_client_can_page_through_a_blocks_transactions(
    client: RawClient, node: Node, reverse: bool, count: int
) -> None:
    block = await busy_block(node)
    expected = [one.hash for one in block.transactions]
    assert len(expected) == 5
    if reverse:
        expected.reverse()
    mode = 7 | (64 if reverse else 0)
    names: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    for _ in range(7):
        page = await good(
            client, "listBlockTransactions", id=block_record(block), mode=mode | 32, count=count, **more
        )
        assert page["proof"]
        names += page["ids"]
        if not page["incomplete"]:
            break
        assert len(page["ids"]) == count
        mode |= 128
        more = {"after": {"account": names[-1]["account"], "lt": names[-1]["lt"]}}
    assert [name["hash"] for name in names] == expected
    ext = await good(
        client, "listBlockTransactionsExt", id=block_record(block), mode=64 if reverse else 0, count=256
    )
    assert [cell.hash for cell in Cell.from_boc(ext["transactions"])] == expected
    assert ext["proof"] == b""
    assert ext["incomplete"] is False
