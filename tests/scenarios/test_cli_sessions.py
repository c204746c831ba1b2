"""`cocoon session` as people type it, against `cocoon sandbox up`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cocoon_sdk.cli.main import app
from tests.helpers.local_sandbox import sandbox_up

pytestmark = pytest.mark.xdist_group("cli")
runner = CliRunner()


class Person:
    """Types commands with the settings of the sandbox's client and a database of its own."""

    def __init__(self, config: str, database: Path) -> None:
        self.environment = {"COCOON_CONFIG": config, "COCOON_DATABASE": str(database)}

    def types(self, *arguments: str, code: int = 0) -> Result:
        done = runner.invoke(app, arguments, env=self.environment)
        assert done.exit_code == code, done.output
        return done

    def reads(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.types(*arguments, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with sandbox_up(tmp_path_factory.mktemp("sandbox")) as document:
        yield document


@pytest.fixture(scope="module")
def client(sandbox: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Person:
    person = Person(sandbox["actors"][0]["config"], tmp_path_factory.mktemp("database") / "sessions.db")
    person.types("escrow", "open", "20", "--daily-limit", "20", "--yes")
    return person


def test_client_can_open_top_up_and_close_a_session(client: Person, sandbox: dict[str, Any]) -> None:
    asked = ("session", "open", "--model", "echo", "--deposit", "0.05")
    planned = client.reads(*asked, "--dry-run")
    assert planned["dry_run"] is True
    assert float(planned["moves"][0]["amount"]) > 0.05
    assert client.reads(*asked, code=1)["error"]["type"] == "NotConfirmedError"
    assert client.reads("session", "list")["sessions"] == []

    opened = client.reads(*asked, "--yes")
    number = str(opened["id"])
    assert (opened["state"], opened["worker"], opened["deposit_nano"]) == (
        "open",
        sandbox["worker"],
        "50000000",
    )
    assert opened["holder"] is None  # whoever asks this worker next uses it
    more = ("session", "topup", number, "0.02")
    assert client.reads(*more, "--dry-run")["dry_run"] is True
    assert client.reads(*more, "--yes")["deposit_nano"] == "70000000"
    shown = client.types("session", "list").stdout
    assert "0.07 TON" in shown
    assert sandbox["worker"] in shown

    assert client.reads("session", "close", number, "--dry-run")["dry_run"] is True
    closed = client.reads("session", "close", number, "--yes")
    assert (closed["state"], closed["why"]) == ("closing", "closed by hand")
    assert closed["settle_at"] > 0
    assert "can be settled from" in client.types("session", "show", number).stdout
    assert client.reads("session", "settle", number, "--yes", code=1)["error"]["type"] == "TooEarlyError"


def test_client_can_tidy_up_after_itself(client: Person) -> None:
    opened = client.reads("session", "open", "--model", "echo", "--deposit", "0.05", "--yes")
    assert client.reads("session", "tidy", code=1)["error"]["type"] == "NotConfirmedError"
    assert client.reads("session", "tidy", "--yes")["closed"] == []
    assert client.reads("session", "tidy", "--idle", "0", "--yes")["closed"] == [opened["id"]]
    assert "Nothing to do" in client.types("session", "tidy", "--yes").stdout


def test_client_can_end_a_session_that_its_database_does_not_know(client: Person, tmp_path: Path) -> None:
    opened = client.reads("session", "open", "--model", "echo", "--deposit", "0.05", "--yes")
    number = str(opened["id"])
    lost = ("--database", str(tmp_path / "other.db"))
    listed = client.reads("session", "list", *lost)
    assert listed["database"] == str(tmp_path / "other.db")
    assert [each["state"] for each in listed["sessions"] if each["id"] == opened["id"]] == ["unknown here"]
    error = client.reads("session", "topup", number, "0.01", *lost, "--yes", code=1)["error"]
    assert "knows nothing of what was signed" in error["why"]
    assert client.reads("session", "close", number, *lost, "--yes")["settle_at"] > 0
    assert client.reads("session", "tidy", "--yes")["closed"] == [opened["id"]]  # who knows it, notes it


def test_client_is_told_why_a_session_cannot_be_disputed(client: Person, tmp_path: Path) -> None:
    opened = client.reads("session", "open", "--model", "echo", "--deposit", "0.05", "--yes")
    asked = ("session", "dispute", str(opened["id"]))
    assert "64 hex digits" in client.reads(*asked, "12", "--yes", code=1)["error"]["why"]
    noise = tmp_path / "noise.evidence"
    noise.write_bytes(b"no evidence")
    assert client.reads(*asked, str(noise), "--yes", code=1)["error"]["type"] == "MalformedError"
    again = ("session", "evidence", str(opened["id"]), str(noise))
    assert client.reads(*again, code=1)["error"]["type"] == "MalformedError"
    refused = client.reads(*asked, "ab" * 32, "--yes", code=1)["error"]
    assert (refused["type"], "no collateral" in refused["why"]) == ("SessionRefusedError", True)
    assert opened["disputed"] is False


def test_client_can_end_and_empty_what_runs_under_the_code_before(client: Person) -> None:
    before = Person("", Path())
    before.environment = {**client.environment, "COCOON_PREVIOUS_CODE": "true"}
    before.types("escrow", "open", "2", "--daily-limit", "2", "--yes")
    opened = before.reads("session", "open", "--model", "echo", "--deposit", "0.05", "--yes")

    there = ("--previous-code",)
    listed = client.reads("session", "list", *there)["sessions"]
    assert [each["deposit_nano"] for each in listed] == ["50000000"]
    closed = client.reads("session", "close", str(opened["id"]), *there, "--yes")
    assert (closed["state"], client.reads("session", "show", str(opened["id"]), *there)) == (
        "closing",
        closed,
    )
    balance = client.reads("escrow", "balance", *there)
    assert balance["address"] != client.reads("escrow", "balance")["address"]
    assert float(balance["rent"]) == 0.1
    client.types("escrow", "withdraw", "all", *there, "--yes")
    assert float(client.reads("escrow", "balance", *there)["free"]) < 0.002
    assert float(client.reads("escrow", "balance")["free"]) > 10


def test_client_is_told_what_is_wrong(client: Person) -> None:
    assert client.reads("session", "show", "4000000", code=1)["error"]["type"] == "SessionRefusedError"
    nothing = client.reads("session", "open", "--model", "nothing", "--yes", code=1)
    assert nothing["error"]["type"] == "UnknownModelError"
    tiny = client.reads("session", "open", "--model", "echo", "--deposit", "0.000001", "--yes", code=1)
    assert "is no deposit" in tiny["error"]["why"]
    large = client.reads("session", "open", "--model", "echo", "--deposit", "19.999", "--yes", code=1)
    assert large["error"]["type"] in ("InsufficientEscrowError", "SpendLimitError")
    far = client.reads("session", "list", "--database", "mysql://x", code=1)
    assert far["error"]["type"] == "ConfigError"
