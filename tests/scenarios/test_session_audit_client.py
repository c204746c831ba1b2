"""Holes that an audit found: what an endpoint that lags behind makes a client believe of its own sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cocoon_sdk.client.sessions.funds.manager import SessionManager
from cocoon_sdk.client.sessions.funds.onchain import EscrowSight
from cocoon_sdk.client.sessions.funds.records import SessionState
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.client_sessions import POLICY, SessionTown, session_town
from tests.helpers.sdk import Town

SOME = Nano(1000)


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[SessionTown]:
    async with session_town(Town(blockchain), str(tmp_path / "sessions.sqlite")) as made:
        yield made


@contextmanager
def lagging(manager: SessionManager, sight: EscrowSight) -> Iterator[None]:
    """Let the manager's endpoint answer from the block of `sight`."""
    chain = manager.desk.chain
    look, session = chain.look, chain.session

    async def old_look() -> EscrowSight:
        return sight

    async def old_session(session_id: int) -> m.Session | None:
        return sight.sessions.get(session_id)

    chain.look, chain.session = old_look, old_session  # type: ignore[method-assign]
    try:
        yield
    finally:
        chain.look, chain.session = look, session  # type: ignore[method-assign]


async def test_client_can_get_its_deposit_back_when_it_closes_a_session_before_its_endpoint_sees_it(
    town: SessionTown,
) -> None:
    manager = await town.manager()
    before = await manager.desk.look()
    held = await manager.acquire(await town.offer(), SOME)
    with lagging(manager, before):
        await manager.retire(held, "a test")
    record = await manager.store.get(held.uid)
    assert record is not None
    assert record.state is SessionState.CLOSING
    report = await manager.keep()
    assert [each.uid for each in report.closed] == [held.uid]
    entry = town.on_chain(held.ref.session_id)
    assert entry is not None
    town.pass_time(entry.deadline - town.town.chain.now + 1)
    report = await manager.keep()
    assert [each.uid for each in report.settled] == [held.uid]
    assert town.on_chain(held.ref.session_id) is None


async def test_client_can_take_a_session_over_when_its_endpoint_shows_the_deposit_before_a_top_up(
    town: SessionTown,
) -> None:
    manager = await town.manager(policy=replace(POLICY, increment=Nano(5_000_000)))
    held = await manager.acquire(await town.offer(), SOME)
    before = await manager.desk.look()
    first = held.ledger.deposit
    await manager.top_up(held, Nano(first + 1))
    held.ledger.resume(0)
    for _ in range(1 + int(first) // 5_000_000):
        amount = min(held.ledger.accounted + 5_000_000, int(first) + 1)
        await held.sign(amount)
        held.ledger.charge(1, amount)
    await manager.close()
    assert held.ledger.signed > first

    successor = await town.manager(policy=replace(POLICY, increment=Nano(5_000_000)))
    with lagging(successor, before):
        taken = await successor.acquire(await town.offer(), SOME)
    assert taken.uid == held.uid
    assert taken.ledger.deposit == held.ledger.deposit
