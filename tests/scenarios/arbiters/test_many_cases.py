"""Many disputes at once before one arbiter: what waits for its turn waits on disk."""

from __future__ import annotations

import asyncio
import gc

from cocoon_sdk.arbiter.evidence import Case, on_chain_of
from cocoon_sdk.arbiter.judging import Judgement
from cocoon_sdk.arbiter.receipts import SessionCase
from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.history import payload_of
from cocoon_sdk.protocol.disputes import Ground
from tests.helpers.arbiters import Court, dispute_of, submit
from tests.helpers.memory import kept_by
from tests.helpers.sdk import MODEL_NAME, ScriptedWorker, Town, chat

DISPUTES = 4


class BusyJudge:
    """A double: begins with a case and ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()

    async def judge(self, case: Case) -> Judgement:
        self.begun.set()
        await self.goes_on.wait()
        return Judgement(Ground.SLASH)

    async def judge_session(self, case: SessionCase) -> Judgement:
        raise AssertionError("no session is disputed")

    async def close(self) -> None:
        pass


async def disputed(town: Town, court: Court, worker: ScriptedWorker, name: str) -> tuple[AsyncCocoon, int]:
    client = await town.client(name, arbiters=court.urls)
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    await submit(worker, client, job.id)
    await job.dispute()
    return client, job.id


async def test_cases_that_wait_for_the_judge_hold_no_evidence(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    judge = BusyJudge()
    service = await court.start(0, real=judge, max_judging=1)
    opened = [await disputed(town, court, worker, f"client {number}") for number in range(DISPUTES)]
    for _ in range(3):
        await service.step()
    await judge.begun.wait()
    assert len(service._judgements.tasks) == DISPUTES
    await asyncio.sleep(0)  # the loop itself holds what woke us
    gc.collect()
    # By type: isinstance would ask objects of other libraries what they are, and some warn then.
    assert sum(type(each) is Case for each in gc.get_objects()) == 1
    judge.goes_on.set()
    await court.rounds()
    for client, number in opened:
        own = await court.hearing(0, await dispute_of(client, number)).own()
        assert own is not None
        assert own.vote.ground is Ground.SLASH


async def test_followed_disputes_keep_no_payload_in_memory(
    town: Town, court: Court, worker: ScriptedWorker
) -> None:
    await court.start(0, says=None)
    client, number = await disputed(town, court, worker, "client")
    await court.rounds()
    opened = await payload_of(town.adapter, client.escrow.address, number)
    payload = on_chain_of(opened.data, None).payload
    assert payload is not None
    hearing = court.hearing(0, await dispute_of(client, number))
    assert not any(
        each == payload for each in kept_by(hearing, but=frozenset({"_store"})) if type(each) is bytes
    )
