"""Estimates against what transactions then cost, to the nanoTON."""

from __future__ import annotations

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.sandbox.actors import Outgoing
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.cells import address_key, to_native
from cocoon_sdk.sandbox.messages import Message, contract_address
from cocoon_sdk.sandbox.toncenter.fees import Fees, build_message, estimate
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ACCEPTS, THROWS_33, assemble, contract

NOBODY = Address((0, b"\x44" * 32))
MASTER = Address((-1, b"\x44" * 32))
YEAR_S = 365 * 86400
GIFT = Nano.ton("0.1")


def total(fees: Fees) -> int:
    return fees.in_fwd_fee + fees.storage_fee + fees.gas_fee + fees.fwd_fee


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [Outgoing(NOBODY, GIFT, bounce=False)],
        [Outgoing(NOBODY, GIFT, begin_cell().store_snake_string("x" * 500).end_cell(), bounce=False)] * 4,
        [Outgoing(MASTER, GIFT, bounce=False)],
        [Outgoing(NOBODY, Nano.ton(10_000), bounce=False)],  # cannot be paid: dropped, as its mode says
    ],
)
@pytest.mark.parametrize("idle_s", [0, YEAR_S])
def test_estimate_can_equal_what_a_transfer_then_costs(messages: list[Outgoing], idle_s: int) -> None:
    blockchain = Blockchain()
    alice = blockchain.actor("alice")
    blockchain.warp(idle_s)
    request = alice.request(messages)
    before, seqno = alice.balance, blockchain.seqno
    fees = estimate(blockchain, address_key(alice.address), request, check_signatures=True)
    assert (alice.balance, blockchain.seqno) == (before, seqno)
    done = blockchain.send_external(request)[0]
    assert fees.in_fwd_fee == done.import_fee
    assert fees.storage_fee == done.storage_fee
    assert fees.gas_fee == done.compute_fee
    assert fees.fwd_fee == (0 if done.action is None else done.action.forward_fees)
    assert total(fees) == done.cost
    sent = sum(int(message.value) for message in done.out_msgs)
    assert before - alice.balance == total(fees) + sent


def test_estimate_can_leave_signatures_unchecked() -> None:
    blockchain = Blockchain()
    alice = blockchain.actor("alice")
    request = alice.request([Outgoing(NOBODY, GIFT, bounce=False)])
    key, body = address_key(alice.address), Message(to_native(request)).body
    unsigned = build_message(blockchain, key, _without_signature(body), None, None)
    strict = estimate(blockchain, key, unsigned, check_signatures=True)
    assert strict.gas_fee == strict.fwd_fee == 0  # it would not be accepted
    lenient = estimate(blockchain, key, unsigned, check_signatures=False)
    assert lenient == estimate(blockchain, key, request, check_signatures=True)


def _without_signature(body: Cell) -> Cell:
    source = body.begin_parse()
    source.load_bytes(64)
    return begin_cell().store_bytes(bytes(64)).store_cell(source.to_cell()).end_cell()


def test_estimate_can_include_the_deployment_of_a_new_contract() -> None:
    blockchain = Blockchain()
    init = contract(ACCEPTS)
    address = contract_address(init)
    blockchain.faucet(address, Nano.ton(1))
    body = begin_cell().store_uint(1, 32).end_cell()
    key = address_key(address)
    message = build_message(blockchain, key, body, assemble(ACCEPTS), begin_cell().end_cell())
    fees = estimate(blockchain, key, message, check_signatures=True)
    done = blockchain.send_external(message)[0]
    assert done.success
    assert total(fees) == done.cost
    # From now on code and data do not travel any more.
    again = build_message(blockchain, key, body, assemble(ACCEPTS), begin_cell().end_cell())
    assert again.hash != message.hash
    assert again == build_message(blockchain, key, body, None, None)


def test_estimate_can_be_told_for_a_message_that_would_be_rejected() -> None:
    blockchain = Blockchain()
    address = blockchain.deploy(contract(THROWS_33), Nano.ton(1))
    blockchain.warp(YEAR_S)
    body = begin_cell().end_cell()
    for where in (address, NOBODY):
        key = address_key(where)
        message = build_message(blockchain, key, body, None, None)
        fees = estimate(blockchain, key, message, check_signatures=True)
        assert (fees.gas_fee, fees.fwd_fee) == (0, 0)
        assert fees.in_fwd_fee > 0
        assert (fees.storage_fee > 0) is (where is address)


def test_masterchain_can_be_dearer_than_the_basechain() -> None:
    blockchain = Blockchain()
    body = begin_cell().end_cell()
    prices = []
    for address in (NOBODY, MASTER):
        message = build_message(blockchain, address_key(address), body, None, None)
        prices.append(estimate(blockchain, address_key(address), message, check_signatures=True).in_fwd_fee)
    assert prices[1] > prices[0]
