"""Guarded sessions to dispute: their client's town, arbiters before real contracts, and one to try."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_sdk.client.sessions.account import AsyncSessions
from cocoon_sdk.sandbox import Blockchain
from tests.helpers.arbiters import Court
from tests.helpers.client_sessions import SessionTown, session_town
from tests.helpers.sdk import Town
from tests.helpers.session_trials import Session, prepared


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[SessionTown]:
    async with session_town(Town(blockchain), str(tmp_path / "sessions.db")) as made:
        yield made


@pytest.fixture
async def court(town: SessionTown, tmp_path: Path) -> AsyncIterator[Court]:
    made = Court(town.town.chain, town.town.adapter, town.town.suite, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def sessions(town: SessionTown) -> AsyncIterator[AsyncSessions]:
    client = town.client
    made = AsyncSessions(client._context, client.workers, database=town.place)
    yield made
    await made.close()


@pytest.fixture
async def session(town: SessionTown, court: Court, sessions: AsyncSessions) -> Session:
    return await prepared(town, court, sessions)
