"""Sessions in dispute: no worker escapes by closing, nobody blocks what was signed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import SessionState, close_delay_of, settles_at, state_of
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import COLLATERAL, FIRST, sums
from tests.contracts.session_disputes.steps import DEPOSIT, earned, ended, resolve, session_of
from tests.contracts.test_session_money import redemption
from tests.helpers.audit import World, denied, refused, sent
from tests.helpers.suite import GAS, Client, Worker


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
