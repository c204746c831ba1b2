"""Verdicts about guarded sessions: what arbiters may decide, and what happens to the money."""

from __future__ import annotations

import pytest

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import SessionState, close_delay_of, settles_at, state_of, turns_at
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import COLLATERAL, FIRST, sums
from tests.contracts.session_disputes.steps import (
    ANNOUNCEMENT,
    BOND,
    DEPOSIT,
    FEE,
    FLOOR,
    PAID,
    VERDICT_GAS,
    earned,
    ended,
    resolve,
    session_of,
)
from tests.contracts.test_session_money import redemption
from tests.helpers.audit import BURN, World, absent, at, payments, refused, sent, the_payment, tombstones
from tests.helpers.suite import GAS, Client, Worker, as_int, hash_of


def test_worker_that_wins_is_free_and_the_client_pays_the_arbiters(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    before = client.get_state()
    disputed = client.dispute_session(number)
    paid = [actor.balance for actor in world.suite.payouts[:3]]
    gas = worker.get_state().gas
    done = resolve(client, worker, number, 0)
    got = [actor.balance - old for actor, old in zip(world.suite.payouts, paid, strict=False)]
    assert all(FEE // 3 - 2_000_000 < share <= FEE // 3 for share in got)
    released = the_payment(done, m.Release)
    assert (released.dst, sums(worker), worker.get_state().stake) == (worker.address, {}, Nano.ton(100))
    assert worker.get_state().gas > gas, "what is left of its gas comes back"
    session = session_of(client, number)
    assert (session.collateral, session.lock, session.back, session.gas) == (0, 0, 0, session.gas)
    assert session.evidence.hash == session.params.hash
    ended(world, client, number)
    # Of the bond the arbiters' fee is lost, of the announcement all, and the gas of the way.
    lost = before.free + before.reserved + VERDICT_GAS - client.get_state().free
    fees = sum(int(t.cost) for t in at(disputed, client.address)) + FEE + ANNOUNCEMENT
    assert fees < lost < fees + Nano.ton("0.03")


@pytest.mark.parametrize(
    ("redeemed", "slash", "back"),
    [
        (PAID, COLLATERAL, FEE + FLOOR),
        (PAID, Nano.ton("0.1"), Nano.ton("0.1")),
        (PAID, Nano(1), Nano(1)),
        # One per cent of what was paid, where that is more than the least.
        (Nano.ton(3), COLLATERAL, FEE + Nano.ton("0.03")),
    ],
)
def test_slash_compensates_by_what_was_redeemed_and_burns_the_rest(
    world: World, client: Client, worker: Worker, redeemed: int, slash: int, back: int
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    worker.accept_session(client, number)
    client.act(signing.top_up_session(number, Nano.ton(3)))
    worker.redeem(client, number, redeemed)
    client.dispute_session(number)
    before = client.get_state()
    done = resolve(client, worker, number, slash)
    assert worker.get_state().stake == Nano.ton(100) - slash
    assert (sums(worker), worker.get_state().locked) == ({}, 0)
    assert the_payment(done, m.SlashPaid).value == back
    burned = sum(int(payment.value) for payment in payments(done) if payment.dst == BURN)
    assert burned == slash - back
    after = client.get_state()
    # Free again: the bond without the fee, what comes back, and what was set aside for this way.
    gain = after.free - before.free - (BOND - FEE) - back
    assert 0 < gain < VERDICT_GAS
    assert before.reserved - after.reserved >= BOND
    ended(world, client, number)


def test_verdict_can_take_no_more_than_the_bounds(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    client.dispute_session(number)
    session = session_of(client, number)
    wrong: dict[str, dict[str, object]] = {
        "more than was locked": {"slash": COLLATERAL + 1},
        "a payment": {"pay": 1},
        "other receipts": {"result_hash": as_int(hash_of("others"))},
        "another time": {"disputed_at": session.deadline - 1},
    }
    for changes in wrong.values():
        fields = {"slash": 0, **changes}
        verdict = world.suite.session_verdict(client, worker, number, **fields).to_cell()  # type: ignore[arg-type]
        anyone = world.chain.actor("anyone")
        refused(
            world.chain,
            client.address,
            lambda verdict=verdict, anyone=anyone: anyone.send(client.address, VERDICT_GAS, verdict),
            ExitCode.BAD_VERDICT,
        )
    assert session_of(client, number) == session


def test_verdict_counts_only_with_enough_signers_over_this_escrow_and_worker(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    client.dispute_session(number)
    session, suite = session_of(client, number), world.suite
    right = m.Verdict.from_cell(suite.session_verdict(client, worker, number, 1).verdict)
    other, rival = world.client("other"), world.worker("rival")
    anyone = world.chain.actor("anyone")
    for resolution, code in (
        (suite.signed_verdict(client, worker, right, (0, 1)), ExitCode.TOO_FEW_SIGNERS),
        (suite.signed_verdict(client, worker, right, (1, 1, 2)), ExitCode.TOO_FEW_SIGNERS),
        (suite.signed_verdict(client, rival, right), ExitCode.BAD_SIGNATURE),
        (suite.signed_verdict(other, worker, right), ExitCode.BAD_SIGNATURE),
    ):
        body = resolution.to_cell()
        refused(
            world.chain,
            client.address,
            lambda body=body: anyone.send(client.address, VERDICT_GAS, body),
            code,
        )
    body = suite.signed_verdict(client, worker, right).to_cell()
    refused(
        world.chain,
        client.address,
        lambda: anyone.send(client.address, Nano.ton("0.017"), body),
        ExitCode.LOW_VALUE,
    )
    assert session_of(client, number) == session
    anyone.send(client.address, VERDICT_GAS, body)
    # The same once more finds no dispute.
    refused(
        world.chain,
        client.address,
        lambda: anyone.send(client.address, VERDICT_GAS, body),
        ExitCode.WRONG_STATE,
    )


def test_verdict_that_comes_too_late_is_refused_and_the_bond_returns_with_the_end(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor
) -> None:
    before = client.get_state()
    disputed = client.dispute_session(number)
    session = session_of(client, number)
    verdict = world.suite.session_verdict(client, worker, number, COLLATERAL).to_cell()
    world.chain.set_now(turns_at(session))
    refused(
        world.chain,
        client.address,
        lambda: stranger.send(client.address, VERDICT_GAS, verdict),
        ExitCode.TOO_LATE,
    )
    assert settles_at(session) == turns_at(session) + close_delay_of(session)
    worker.redeem(client, number, Nano.ton("0.3"))
    world.chain.set_now(settles_at(session))
    done = stranger.send(client.address, GAS, m.SettleSession(id=number).to_cell())
    assert sent(done, m.Release)
    after = client.get_state()
    assert (sums(worker), worker.get_state().stake, after.reserved) == ({}, Nano.ton(100), 0)
    lost = before.free + before.reserved + GAS - Nano.ton("0.1") - after.free
    assert (
        ANNOUNCEMENT
        < lost
        < ANNOUNCEMENT + sum(int(t.cost) for t in at(disputed, client.address)) + Nano.ton("0.05")
    )


@pytest.mark.parametrize("how", ["release", "slash"])
def test_outcome_of_a_verdict_that_bounces_can_be_delivered(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor, how: str
) -> None:
    client.dispute_session(number)
    with absent(world.chain, worker.address):
        resolve(client, worker, number, COLLATERAL if how == "slash" else 0)
    kind = 1 if how == "slash" else 2
    assert sorted(tombstones(client)) == [(number, kind)]
    assert sums(worker) == {FIRST: COLLATERAL}
    # The session goes on without it, to its end.
    worker.redeem(client, number, DEPOSIT, close=True)
    stranger.send(client.address, VERDICT_GAS, m.Deliver(id=number, kind=kind).to_cell())
    assert (sums(worker), tombstones(client)) == ({}, {})
    assert worker.get_state().stake == Nano.ton(96 if how == "slash" else 100)
    assert client.get_state().reserved == 0


def test_payment_that_bounces_while_it_is_disputed_is_owed_again(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor
) -> None:
    client.dispute_session(number)
    body = redemption(client, worker, number, DEPOSIT).to_cell()
    with absent(world.chain, worker.address):
        stranger.send(client.address, GAS, body)
    session = session_of(client, number)
    assert (session.redeemed, state_of(session)) == (PAID, SessionState.DISPUTED)
    worker.redeem(client, number, DEPOSIT)
    assert earned(worker) == DEPOSIT
