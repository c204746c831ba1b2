"""tonpy's C++ lite client, unmodified, in a process of its own."""

from __future__ import annotations

import base64
import time

from pytoniq import WalletV4R2
from pytoniq.contract.contract import Contract
from pytoniq_core import Address
from pytoniq_core.tlb.account import StateInit

from tests.interop.liteserver_rig import (
    ANSWER,
    TON,
    WALLET_KEY,
    address_of,
    liteserver,
    python,
    run_foreign,
    small_contract,
    wallet_init,
)

WALLET_ID = 698983191


def deployment(wallet: Address, init: StateInit) -> list[str]:
    """Return what deploys the wallet, and lets it deploy the contract, as signed external messages."""
    messages = []
    sent = WalletV4R2.create_wallet_internal_message(
        address_of(init), value=TON, state_init=init, bounce=False
    )
    for seqno, orders in ((0, []), (1, [sent])):
        body = WalletV4R2.raw_create_transfer_msg(
            WALLET_KEY, seqno, WALLET_ID, orders, valid_until=int(time.time()) + 600
        )
        own = wallet_init(WALLET_KEY[:32]) if seqno == 0 else None
        external = Contract.create_external_msg(dest=wallet, state_init=own, body=body)
        messages.append(base64.b64encode(external.serialize().to_boc()).decode())
    return messages


async def test_tonpy_can_live_on_the_sandbox() -> None:
    init = small_contract()
    wallet, contract = address_of(wallet_init(WALLET_KEY[:32])), address_of(init)
    async with liteserver() as rig:
        await rig.node.faucet(wallet, 10 * TON)
        task = {
            "config": rig.config,
            "messages": deployment(wallet, init),
            "wallet": wallet.to_str(is_user_friendly=False),
            "contract": contract.to_str(is_user_friendly=False),
        }
        seen = await run_foreign(*python("liteserver_tonpy.py"), task=task)
        head, chain = rig.node.head, rig.node.blockchain
        history = chain.transactions(wallet)
        newest = history[0]
        block = rig.node.archive.block_of(newest)
    assert seen["time"] == rig.node.now
    assert seen["head"] == head.seqno
    assert 9 * TON // 10 < seen["balance"] < TON
    assert seen["history"] == [one.hash.hex().upper() for one in history]
    assert seen["one"] == newest.hash.hex().upper()
    in_block = sorted(one.hash.hex().upper() for one in block.transactions)
    assert len(in_block) == 2
    assert seen["listed"] == in_block
    assert seen["backwards"] == in_block
    assert seen["block"] == block.id.root_hash.hex().upper()
    assert seen["config"] > 30
    assert str(ANSWER) in seen["answer"]
