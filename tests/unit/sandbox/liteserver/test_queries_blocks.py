"""Queries for blocks, headers, links between them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from pytoniq_core import Address, Cell

from cocoon_sdk.sandbox.blocks import MasterBlock
from cocoon_sdk.sandbox.liteserver.ids import WHOLE_SHARD, tl_id
from cocoon_sdk.sandbox.node import Node
from tests.unit.sandbox.liteserver.asking import (
    ALICE,
    TON,
    block_record,
    good,
    refused,
)
from tests.unit.sandbox.liteserver.wire import RawClient

PRUNED = 1
"""Type of a pruned branch."""


async def test_client_can_read_blocks_and_states_whole(client: RawClient, node: Node) -> None:
    await node.faucet(ALICE, TON)
    for block in (node.head, node.head.shard_block):
        data = (await good(client, "getBlock", id=block_record(block)))["data"]
        assert hashlib.sha256(data).digest() == block.id.file_hash
        assert Cell.one_from_boc(data).hash == block.id.root_hash
        state = await good(client, "getState", id=block_record(block))
        assert Cell.one_from_boc(state["data"]).hash == state["root_hash"]
        assert hashlib.sha256(state["data"]).digest() == state["file_hash"]


async def test_client_can_read_what_the_chains_began_with(client: RawClient, node: Node) -> None:
    for zero in (node.archive.zero_state_masterchain, node.archive.zero_state_basechain):
        state = await good(client, "getState", id=tl_id(zero))
        assert hashlib.sha256(state["data"]).digest() == state["file_hash"] == zero.file_hash
        assert Cell.one_from_boc(state["data"]).hash == state["root_hash"] == zero.root_hash
        other = {**tl_id(zero), "root_hash": b"\1" * 32}
        assert (await refused(client, "getState", id=other))[0] == 651


async def test_header_proof_stays_small_when_a_block_changes_much(client: RawClient, node: Node) -> None:
    sizes = []
    for count in (1, 100):
        addresses = [Address((0, hashlib.sha256(b"%d" % index).digest())) for index in range(count)]
        await asyncio.gather(*(node.faucet(address, TON) for address in addresses))
        answer = await good(client, "getBlockHeader", id=block_record(node.head.shard_block), mode=0)
        assert Cell.one_from_boc(answer["header_proof"])[0].get_hash(0) == node.head.shard_block.id.root_hash
        sizes.append(len(answer["header_proof"]))
    assert sizes[0] == sizes[1] < 1000


@pytest.mark.parametrize("mode", [1, 2, 16, 16 + 32, 16 + 64, 1 + 2 + 16 + 32 + 64])
async def test_client_gets_of_a_header_what_the_mode_asks_for(
    client: RawClient, node: Node, mode: int
) -> None:
    for block in (node.head, node.head.shard_block):
        answer = await good(client, "getBlockHeader", id=block_record(block), mode=mode)
        assert answer["mode"] == mode
        root = Cell.one_from_boc(answer["header_proof"])[0]
        assert root.get_hash(0) == block.id.root_hash
        assert (root[1].type_ == PRUNED) == (not mode & 2)  # value flow
        assert (root[3].type_ == PRUNED) == (not mode & 16)  # extra
        if mode & 16 and isinstance(block, MasterBlock):
            assert (root[3][3][0].type_ == PRUNED) == (not mode & 32)  # shard hashes


async def test_client_cannot_read_what_does_not_exist(client: RawClient, node: Node) -> None:
    ghost = {**block_record(node.head), "root_hash": b"\1" * 32}
    for query in ("getBlock", "getState", "getAllShardsInfo", "getShardBlockProof"):
        code, text = await refused(client, query, id=ghost)
        assert code == 651
        assert "is not in db" in text
    far = {**ghost, "seqno": 500}
    assert (
        f"(last known masterchain block: {node.head.seqno})" in (await refused(client, "getBlock", id=far))[1]
    )
    shard = {**far, "workchain": 0}
    assert "possibly out of sync" in (await refused(client, "getBlock", id=shard))[1]
    assert await refused(client, "getState", id={**far, "seqno": 1001}) == (
        -400,
        "cannot request total state: possibly too large",
    )
    for broken in ({**far, "seqno": -3}, {**far, "shard": 0}):
        assert await refused(client, "getBlock", id=broken) == (-400, "invalid BlockIdExt")
    refusal = await refused(client, "getAllShardsInfo", id=block_record(node.head.shard_block))
    assert refusal == (-400, "reference block must belong to the masterchain")


async def test_client_can_find_blocks_by_number_and_times(client: RawClient, node: Node) -> None:
    await node.faucet(ALICE, TON)
    await node.warp(100)
    await node.faucet(ALICE, TON)
    head = node.head
    for workchain, block in ((-1, head), (0, head.shard_block)):
        name = {"workchain": workchain, "shard": WHOLE_SHARD, "seqno": head.seqno}
        for mode, extra in ((1, {}), (2, {"lt": block.start_lt}), (2, {"lt": block.end_lt})):
            found = await good(client, "lookupBlock", mode=mode, id=name, **extra)
            assert found["id"] == block_record(block)
    name = {"workchain": -1, "shard": WHOLE_SHARD, "seqno": 0}
    for utime in (head.gen_utime, head.gen_utime - 50):  # the first that is not older: the warp's own block
        found = await good(client, "lookupBlock", mode=4, id=name, utime=utime)
        assert found["id"] == block_record(node.archive.by_seqno(-1, head.seqno - 1))
    assert (await good(client, "lookupBlock", mode=4, id=name, utime=0))["id"]["seqno"] == 1


@pytest.mark.parametrize(
    ("mode", "fields", "text"),
    [
        (1, {"seqno": 77}, "seqno=77: ltdb: block not found (last known masterchain block: 2)"),
        (1, {"seqno": 0}, "seqno=0: ltdb: block not found"),
        (2, {"seqno": 0, "lt": 1 << 60}, "ltdb: block not found"),
        (4, {"seqno": 0, "utime": 0x7FFF_FFFF}, "ltdb: block not found"),
    ],
)
async def test_client_cannot_find_a_block_that_is_not_there(
    client: RawClient, mode: int, fields: dict[str, Any], text: str
) -> None:
    name = {"workchain": -1, "shard": WHOLE_SHARD, "seqno": fields.pop("seqno")}
    code, message = await refused(client, "lookupBlock", mode=mode, id=name, **fields)
    assert code == 651
    assert message.startswith("cannot find block (-1,8000000000000000) ")
    assert text in message


async def test_client_cannot_look_a_block_up_in_two_ways_at_once(client: RawClient) -> None:
    name = {"workchain": -1, "shard": WHOLE_SHARD, "seqno": 1}
    refusal = await refused(client, "lookupBlock", mode=3, id=name, lt=5)
    assert refusal == (-400, "exactly one of mode.0, mode.1 and mode.2 bits must be set")


async def test_client_can_find_a_block_with_its_proof_from_one_it_trusts(
    client: RawClient, node: Node
) -> None:
    await node.mine(5)
    trusted, old = node.head, node.archive.by_seqno(0, 3)
    name = {"workchain": 0, "shard": WHOLE_SHARD, "seqno": 3}
    found = await good(client, "lookupBlockWithProof", mode=1, id=name, mc_block_id=block_record(trusted))
    assert found["id"] == block_record(old)
    assert found["mc_block_id"] == block_record(node.archive.by_seqno(-1, 3))
    assert [link["id"] for link in found["shard_links"]] == [block_record(old)]
    assert Cell.one_from_boc(found["mc_block_proof"]).type_ == 3  # a Merkle proof
    older = node.archive.by_seqno(-1, 2)
    _, text = await refused(client, "lookupBlockWithProof", mode=1, id=name, mc_block_id=block_record(older))
    assert text == "specified mc block is older than block's masterchain ref"


@pytest.mark.parametrize(
    ("known", "target", "kinds"),
    [(1, 4, ["Forward"]), (3, 4, ["Back", "Forward"]), (4, 2, ["Back"]), (4, 1, ["Back"]), (3, 3, [])],
)
async def test_client_can_get_a_chain_of_links_between_any_two_blocks(
    client: RawClient, node: Node, known: int, target: int, kinds: list[str]
) -> None:
    await node.mine(4)
    blocks = [node.archive.by_seqno(-1, seqno) for seqno in (known, target)]
    proof = await good(
        client,
        "getBlockProof",
        mode=1,
        known_block=block_record(blocks[0]),
        target_block=block_record(blocks[1]),
    )
    assert proof["complete"] is True
    assert [step["@type"].removeprefix("liteServer.blockLink") for step in proof["steps"]] == kinds
    at = block_record(blocks[0])
    for step in proof["steps"]:
        assert step["from"] == at
        at = step["to"]
    assert at == block_record(blocks[1])


async def test_client_cannot_get_links_from_a_block_of_another_chain(client: RawClient, node: Node) -> None:
    ghost = {**block_record(node.head), "root_hash": b"\1" * 32}
    _, text = await refused(client, "getBlockProof", mode=0, known_block=ghost)
    assert "is unknown from the perspective of reference block" in text
    _, text = await refused(client, "getBlockProof", mode=0, known_block={**ghost, "seqno": 99})
    assert "newer than the reference masterchain block" in text
    _, text = await refused(client, "getBlockProof", mode=0, known_block=block_record(node.head.shard_block))
    assert "is not a valid masterchain block id" in text
