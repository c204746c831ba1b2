"""A network with a cheater in it, from its first job to the verdict; `tests/e2e` plays it with real vLLM.

The engines are `vllm_double`s, and labelled so; everything before them is real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from tests.helpers.arbiters import Court
from tests.helpers.audit_town import AuditTown, audit_town, thresholds
from tests.helpers.network_story import CHEAPER, FAIR, LIAR, live_through
from tests.scenarios.test_arbiters_rescoring import judge_of


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[AuditTown]:
    async with audit_town(blockchain, tmp_path) as made:
        await made.worker("alice", **FAIR)
        await made.worker("bob", **FAIR)
        await made.worker("mallory", lies=True, **CHEAPER)
        yield made


@pytest.fixture
async def court(town: AuditTown, tmp_path: Path) -> AsyncIterator[Court]:
    place = town.town
    made = Court(place.chain, place.adapter, place.suite, tmp_path)
    for index in range(LIAR):
        await made.start(index, real=judge_of(town), wallet=index == 0)
    await made.start(LIAR, says=Ground.HONEST)
    yield made
    await made.close()


async def test_cheater_is_caught_slashed_and_left_and_nobody_else_is_accused(
    town: AuditTown, court: Court
) -> None:
    _, job = await live_through(town, court, thresholds())
    assert (await job.status()).state is JobState.SLASHED
