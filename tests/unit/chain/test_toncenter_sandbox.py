"""The adapter, the HTTP server and the real sandbox together: both ways to the same chain must agree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytoniq_core import Address, Cell, Slice, begin_cell

from cocoon_sdk.chain.base import AccountStatus, ChainHead
from cocoon_sdk.chain.http_transport import EndpointFailedError, TransportLimits
from cocoon_sdk.chain.stack import as_slice
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.chain.watcher import AccountWatcher, ChainResetError
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import AccountNotFoundError, ExternalRejectedError, GetterError
from cocoon_sdk.sandbox.actors import Actor, Outgoing
from cocoon_sdk.sandbox.adapter import SandboxChain
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter import ToncenterServer
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import contract, getter

NOBODY = Address((0, b"\x44" * 32))
GIFT = Nano.ton("0.1")


@dataclass
class World:
    """A sandbox with one wallet, reachable directly and over HTTP."""

    node: Node
    direct: SandboxChain
    http: ToncenterChain
    alice: Actor

    @property
    def blockchain(self) -> Blockchain:
        return self.node.blockchain

    def give(self, to: Address = NOBODY, text: str = "") -> Any:
        body = begin_cell().store_uint(0, 32).store_snake_string(text).end_cell() if text else None
        return self.alice.send(to, GIFT, body, bounce=False)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    blockchain = Blockchain()
    alice = blockchain.actor("alice")
    direct = SandboxChain(blockchain)
    async with Node(blockchain) as node, ToncenterServer(node) as server:
        limits = TransportLimits(timeout_s=20.0, attempts=1)
        clock = ManualClock(blockchain.now)
        http = ToncenterChain(f"{server.url}/api/v2", clock=clock, limits=limits)
        yield World(node, direct, http, alice)
        await http.close()
    await direct.close()


# -- agreement ----------------------------------------------------------------------------------------


async def test_both_ways_can_agree_on_the_network_and_its_head(world: World) -> None:
    assert await world.http.global_id() == await world.direct.global_id()
    for _ in range(2):
        head = world.node.head
        assert await world.http.head() == ChainHead(head.seqno, head.gen_utime)
        await world.node.warp(10)
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
    whole = await world.direct.transactions(address, limit=100)
    for start in (whole[0].link, whole[4].previous, whole[-1].link, whole[-1].previous):
        for before in (None, lts[2], lts[-2]):
            bounds = {"limit": 3, "before_lt": before, "after_lt": lts[-1] - 1, "start": start}
            found = [each.lt for each in whole if each.lt <= start[0] and (not before or each.lt < before)]
            for chain in (world.http, world.direct):
                assert [each.lt for each in await chain.transactions(address, **bounds)] == found[:3]


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
    await world.node.snapshot("before")
    world.give()
    assert (await anext(source)).lt > seen[-1].lt
    await world.node.restore("before")
    await world.node.warp(5)
    assert await source.next_known() is None
    with pytest.raises(ChainResetError):
        await source.next_known()


async def test_caller_can_get_slices_typed_or_as_cells_where_only_the_old_method_is_used(
    world: World,
) -> None:
    body = getter("c4 PUSHCTR DUP CTOS SWAP PUSHNULL")
    data = begin_cell().store_address(NOBODY).end_cell()
    address = await world.node.apply(lambda chain: chain.deploy(contract(body, data), Nano.ton(1)))
    typed = await world.http.run_getter(address, "m")
    world.http._typed_getters = False
    legacy = await world.http.run_getter(address, "m")
    assert [type(value) for value in typed] == [Slice, Cell, type(None)]
    assert [type(value) for value in legacy] == [Cell, Cell, type(None)]
    assert [as_slice(values[0]).load_address() for values in (typed, legacy)] == [NOBODY, NOBODY]


async def test_adapter_can_report_a_server_that_does_not_know_the_block(world: World) -> None:
    with pytest.raises(EndpointFailedError, match="not in db"):
        await world.http._transport.call(
            "getBlockHeader", {"workchain": -1, "shard": -(1 << 63), "seqno": 10**6}
        )
