"""npm's ton-lite-client, unmodified, in a process of its own."""

from __future__ import annotations

from pytoniq_core import Address

from tests.interop.liteserver_rig import (
    ANSWER,
    TON,
    address_of,
    liteserver,
    node,
    run_foreign,
    small_contract,
    wallet_init,
)

SEED = bytes(range(32))


async def test_ton_lite_client_can_live_on_the_sandbox() -> None:
    init = small_contract()
    async with liteserver() as rig:
        wallet = address_of(wallet_init(SEED))
        await rig.node.faucet(wallet, 10 * TON)
        seen = await run_foreign(
            *node("liteserver_client.mjs"),
            task={
                "config": rig.config,
                "seed": SEED.hex(),
                "code": init.code.to_boc().hex(),
                "data": init.data.to_boc().hex(),
            },
        )
        head = rig.node.head
        now = rig.node.now
    assert Address(seen["wallet"]) == wallet
    assert seen["state"] == "active"
    assert 9 * TON // 10 < int(seen["balance"]) < TON
    assert seen["pruned"] == seen["account"]
    assert seen["nobody"] == {"state": None, "last": None}
    assert seen["method"] == [0, [str(ANSWER)]]
    assert seen["seqno"] == 1
    assert seen["history"] == [1, 0]
    assert seen["one"] is True
    assert seen["head"] == head.seqno
    assert seen["shards"] == {"0": {str(-(2**63)): head.seqno}}
    assert seen["found"] is True
    assert seen["header"] is True
    assert sorted(seen["listed"]) == sorted(
        Address(seen[who]).hash_part.hex() for who in ("wallet", "contract")
    )
    assert [-1, head.seqno, 0] in seen["full"]
    assert [0, head.seqno, 2] in seen["full"]
    assert seen["config"] > 30
    assert seen["time"] == now
    assert seen["version"] == 0x101
    assert "exitcode=33" in seen["stale"]
    assert "ltdb: block not found" in seen["missing"]
    assert seen["awaited"] is True
