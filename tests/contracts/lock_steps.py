"""Steps that tests of locks share: locks by number and slot, and actions alone or in a batch.

Owns no assertions but those that make a step what it says.
"""

from __future__ import annotations

import dataclasses

from pytoniq_core import begin_cell

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Actor, Transaction
from cocoon_sdk.types import Nano
from tests.helpers.audit import World, denied, locks, numbered, skips
from tests.helpers.suite import GAS, Client, Worker

COLLATERAL = Nano.ton(4)
SMALL = Nano.ton("0.001")
LIFE = c.HARD_MAX_JOB_LIFE + c.DELIVERY_GRACE


def status(client: Client, number: int) -> int:
    job = client.job(number)
    assert job is not None
    return int(job.status)


def in_lock(worker: Worker, client: Client, number: int, lock: int) -> signing.JobTarget:
    """Name a job, and a lock for it: its number, or a slot for a new one."""
    return dataclasses.replace(worker.target(client, number), lock=lock)


def sums(worker: Worker) -> dict[int, int]:
    return {number: int(lock.collateral) for number, lock in locks(worker).items()}


HOW = ("alone", "in a batch")
"""What an operator does alone is spelled out in the contract; a batch has words of its own."""
IDLE = signing.Action(
    begin_cell().store_uint(c.ACTION_SUBMIT_MORE, 8).store_uint(1, 32).store_uint(0, 112).end_cell(),
    (m.SubmitMore(lock=0, job_hash=0, result_hash=0).to_cell(),),
)
"""The other action of a batch: skipped, since there is no lock 0."""


def act(worker: Worker, how: str, action: signing.Action) -> list[Transaction]:
    if how == "alone":
        return worker.act(action)
    done = worker.act(action, IDLE, max_spend=worker.get_state().gas // 2)
    assert skips(done, worker.address) == [(2, ExitCode.NO_LOCK)]
    return done


def cannot(worker: Worker, how: str, action: signing.Action, code: ExitCode) -> None:
    if how == "alone":
        denied(worker, lambda: worker.act(action), code)
        return
    before = locks(worker), worker.get_state().lock_count
    done = worker.act(action, IDLE, max_spend=worker.get_state().gas // 2)
    assert skips(done, worker.address) == [(1, code), (2, ExitCode.NO_LOCK)]
    assert (locks(worker), worker.get_state().lock_count) == before


FIRST, SECOND, THIRD = numbered(1), numbered(2), numbered(3)
"""Numbers of the first locks, each in the slot of its place."""


def release_expired(world: World, worker: Worker, stranger: Actor, lock: int) -> None:
    world.chain.set_now(locks(worker)[lock].end + 1)
    stranger.send(worker.address, GAS, m.ReleaseExpired(lock=lock).to_cell())
    assert lock not in locks(worker)
