"""What `cocoon explain` tells about a job, and how a test finds a fact in it."""

from __future__ import annotations

import json
from typing import Any

from cocoon_sdk.explain import Explanation, JobTarget, explain
from cocoon_sdk.explain.facts import Fact
from cocoon_sdk.explain.job_facts import JobStatus, StandsNow
from cocoon_sdk.sandbox import SandboxChain
from tests.helpers.suite import Client, Suite


async def tell(suite: Suite, client: Client, job_id: int, **options: Any) -> Explanation:
    explanation = await explain(
        SandboxChain(suite.chain), JobTarget(client.address, job_id), network=suite.network, **options
    )
    json.dumps(explanation.to_json())
    assert str(explanation)
    return explanation


def kinds(explanation: Explanation, title: str = "What happened") -> list[type[Fact]]:
    section = next((x for x in explanation.sections if x.title == title), None)
    return [] if section is None else [type(fact) for fact in section.facts]


def only(explanation: Explanation, kind: type[Any]) -> Any:
    (found,) = [fact for fact in explanation.facts if isinstance(fact, kind)]
    return found


def status(explanation: Explanation) -> JobStatus:
    found: JobStatus = only(explanation, StandsNow).status
    return found
