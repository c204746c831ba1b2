"""When things around a worker break: the engine, the endpoint, the disk, or its own punctuality."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.errors import ChainError, EngineInterruptedError, EngineUnavailableError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.claims import claim_bond
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from cocoon_worker.engine.base import EngineRequestError
from cocoon_worker.errors import JournalFullError
from cocoon_worker.service import CHAIN_ALARM, JOURNAL_ALARM
from cocoon_worker.settlement import LOW_GAS
from cocoon_worker.states import JobState
from tests.helpers.suite import Client, hash_of
from tests.helpers.worker_faults import BreakingEngine, FlakyChain, LaggingChain
from tests.helpers.worker_rig import Rig, record, state

MINIMUM = Nano.ton("0.01")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def alice(rig: Rig) -> Client:
    return rig.suite.client("alice")


def random_text(length: int) -> str:
    """Return text that does not compress."""
    return random.Random(1).randbytes(length // 2).hex()


# -- engine ------------------------------------------------------------------------------------------------


async def test_worker_can_finish_when_the_engine_died_twice_in_mid_answer(rig: Rig, alice: Client) -> None:
    died = EngineInterruptedError("died"), EngineInterruptedError("died")
    engine = BreakingEngine(*died, clock=rig.clock)
    async with rig.service("bob", engine=engine) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED
        assert engine.runs == 3


async def test_worker_can_wait_for_an_engine_that_restarts(rig: Rig, alice: Client) -> None:
    away = [EngineUnavailableError("away") for _ in range(10)]
    async with rig.service("bob", engine=BreakingEngine(*away, clock=rig.clock)) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED


@pytest.mark.parametrize(
    "error", [EngineInterruptedError("dead"), EngineRequestError("too long"), EngineUnavailableError("away")]
)
async def test_worker_can_give_up_without_loss_when_nothing_was_locked(
    rig: Rig, alice: Client, error: Exception
) -> None:
    engine = BreakingEngine(*[error] * 1000, clock=rig.clock)
    async with rig.service("bob", engine=engine) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob", claim_period=300)
        await service.settle()
        assert state(service, job) is JobState.FAILED
        assert str(error) in record(service, job).reason
        assert rig.account("bob").locks() == {}
        rig.warp(400)
        alice.act(signing.cancel_job(job.id))
        assert alice.get_state().reserved == 0


async def test_worker_that_fails_after_a_claim_can_account_for_its_bond_to_the_end(
    rig: Rig, alice: Client
) -> None:
    engine = BreakingEngine(*[EngineInterruptedError("dead")] * 100, clock=rig.clock)
    async with rig.service("bob", engine=engine) as service:
        await service.settle()
        job = rig.open_job(alice, service, None)
        await service.settle()
        assert state(service, job) is JobState.ABANDONED
        assert service.journal.locked_jobs() == []
        entry, stake = alice.job(job.id), rig.account("bob").get_state()
        assert entry is not None
        rig.warp(3700)
        await service.settle()
        assert state(service, job) is JobState.ABANDONED
        alice.act(signing.reclaim_late(job.id))
        await service.settle()
        assert state(service, job) is JobState.SLASHED
        assert record(service, job).slashed == claim_bond(entry.price, entry.params) > 0
        assert service.journal.totals()[2] == record(service, job).slashed
        assert rig.account("bob").get_state().stake == stake.stake
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_cannot_take_work_while_its_engine_is_down(rig: Rig, alice: Client) -> None:
    engine = BreakingEngine(clock=rig.clock)
    engine.ready = False
    async with rig.service("bob", engine=engine) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        assert record(service, job).reason.startswith("engine-not-ready")
        engine.ready = True
        rig.warp(2)
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED


# -- too late ------------------------------------------------------------------------------------------------


async def run_until_hanging(service: Any) -> None:
    for _ in range(6):
        await service.step()
        await asyncio.sleep(0)


async def test_late_worker_on_a_claim_cannot_submit_and_pays_the_late_penalty_only(
    rig: Rig, alice: Client
) -> None:
    engine = BreakingEngine(clock=rig.clock)
    engine.hang = asyncio.Event()
    async with rig.service("bob", engine=engine) as service:
        await service.settle()
        job = rig.open_job(alice, service, None, work_period=600)
        await run_until_hanging(service)
        assert state(service, job) is JobState.RUNNING
        rig.warp(700)
        engine.hang.set()
        await service.settle()
        assert state(service, job) is JobState.ABANDONED
        alice.act(signing.reclaim_late(job.id))
        await service.settle()
        assert state(service, job) is JobState.SLASHED
        rules = m.ParamsRules.from_cell(m.Params.from_cell(rig.suite.params_cell).rules)
        price = rig.terms(service, job.packed, worker=None).max_price
        assert record(service, job).slashed == -(-price * rules.late_penalty_bps // 10_000)
        assert [type(x.content) for x in await rig.work_messages("bob")] == [m.Claim]


async def test_late_worker_without_claim_cannot_be_hurt(rig: Rig, alice: Client) -> None:
    engine = BreakingEngine(clock=rig.clock)
    engine.hang = asyncio.Event()
    async with rig.service("bob", engine=engine) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob", claim_period=600)
        await run_until_hanging(service)
        rig.warp(700)
        alice.act(signing.cancel_job(job.id))
        await service.step()
        assert state(service, job) is JobState.LOST
        engine.hang.set()
        await service.settle()
        assert state(service, job) is JobState.LOST
        assert service.journal.result(job.key) is None
        assert await rig.work_messages("bob") == []


async def test_submission_that_arrives_late_cannot_leave_a_lock(rig: Rig, alice: Client) -> None:
    async with rig.service("bob") as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob", claim_period=600)
        rig.blockchain.hold()
        await service.settle()
        assert state(service, job) is JobState.SUBMITTING
        rig.warp(700)  # the message was under way all that time
        rig.blockchain.release()
        await service.settle()
        assert state(service, job) is JobState.LOST
        assert rig.account("bob").locks() == {}
        assert service.journal.locked_jobs() == []


# -- disputes --------------------------------------------------------------------------------


async def submitted_job(rig: Rig, alice: Client, service: Any) -> Any:
    await service.settle()
    job = rig.open_job(alice, service, "bob")
    await service.settle()
    assert state(service, job) is JobState.SUBMITTED
    alice.act(signing.dispute_result(job.id))
    await service.settle()
    assert state(service, job) is JobState.DISPUTED
    return job


async def test_worker_can_be_paid_when_the_arbiters_stay_silent(rig: Rig, alice: Client) -> None:
    async with rig.service("bob") as service:
        job = await submitted_job(rig, alice, service)
        assert service.journal.payload(job.key) is not None  # evidence is kept while it may be asked for
        parameters = rig.suite.parameters
        rig.warp(parameters.evidence_deadline_s + parameters.arbitration_timeout_s - 1)
        await service.settle()
        assert state(service, job) is JobState.DISPUTED
        rig.warp(1)
        await service.settle()
        assert state(service, job) is JobState.PAID


@pytest.mark.parametrize(
    ("pay", "slash", "end"),
    [
        (MINIMUM, 0, JobState.PAID),
        (0, 0, JobState.RELEASED),
        (0, 10**9, JobState.SLASHED),
        (10**6, 10**9, JobState.SLASHED),
    ],
)
async def test_worker_can_note_every_verdict(
    rig: Rig, alice: Client, pay: int, slash: int, end: JobState
) -> None:
    async with rig.service("bob") as service:
        job = await submitted_job(rig, alice, service)
        verdict = rig.suite.verdict(alice, rig.account("bob"), job.id, pay, slash)
        rig.suite.governor.send(alice.address, Nano.ton("0.2"), verdict.to_cell())
        await service.settle()
        found = record(service, job)
        assert (found.state, found.paid, found.slashed) == (end, pay, slash)
        assert service.journal.locked_jobs() == []
        assert rig.account("bob").locks() == {}


# -- endpoint --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_worker_can_serve_exactly_once_over_an_endpoint_that_keeps_failing(
    rig: Rig, alice: Client, seed: int
) -> None:
    chain = FlakyChain(rig.chain, seed, rate=0.0)
    async with rig.service("bob", chain=chain) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        chain.rate = 0.12
        for _ in range(150):
            try:
                await service.settle(rounds=3)
            except ChainError as error:
                service._note_failure(error)
            rig.warp(5)
        assert chain.failed > 20
        chain.rate = 0.0
        rig.warp(3700)
        await service.settle()
        rig.warp(60)
        await service.settle()
        assert state(service, job) is JobState.PAID
        assert CHAIN_ALARM not in service.context.alarms
        assert sum(isinstance(x.content, m.Submit) for x in await rig.work_messages("bob")) == 1


async def test_worker_cannot_be_fooled_into_repeating_by_an_endpoint_that_lags(
    rig: Rig, alice: Client
) -> None:
    chain = LaggingChain(rig.blockchain)
    async with rig.service("bob", chain=chain) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        for _ in range(3):
            await service.step()
            await asyncio.sleep(0)
        chain.freeze()
        for _ in range(30):
            await service.settle(rounds=4)
            rig.warp(20)
        assert state(service, job) in (JobState.READY, JobState.SUBMITTING)
        chain.thaw()
        for _ in range(4):
            await service.settle()
            rig.warp(60)
        assert state(service, job) is JobState.SUBMITTED
        assert len(await rig.work_messages("bob")) == 1


# -- disk and gas --------------------------------------------------------------------------------


async def test_worker_cannot_send_anything_when_the_disk_is_full_and_goes_on_afterwards(
    rig: Rig, alice: Client
) -> None:
    async def try_to_settle() -> None:
        for _ in range(8):
            await service.settle(rounds=4)

    async with rig.service("bob") as service:
        await service.settle()
        seqno = rig.account("bob").get_state().seqno
        service.journal.database.limit_pages(1)  # not a page more than there is
        request = {"messages": [{"role": "user", "content": random_text(3000)}], "max_tokens": 90}
        jobs = [
            rig.open_job(alice, service, "bob", packed=rig.pack(service, request=request)) for _ in range(12)
        ]
        with pytest.raises(JournalFullError, match="nothing was sent"):
            await try_to_settle()
        # Whatever left the worker before that stands in the journal.
        assert rig.account("bob").get_state().seqno == seqno
        assert await rig.work_messages("bob") == []

        service.journal.database.limit_pages(1 << 20)
        await try_to_settle()
        assert {state(service, job) for job in jobs} == {JobState.SUBMITTED}
        assert len(await rig.work_messages("bob")) == len(jobs)
        assert JOURNAL_ALARM not in service.context.alarms


async def test_worker_with_too_little_gas_can_only_wait_and_raises_an_alarm(rig: Rig, alice: Client) -> None:
    rig.account("bob", gas=Nano.ton("0.4"))
    async with rig.service("bob", endpoint=True, policy={"min_gas": "0.01", "handover_s": 60}) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        assert state(service, job) is JobState.READY
        account = rig.account("bob")
        spare = account.get_state().gas - Nano.ton("0.01")
        account.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(spare)))
        rig.warp(61)
        await service.settle()
        assert state(service, job) is JobState.READY
        assert LOW_GAS in service.context.alarms
        account.owner.send(account.address, Nano.ton(1))
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED
        assert LOW_GAS not in service.context.alarms


async def test_worker_can_serve_under_old_prices_what_it_accepted_before_they_changed(
    rig: Rig, alice: Client
) -> None:
    engine = BreakingEngine(clock=rig.clock)
    engine.hang = asyncio.Event()
    async with rig.service("bob", engine=engine) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await run_until_hanging(service)
        assert state(service, job) is JobState.RUNNING
    async with rig.service("bob", offer={"minimum_price": "0.3"}) as service:
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED
        assert record(service, job).amount == MINIMUM
        late = rig.open_job(alice, service, "bob", terms_hash=int.from_bytes(hash_of("old"), "big"))
        await service.settle()
        assert record(service, late).reason.startswith("other-terms")
