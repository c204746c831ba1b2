"""`cocoon gateway` as a process of its own, on `cocoon sandbox up`: started, used, stopped, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from cocoon_sdk.cli.main import app
from tests.helpers.local_sandbox import cocoon, read_document, sandbox_up

pytestmark = pytest.mark.xdist_group("cli")
runner = CliRunner()
HELLO: Any = [{"role": "user", "content": "one two three"}]
SAID = "[echo, not a model] one two three"
PATIENCE_S = 60
CHUNK = 30_000_000


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Settings of a client with an open escrow on a running sandbox with a worker."""
    with sandbox_up(tmp_path_factory.mktemp("sandbox")) as document:
        settings = document["actors"][0]["config"]
        reads(settings, "escrow", "open", "20", "--daily-limit", "20", "--yes")
        yield settings


def reads(config: str, *arguments: str, code: int = 0) -> Any:
    """Type a command with --json; return what it prints."""
    done = runner.invoke(app, [*arguments, "--json"], env={"COCOON_CONFIG": config})
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def known_sessions(config: str, *database: str) -> list[dict[str, Any]]:
    """Return the sessions that the database knows; the escrow holds those of other tests too."""
    listed = reads(config, "session", "list", *database)["sessions"]
    return [each for each in listed if each["state"] != "unknown here"]


@dataclass
class Running:
    process: subprocess.Popen[str]
    start: dict[str, Any]
    logs: Path

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=self.start["url"], api_key=key, max_retries=0)


@contextmanager
def gateway(config: str, folder: Path, *arguments: str) -> Iterator[Running]:
    """Run `cocoon gateway --json` on a free port with a database in the folder."""
    logs = folder / "gateway.log"
    options = ("--port", "0", "--database", str(folder / "gateway.sqlite"), "--json", *arguments)
    with logs.open("a") as err:
        settings = {"COCOON_CONFIG": config, "COCOON_GATEWAY_BUDGET_CHUNK": "0.03"}
        process = cocoon("gateway", *options, env={**os.environ, **settings}, err=err)
    assert process.stdout is not None
    try:
        yield Running(process, read_document(process.stdout), logs)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        process.stdout.close()


def test_user_gets_answers_and_the_gateway_stops_cleanly(config: str, tmp_path: Path) -> None:
    with gateway(config, tmp_path, "--spend-per-day", "1") as running:
        start = running.start
        assert start["models"][0]["name"] == "echo"
        assert start["money"]["limits_ton"]["per_day"] == "1"
        assert start["keys_required"] is False
        with running.client() as client:
            whole = client.chat.completions.create(model="echo", messages=HELLO)
            assert whole.choices[0].message.content == SAID
            with client.chat.completions.stream(model="echo", messages=HELLO) as stream:
                assert stream.get_final_completion().choices[0].message.content == SAID
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 0
        logs = [json.loads(line) for line in running.logs.read_text().splitlines()]
        assert [each["event"] for each in logs][-2:] == ["stopping", "stopped"]
        assert "one two three" not in running.logs.read_text()


def test_killed_gateway_goes_on_with_its_session_and_its_keys(config: str, tmp_path: Path) -> None:
    database = ("--database", str(tmp_path / "gateway.sqlite"))
    key = reads(config, "gateway", "keys", "add", "app", "--budget", "1", *database)["key"]
    with gateway(config, tmp_path) as running, running.client(key) as client:
        assert running.start["keys_required"] is True
        first = client.chat.completions.create(model="echo", messages=HELLO, max_tokens=20)
        running.process.kill()
        running.process.wait(PATIENCE_S)
    with gateway(config, tmp_path) as running, running.client(key) as client:
        assert running.start["money"]["sessions"]["open"] == 1
        second = client.chat.completions.create(model="echo", messages=HELLO, max_tokens=20)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE_S) == 0
    (use,) = reads(config, "gateway", "keys", "list", *database)
    costs = [each.usage.model_extra["cost"]["nano_ton"] for each in (first, second) if each.usage]  # type: ignore[index]
    assert int(use["spent_nano"]) in (costs[1], sum(costs))
    # What was killed had set a chunk aside, and nothing more.
    assert 0 <= int(use["held_nano"]) <= CHUNK
    assert len(known_sessions(config, *database)) == 1


def test_gateway_cannot_listen_to_others_without_a_key(config: str, tmp_path: Path) -> None:
    database = ("--database", str(tmp_path / "gateway.sqlite"))
    error = reads(config, "gateway", "--host", "0.0.0.0", "--port", "0", *database, code=1)["error"]
    assert error["what"] == "refused to listen on 0.0.0.0"
    assert "cocoon gateway keys add" in error["hint"]


def test_dry_run_shows_everything_and_serves_nothing(config: str, tmp_path: Path) -> None:
    database = ("--database", str(tmp_path / "gateway.sqlite"))
    shown = reads(config, "gateway", "--dry-run", *database)
    assert shown["dry_run"] is True
    assert shown["url"] is None
    assert float(shown["money"]["escrow_free_ton"]) > 0
    done = runner.invoke(app, ["gateway", "--dry-run", *database], env={"COCOON_CONFIG": config})
    assert "every program on this machine may spend" in done.stdout
    assert known_sessions(config, *database) == []


def test_operator_can_make_change_and_revoke_keys(config: str, tmp_path: Path) -> None:
    database = ("--database", str(tmp_path / "gateway.sqlite"))
    made = reads(
        config,
        "gateway",
        "keys",
        "add",
        "app",
        "--budget",
        "1.5",
        "--rpm",
        "60",
        "--model",
        "echo",
        *database,
    )
    assert made["key"].startswith(f"sk-cocoon-{made['id']}-")
    assert made["budget_nano"] == "1500000000"
    changed = reads(
        config, "gateway", "keys", "set-budget", "app", "--no-budget", "--daily-budget", "0.1", *database
    )
    assert (changed["budget_nano"], changed["daily_budget_nano"]) == (None, "100000000")
    assert changed["requests_per_minute"] == 60
    again = reads(config, "gateway", "keys", "add", "app", *database, code=1)["error"]
    assert "taken" in again["why"]
    nothing = reads(config, "gateway", "keys", "set-budget", "app", *database, code=1)["error"]
    assert nothing["why"] == "none is named"
    reads(config, "gateway", "keys", "revoke", made["id"], *database)
    (listed,) = reads(config, "gateway", "keys", "list", *database)
    assert listed["revoked"] is not None
    assert "key" not in listed
    shown = runner.invoke(app, ["gateway", "keys", "list", *database], env={"COCOON_CONFIG": config}).stdout
    assert "revoked" in shown
