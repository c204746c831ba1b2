"""`cocoon audit` as people type it, over a database with findings."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core import Address
from typer.testing import CliRunner

from cocoon_sdk.cli.main import app
from cocoon_sdk.client.auditing.records import Audited, AuditOutcome, AuditSubject, DisputeStep
from cocoon_sdk.client.auditing.store import AuditStore, Conclusion, Judge, Judgement
from cocoon_sdk.client.auditing.tables import AUDITS_SCHEMA
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.storage import open_database
from cocoon_sdk.types import Hash, Nano
from tests.helpers.local_sandbox import sandbox_up

pytestmark = pytest.mark.xdist_group("cli")
WORKER = Address((0, bytes(31) + b"\7"))
NOW = 1_800_000_000


def judge(leave: str, step: DisputeStep) -> Judge:
    return lambda state: Judgement({"v": 1}, leave, step)


async def write(place: Path, escrow: Address) -> None:
    """Put a passed request and a disputed job of the same worker into a database."""
    database = await open_database(place, AUDITS_SCHEMA)
    store, domain = AuditStore(database), Domain(-239, escrow, 1)
    for what, number, request, outcome in (
        (Audited.REQUEST, 3, 14, AuditOutcome.PASSED),
        (Audited.JOB, 4, 0, AuditOutcome.FAILED),
    ):
        subject = AuditSubject(
            what, domain, number, request, WORKER, Hash(bytes(32)), "Org/Tiny-1B", Nano(1000)
        )
        failed = outcome is AuditOutcome.FAILED
        assert await store.begin(subject, "me", NOW + number, NOW + 60)
        made = Conclusion(outcome, "the reason", NOW + 9, cost=Nano(250))
        step = DisputeStep.WANTED if failed else DisputeStep.NONE
        await store.conclude(subject, "me", made, judge("it lied" if failed else "", step))
    await database.close()


def test_client_can_look_at_findings_and_scores_and_forgive(tmp_path: Path) -> None:
    with sandbox_up(tmp_path) as sandbox:
        environment = {
            "COCOON_CONFIG": sandbox["actors"][0]["config"],
            "COCOON_DATABASE": str(tmp_path / "client.db"),
        }

        def types(*arguments: str, code: int = 0) -> str:
            done = CliRunner().invoke(app, arguments, env={**environment, "COLUMNS": "300"})
            assert done.exit_code == code, done.output
            return done.stdout

        def reads(*arguments: str, code: int = 0) -> Any:
            return json.loads(types(*arguments, "--json", code=code))

        types("escrow", "open", "5", "--daily-limit", "5", "--yes")
        assert reads("audit", "list") == []
        assert "No scores." in types("audit", "score")
        escrow = Address(reads("escrow", "balance")["address"])
        asyncio.run(write(tmp_path / "client.db", escrow))

        job, request = reads("audit", "list")
        assert (job["what"], job["number"], job["outcome"], job["dispute"]) == ("job", 4, "failed", "wanted")
        assert (request["number"], request["request"], request["cost_nano"]) == (3, 14, "250")
        assert "request 14 of session 3" in types("audit", "list")
        assert reads("audit", "list", "--most", "1") == [job]
        assert reads("audit", "list", "--worker", "0:" + "00" * 32) == []
        (score,) = reads("audit", "score")
        assert (score["passed"], score["failed"], score["left_why"]) == (1, 1, "it lied")
        assert "it lied" in types("audit", "score")
        assert reads("audit", "forgive", WORKER.to_str())["forgiven"] is True
        assert reads("audit", "score") == []
        assert reads("audit", "forgive", "nobody", code=1)["error"]["type"] == "MalformedError"
