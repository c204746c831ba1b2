"""Order, time, blocks, states: what the blockchain adds to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from pytoniq_core import Address, begin_cell

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.sandbox import (
    DEFAULT_NOW,
    FAUCET,
    Blockchain,
    MessageLimitError,
    Outgoing,
    OutOfOrderError,
    SandboxError,
    Transaction,
    contract_address,
    external_message,
    internal_message,
)
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ANSWERS, EMITS, EMPTY, FORWARDS_TO_DATA, contract, large_data

TON = Nano.ton(1)


def numbered(number: int, code: str = ANSWERS) -> Address:
    return contract_address(contract(code, begin_cell().store_uint(number, 32).end_cell()))


def deploy_numbered(blockchain: Blockchain, number: int, code: str = ANSWERS) -> Address:
    return blockchain.deploy(contract(code, begin_cell().store_uint(number, 32).end_cell()), TON)


# -- order and logical time ------------------------------------------------------------------------------


def test_transactions_can_be_ordered_by_lt_when_messages_cause_each_other(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    answering = deploy_numbered(blockchain, 1)
    transactions = alice.send_many(
        [Outgoing(answering, TON), Outgoing(bob.address, TON), Outgoing(answering, TON)]
    )
    assert [transaction.address for transaction in transactions] == [
        alice.address, answering, bob.address, answering, alice.address, alice.address,
    ]  # fmt: skip
    last: dict[bytes, int] = {}
    for transaction in transactions:
        fields = transaction.cell.begin_parse().skip_bits(4 + 256)
        assert fields.load_uint(64) == transaction.lt, "the engine used another lt than the loop"
        assert transaction.in_msg.created_lt < transaction.lt
        assert [m.created_lt for m in transaction.out_msgs] == [
            transaction.lt + 1 + index for index in range(len(transaction.out_msgs))
        ]
        assert last.get(transaction.address.hash_part, 0) < transaction.lt
        last[transaction.address.hash_part] = max(
            [transaction.lt, *(message.created_lt for message in transaction.out_msgs)]
        )
    assert transactions[1].parent is transactions[0]
    assert transactions[0].parent is None


def test_transactions_can_be_chained_by_hash_when_they_share_an_account(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    for _ in range(3):
        alice.send(bob.address, TON)
    newest_first = blockchain.transactions(bob.address)
    assert len(newest_first) == 4
    for newer, older in pairwise(newest_first):
        assert (newer.prev_hash, newer.prev_lt) == (older.hash, older.lt)
        assert newer.hash == newer.cell.hash
    assert (newest_first[-1].prev_hash, newest_first[-1].prev_lt) == (bytes(32), 0)
    state = blockchain.account(bob.address)
    assert (state.last_lt, state.last_hash) == (newest_first[0].lt, newest_first[0].hash)


def test_blocks_can_be_counted_when_batches_run_and_time_passes(blockchain: Blockchain) -> None:
    blocks: list[Sequence[Transaction]] = []
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    unsubscribe = blockchain.subscribe(blocks.append)
    start = blockchain.seqno
    sent = alice.send(bob.address, TON)
    blockchain.warp(10)
    assert blockchain.seqno == start + 2
    assert [list(block) for block in blocks] == [sent, []]
    assert {transaction.seqno for transaction in sent} == {start + 1}
    unsubscribe()
    blockchain.warp(1)
    assert len(blocks) == 2


def test_listener_can_send_when_it_reacts_to_a_block(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")

    def answer(transactions: Sequence[Transaction]) -> None:
        if any(transaction.op == 1 for transaction in transactions):
            bob.send(alice.address, TON)

    blockchain.subscribe(answer)
    alice.send(bob.address, TON, begin_cell().store_uint(1, 32).end_cell())
    assert bob.seqno == 1
    Ledger.of(blockchain).assert_balanced()


def test_runaway_contracts_can_be_stopped_when_the_limit_is_reached() -> None:
    blockchain = Blockchain(message_limit=20)
    first, second = numbered(1), numbered(2)
    deploy_numbered(blockchain, 1)
    deploy_numbered(blockchain, 2)
    with pytest.raises(MessageLimitError) as caught:
        blockchain.send_internal(first, TON, src=second)
    assert len(caught.value.transactions) == 20
    assert len(blockchain.pending) == 1
    Ledger.of(blockchain).assert_balanced()
    assert len(caught.value.transactions) == len(blockchain.transactions(limit=100)) - 4


def test_message_without_receiver_code_can_credit_it_when_not_bouncing(blockchain: Blockchain) -> None:
    nobody = Address((0, b"\x07" * 32))
    [transaction] = blockchain.send_internal(nobody, TON, bounce=False)
    assert transaction.skipped == "no_state"
    assert blockchain.account(nobody).status is AccountStatus.UNINIT
    assert blockchain.balance(nobody) == TON


def test_message_without_receiver_code_returns_when_bouncing(blockchain: Blockchain) -> None:
    alice = blockchain.actor("alice")
    before = alice.balance
    transactions = alice.send(Address((0, b"\x07" * 32)), TON, begin_cell().store_uint(9, 32).end_cell())
    assert [transaction.bounced_back for transaction in transactions] == [False, True, False]
    returned = transactions[2].in_msg
    assert returned.bounced
    assert returned.op == 0xFFFF_FFFF
    assert returned.body.begin_parse().skip_bits(32).load_uint(32) == 9
    assert before - alice.balance < Nano.ton("0.01")
    Ledger.of(blockchain).assert_balanced()


def test_account_can_live_in_the_masterchain(blockchain: Blockchain) -> None:
    address = blockchain.deploy(contract(ANSWERS), Nano.ton(5), workchain=-1)
    assert address.wc == -1
    alice = blockchain.actor("alice")
    transactions = alice.send(address, TON)
    assert transactions[1].address == address
    assert transactions[2].in_msg.src == address
    # 10 000 nanoTON per gas there, 400 in the basechain.
    assert transactions[1].compute_fee == 1_000_000 + (transactions[1].gas_used - 100) * 10_000
    Ledger.of(blockchain).assert_balanced()


def test_contract_can_emit_events_when_it_sends_external_messages(blockchain: Blockchain) -> None:
    address = blockchain.deploy(contract(EMITS), TON)
    [transaction] = blockchain.transactions(address)
    [event] = transaction.out_msgs
    assert event.is_external_out
    assert event.dst is None
    assert event.src == address
    assert event.op == 0x12345678
    assert blockchain.pending == ()
    Ledger.of(blockchain).assert_balanced()


# -- holding the queue -------------------------------------------------------------------------------------


def test_messages_can_cross_when_the_queue_is_held(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    blockchain.hold()
    assert [t.address for t in alice.send(bob.address, TON)] == [alice.address]
    assert [t.address for t in bob.send(alice.address, TON)] == [bob.address]
    to_bob, to_alice = blockchain.pending
    assert (to_bob.dst, to_alice.dst) == (bob.address, alice.address)
    Ledger.of(blockchain).assert_balanced()
    seqno = blockchain.seqno
    assert blockchain.step(1).address == alice.address
    assert blockchain.seqno == seqno + 1
    assert [t.address for t in blockchain.release()] == [bob.address]
    assert not blockchain.held
    Ledger.of(blockchain).assert_balanced()


def test_messages_cannot_overtake_when_they_go_between_the_same_accounts(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    blockchain.hold()
    alice.send_many([Outgoing(bob.address, TON), Outgoing(bob.address, 2 * TON), Outgoing(FAUCET, TON)])
    with pytest.raises(OutOfOrderError):
        blockchain.step(1)
    assert len(blockchain.pending) == 3
    assert blockchain.step(2).address == FAUCET
    assert blockchain.step().in_msg.value == TON
    assert blockchain.step().in_msg.value == 2 * TON
    with pytest.raises(SandboxError, match="message 3"):
        blockchain.step(3)


def test_account_can_be_opened_when_the_queue_is_held(blockchain: Blockchain) -> None:
    blockchain.hold()
    assert blockchain.actor("alice", TON).balance == TON
    answering = deploy_numbered(blockchain, 1)
    [answer] = blockchain.pending
    assert answer.src == answering
    assert blockchain.run() == blockchain.transactions(limit=1)


# -- time ---------------------------------------------------------------------------------------------------


def test_clock_cannot_run_backwards(blockchain: Blockchain) -> None:
    assert blockchain.now == DEFAULT_NOW
    blockchain.set_now(DEFAULT_NOW + 5)
    with pytest.raises(ValueError, match="backwards"):
        blockchain.warp(-1)
    assert blockchain.now == DEFAULT_NOW + 5


def test_account_pays_storage_when_time_passes(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    blockchain.warp(365 * 86_400)
    sent = alice.send(bob.address, TON)
    assert [t.now for t in sent] == [DEFAULT_NOW + 365 * 86_400] * 2
    for transaction in sent:
        # 5689 bits and 22 cells of a V4R2 wallet: ceil((bits + 500 * cells) * seconds / 2^16).
        assert Nano(7_900_000) < transaction.storage_fee < Nano(8_200_000)
    Ledger.of(blockchain).assert_balanced()


def test_account_freezes_when_it_cannot_pay_storage(blockchain: Blockchain) -> None:
    address = blockchain.deploy(contract(ANSWERS, large_data(30)), Nano.ton("0.001"))
    blockchain.warp(20 * 365 * 86_400)
    [transaction] = blockchain.send_internal(address, 1, bounce=False)
    assert transaction.storage is not None
    assert transaction.storage.status_change == "frozen"
    assert transaction.storage.due > 0
    # Frozen with the state it was deployed with, an account counts as not initialised yet.
    assert blockchain.status(address) is AccountStatus.UNINIT
    assert blockchain.shard_account(address).due_payment > 0
    Ledger.of(blockchain).assert_balanced()


# -- looking --------------------------------------------------------------------------------------------


def test_history_can_be_paged_when_it_is_long(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    for _ in range(6):
        alice.send(bob.address, TON)
    everything = blockchain.transactions(alice.address, limit=100)
    assert len(everything) == 7
    assert everything == sorted(everything, key=lambda t: -t.lt)
    paged: list[Transaction] = []
    before: int | None = None
    while page := blockchain.transactions(alice.address, limit=3, before_lt=before):
        paged += page
        before = page[-1].lt
    assert paged == everything
    assert blockchain.transactions(alice.address, after_lt=everything[2].lt) == everything[:2]
    assert blockchain.transactions(Address((0, bytes(32)))) == []
    assert len(blockchain.transactions(limit=1000)) == 2 + 6 * 2


def test_missing_account_can_be_looked_at(blockchain: Blockchain) -> None:
    state = blockchain.account(Address((0, b"\x09" * 32)))
    assert (state.status, state.balance, state.code, state.data) == (AccountStatus.NONEXIST, 0, None, None)
    assert (state.last_lt, state.last_hash) == (0, bytes(32))


def test_contract_can_be_read_when_deployed(blockchain: Blockchain) -> None:
    init = contract(FORWARDS_TO_DATA, begin_cell().store_address(FAUCET).end_cell())
    address = blockchain.deploy(init, TON)
    state = blockchain.account(address)
    assert (state.code, state.data) == (init.refs[0], init.refs[1])
    assert state.status is AccountStatus.ACTIVE


def test_deployment_cannot_pass_unnoticed_when_it_fails(blockchain: Blockchain) -> None:
    with pytest.raises(SandboxError, match="not deployed"):
        blockchain.deploy(contract(ANSWERS), 1)


# -- states ---------------------------------------------------------------------------------------------


def test_state_can_be_restored_when_futures_differ(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    alice.send(bob.address, TON)

    def observe() -> tuple[object, ...]:
        history = [transaction.hash for transaction in blockchain.transactions(limit=99)]
        waiting = [message.value for message in blockchain.pending]
        return (
            blockchain.now,
            blockchain.seqno,
            blockchain.lt,
            blockchain.held,
            waiting,
            alice.balance,
            history,
        )

    kept, before = blockchain.snapshot(), observe()
    alice.send(bob.address, 2 * TON)
    blockchain.warp(1000)
    blockchain.hold()
    alice.send(bob.address, 3 * TON)
    future, in_future = blockchain.snapshot(), observe()
    blockchain.restore(kept)
    assert observe() == before
    alice.send(bob.address, 5 * TON)
    bob.send(alice.address, 5 * TON)
    blockchain.restore(future)
    assert observe() == in_future
    assert [transaction.in_msg.value for transaction in blockchain.release()] == [3 * TON]
    Ledger.of(blockchain).assert_balanced()


def test_changes_can_be_undone_when_isolated(blockchain: Blockchain) -> None:
    kept = blockchain.seqno

    def fail_inside() -> None:
        with blockchain.isolated() as chain:
            assert chain is blockchain
            blockchain.actor("alice")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert blockchain.seqno == kept
    assert blockchain.accounts() == []


def test_runs_can_be_repeated_exactly() -> None:
    def run() -> list[bytes]:
        blockchain = Blockchain()
        alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
        alice.send(bob.address, TON)
        blockchain.warp(77)
        bob.send(deploy_numbered(blockchain, 3), TON)
        return [transaction.hash for transaction in blockchain.transactions(limit=99)]

    assert run() == run()


# -- messages from outside ----------------------------------------------------------------------------


def test_external_cannot_be_sent_when_it_is_an_internal_message(blockchain: Blockchain) -> None:
    with pytest.raises(ExternalRejectedError, match="not an external-in message"):
        blockchain.send_external(internal_message(src=FAUCET, dst=FAUCET, value=1))


@pytest.mark.parametrize("bits", ["", "10", "10" + "00" + "11" + "0" * 300])
def test_external_cannot_be_sent_when_it_is_malformed(blockchain: Blockchain, bits: str) -> None:
    with pytest.raises(ExternalRejectedError):
        blockchain.send_external(begin_cell().store_bits(bits).end_cell())


def test_external_cannot_be_sent_when_it_is_too_deep_or_too_large(blockchain: Blockchain) -> None:
    deep = EMPTY
    for _ in range(520):
        deep = begin_cell().store_ref(deep).end_cell()
    large = begin_cell()
    for branch in range(4):
        node = EMPTY
        for index in range(140):
            node = begin_cell().store_uint(branch * 1000 + index, 1000).store_ref(node).end_cell()
        large.store_ref(node)
    for body in (deep, large.end_cell()):
        with pytest.raises(ExternalRejectedError, match="nodes relay at most"):
            blockchain.send_external(external_message(FAUCET, body))


def test_forged_internal_can_come_from_anybody(blockchain: Blockchain) -> None:
    address = blockchain.deploy(contract(ANSWERS), TON)
    sender = Address((0, b"\x0a" * 32))
    transactions = blockchain.send_internal(address, TON, EMPTY, src=sender)
    assert transactions[0].in_msg.src == sender
    assert transactions[1].address == sender
