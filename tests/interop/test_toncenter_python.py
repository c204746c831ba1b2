"""Python's toncenter clients, unmodified, against the sandbox: tonutils' and tonsdk's."""

from __future__ import annotations

import importlib.util
from typing import Any

import aiohttp
import pytest
from pytoniq_core import Address
from ton_core import Cell as TonutilsCell
from ton_core import ContractState, NetworkGlobalID, PrivateKey, WalletV4Params
from tonutils.clients import ToncenterClient
from tonutils.contracts import WalletV4R2
from tonutils.exceptions import ProviderResponseError, RunGetMethodError

from cocoon_sdk.sandbox.actors import Outgoing
from cocoon_sdk.types import Nano
from tests.interop.toncenter_world import DATA, NOBODY, UNTIL_S, World, toncenter_world

GIFT = Nano.ton("0.1")


def client_of(world: World) -> ToncenterClient:
    base = f"{world.server.url}/api/v2"
    return ToncenterClient(NetworkGlobalID.MAINNET, api_key="unused", base_url=base)


async def test_tonutils_can_read_accounts_configuration_and_history() -> None:
    async with toncenter_world() as world, client_of(world) as client:
        info = await client.get_info(world.alice.address.to_str())
        state = world.blockchain.account(world.alice.address)
        assert (info.state, info.balance) == (ContractState.ACTIVE, state.balance)
        assert (info.last_transaction_lt, info.last_transaction_hash) == (
            state.last_lt,
            state.last_hash.hex(),
        )
        assert state.code is not None
        assert info.code_raw is not None
        assert TonutilsCell.one_from_boc(info.code_raw).hash == state.code.hash
        missing = await client.get_info(NOBODY.to_str())
        assert (missing.state, missing.balance) == (ContractState.NONEXIST, 0)
        config = await client.get_config()
        assert {8, 18, 20, 21, 34} <= set(config)
        for number in range(3):
            await world.give(GIFT + number)
        ours = world.blockchain.transactions(world.alice.address, limit=100)
        theirs = await client.get_transactions(world.alice.address.to_str(), limit=100)
        assert [item.cell.hash for item in theirs] == [item.hash for item in ours]
        some = await client.get_transactions(world.alice.address.to_str(), limit=2, from_lt=ours[1].lt)
        assert [item.lt for item in some] == [item.lt for item in ours[1:3]]


async def test_tonutils_can_call_getters_and_see_what_they_throw() -> None:
    async with toncenter_world() as world, client_of(world) as client:
        cell = TonutilsCell.one_from_boc(DATA.to_boc())
        answer = await client.run_get_method(world.echo.to_str(), "echo", [5, -7, cell, cell.begin_parse()])
        assert answer[:2] == [5, -7]
        assert [value.hash for value in answer[2:]] == [DATA.hash, DATA.hash]
        odd = await client.run_get_method(world.odd.to_str(), "odd")
        assert (odd[0], odd[1], odd[3]) == (7, [], [2, 3])
        assert (odd[2][0], odd[2][1].hash) == (1, DATA.hash)
        with pytest.raises(RunGetMethodError) as caught:
            await client.run_get_method(world.thrower.to_str(), "anything")
        assert caught.value.exit_code == 42


async def test_tonutils_wallet_can_transfer_and_see_a_rejection() -> None:
    async with toncenter_world() as world, client_of(world) as client:
        wallet = WalletV4R2.from_private_key(client, PrivateKey(world.alice.private_key))
        assert Address(wallet.address.to_str()) == world.alice.address
        until = world.blockchain.now + UNTIL_S
        message = await wallet.transfer(
            NOBODY.to_str(),
            int(GIFT),
            body="from tonutils",
            bounce=False,
            params=WalletV4Params(valid_until=until),
        )
        (received,) = world.blockchain.transactions(NOBODY)
        assert received.in_msg.value == GIFT
        with pytest.raises(ProviderResponseError, match="cannot apply external message") as caught:
            await client.send_message(message.as_hex)
        assert caught.value.code == 500
        assert "exitcode=33" in str(caught.value)
        with pytest.raises(ProviderResponseError, match="Failed to parse ton_addr") as wrong:
            await client.provider.get_address_information("nonsense")
        assert wrong.value.code == 422


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


async def test_tonsdk_can_read_send_and_see_a_rejection() -> None:
    async with toncenter_world() as world, aiohttp.ClientSession() as session:
        client = tonsdk_client(world.server.url)

        async def ask(query: dict[str, Any]) -> Any:
            return await query["func"](session, *query["args"], **query["kwargs"])

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
