"""Bounds of disputes of sessions: the longest lives, the fullest tables, the least spending."""

from __future__ import annotations

import pytest

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import SessionState, settles_at, state_of, turns_at
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import COLLATERAL
from tests.contracts.session_disputes.steps import ANNOUNCEMENT, BOND, DEPOSIT, FEE, PAID, resolve, session_of
from tests.contracts.test_closed_holes_audit import deepen
from tests.contracts.test_full_tables import fill
from tests.helpers.audit import World, denied, gas_fee, locks, skipped
from tests.helpers.suite import Client, Worker, hash_of


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
