"""pytoniq's LiteClient and LiteBalancer, unmodified, at every trust level."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pytoniq import BaseWallet, LiteBalancer, LiteClient, WalletV4R2
from pytoniq.contract.contract import Contract
from pytoniq.liteclient.client import LiteServerError, RunGetMethodError
from pytoniq_core import Address, BlockIdExt, begin_cell

from tests.interop.liteserver_rig import ANSWER, TON, WALLET_KEY, Rig, liteserver, small_contract

NOBODY = Address((0, b"\x11" * 32))


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.chdir(tmp_path)  # pytoniq keeps proven blocks in the working folder
    async with liteserver() as running:
        yield running


@asynccontextmanager
async def client_of(rig: Rig, trust_level: int) -> AsyncIterator[LiteClient]:
    client = LiteClient.from_config(rig.config, trust_level=trust_level)
    await client.connect()
    try:
        yield client
    finally:
        await client.close()


async def deployed_wallet(rig: Rig, client: LiteClient | LiteBalancer) -> WalletV4R2:
    """Fund a wallet from the faucet and let it deploy itself by an external message."""
    wallet = await BaseWallet.from_private_key(client, WALLET_KEY, version="v4r2")
    await rig.node.faucet(wallet.address, 10 * TON)
    assert await wallet.send_init_external() == 1
    await wallet.update()
    assert wallet.is_active  # read right after the send
    return wallet


async def deployed_contract(wallet: WalletV4R2) -> Contract:
    contract = await Contract.from_state_init(wallet.provider, 0, small_contract())
    assert not contract.is_active
    assert await wallet.deploy_via_internal(contract, TON) == 1
    await contract.update()
    assert contract.is_active
    return contract


@pytest.mark.parametrize("trust_level", [0, 1, 2])
async def test_pytoniq_can_live_on_the_sandbox_at_any_trust_level(rig: Rig, trust_level: int) -> None:
    async with client_of(rig, trust_level) as client:
        wallet = await deployed_wallet(rig, client)
        contract = await deployed_contract(wallet)
        assert await contract.run_get_method("answer") == [ANSWER]
        assert await wallet.get_seqno() == 2
        assert contract.balance > 9 * TON // 10

        history = await client.get_transactions(wallet.address, 10)
        assert len(history) == 3  # funded, deployed, paid
        assert [len(one.out_msgs) for one in history] == [1, 0, 0]
        newest, blocks = await client.raw_get_transactions(contract.address, 1)
        assert newest[0].in_msg.info.src == wallet.address
        again = await client.get_one_transaction(contract.address, newest[0].lt, blocks[0])
        assert again is not None
        assert again.cell.hash == newest[0].cell.hash

        block = await client.raw_get_block(blocks[0])
        assert int.from_bytes(contract.address.hash_part, "big") in block.extra.account_blocks[0]
        listed = await client.raw_get_block_transactions(blocks[0])
        assert {one["account"] for one in listed} == {wallet.address, contract.address}
        paged = await client.raw_get_block_transactions(blocks[0], count=1)
        assert paged == listed
        full = await client.raw_get_block_transactions_ext(blocks[0], count=1)
        assert [one.cell.hash for one in full] == [one["hash"] for one in listed]


@pytest.mark.parametrize("trust_level", [0, 1, 2])
async def test_pytoniq_can_read_blocks_and_configuration_at_any_trust_level(
    rig: Rig, trust_level: int
) -> None:
    await rig.node.mine(3)
    async with client_of(rig, trust_level) as client:
        head = client.last_mc_block
        assert head.seqno == rig.node.head.seqno
        assert (await client.get_time())["now"] == rig.node.now
        assert (await client.get_version())["version"] == 0x101
        assert (await client.get_masterchain_info_ext())["last"]["seqno"] == head.seqno

        found, header = await client.lookup_block(-1, -(2**63), 2)
        assert (found.seqno, header.info.seqno) == (2, 2)
        by_lt, _ = await client.lookup_block(0, -(2**63), lt=header.info.start_lt)
        assert (by_lt.workchain, by_lt.seqno) == (0, 2)
        by_time, _ = await client.lookup_block(-1, -(2**63), utime=header.info.gen_utime)
        assert by_time.seqno == 1  # the first that is not older: time stood still
        assert (await client.raw_get_block_header(by_lt)).info.seqno == 2

        whole = await client.raw_get_block(found)
        assert whole.info.seqno == 2
        shards = await client.get_all_shards_info()
        assert [shard.seqno for shard in shards] == [head.seqno]
        assert (await client.raw_get_shard_info()).seq_no == head.seqno
        await client.get_shard_block_proof(shards[0], prove_mc=trust_level == 0)

        config = await client.get_config_all()
        assert {8, 19, 20, 21, 34} <= set(config)
        some = await client.get_config_params([19, 34])
        assert some[34].cur_validators.total == 1
        assert (await client.get_out_msg_queue_sizes())["shards"][0]["size"] == 0
        assert await client.get_libraries([bytes(32)]) == {bytes(32).hex(): None}


@pytest.mark.parametrize("trust_level", [0, 1, 2])
async def test_pytoniq_can_tell_an_account_that_does_not_exist(rig: Rig, trust_level: int) -> None:
    async with client_of(rig, trust_level) as client:
        assert await client.raw_get_account_state(NOBODY) == (None, None)
        with pytest.raises(RunGetMethodError, match="exit code -256"):
            await client.run_get_method(NOBODY, "seqno", [])


async def test_pytoniq_can_read_an_account_as_it_was_at_an_old_block(rig: Rig) -> None:
    async with client_of(rig, 0) as client:
        before = client.last_mc_block
        await rig.node.faucet(NOBODY, 3 * TON)
        await rig.node.faucet(NOBODY, 4 * TON)
        between, _ = await client.lookup_block(-1, -(2**63), before.seqno + 1)
        assert await client.raw_get_account_state(NOBODY, before) == (None, None)
        account, _ = await client.raw_get_account_state(NOBODY, between)
        assert account.storage.balance.grams == 3 * TON
        await client.wait_masterchain_seqno(before.seqno + 2, 1000, "getMasterchainInfo")
        account, _ = await client.raw_get_account_state(
            NOBODY, BlockIdExt.from_dict((await client.get_masterchain_info())["last"])
        )
        assert account.storage.balance.grams == 7 * TON


async def test_pytoniq_is_told_why_a_message_was_refused(rig: Rig) -> None:
    async with client_of(rig, 2) as client:
        wallet = await deployed_wallet(rig, client)
        stale = wallet.raw_create_transfer_msg(wallet.private_key, 9, wallet.wallet_id, [])
        with pytest.raises(LiteServerError, match="cannot apply external message") as refused:
            await wallet.send_external(body=stale)
        assert "exitcode=33" in refused.value.message
        assert refused.value.code == -701
        with pytest.raises(LiteServerError, match="not a valid bag of cells"):
            await client.raw_send_message(b"junk")
        with pytest.raises(LiteServerError, match="before smart-contract execution"):
            await client.raw_send_message(
                Contract.create_external_msg(dest=NOBODY, body=begin_cell().end_cell()).serialize().to_boc()
            )


async def test_pytoniq_is_told_what_does_not_exist(rig: Rig) -> None:
    async with client_of(rig, 2) as client:
        with pytest.raises(
            LiteServerError, match=r"ltdb: block not found \(last known masterchain block: 2\)"
        ):
            await client.lookup_block(-1, -(2**63), 99)
        head = client.last_mc_block
        ghost = BlockIdExt(-1, head.shard, 77, b"\1" * 32, b"\2" * 32)
        with pytest.raises(LiteServerError, match="is not in db") as missing:
            await client.raw_get_block(ghost)
        assert missing.value.code == 651
        with pytest.raises(LiteServerError, match="cannot locate transaction in block") as unknown:
            await client.raw_get_transactions(NOBODY, 1, 5, b"\3" * 32)
        assert unknown.value.code == -400


async def test_pytoniq_goes_on_when_no_block_comes_for_longer_than_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cocoon_sdk.sandbox.liteserver import Limits

    monkeypatch.chdir(tmp_path)
    async with liteserver(Limits(max_wait_s=0.05)) as rig, client_of(rig, 2) as client:
        for _ in range(3):  # the updater's waits end without a block, and it asks again
            await client.wait_masterchain_seqno(client.last_mc_block.seqno + 1, 50, "getMasterchainInfo")
        assert not client.updater.done()
        wallet = await deployed_wallet(rig, client)
        assert wallet.is_active


@pytest.mark.parametrize("trust_level", [0, 1, 2])
async def test_pytoniq_goes_on_when_the_chain_goes_back(rig: Rig, trust_level: int) -> None:
    async with client_of(rig, trust_level) as client:
        await rig.node.snapshot("empty")
        wallet = await deployed_wallet(rig, client)
        await rig.node.restore("empty")
        for _ in range(100):  # until its own task has asked what it asks after each block
            await client.get_time()
            if client.last_mc_block.seqno == rig.node.head.seqno:
                break
        again = await deployed_wallet(rig, client)
        assert again.address == wallet.address


async def test_pytoniq_can_prove_everything_when_it_comes_right_after_a_reset(rig: Rig) -> None:
    await rig.node.mine(2)
    head = await rig.node.reset()
    assert head is not rig.node.archive.init_block
    async with client_of(rig, 0) as client:
        assert client.last_mc_block.seqno == head.seqno


async def test_balancer_can_live_on_the_sandbox_over_two_servers(rig: Rig) -> None:
    from cocoon_sdk.sandbox.liteserver import LiteServer, global_config

    async with LiteServer(rig.node, seed=bytes(32)) as second:
        config = global_config(rig.node.archive, [rig.server, second])
        balancer = LiteBalancer.from_config(config, trust_level=1)
        await balancer.start_up()
        try:
            assert balancer.alive_peers_num == 2
            wallet = await deployed_wallet(rig, balancer)
            contract = await deployed_contract(wallet)
            assert await contract.run_get_method("answer") == [ANSWER]
            assert len(await balancer.get_transactions(wallet.address, 10)) == 3
            assert 34 in await balancer.get_config_all()
            with pytest.raises(Exception, match="no alive archive peers"):  # as on any young chain
                await balancer.lookup_block(-1, -(2**63), 1, only_archive=True)
        finally:
            await balancer.close_all()


async def test_balancer_takes_the_sandbox_for_an_archive_when_it_has_1024_blocks(rig: Rig) -> None:
    await rig.node.mine(1024)
    balancer = LiteBalancer.from_config(rig.config, trust_level=2)
    await balancer.start_up()
    try:
        assert balancer.archival_peers_num == 1
        found, _ = await balancer.lookup_block(-1, -(2**63), 1, only_archive=True)
        assert found.seqno == 1
    finally:
        await balancer.close_all()
