"""Actors are real wallets with exact balances and keys derived from their names."""

from __future__ import annotations

import pytest
from nacl.signing import VerifyKey
from pytoniq.contract.wallets.wallet import WALLET_V3_R2_CODE, WALLET_V4_R2_CODE
from pytoniq_core import Address, begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.sandbox import Actor, Blockchain, Outgoing, external_message, internal_message, state_init
from cocoon_sdk.sandbox.actors import DEFAULT_BALANCE, WALLET_ID
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import ACCEPTS, contract

TON = Nano.ton(1)


@pytest.mark.parametrize("balance", [Nano(0), Nano(1), Nano.ton("12.345678901"), Nano.ton(10**9)])
def test_actor_can_hold_exactly_what_was_asked_for(blockchain: Blockchain, balance: Nano) -> None:
    alice = blockchain.actor("alice", balance)
    assert alice.balance == balance
    assert alice.seqno == 0
    assert blockchain.account(alice.address).code == WALLET_V4_R2_CODE
    Ledger.of(blockchain).assert_balanced()


def test_actor_can_be_asked_for_again_without_new_money(blockchain: Blockchain) -> None:
    alice = blockchain.actor("alice")
    assert alice.balance == DEFAULT_BALANCE
    again = blockchain.actor("alice", Nano.ton(5))
    assert (again.address, again.balance) == (alice.address, DEFAULT_BALANCE)
    assert blockchain.actor("bob").address != alice.address


def test_actor_has_the_same_key_on_every_chain() -> None:
    first, second = Blockchain().actor("alice"), Blockchain().actor("alice")
    assert (first.private_key, first.address) == (second.private_key, second.address)
    assert first.public_key == bytes(VerifyKey(first.public_key))


def test_actor_can_be_created_again_when_its_birth_was_undone(blockchain: Blockchain) -> None:
    before = blockchain.snapshot()
    alice = blockchain.actor("alice")
    alice.send(alice.address, TON)
    blockchain.restore(before)
    assert blockchain.actor("alice", TON).balance == TON
    assert alice.seqno == 0


def test_actor_can_send_four_messages_at_once(blockchain: Blockchain) -> None:
    alice = blockchain.actor("alice")
    receivers = [Address((0, bytes([index]) * 32)) for index in range(1, 5)]
    transactions = alice.send_many([Outgoing(receiver, TON, bounce=False) for receiver in receivers])
    assert [transaction.address for transaction in transactions] == [alice.address, *receivers]
    assert [blockchain.balance(receiver) for receiver in receivers] == [TON] * 4
    assert alice.seqno == 1
    with pytest.raises(ValueError, match="at most 4"):
        alice.send_many([Outgoing(receivers[0], TON)] * 5)


def test_actor_can_deploy_a_contract(blockchain: Blockchain) -> None:
    alice, init = blockchain.actor("alice"), contract(ACCEPTS)
    transactions = alice.send(Address((0, init.hash)), TON, state_init=init)
    assert transactions[1].success
    assert transactions[1].in_msg.init == init
    assert blockchain.account(Address((0, init.hash))).code == init.refs[0]


def test_actor_can_send_everything(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    alice.send(bob.address, 0, mode=128)
    assert alice.balance == 0
    assert bob.balance > 2 * DEFAULT_BALANCE - Nano.ton("0.01")


def test_request_cannot_be_replayed_or_outlive_its_time(blockchain: Blockchain) -> None:
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    request = alice.request([Outgoing(bob.address, TON)])
    blockchain.send_external(request)
    with pytest.raises(ExternalRejectedError) as replayed:
        blockchain.send_external(request)
    assert replayed.value.exit_code == 33
    late = alice.request([Outgoing(bob.address, TON)])
    blockchain.warp(61)
    with pytest.raises(ExternalRejectedError) as expired:
        blockchain.send_external(late)
    assert expired.value.exit_code == 36


def test_request_cannot_be_accepted_when_somebody_else_signed_it(blockchain: Blockchain) -> None:
    alice, mallory = blockchain.actor("alice"), blockchain.actor("mallory")
    before = alice.balance
    stolen = Actor(blockchain, "mallory").request([Outgoing(mallory.address, TON)])
    body = stolen.begin_parse().skip_bits(2 + 2 + 267 + 4 + 1)
    forged = external_message(alice.address, body.load_ref() if body.load_bit() else body.to_cell())
    with pytest.raises(ExternalRejectedError) as caught:
        blockchain.send_external(forged)
    assert caught.value.exit_code == 35
    assert alice.balance == before


@pytest.mark.parametrize("name", ["", "x" * 300])
def test_actor_cannot_have_an_unreasonable_name(blockchain: Blockchain, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        blockchain.actor(name)


def test_other_wallets_can_be_used_beside_actors(blockchain: Blockchain) -> None:
    # A V3R2 wallet, signed by hand with the actor's key: the sandbox prefers no wallet.
    alice = blockchain.actor("alice")
    data = begin_cell().store_uint(0, 32).store_uint(WALLET_ID, 32).store_bytes(alice.public_key).end_cell()
    init = state_init(WALLET_V3_R2_CODE, data)
    wallet = Address((0, init.hash))
    blockchain.faucet(wallet, 2 * TON)
    message = internal_message(src=None, dst=alice.address, value=TON)
    unsigned = begin_cell().store_uint(WALLET_ID, 32).store_uint(2**32 - 1, 32).store_uint(0, 32)
    unsigned.store_uint(3, 8).store_ref(message)
    from nacl.signing import SigningKey

    signature = SigningKey(alice.private_key).sign(unsigned.end_cell().hash).signature
    body = begin_cell().store_bytes(signature).store_cell(unsigned.end_cell()).end_cell()
    transactions = blockchain.send_external(external_message(wallet, body, init))
    assert [transaction.address for transaction in transactions] == [wallet, alice.address]
    assert blockchain.run_getter(wallet, "seqno") == [1]
