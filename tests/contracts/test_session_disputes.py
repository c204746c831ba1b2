"""Disputes of guarded sessions: what they take, what arbiters may decide; nobody can escape or block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import (
    SessionState,
    close_delay_of,
    evidence_of,
    settles_at,
    state_of,
    turns_at,
)
from cocoon_sdk.sandbox import Actor, Transaction
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import FIRST, sums
from tests.contracts.test_closed_holes_audit import deepen
from tests.contracts.test_full_tables import fill
from tests.contracts.test_session_money import redemption
from tests.helpers.audit import (
    BURN,
    World,
    absent,
    at,
    denied,
    gas_fee,
    locks,
    payments,
    refused,
    sent,
    skipped,
    the_payment,
    tombstones,
)
from tests.helpers.suite import GAS, Client, Worker, as_int, hash_of

DEPOSIT = Nano.ton(1)
COLLATERAL = Nano.ton(4)
PAID = Nano.ton("0.2")
BOND = Nano.ton("0.2")
ANNOUNCEMENT = Nano.ton("0.01")
FEE = 3 * (Nano.ton("0.15") // 3)
FLOOR = Nano.ton("0.015")
VERDICT_GAS = Nano.ton("0.1")


@pytest.fixture
def number(client: Client, worker: Worker) -> int:
    """A guarded session, of which something was redeemed."""
    number, _ = client.open_session(worker, DEPOSIT)
    worker.accept_session(client, number)
    worker.redeem(client, number, PAID)
    return number


def session_of(client: Client, number: int) -> m.Session:
    session = client.session(number)
    assert session is not None
    return session


def resolve(client: Client, worker: Worker, number: int, slash: int, **changes: object) -> list[Transaction]:
    verdict = client.suite.session_verdict(client, worker, number, slash, **changes)
    return client.suite.chain.actor("anyone").send(client.address, VERDICT_GAS, verdict.to_cell())


def earned(worker: Worker) -> int:
    state = worker.get_state()
    return int(state.earned + state.fee_due)


def ended(world: World, client: Client, number: int) -> None:
    """Let the session's time pass, and settle it."""
    world.chain.set_now(settles_at(session_of(client, number)))
    client.act(signing.settle_session(number))
    assert client.get_state().reserved == 0


# -- disputing -----------------------------------------------------------------------------------------


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


# -- no escape, no block -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["worker", "client"])
def test_worker_cannot_escape_by_closing_in_the_same_block(
    world: World, client: Client, worker: Worker, number: int, first: str
) -> None:
    voucher = client.voucher(worker, number, DEPOSIT)
    steps: list[Callable[[], object]] = [
        lambda: worker.act(signing.redeem(number, client.address, DEPOSIT, voucher, close=True)),
        lambda: client.dispute_session(number),
    ]
    for step in steps if first == "worker" else reversed(steps):
        step()
    assert state_of(session_of(client, number)) is SessionState.DISPUTED
    assert (earned(worker), sums(worker)) == (DEPOSIT, {FIRST: COLLATERAL})
    resolve(client, worker, number, COLLATERAL)
    assert (worker.get_state().stake, sums(worker)) == (Nano.ton(96), {})
    ended(world, client, number)


def test_worker_that_closes_gives_the_client_the_whole_delay_to_dispute(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    done = worker.act(signing.redeem(number, client.address, Nano(0), close=True))
    assert sent(done, m.SessionClosing)
    session = session_of(client, number)
    assert state_of(session) is SessionState.CLOSING_GUARDED
    assert session.deadline == world.chain.now + close_delay_of(session)
    world.chain.set_now(session.deadline - 1)
    with world.chain.isolated():
        client.dispute_session(number)
        assert state_of(session_of(client, number)) is SessionState.DISPUTED
    world.chain.set_now(session.deadline)
    denied(client, lambda: client.dispute_session(number), ExitCode.TOO_LATE)
    # The worker ends it by itself then, without its client.
    done = worker.act(signing.redeem(number, client.address, Nano(0), close=True))
    assert sent(done, m.Release)
    assert (client.session(number), sums(worker), client.get_state().reserved) == (None, {}, 0)


def test_worker_that_closes_again_postpones_nothing(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    worker.redeem(client, number, Nano.ton("0.3"), close=True)
    settles = settles_at(session_of(client, number))
    world.chain.warp(100)
    worker.redeem(client, number, Nano.ton("0.4"), close=True)
    assert settles_at(session_of(client, number)) == settles
    body = redemption(client, worker, number, Nano.ton("0.4"), close=True).to_cell()
    done = world.chain.send_internal(client.address, GAS, body, src=worker.address)
    assert done[0].exit_code == ExitCode.NOTHING_DUE


def test_worker_gets_all_that_was_signed_while_it_is_disputed_and_afterwards(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor
) -> None:
    client.dispute_session(number)
    worker.redeem(client, number, Nano.ton("0.3"))
    worker.redeem(client, number, Nano.ton("0.4"), close=True)
    body = redemption(client, worker, number, Nano.ton("0.5")).to_cell()
    stranger.send(client.address, GAS, body)
    assert (earned(worker), sums(worker)) == (Nano.ton("0.5"), {FIRST: COLLATERAL})
    resolve(client, worker, number, COLLATERAL)
    session = session_of(client, number)
    assert session.deadline == world.chain.now + close_delay_of(session)
    denied(client, lambda: client.act(signing.settle_session(number)), ExitCode.TOO_EARLY)
    worker.redeem(client, number, Nano.ton("0.6"))
    world.chain.set_now(session.deadline - 1)
    worker.redeem(client, number, DEPOSIT, close=True)
    assert (earned(worker), client.session(number), client.get_state().reserved) == (DEPOSIT, None, 0)


@pytest.mark.parametrize("step", ["close", "owner closes", "top up", "settle", "accept"])
def test_nothing_ends_or_changes_a_disputed_session(
    world: World, client: Client, worker: Worker, number: int, step: str
) -> None:
    client.dispute_session(number)
    world.chain.set_now(settles_at(session_of(client, number)) - 1)
    before = session_of(client, number)
    match step:
        case "close":
            denied(client, lambda: client.act(signing.close_session(number)), ExitCode.SESSION_CLOSING)
        case "owner closes":
            body = m.CloseSession(query_id=0, id=number)
            refused(world.chain, client.address, lambda: client.from_owner(body), ExitCode.SESSION_CLOSING)
        case "top up":
            action = signing.top_up_session(number, Nano(1))
            denied(client, lambda: client.act(action), ExitCode.SESSION_CLOSING)
        case "settle":
            denied(client, lambda: client.act(signing.settle_session(number)), ExitCode.TOO_EARLY)
        case _:
            target = replace(worker.session_target(client, number), lock=2)
            assert sent(worker.act(signing.accept_session(number, target)), m.Gone)
    assert session_of(client, number) == before


# -- verdicts ------------------------------------------------------------------------------------------


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


# -- bounds --------------------------------------------------------------------------------------------


def test_lock_outlives_the_longest_dispute(world: World, client: Client, worker: Worker) -> None:
    params = m.Params.from_cell(world.suite.params_cell)
    number, _ = client.open_session(worker, DEPOSIT, lasts_s=params.max_phases)
    worker.accept_session(client, number)
    world.chain.set_now(settles_at(session_of(client, number)) - 1)
    client.dispute_session(number)
    world.chain.set_now(turns_at(session_of(client, number)) - 1)
    resolve(client, worker, number, COLLATERAL)
    assert worker.get_state().stake == Nano.ton(96)


def test_lock_outlives_the_longest_dispute_under_any_parameters() -> None:
    """All phases and a dispute fill `max_job_life`; a worker's delay comes before it, and one behind it."""
    longest_delay = 72 * 3600
    end = c.HARD_MAX_JOB_LIFE + c.DELIVERY_GRACE
    verdict = c.HARD_MAX_JOB_LIFE + longest_delay
    assert end - verdict >= 3 * 86_400, "days in which a slash that bounced can be delivered"
    assert verdict + longest_delay < end


@pytest.mark.parametrize("table", ["full", "deep"])
def test_client_can_dispute_whatever_the_table_looks_like(world: World, table: str) -> None:
    """Nothing is paid for before the external is accepted but looking the session up."""
    client, worker = world.client("big", deposit=Nano.ton(500)), world.worker("busy")
    if table == "full":
        fill(world, client, 63)
    else:
        deepen(client, 511)
    number, _ = client.open_session(worker, DEPOSIT)
    if table == "full":
        fill(world, client, c.MAX_JOBS - 64)
    worker.accept_session(client, number)
    free = client.get_state().free
    client.dispute_session(number)
    done = resolve(client, worker, number, COLLATERAL)
    assert all(transaction.exit_code in (0, None) for transaction in done)
    # What was set aside and what the verdict brought paid for all of it.
    assert client.get_state().free > free - FEE - ANNOUNCEMENT - gas_fee(3 * c.GAS_EXTERNAL)
    assert locks(worker) == {}


def test_batch_skips_a_dispute_that_goes_beyond_its_spending(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    action = signing.dispute_session(number, hash_of("receipts"), world.suite.model_id)
    done = client.act(action, signing.cancel_job(999), max_spend=BOND)
    skipped(client, done, ExitCode.DAILY_LIMIT, ExitCode.NO_JOB)
    assert state_of(session_of(client, number)) is SessionState.GUARDED


def test_unguarded_session_still_ends_at_once_when_its_worker_wants(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    denied(client, lambda: client.dispute_session(number), ExitCode.NOT_GUARDED)
    worker.redeem(client, number, PAID, close=True)
    assert (client.session(number), client.get_state().reserved) == (None, 0)
