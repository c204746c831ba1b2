"""Get-methods, sending and estimates over the API."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.stack import decode_legacy, decode_typed, encode_legacy, encode_typed
from cocoon_sdk.sandbox.actors import Outgoing
from cocoon_sdk.sandbox.messages import contract_address, external_message, internal_message
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ACCEPTS, THROWS_33, assemble, contract, getter
from tests.unit.sandbox.toncenter.conftest import GIFT, NOBODY, Api

CELL = begin_cell().store_uint(0xABC, 12).end_cell()


def boc(cell: Cell) -> str:
    return base64.b64encode(cell.to_boc()).decode()


async def deploy(api: Api, body: str, data: Cell = CELL) -> Address:
    return await api.node.apply(lambda chain: chain.deploy(contract(body, data), Nano.ton(1)))


async def test_caller_can_pass_and_get_every_kind_of_value_in_both_dialects(api: Api) -> None:
    echo = await deploy(api, getter(""))
    values: list[Any] = [1, -(1 << 256), CELL, None, [1, [CELL, 2, 3]], [7, [8, None]]]
    typed = await api.result(
        "runGetMethodStd", address=echo.to_str(), method="any", stack=encode_typed(values)
    )
    assert (typed["@type"], typed["exit_code"]) == ("smc.runResult", 0)
    assert typed["gas_used"] > 0
    assert decode_typed(typed["stack"]) == values
    arguments = [value for value in values if value is not None]
    legacy = await api.result(
        "runGetMethod", address=echo.to_str(), method="any", stack=encode_legacy(arguments)
    )
    assert decode_legacy(legacy["stack"]) == arguments
    assert legacy["block_id"]["seqno"] == api.node.head.seqno
    state = api.blockchain.account(echo)
    assert legacy["last_transaction_id"]["lt"] == str(state.last_lt)


async def test_caller_can_see_what_was_thrown_and_what_is_not_there(api: Api) -> None:
    thrower = await deploy(api, "DEPTH 2 INT LESS IF:<{ 42 THROW }>")
    thrown = await api.result("runGetMethod", address=thrower.to_str(), method="any", stack=[])
    assert thrown["exit_code"] == 42
    missing = await api.result(
        "runGetMethod", address=api.alice.address.to_str(), method="no_such_method", stack=[]
    )
    assert missing["exit_code"] == 11
    nothing = await api.result("runGetMethod", address=NOBODY.to_str(), method="any", stack=[])
    assert (nothing["exit_code"], nothing["gas_used"], nothing["stack"]) == (-13, 0, [])


async def test_caller_can_name_a_method_by_number_and_run_it_on_an_older_state(api: Api) -> None:
    seqno = api.node.head.seqno
    await api.give()
    text = api.alice.address.to_str()
    for method in ("seqno", 85143, "85143"):
        now = await api.result("runGetMethod", address=text, stack=[], method=method)
        assert now["stack"] == [["num", "0x1"]]
    old = await api.result("runGetMethod", address=text, stack=[], seqno=seqno, method="seqno")
    assert old["stack"] == [["num", "0x0"]]
    assert old["block_id"]["seqno"] == seqno


async def test_sender_can_know_the_hash_of_what_was_sent(api: Api) -> None:
    request = api.alice.request([Outgoing(NOBODY, GIFT, bounce=False)])
    found = await api.result("sendBocReturnHash", boc=boc(request))
    assert found["@type"] == "raw.extMessageInfo"
    assert base64.b64decode(found["hash"]) == request.hash
    sent = api.blockchain.transactions(api.alice.address, limit=1)[0]
    assert sent.in_msg.hash == request.hash
    # The normal form does not depend on how a wallet lays its message out.
    normal = (
        begin_cell()
        .store_uint(0b10, 2)
        .store_uint(0, 2)
        .store_address(api.alice.address)
        .store_coins(0)
        .store_uint(0b01, 2)
        .store_ref(sent.in_msg.body)
        .end_cell()
    )
    assert base64.b64decode(found["hash_norm"]) == normal.hash
    assert normal.hash != request.hash
    again = api.alice.request([Outgoing(NOBODY, GIFT, bounce=False)])
    assert await api.result("sendBoc", boc=boc(again)) == {"@type": "ok"}


async def test_sender_can_read_the_exit_code_of_a_rejection(api: Api) -> None:
    address = await deploy(api, THROWS_33)
    message = external_message(address, CELL)
    for method in ("sendBoc", "sendBocReturnHash"):
        status, words = await api.refusal(method, boc=boc(message))
        assert status == 500
        account = address.hash_part.hex().upper()
        assert words.startswith(
            "LITE_SERVER_UNKNOWN: cannot apply external message to current state : External message was not "
            "accepted: cannot run message on account: inbound external message rejected by transaction "
            f"{account}:\nexitcode=33"
        )
    assert await api.result("getAddressBalance", address=address.to_str()) == str(
        int(api.blockchain.balance(address))
    )


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (external_message(NOBODY, CELL), "before smart-contract execution"),
        (begin_cell().store_uint(0, 8).end_cell(), "the cell ends too early"),
        (internal_message(src=NOBODY, dst=NOBODY, value=1), "before smart-contract execution"),
        (begin_cell().end_cell(), "not accepted"),
    ],
)
async def test_sender_can_see_that_a_message_reaches_no_contract(api: Api, message: Cell, words: str) -> None:
    status, found = await api.refusal("sendBoc", boc=boc(message))
    assert status == 500
    assert found.startswith("LITE_SERVER_UNKNOWN: cannot apply external message to current state : ")
    assert words in found


async def test_sender_can_let_the_service_build_the_message(api: Api) -> None:
    init = contract(ACCEPTS)
    address = contract_address(init)
    await api.node.faucet(address, Nano.ton(1))
    code, data = assemble(ACCEPTS), begin_cell().end_cell()
    query = {"address": address.to_str(), "body": boc(CELL), "init_code": boc(code), "init_data": boc(data)}
    fees = await api.result("estimateFee", **query, ignore_chksig=False)
    assert await api.result("sendQuery", **query) == {"@type": "ok"}
    deployed = api.blockchain.transactions(address, limit=1)[0]
    assert deployed.success
    source = fees["source_fees"]
    assert fees["@type"] == "query.fees"
    assert sum(value for name, value in source.items() if name != "@type") == int(deployed.cost)
    assert fees["destination_fees"] == []
    plain = {"address": address.to_str(), "body": boc(CELL), "init_code": "", "init_data": ""}
    assert await api.result("sendQuery", **plain) == {"@type": "ok"}
    status, words = await api.refusal("estimateFee", **{**plain, "init_code": boc(code)})
    assert status == 422
    assert "init_data" in words


async def test_service_cannot_be_held_up_by_a_body_of_shared_cells(api: Api) -> None:
    bag = _shared_bag(41)  # 2^40 ways through 41 cells
    fees = await api.result("estimateFee", address=api.alice.address.to_str(), body=bag)
    assert fees["source_fees"]["in_fwd_fee"] > 0
    echo = await deploy(api, getter(""))
    found = await api.result("runGetMethod", address=echo.to_str(), method="m", stack=[["tvm.Cell", bag]])
    assert found["stack"][0][1]["bytes"]
    status, _ = await api.refusal("sendBoc", boc=bag)
    assert status == 500


def _shared_bag(count: int) -> str:
    """Write a bag in which every cell holds the next one twice, without walking the tree it unfolds to."""
    cells = b"".join(bytes([2, 0, index + 1, index + 1]) for index in range(count - 1)) + bytes([0, 2, 1])
    head = bytes.fromhex("b5ee9c720101") + bytes([count, 1, 0, len(cells), 0])
    return base64.b64encode(head + cells).decode()
