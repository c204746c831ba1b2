"""A client's sessions from opening to settling, on the real contracts and on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cocoon_sdk.client.sessions.errors import (
    SessionRefusedError,
    SessionUsedUpError,
    SpendLimitError,
    StaleSessionError,
)
from cocoon_sdk.client.sessions.funds.keeper import KeeperReport
from cocoon_sdk.client.sessions.funds.records import SessionState, SpendLimits
from cocoon_sdk.errors import InsufficientEscrowError
from cocoon_sdk.protocol.metering import MeteringError
from cocoon_sdk.protocol.vouchers import Voucher
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.client_sessions import POLICY, SessionTown, session_town
from tests.helpers.databases import KINDS, database_place
from tests.helpers.sdk import Town

HOUR_S = 3600
DAY_S = 86_400
SOME = Nano(1000)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_place(request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def town(blockchain: Blockchain, place: str) -> AsyncIterator[SessionTown]:
    async with session_town(Town(blockchain), place) as made:
        yield made


async def test_session_lives_from_opening_to_settling_and_every_nanoton_is_accounted_for(
    town: SessionTown,
) -> None:
    manager = await town.manager()
    free = (await town.client.escrow.balance()).free
    held = await manager.acquire(await town.offer(), SOME)
    entry = town.on_chain(held.ref.session_id)
    assert entry is not None
    assert entry.deposit == POLICY.deposit
    assert entry.voucher_key == held.voucher_key.verify_key.to_int()

    voucher = await held.sign(700_000)
    assert voucher.verified_by(held.voucher_key.verify_key, held.ref)
    town.redeem(held, voucher)
    await manager.release(held, SOME)

    town.pass_time(POLICY.idle_s)
    report = await manager.keep()
    assert [each.session_id for each in report.closed] == [held.ref.session_id]
    assert report.failures == []
    assert report.overdrawn == []
    record = await manager.store.get(held.uid)
    assert record is not None
    assert (record.state, record.redeemed, record.why) == (SessionState.CLOSING, 700_000, "not used")
    with pytest.raises(StaleSessionError):
        await held.sign(800_000)

    town.pass_time(record.settle_at - town.town.chain.now - 1)
    assert (await manager.keep()).settled == []
    town.pass_time(1)
    assert [each.session_id for each in (await manager.keep()).settled] == [held.ref.session_id]
    assert town.on_chain(held.ref.session_id) is None
    record = await manager.store.get(held.uid)
    assert record is not None
    assert (record.state, record.redeemed, record.holder) == (SessionState.CLOSED, 700_000, None)
    gas = free - (await town.client.escrow.balance()).free - 700_000
    assert 0 < gas < Nano.ton("0.02")


async def test_second_request_uses_the_same_session(town: SessionTown) -> None:
    manager = await town.manager()
    offer = await town.offer()
    first, second = await asyncio.gather(manager.acquire(offer, SOME), manager.acquire(offer, SOME))
    assert first is second
    assert (first.users, first.reserved) == (2, 2 * SOME)
    assert manager.remaining(offer.address) == POLICY.deposit - 2 * SOME
    await manager.release(first, SOME)
    await manager.release(second, SOME)
    assert (first.users, first.reserved) == (0, 0)
    assert town.ids_on_chain() == [first.ref.session_id]


async def test_session_is_topped_up_when_a_request_needs_more(town: SessionTown) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), POLICY.deposit)
    again = await manager.acquire(await town.offer(), SOME)
    assert again is held
    entry = town.on_chain(held.ref.session_id)
    assert entry is not None
    assert entry.deposit == held.ledger.deposit == 2 * POLICY.deposit
    record = await manager.store.get(held.uid)
    assert record is not None
    assert (record.deposit, record.pending_deposit) == (2 * POLICY.deposit, 0)


async def test_session_is_topped_up_ahead_before_it_runs_out(town: SessionTown) -> None:
    manager = await town.manager(policy=replace(POLICY, low=Nano.ton("0.05"), deposit=Nano.ton("0.08")))
    held = await manager.acquire(await town.offer(), Nano.ton("0.04"))  # 0.04 are left, below 0.05
    (task,) = manager._ahead.values()
    await task
    assert held.ledger.deposit == Nano.ton("0.16")
    assert manager._ahead == {}


async def test_new_manager_takes_over_what_a_dead_one_left_when_its_lease_has_run_out(
    town: SessionTown,
) -> None:
    dead, alive = await town.manager(holder="dead"), await town.manager(holder="alive")
    offer = await town.offer()
    left = await dead.acquire(offer, SOME)
    voucher = await left.sign(500_000)

    other = await alive.acquire(offer, SOME)  # the lease still runs: a session of its own
    assert other.ref.session_id != left.ref.session_id
    await alive.close()

    town.pass_time(POLICY.lease_s)
    third = await town.manager(holder="third")
    got = [await third.acquire(offer, POLICY.deposit - 500_000), await third.acquire(offer, POLICY.deposit)]
    taken = next(each for each in got if each.uid == left.uid)
    assert taken.best == voucher
    assert (taken.ledger.signed, taken.ledger.accounted) == (500_000, 0)
    with pytest.raises(StaleSessionError):
        await left.sign(600_000)
    with pytest.raises(StaleSessionError):
        await left.sign(600_000)
    assert (await third.store.get(left.uid)).signed == 500_000  # type: ignore[union-attr]
    taken.ledger.charge(1, 400_000)
    assert (await taken.sign(1_100_000)).amount == 1_100_000


async def test_manager_that_was_overtaken_learns_it_with_the_next_round(town: SessionTown) -> None:
    slow, quick = await town.manager(holder="slow"), await town.manager(holder="quick")
    offer = await town.offer()
    held = await slow.acquire(offer, SOME)
    await slow.keep()
    town.pass_time(POLICY.lease_s)
    assert (await quick.acquire(offer, SOME)).uid == held.uid
    await slow.keep()
    assert held.stale
    assert slow.held == ()


async def test_sessions_stay_open_for_the_next_start_when_the_client_is_closed(town: SessionTown) -> None:
    first = await town.manager()
    held = await first.acquire(await town.offer(), SOME)
    await held.sign(300_000)
    held.ledger.charge(1, 200_000)
    held.next_rid = 2
    await first.close()
    assert held.stale
    with pytest.raises(SessionRefusedError):
        await first.acquire(await town.offer(), SOME)

    second = await town.manager()
    again = await second.acquire(await town.offer(), SOME)
    assert again.uid == held.uid
    assert (again.ledger.signed, again.ledger.accounted, again.next_rid) == (300_000, 200_000, 2)


# -- money that is not there, or may not be spent ----------------------------------------------------------


async def test_client_is_told_the_numbers_when_the_escrow_is_empty(
    blockchain: Blockchain, place: str
) -> None:
    async with session_town(Town(blockchain), place, deposit=Nano.ton("0.05")) as town:
        manager = await town.manager()
        held = await manager.acquire(await town.offer(), SOME)  # smaller than the policy wants, but enough
        assert 0 < held.ledger.deposit < Nano.ton("0.05")
        with pytest.raises(InsufficientEscrowError, match="are free; needed are"):
            await manager.acquire(await town.offer(), Nano.ton("0.05"))
        other = town.town.worker("another")
        with pytest.raises(InsufficientEscrowError):
            await manager.acquire(await town.offer(other), SOME)
        assert (await manager.store.exposure(held.ref.domain, 0)).outstanding == held.ledger.deposit


async def test_limits_hold_to_the_nanoton(town: SessionTown) -> None:
    limits = SpendLimits(per_day=Nano(150_000_001))
    manager = await town.manager(limits=limits)
    offer, other = await town.offer(), await town.offer(town.town.worker("another"))
    await manager.acquire(offer, SOME)
    with pytest.raises(SpendLimitError):
        await manager.acquire(other, Nano(50_000_002))
    second = await manager.acquire(other, Nano(50_000_001))
    assert second.ledger.deposit == 50_000_001
    with pytest.raises(SpendLimitError):
        await manager.acquire(other, Nano(1_000_000))
    assert len(town.ids_on_chain()) == 2


async def test_used_up_session_makes_place_for_another_when_a_session_may_hold_no_more(
    town: SessionTown,
) -> None:
    manager = await town.manager(limits=SpendLimits(per_session=POLICY.deposit))
    first = await manager.acquire(await town.offer(), POLICY.deposit)
    with pytest.raises(SessionUsedUpError):
        await manager.top_up(first, Nano(1))
    second = await manager.acquire(await town.offer(), SOME)
    assert second.uid != first.uid


async def test_voucher_beyond_the_increment_is_not_signed(town: SessionTown) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    with pytest.raises(MeteringError):
        await held.sign(POLICY.increment + 1)
    assert (await held.sign(POLICY.increment)).amount == POLICY.increment
    assert (await held.sign(5)).amount == POLICY.increment  # the best one covers it


async def test_daily_limit_of_the_hot_key_is_named(blockchain: Blockchain, place: str) -> None:
    async with session_town(Town(blockchain), place) as town:
        await town.client.escrow.set_limits(Nano.ton("0.01"))
        manager = await town.manager()
        with pytest.raises(SpendLimitError, match="hot key may spend"):
            await manager.acquire(await town.offer(), Nano.ton("0.02"))


async def test_worker_that_the_owner_forbids_is_refused(town: SessionTown) -> None:
    other = town.town.worker("another")
    await town.client.escrow.set_limits(Nano.ton(10), allowed=[other.address])
    manager = await town.manager()
    with pytest.raises(SessionRefusedError, match="does not let the hot key use it"):
        await manager.acquire(await town.offer(), SOME)
    assert (await manager.acquire(await town.offer(other), SOME)).ref.worker == other.address


async def test_full_table_is_named(town: SessionTown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoon_sdk.protocol.constants.MAX_JOBS", 1)
    manager = await town.manager()
    await manager.acquire(await town.offer(), SOME)
    with pytest.raises(SessionRefusedError, match="at most 1"):
        await manager.acquire(await town.offer(town.town.worker("another")), SOME)


# -- what others do ----------------------------------------------------------------------------------------


async def test_keeper_notes_when_the_worker_closed_the_session(town: SessionTown) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    town.redeem(held, await held.sign(400_000), close=True)
    report = await manager.keep()
    assert [each.uid for each in report.ended] == [held.uid]
    assert held.stale
    fresh = await manager.acquire(await town.offer(), SOME)
    assert fresh.uid != held.uid


async def test_top_up_finds_out_when_the_session_has_ended_on_chain(town: SessionTown) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), POLICY.deposit)
    town.redeem(held, await held.sign(400_000), close=True)
    fresh = await manager.acquire(await town.offer(), SOME)
    assert held.stale
    assert fresh.uid != held.uid


async def test_keeper_reports_and_closes_when_more_was_redeemed_than_signed_here(town: SessionTown) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    await held.sign(400_000)
    town.redeem(held, Voucher.sign(held.voucher_key, held.ref, Nano(900_000)))  # signed past the database
    report = await manager.keep()
    (overdrawn,) = report.overdrawn
    assert (overdrawn.redeemed, overdrawn.record.signed) == (900_000, 400_000)
    assert [each.uid for each in report.closed] == [held.uid]
    assert held.stale


async def test_keeper_tells_sessions_that_the_database_does_not_know(
    town: SessionTown, tmp_path: Path
) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    town.place = str(tmp_path / "another.db")
    stranger = await town.manager()
    assert (await stranger.keep()).unknown == [held.ref.session_id]
    assert (await manager.keep()).unknown == []


async def test_keeper_settles_when_the_session_has_expired(town: SessionTown) -> None:
    manager = await town.manager(policy=replace(POLICY, lifetime_s=2 * HOUR_S))
    held = await manager.acquire(await town.offer(), SOME)
    town.pass_time(2 * HOUR_S)
    other = await manager.acquire(await town.offer(), SOME)  # it expires, so another one is opened
    assert other.uid != held.uid
    report = await manager.keep()
    assert held.uid in {each.uid for each in report.closed}
    town.pass_time(DAY_S)
    assert held.uid in {each.uid for each in (await manager.keep()).settled}


async def test_later_start_settles_what_an_earlier_one_closed(town: SessionTown) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    await manager.release(held, SOME)
    await manager.close_idle(0)
    await manager.close()
    town.pass_time(2 * DAY_S)
    later = await town.manager()
    assert [each.uid for each in (await later.keep()).settled] == [held.uid]


async def test_session_in_use_is_not_closed_however_long_it_takes(town: SessionTown) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    town.pass_time(POLICY.idle_s * 2)
    assert (await manager.keep()).closed == []
    await manager.release(held, SOME)
    assert (await manager.keep()).closed == []  # just used
    assert [each.uid for each in (await manager.close_idle(0)).closed] == [held.uid]


async def test_retired_session_is_closed_and_never_used_again(town: SessionTown) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    await manager.retire(held, "its worker lied")
    with pytest.raises(StaleSessionError, match="its worker lied"):
        await held.sign(1000)
    record = await manager.store.get(held.uid)
    assert record is not None
    assert (record.state, record.why) == (SessionState.CLOSING, "its worker lied")
    assert (await manager.acquire(await town.offer(), SOME)).uid != held.uid


async def test_started_manager_looks_after_its_sessions_by_itself(
    town: SessionTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = await town.manager(policy=replace(POLICY, idle_s=10))
    held = await manager.acquire(await town.offer(), SOME)
    await manager.release(held, SOME)
    closed, once = asyncio.Event(), manager._keeper.once

    async def round_() -> KeeperReport:
        report = await once()
        if report.closed:
            closed.set()
        return report

    monkeypatch.setattr(manager._keeper, "once", round_)
    manager.start()
    manager.start()
    # The manual clock runs as fast as the task sleeps: a keeper that never closes would go on for ever.
    await asyncio.wait_for(closed.wait(), 60)
    assert "not used" in held.stale
    await manager.close()
