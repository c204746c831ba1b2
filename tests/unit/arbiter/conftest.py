"""What the arbiter's unit tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.storage import SqliteDatabase


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ArbiterStore]:
    made = ArbiterStore(SqliteDatabase(tmp_path / "arbiter.sqlite"))
    await made.prepare()
    yield made
    await made.close()
