"""The envelope of queries, waiting for blocks, sending messages."""

from __future__ import annotations

from typing import Any

import pytest
from pytoniq_core import begin_cell

from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.sandbox.liteserver import Limits, LiteServer, supported
from cocoon_sdk.sandbox.node import Node
from tests.unit.sandbox.liteserver.asking import (
    SCHEMA,
    SOME_ID,
    accepting_contract,
    asked,
    block_record,
    external,
    good,
    waiting,
)
from tests.unit.sandbox.liteserver.wire import RawClient

# -- envelope ------------------------------------------------------------------------------------------


async def test_client_can_ask_with_the_short_prefix(client: RawClient, node: Node) -> None:
    inner = SCHEMA.encode("liteServer.queryPrefix") + asked("getTime")
    client.send(SCHEMA.encode("adnl.message.query", query_id=bytes(32), query=inner))
    assert (await client.answer())[1] == asked_answer("currentTime", now=node.now)


def asked_answer(name: str, **fields: Any) -> bytes:
    return SCHEMA.encode(f"liteServer.{name}", **fields)


@pytest.mark.parametrize(
    "data", [b"", b"junk", bytes(64), asked("getVersion") + b"more", asked("getBlock", id=SOME_ID)[:30]]
)
async def test_client_is_told_when_a_query_cannot_be_read(client: RawClient, data: bytes) -> None:
    client.ask(data)
    _, answer = await client.answer()
    assert SCHEMA.decode_whole(answer, "liteServer.error")["code"] in (0, 621)
    await good(client, "getTime")  # the connection goes on


async def test_client_is_told_when_a_query_is_unknown(client: RawClient) -> None:
    client.ask(SCHEMA.encode("liteServer.nonfinal.getPendingShardBlocks", mode=0))
    _, answer = await client.answer()
    assert SCHEMA.decode_whole(answer, "liteServer.error") == {"code": 621, "message": "unknown query"}


def test_every_query_of_the_schema_is_answered_but_those_for_validators() -> None:
    functions = {
        name.removeprefix("liteServer.")
        for name in SCHEMA.by_name
        if name.startswith(
            ("liteServer.get", "liteServer.list", "liteServer.lookup", "liteServer.run", "liteServer.send")
        )
        and not name.endswith(("Result", "Status"))
    }
    assert functions == supported()


# -- waiting -------------------------------------------------------------------------------------------


async def test_client_is_answered_when_the_block_it_waits_for_comes(client: RawClient, node: Node) -> None:
    head = node.head.seqno
    client.ask(waiting(head + 1, 4000, asked("getMasterchainInfo")))
    client.ask(asked("getTime"))  # is not held up
    assert (await client.answer())[1][:4] == SCHEMA.by_name["liteServer.currentTime"].id
    await node.mine()
    info = SCHEMA.decode_whole((await client.answer())[1], "liteServer.masterchainInfo")
    assert info["last"]["seqno"] == head + 1


async def test_client_is_answered_at_once_when_the_block_is_there(client: RawClient, node: Node) -> None:
    client.ask(waiting(node.head.seqno, 1000, asked("getTime")))
    assert (await client.answer())[1] == asked_answer("currentTime", now=node.now)


async def test_client_is_told_of_a_timeout_when_no_block_comes(client: RawClient, node: Node) -> None:
    for timeout_ms in (0, 1, -5):
        client.ask(waiting(node.head.seqno + 1, timeout_ms, asked("getTime")))
        _, answer = await client.answer()
        assert SCHEMA.decode_whole(answer, "liteServer.error") == {"code": 652, "message": "timeout"}


async def test_client_that_follows_the_chain_is_answered_when_no_block_comes(
    client: RawClient, node: Node
) -> None:
    client.ask(waiting(node.head.seqno + 1, 1, asked("getMasterchainInfo")))
    info = SCHEMA.decode_whole((await client.answer())[1], "liteServer.masterchainInfo")
    assert info["last"] == block_record(node.head)


async def test_client_that_follows_the_chain_is_told_when_it_goes_back(client: RawClient, node: Node) -> None:
    await node.snapshot("here")
    kept = block_record(node.head)
    await node.mine(150)
    client.ask(waiting(node.head.seqno + 1, 4000, asked("getMasterchainInfo")))
    client.ask(asked("getTime"))
    assert (await client.answer())[1][:4] == SCHEMA.by_name["liteServer.currentTime"].id  # it waits by now
    await node.restore("here")
    info = SCHEMA.decode_whole((await client.answer())[1], "liteServer.masterchainInfo")
    assert info["last"] == kept


async def test_client_cannot_wait_for_a_block_far_ahead(client: RawClient, node: Node) -> None:
    client.ask(waiting(node.head.seqno + 101, 1000, asked("getTime")))
    _, answer = await client.answer()
    error = SCHEMA.decode_whole(answer, "liteServer.error")
    assert error == {"code": 651, "message": "too big masterchain block seqno"}


async def test_client_cannot_wait_with_more_queries_than_the_bound(node: Node) -> None:
    async with LiteServer(node, limits=Limits(max_waiting=2, max_wait_s=5.0)) as server:
        client = await RawClient.connect(server.port, server.key.public)
        for _ in range(3):
            client.ask(waiting(node.head.seqno + 1, 4000, asked("getTime")))
        _, answer = await client.answer()
        assert SCHEMA.decode_whole(answer, "liteServer.error")["code"] == 651
        await node.mine()
        assert {(await client.answer())[1][:4] for _ in range(2)} == {
            SCHEMA.by_name["liteServer.currentTime"].id
        }
        await client.close()


# -- sending -------------------------------------------------------------------------------------------


async def test_follower_gets_its_answer_only_once_it_knows_the_block(client: RawClient, node: Node) -> None:
    receiver = await accepting_contract(node)
    head = node.head.seqno
    waited = client.ask(waiting(head + 1, 4000, asked("getMasterchainInfo")))
    sent = client.ask(asked("sendMessage", body=external(receiver)))
    first, answer = await client.answer()
    assert first == waited
    told = SCHEMA.decode_whole(answer, "liteServer.masterchainInfo")["last"]
    assert told["seqno"] == head + 1
    again = client.ask(asked("getTime"))  # says nothing about what it knows
    assert (await client.answer())[0] == again
    shards = client.ask(asked("getAllShardsInfo", id=told))  # shows that it knows the block
    assert {(await client.answer())[0] for _ in range(2)} == {sent, shards}


async def test_follower_is_not_held_up_for_long_when_it_stops_following(node: Node) -> None:
    receiver = await accepting_contract(node)
    async with LiteServer(node, limits=Limits(follow_s=0.01)) as server:
        client = await RawClient.connect(server.port, server.key.public)
        waited = client.ask(waiting(node.head.seqno + 1, 4000, asked("getMasterchainInfo")))
        sent = client.ask(asked("sendMessage", body=external(receiver)))
        assert [(await client.answer())[0] for _ in range(2)] == [waited, sent]
        await client.close()


async def test_client_that_does_not_follow_is_answered_at_once(client: RawClient, node: Node) -> None:
    receiver = await accepting_contract(node)
    assert await good(client, "sendMessage", body=external(receiver)) == {"status": 1}
    assert node.shard_account(address_key(receiver)).last_lt > 0


async def test_messages_sent_together_share_a_block(client: RawClient, node: Node) -> None:
    receiver = await accepting_contract(node)
    head = node.head.seqno
    for number in range(20):
        client.ask(
            asked("sendMessage", body=external(receiver, begin_cell().store_uint(number, 8).end_cell()))
        )
    for _ in range(20):
        assert (await client.answer())[1] == asked_answer("sendMsgStatus", status=1)
    assert node.head.seqno - head < 20
