"""Clients that are killed between a finding and its dispute: real processes, one dispute, no bond twice."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.auditing import AuditOutcome, DisputeStep
from cocoon_sdk.client.auditing.checks import Checks
from cocoon_sdk.history import JobEventKind
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.server import ToncenterServer
from tests.helpers.audit_town import HOT, AuditTown, audit_town
from tests.helpers.sdk import MODEL_NAME, chat

_PATIENCE_S = 120


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[AuditTown]:
    async with audit_town(blockchain, tmp_path) as made:
        yield made


async def caught(town: AuditTown, client: AsyncCocoon) -> Any:
    """Let a liar's job be submitted and found out, with its dispute still to be sent."""
    liar = await town.worker("mallory", lies=True)
    job = await client.jobs.create(model=MODEL_NAME, request={"messages": chat(), **HOT})
    await town.settle()
    await job.result(timeout=30)
    assert await client.audits.idle()
    while (await job.status()).state is not JobState.SUBMITTED:
        town.place.rig.warp(60)
        await liar.settle()
    (finding,) = await client.audits.list()
    assert (finding.outcome, finding.dispute) == (AuditOutcome.FAILED, DisputeStep.WANTED)
    return job


async def run(town: AuditTown, client: AsyncCocoon, endpoint: str, dies: str) -> int | None:
    """See to the dispute in another process, which dies or not; return its exit code."""
    asked = {
        "endpoint": endpoint,
        "registry": town.town.suite.network.registry.to_str(),
        "owner": client._context.owner_wallet("test").address.to_str(),
        "place": str(town.folder / "client.sqlite"),
        "dies": dies,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.helpers.audit_process", json.dumps(asked)
    )
    await asyncio.wait_for(process.wait(), _PATIENCE_S)
    return process.returncode


@pytest.mark.parametrize("dies", ["before", "after"])
async def test_dispute_is_sent_once_when_the_client_was_killed(
    town: AuditTown, blockchain: Blockchain, dies: str
) -> None:
    client = await town.client()
    job = await caught(town, client)
    bond = await job.bond()
    async with Node(blockchain) as node, ToncenterServer(node) as server:
        endpoint = f"{server.url}/api/v2"
        assert await run(town, client, endpoint, dies) == -9
        (finding,) = await client.audits.list()
        assert (finding.dispute, finding.bond) == (DisputeStep.WANTED, bond)
        assert (await job.status()).state is (JobState.SUBMITTED if dies == "before" else JobState.DISPUTED)
        before = (await client.escrow.balance()).free
        assert await run(town, client, endpoint, "") == 0
    (finding,) = await client.audits.list()
    assert (finding.dispute, finding.bond) == (DisputeStep.DISPUTED, bond)
    assert (await job.status()).state is JobState.DISPUTED
    assert [event.kind for event in await job.history()].count(JobEventKind.DISPUTED) == 1
    if dies == "after":
        assert (await client.escrow.balance()).free == before  # nothing was sent once more
    await client.audits.keep()
    assert [event.kind for event in await job.history()].count(JobEventKind.DISPUTED) == 1


async def test_check_of_a_process_that_died_is_given_up(
    town: AuditTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.worker("alice")
    first = await town.client()
    job = await first.jobs.create(model=MODEL_NAME, request={"messages": chat(), **HOT})
    await town.settle()

    async def stuck(self: Checks, *values: object) -> AuditOutcome:
        raise RuntimeError("the process dies here")

    monkeypatch.setattr(Checks, "_conclude", stuck)
    await job.result(timeout=30)
    assert await first.audits.idle()
    second = town.town.cocoon(
        audit=town.policy(), database=town.folder / "client.sqlite", clock=town.place.rig.clock
    )
    (finding,) = await second.audits.list()
    assert finding.outcome is AuditOutcome.UNDER_WAY
    await second.audits.keep()
    assert (await second.audits.list())[0].outcome is AuditOutcome.UNDER_WAY  # its holder may be alive
    town.place.rig.clock.advance(400)
    await second.audits.keep()
    (finding,) = await second.audits.list()
    assert finding.outcome is AuditOutcome.UNCHECKED
    (score,) = await second.audits.scores()
    assert (score.unchecked, score.checked) == (1, 0)
