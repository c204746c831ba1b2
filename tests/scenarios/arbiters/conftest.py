"""Whole arbiters before real contracts; what scores the content is a scripted double."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_sdk.sandbox import Blockchain
from tests.helpers.arbiters import (
    Court,
    verifiable,
)
from tests.helpers.sdk import ScriptedWorker, Town


@pytest.fixture
async def town(blockchain: Blockchain) -> AsyncIterator[Town]:
    made = Town(blockchain)
    yield made
    await made.close()


@pytest.fixture
async def court(town: Town, tmp_path: Path) -> AsyncIterator[Court]:
    made = Court(town.chain, town.adapter, town.suite, tmp_path)
    yield made
    await made.close()


@pytest.fixture
def worker(town: Town) -> ScriptedWorker:
    made = town.worker(announced=False)
    verifiable(made)
    return made
