"""Sessions that are given up, or were taken over: nobody uses them again, and what came of them is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cocoon_sdk.client.sessions.errors import StaleSessionError
from cocoon_sdk.client.sessions.funds.records import SessionRecord, SessionState
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.client_sessions import SessionTown, session_town
from tests.helpers.databases import KINDS, database_place
from tests.helpers.sdk import Town

SOME = Nano(1000)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_place(request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def town(blockchain: Blockchain, place: str) -> AsyncIterator[SessionTown]:
    async with session_town(Town(blockchain), place) as made:
        yield made


async def test_request_cannot_take_a_session_over_again_when_it_is_being_retired(
    town: SessionTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = await town.manager()
    offer = await town.offer()
    held = await manager.acquire(offer, SOME)
    close, asking = manager.ending.close, []

    async def late(record: SessionRecord, why: str) -> SessionRecord:
        asking.append(asyncio.create_task(manager.acquire(offer, SOME)))
        for _ in range(50):  # as often as a request needs to take over whatever is free
            await manager.store.get(record.uid)
        return await close(record, why)

    monkeypatch.setattr(manager.ending, "close", late)
    await manager.retire(held, "worn")
    (other,) = await asyncio.gather(*asking)
    assert other.uid != held.uid
    record = await manager.store.get(held.uid)
    assert record is not None
    assert record.state is SessionState.CLOSING


async def test_what_came_since_the_last_voucher_is_kept_when_a_session_is_retired(town: SessionTown) -> None:
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    await held.sign(500)
    held.ledger.charge(1, 300)
    await manager.retire(held, "worn")
    record = await manager.store.get(held.uid)
    assert record is not None
    assert (record.signed, record.accounted) == (500, 300)


async def test_holder_is_told_when_its_session_was_taken_over(town: SessionTown) -> None:
    first, second = await town.manager(holder="first"), await town.manager(holder="second")
    held = await first.acquire(await town.offer(), SOME)
    await held.confirm()
    await second.desk.lease(held.record, by_force=True)
    with pytest.raises(StaleSessionError):
        await held.confirm()
    assert held.stale
