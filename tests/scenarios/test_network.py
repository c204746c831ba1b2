"""A network with a cheater in it, from its first job to the verdict; `tests/e2e` plays it with real vLLM.

The engines are `vllm_double`s, and labelled so; everything before them is real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from tests.helpers.arbiters import Court
from tests.helpers.audit_town import AuditTown, audit_town, thresholds
from tests.helpers.network_story import CHEAPER, FAIR, FIVE, THREE, Jury, live_through
from tests.scenarios.test_arbiters_rescoring import judge_of


@pytest.fixture(params=[FIVE, THREE], ids=["five", "three"])
def jury(request: pytest.FixtureRequest) -> Jury:
    found: Jury = request.param
    return found


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path, jury: Jury) -> AsyncIterator[AuditTown]:
    async with audit_town(blockchain, tmp_path, seats=jury.seats) as made:
        await made.worker("alice", **FAIR)
        await made.worker("bob", **FAIR)
        await made.worker("mallory", lies=True, **CHEAPER)
        yield made


@pytest.fixture
async def court(town: AuditTown, tmp_path: Path) -> AsyncIterator[Court]:
    place = town.town
    made = Court(place.chain, place.adapter, place.suite, tmp_path)
    yield made
    await made.close()


async def test_cheater_is_caught_slashed_and_left_and_nobody_else_is_accused(
    town: AuditTown, court: Court, jury: Jury
) -> None:
    _, job = await live_through(town, court, thresholds(), jury, lambda: judge_of(town))
    assert (await job.status()).state is JobState.SLASHED
