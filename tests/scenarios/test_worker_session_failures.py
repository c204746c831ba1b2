"""When things break around money in sessions: endpoints, the disk, rivals for the seqno, the process."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytoniq_core import Cell

from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import ChainError, ChainUnavailableError
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from cocoon_worker.errors import JournalFullError
from cocoon_worker.service import WorkerService
from cocoon_worker.sessions.records import SessionState
from cocoon_worker.sessions.redemption import MARGIN_ALARM
from tests.helpers.session_rig import DAY_S, entry, open_session, serve, settings
from tests.helpers.suite import Client
from tests.helpers.worker_faults import (
    CrashingChain,
    CrashPlan,
    FlakyChain,
    LaggingChain,
    dies,
    kill_around_commits,
)
from tests.helpers.worker_rig import Rig, kill
from tests.scenarios.test_worker_sessions import redeemed, redemptions

HALF = Nano.ton("0.5")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def alice(rig: Rig) -> Client:
    return rig.suite.client("alice")


# -- endpoints ---------------------------------------------------------------------------------------------


class SilentChain:
    """An endpoint that can stop answering."""

    def __init__(self, rig: Rig) -> None:
        self._inner, self.silent = rig.chain, False

    def __getattr__(self, name: str) -> object:
        if self.silent:
            raise ChainUnavailableError("the endpoint does not answer")
        return getattr(self._inner, name)


async def test_worker_can_raise_an_alarm_when_time_runs_out_and_no_endpoint_answers(
    rig: Rig, alice: Client
) -> None:
    chain = SilentChain(rig)
    async with rig.service("bob", chain=chain, sessions=settings()) as service:  # type: ignore[arg-type]
        context = service.context
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.1"))
        await service.settle()
        metrics = context.metrics.registry.get_sample_value
        # As long as it is open the client can only start the delay, all of which would be left.
        assert metrics("cocoon_session_margin_seconds") == DAY_S
        chain.silent = True
        session.close()  # nobody tells the worker
        closed = rig.clock.now()
        rig.warp(2 * DAY_S + 18 * 3600 - 1)  # the expiry is after 2 days
        with pytest.raises(ChainError):
            await service.step()
        assert MARGIN_ALARM not in context.alarms
        rig.warp(2)
        with pytest.raises(ChainError):
            await service.step()
        assert "Nano(100000000)" in context.alarms[MARGIN_ALARM] or "0.1" in context.alarms[MARGIN_ALARM]
        left = metrics("cocoon_session_margin_seconds")
        assert left == closed + 3 * DAY_S - rig.clock.now() == 6 * 3600 - 1
        assert metrics("cocoon_alarm", {"name": MARGIN_ALARM}) == 1
        chain.silent = False
        await service.settle()
        assert entry(service, session).paid == Nano.ton("0.1")
        assert MARGIN_ALARM not in context.alarms


async def test_worker_can_redeem_over_an_endpoint_that_keeps_failing(rig: Rig, alice: Client) -> None:
    service = rig.service("bob", sessions=settings())
    async with service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.1"))
        await service.settle()
    flaky = FlakyChain(rig.chain, seed=7, rate=0.0)
    async with rig.service("bob", chain=flaky, sessions=settings()) as service:
        session.close()
        flaky.rate = 0.25
        for _ in range(200):
            try:
                await service.step()
            except ChainError:
                rig.warp(1)
            if entry(service, session).state is SessionState.ENDED:
                break
        found = entry(service, session)
        assert flaky.failed > 5
        assert (found.state, found.paid, found.lost) == (SessionState.ENDED, Nano.ton("0.1"), 0)
        assert len(await redemptions(rig)) == 1
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_cannot_be_fooled_into_redeeming_twice_by_an_endpoint_that_lags(
    rig: Rig, alice: Client
) -> None:
    chain = LaggingChain(rig.blockchain)
    async with rig.service("bob", chain=chain, sessions=settings()) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.6"))
        chain.freeze()
        for _ in range(5):
            await service.step()
            rig.warp(10)
        assert redeemed(session) == Nano.ton("0.6")
        assert entry(service, session).asked == Nano.ton("0.6")
        chain.thaw()
        await service.settle()
        # The next reads are of the past once more: what arrived at the stake is believed all the same.
        chain.freeze()
        rig.warp(DAY_S)
        await service.settle()
        found = entry(service, session)
        assert (found.paid, found.unredeemed, found.asked) == (Nano.ton("0.6"), 0, 0)
        assert len(await redemptions(rig)) == 1


async def test_worker_cannot_forget_a_session_that_a_lagging_endpoint_does_not_know_yet(
    rig: Rig, alice: Client
) -> None:
    chain = LaggingChain(rig.blockchain)
    async with rig.service("bob", chain=chain, sessions=settings(redeem_threshold="0.02")) as service:
        await service.settle()
        past = rig.blockchain.snapshot()
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.1"))
        now = rig.blockchain.snapshot()
        rig.blockchain.restore(past)
        chain.freeze()
        rig.blockchain.restore(now)
        await service.settle()
        assert entry(service, session).state is SessionState.OPEN
        assert entry(service, session).missing_since
        chain.thaw()
        await service.settle()
        assert entry(service, session).paid == Nano.ton("0.1")
        assert not entry(service, session).missing_since


# -- rivals ------------------------------------------------------------------------------------------------


async def test_worker_can_redeem_when_another_external_takes_its_seqno(rig: Rig, alice: Client) -> None:
    """The operator's key signs somewhere else too, and that external is faster."""
    async with rig.service("bob", sessions=settings()) as service:
        await service.settle()
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.6"))
        real, held = rig.chain.send, []

        async def swallow(message: Cell) -> bytes:
            held.append(message)
            return b""

        rig.chain.send = swallow  # type: ignore[method-assign]
        await service.step()
        assert len(held) == 1
        assert entry(service, session).asked == Nano.ton("0.6")
        other = open_session(rig, rig.suite.client("carol"), "bob")
        voucher = other.voucher(Nano.ton("0.3"))
        foreign = signing.redeem(other.id, other.client.address, voucher.amount, voucher.signature)
        rig.account("bob").act(foreign)
        rig.chain.send = real  # type: ignore[method-assign]
        await service.settle()
        rig.warp(3600)
        await service.settle()
        assert redeemed(session) == entry(service, session).paid == Nano.ton("0.6")
        assert [each.amount for each in await redemptions(rig)] == [Nano.ton("0.3"), Nano.ton("0.6")]
        with pytest.raises(ChainError):
            await rig.chain.send(held[0])  # it can never be accepted any more
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_can_go_on_when_a_watchtower_was_faster(rig: Rig, alice: Client) -> None:
    """Both redeem at once: the second redemption comes back and costs gas, nothing more."""
    async with rig.service("bob", sessions=settings()) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.6"))
        real = rig.chain.send

        async def overtaken(message: Cell) -> bytes:
            rig.chain.send = real  # type: ignore[method-assign]
            session.redeem(Nano.ton("0.6"))
            return await real(message)

        rig.chain.send = overtaken  # type: ignore[method-assign]
        await service.settle()
        rig.warp(60)
        await service.settle()
        found = entry(service, session)
        assert (found.paid, found.unredeemed, found.asked) == (Nano.ton("0.6"), 0, 0)
        assert len(await redemptions(rig)) == 1
    Ledger.of(rig.blockchain).assert_balanced()


# -- disk and process ----------------------------------------------------------------------------------------


@contextmanager
def full_disk(service: WorkerService) -> Iterator[None]:
    """Let no file of this process grow beyond what the journal has already, as a full disk would."""
    journal = service.context.config.journal_path
    wal = journal.with_name(journal.name + "-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(1, wal), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_worker_cannot_serve_what_it_cannot_write_and_goes_on_afterwards(
    rig: Rig, alice: Client
) -> None:
    async with rig.service("bob", sessions=settings()) as service:
        session = open_session(rig, alice, "bob")
        before = await serve(service, session, Nano.ton("0.1"))
        book = service.context.sessions.book
        better = session.voucher(Nano.ton("0.2"))

        def serve_more() -> None:
            with book.together():
                book.put_voucher(session.key, better.amount, better.signature)
                book.put_progress(session.key, better.amount, before.next_rid + 1)

        with full_disk(service):
            with pytest.raises(JournalFullError):
                book.put_voucher(session.key, better.amount, better.signature)
            with pytest.raises(JournalFullError):
                book.put_progress(session.key, before.signed, before.next_rid + 1)
            with pytest.raises(JournalFullError):
                serve_more()
        assert entry(service, session) == before
        book.put_voucher(session.key, better.amount, better.signature)
        assert entry(service, session).signed == better.amount


@pytest.mark.parametrize("guard", [False, True])
async def test_worker_can_redeem_exactly_once_when_it_was_killed_at_any_point(
    rig: Rig, tmp_path: Path, alice: Client, guard: bool
) -> None:
    rig.account("bob")
    start, at, played = rig.blockchain.snapshot(), rig.clock.now(), 0
    options = settings(guard=guard)
    while True:
        rig.blockchain.restore(start)
        rig.clock = ManualClock(at)
        rig.root = tmp_path / f"life-{played}"
        rig.root.mkdir()
        plan, lives = CrashPlan(played), 0

        async def born(plan: CrashPlan) -> WorkerService:
            service = rig.service("bob", chain=CrashingChain(rig.chain, plan), sessions=options)
            await service.__aenter__()
            kill_around_commits(service, plan)
            return service

        service = await born(CrashPlan(-1))
        await service.settle()
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.1"))
        await kill(service)
        service = await born(plan)
        for step in range(4):
            while await dies(service, plan):
                lives += 1
                await kill(service)
                plan = CrashPlan(-1)
                service = await born(plan)
            if step == 0:
                session.close()
            elif step == 1:
                rig.warp(3600)
            elif step == 2 and guard:
                rig.warp(DAY_S)  # the client's time to dispute
        found = entry(service, session)
        assert (found.state, found.paid, found.lock) == (SessionState.ENDED, Nano.ton("0.1"), 0)
        assert session.view is None
        assert len(await redemptions(rig)) == (2 if guard else 1), "the second frees the collateral"
        assert rig.account("bob").get_state().locked == 0
        stake = rig.account("bob").get_state()
        assert stake.earned + stake.fee_due == Nano.ton("0.1")
        Ledger.of(rig.blockchain).assert_balanced()
        await service.__aexit__(None, None, None)
        if not lives:
            break
        played += 1
    assert played > 10  # that many chances to die were there, and none did harm
