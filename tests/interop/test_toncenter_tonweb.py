"""tonweb's HttpProvider and wallet, unmodified, against the sandbox's toncenter API."""

from __future__ import annotations

import base64
from typing import Any

from cocoon_sdk.sandbox.config import NetworkConfig
from cocoon_sdk.types import Nano
from tests.interop.toncenter_world import NOBODY, World, toncenter_world


async def test_tonweb_can_read_transfer_and_be_refused_as_at_the_real_service() -> None:
    async with toncenter_world() as world:
        # tonweb sends its code along with the first request, deployed or not: this is the first one.
        await world.node.apply(lambda _: world.alice.send(NOBODY, Nano.ton(1), bounce=False))
        before = world.alice.balance
        answer = await world.script("toncenter_tonweb.mjs")
        check_accounts(world, answer, before)
        check_transfer(world, answer, before)
        check_getters(answer)
        check_blocks(world, answer)
        assert "Failed to parse ton_addr: 'nonsense'" in answer["badAddress"]
        assert answer["badMethod"] == "Not Found"


def check_accounts(world: World, answer: dict[str, Any], before: Nano) -> None:
    assert answer["address"] == world.alice.address.to_str()
    assert answer["balance"] == answer["info"]["balance"] == answer["extended"]["balance"] == str(int(before))
    assert answer["info"]["@type"] == "raw.fullAccountState"
    assert answer["info"]["extra_currencies"] == []
    assert answer["extended"]["account_state"] == {
        "@type": "wallet.v4.accountState",
        "wallet_id": 698983191,
        "seqno": 1,
    }
    wallet = answer["wallet"]
    assert (wallet["wallet"], wallet["wallet_type"]) == (True, "wallet v4 r2")
    assert (wallet["seqno"], wallet["wallet_id"]) == (1, 698983191)
    assert answer["seqno"] == 1
    assert (answer["nobody"]["wallet"], answer["nobody"]["account_state"]) == (False, "uninitialized")


def check_transfer(world: World, answer: dict[str, Any], before: Nano) -> None:
    (done,) = world.blockchain.transactions(world.alice.address, limit=1)
    fees = answer["fees"]["source_fees"]
    assert sum(value for name, value in fees.items() if name != "@type") == int(done.cost)
    assert answer["fees"]["destination_fees"] == []
    assert answer["sent"] == {"@type": "ok"}
    assert "cannot apply external message" in answer["replay"]
    assert "exitcode=33" in answer["replay"]
    newest, oldest = answer["transactions"]
    assert newest["transaction_id"]["hash"] == base64.b64encode(done.hash).decode()
    assert (newest["@type"], newest["in_msg"]["source"]) == ("ext.transaction", "")
    (out,) = newest["out_msgs"]
    assert (out["value"], out["destination"]) == ("500000000", NOBODY.to_str())
    assert (out["message"], out["msg_data"]["@type"]) == ("from tonweb", "msg.dataText")
    assert base64.b64decode(out["msg_data"]["text"]) == b"from tonweb"
    assert int(newest["fee"]) == int(newest["storage_fee"]) + int(newest["other_fee"]) == int(done.cost)
    assert answer["paged"] == [newest]
    assert oldest != newest
    assert int(answer["later"]) == int(before) - 500_000_000 - int(done.cost)


def check_getters(answer: dict[str, Any]) -> None:
    assert answer["number"] == "42"
    called = answer["called"]
    assert (called["exit_code"], called["stack"]) == (0, [["num", "0x7"]])
    assert called["@type"] == "smc.runResult"
    assert called["block_id"]["@type"] == "ton.blockIdExt"
    assert answer["thrown"] == 42


def check_blocks(world: World, answer: dict[str, Any]) -> None:
    param = NetworkConfig.mainnet().param(8)
    assert param is not None
    assert answer["config"] == param.hash.hex()
    last, head = answer["masterchain"]["last"], world.node.head
    assert (last["seqno"], last["workchain"]) == (head.id.seqno, -1)
    assert base64.b64decode(last["root_hash"]) == head.id.root_hash
    assert base64.b64decode(last["file_hash"]) == head.id.file_hash
    (shard,) = answer["shards"]["shards"]
    assert base64.b64decode(shard["root_hash"]) == head.shard_block.id.root_hash
    header = answer["header"]
    assert header["id"] == last
    assert (header["gen_utime"], header["is_key_block"]) == (head.gen_utime, False)
    assert (header["start_lt"], header["end_lt"]) == (str(head.start_lt), str(head.end_lt))
    (previous,) = header["prev_blocks"]
    assert previous["seqno"] == last["seqno"] - 1
    listed = answer["inShard"]
    assert (listed["incomplete"], listed["req_count"], listed["id"]) == (False, 10, shard)
    assert [base64.b64decode(item["hash"]) for item in listed["transactions"]] == [
        item.hash for item in head.shard_block.transactions
    ]
    assert answer["inMaster"]["transactions"] == []
