"""The adapter, the HTTP server and the real sandbox together: both ways to the same chain must agree."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from pytoniq_core import Address, Cell, Slice, begin_cell

from cocoon_sdk.chain.base import AccountStatus, StackValue
from cocoon_sdk.chain.boc import encode_boc_base64
from cocoon_sdk.chain.http_transport import EndpointFailedError, MalformedResponseError, TransportLimits
from cocoon_sdk.chain.stack import as_slice
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.chain.watcher import AccountWatcher, ChainResetError
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import AccountNotFoundError, ConfigError, ExternalRejectedError, GetterError
from cocoon_sdk.sandbox.actors import Actor, Outgoing
from cocoon_sdk.sandbox.adapter import SandboxChain
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.http_api import MAX_BODY_BYTES, ToncenterServer
from cocoon_sdk.types import Nano

NOBODY = Address((0, b"\x44" * 32))
GIFT = Nano.ton("0.1")


@dataclass
class World:
    """A sandbox with one wallet, reachable directly and over HTTP."""

    blockchain: Blockchain
    direct: SandboxChain
    http: ToncenterChain
    session: aiohttp.ClientSession
    url: str
    alice: Actor

    async def get(self, method: str, **params: Any) -> tuple[int, Any]:
        async with self.session.get(f"{self.url}/api/v2/{method}", params=params) as response:
            return response.status, await response.json()

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        async with self.session.post(f"{self.url}{path}", json=body) as response:
            return response.status, await response.json()

    def give(self, to: Address = NOBODY, text: str = "") -> Any:
        body = begin_cell().store_uint(0, 32).store_snake_string(text).end_cell() if text else None
        return self.alice.send(to, GIFT, body, bounce=False)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    blockchain = Blockchain()
    alice = blockchain.actor("alice")
    direct = SandboxChain(blockchain)
    async with (
        ToncenterServer(direct, control=blockchain) as server,
        aiohttp.ClientSession() as session,
    ):
        limits = TransportLimits(timeout_s=20.0, attempts=1)
        clock = ManualClock(blockchain.now)
        http = ToncenterChain(f"{server.url}/api/v2", clock=clock, limits=limits)
        yield World(blockchain, direct, http, session, server.url, alice)
        await http.close()
    await direct.close()


# -- agreement ----------------------------------------------------------------------------------------


async def test_both_ways_can_agree_on_the_network_and_its_head(world: World) -> None:
    assert await world.http.global_id() == await world.direct.global_id()
    for _ in range(2):
        assert await world.http.head() == await world.direct.head()
        world.blockchain.warp(10)
    for index in (0, 8, 18, 20, 21, 4242):
        ours, theirs = await world.http.config_param(index), await world.direct.config_param(index)
        assert ours == theirs


async def test_both_ways_can_agree_on_accounts(world: World) -> None:
    world.give()
    for address in (world.alice.address, NOBODY, Address((0, b"\x45" * 32))):
        assert await world.http.account(address) == await world.direct.account(address)
    assert (await world.http.account(NOBODY)).status is AccountStatus.UNINIT


@pytest.mark.parametrize("typed", [True, False])
async def test_both_ways_can_agree_on_getters(world: World, typed: bool) -> None:
    world.http._typed_getters = typed
    for method, stack in (
        ("seqno", []),
        ("get_public_key", []),
        (85143, []),
        ("is_plugin_installed", [0, 5]),
    ):
        ours = await world.http.run_getter(world.alice.address, method, stack)
        assert ours == await world.direct.run_getter(world.alice.address, method, stack)
    for chain in (world.http, world.direct):
        with pytest.raises(GetterError) as caught:
            await chain.run_getter(world.alice.address, "no_such_method")
        assert caught.value.exit_code == 11
        with pytest.raises(AccountNotFoundError):
            await chain.run_getter(NOBODY, "seqno")


async def test_both_ways_can_agree_on_any_range_of_transactions(world: World) -> None:
    for number in range(12):
        world.give(text=f"gift {number}")
    address = world.alice.address
    lts = [record.lt for record in await world.direct.transactions(address, limit=100)]
    assert len(lts) > 12
    for limit in (1, 3, 100):
        for before in (None, lts[0] + 1, lts[0], lts[5] + 1, lts[5], lts[-1], 1):
            for after in (0, lts[9], lts[0]):
                ours = await world.http.transactions(address, limit=limit, before_lt=before, after_lt=after)
                theirs = await world.direct.transactions(
                    address, limit=limit, before_lt=before, after_lt=after
                )
                assert ours == theirs
    assert await world.http.transactions(Address((0, b"\x46" * 32))) == []


async def test_client_can_send_over_http_and_a_replay_is_rejected_with_its_exit_code(world: World) -> None:
    request = world.alice.request([Outgoing(NOBODY, GIFT, bounce=False)])
    assert await world.http.send(request) == request.hash
    assert world.blockchain.status(NOBODY) is AccountStatus.UNINIT
    before = await world.http.account(world.alice.address)
    with pytest.raises(ExternalRejectedError) as over_http:
        await world.http.send(request)
    with pytest.raises(ExternalRejectedError) as directly:
        await world.direct.send(request)
    assert over_http.value.exit_code == directly.value.exit_code == 33
    assert await world.http.account(world.alice.address) == before


async def test_client_cannot_send_what_is_no_message(world: World) -> None:
    with pytest.raises(ExternalRejectedError):
        await world.http.send(begin_cell().store_uint(0, 8).end_cell())


# -- watching over HTTP -------------------------------------------------------------------------------


async def test_watcher_can_follow_an_account_over_http_and_notice_a_restored_snapshot(world: World) -> None:
    source = AccountWatcher(
        world.http, world.alice.address, clock=ManualClock(0), page_size=3, wait_s=1.0, patience=2
    )
    seen = []
    for _ in range(3):
        for _ in range(5):
            world.give()
        while (transaction := await source.next_known()) is not None:
            seen.append(transaction)
    assert seen == (await world.direct.transactions(world.alice.address, limit=100))[::-1]
    snapshot = world.blockchain.snapshot()
    world.give()
    assert (await anext(source)).lt > seen[-1].lt
    world.blockchain.restore(snapshot)
    world.blockchain.warp(5)
    assert await source.next_known() is None
    with pytest.raises(ChainResetError):
        await source.next_known()


# -- shapes -------------------------------------------------------------------------------------------


def tonsdk_client(url: str) -> Any:
    """Load tonsdk's own toncenter client; its package also imports a native library that is not installed."""
    package = importlib.util.find_spec("tonsdk")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = f"{package.submodule_search_locations[0]}/provider/_toncenter/_client.py"
    spec = importlib.util.spec_from_file_location("tonsdk_toncenter_client", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ToncenterClient(f"{url}/api/v2/", api_key="unused")


async def test_unmodified_tonsdk_client_can_read_send_and_see_a_rejection(world: World) -> None:
    client = tonsdk_client(world.url)

    async def ask(query: dict[str, Any]) -> Any:
        return await query["func"](world.session, *query["args"], **query["kwargs"])

    text = world.alice.address.to_str()
    assert (await ask(client.raw_get_account_state(text)))["state"] == "active"
    seqno = (await ask(client.raw_run_method(text, "seqno", [])))["stack"]
    assert seqno == [["num", hex(world.alice.seqno)]]
    request = world.alice.request([Outgoing(NOBODY, GIFT, bounce=False)]).to_boc()
    assert (await ask(client.raw_send_message(request)))["@type"] == "ok"
    assert world.blockchain.balance(NOBODY) > 0
    with pytest.raises(Exception, match="500") as caught:
        await ask(client.raw_send_message(request))
    assert type(caught.value).__name__ == "ToncenterWrongResult"


async def test_reader_can_find_messages_fees_and_comments_in_transactions(world: World) -> None:
    text = "hello \N{GREEK SMALL LETTER ALPHA} " + "x" * 300
    world.give(text=text)
    status, body = await world.get("getTransactions", address=world.alice.address.to_str(), limit=1)
    assert status == 200
    (item,) = body["result"]
    assert item["in_msg"]["source"] == ""
    assert item["in_msg"]["destination"] == world.alice.address.to_str()
    (out,) = item["out_msgs"]
    assert out["value"] == str(int(GIFT))
    assert (out["source"], out["destination"]) == (world.alice.address.to_str(), NOBODY.to_str())
    assert out["message"] == text
    assert out["msg_data"]["@type"] == "msg.dataText"
    assert int(item["fee"]) == int(item["storage_fee"]) + int(item["other_fee"])
    status, body = await world.get("getTransactions", address=NOBODY.to_str())
    (received,) = body["result"]
    assert received["in_msg"] == out  # the same message on both ends, hash included
    assert item["transaction_id"]["hash"] != received["transaction_id"]["hash"]
    direct = (await world.direct.transactions(NOBODY))[0]
    assert base64.b64decode(received["transaction_id"]["hash"]) == direct.hash


async def test_fees_can_explain_the_senders_balance(world: World) -> None:
    before = world.alice.balance
    world.give()
    _, body = await world.get("getTransactions", address=world.alice.address.to_str(), limit=1)
    (item,) = body["result"]
    assert before - world.alice.balance == int(item["fee"]) + int(GIFT)


async def test_reader_can_page_with_an_inclusive_cursor(world: World) -> None:
    for _ in range(3):
        world.give()
    text = world.alice.address.to_str()
    _, body = await world.get("getTransactions", address=text, limit=2)
    last = body["result"][-1]["transaction_id"]
    for form in (last["hash"], base64.b64decode(last["hash"]).hex()):
        _, again = await world.get("getTransactions", address=text, limit=2, lt=last["lt"], hash=form)
        assert again["result"][0] == body["result"][-1]
    status, refused = await world.get("getTransactions", address=text, lt=last["lt"], hash="00" * 32)
    assert (status, refused["ok"]) == (500, False)


async def test_reader_can_use_every_simple_account_method(world: World) -> None:
    world.give()
    text = world.alice.address.to_str(is_url_safe=False)
    answers = {}
    for method in (
        "getAddressBalance",
        "getAddressState",
        "getWalletInformation",
        "getExtendedAddressInformation",
    ):
        status, body = await world.get(method, address=text)
        assert status == 200
        answers[method] = body["result"]
    balance = str(int(world.alice.balance))
    assert answers["getAddressBalance"] == balance
    assert answers["getAddressState"] == "active"
    wallet = answers["getWalletInformation"]
    assert (wallet["wallet"], wallet["wallet_type"], wallet["seqno"]) == (
        True,
        "wallet v4 r2",
        world.alice.seqno,
    )
    extended = answers["getExtendedAddressInformation"]
    assert extended["balance"] == balance
    assert extended["account_state"]["@type"] == "raw.accountState"
    _, body = await world.get("getWalletInformation", address=NOBODY.to_str())
    assert (body["result"]["wallet"], body["result"]["account_state"]) == (False, "uninitialized")


class SliceGetter(SandboxChain):
    """Test double: any get-method returns a slice, a cell and null."""

    async def run_getter(
        self, address: Address, method: str | int, stack: Sequence[StackValue] = ()
    ) -> list[StackValue]:
        cell = begin_cell().store_address(NOBODY).end_cell()
        return [cell.begin_parse(), cell, None]


async def test_caller_can_get_slices_typed_or_as_cells_where_only_the_old_method_is_used(
    world: World,
) -> None:
    chain = SliceGetter(world.blockchain)
    async with ToncenterServer(chain) as server:
        http = ToncenterChain(f"{server.url}/api/v2", clock=ManualClock(world.blockchain.now))
        typed = await http.run_getter(NOBODY, "m")
        http._typed_getters = False
        legacy = await http.run_getter(NOBODY, "m")
        await http.close()
        params = {"address": NOBODY.to_str(), "method": "m", "stack": []}
        async with world.session.post(f"{server.url}/api/v2/runGetMethod", json=params) as response:
            stack = (await response.json())["result"]["stack"]
    assert [type(value) for value in typed] == [Slice, Cell, type(None)]
    assert [type(value) for value in legacy] == [Cell, Cell, type(None)]
    assert [as_slice(values[0]).load_address() for values in (typed, legacy)] == [NOBODY, NOBODY]
    assert stack[0] == stack[1] == ["cell", {"bytes": stack[0][1]["bytes"]}]
    assert stack[2] == ["list", {"@type": "tvm.list", "elements": []}]
    await chain.close()


async def test_reader_can_look_up_known_blocks_only(world: World) -> None:
    shard = str(-(1 << 63))
    seqno = world.blockchain.seqno
    _, body = await world.get("lookupBlock", workchain=-1, shard=shard, seqno=seqno)
    assert body["result"]["seqno"] == seqno
    status, body = await world.get("getBlockHeader", workchain=-1, shard=shard, seqno=seqno + 1)
    assert (status, body["ok"]) == (500, False)
    status, _ = await world.get("getBlockHeader", workchain=0, shard=shard, seqno=seqno)
    assert status == 422


async def test_caller_can_use_json_rpc_with_its_own_id(world: World) -> None:
    call = {
        "jsonrpc": "2.0",
        "id": "abc",
        "method": "getAddressState",
        "params": {"address": NOBODY.to_str()},
    }
    status, body = await world.post("/api/v2/jsonRPC", call)
    assert (status, body) == (200, {"ok": True, "result": "uninitialized", "jsonrpc": "2.0", "id": "abc"})


# -- sandbox controls ---------------------------------------------------------------------------------


async def test_developer_can_mint_and_warp_over_http(world: World) -> None:
    amount = (1 << 53) + 1
    status, body = await world.post("/sandbox/faucet", {"address": NOBODY.to_str(), "amount": str(amount)})
    assert (status, body["result"]["balance"]) == (200, str(amount))
    now = world.blockchain.now
    _, body = await world.post("/sandbox/warp", {"seconds": 3600})
    assert body["result"]["now"] == world.blockchain.now == now + 3600
    async with world.session.get(f"{world.url}/sandbox/info") as response:
        info = (await response.json())["result"]
    assert info == {
        "global_id": world.blockchain.global_id,
        "seqno": world.blockchain.seqno,
        "now": now + 3600,
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faucet", {"address": NOBODY.to_str(), "amount": "0"}),
        ("faucet", {"address": NOBODY.to_str(), "amount": "1.5"}),
        ("faucet", {"address": NOBODY.to_str(), "amount": str(1 << 120)}),
        ("warp", {"seconds": -1}),
        ("warp", {"seconds": 1 << 40}),
        ("warp", {}),
    ],
)
async def test_developer_cannot_use_a_control_when_its_argument_makes_no_sense(
    world: World, path: str, body: Any
) -> None:
    before = (world.blockchain.seqno, world.blockchain.now)
    status, answer = await world.post(f"/sandbox/{path}", body)
    assert (status, answer["ok"], answer["code"]) == (422, False, 422)
    assert (world.blockchain.seqno, world.blockchain.now) == before


async def test_developer_cannot_mint_when_the_server_offers_no_controls(world: World) -> None:
    async with (
        ToncenterServer(world.direct) as server,
        world.session.post(f"{server.url}/sandbox/faucet", json={}) as response,
    ):
        assert response.status == 404


# -- bounds and lifecycle -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "status"),
    [
        ("getAddressInformation", {}, 422),
        ("getAddressInformation", {"address": "EQnonsense"}, 416),
        ("getAddressInformation", {"address": "0:1234"}, 416),
        ("getAddressInformation", {"address": {"a": 1}}, 416),
        ("getTransactions", {"address": NOBODY.to_str(), "limit": 101}, 422),
        ("getTransactions", {"address": NOBODY.to_str(), "limit": "x"}, 422),
        ("getTransactions", {"address": NOBODY.to_str(), "lt": 5, "hash": "zz"}, 422),
        ("runGetMethod", {"address": NOBODY.to_str(), "method": "", "stack": []}, 422),
        ("runGetMethod", {"address": NOBODY.to_str(), "method": "m", "stack": [["num", "x"]]}, 422),
        ("runGetMethod", {"address": NOBODY.to_str(), "method": "m", "stack": [["num", "1"]] * 5000}, 422),
        ("runGetMethodStd", {"address": NOBODY.to_str(), "method": "m", "stack": "[]"}, 422),
        ("sendBoc", {"boc": "AAAA"}, 422),
        ("sendBoc", {"boc": "A" * 300_000}, 422),
        ("getConfigParam", {"config_id": True}, 422),
        ("dropTables", {}, 422),
    ],
)
async def test_server_can_refuse_a_bad_request_in_toncenters_shape(
    world: World, method: str, params: dict[str, Any], status: int
) -> None:
    code, body = await world.post("/api/v2/jsonRPC", {"id": "1", "method": method, "params": params})
    assert (code, body["ok"], body["code"]) == (status, False, status)
    assert isinstance(body["error"], str)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"{", 422),
        (b"[1]", 422),
        (b"\xff\xfe", 422),
        (b"[" * 200_000, 422),
        (b'{"method": "getMasterchainInfo", "params": [1]}', 422),
        (io.BytesIO(b" " * (MAX_BODY_BYTES + 1)), 413),
    ],
)
async def test_server_can_refuse_a_body_when_it_is_damaged_or_too_large(
    world: World, data: bytes | io.BytesIO, status: int
) -> None:
    async with world.session.post(f"{world.url}/api/v2/jsonRPC", data=data) as response:
        assert (response.status, (await response.json())["ok"]) == (status, False)


async def test_adapter_can_report_a_server_that_does_not_know_the_block(world: World) -> None:
    world.http._head = None
    with pytest.raises((EndpointFailedError, MalformedResponseError)):
        await world.http._transport.call(
            "getBlockHeader", {"workchain": -1, "shard": -(1 << 63), "seqno": 10**6}
        )


async def test_server_can_listen_on_loopback_only_and_start_again(world: World) -> None:
    server = ToncenterServer(world.direct)
    with pytest.raises(ConfigError, match="not running"):
        _ = server.url
    await server.start()
    assert server.url.startswith("http://127.0.0.1:")
    with pytest.raises(ConfigError, match="already running"):
        await server.start()
    await server.stop()
    await server.stop()
    async with server, world.session.get(f"{server.url}/api/v2/getMasterchainInfo") as response:
        assert (await response.json())["ok"] is True


async def test_server_can_answer_many_clients_at_once(world: World) -> None:
    world.give()
    states = await asyncio.gather(*(world.http.account(world.alice.address) for _ in range(50)))
    assert len({state.last_lt for state in states}) == 1


async def test_server_can_name_the_fault_when_the_chain_is_closed(world: World) -> None:
    await world.direct.close()
    status, body = await world.get("getMasterchainInfo")
    assert (status, body["ok"]) == (503, False)
    assert "closed" in body["error"]
    assert encode_boc_base64(world.alice.state_init) not in body["error"]
