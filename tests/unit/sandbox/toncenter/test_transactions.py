"""What the API says of transactions and messages."""

from __future__ import annotations

import base64
import json

import pytest
from pytoniq_core import Cell, begin_cell

from cocoon_sdk.sandbox.actors import Outgoing
from cocoon_sdk.sandbox.toncenter.transactions import ENCRYPTED_COMMENT_OP
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import EMITS, contract
from tests.unit.sandbox.toncenter.conftest import GIFT, NOBODY, Api


async def test_reader_can_find_messages_fees_and_comments(api: Api) -> None:
    text = "hello \N{GREEK SMALL LETTER ALPHA} " + "x" * 300
    done = await api.give(text=text)
    (item,) = await api.result("getTransactions", address=api.alice.address.to_str(), limit=1)
    assert item["@type"] == "ext.transaction"
    assert item["address"]["account_address"] == api.alice.address.to_str()
    assert item["account"] == f"0:{api.alice.address.hash_part.hex().upper()}"
    assert Cell.one_from_boc(base64.b64decode(item["data"])) == done[0].cell
    assert (item["in_msg"]["source"], item["in_msg"]["value"]) == ("", "0")
    (out,) = item["out_msgs"]
    assert (out["@type"], out["value"], out["ihr_fee"]) == ("ext.message", str(int(GIFT)), "0")
    assert (out["source"], out["destination"]) == (api.alice.address.to_str(), NOBODY.to_str())
    assert out["message"] == text
    assert out["msg_data"] == {"@type": "msg.dataText", "text": base64.b64encode(text.encode()).decode()}
    assert base64.b64decode(out["hash"]) == done[0].out_msgs[0].hash
    assert int(item["fee"]) == int(item["storage_fee"]) + int(item["other_fee"]) == int(done[0].cost)
    (received,) = await api.result("getTransactions", address=NOBODY.to_str())
    assert received["in_msg"] == out  # the same message on both ends, hash included


async def test_reader_can_see_bodies_that_are_no_text(api: Api) -> None:
    body = begin_cell().store_uint(0x12345678, 32).store_uint(0b101, 3).end_cell()
    init = contract(EMITS)
    message = Outgoing(NOBODY, GIFT, body, init, bounce=False)
    await api.node.apply(lambda _: api.alice.send_many([message]))
    (received,) = await api.result("getTransactions", address=NOBODY.to_str())
    data = received["in_msg"]["msg_data"]
    assert data["@type"] == "msg.dataRaw"
    assert Cell.one_from_boc(base64.b64decode(data["body"])) == body
    assert Cell.one_from_boc(base64.b64decode(data["init_state"])) == init
    assert base64.b64decode(received["in_msg"]["body_hash"]) == body.hash
    text = received["in_msg"]["message"]
    assert text.endswith("\n")
    assert base64.b64decode(text) == bytes.fromhex("12345678a0")  # the last bits, not the end marker


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (begin_cell().end_cell(), "msg.dataRaw", ""),
        (begin_cell().store_uint(0, 32).end_cell(), "msg.dataText", ""),
        (begin_cell().store_uint(0, 32).store_uint(1, 3).end_cell(), "msg.dataRaw", "AAAAACA=\n"),
        (begin_cell().store_uint(0, 32).store_bytes(b"\xff").end_cell(), "msg.dataText", "\ufffd"),
        (
            begin_cell().store_uint(ENCRYPTED_COMMENT_OP, 32).store_bytes(b"secret").end_cell(),
            "msg.dataEncryptedText",
            "secret",
        ),
    ],
)
async def test_reader_can_tell_comments_from_other_bodies(api: Api, body: Cell, kind: str, text: str) -> None:
    await api.node.apply(lambda _: api.alice.send_many([Outgoing(NOBODY, GIFT, body, bounce=False)]))
    (received,) = await api.result("getTransactions", address=NOBODY.to_str())
    assert (received["in_msg"]["msg_data"]["@type"], received["in_msg"]["message"]) == (kind, text)


async def test_reader_can_see_events_that_leave_the_chain(api: Api) -> None:
    address = await api.node.apply(lambda chain: chain.deploy(contract(EMITS), Nano.ton(1)))
    (item,) = await api.result("getTransactions", address=address.to_str())
    (event,) = item["out_msgs"]
    assert (event["source"], event["destination"], event["value"]) == (address.to_str(), "", "0")
    assert int(event["created_lt"]) == int(item["transaction_id"]["lt"]) + 1


async def test_reader_can_page_with_an_inclusive_cursor(api: Api) -> None:
    for _ in range(4):
        await api.give()
    text = api.alice.address.to_str()
    everything = await api.result("getTransactions", address=text, limit=100)
    assert len(everything) == 5
    last = everything[1]["transaction_id"]
    for form in (last["hash"], base64.b64decode(last["hash"]).hex()):
        again = await api.result("getTransactions", address=text, limit=2, lt=last["lt"], hash=form)
        assert again == everything[1:3]
    to_lt = everything[3]["transaction_id"]["lt"]
    assert await api.result("getTransactions", address=text, to_lt=to_lt, archival=True) == everything[:3]
    # Logical time 0 stands for none.
    assert await api.result("getTransactions", address=text, lt=0, limit=100) == everything
    status, words = await api.refusal("getTransactions", address=text, lt=last["lt"], hash="00" * 32)
    assert (status, words) == (
        500,
        "LITE_SERVER_UNKNOWN: cannot locate transaction in block with specified logical time",
    )
    assert await api.result("getTransactions", address=NOBODY.to_str(False), to_lt="9" * 18) == []


async def test_reader_can_get_the_standard_form(api: Api) -> None:
    await api.give()
    text = api.alice.address.to_str()
    old = await api.result("getTransactions", address=text, limit=1)
    found = await api.result("getTransactionsStd", address=text, limit=1)
    (item,) = found["transactions"]
    assert (found["@type"], item["@type"]) == ("raw.transactions", "raw.transaction")
    assert item["data"] == old[0]["data"]
    assert item["in_msg"]["@type"] == "raw.message"
    assert item["in_msg"]["source"] == {"@type": "accountAddress", "account_address": ""}
    assert item["out_msgs"][0]["destination"]["account_address"] == NOBODY.to_str()
    previous = api.blockchain.transactions(api.alice.address, limit=1)[0]
    assert found["previous_transaction_id"]["lt"] == str(previous.prev_lt)
    nothing = await api.result("getTransactionsStd", address="0:" + "99" * 32)
    assert (nothing["transactions"], nothing["previous_transaction_id"]["lt"]) == ([], "0")


async def test_reader_can_go_from_one_end_of_a_message_to_the_other(api: Api) -> None:
    for _ in range(3):
        await api.give()
    for item in await api.result("getTransactions", address=NOBODY.to_str()):
        message = item["in_msg"]
        ends = {
            "source": message["source"],
            "destination": message["destination"],
            "created_lt": message["created_lt"],
        }
        for method in ("tryLocateTx", "tryLocateResultTx"):
            assert await api.result(method, **ends) == item
        source = await api.result("tryLocateSourceTx", **ends)
        assert message in source["out_msgs"]
        assert source["account"].lower() == api.alice.address.to_str(False)
        for method in ("tryLocateTx", "tryLocateSourceTx"):
            wrong = {**ends, "created_lt": str(int(message["created_lt"]) + 1)}
            assert await api.refusal(method, **wrong) == (404, "transaction was not found")


async def test_answers_can_always_be_written_as_json(api: Api) -> None:
    await api.give(text="\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    found = await api.result("getTransactions", address=NOBODY.to_str())
    assert json.loads(json.dumps(found)) == found
