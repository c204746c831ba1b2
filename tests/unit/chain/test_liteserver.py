"""The liteserver adapter and the real server: what it says must be what the chain in process says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus, Chain
from cocoon_sdk.chain.liteserver import LiteserverChain, method_id
from cocoon_sdk.chain.liteserver_blocks import Trust
from cocoon_sdk.chain.liteserver_limits import PoolLimits
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainStaleError,
    ChainUnavailableError,
    ConfigError,
    ExternalRejectedError,
    GetterError,
)
from cocoon_sdk.sandbox.actors import Outgoing
from cocoon_sdk.sandbox.engine import method_name_to_id
from cocoon_sdk.types import Nano
from tests.unit.chain.liteserver_world import World, world
from tests.unit.chain.strategies import comparable

NOBODY = Address((0, b"\x44" * 32))
ECHO = begin_cell().store_uint(0x30, 8).end_cell()
"""DROP: takes the method's number off the stack and leaves the rest as the result."""


@pytest.fixture
async def town() -> AsyncIterator[World]:
    async with world(servers=2) as made:
        yield made


def account_fields(state: Any) -> Any:
    cells = [None if cell is None else cell.hash for cell in (state.code, state.data)]
    return (state.status, state.balance, *cells, state.last_lt, state.last_hash)


async def same_account(one: Chain, other: Chain, address: Address) -> AccountStatus:
    state = await one.account(address)
    assert account_fields(state) == account_fields(await other.account(address))
    return state.status


@pytest.mark.parametrize("trust", Trust)
async def test_accounts_can_be_read_like_in_process_under_every_trust(town: World, trust: Trust) -> None:
    chain = town.connect(trust=trust)
    assert await same_account(chain, town.direct, town.alice.address) is AccountStatus.ACTIVE
    assert await same_account(chain, town.direct, NOBODY) is AccountStatus.NONEXIST
    for amount in ("0.1", "2"):
        town.alice.send(NOBODY, Nano.ton(amount), bounce=False)
        # No block is waited for: what happened before a read shows in it.
        assert await same_account(chain, town.direct, NOBODY) is AccountStatus.UNINIT
        assert await same_account(chain, town.direct, town.alice.address) is AccountStatus.ACTIVE
    assert (await chain.head()).now == town.blockchain.now


async def test_head_can_be_proven_again_and_again_as_blocks_come(town: World) -> None:
    chain = town.connect(1, trust=Trust.PROVEN)
    first = await chain.head()
    await town.node.mine(5)
    assert (await chain.head()).seqno == first.seqno + 5 == town.node.head.id.seqno


async def test_history_can_be_paged_like_in_process(town: World) -> None:
    chain = town.connect(1)
    for number in range(20):
        town.alice.send(NOBODY, Nano(1000 + number), bounce=False)
    whole = await town.direct.transactions(NOBODY, limit=100)
    lts = [record.lt for record in whole]
    assert len(lts) == 20
    bounds = [
        {"limit": 100},
        {},
        {"limit": 1},
        {"before_lt": lts[0]},
        {"before_lt": lts[3], "limit": 2},
        {"before_lt": lts[18] + 1},
        {"before_lt": lts[19]},
        {"before_lt": lts[0] + 1, "limit": 18},
        {"after_lt": lts[0]},
        {"after_lt": lts[5], "limit": 100},
        {"after_lt": lts[5], "before_lt": lts[5]},
        {"after_lt": lts[17] - 1, "before_lt": lts[2], "limit": 100},
        {"before_lt": 1},
        {"start": whole[0].link, "limit": 100},
        {"start": whole[2].previous, "after_lt": lts[9]},
        {"start": whole[2].previous, "before_lt": lts[7], "limit": 2},
        {"start": whole[-1].link},
        {"start": whole[-1].previous},
    ]
    for fresh in (chain, None):
        for bound in bounds:
            found = await (fresh or town.connect(1)).transactions(NOBODY, **bound)
            assert found == await town.direct.transactions(NOBODY, **bound), bound
    assert [record.cell.hash for record in whole] == [record.hash for record in whole]
    assert await chain.transactions(Address((0, bytes(32)))) == []
    with pytest.raises(ValueError, match="limit"):
        await chain.transactions(NOBODY, limit=0)


async def test_configuration_can_be_read_with_proof_of_what_is_absent(town: World) -> None:
    chain = town.connect(1, trust=Trust.PROVEN)
    for index in (0, 19, 20, 34, 9999, -1):
        found, known = await chain.config_param(index), await town.direct.config_param(index)
        if index != 34:  # a node appoints a validator of its own
            assert (found and found.hash) == (known and known.hash)
        assert (found is None) == (index in (9999, -1))
    assert await chain.global_id() == town.blockchain.global_id


async def test_getter_can_take_and_give_every_kind_of_value(town: World) -> None:
    chain = town.connect()
    state_init = begin_cell().store_uint(0b00110, 5).store_ref(ECHO).store_ref(Cell.empty()).end_cell()
    echo = town.blockchain.deploy(state_init, Nano.ton(1))
    cell = begin_cell().store_uint(5, 8).store_ref(Cell.empty()).end_cell()
    for value in (0, -1, 1 << 200, -(1 << 256), None, cell, cell.begin_parse(), [], [1, [2, None], cell]):
        (here,) = await chain.run_getter(echo, "echo", [value])
        (there,) = await town.direct.run_getter(echo, "echo", [value])
        assert comparable(here) == comparable(there) == comparable(value)
    assert await chain.run_getter(town.alice.address, method_id("seqno")) == [town.alice.seqno]


async def test_getter_can_fail_with_its_exit_code_or_for_want_of_code(town: World) -> None:
    chain = town.connect()
    with pytest.raises(GetterError, match="exit code 11") as failed:
        await chain.run_getter(town.alice.address, "no_such_method")
    assert failed.value.exit_code == 11
    with pytest.raises(AccountNotFoundError, match="no code"):
        await chain.run_getter(NOBODY, "seqno")


@pytest.mark.parametrize("name", ["seqno", "get_public_key", "a"])
def test_method_can_be_named_by_the_engines_number(name: str) -> None:
    assert method_id(name) == method_name_to_id(name)


async def test_message_can_be_sent_and_its_effect_be_read_at_once(town: World) -> None:
    chain = town.connect()
    for number in range(3):
        message = town.alice.request([Outgoing(NOBODY, Nano.ton("0.5"), bounce=False)])
        assert await chain.send(message) == message.hash
        assert (await chain.account(NOBODY)).balance == Nano.ton("0.5") * (number + 1)


async def test_message_cannot_be_sent_when_the_contract_refuses_it(town: World) -> None:
    chain = town.connect()
    message = town.alice.request([Outgoing(NOBODY, Nano.ton("0.5"), bounce=False)])
    await chain.send(message)
    with pytest.raises(ExternalRejectedError) as refused:
        await chain.send(message)
    with pytest.raises(ExternalRejectedError) as there:
        await town.direct.send(message)
    assert refused.value.exit_code == there.value.exit_code
    assert refused.value.exit_code is not None


async def test_waiter_can_be_woken_by_a_block_without_polling(town: World) -> None:
    chain = town.connect(1)
    asked = 0

    def count(_: Any, answer: dict[str, Any]) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return answer

    head = await chain.head()
    town.lie("getMasterchainInfo", count)
    waiting = [asyncio.create_task(chain.wait_head(head.seqno, 30)) for _ in range(3)]
    await asyncio.sleep(0.3)
    assert asked <= 3  # each waiter looked once before it began to wait
    await town.node.mine()
    assert {woken.seqno for woken in await asyncio.gather(*waiting)} == {head.seqno + 1}
    assert (await chain.wait_head(head.seqno + 1, 0.05)).seqno == head.seqno + 1
    assert (await chain.wait_head(head.seqno, 30)).seqno == head.seqno + 1


async def test_head_cannot_be_used_when_it_is_too_old(town: World) -> None:
    chain = town.connect(max_lag_s=60)
    await chain.head()
    town.clock.advance(61)
    with pytest.raises(ChainStaleError, match="61 s old, at most 60"):
        await chain.head()


async def test_chain_cannot_be_read_when_it_was_set_back(town: World) -> None:
    chain = town.connect(1, limits=PoolLimits(wait_s=0.1))
    await town.node.snapshot("before")
    await town.node.mine(3)
    seen = await chain.head()
    await town.node.restore("before")
    with pytest.raises(ChainStaleError, match=f"{seen.seqno} was seen before"):
        await chain.head()


async def test_chain_cannot_be_used_when_it_is_closed(town: World) -> None:
    chain = town.connect()
    waiting = asyncio.create_task(chain.wait_head((await chain.head()).seqno, 30))
    await asyncio.sleep(0.05)
    await chain.close()
    with pytest.raises(ChainUnavailableError, match="closed"):
        await waiting
    with pytest.raises(ChainUnavailableError, match="closed"):
        await chain.head()
    await chain.close()
    never = town.connect()
    await never.close()


@pytest.mark.parametrize(
    "settings", [{"quorum": 0}, {"quorum": 3}, {"send_to": 0}, {"max_lag_s": 0}], ids=str
)
async def test_settings_cannot_be_used_when_they_make_no_sense(town: World, settings: Any) -> None:
    with pytest.raises(ConfigError, match="make no sense"):
        town.connect(**settings)


async def test_chain_is_known_by_where_its_servers_come_from(town: World) -> None:
    assert isinstance(chain := town.connect(), LiteserverChain)
    assert repr(chain) == "LiteserverChain(the configuration given)"
