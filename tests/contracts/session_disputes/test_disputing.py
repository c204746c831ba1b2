"""Disputing a guarded session: who can, when, how often, and what it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import SessionState, evidence_of, state_of, turns_at
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.session_disputes.steps import ANNOUNCEMENT, BOND, VERDICT_GAS, resolve, session_of
from tests.helpers.audit import World, at, denied, gas_fee, refused, the_payment
from tests.helpers.suite import GAS, Client, Worker, as_int, hash_of


@pytest.mark.parametrize("by", ["hot key", "batch", "owner"])
@pytest.mark.parametrize("closing", [False, True])
def test_client_can_dispute_out_of_free_funds(
    world: World, client: Client, worker: Worker, number: int, by: str, closing: bool
) -> None:
    if closing:
        client.act(signing.close_session(number))
    before, old = client.get_state(), session_of(client, number)
    evidence, model = hash_of("receipts"), world.suite.model_id
    action = signing.dispute_session(number, evidence, model)
    match by:
        case "hot key":
            done = client.act(action)
        case "batch":
            done = client.act(signing.cancel_job(999), action, max_spend=Nano.ton(1))
        case _:
            body = m.DisputeSession(
                query_id=0, id=number, evidence_hash=as_int(evidence), model_id=as_int(model)
            )
            done = client.from_owner(body)
    after, session = client.get_state(), session_of(client, number)
    kept = BOND + gas_fee(2 * c.GAS_EXTERNAL)
    assert after.reserved - before.reserved == kept
    assert (session.gas - old.gas, session.deadline) == (kept, world.chain.now)
    assert state_of(session) is SessionState.DISPUTED
    assert evidence_of(session) == evidence
    # All else is as it was.
    assert replace(session, status=old.status, deadline=old.deadline, gas=old.gas, evidence=old.params) == old
    announced = the_payment(done, m.DisputeNotice)
    assert (announced.dst, announced.value) == (world.suite.market, ANNOUNCEMENT)
    assert the_payment(done, m.Disputed).dst == worker.address
    spent = kept + ANNOUNCEMENT + gas_fee(c.GAS_EXTERNAL)
    if by == "hot key":
        assert before.bucket - after.bucket == spent
        cost = sum(int(transaction.cost) for transaction in at(done, client.address))
        assert before.free - after.free == kept + ANNOUNCEMENT + cost <= spent
    if by == "owner":
        assert before.bucket == after.bucket


def test_sdk_knows_what_a_dispute_takes(world: World, client: Client, worker: Worker, number: int) -> None:
    """`Escrow.dispute_cost` is bond, announcement and three externals: one nanoTON less is refused."""
    cost = BOND + ANNOUNCEMENT + gas_fee(3 * c.GAS_EXTERNAL)
    for limit, works in ((cost - 1, False), (cost, True)):
        client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(limit), allowed=None))
        if works:
            client.dispute_session(number)
        else:
            denied(client, lambda: client.dispute_session(number), ExitCode.DAILY_LIMIT)


def test_empty_bucket_keeps_the_hot_key_from_disputing_and_not_the_owner(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    denied(client, lambda: client.dispute_session(number), ExitCode.DAILY_LIMIT)
    client.from_owner(m.DisputeSession(query_id=0, id=number, evidence_hash=1, model_id=2))
    assert state_of(session_of(client, number)) is SessionState.DISPUTED


def test_client_without_free_funds_cannot_dispute(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor
) -> None:
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free - Nano.ton("0.1"))))
    denied(client, lambda: client.dispute_session(number), ExitCode.INSUFFICIENT_FREE)
    body = m.DisputeSession(query_id=0, id=number, evidence_hash=1, model_id=2)
    refused(world.chain, client.address, lambda: client.from_owner(body, GAS), ExitCode.INSUFFICIENT_FREE)
    stranger.send(client.address, Nano.ton(1))
    client.dispute_session(number)


def test_nobody_else_can_dispute(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor
) -> None:
    body = m.DisputeSession(query_id=0, id=number, evidence_hash=1, model_id=2).to_cell()
    for source in (stranger, worker.owner):
        refused(
            world.chain,
            client.address,
            lambda source=source: source.send(client.address, GAS, body),
            ExitCode.NOT_OWNER,
        )


def test_there_is_one_dispute_of_a_session_at_most(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    client.dispute_session(number)
    denied(client, lambda: client.dispute_session(number, "more"), ExitCode.SESSION_DISPUTED)
    resolve(client, worker, number, 0)
    denied(client, lambda: client.dispute_session(number), ExitCode.NOT_GUARDED)
    assert worker.get_state().locked == 0


def test_dispute_that_nobody_judged_cannot_be_begun_again(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    client.dispute_session(number)
    world.chain.set_now(turns_at(session_of(client, number)))
    denied(client, lambda: client.dispute_session(number), ExitCode.SESSION_DISPUTED)


def test_job_cannot_be_disputed_as_a_session_nor_a_session_as_a_job(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    job, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, job, Nano.ton(1))
    denied(client, lambda: client.dispute_session(job), ExitCode.NO_SESSION)
    denied(client, lambda: client.act(signing.dispute_result(number)), ExitCode.WRONG_STATE)
    client.act(signing.dispute_result(job))
    client.dispute_session(number)
    # Both are judged, each by its own rules.
    verdict = world.suite.verdict(client, worker, job, 0, Nano.ton(1))
    world.suite.governor.send(client.address, VERDICT_GAS, verdict.to_cell())
    resolve(client, worker, number, Nano.ton(1))
    assert (worker.get_state().locked, worker.get_state().stake) == (0, Nano.ton(98))


def test_badly_formed_dispute_is_refused(world: World, client: Client, worker: Worker, number: int) -> None:
    right = signing.dispute_session(number, hash_of("receipts"), world.suite.model_id)
    (evidence,) = right.refs
    for wrong in (
        signing.Action(right.bits),
        signing.Action(right.bits, (evidence, evidence)),
        signing.Action(signing.top_up_session(number, Nano(1)).bits, (evidence,)),
        replace(
            signing.dispute_session(number, bytes(32), bytes(32)), refs=(session_of(client, number).params,)
        ),
    ):
        denied(client, lambda wrong=wrong: client.act(wrong), None)
    client.act(right)
