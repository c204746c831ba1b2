"""Signed externals of the operator: forged, replayed, malformed; claims and submissions that may not be."""

from __future__ import annotations

import dataclasses

import pytest
from pytoniq_core import begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.signing import Action
from cocoon_sdk.types import Nano
from tests.helpers.audit import (
    World,
    at,
    bits,
    denied,
    extended,
    locks,
    numbered,
    rejected,
    sent,
    skipped,
    skips,
    state_of,
)
from tests.helpers.suite import GAS, Client, Worker, as_int, hash_of, key_of


def announcing(world: World) -> Action:
    return signing.announce(world.suite.model_id, hash_of("info"))


def test_stranger_cannot_use_the_operator_key(world: World, worker: Worker) -> None:
    spend = Nano.ton("0.02")
    for thief in ("nobody", "client"):
        external = worker.external(announcing(world), max_spend=spend, key=key_of(thief))
        rejected(world.chain, worker, external, ExitCode.BAD_SIGNATURE)
    other = world.worker("other")
    other.key = worker.key
    rejected(
        world.chain,
        worker,
        signing.external_message(
            worker.address,
            signing.external_body(
                worker.key,
                c.PURPOSE_STAKE_EXTERNAL,
                signing.Domain(world.chain.global_id, other.address, worker.get_state().epoch),
                seqno=0,
                valid_until=world.chain.now + 60,
                max_spend=spend,
                actions=[announcing(world)],
            ),
        ),
        ExitCode.BAD_SIGNATURE,
    )
    for purpose in (c.PURPOSE_ESCROW_EXTERNAL, c.PURPOSE_RESULT, c.PURPOSE_VERDICT):
        body = signing.external_body(
            worker.key,
            purpose,
            worker.domain(),
            seqno=0,
            valid_until=world.chain.now + 60,
            max_spend=spend,
            actions=[announcing(world)],
        )
        rejected(world.chain, worker, signing.external_message(worker.address, body), ExitCode.BAD_SIGNATURE)


def test_anyone_cannot_replay_an_external(world: World, worker: Worker) -> None:
    external = worker.external(announcing(world), max_spend=Nano.ton("0.02"))
    assert world.chain.send_external(external)[0].success
    rejected(world.chain, worker, external, ExitCode.BAD_SEQNO)


@pytest.mark.parametrize(("valid_for", "good"), [(-1, False), (0, True), (255, True), (256, False)])
def test_operator_can_act_only_within_its_validity(
    world: World, worker: Worker, valid_for: int, good: bool
) -> None:
    external = worker.external(announcing(world), max_spend=Nano.ton("0.02"), valid_for=valid_for)
    if good:
        assert world.chain.send_external(external)[0].success
    else:
        rejected(world.chain, worker, external, ExitCode.BAD_VALID_UNTIL)


def test_operator_cannot_spend_stake_or_earnings_as_gas(world: World) -> None:
    worker = world.worker("poor", gas=Nano.ton("0.25"))
    batch = worker.external(announcing(world), announcing(world), max_spend=worker.get_state().gas)
    rejected(world.chain, worker, batch, ExitCode.INSUFFICIENT_FREE)
    for _ in range(100):
        external = worker.external(announcing(world), max_spend=Nano.ton("0.0105"))
        try:
            world.chain.send_external(external)
        except ExternalRejectedError:
            break
    rejected(world.chain, worker, external, ExitCode.INSUFFICIENT_FREE)
    state = worker.get_state()
    assert state.balance >= state.stake + c.STAKE_RENT


def test_malformed_actions_are_skipped_and_the_seqno_advances(world: World, worker: Worker) -> None:
    good = announcing(world)
    malformed = [
        Action(bits("")),
        Action(begin_cell().store_uint(99, 8).end_cell()),
        Action(begin_cell().store_uint(c.ACTION_CLAIM, 8).store_uint(1, 32).end_cell()),
        Action(begin_cell().store_uint(c.ACTION_SUBMIT_CLAIMED, 8).store_uint(1, 3).end_cell()),
        Action(good.bits, (extended(good.refs[0]),)),
    ]
    transactions = worker.act(*malformed, good, max_spend=Nano.ton(1))
    logged = [position for position, _ in skips(transactions, worker.address)]
    assert logged == list(range(1, len(malformed) + 1))
    assert len(sent(transactions, m.OfferNotice)) == 1
    state = worker.get_state()
    assert (state.seqno, len(locks(worker)), state.stake) == (1, 0, Nano.ton(100))
    assert state.info_hash == as_int(hash_of("info"))


def test_owner_can_revoke_a_stolen_operator_key(world: World, worker: Worker) -> None:
    stolen = worker.external(announcing(world), max_spend=Nano.ton("0.02"))
    worker.from_owner(m.SetKey(query_id=0, key=key_of("new").verify_key.to_int()))
    rejected(world.chain, worker, stolen, ExitCode.BAD_SIGNATURE)


# -- claiming ------------------------------------------------------------------------------------------


WRONG_TARGETS: list[dict[str, object]] = [
    {"escrow_owner": 1},
    {"escrow_index": 1},
    {"previous_code": True},
    {"job_hash": 1},
    {"collateral": Nano.ton(4) - 1},
    {"collateral": Nano.ton(4) + 1},
    {"collateral": Nano(1)},
]


@pytest.mark.parametrize("wrong", WRONG_TARGETS, ids=str)
@pytest.mark.parametrize("step", ["claim", "submit"])
def test_lock_comes_back_when_the_target_is_wrong(
    world: World, client: Client, worker: Worker, wrong: dict[str, object], step: str
) -> None:
    """Gone from the escrow, or a bounce from where no escrow is: the collateral is free either way."""
    terms = world.suite.open_terms() if step == "claim" else world.suite.directed_terms(worker)
    number, _ = client.open(terms)
    right = worker.target(client, number)
    target = dataclasses.replace(right, **wrong)  # type: ignore[arg-type]
    data, _ = state_of(world.chain, client.address)
    if step == "claim":
        worker.act(signing.claim(number, target), max_spend=worker.work_spend())
    else:
        worker.submit(client, number, Nano.ton(1), target=target)
    state = worker.get_state()
    assert (state.locked, len(locks(worker)), state.stake, state.pending) == (0, 0, Nano.ton(100), 0)
    # Its number is not used again.
    assert state.lock_count + 1 == numbered(2, 1)
    assert state_of(world.chain, client.address)[0] == data
    # The gas that was set aside is free again as well.
    assert state.gas == state.balance - state.stake - c.STAKE_RENT


def test_worker_cannot_claim_without_collateral(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open(world.suite.directed_terms(worker, window=0))
    denied(worker, lambda: worker.claim(client, number), ExitCode.INSUFFICIENT_STAKE)
    assert len(locks(worker)) == 0


def test_worker_cannot_claim_beyond_its_stake(world: World, client: Client) -> None:
    worker = world.worker("small", stake=Nano.ton("3.999999999"))
    number, _ = client.open(world.suite.open_terms())
    denied(worker, lambda: worker.claim(client, number), ExitCode.INSUFFICIENT_STAKE)


def test_worker_cannot_claim_a_job_of_another_worker(world: World, client: Client, worker: Worker) -> None:
    rival = world.worker("rival")
    number, _ = client.open(world.suite.directed_terms(worker))
    job = client.job(number)
    rival.claim(client, number)
    rival.submit(client, number, Nano.ton(1))
    assert (len(locks(rival)), rival.get_state().locked) == (0, 0)
    assert client.job(number) == job


def test_worker_cannot_claim_when_the_deadline_has_passed(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.open_terms())
    job = client.job(number)
    assert job is not None
    world.chain.set_now(job.deadline + 1)
    worker.claim(client, number)
    assert len(locks(worker)) == 0
    assert client.job(number) == job


def test_worker_cannot_submit_an_open_job_without_a_claim(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.open_terms())
    job = client.job(number)
    worker.submit(client, number, Nano.ton(1))
    assert len(locks(worker)) == 0
    assert client.job(number) == job


# -- submitting on a claim -----------------------------------------------------------------------------


def test_worker_cannot_submit_on_somebody_elses_claim(world: World, client: Client, worker: Worker) -> None:
    rival = world.worker("rival")
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    job = client.job(number)
    denied(rival, lambda: rival.submit_claimed(client, number, Nano.ton(1)), ExitCode.NO_LOCK)
    other, _ = client.open(world.suite.open_terms())
    rival.claim(client, other)
    done = rival.submit_claimed(client, number, Nano.ton(1))
    (gone,) = sent(done, m.Gone)
    assert m.Gone.from_cell(gone.in_msg.body) == m.Gone(id=number, collateral=0, lock=0, unused=False)
    # The value came back; nothing of its own claim was freed.
    assert (gone.success, gone.in_msg.value > 0) == (True, True)
    assert rival.get_state().locked == Nano.ton(4)
    assert client.job(number) == job


def test_worker_cannot_submit_twice_on_a_claim(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    worker.submit_claimed(client, number, Nano.ton("0.5"))
    job = client.job(number)
    assert job is not None
    assert job.amount == Nano.ton("0.5")
    # The stake does not know which claims are served: it may ask again, with gas that no claim set aside.
    done = worker.submit_claimed(client, number, Nano.ton(1))
    assert at(done, client.address)[0].out_msgs == ()
    assert client.job(number) == job
    # Nor on top of it without the claim: the second collateral comes back, the first stays.
    worker.submit(client, number, Nano.ton(1))
    assert client.job(number) == job
    assert worker.get_state().locked == Nano.ton(4)
    # Nor with what another claim set aside.
    other, _ = client.open(world.suite.open_terms())
    worker.claim(client, other)
    done = worker.submit_claimed(client, number, Nano.ton(1))
    assert at(done, client.address)[0].out_msgs == ()
    assert client.job(number) == job
    assert worker.get_state().locked == 2 * Nano.ton(4)


@pytest.mark.parametrize("reason", ["late", "too dear"])
def test_submission_on_a_claim_changes_nothing_when_it_may_not_be(
    world: World, client: Client, worker: Worker, reason: str
) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    job = client.job(number)
    assert job is not None
    world.chain.set_now(job.deadline + (reason == "late"))
    held = locks(worker)
    transactions = worker.submit_claimed(client, number, Nano.ton(1) + (reason == "too dear"))
    assert client.job(number) == job
    (arrival,) = at(transactions, client.address)
    assert (arrival.success, arrival.out_msgs) == (True, ())
    assert (locks(worker), list(held)) == (held, [numbered(1)])


def test_operator_cannot_exceed_max_locked(world: World, client: Client, worker: Worker) -> None:
    worker.from_owner(m.SetStakeLimits(query_id=0, max_locked=Nano.ton("7.9"), daily_lock=Nano.ton(100)))
    for _ in range(2):
        client.open(world.suite.open_terms())
    skipped(worker, worker.claim(client, 1))
    denied(worker, lambda: worker.claim(client, 2), ExitCode.INSUFFICIENT_STAKE)
    assert worker.get_state().locked == Nano.ton(4)


def test_operator_cannot_lock_more_than_its_daily_bucket(
    world: World, client: Client, worker: Worker
) -> None:
    worker.from_owner(m.SetStakeLimits(query_id=0, max_locked=Nano.ton(100), daily_lock=Nano.ton(6)))
    for _ in range(3):
        client.open(world.suite.open_terms(claim_period=86_400))
    skipped(worker, worker.claim(client, 1))
    assert worker.get_state().bucket == Nano.ton(2)
    denied(worker, lambda: worker.claim(client, 2), ExitCode.DAILY_LIMIT)
    # Ended locks do not refill it; time does: 2 TON take a third of a day.
    worker.submit_claimed(client, 1, Nano.ton(1))
    client.act(signing.accept_result(1))
    denied(worker, lambda: worker.claim(client, 2), ExitCode.DAILY_LIMIT)
    world.chain.warp(28_799)
    denied(worker, lambda: worker.claim(client, 2), ExitCode.DAILY_LIMIT)
    world.chain.warp(2)
    skipped(worker, worker.claim(client, 2))
    assert worker.get_state().locked == Nano.ton(4)


def test_operator_thief_cannot_withdraw(world: World, worker: Worker) -> None:
    """The thief holds the key: it may announce and lock, but nothing leaves except gas and announcements."""
    before = worker.get_state()
    for _ in range(3):
        worker.act(announcing(world), max_spend=Nano.ton("0.02"))
        worker.act(signing.finalize(1, world.chain.actor("accomplice").address), max_spend=Nano.ton("0.02"))
    after = worker.get_state()
    assert (after.stake, after.earned, after.fee_due) == (before.stake, before.earned, before.fee_due)
    assert before.gas - after.gas < Nano.ton("0.15")


def test_owner_can_top_up_gas(world: World, worker: Worker) -> None:
    before = worker.get_state().gas
    (_, arrival, *_) = worker.owner.send(worker.address, GAS)
    assert worker.get_state().gas == before + GAS - arrival.total_fees
