"""What `cocoon explain` says about transactions: what they did and caused, and why they failed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cocoon_sdk.data import InlineData, encode_data
from cocoon_sdk.explain import TransactionTarget, explain
from cocoon_sdk.explain.facts import ActionSeen, ChildSeen, Outcome, TransactionSeen
from cocoon_sdk.history import HistoryNotFoundError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import SandboxChain
from cocoon_sdk.types import Nano
from tests.helpers.explanations import only
from tests.helpers.suite import GAS, Client, Suite, Worker


async def test_reader_can_see_what_a_transaction_did_and_caused(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    _, done = alice.open(suite.directed_terms(bob))
    told = await explain(SandboxChain(suite.chain), TransactionTarget(alice.address, lt=done[0].lt))
    assert only(told, TransactionSeen).hash == done[0].hash
    outcome = only(told, Outcome)
    assert outcome.success
    assert outcome.fees + outcome.forward_fees == done[0].cost
    assert (only(told, ActionSeen).name, only(told, ActionSeen).exit_code) == ("open job", None)
    child = only(told, ChildSeen)
    assert child.child is not None
    assert (child.child.address, child.child.lt, child.fees) == (bob.address, done[1].lt, done[1].cost)


async def test_every_transaction_of_a_job_can_be_told(suite: Suite, alice: Client, bob: Worker) -> None:
    job_id, _ = alice.open(suite.directed_terms(bob), data=encode_data(InlineData(b"sealed")))
    bob.submit(alice, job_id, Nano.ton("0.7"))
    alice.act(signing.dispute_result(job_id))
    verdict = suite.verdict(alice, bob, job_id, pay=5, slash=0)
    suite.governor.send(alice.address, Nano.ton("0.2"), verdict.to_cell())
    for transaction in suite.chain.transactions(limit=100):
        target = TransactionTarget(transaction.address, lt=transaction.lt)
        told = await explain(SandboxChain(suite.chain), target, network=suite.network)
        json.dumps(told.to_json())
        assert only(told, Outcome).success is transaction.success


async def test_reader_learns_the_name_of_a_failure(suite: Suite, alice: Client) -> None:
    stranger = suite.chain.actor("stranger")
    done = stranger.send(alice.address, GAS, m.Withdraw(query_id=1, amount=Nano(5)).to_cell())
    target = TransactionTarget(alice.address, hash=done[1].hash)
    told = await explain(SandboxChain(suite.chain), target)
    outcome = only(told, Outcome)
    assert (outcome.success, outcome.name) == (False, "NOT_OWNER")
    assert "Only the owner wallet may do this (NOT_OWNER 1001). Send the message from the owner." in str(told)


async def test_reader_can_find_a_transaction_by_its_hash_alone_among_known_accounts(
    suite: Suite, alice: Client, bob: Worker
) -> None:
    _, done = alice.open(suite.directed_terms(bob))
    chain, target = SandboxChain(suite.chain), TransactionTarget(None, hash=done[1].hash)
    told = await explain(chain, target, known=(alice.address, bob.address))
    assert only(told, TransactionSeen).address == bob.address
    with pytest.raises(HistoryNotFoundError, match="ADDRESS@HASH"):
        await explain(chain, target, known=(alice.address,))


@pytest.mark.parametrize("name", [{"lt": 5}, {"hash": bytes(32)}])
async def test_reader_cannot_see_a_transaction_that_is_not_there(
    suite: Suite, alice: Client, name: dict[str, Any]
) -> None:
    with pytest.raises(HistoryNotFoundError):
        await explain(SandboxChain(suite.chain), TransactionTarget(alice.address, **name))
