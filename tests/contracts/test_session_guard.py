"""Guarded sessions: collateral is locked as for a claim, held to the end, and freed exactly once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import SessionState, settles_at, state_of
from cocoon_sdk.sandbox import Actor, Transaction
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import FIRST, HOW, SECOND, act, cannot, status, sums
from tests.contracts.test_parameters import enact, sync
from tests.helpers.audit import World, absent, denied, locks, numbered, refused, sent, tombstones
from tests.helpers.suite import GAS, Client, Worker, hash_of

DEPOSIT = Nano.ton(1)
COLLATERAL = Nano.ton(4)
HALF = Nano.ton("0.5")


@pytest.fixture
def number(client: Client, worker: Worker) -> int:
    return client.open_session(worker, DEPOSIT)[0]


def session_of(client: Client, number: int) -> m.Session:
    session = client.session(number)
    assert session is not None
    return session


def accepting(worker: Worker, client: Client, number: int, **changes: object) -> signing.Action:
    return signing.accept_session(number, replace(worker.session_target(client, number), **changes))  # type: ignore[arg-type]


def settle(world: World, client: Client, number: int) -> list[Transaction]:
    client.act(signing.close_session(number))
    world.chain.set_now(settles_at(session_of(client, number)))
    return client.act(signing.settle_session(number))


# -- accepting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_worker_can_lock_collateral_in_a_new_lock_or_in_one_that_is_there(
    world: World, client: Client, worker: Worker, how: str
) -> None:
    first, _ = client.open_session(worker, DEPOSIT)
    second, _ = client.open_session(worker, Nano(1))
    act(worker, how, accepting(worker, client, first, lock=1))
    assert sums(worker) == {FIRST: COLLATERAL}
    act(worker, how, accepting(worker, client, second, lock=FIRST))
    assert sums(worker) == {FIRST: COLLATERAL + Nano.ton("0.2")}
    for number, collateral in ((first, COLLATERAL), (second, Nano.ton("0.2"))):
        session = session_of(client, number)
        assert (session.collateral, session.lock) == (collateral, FIRST)
        assert state_of(session) is SessionState.GUARDED


def test_collateral_of_sessions_and_jobs_can_share_a_lock(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    job, _ = client.open(world.suite.directed_terms(worker))
    worker.accept_session(client, number)
    worker.submit(client, job, Nano.ton(1))
    assert sums(worker) == {FIRST: 2 * COLLATERAL}
    client.act(signing.accept_result(job))
    assert sums(worker) == {FIRST: COLLATERAL}
    worker.end_session(client, number, HALF)
    assert sums(worker) == {}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"lock": 0}, ExitCode.SLOT_TAKEN),
        ({"lock": 2**32 - 1}, ExitCode.NO_LOCK),
        ({"collateral": Nano(0)}, ExitCode.INSUFFICIENT_STAKE),
        ({"collateral": Nano.ton(101)}, ExitCode.INSUFFICIENT_STAKE),
    ],
)
def test_operator_cannot_accept_what_its_stake_does_not_hold(
    world: World,
    client: Client,
    worker: Worker,
    number: int,
    how: str,
    changes: dict[str, object],
    code: ExitCode,
) -> None:
    cannot(worker, how, accepting(worker, client, number, **changes), code)


def test_operator_cannot_lock_more_than_the_owner_allows_a_day(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    worker.from_owner(m.SetStakeLimits(query_id=0, max_locked=Nano.ton(100), daily_lock=COLLATERAL - 1))
    cannot(worker, "alone", accepting(worker, client, number), ExitCode.DAILY_LIMIT)
    worker.from_owner(m.SetStakeLimits(query_id=0, max_locked=COLLATERAL - 1, daily_lock=Nano.ton(100)))
    cannot(worker, "alone", accepting(worker, client, number), ExitCode.INSUFFICIENT_STAKE)


def test_slot_of_another_escrow_is_not_shared(world: World, client: Client, worker: Worker) -> None:
    other = world.client("other")
    first, _ = client.open_session(worker, DEPOSIT)
    second, _ = other.open_session(worker, DEPOSIT)
    worker.accept_session(client, first)
    cannot(worker, "alone", accepting(worker, other, second, lock=FIRST), ExitCode.NO_LOCK)
    cannot(worker, "alone", accepting(worker, other, second, lock=1), ExitCode.SLOT_TAKEN)


@pytest.mark.parametrize(
    "wrong",
    ["too much", "too little", "other session", "other parameters", "expired", "closing", "guarded", "ended"],
)
def test_acceptance_that_does_not_fit_is_gone_and_its_collateral_free(
    world: World, client: Client, worker: Worker, number: int, wrong: str
) -> None:
    action = accepting(worker, client, number)
    match wrong:
        case "too much":
            action = accepting(worker, client, number, collateral=Nano(COLLATERAL + 1))
        case "too little":
            action = accepting(worker, client, number, collateral=Nano(COLLATERAL - 1))
        case "other session":
            action = accepting(worker, client, number, session_hash=1)
        case "other parameters":
            enact(world, version=2, fee_bps=50)
            sync(world, worker)
            number, _ = client.open_session(worker, DEPOSIT)
            action = accepting(worker, client, number)
        case "expired":
            world.chain.set_now(session_of(client, number).deadline)
        case "closing":
            client.act(signing.close_session(number))
        case "guarded":
            worker.act(action)
            action = accepting(worker, client, number, lock=2)
        case "ended":
            worker.act(signing.redeem(number, client.address, Nano(0), close=True))
    before = client.session(number), client.get_state().reserved, sums(worker)
    done = worker.act(action)
    assert len(sent(done, m.Gone)) == 1
    assert all(transaction.success for transaction in done)
    assert (client.session(number), client.get_state().reserved, sums(worker)) == before


def test_stranger_cannot_guard_a_session(world: World, client: Client, worker: Worker, number: int) -> None:
    rival = world.worker("rival")
    before = client.session(number)
    done = rival.act(signing.accept_session(number, worker.session_target(client, number)))
    assert len(sent(done, m.Gone)) == 1
    assert (sums(rival), client.session(number)) == ({}, before)


def test_acceptance_of_a_session_that_is_topped_up_meanwhile_is_gone(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    """Collateral is of the deposit that the worker saw; the client can only make it try again."""
    world.chain.hold()
    worker.accept_session(client, number)
    client.act(signing.top_up_session(number, Nano(1)))
    world.chain.release()
    assert (sums(worker), session_of(client, number).collateral) == ({}, 0)


def test_deposit_may_grow_beyond_what_the_collateral_was_for(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    worker.accept_session(client, number)
    client.act(signing.top_up_session(number, Nano.ton(9)))
    assert (session_of(client, number).collateral, sums(worker)) == (COLLATERAL, {FIRST: COLLATERAL})
    worker.end_session(client, number, Nano.ton(10))
    assert sums(worker) == {}


def test_acceptance_that_finds_no_escrow_bounces_and_frees_its_lock(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    gas = worker.get_state().gas
    world.chain.hold()
    worker.accept_session(client, number)
    assert sums(worker) == {FIRST: COLLATERAL}
    with absent(world.chain, client.address):
        world.chain.release()
    state = worker.get_state()
    assert (sums(worker), state.locked) == ({}, 0)
    assert gas - state.gas < Nano.ton("0.01")


# -- the end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["settled", "settled by anyone", "closed", "closed with nothing due"])
def test_collateral_is_free_when_the_session_ends(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor, how: str
) -> None:
    worker.accept_session(client, number)
    worker.redeem(client, number, Nano.ton("0.1"))
    assert sums(worker) == {FIRST: COLLATERAL}, "a payment in between frees nothing"
    match how:
        case "settled":
            settle(world, client, number)
        case "settled by anyone":
            world.chain.set_now(settles_at(session_of(client, number)))
            stranger.send(client.address, GAS, m.SettleSession(id=number).to_cell())
        case "closed":
            worker.end_session(client, number, HALF)
        case _:
            worker.end_session(client, number)
    assert (sums(worker), worker.get_state().locked, client.get_state().reserved) == ({}, 0, 0)
    earned = HALF if how == "closed" else Nano.ton("0.1")
    assert worker.get_state().earned + worker.get_state().fee_due == earned


def test_stakes_answers_come_once_for_each_lock(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    """A second session in the same lock keeps its part, whatever order the ends come in."""
    second, _ = client.open_session(worker, Nano.ton(2))
    worker.accept_session(client, number)
    worker.accept_session(client, second)
    assert sums(worker) == {FIRST: 3 * COLLATERAL}
    world.chain.set_now(settles_at(session_of(client, number)))
    world.chain.hold()
    worker.redeem(client, second, HALF, close=True)
    worker.redeem(client, number, HALF, close=True)
    world.chain.release()
    assert sums(worker) == {}
    assert worker.get_state().earned + worker.get_state().fee_due == DEPOSIT


def test_release_that_bounces_can_be_delivered(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor
) -> None:
    worker.accept_session(client, number)
    client.act(signing.close_session(number))
    world.chain.set_now(settles_at(session_of(client, number)))
    with absent(world.chain, worker.address):
        client.act(signing.settle_session(number))
    assert sorted(tombstones(client)) == [(number, 2)]
    stranger.send(client.address, GAS, m.Deliver(id=number, kind=2).to_cell())
    assert (sums(worker), tombstones(client)) == ({}, {})


def test_lock_that_outlived_every_life_can_be_freed_and_the_late_end_finds_nothing(
    world: World, client: Client, worker: Worker, number: int, stranger: Actor
) -> None:
    worker.accept_session(client, number)
    world.chain.set_now(locks(worker)[FIRST].end + 1)
    stranger.send(worker.address, GAS, m.ReleaseExpired(lock=FIRST).to_cell())
    second, _ = client.open_session(worker, DEPOSIT)
    worker.act(accepting(worker, client, second, lock=1))
    assert sums(worker) == {numbered(2, 1): COLLATERAL}
    before = worker.get_state()
    worker.redeem(client, number, HALF, close=True)
    after = worker.get_state()
    assert sums(worker) == {numbered(2, 1): COLLATERAL}
    # Nothing was locked any more: credited is at most what arrived, which is all of it.
    assert after.earned + after.fee_due - before.earned - before.fee_due == HALF


def test_session_ends_before_its_lock_can_be_freed(world: World, client: Client, worker: Worker) -> None:
    phases = m.Params.from_cell(world.suite.params_cell).max_phases
    number, _ = client.open_session(worker, DEPOSIT, lasts_s=phases)
    worker.accept_session(client, number)
    session = session_of(client, number)
    assert settles_at(session) + 86_400 < locks(worker)[FIRST].end
    release = m.ReleaseExpired(lock=FIRST).to_cell()
    world.chain.set_now(settles_at(session))
    refused(
        world.chain,
        worker.address,
        lambda: world.chain.actor("anyone").send(worker.address, GAS, release),
        ExitCode.LOCK_ALIVE,
    )


def test_forged_ends_of_a_session_free_nothing(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    worker.accept_session(client, number)
    other = world.client("other")
    for source in (other.address, world.chain.actor("stranger").address):
        for body in (
            m.Release(id=number, collateral=COLLATERAL, lock=FIRST),
            m.Gone(id=number, collateral=COLLATERAL, lock=FIRST),
            m.Reward(id=number, collateral=COLLATERAL, amount=1, fee=0, lock=FIRST),
        ):
            world.chain.send_internal(worker.address, GAS, body.to_cell(), src=source)
    assert sums(worker) == {FIRST: COLLATERAL}


def test_operator_can_claim_submit_and_accept_in_one_batch(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    job, _ = client.open(world.suite.directed_terms(worker))
    posted, _ = client.open(world.suite.open_terms())
    target = worker.target(client, job)
    second, _ = client.open_session(worker, DEPOSIT)
    voucher = client.voucher(worker, second, HALF)
    actions = [
        signing.accept_session(number, replace(worker.session_target(client, number), lock=1)),
        signing.submit(job, Nano.ton(1), replace(target, lock=2), hash_of("result")),
        worker.claim_action(client, posted),
        signing.redeem(second, client.address, HALF, voucher, close=True),
    ]
    done = worker.act(*actions, max_spend=worker.get_state().gas // 2)
    assert all(transaction.success for transaction in done), done
    assert sums(worker) == {FIRST: COLLATERAL, SECOND: COLLATERAL}
    assert status(client, posted) == 1
    assert worker.get_state().earned + worker.get_state().fee_due == HALF
    assert client.session(second) is None


def test_operator_cannot_accept_without_the_gas_of_one_work(
    world: World, client: Client, number: int, worker: Worker
) -> None:
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(worker.get_state().gas)))
    action = accepting(worker, client, number)
    denied(worker, lambda: worker.act(action), ExitCode.INSUFFICIENT_FREE)
