"""No nanoTON appears or vanishes, whatever contracts and time do."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.sandbox import FAUCET, Blockchain, Outgoing, UnbalancedError, contract_address
from cocoon_sdk.sandbox.ledger import Ledger, fees
from cocoon_sdk.sandbox.pytest_plugin import IsolatedFactory
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import (
    ACCEPTS,
    ANSWERS,
    EMITS,
    FORWARDS_TO_DATA,
    OVERSPENDS,
    THROWS_33,
    contract,
    large_data,
)

NAMES = ("alice", "bob", "carol")
TO_FAUCET = begin_cell().store_address(FAUCET).end_cell()
INITS = [
    *[contract(code) for code in (ACCEPTS, ANSWERS, EMITS, OVERSPENDS, THROWS_33)],
    contract(FORWARDS_TO_DATA, TO_FAUCET),
    contract(ANSWERS, large_data(20)),
]
NOBODY = Address((0, b"\x55" * 32))

amounts = st.one_of(
    st.integers(0, 10**6), st.integers(10**6, 10**9), st.integers(10**9, 2 * 10**12), st.just(0)
)
bodies = st.sampled_from([None, begin_cell().store_uint(0x1234, 32).end_cell(), large_data(3)])
modes = st.sampled_from([0, 1, 2, 3, 16, 17, 64, 66, 128, 130, 160, 162])
targets = st.sampled_from(["alice", "bob", "carol", "nobody", *range(len(INITS))])


def address_of(blockchain: Blockchain, target: str | int) -> Address:
    if isinstance(target, int):
        return contract_address(INITS[target])
    return NOBODY if target == "nobody" else blockchain.actor(target).address


@st.composite
def outgoing(draw: st.DrawFn) -> tuple[str | int, int, Cell | None, bool, bool, int]:
    return (draw(targets), draw(amounts), draw(bodies), draw(st.booleans()), draw(st.booleans()), draw(modes))


steps = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(NAMES), st.lists(outgoing(), max_size=4)),
    st.tuples(st.just("mint"), targets, amounts),
    st.tuples(st.just("warp"), st.sampled_from([0, 1, 86_400, 365 * 86_400, 15 * 365 * 86_400])),
    st.tuples(st.just("hold")),
    st.tuples(st.just("release")),
)


def act(blockchain: Blockchain, step: tuple[object, ...]) -> None:
    match step:
        case ("send", str(name), list(messages)):
            wanted = [
                Outgoing(
                    address_of(blockchain, target),
                    value,
                    body,
                    INITS[target] if with_init and isinstance(target, int) else None,
                    bounce,
                    mode,
                )
                for target, value, body, with_init, bounce, mode in messages
            ]
            sender = blockchain.actor(name)
            if sender.balance > Nano.ton("0.1"):  # a poor wallet cannot accept anything
                blockchain.send_external(sender.request(wanted))
        case ("mint", (str() | int()) as target, int(amount)):
            blockchain.send_internal(address_of(blockchain, target), amount, bounce=False)
        case ("warp", int(seconds)):
            blockchain.warp(seconds)
        case ("hold",):
            blockchain.hold()
        case _:
            blockchain.release()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(script=st.lists(steps, max_size=12))
def test_money_is_conserved_whatever_happens(
    isolated: IsolatedFactory, script: list[tuple[object, ...]]
) -> None:
    with isolated() as blockchain:
        for name in NAMES:
            blockchain.actor(name)
        for step in script:
            if blockchain.now > 2**32 - 20 * 365 * 86_400:
                break
            act(blockchain, step)
            Ledger.of(blockchain).assert_balanced()
        for transaction in blockchain.transactions(limit=1000):
            parts = transaction.storage_fee + transaction.compute_fee + transaction.action_fee
            bounce = transaction.bounce_phase
            parts += transaction.import_fee + (bounce.message_fees if bounce else 0)
            assert parts == transaction.total_fees


def test_fees_of_a_transfer_are_what_the_two_sides_lost(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    before = alice.balance + bob.balance
    blockchain.warp(86_400)
    transactions = alice.send(bob.address, Nano.ton(1))
    assert fees(transactions) == before - alice.balance - bob.balance
    assert fees(transactions) > 0
    assert fees([]) == 0


def test_failed_action_is_paid_for_and_returned(blockchain: Blockchain) -> None:
    alice = blockchain.actor("alice")
    greedy = blockchain.deploy(contract(OVERSPENDS), Nano.ton(1))
    held = blockchain.balance(greedy)
    transactions = alice.send(greedy, Nano.ton(1))
    failed = transactions[1]
    assert (failed.action_result_code, failed.aborted, failed.success) == (37, True, False)
    assert failed.exit_code == 0
    assert failed.bounced_back
    assert blockchain.balance(greedy) == held
    Ledger.of(blockchain).assert_balanced()


def test_money_in_flight_is_counted_when_the_queue_is_held(blockchain: Blockchain) -> None:
    alice = blockchain.actor("alice")
    blockchain.hold()
    alice.send(FAUCET, Nano.ton(3))
    ledger = Ledger.of(blockchain)
    assert ledger.in_flight > Nano.ton(3)
    assert ledger.missing == 0


def test_ledger_cannot_balance_when_money_vanishes(blockchain: Blockchain) -> None:
    blockchain.faucet(NOBODY, 5)
    ledger = Ledger.of(blockchain)
    broken = Ledger(ledger.minted, ledger.balances - 1, ledger.in_flight, ledger.fees)
    with pytest.raises(UnbalancedError, match=r"0\.000000001"):
        broken.assert_balanced()
