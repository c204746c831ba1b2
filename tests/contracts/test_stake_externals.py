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


# -- submitting ------------------------------------------------------------------------------------------


WRONG_TARGETS: list[dict[str, object]] = [
    {"escrow_owner": 1},
    {"escrow_index": 1},
    {"previous_code": True},
    {"job_hash": 1},
    {"own_previous_code": True},
    {"collateral": Nano.ton(4) - 1},
    {"collateral": Nano.ton(4) + 1},
    {"collateral": Nano(1)},
]


# One shows whose stake it is, the other what it binds.
NOT_IN = {"submit claimed": "job_hash", "submit": "own_previous_code"}
WRONG_STEPS = [(step, wrong) for step in NOT_IN for wrong in WRONG_TARGETS if NOT_IN[step] not in wrong]


@pytest.mark.parametrize(("step", "wrong"), WRONG_STEPS, ids=str)
def test_lock_comes_back_when_the_target_is_wrong(
    world: World, client: Client, worker: Worker, wrong: dict[str, object], step: str
) -> None:
    """Gone from the escrow, or a bounce from where no escrow is: the collateral is free either way."""
    claimed = step == "submit claimed"
    terms = world.suite.open_terms() if claimed else world.suite.directed_terms(worker)
    number, _ = client.open(terms)
    if claimed:
        worker.claim(client, number)
    right = worker.target(client, number)
    target = dataclasses.replace(right, **wrong)  # type: ignore[arg-type]
    data, _ = state_of(world.chain, client.address)
    send = signing.submit_claimed if claimed else signing.submit
    worker.act(send(number, Nano.ton(1), target, hash_of("result")))
    state = worker.get_state()
    assert (state.locked, len(locks(worker)), state.stake) == (0, 0, Nano.ton(100))
    # Its number is not used again.
    assert state.lock_count + 1 == numbered(2, 1)
    assert state_of(world.chain, client.address)[0] == data
    # The right one still works.
    worker.act(send(number, Nano.ton(1), right, hash_of("result")))
    job = client.job(number)
    assert job is not None
    assert job.status == 2


def test_worker_cannot_submit_an_open_job_without_a_claim(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.open_terms())
    job = client.job(number)
    worker.submit(client, number, Nano.ton(1))
    assert len(locks(worker)) == 0
    assert client.job(number) == job


# -- submitting on a claim -----------------------------------------------------------------------------


def gone(number: int) -> m.Gone:
    return m.Gone(id=number, collateral=Nano.ton(4), lock=numbered(1))


def test_worker_cannot_submit_on_somebody_elses_claim(world: World, client: Client, worker: Worker) -> None:
    rival = world.worker("rival")
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    job = client.job(number)
    done = rival.submit_claimed(client, number, Nano.ton(1))
    (answer,) = sent(done, m.Gone)
    assert m.Gone.from_cell(answer.in_msg.body) == gone(number)
    # The value came back, and the collateral is free.
    assert (answer.success, answer.in_msg.value > 0) == (True, True)
    assert (rival.get_state().locked, locks(rival)) == (0, {})
    assert client.job(number) == job


def test_worker_cannot_submit_before_its_claim(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open(world.suite.open_terms())
    job = client.job(number)
    done = worker.submit_claimed(client, number, Nano.ton(1))
    (answer,) = sent(done, m.Gone)
    assert m.Gone.from_cell(answer.in_msg.body) == gone(number)
    assert (worker.get_state().locked, client.job(number)) == (0, job)


def test_worker_cannot_submit_twice_on_a_claim(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    worker.submit_claimed(client, number, Nano.ton("0.5"))
    job = client.job(number)
    assert job is not None
    assert job.amount == Nano.ton("0.5")
    # The second collateral comes back, the first stays.
    for again in (worker.submit_claimed, worker.submit):
        assert len(sent(again(client, number, Nano.ton(1)), m.Gone)) == 1
        assert client.job(number) == job
        assert worker.get_state().locked == Nano.ton(4)


def test_worker_cannot_submit_on_a_claim_as_without_one(world: World, client: Client, worker: Worker) -> None:
    """A submission that does not show whose stake it is locks nothing that anybody could believe in."""
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    job = client.job(number)
    assert len(sent(worker.submit(client, number, Nano.ton(1)), m.Gone)) == 1
    assert (client.job(number), worker.get_state().locked) == (job, 0)


@pytest.mark.parametrize("reason", ["late", "too dear"])
def test_submission_on_a_claim_changes_nothing_when_it_may_not_be(
    world: World, client: Client, worker: Worker, reason: str
) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    job = client.job(number)
    assert job is not None
    world.chain.set_now(job.deadline + (reason == "late"))
    transactions = worker.submit_claimed(client, number, Nano.ton(1) + (reason == "too dear"))
    assert client.job(number) == job
    (arrival,) = at(transactions, client.address)
    assert arrival.success
    (answer,) = sent(transactions, m.Gone)
    assert m.Gone.from_cell(answer.in_msg.body) == gone(number)
    assert (locks(worker), worker.get_state().locked) == ({}, 0)


def test_operator_cannot_exceed_max_locked(world: World, client: Client, worker: Worker) -> None:
    worker.from_owner(m.SetStakeLimits(query_id=0, max_locked=Nano.ton("7.9"), daily_lock=Nano.ton(100)))
    for number in (1, 2):
        client.open(world.suite.open_terms())
        worker.claim(client, number)
    skipped(worker, worker.submit_claimed(client, 1, Nano.ton(1)))
    denied(worker, lambda: worker.submit_claimed(client, 2, Nano.ton(1)), ExitCode.INSUFFICIENT_STAKE)
    assert worker.get_state().locked == Nano.ton(4)


def test_operator_cannot_lock_more_than_its_daily_bucket(
    world: World, client: Client, worker: Worker
) -> None:
    worker.from_owner(m.SetStakeLimits(query_id=0, max_locked=Nano.ton(100), daily_lock=Nano.ton(6)))
    for _ in range(2):
        client.open(world.suite.directed_terms(worker, claim_period=86_400))
    skipped(worker, worker.submit(client, 1, Nano.ton(1)))
    assert worker.get_state().bucket == Nano.ton(2)
    denied(worker, lambda: worker.submit(client, 2, Nano.ton(1)), ExitCode.DAILY_LIMIT)
    # Ended locks do not refill it; time does: 2 TON take a third of a day.
    client.act(signing.accept_result(1))
    denied(worker, lambda: worker.submit(client, 2, Nano.ton(1)), ExitCode.DAILY_LIMIT)
    world.chain.warp(28_799)
    denied(worker, lambda: worker.submit(client, 2, Nano.ton(1)), ExitCode.DAILY_LIMIT)
    world.chain.warp(2)
    skipped(worker, worker.submit(client, 2, Nano.ton(1)))
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
