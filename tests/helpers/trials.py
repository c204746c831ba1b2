"""A dispute that arbiters look at, and what everybody holds before and after it."""

from __future__ import annotations

from dataclasses import dataclass

from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.types import Nano
from tests.helpers.arbiters import (
    Court,
    Purse,
    Submission,
    paid_arbiters,
    purse,
    submit,
)
from tests.helpers.sdk import MODEL_NAME, ScriptedWorker, Town, chat

EVIDENCE_S = 12 * 3600
ARBITRATION_S = 48 * 3600
ARBITER_FEE = int(Nano.ton("0.15"))
COMPENSATION = int(Nano.ton("0.015"))


async def submitted(
    town: Town, court: Court, worker: ScriptedWorker, *, with_arbiters: bool = True, **wrong: object
) -> tuple[AsyncCocoon, AsyncJob, Submission]:
    """Open a job and submit for it."""
    client = await town.client(arbiters=court.urls if with_arbiters else None)
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    return client, job, await submit(worker, client, job.id, **wrong)  # type: ignore[arg-type]


def warp(town: Town, seconds: int) -> None:
    town.chain.warp(seconds)


@dataclass
class Trial:
    """A dispute that the arbiters looked at, and what everybody held before and after."""

    client: AsyncCocoon
    job: AsyncJob
    submission: Submission
    before: Purse
    after: Purse


async def tried(town: Town, court: Court, worker: ScriptedWorker, **wrong: object) -> Trial:
    """Dispute with the client's evidence, and let the arbiters work."""
    client, job, submission = await submitted(town, court, worker, **wrong)  # type: ignore[arg-type]
    await job.dispute()
    before = purse(town, client, worker)
    await court.rounds()
    return Trial(client, job, submission, before, purse(town, client, worker))


def check_money(town: Town, before: Purse, after: Purse, *, paid: int, slashed: int) -> None:
    """Hold every account that a verdict touches against its numbers, to the nanoTON."""
    fee = -(-paid * 100 // 10_000)
    assert (after.stake, after.locked) == (before.stake - slashed, 0)
    assert (after.earned - before.earned, after.fee_due - before.fee_due) == (paid - fee, fee)
    assert after.burned - before.burned == max(0, slashed - ARBITER_FEE - COMPENSATION)
    assert after.reserved == 0
    # k of them are paid equally, out of the bond; the forward fee comes out of each share.
    assert len(paid_arbiters(town, before, after, share=ARBITER_FEE // 3)) == 3
