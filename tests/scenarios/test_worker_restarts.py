"""A worker that is killed at any point goes on as if nothing had happened: nothing twice, nothing lost.

Each path is played once for every durable step of the journal and every sending: the process dies right
there, a new one starts on the same journal, and the job has to end with exactly the same payment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.clock import ManualClock
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from cocoon_worker.records import JobKey
from cocoon_worker.service import WorkerService
from cocoon_worker.states import ExternalState, JobState
from tests.helpers.suite import Client
from tests.helpers.worker_faults import CrashingChain, CrashPlan, dies, kill_around_commits
from tests.helpers.worker_rig import OpenedJob, Rig, kill, record, state

MINIMUM = Nano.ton("0.01")


class Life:
    """One job's life, during which the worker is killed at most once."""

    def __init__(self, rig: Rig, alice: Client, number: int, options: dict[str, Any]) -> None:
        self.rig, self.alice = rig, alice
        self.plan = CrashPlan(number)
        self.options = options
        self.restarts = 0
        self.job: OpenedJob | None = None

    async def start(self) -> WorkerService:
        chain = CrashingChain(self.rig.chain, self.plan)
        service = self.rig.service("bob", chain=chain, **self.options)
        await service.__aenter__()
        kill_around_commits(service, self.plan)
        return service

    async def settle(self, service: WorkerService) -> WorkerService:
        """Let the worker do all it can now, if need be in a second life."""
        while await dies(service, self.plan):
            await kill(service)
            self.restarts += 1
            assert self.restarts == 1
            self.plan = CrashPlan(-1)
            service = await self.start()
        return service


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def play(
    rig: Rig, alice: Client, number: int, opening: dict[str, Any], options: dict[str, Any]
) -> bool:
    """Play one life; return whether the worker was killed in it."""
    life = Life(rig, alice, number, options)
    service = await life.start()
    service = await life.settle(service)
    job = rig.open_job(alice, service, **opening)
    service = await life.settle(service)
    assert state(service, job) in (JobState.SUBMITTED, JobState.PAID), record(service, job).reason
    rig.warp(3601)
    service = await life.settle(service)
    assert state(service, job) is JobState.PAID

    sent = [message.content for message in await rig.work_messages("bob")]
    assert sum(isinstance(content, m.Submit | m.SubmitClaimed) for content in sent) == 1
    assert sum(isinstance(content, m.Claim) for content in sent) <= 1
    submission = await rig.submitted("bob", job)
    assert submission is not None
    job.open(submission[0], submission[1])
    stake = rig.account("bob").get_state()
    assert stake.earned + stake.fee_due == MINIMUM
    assert (stake.locked, rig.account("bob").locks()) == (0, {})
    assert service.journal.locked_jobs() == []
    assert service.journal.pending_external() is None
    Ledger.of(rig.blockchain).assert_balanced()
    await service.__aexit__(None, None, None)
    return life.restarts == 1


LONG = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1024}
PATHS: list[Any] = [
    pytest.param({"name": "bob"}, id="directed"),
    pytest.param({"name": "bob", "claim_period": 120, "long": True}, id="directed-claim-first"),
    pytest.param({"name": None}, id="open"),
    pytest.param({"name": "bob", "window": 0}, id="paid-at-once"),
]


@pytest.mark.parametrize("opening", PATHS)
async def test_worker_can_go_on_when_it_was_killed_at_any_point(
    rig: Rig, tmp_path: Path, opening: dict[str, Any]
) -> None:
    alice = rig.suite.client("alice")
    rig.account("bob")
    start = rig.blockchain.snapshot()
    at = rig.clock.now()
    played = 0
    while True:
        rig.blockchain.restore(start)
        rig.clock = ManualClock(at)
        rig.root = tmp_path / f"life-{played}"
        rig.root.mkdir()
        chosen = dict(opening)
        options: dict[str, Any] = {}
        if chosen.pop("long", False):
            # Every request of this worker is long work: the claim comes first.
            options["offer"] = {"tokens_per_second": 0.5}
        if not await play(rig, alice, played, chosen, options):
            break
        played += 1
    assert played > 20  # that many chances to die were there, and none did harm


async def test_worker_cannot_submit_twice_when_its_external_expired_and_shows_up_late(rig: Rig) -> None:
    """The external is taken for expired (a lagging endpoint), signed anew, and then the first one appears."""
    alice = rig.suite.client("alice")
    async with rig.service("bob") as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")

        held: list[Any] = []
        real_send = rig.chain.send

        async def swallow(message: Any) -> bytes:
            held.append(message)
            return b""

        rig.chain.send = swallow  # type: ignore[method-assign]
        await service.settle()
        assert state(service, job) is JobState.SUBMITTING
        first = service.journal.pending_external()
        assert first is not None
        rig.warp(200)
        await service.settle()
        rig.warp(10)
        await service.settle()
        second = service.journal.pending_external()
        assert second is not None
        assert second.number != first.number
        assert second.seqno == first.seqno
        rig.chain.send = real_send  # type: ignore[method-assign]
        # Both have the same seqno: whichever comes first shuts the other out.
        await rig.chain.send(second.message)
        with pytest.raises(Exception, match="not accepted"):
            await rig.chain.send(first.message)
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED
        rival = service.journal.external_by_body(first.body_hash)
        assert rival is not None
        assert rival.state is ExternalState.VOID
        assert len(await rig.work_messages("bob")) == 1


async def test_worker_can_recover_offers_when_its_journal_was_lost(rig: Rig) -> None:
    alice = rig.suite.client("alice")
    async with rig.service("bob") as service:
        await service.settle()
        prepared = rig.pack(service)
        terms = rig.terms(service, prepared, worker=rig.account("bob"))
    job = rig.open_job(alice, service, "bob", packed=prepared, terms=terms)
    for file in (rig.root / "bob" / "data").iterdir():
        file.unlink()
    async with rig.service("bob") as service:
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED


async def test_foreign_external_of_our_key_cannot_go_unnoticed(rig: Rig) -> None:
    async with rig.service("bob") as service:
        await service.settle()
        rig.account("bob").act(signing.announce(rig.suite.model_id, bytes(32)), max_spend=Nano.ton("0.1"))
        await service.settle()
        assert b"cocoon_foreign_externals_total 1.0" in service.context.metrics.render(service.journal)
        assert service.journal.job(JobKey(1, 1)) is None
