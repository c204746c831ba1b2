"""The lazy transaction view says the same as pytoniq-core's eager parser."""

from __future__ import annotations

from typing import Any

import pytest
from pytoniq_core import Address, begin_cell
from pytoniq_core.tlb.transaction import Transaction as Parsed

from cocoon_sdk.sandbox import Blockchain, Outgoing, Transaction
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ANSWERS, EMITS, OVERSPENDS, THROWS_33, contract, large_data

TON = Nano.ton(1)
NOBODY = Address((0, b"\x33" * 32))


@pytest.fixture
def varied(blockchain: Blockchain) -> list[Transaction]:
    """Transactions of every kind: successes, throws, failed actions, bounces, skips, debts, freezes."""
    alice = blockchain.actor("alice")
    addresses = [blockchain.deploy(contract(code), TON) for code in (ANSWERS, EMITS, OVERSPENDS)]
    thrower = contract("DUP 0 EQINT IFJMP:<{ 33 THROW }> ")
    poor = blockchain.deploy(contract(ANSWERS, large_data(30)), Nano.ton("0.001"))
    for target in (*addresses, NOBODY):
        alice.send_many([Outgoing(target, TON), Outgoing(target, 1), Outgoing(target, 10**6, large_data(2))])
    alice.send(Address((0, thrower.hash)), TON, state_init=thrower)
    alice.send(Address((0, contract(THROWS_33).hash)), 5, state_init=contract(THROWS_33))
    for _ in range(3):
        blockchain.warp(10 * 365 * 86_400)
        blockchain.faucet(poor, 10**7)
    return blockchain.transactions(limit=10**6)


def grams(value: Any) -> int:
    return int(value or 0)


def test_view_agrees_with_another_parser(varied: list[Transaction]) -> None:
    assert len(varied) > 30
    for view in varied:
        parsed: Any = Parsed.deserialize(view.cell.begin_parse())
        assert (view.lt, view.now) == (parsed.lt, parsed.now)
        assert (view.prev_lt, view.prev_hash) == (parsed.prev_trans_lt, parsed.prev_trans_hash)
        assert view.total_fees == parsed.total_fees.grams
        assert view.address.hash_part == parsed.account_addr
        sent = [(m.body, m.dst, m.fwd_fee, m.created_lt) for m in view.out_msgs if m.is_internal]
        assert sent == [
            (m.body, m.info.dest, m.info.fwd_fee, m.info.created_lt) for m in parsed.out_msgs if m.is_internal
        ]
        assert len(view.out_msgs) == len(parsed.out_msgs)
        description = parsed.description
        assert (view.aborted, view.destroyed) == (description.aborted, description.destroyed)
        assert view.storage is not None
        assert view.storage.collected == grams(description.storage_ph.storage_fees_collected)
        assert view.storage.due == grams(description.storage_ph.storage_fees_due)
        compute = description.compute_ph
        if compute.type_ == "skipped":
            assert view.compute is None
            assert view.skipped == compute.reason.type_
        else:
            assert view.compute is not None
            assert view.skipped is None
            assert view.compute.success == compute.success
            assert (view.exit_code, view.gas_used, view.compute_fee) == (
                compute.exit_code, compute.gas_used, compute.gas_fees,
            )  # fmt: skip
            assert (view.compute.gas_limit, view.compute.vm_steps) == (compute.gas_limit, compute.vm_steps)
        if description.action is None:
            assert view.action is None
        else:
            assert view.action is not None
            assert view.action_result_code == description.action.result_code
            assert view.action.messages_created == description.action.msgs_created
            assert view.action.forward_fees == grams(description.action.total_fwd_fees)
            assert view.action_fee == grams(description.action.total_action_fees)
        assert (view.bounce_phase is None) == (description.bounce is None)
        assert view.success == (not view.aborted and view.compute is not None)


def test_every_kind_of_outcome_is_covered(varied: list[Transaction]) -> None:
    # Guards the test above: a fixture that no longer produces an outcome would test nothing.
    assert {transaction.skipped for transaction in varied} == {None, "no_state", "no_gas", "bad_state"} or {
        transaction.skipped for transaction in varied
    } == {None, "no_state", "no_gas"}
    assert {transaction.exit_code for transaction in varied} >= {None, 0, 33}
    assert {transaction.action_result_code for transaction in varied} >= {None, 0, 37}
    outcomes = {transaction.bounce_phase.outcome for transaction in varied if transaction.bounce_phase}
    assert outcomes == {"ok", "no_funds"}
    assert {transaction.storage.status_change for transaction in varied if transaction.storage} == {
        "unchanged",
        "frozen",
    }
    assert any(message.is_external_out for transaction in varied for message in transaction.out_msgs)


def test_record_can_be_taken_when_a_chain_wants_one(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    body = begin_cell().store_uint(0xABCD, 32).end_cell()
    transaction = alice.send(bob.address, TON, body)[1]
    record = transaction.record()
    assert (record.address, record.lt, record.now) == (bob.address, transaction.lt, blockchain.now)
    assert record.hash == record.cell.hash
    assert transaction.op == 0xABCD
    assert transaction.in_msg.body == body
