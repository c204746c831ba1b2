"""The whole network with real vLLM: a worker that serves a cheaper model is caught, slashed and left.

Nothing here is a double, but for what one arbiter says: it lies. What is cheaper is every second layer of the
model. The story is `tests.helpers.network_story`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.arbiter.rescoring import JudgedModel, RescoringJudge
from cocoon_sdk.cli.local_vllm import serve_vllm, vllm_settings
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.contracts.registry import Registry
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.calibration import EngineSetting
from cocoon_sdk.verify.rescoring import Verifier
from cocoon_worker.engine.packaged_model import PACKAGED_MODEL, packaged_thresholds
from tests.bench import verify_weights
from tests.e2e.conftest import SharedEngine
from tests.helpers.arbiters import Court
from tests.helpers.audit_town import AuditTown, audit_town
from tests.helpers.network_story import CHEAPER, FAIR, THREE, live_through

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200), pytest.mark.xdist_group("vllm")]
BUILD = Path(__file__).parents[2] / "build"
CONTEXT = 2048
WAIT_S = 0.05


class StandingClock(ManualClock):
    """Moves only when told to, as the chain does; who waits for an engine waits in real time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, WAIT_S))


@pytest.fixture
async def cheaper(packaged_model: Path) -> AsyncIterator[dict[str, Any]]:
    """Settings of an engine that serves every second layer of the model."""
    model = verify_weights.make(packaged_model, "another model", BUILD / "models")
    setting = EngineSetting("float32", "float32")
    options = vllm_settings(model, setting, BUILD / "logs" / "vllm-cheaper.log", context=CONTEXT, top=20)
    async with serve_vllm(options) as served:
        yield {"url": served.url, "api_key": served.api_key, "model": served.model}


@pytest.fixture
async def town(
    vllm_engine: SharedEngine, cheaper: dict[str, Any], blockchain: Blockchain, tmp_path: Path
) -> AsyncIterator[AuditTown]:
    await vllm_engine.start()
    url, key = vllm_engine.endpoint()
    sold = {"max_context": CONTEXT, "max_output_tokens": 64, "minimum_price": "0.001"}
    async with audit_town(blockchain, tmp_path, packaged_thresholds(), seats=THREE.seats) as made:
        made.place.rig.clock = StandingClock(blockchain.now)
        for name in ("alice", "bob"):
            engine = {"url": url, "api_key": key}
            await made.worker_before(name, engine, engine_model=PACKAGED_MODEL, **sold, **FAIR)
        engine = {"url": cheaper["url"], "api_key": cheaper["api_key"]}
        await made.worker_before("mallory", engine, engine_model=cheaper["model"], **sold, **CHEAPER)
        yield made


@pytest.fixture
async def court(town: AuditTown, tmp_path: Path) -> AsyncIterator[Court]:
    place = town.town
    made = Court(place.chain, place.adapter, place.suite, tmp_path)
    yield made
    await made.close()


def judge_of(town: AuditTown, engine: SharedEngine) -> RescoringJudge:
    """Return an honest arbiter's judge, with a model to ask."""
    place = town.town
    registry = Registry.at(place.adapter, place.suite.network.registry)
    url, key = engine.endpoint()

    async def calibration(model_id: Hash) -> Hash | None:
        entry = await registry.model(model_id)
        return None if entry is None else entry.calibration_hash

    judged = JudgedModel(Verifier(url, key, PACKAGED_MODEL), packaged_thresholds())
    return RescoringJudge({place.model.model_id: judged}, calibration)


async def test_cheater_is_caught_slashed_and_left_and_nobody_else_is_accused(
    town: AuditTown, court: Court, vllm_engine: SharedEngine
) -> None:
    _, job = await live_through(
        town, court, packaged_thresholds(), THREE, lambda: judge_of(town, vllm_engine)
    )
    assert (await job.status()).state is JobState.SLASHED
