"""Queries for the configuration, libraries, queues, shards and the time."""

from __future__ import annotations

from pytoniq_core import Cell, begin_cell

from cocoon_sdk.sandbox import contract_address
from cocoon_sdk.sandbox.liteserver.ids import WHOLE_SHARD
from cocoon_sdk.sandbox.node import Node
from tests.unit.sandbox.contracts import ACCEPTS, contract
from tests.unit.sandbox.liteserver.asking import (
    ALICE,
    TON,
    account,
    block_record,
    good,
    refused,
)
from tests.unit.sandbox.liteserver.wire import RawClient


async def test_client_can_read_the_configuration_from_a_state_and_from_the_key_block(
    client: RawClient, node: Node
) -> None:
    await node.mine(2)
    sizes = {}
    for name, more in (("getConfigAll", {}), ("getConfigParams", {"param_list": [34, 19, 19, 9999]})):
        answer = await good(client, name, mode=0, id=block_record(node.head), **more)
        assert (
            Cell.one_from_boc(answer["config_proof"])[0].get_hash(0).hex()
            == node.head.state.get_hash().lower()
        )
        assert Cell.one_from_boc(answer["state_proof"])[0].get_hash(0) == node.head.id.root_hash
        sizes[name] = len(answer["config_proof"])
        from_key = await good(client, name, mode=0x8000, id=block_record(node.head), **more)
        assert from_key["id"]["seqno"] == 1
        assert from_key["state_proof"] == b""
        root = Cell.one_from_boc(from_key["config_proof"])[0].get_hash(0)
        assert root == node.archive.init_block.id.root_hash
    assert sizes["getConfigParams"] < sizes["getConfigAll"] / 10
    refusal = await refused(client, "getConfigAll", mode=0, id=block_record(node.head.shard_block))
    assert refusal[1] == "configuration parameters can be loaded with respect to a masterchain block only"
    long = {"mode": 0, "id": block_record(node.head), "param_list": list(range(257))}
    assert (await refused(client, "getConfigParams", **long))[1] == "too long param list"


async def test_client_can_read_public_libraries(client: RawClient, node: Node) -> None:
    library = begin_cell().store_uint(0xABC, 12).end_cell()
    await node.apply(lambda chain: chain.set_libraries([library]))
    await node.mine()
    wanted = [library.hash, bytes(32), library.hash]
    found = (await good(client, "getLibraries", library_list=wanted))["result"]
    assert found == [{"hash": library.hash, "data": library.to_boc()}]
    for mode, data in ((0, library.to_boc()), (2, b"")):
        proven = await good(
            client, "getLibrariesWithProof", id=block_record(node.head), mode=mode, library_list=wanted
        )
        assert proven["result"] == [{"hash": library.hash, "data": data}]
        assert proven["data_proof"]


async def test_client_can_ask_for_the_sizes_of_queues(client: RawClient, node: Node) -> None:
    sizes = await good(client, "getOutMsgQueueSizes", mode=0)
    assert [one["size"] for one in sizes["shards"]] == [0, 0]
    one = await good(client, "getOutMsgQueueSizes", mode=1, wc=0, shard=WHOLE_SHARD)
    assert [entry["id"] for entry in one["shards"]] == [block_record(node.head.shard_block)]
    size = await good(client, "getBlockOutMsgQueueSize", mode=1, id=block_record(node.head), want_proof=True)
    assert size["size"] == 0
    assert size["proof"]
    info = await good(
        client, "getDispatchQueueInfo", mode=1, id=block_record(node.head), max_accounts=5, want_proof=True
    )
    assert info["complete"] is True
    messages = await good(
        client,
        "getDispatchQueueMessages",
        mode=0,
        id=block_record(node.head),
        addr=bytes(32),
        after_lt=0,
        max_messages=5,
    )
    assert messages["messages"] == []


async def test_client_can_count_messages_that_wait_in_a_queue(client: RawClient, node: Node) -> None:
    init = contract(ACCEPTS)
    await node.apply(lambda chain: chain.deploy(init, TON))
    sender = node.blockchain.actor("sender")
    node.blockchain.hold()
    await node.apply(lambda chain: sender.send(contract_address(init), TON))
    sizes = await good(client, "getOutMsgQueueSizes", mode=0)
    assert [one["size"] for one in sizes["shards"]] == [0, 1]
    node.blockchain.release()


async def test_client_is_told_that_there_are_no_validator_statistics(client: RawClient, node: Node) -> None:
    fields = {"id": block_record(node.head), "mode": 0}
    assert await refused(client, "getValidatorStats", limit=10, **fields) == (
        -400,
        "cannot extract block create stats from mc state",
    )
    assert (await refused(client, "getValidatorStats", limit=0, **fields))[1].startswith(
        "requested entry count"
    )


async def test_client_can_ask_about_shards(client: RawClient, node: Node) -> None:
    head = block_record(node.head)
    for exact, shard in ((True, WHOLE_SHARD), (False, 1 << 60)):
        answer = await good(client, "getShardInfo", id=head, workchain=0, shard=shard, exact=exact)
        assert answer["shardblk"] == block_record(node.head.shard_block)
        assert answer["shard_descr"]
    for workchain, shard in ((0, 1 << 60), (5, WHOLE_SHARD)):
        answer = await good(client, "getShardInfo", id=head, workchain=workchain, shard=shard, exact=True)
        assert answer["shard_descr"] == b""
    assert await refused(client, "getShardInfo", id=head, workchain=0, shard=0, exact=False) == (
        -400,
        "requested shard is invalid",
    )
    own = await good(client, "getShardBlockProof", id=head)
    assert own == {"masterchain_id": head, "links": []}


async def test_client_sees_the_chains_own_time(client: RawClient, node: Node) -> None:
    await node.warp(1 << 31)  # beyond what a signed 32-bit number tells
    assert (await good(client, "getTime"))["now"] & 0xFFFF_FFFF == node.now
    version = await good(client, "getVersion")
    assert (version["version"], version["capabilities"]) == (0x101, 15)
    info = await good(client, "getMasterchainInfoExt", mode=0)
    assert info["last"] == block_record(node.head)
    assert info["last_utime"] & 0xFFFF_FFFF == node.head.gen_utime
    assert (await refused(client, "getMasterchainInfoExt", mode=2))[
        1
    ] == "unsupported getMasterchainInfo mode"


async def test_client_sees_the_chain_go_back_when_it_is_restored(client: RawClient, node: Node) -> None:
    await node.snapshot("here")
    kept = block_record(node.head)
    await node.faucet(ALICE, TON)
    gone = block_record(node.head)
    await node.restore("here")
    assert (await good(client, "getMasterchainInfo"))["last"] == kept
    assert (await refused(client, "getBlock", id=gone))[0] == 651
    assert (await good(client, "getAccountState", id=kept, account=account(ALICE)))["state"] == b""
