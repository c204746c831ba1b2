"""`cocoon verify` on real jobs: what it fetches, what it says, and the exit codes that scripts go by."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cocoon_sdk.cli.verify import Asked, asked_of
from cocoon_sdk.cli.verify_report import BEYOND, report
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.verify.checking import Findings, NotCheckableError
from cocoon_sdk.verify.rescoring import Verifier
from cocoon_sdk.verify.structure import Level
from cocoon_sdk.verify.verifying import verify
from tests.helpers.audit_town import HOT, AuditTown, audit_town, thresholds
from tests.helpers.sdk import MODEL_NAME, chat
from tests.helpers.vllm_double import MODEL


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[AuditTown]:
    async with audit_town(blockchain, tmp_path) as made:
        yield made


async def bought(town: AuditTown, **offer: Any) -> Asked:
    """Buy an answer without audits; return it as the command fetches it."""
    await town.worker("alice", **offer)
    client = await town.client(audit=None)
    job = await client.jobs.create(model=MODEL_NAME, request={"messages": chat(), **HOT}, accept="manual")
    await town.settle()
    return await asked_of(client, client.jobs.get(job.id, accept="manual"), 30)


async def judged(town: AuditTown, asked: Asked, **options: Any) -> Findings:
    async with Verifier(town.verifier.url, None, MODEL) as verifier:
        limits = options.pop("limits", thresholds())
        return await verify(asked.question, asked.response, asked.commitment, verifier, limits, **options)


def drawn(findings: Findings) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(report(findings))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_client_sees_that_an_honest_answer_is_honest(town: AuditTown) -> None:
    asked = await bought(town)
    assert asked.question.sampling is SamplingClass.REPLAYABLE
    assert asked.model == MODEL_NAME
    findings = await judged(town, asked)
    assert findings.level is Level.HONEST, findings.reasons
    assert not findings.unreplayable
    assert findings.numbers is not None
    text = drawn(findings)
    assert text.startswith("Level: honest\n")
    assert BEYOND not in text.split("beyond it)")[1].splitlines()[1]


async def test_client_sees_what_gives_a_cheaper_model_away(town: AuditTown) -> None:
    findings = await judged(town, await bought(town, lies=True))
    assert findings.level is Level.SLASH
    text = drawn(findings)
    assert "log-probabilities are off by" in text
    assert "from the replayed choice" in text
    assert BEYOND in text
    assert "Tokens that deviate most" in text


async def test_batches_of_several_shapes_are_asked_for_when_wanted(town: AuditTown) -> None:
    asked = await bought(town)
    assert (await judged(town, asked, shapes=(1, 2))).level is Level.HONEST


async def test_numbers_are_shown_but_not_judged_without_thresholds(town: AuditTown) -> None:
    findings = await judged(town, await bought(town, lies=True), limits=None)
    assert findings.level is Level.HONEST
    assert "No thresholds for sampled answers" in drawn(findings)


async def test_answer_without_promise_cannot_be_checked(town: AuditTown) -> None:
    asked = await bought(town, sampling="unverified")
    assert asked.commitment is None
    with pytest.raises(NotCheckableError):
        await judged(town, asked)
