"""Attacks on arbiters with disputes of sessions: histories that somebody filled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.arbiters import Court
from tests.helpers.client_sessions import SessionTown
from tests.helpers.hostile_chains import PaddedChain
from tests.helpers.session_trials import Session


@pytest.fixture
def padded(town: SessionTown) -> PaddedChain:
    return PaddedChain(town.town.chain)


@pytest.fixture
async def court(town: SessionTown, padded: PaddedChain, tmp_path: Path) -> AsyncIterator[Court]:
    made = Court(town.town.chain, padded, town.town.suite, tmp_path)
    yield made
    await made.close()


async def test_filled_histories_cannot_keep_evidence_of_the_present_key_from_being_judged(
    session: Session, court: Court, padded: PaddedChain
) -> None:
    service = await court.start(0)
    opened = [session]
    for _ in range(3):
        await session.sessions.close_session(opened[-1].number)
        opened.append(await session.another())
    *others, honest = opened
    session.replace_key("second")
    honest.records = [honest.record(1)]
    padded.endless |= {session.town.worker.address, session.town.client.escrow.address}
    for other in others:  # signed with the key that was replaced: only the history tells whose it was
        await other.show(await other.dispute())
    await service.step()
    dispute = await honest.dispute()
    assert await honest.show(dispute) == []
    await service.step()
    judging = service._judgements.tasks
    assert len(judging) == 4
    await asyncio.wait_for(judging[dispute.digest], 10)
    (case,) = court.judges[0].sessions
    assert (case.dispute.digest, len(case.records)) == (dispute.digest, 1)
