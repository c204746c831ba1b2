"""Queries over a real node, one by one: shapes, modes, pages, waits, errors."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pytoniq_core import Address, Cell, VmStack, begin_cell

from cocoon_sdk.sandbox import contract_address
from cocoon_sdk.sandbox.blocks import Block, MasterBlock
from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.sandbox.liteserver import Limits, LiteServer, supported
from cocoon_sdk.sandbox.liteserver.ids import WHOLE_SHARD, tl_id
from cocoon_sdk.sandbox.liteserver.tl import lite_schema
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ACCEPTS, contract, getter
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


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node() as running:
        yield running


@pytest.fixture
async def server(node: Node) -> AsyncIterator[LiteServer]:
    async with LiteServer(node, limits=Limits(max_wait_s=5.0, follow_s=5.0)) as listening:
        yield listening


@pytest.fixture
async def client(server: LiteServer) -> AsyncIterator[RawClient]:
    connected = await RawClient.connect(server.port, server.key.public)
    yield connected
    await connected.close()


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


# -- envelope -------------------------------------------------------------------------------------------


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


# -- waiting ----------------------------------------------------------------------------------------------


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


# -- sending ------------------------------------------------------------------------------------------------


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


# -- blocks -------------------------------------------------------------------------------------------------


async def test_client_can_read_blocks_and_states_whole(client: RawClient, node: Node) -> None:
    await node.faucet(ALICE, TON)
    for block in (node.head, node.head.shard_block):
        data = (await good(client, "getBlock", id=block_record(block)))["data"]
        assert hashlib.sha256(data).digest() == block.id.file_hash
        assert Cell.one_from_boc(data).hash == block.id.root_hash
        state = await good(client, "getState", id=block_record(block))
        assert Cell.one_from_boc(state["data"]).hash == state["root_hash"]
        assert hashlib.sha256(state["data"]).digest() == state["file_hash"]


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


# -- accounts -----------------------------------------------------------------------------------------------


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


# -- transactions -------------------------------------------------------------------------------------------


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


# -- configuration, libraries, queues -----------------------------------------------------------------------


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
