"""The state table of `cocoon_sdk.protocol.session_states` against the compiled contracts, cell by cell.

For every state, at both ends of each of its times, every action is tried: those listed must lead where the
table says and send what it says, all others must be refused exactly as it says and change nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytoniq_core import begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.job_states import Answer, Refusal
from cocoon_sdk.protocol.opcodes import OP_NAMES
from cocoon_sdk.protocol.session_states import (
    TRANSITIONS,
    SessionAction,
    SessionActor,
    SessionState,
    SessionTiming,
    SessionTransition,
    can_time,
    close_delay_of,
    markdown,
    refusal,
    settles_at,
    state_of,
    timing_of,
    transition,
    turns_at,
)
from cocoon_sdk.sandbox import Blockchain, Transaction
from cocoon_sdk.types import Nano
from tests.helpers.suite import GAS, Client, Suite, Worker, as_int, hash_of

ID = 1
DEPOSIT = Nano.ton(1)
PAID = Nano.ton("0.2")
MORE = Nano.ton("0.5")
SLASH = Nano.ton(1)
EVIDENCE = hash_of("receipts")
_LOCK = 77


@dataclass
class Scene:
    """One session in one state, and who may do something to it."""

    suite: Suite
    client: Client
    worker: Worker
    stranger: Worker

    @property
    def session(self) -> m.Session | None:
        return self.client.session(ID)


@pytest.fixture(scope="module")
def suite() -> Suite:
    return Suite(Blockchain())


def scene_in(suite: Suite, state: SessionState) -> Scene:
    """Lead a session into a state by the shortest way; what is redeemed before is `PAID`."""
    scene = Scene(suite, suite.client("client"), suite.worker("worker"), suite.worker("stranger"))
    client, worker = scene.client, scene.worker
    if state is SessionState.NONE:
        return scene
    client.open_session(worker, DEPOSIT)
    worker.redeem(client, ID, PAID)
    if state.is_guarded:
        worker.accept_session(client, ID)
    if state in (SessionState.CLOSING, SessionState.CLOSING_GUARDED, SessionState.SETTLED):
        client.act(signing.close_session(ID))
    if state is SessionState.SETTLED:
        session = scene.session
        assert session is not None
        suite.chain.set_now(settles_at(session))
        client.act(signing.settle_session(ID))
    if state is SessionState.DISPUTED:
        client.dispute_session(ID)
    if state is SessionState.CLOSED:
        worker.redeem(client, ID, MORE, close=True)
    assert scene.session is None if state.has_ended else state_of(found(scene)) is state
    return scene


def found(scene: Scene) -> m.Session:
    session = scene.session
    assert session is not None
    return session


def moments(scene: Scene, state: SessionState, timing: SessionTiming) -> list[int]:
    """Return the first and the last second of a time; the only one there is where nothing ends."""
    now = scene.suite.chain.now
    session = scene.session
    if session is None:
        return [now]
    over = settles_at(session)
    borders = {SessionTiming.IN_TIME: (now, over - 1), SessionTiming.OVER: (over, over + 10**6)}
    if can_time(state, SessionTiming.EXPIRED):
        turns = turns_at(session)
        borders[SessionTiming.IN_TIME] = (now, turns - 1)
        borders[SessionTiming.EXPIRED] = (turns, over - 1)
        assert over - turns == close_delay_of(session)
        assert (turns == session.deadline) is state.is_open
    else:
        assert over == session.deadline
    for when in borders[timing]:
        assert timing_of(session, when) is timing
    return list(borders[timing])


# -- doing ---------------------------------------------------------------------------------------------


def external_action(scene: Scene, action: SessionAction) -> signing.Action | None:
    suite = scene.suite
    expiry = suite.chain.now + 3600
    key = scene.client.voucher_key.verify_key
    wanted = {
        SessionAction.OPEN: signing.open_session(ID, scene.worker.address, key, DEPOSIT, expiry),
        SessionAction.TOP_UP: signing.top_up_session(ID, PAID),
        SessionAction.CLOSE: signing.close_session(ID),
        SessionAction.SETTLE: signing.settle_session(ID),
        SessionAction.DISPUTE: signing.dispute_session(ID, EVIDENCE, suite.model_id),
    }
    return wanted.get(action)


def redemption(scene: Scene, amount: int, close: bool) -> m.Redeem:
    signature = scene.client.voucher(scene.worker, ID, amount)
    return m.Redeem(
        id=ID, amount=amount, close=close, signature=begin_cell().store_bytes(signature).end_cell()
    )


def acceptance(scene: Scene) -> m.AcceptSession:
    session = scene.session
    if session is None:
        return m.AcceptSession(id=ID, collateral=1, lock=_LOCK, binding=0)
    target = scene.worker.session_target(scene.client, ID)
    binding = int.from_bytes(session.params.hash[16:], "big") ^ target.session_hash
    return m.AcceptSession(id=ID, collateral=int(target.collateral), lock=_LOCK, binding=binding)


def verdict(scene: Scene, slash: int) -> m.Resolve:
    session = scene.session
    if session is None:
        nothing = m.Verdict(id=ID, disputed_at=0, result_hash=0, pay=0, slash=slash)
        return scene.suite.signed_verdict(scene.client, scene.worker, nothing)
    return scene.suite.session_verdict(scene.client, scene.worker, ID, slash)


def perform(scene: Scene, action: SessionAction) -> Transaction:
    """Do it; return the escrow's transaction. Raises `ExternalRejectedError` for what is refused."""
    wanted = external_action(scene, action)
    if wanted is not None:
        return scene.client.act(wanted)[0]
    redemptions = {
        SessionAction.REDEEM: (MORE, False),
        SessionAction.REDEEM_NOTHING: (PAID, False),
        SessionAction.REDEEM_CLOSE: (MORE, True),
        SessionAction.REDEEM_CLOSE_NOTHING: (PAID, True),
        SessionAction.FOREIGN_CLOSE: (MORE, True),
        SessionAction.FOREIGN_CLOSE_NOTHING: (PAID, True),
    }
    body: m.Redeem | m.AcceptSession | m.SettleSession | m.CloseSession | m.DisputeSession | m.Resolve
    if action in redemptions:
        body = redemption(scene, *redemptions[action])
    elif action in (SessionAction.ACCEPT, SessionAction.ACCEPT_FOREIGN):
        body = acceptance(scene)
    elif action is SessionAction.ANYONE_SETTLE:
        body = m.SettleSession(id=ID)
    elif action in (SessionAction.RESOLVE, SessionAction.RESOLVE_SLASH):
        body = verdict(scene, SLASH if action is SessionAction.RESOLVE_SLASH else 0)
    elif action is SessionAction.OWNER_DISPUTE:
        model, evidence = as_int(scene.suite.model_id), as_int(EVIDENCE)
        body = m.DisputeSession(query_id=0, id=ID, evidence_hash=evidence, model_id=model)
    else:
        body = m.CloseSession(query_id=0, id=ID)
    sources = {
        SessionActor.WORKER: scene.worker.address,
        SessionActor.STRANGER: scene.stranger.address,
        SessionActor.OWNER: scene.client.owner.address,
        SessionActor.ANYONE: scene.suite.governor.address,
    }
    source = sources[action.actor]
    return scene.suite.chain.send_internal(scene.client.address, GAS, body.to_cell(), src=source)[0]


# -- judging -------------------------------------------------------------------------------------------


def sent(transaction: Transaction) -> tuple[str, ...]:
    internal = [message for message in transaction.out_msgs if message.is_internal]
    # What has no operation is an arbiter's fee.
    return tuple(OP_NAMES[message.op] for message in internal if message.op is not None)


def check_refused(scene: Scene, action: SessionAction, expected: Refusal) -> None:
    before = scene.session, scene.client.get_state().reserved
    if expected.answer is Answer.REFUSED:
        with pytest.raises(ExternalRejectedError) as refused:
            perform(scene, action)
        assert refused.value.exit_code == expected.code
        wanted = external_action(scene, action)
        assert wanted is not None
        both = scene.client.act(wanted, signing.cancel_job(999), max_spend=Nano.ton(3))
        body = both[0].out_msgs[0].body.begin_parse()
        assert (body.load_uint(8), body.load_uint(16)) == (1, expected.code)
    else:
        transaction = perform(scene, action)
        if expected.answer is Answer.THROWN:
            assert transaction.exit_code == expected.code
        else:
            assert sent(transaction) == ("Gone",)
            asked = acceptance(scene)
            gone = m.Gone.from_cell(transaction.out_msgs[0].body)
            assert gone == m.Gone(id=ID, collateral=asked.collateral, lock=_LOCK)
    assert (scene.session, scene.client.get_state().reserved) == before


def check_works(scene: Scene, step: SessionTransition) -> None:
    transaction = perform(scene, step.action)
    assert transaction.success
    assert sent(transaction) == step.sends
    view = scene.client.get_state()
    assert view.jobs == (0 if step.to.has_ended else 1)
    if step.to.has_ended:
        assert scene.session is None
        assert view.reserved == 0
    else:
        assert state_of(found(scene)) is step.to


@pytest.mark.parametrize("timing", SessionTiming)
@pytest.mark.parametrize("state", SessionState)
def test_every_action_does_what_the_table_says(
    suite: Suite, state: SessionState, timing: SessionTiming
) -> None:
    if not can_time(state, timing):
        return
    with suite.chain.isolated():
        scene = scene_in(suite, state)
        for moment in moments(scene, state, timing):
            suite.chain.set_now(moment)
            for action in SessionAction:
                step, refused = transition(state, action, timing), refusal(state, action, timing)
                with suite.chain.isolated():
                    if step is not None:
                        check_works(scene, step)
                    else:
                        assert refused is not None
                        check_refused(scene, action, refused)


def test_every_action_is_either_listed_or_refused() -> None:
    for state in SessionState:
        for timing in SessionTiming:
            for action in SessionAction:
                listed = transition(state, action, timing) is not None
                assert listed is (refusal(state, action, timing) is None)


def test_no_transition_is_listed_twice_and_every_state_can_be_reached_and_left() -> None:
    steps = [(entry.state, entry.action, timing) for entry in TRANSITIONS for timing in entry.timing]
    assert len(set(steps)) == len(steps)
    assert {entry.to for entry in TRANSITIONS} == set(SessionState) - {SessionState.NONE}
    assert {entry.state for entry in TRANSITIONS} == {state for state in SessionState if not state.has_ended}


def test_no_state_waits_for_one_party_only_for_ever() -> None:
    for state in SessionState:
        if not state.has_ended and state is not SessionState.NONE:
            late = [
                entry for entry in TRANSITIONS if entry.state is state and SessionTiming.OVER in entry.timing
            ]
            ends = {entry.action.actor for entry in late if entry.to.has_ended}
            assert {SessionActor.CLIENT, SessionActor.WORKER, SessionActor.ANYONE} <= ends


def test_table_can_be_printed_as_markdown() -> None:
    text = markdown()
    for state in SessionState:
        assert f"| {state} |" in text
    assert {line.count("|") for line in text.splitlines() if line} == {8, 5, 0}


def test_table_in_the_docs_is_the_one_that_was_walked() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- session-table:begin -->\n(.*?)<!-- session-table:end -->", text, re.S)
    assert found
    assert found[1].strip() == markdown().strip()


def test_table_can_fail_when_it_is_wrong(suite: Suite) -> None:
    with suite.chain.isolated():
        scene = scene_in(suite, SessionState.OPEN)
        right = refusal(SessionState.OPEN, SessionAction.SETTLE, SessionTiming.IN_TIME)
        assert right is not None
        with pytest.raises(ExternalRejectedError):
            check_refused(scene, SessionAction.SETTLE, Refusal(Answer.THROWN, right.code))
        step = transition(SessionState.OPEN, SessionAction.CLOSE, SessionTiming.IN_TIME)
        assert step is not None
        wrong = SessionTransition(step.state, step.action, step.timing, SessionState.OPEN, step.sends, "")
        with pytest.raises(AssertionError):
            check_works(scene, wrong)
