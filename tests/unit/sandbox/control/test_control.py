"""The control API: who may use it, what it does, what it refuses."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cocoon_sdk.sandbox import FAUCET, Outgoing
from cocoon_sdk.sandbox.cells import native_from_boc
from cocoon_sdk.sandbox.control import (
    CONTROL_FILE,
    ControlClient,
    ControlServer,
    NotRunningError,
    RemoteError,
)
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.reading import read_transactions
from cocoon_sdk.sandbox.storage import SandboxFolder
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.types import Nano

ONE = Nano.ton(1)


class World:
    def __init__(self, node: Node, folder: Path, client: ControlClient) -> None:
        self.node, self.folder, self.client = node, folder, client
        self.rewound = 0

    async def went_back(self) -> None:
        self.rewound += 1


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    folder = tmp_path / "sandbox"
    async with Node() as node:
        with SandboxFolder(folder):
            world = World(node, folder, None)  # type: ignore[arg-type]
            server = ControlServer(node, folder, {"endpoint": "here"}, kept=False, rewound=world.went_back)
            async with server, ControlClient(folder) as client:
                world.client = client
                yield world
        assert not (folder / CONTROL_FILE).exists()


def read(answer: dict[str, Any]) -> list[Transaction]:
    return read_transactions(
        [
            (int(each["key"], 16), native_from_boc(base64.b64decode(each["boc"])))
            for each in answer["transactions"]
        ]
    )


async def test_tester_can_steer_the_chain(world: World) -> None:
    call = world.client.call
    assert (await call("status"))["endpoint"] == "here"
    gift = await call("faucet", address=FAUCET.to_str(), amount=str(int(ONE)))
    assert (gift["balance"], gift["seqno"]) == (str(int(ONE)), 2)
    assert (await call("mine", blocks=3))["seqno"] == 5
    before = world.node.now
    assert (await call("warp", seconds=60))["now"] == before + 60
    assert await call("snapshot", name="here") == {"name": "here", "seqno": 6}
    await call("mine", blocks=1)
    assert (await call("restore", name="here"))["seqno"] == 6
    assert (await call("status"))["snapshots"] == {"here": 6}
    assert (await call("reset"))["seqno"] == 1
    assert world.rewound == 2


async def test_tester_can_read_a_whole_trace_by_any_of_its_transactions_or_messages(world: World) -> None:
    alice, bob = [await world.node.apply(lambda chain, n=n: chain.actor(n)) for n in ("alice", "bob")]
    request = alice.request([Outgoing(bob.address, ONE), Outgoing(FAUCET, ONE)])
    await world.node.send(request.to_boc())
    done = world.node.blockchain.transactions(limit=4)[::-1]  # the wallet, bob, the faucet, its bounce back
    assert len(done) == 4
    for wanted in (request.hash.hex(), done[1].hash.hex(), base64.b64encode(done[3].hash).decode()):
        found = read(await world.client.call("trace", hash=wanted))
        assert [each.hash for each in found] == [each.hash for each in done]
        assert [each.parent and each.parent.hash for each in found] == [
            each.parent and each.parent.hash for each in done
        ]
    with pytest.raises(RemoteError, match="no transaction"):
        await world.client.call("trace", hash="00" * 32)


async def test_tester_can_follow_an_account(world: World) -> None:
    alice = await world.node.apply(lambda chain: chain.actor("alice"))
    first = await world.client.call("transactions", limit=10, address=alice.address.to_str())
    assert len(first["transactions"]) == 1
    nothing = await world.client.call("transactions", limit=10, after_lt=first["last_lt"], wait_s=0)
    assert nothing["transactions"] == []
    await world.node.send(alice.request([Outgoing(FAUCET, ONE, bounce=False)]).to_boc())
    new = await world.client.call("transactions", limit=10, after_lt=first["last_lt"], wait_s=0)
    assert [each.key for each in read(new)] == [
        each.key for each in world.node.blockchain.transactions(limit=2)
    ][::-1]
    only = await world.client.call(
        "transactions", limit=10, after_lt=first["last_lt"], address=FAUCET.to_str(), wait_s=0
    )
    assert len(only["transactions"]) == 1


async def test_nobody_can_steer_without_the_secret(world: World) -> None:
    document = json.loads((world.folder / CONTROL_FILE).read_text())
    assert stat.S_IMODE((world.folder / CONTROL_FILE).stat().st_mode) == 0o600
    assert document["url"].startswith("http://127.0.0.1:")
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Bearer \u00e4"}):
            async with session.post(f"{document['url']}/mine", json={"blocks": 1}, headers=headers) as answer:
                assert answer.status == 401
    assert world.node.head.seqno == 1


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("faucet", {"address": "nowhere", "amount": 1}),
        ("faucet", {"address": FAUCET.to_str(), "amount": 0}),
        ("faucet", {"address": FAUCET.to_str(), "amount": 1.5}),
        ("faucet", {"address": "5:" + "00" * 32, "amount": 1}),
        ("mine", {}),
        ("mine", {"blocks": 1_000_000}),
        ("mine", {"blocks": True}),
        ("warp", {"seconds": -1}),
        ("snapshot", {"name": "@start"}),
        ("restore", {"name": "nothing"}),
        ("trace", {"hash": "zz"}),
        ("transactions", {"limit": 0}),
        ("accounts", {"addresses": ["x"]}),
        ("accounts", {"addresses": "x"}),
        ("unheard_of", {}),
    ],
)
async def test_calls_that_make_no_sense_are_refused_and_change_nothing(
    world: World, method: str, values: dict[str, Any]
) -> None:
    with pytest.raises(RemoteError):
        await world.client.call(method, **values)
    assert world.node.head.seqno == 1
    assert (await world.client.call("status"))["seqno"] == 1


async def test_body_that_is_no_object_is_refused(world: World) -> None:
    document = json.loads((world.folder / CONTROL_FILE).read_text())
    headers = {"Authorization": f"Bearer {document['secret']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for body in (b"[]", b"{", b"[" * 50_000):
            async with session.post(f"{document['url']}/mine", data=body) as answer:
                assert answer.status == 400
                assert (await answer.json())["error"]["type"] == "BadCallError"


def test_client_is_told_when_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        ControlClient(tmp_path)
    (tmp_path / CONTROL_FILE).write_text("{}")  # what a killed sandbox leaves
    with pytest.raises(NotRunningError):
        ControlClient(tmp_path)
