"""Frames, bounds and errors of the API, whatever the method."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import pytest

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.sandbox.actors import Outgoing
from cocoon_sdk.sandbox.toncenter import ToncenterServer
from cocoon_sdk.sandbox.toncenter.server import MAX_BODY_BYTES
from tests.unit.sandbox.toncenter.conftest import GIFT, NOBODY, Api


async def test_caller_can_ask_in_four_ways_and_gets_the_same(api: Api) -> None:
    text = api.alice.address.to_str()
    answers = [
        await api.get("getAddressState", address=text),
        await api.post("getAddressState", address=text),
        await api.rpc("getAddressState", address=text),
        await api.ask("POST", "/jsonRPC", json={"method": "getAddressState", "params": {"address": text}}),
    ]
    assert {(status, body["ok"], body["result"]) for status, body in answers} == {(200, True, "active")}
    for _, body in answers:
        time, liteserver, elapsed = body["@extra"].split(":")
        assert int(time) > 0
        assert liteserver == "0"
        assert float(elapsed) >= 0
    assert (answers[2][1]["jsonrpc"], answers[2][1]["id"]) == ("2.0", "1")
    assert "jsonrpc" not in answers[0][1]


@pytest.mark.parametrize(
    ("method", "params", "status"),
    [
        ("getAddressInformation", {}, 422),
        ("getAddressInformation", {"address": "EQnonsense"}, 422),
        ("getAddressInformation", {"address": {"a": 1}}, 422),
        ("getAddressInformation", {"address": NOBODY.to_str(), "seqno": 0}, 422),
        ("getAddressInformation", {"address": NOBODY.to_str(), "seqno": 10_000}, 500),
        ("getAddressInformation", {"address": NOBODY.to_str(), "unknown": 1}, 422),
        ("getTransactions", {"address": NOBODY.to_str(), "limit": 1001}, 422),
        ("getTransactions", {"address": NOBODY.to_str(), "limit": 0}, 422),
        ("getTransactions", {"address": NOBODY.to_str(), "lt": 5}, 422),
        ("getTransactions", {"address": NOBODY.to_str(), "lt": 5, "hash": "zz"}, 422),
        ("getTransactions", {"address": NOBODY.to_str(), "lt": 5, "hash": "00" * 32}, 500),
        ("getBlockTransactions", {"workchain": 0, "shard": "-1", "seqno": 1, "after_lt": 1}, 422),
        ("lookupBlock", {"workchain": -1, "shard": "-9223372036854775808"}, 422),
        ("lookupBlock", {"workchain": -1, "shard": "-9223372036854775808", "seqno": 1, "lt": 1}, 422),
        ("lookupBlock", {"workchain": 7, "shard": "-9223372036854775808", "seqno": 1}, 500),
        ("runGetMethod", {"address": NOBODY.to_str(), "method": "", "stack": []}, 422),
        ("runGetMethod", {"address": NOBODY.to_str(), "method": "m"}, 422),
        ("runGetMethod", {"address": NOBODY.to_str(), "method": "m", "stack": [["num", "x"]]}, 422),
        ("runGetMethod", {"address": NOBODY.to_str(), "method": "m", "stack": [["num", "1"]] * 5000}, 422),
        ("runGetMethod", {"address": NOBODY.to_str(), "method": "m", "stack": [["tvm.Builder", ""]]}, 542),
        ("runGetMethodStd", {"address": NOBODY.to_str(), "method": "m", "stack": "[]"}, 422),
        ("sendBoc", {"boc": ""}, 422),
        ("sendBoc", {"boc": "AAAA"}, 400),
        ("sendBoc", {"boc": "A" * 300_000}, 422),
        ("estimateFee", {"address": NOBODY.to_str(), "body": "AAAA"}, 400),
        ("getConfigParam", {}, 422),
        ("getConfigParam", {"config_id": True}, 422),
        ("getConfigParam", {"config_id": -1}, 422),
        ("getConfigParam", {"config_id": 1, "param": 1}, 422),
        ("getLibraries", {"libraries": [f"{index:064x}" for index in range(17)]}, 400),
        ("getTokenData", {"address": NOBODY.to_str()}, 409),
        ("tryLocateTx", {"source": NOBODY.to_str(), "destination": NOBODY.to_str(), "created_lt": 1}, 404),
        ("dropTables", {}, 404),
    ],
)
async def test_server_can_refuse_a_bad_request_in_toncenters_shape(
    api: Api, method: str, params: dict[str, Any], status: int
) -> None:
    code, words = await api.refusal(method, **params)
    assert (code, bool(words)) == (status, True)
    direct, body = await api.post(method, **params)
    assert (direct, body["error"]) == (status, words)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"{", 422),
        (b"[1]", 422),
        (b"\xff\xfe", 422),
        (b"[" * 200_000, 422),
        (b"9" * 10_000, 422),
        (b'{"method": "getMasterchainInfo", "params": [1]}', 422),
        (b'{"method": 5}', 404),
        (b"", 404),
        (io.BytesIO(b" " * (MAX_BODY_BYTES + 1)), 413),
    ],
)
async def test_server_can_refuse_a_body_when_it_is_damaged_or_too_large(
    api: Api, data: bytes | io.BytesIO, status: int
) -> None:
    code, body = await api.ask("POST", "/api/v2/jsonRPC", data=data)
    assert (code, body["ok"], body["code"]) == (status, False, status)


async def test_caller_can_ask_for_nothing_with_an_empty_array(api: Api) -> None:
    call = {"method": "getMasterchainInfo", "params": []}
    assert (await api.ask("POST", "/api/v2/jsonRPC", json=call))[0] == 200


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/api/v2/jsonRPC", 404),
        ("GET", "/api/v2/sendBoc", 405),
        ("GET", "/api/v2/runGetMethod", 405),
        ("PUT", "/api/v2/getMasterchainInfo", 405),
        ("DELETE", "/api/v2/jsonRPC", 405),
        ("GET", "/", 404),
        ("GET", "/api/v2/", 404),
        ("GET", "/api/v2/a/b", 404),
        ("GET", "/api/v2/%00", 404),
    ],
)
async def test_server_can_refuse_paths_and_verbs_in_json(api: Api, verb: str, path: str, status: int) -> None:
    code, body = await api.ask(verb, path)
    assert (code, body["ok"], body["code"]) == (status, False, status)


async def test_pages_of_any_origin_can_ask_and_keys_are_taken(api: Api) -> None:
    url = f"{api.server.url}/api/v2/getMasterchainInfo"
    headers = {"Origin": "https://example.com", "X-API-Key": "secret"}
    async with api.session.options(url, headers=headers) as response:
        assert response.status == 204
        assert "X-API-Key" in response.headers["Access-Control-Allow-Headers"]
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
    for wanted in (url, f"{url}?api_key=secret", url.replace("getMasterchainInfo", "nothing")):
        async with api.session.get(wanted, headers=headers) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert response.status == (404 if "nothing" in wanted else 200)
    async with api.session.head(url) as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_server_can_listen_on_loopback_only_and_start_again(api: Api) -> None:
    server = ToncenterServer(api.node)
    with pytest.raises(ConfigError, match="not running"):
        _ = server.url
    await server.start()
    assert server.url.startswith("http://127.0.0.1:")
    with pytest.raises(ConfigError, match="already running"):
        await server.start()
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        await ToncenterServer(api.node, port=port).start()
    await server.stop()
    await server.stop()
    async with server, api.session.get(f"{server.url}/api/v2/getMasterchainInfo") as response:
        assert (await response.json())["ok"] is True


async def test_server_can_answer_many_clients_at_once(api: Api) -> None:
    await api.give()
    text = api.alice.address.to_str()
    states = await asyncio.gather(*(api.result("getAddressInformation", address=text) for _ in range(50)))
    assert len({state["last_transaction_id"]["lt"] for state in states}) == 1


async def test_server_can_name_the_fault_when_the_node_is_closed(api: Api) -> None:
    request = api.alice.request([Outgoing(NOBODY, GIFT, bounce=False)])
    await api.node.__aexit__()
    boc = base64.b64encode(request.to_boc()).decode()
    status, words = await api.refusal("sendBoc", boc=boc)
    assert status == 503
    assert "it is not running" in words


async def test_server_can_say_what_methods_it_has(api: Api) -> None:
    assert {"getMasterchainInfo", "runGetMethodStd", "tryLocateSourceTx"} <= set(api.server.methods)
    assert list(api.server.methods) == sorted(api.server.methods)
