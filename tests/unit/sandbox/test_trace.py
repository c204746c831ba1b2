"""Traces show who caused what, with the names that users registered."""

from __future__ import annotations

from pytoniq_core import Address, begin_cell
from rich.console import Console

from cocoon_sdk.sandbox import FAUCET, Blockchain, Names, Outgoing, Trace
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ANSWERS, EMITS, OVERSPENDS, contract

TON = Nano.ton(1)
HELLO = begin_cell().store_uint(0x1234, 32).end_cell()


def test_trace_can_show_names_when_they_are_registered(blockchain: Blockchain) -> None:
    alice = blockchain.actor("alice")
    answering = blockchain.deploy(contract(ANSWERS), TON)
    names = Names(ops={0x1234: "Hello"}, accounts=[(alice.address, "alice"), (answering, "answerer")])
    text = str(Trace(alice.send(answering, TON, HELLO), names))
    lines = text.splitlines()
    assert lines[0].startswith("3 transactions, ")
    assert "outside -> alice" in lines[1]
    assert "alice -> answerer  Hello  1 TON  ok" in lines[2]
    assert "answerer -> alice  -  0.99" in lines[3]
    indents = [len(line) - len(line.lstrip(" │└├─")) for line in lines]
    assert indents == sorted(set(indents)), "each transaction is shown below the one that caused it"


def test_trace_can_tell_failures_apart(blockchain: Blockchain) -> None:
    alice = blockchain.actor("alice")
    throwing = contract("DUP 0 EQINT IFJMP:<{ 1001 THROW }>")
    greedy = blockchain.deploy(contract(OVERSPENDS), TON)
    transactions = alice.send_many(
        [
            Outgoing(Address((0, throwing.hash)), TON, HELLO, throwing),
            Outgoing(greedy, TON, HELLO),
            Outgoing(Address((0, b"\x21" * 32)), TON, HELLO),
        ]
    )
    text = str(Trace(transactions, Names(ops={0x1234: "Hello"}, exit_codes={1001: "ErrClosed"})))
    assert "ErrClosed (1001), bounced" in text
    assert "action phase: not enough TON (37), bounced" in text
    assert "no code run (no_state), bounced" in text
    assert text.count("bounced Hello") == 3


def test_trace_can_show_events_and_pending_messages(blockchain: Blockchain) -> None:
    emitter = blockchain.deploy(contract(EMITS), TON)
    event = blockchain.transactions(emitter)
    assert "event Paid" in str(Trace(event, Names(ops={0x12345678: "Paid"})))
    blockchain.hold()
    text = str(Trace(blockchain.actor("alice").send(FAUCET, TON), Names(accounts={FAUCET: "faucet"})))
    assert "pending -> faucet  -  1 TON" in text


def test_table_has_a_row_for_each_transaction(blockchain: Blockchain) -> None:
    trace = Trace(blockchain.actor("alice").send(FAUCET, TON), Names(accounts={FAUCET: "[faucet]"}))
    assert trace.table().row_count == len(trace.transactions) == 3
    console = Console(width=300, record=True)
    with console.capture() as capture:
        console.print(trace.table())
    assert "[faucet]" in capture.get()


def test_long_chains_can_be_shown(blockchain: Blockchain) -> None:
    blockchain.message_limit = 5000
    datas = [begin_cell().store_uint(number, 8).end_cell() for number in (1, 2)]
    first, second = (blockchain.deploy(contract(ANSWERS, data), 2 * TON) for data in datas)
    transactions = blockchain.send_internal(first, 2 * TON, src=second)
    assert len(transactions) > 1000
    assert str(Trace(transactions)).count("\n") == len(transactions)


def test_names_can_be_joined() -> None:
    first = Names(ops={1: "One", 2: "Two"}, exit_codes={500: "Five"}, accounts={FAUCET: "faucet"})
    joined = first | Names(ops={2: "Zwei"})
    assert (joined.op(1), joined.op(2), joined.op(3), joined.op(None)) == ("One", "Zwei", "0x00000003", "-")
    assert (joined.exit_code(500), joined.exit_code(9), joined.exit_code(999), joined.exit_code(0)) == (
        "Five (500)",
        "cell underflow (9)",
        "exit 999",
        "ok",
    )
    assert joined.account(FAUCET) == "faucet"
    assert joined.account(None) == "outside"
    assert first.op(2) == "Two"
