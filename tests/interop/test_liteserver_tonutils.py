"""tonutils' LiteClient and LiteBalancer, unmodified."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from ton_core import ContractState, NetworkGlobalID, PrivateKey
from ton_core import StateInit as TonutilsStateInit
from ton_core import to_cell as tonutils_cell
from tonutils.clients import LiteBalancer, LiteClient
from tonutils.contracts import WalletV4R2
from tonutils.exceptions import TonutilsError

from cocoon_sdk.sandbox.liteserver import LiteServer, global_config
from tests.interop.liteserver_rig import ANSWER, TON, WALLET_KEY, Rig, address_of, liteserver, small_contract


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with liteserver() as running:
        yield running


async def live(rig: Rig, client: LiteClient | LiteBalancer) -> None:
    """Do what an application does, and check every answer."""
    wallet = WalletV4R2.from_private_key(client, PrivateKey(WALLET_KEY))
    await rig.node.faucet(wallet.address, 10 * TON)
    init = small_contract()
    contract = address_of(init).to_str()
    await wallet.transfer(  # deploys the wallet on the way
        contract,
        TON,
        state_init=TonutilsStateInit(
            code=tonutils_cell(init.code.to_boc().hex()), data=tonutils_cell(init.data.to_boc().hex())
        ),
        bounce=False,
    )
    await wallet.refresh()  # reads right after the send
    assert wallet.state is ContractState.ACTIVE
    assert 8 * TON < wallet.balance < 9 * TON

    info = await client.get_info(contract)
    assert info.state is ContractState.ACTIVE
    assert 9 * TON // 10 < info.balance < TON
    assert await client.run_get_method(contract, "answer", []) == [ANSWER]
    assert await client.run_get_method(wallet.address, "seqno", []) == [1]

    history = await client.get_transactions(wallet.address)
    assert [len(one.out_msgs) for one in history] == [1, 0]
    config = await client.get_config()
    assert config[34].cur_validators.total == 1

    head = (await client.get_masterchain_info()).last_block()
    found, header = await client.lookup_block(-1, -(2**63), seqno=head.seqno)
    assert found == head
    assert header.info.seqno == head.seqno
    shards = await client.get_all_shards_info(head)
    transactions = await client.get_block_transactions(shards[0])
    assert {one.account_addr_hex for one in transactions} == {
        wallet.address.hash_part.hex(),
        address_of(init).hash_part.hex(),
    }
    assert (await client.get_block_header(shards[0]))[0] == shards[0]
    assert await client.get_time() == rig.node.now
    with pytest.raises(TonutilsError, match="cannot apply external message"):
        await client.send_message("b5ee9c72")


async def test_tonutils_can_live_on_the_sandbox(rig: Rig) -> None:
    async with LiteClient.from_config(NetworkGlobalID.MAINNET, config=rig.config, index=0) as client:
        await live(rig, client)


async def test_tonutils_balancer_can_live_on_the_sandbox_over_two_servers(rig: Rig) -> None:
    async with LiteServer(rig.node, seed=bytes(32)) as second:
        config = global_config(rig.node.archive, [rig.server, second])
        async with LiteBalancer.from_config(NetworkGlobalID.MAINNET, config=config) as balancer:
            assert len(balancer.alive_clients) == 2
            await live(rig, balancer)
