"""The app with the clients it uses in production: pytoniq over ADNL, tonutils over toncenter's HTTP."""

from pytoniq import BaseWallet, LiteClient
from pytoniq.contract.contract import Contract
from savings import state_init, withdraw
from ton_core import Cell as TonutilsCell
from ton_core import NetworkGlobalID, WalletV4Params
from tonutils.clients import ToncenterClient
from tonutils.contracts import WalletV4R2

TON = 10**9
DAY_S = 24 * 60 * 60


async def test_app_can_deploy_with_pytoniq(sandbox, actor, liteserver_config):
    alice = actor("alice")
    client = LiteClient.from_config(liteserver_config, trust_level=1)
    await client.connect()
    try:
        wallet = await BaseWallet.from_private_key(client, alice.secret_key, version="v4r2")
        opens_at = sandbox.now + DAY_S
        contract = await Contract.from_state_init(client, 0, state_init(alice.address, opens_at))
        await wallet.deploy_via_internal(contract, 5 * TON)
        await contract.update()
        assert contract.is_active
        assert await contract.run_get_method("opensAt", []) == [opens_at]

        sandbox.warp(DAY_S)
        alice.send(contract.address, TON // 10, withdraw(3 * TON))
        await client.update_last_blocks()  # it would do that by itself a moment later
        await contract.update()
        assert contract.balance < 3 * TON
    finally:
        await client.close()


async def test_app_can_withdraw_with_tonutils(sandbox, actor, toncenter_url):
    alice = actor("alice", mnemonic=True)
    init = state_init(alice.address, opens_at=sandbox.now + DAY_S)
    savings = sandbox.deploy(init.serialize(), 5 * TON)
    sandbox.warp(DAY_S)
    async with ToncenterClient(NetworkGlobalID.MAINNET, base_url=toncenter_url, api_key="none") as client:
        wallet, *_ = WalletV4R2.from_mnemonic(client, list(alice.mnemonic))
        await wallet.transfer(
            savings.to_str(),
            TON // 10,
            body=TonutilsCell.one_from_boc(withdraw(3 * TON).to_boc()),
            params=WalletV4Params(valid_until=sandbox.now + 60),  # the sandbox is a day ahead of us
        )
        info = await client.get_info(savings.to_str())
    assert info.balance < 3 * TON
    assert sandbox.trace().transactions[-1].success
