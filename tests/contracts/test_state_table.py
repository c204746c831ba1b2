"""The state table of `cocoon_sdk.protocol.job_states` against the compiled contracts, cell by cell.

For every state, on both sides of its deadline (the last second in time, the first one late), every action is
tried: those listed must lead where the table says and send what it says, all others must be refused exactly
as it says and change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from pytoniq_core import Cell, begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.history import (
    DecodedTransaction,
    JobEvent,
    decode_transaction,
    state_after,
    steps_of,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.job_states import (
    TRANSITIONS,
    Actor,
    Answer,
    JobAction,
    JobState,
    Refusal,
    Timing,
    deadline_of,
    markdown,
    refusal,
    state_of,
    timing_of,
    transition,
)
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.suite import Client, Suite, Worker, as_int, hash_of

ID = 1
AMOUNT = Nano.ton("0.4")
RESULT = hash_of("result")
_LOCK = 77


@dataclass
class Scene:
    """One job in one state, and who may do something to it. `history` leads up to the state."""

    suite: Suite
    client: Client
    worker: Worker
    stranger: Worker
    terms: m.JobTerms

    @property
    def job(self) -> m.Job | None:
        return self.client.job(ID)

    @property
    def history(self) -> list[JobEvent]:
        found = reversed(self.suite.chain.transactions(self.client.address, limit=100))
        decoded = (decode_transaction(transaction.record()) for transaction in found)
        return [step for transaction in decoded for step in steps_of(transaction, ID)]

    @property
    def state(self) -> JobState:
        job = self.job
        return state_after(self.history) if job is None else state_of(job)


@pytest.fixture(scope="module")
def suite() -> Suite:
    return Suite(Blockchain())


def scene_in(suite: Suite, state: JobState) -> Scene:
    """Lead a job into a state by the shortest way."""
    client, worker = suite.client("client"), suite.worker("worker")
    terms = {
        JobState.OPEN: suite.open_terms(),
        JobState.CLAIMED: suite.open_terms(),
        JobState.PENALISED: suite.open_terms(),
        JobState.REFUNDED: suite.open_terms(),
        JobState.OFFERED_AT_ONCE: suite.directed_terms(worker, window=0),
    }.get(state, suite.directed_terms(worker))
    scene = Scene(suite, client, worker, suite.worker("stranger"), terms)
    if state is JobState.NONE:
        return scene
    client.open(terms)
    if state in (JobState.CLAIMED, JobState.PENALISED):
        worker.claim(client, ID)
    if state in (JobState.SUBMITTED, JobState.DISPUTED, JobState.PAID, JobState.SLASHED):
        worker.submit(client, ID, AMOUNT, RESULT)
    if state in (JobState.DISPUTED, JobState.SLASHED):
        client.act(signing.dispute_result(ID))
    match state:
        case JobState.PAID:
            client.act(signing.accept_result(ID))
        case JobState.REFUNDED:
            client.act(signing.cancel_job(ID))
        case JobState.PENALISED:
            suite.chain.warp(terms.work_period + 1)
            client.act(signing.reclaim_late(ID))
        case JobState.SLASHED:
            resolve(scene, JobAction.RESOLVE_SLASH)
    assert scene.state is state
    return scene


def move_to(scene: Scene, timing: Timing) -> None:
    """Stand at the last second in time, or at the first one that is late."""
    job, chain = scene.job, scene.suite.chain
    if job is None:
        return
    edge = next(now for now in (deadline_of(job), deadline_of(job) + 1) if timing_of(job, now) is Timing.LATE)
    chain.set_now(edge - 1 if timing is Timing.IN_TIME else edge)


# -- doing ---------------------------------------------------------------------------------------------


def external_action(scene: Scene, action: JobAction) -> signing.Action | None:
    terms = {
        JobAction.OPEN_ANY: scene.suite.open_terms(),
        JobAction.OPEN_DIRECTED: scene.suite.directed_terms(scene.worker),
        JobAction.OPEN_AT_ONCE: scene.suite.directed_terms(scene.worker, window=0),
    }
    if action in terms:
        return signing.open_job(ID, terms[action].to_cell())
    if action is JobAction.ACCEPT_SIGNED:
        digest = signing.result_digest(scene.client.domain(), scene.worker.address, ID, RESULT, AMOUNT)
        claimed = scene.state is JobState.CLAIMED
        key = scene.worker.key.verify_key.to_int() if claimed else None
        return signing.accept_signed(ID, AMOUNT, RESULT, scene.worker.key.sign(digest), key)
    simple = {
        JobAction.ACCEPT: signing.accept_result,
        JobAction.DISPUTE: signing.dispute_result,
        JobAction.CANCEL: signing.cancel_job,
        JobAction.RECLAIM: signing.reclaim_late,
    }
    return simple[action](ID) if action in simple else None


def workers_message(scene: Scene, action: JobAction, worker: Worker) -> m.Claim | m.Submit | m.SubmitClaimed:
    job = scene.job
    params = scene.suite.params_cell if job is None else job.params
    collateral = Nano.ton(4) if job is None else Nano(job.collateral)
    binding = signing.binding_hash(params, scene.terms.to_cell())
    if action in (JobAction.CLAIM, JobAction.CLAIM_FOREIGN):
        key_tag = signing.key_tag(worker.key.verify_key.to_int())
        return m.Claim(id=ID, binding=binding, key_tag=key_tag)
    if action is JobAction.SUBMIT_CLAIMED:
        return m.SubmitClaimed(
            id=ID,
            amount=AMOUNT,
            collateral=collateral,
            lock=_LOCK,
            result_hash=as_int(RESULT),
            previous_code=False,
            stake=worker.shown,
        )
    return m.Submit(
        id=ID,
        lock=0 if job is not None and job.window == 0 else _LOCK,
        amount=AMOUNT,
        collateral=collateral,
        result_hash=as_int(RESULT),
        binding=binding,
    )


def resolve(scene: Scene, action: JobAction) -> DecodedTransaction:
    job = scene.job
    pay = int(AMOUNT) if action is JobAction.RESOLVE_PAY else 0
    slash = 0 if job is None or action is not JobAction.RESOLVE_SLASH else job.collateral
    if job is not None:
        body = scene.suite.verdict(scene.client, scene.worker, ID, pay, slash).to_cell()
    else:
        nothing = begin_cell().end_cell()
        body = m.Resolve(id=ID, verdict=nothing, signatures=nothing).to_cell()
    return anyone(scene, body)


def anyone(scene: Scene, body: Cell) -> DecodedTransaction:
    done = scene.suite.governor.send(scene.client.address, Nano.ton(1), body)
    return decode_transaction(done[1].record())


def perform(scene: Scene, action: JobAction) -> DecodedTransaction:
    """Do it; return the escrow's transaction. Raises `ExternalRejectedError` for what is refused."""
    wanted = external_action(scene, action)
    client, chain = scene.client, scene.suite.chain
    if wanted is not None:
        spend = Nano.ton(3) if action.name.startswith("OPEN") else Nano(0)
        return decode_transaction(client.act(wanted, max_spend=spend)[0].record())
    if action.actor in (Actor.WORKER, Actor.STRANGER):
        worker = scene.worker if action.actor is Actor.WORKER else scene.stranger
        body = workers_message(scene, action, worker).to_cell()
        done = chain.send_internal(client.address, Nano.ton("0.1"), body, src=worker.address)
        return decode_transaction(done[0].record())
    match action:
        case JobAction.OWNER_CANCEL:
            done = client.from_owner(m.CancelJob(query_id=0, id=ID))
            return decode_transaction(done[1].record())
        case JobAction.ANYONE_RECLAIM:
            return anyone(scene, m.ReclaimLate(id=ID).to_cell())
        case JobAction.FINALIZE:
            return anyone(scene, m.Finalize(id=ID).to_cell())
    return resolve(scene, action)


# -- judging -------------------------------------------------------------------------------------------


def sent(transaction: DecodedTransaction) -> tuple[str, ...]:
    named = (message.content for message in transaction.out_messages)
    return tuple(type(content).__name__ for content in named if content is not None)


def check_refused(scene: Scene, action: JobAction, expected: Refusal) -> None:
    before = scene.job
    if expected.answer is Answer.REFUSED:
        with pytest.raises(ExternalRejectedError) as refused:
            perform(scene, action)
        assert refused.value.exit_code == expected.code
        wanted = external_action(scene, action)
        assert wanted is not None
        both = scene.client.act(wanted, signing.cancel_job(999), max_spend=Nano.ton(3))
        transaction = decode_transaction(both[0].record())
        assert transaction.skip_code(1) == expected.code
    else:
        transaction = perform(scene, action)
        thrown = expected.answer is Answer.THROWN
        assert transaction.success is not thrown
        assert transaction.exit_code == (expected.code if thrown else 0)
        answers = [message.content for message in transaction.out_messages if message.content is not None]
        assert answers == ([gone(scene, action)] if expected.answer is Answer.GONE else [])
    assert scene.job == before


def gone(scene: Scene, action: JobAction) -> m.Gone:
    """What answers a submission: it frees what the very message locked."""
    message = workers_message(scene, action, scene.worker)
    assert isinstance(message, m.Submit | m.SubmitClaimed)
    return m.Gone(id=ID, collateral=message.collateral, lock=message.lock)


def check_works(scene: Scene, action: JobAction, to: JobState, sends: tuple[str, ...]) -> None:
    transaction = perform(scene, action)
    assert transaction.success
    assert sent(transaction) == sends
    assert scene.state is to
    assert (scene.job is None) is to.has_ended
    view = scene.client.get_state()
    assert view.jobs == (0 if to.has_ended else 1)
    if to.has_ended:
        assert view.reserved == 0


@pytest.mark.parametrize("timing", Timing)
@pytest.mark.parametrize("state", JobState)
def test_every_action_does_what_the_table_says(suite: Suite, state: JobState, timing: Timing) -> None:
    with suite.chain.isolated():
        scene = scene_in(suite, state)
        move_to(scene, timing)
        for action in JobAction:
            step, refused = transition(state, action, timing), refusal(state, action, timing)
            with suite.chain.isolated():
                if step is not None:
                    check_works(scene, action, step.to, step.sends)
                else:
                    assert refused is not None
                    check_refused(scene, action, refused)


def test_every_action_is_either_listed_or_refused() -> None:
    for state in JobState:
        for timing in Timing:
            for action in JobAction:
                listed = transition(state, action, timing) is not None
                assert listed is (refusal(state, action, timing) is None)


def test_no_transition_is_listed_twice_and_every_state_can_be_reached_and_left() -> None:
    steps = [(entry.state, entry.action, timing) for entry in TRANSITIONS for timing in entry.timing]
    assert len(set(steps)) == len(steps)
    assert {entry.to for entry in TRANSITIONS} == set(JobState) - {JobState.NONE}
    assert {entry.state for entry in TRANSITIONS} == {state for state in JobState if not state.has_ended}


def test_no_state_waits_for_one_party_only_for_ever() -> None:
    for state in JobState:
        if not state.has_ended and state is not JobState.NONE:
            actors = {
                entry.action.actor
                for entry in TRANSITIONS
                if entry.state is state and Timing.LATE in entry.timing
            }
            assert actors & {Actor.CLIENT, Actor.ANYONE}


def test_table_can_be_printed_as_markdown() -> None:
    text = markdown()
    for state in JobState:
        assert f"| {state} |" in text
    widths = {line.count("|") for line in text.splitlines() if line}
    assert widths == {8, 5, 0}


def test_table_can_fail_when_it_is_wrong(suite: Suite) -> None:
    with suite.chain.isolated():
        scene = scene_in(suite, JobState.OPEN)
        right = refusal(JobState.OPEN, JobAction.ACCEPT, Timing.IN_TIME)
        assert right is not None
        with pytest.raises((AssertionError, ExternalRejectedError)):
            check_refused(scene, JobAction.ACCEPT, replace(right, answer=Answer.THROWN))
        with pytest.raises(AssertionError):
            check_works(scene, JobAction.CANCEL, JobState.PAID, ())
