"""@ton/ton's TonClient, unmodified, against the sandbox's toncenter API."""

from __future__ import annotations

import base64
from typing import Any

from pytoniq_core import Address

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.sandbox.cells import Reader
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.types import Nano
from tests.interop.toncenter_world import DATA, NOBODY, World, toncenter_world


def as_told(item: Transaction) -> dict[str, Any]:
    """What the script prints of a transaction."""
    return {
        "lt": str(item.lt),
        "hash": base64.b64encode(item.hash).decode(),
        "total": str(int(item.total_fees)),
        "out": [str(message.created_lt) for message in item.out_msgs],
    }


def total(fees: dict[str, Any]) -> int:
    assert fees["@type"] == "fees"
    return sum(value for name, value in fees.items() if name != "@type")


async def test_ton_client_can_read_call_send_and_be_refused_as_at_the_real_service() -> None:
    async with toncenter_world() as world:
        before = world.alice.balance
        answer = await world.script("toncenter_ton.mjs")
        check_reading(world, answer, before)
        check_getters(world, answer)
        check_sending(world, answer)
        check_young_wallet(world, answer)
        check_refusals(world, answer)


def check_reading(world: World, answer: dict[str, Any], before: Nano) -> None:
    assert (answer["balance"], answer["deployed"], answer["seqno"]) == (str(int(before)), True, 0)
    ours, nobodys = answer["states"]
    code = world.blockchain.account(world.alice.address).code
    assert code is not None
    assert (ours["state"], ours["code"]) == ("active", code.hash.hex())
    assert ours["now"] == world.blockchain.now
    assert ours["block"] == {"workchain": -1, "shard": "-9223372036854775808", "seqno": 1}
    assert nobodys == {
        "balance": "0",
        "state": "uninitialized",
        "code": None,
        "last": None,
        "block": ours["block"],
        "now": ours["now"],
    }
    assert answer["masterchain"] == {
        "workchain": -1,
        "shard": "-9223372036854775808",
        "initSeqno": 0,
        "latestSeqno": 1,
    }
    assert answer["shards"] == [{"workchain": 0, "shard": "-9223372036854775808", "seqno": 1}]


def check_getters(world: World, answer: dict[str, Any]) -> None:
    assert answer["echoed"] == ["-5", str(1 << 255), True, True]
    assert answer["gas"] > 0
    number, nothing, pair, listed = answer["odd"]
    assert listed == {"type": "tuple", "items": ["2", "3"]}
    assert pair == {"type": "tuple", "items": ["1", DATA.hash.hex()]}
    assert (nothing, number) == ({"type": "null"}, {"type": "int", "value": "7"})
    assert answer["builder"]["status"] == 542
    assert "Unsupported stack entry type: tvm.Builder" in answer["builder"]["data"]["error"]
    assert answer["thrown"]["words"] == "Unable to execute get method. Got exit_code: 42"
    assert (answer["thrownCode"], answer["missing"]) == (42, -13)


def check_sending(world: World, answer: dict[str, Any]) -> None:
    all_sent = world.sent(world.alice, 100)[::-1]
    transfer = next(item for item in all_sent if item.out_msgs and item.out_msgs[0].dst == NOBODY)
    place = all_sent.index(transfer)
    assert total(answer["fees"]) == int(transfer.cost)
    history = all_sent[: place + 1][::-1]
    assert answer["history"] == [as_told(item) for item in history][:3]
    assert answer["one"] == as_told(transfer)
    assert answer["older"] == [as_told(item) for item in history[1:3]]
    received = next(
        item for item in world.blockchain.transactions(NOBODY, limit=100) if item.parent is transfer
    )
    assert answer["located"] == [as_told(received), as_told(transfer)]
    assert received.in_msg.value == Nano.ton("0.25")
    assert {Address(item["account"]) for item in answer["inShard"]} == {world.alice.address, NOBODY}
    assert {item["hash"] for item in answer["inShard"]} == {
        base64.b64encode(item.hash).decode() for item in (transfer, received)
    }


def check_young_wallet(world: World, answer: dict[str, Any]) -> None:
    fifth = Address(answer["fifth"]["address"])
    assert (answer["fifthBefore"], answer["fifth"]["seqno"], answer["fifth"]["after"]) == (False, 1, 2)
    assert world.blockchain.status(fifth) is AccountStatus.ACTIVE
    _, deployed, _ = world.blockchain.transactions(fifth, limit=9)[::-1]
    assert total(answer["fifthFees"]) == int(deployed.cost)
    data = world.blockchain.shard_account(fifth).data
    assert data is not None
    reader = Reader.of(data)
    assert (reader.bit(), reader.uint(32)) == (True, 2)


def check_refusals(world: World, answer: dict[str, Any]) -> None:
    account = world.alice.address.hash_part.hex().upper()
    replay = answer["replay"]
    assert (replay["status"], replay["data"]["ok"], replay["data"]["code"]) == (500, False, 500)
    words = replay["data"]["error"]
    assert words.startswith("LITE_SERVER_UNKNOWN: cannot apply external message to current state : ")
    assert f"rejected by transaction {account}:\nexitcode=33" in words
    assert answer["garbage"]["status"] == 400
    assert answer["garbage"]["data"]["error"].startswith("INVALID_BAG_OF_CELLS")
    assert (answer["unlocated"]["status"], answer["unlocated"]["data"]["error"]) == (
        404,
        "transaction was not found",
    )
    assert answer["unknownBlock"]["status"] == 500
    assert "seqno not in db" in answer["unknownBlock"]["data"]["error"]
    assert answer["unknownTransaction"]["status"] == 500
    assert "lt=123: lt not in db" in answer["unknownTransaction"]["data"]["error"]
