"""The whole command line against `cocoon sandbox up`: a client's and a worker's day, as people type it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cocoon_sdk.cli.main import app
from cocoon_sdk.cli.verify_options import EXIT_NOT_CHECKABLE
from cocoon_sdk.crypto import SigningKey, write_key_file
from tests.helpers.local_sandbox import sandbox_up

pytestmark = pytest.mark.xdist_group("cli")
runner = CliRunner()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with sandbox_up(tmp_path_factory.mktemp("sandbox")) as document:
        yield document


class Person:
    """Types commands with the settings of one of the sandbox's actors."""

    def __init__(self, config: str) -> None:
        self.config = config

    def types(self, *arguments: str, code: int = 0) -> Result:
        done = runner.invoke(app, arguments, env={"COCOON_CONFIG": self.config})
        assert done.exit_code == code, done.output
        return done

    def reads(self, *arguments: str, code: int = 0) -> Any:
        """Type a command with --json and return the one document on standard output."""
        return json.loads(self.types(*arguments, "--json", code=code).stdout)


@pytest.fixture
def client(sandbox: dict[str, Any]) -> Person:
    return Person(sandbox["actors"][0]["config"])


@pytest.fixture
def worker(sandbox: dict[str, Any]) -> Person:
    return Person(sandbox["actors"][1]["config"])


@pytest.fixture
def escrow(client: Person) -> str:
    """Open the client's escrow unless an earlier test did; return its address."""
    shown = runner.invoke(app, ["escrow", "balance", "--json"], env={"COCOON_CONFIG": client.config})
    if shown.exit_code:
        return str(client.reads("escrow", "open", "20", "--daily-limit", "20", "--yes")["escrow"])
    return str(json.loads(shown.stdout)["address"])


def opened(client: Person, *options: str) -> int:
    arguments = ("--model", "echo", "--prompt", "one two three", "--max-output-tokens", "50")
    return int(client.reads("job", "create", *arguments, *options, "--yes")["id"])


def test_client_is_told_how_to_open_an_escrow_when_there_is_none(client: Person) -> None:
    error = client.reads("escrow", "balance", "--index", "7", code=1)["error"]
    assert error["what"] == "you have no open escrow"
    assert "cocoon escrow open" in error["hint"]


def test_client_can_see_models_and_workers(client: Person, sandbox: dict[str, Any]) -> None:
    assert [model["name"] for model in client.reads("models", "list")] == ["echo"]
    (offer,) = client.reads("workers", "list", "echo")["workers"]
    assert (offer["worker"], offer["output"]) == (sandbox["worker"], "20")
    assert "echo" in client.types("models", "list").stdout
    assert sandbox["worker"] in client.types("workers", "list", "echo", "--ignored").stdout
    assert client.reads("workers", "list", "nothing", code=1)["error"]["type"] == "UnknownModelError"


def test_client_can_open_fund_and_empty_an_escrow(client: Person) -> None:
    index = ("--index", "1")
    planned = client.reads("escrow", "open", "5", "--daily-limit", "2", *index, "--dry-run")
    assert planned["dry_run"] is True
    refused = client.reads("escrow", "open", "5", "--daily-limit", "2", *index, code=1)["error"]
    assert refused["type"] == "NotConfirmedError"
    client.reads("escrow", "balance", *index, code=1)  # neither of them opened it

    client.types("escrow", "open", "5", "--daily-limit", "2", *index, "--yes")
    client.types("escrow", "deposit", "1.5", *index, "--yes")
    balance = client.reads("escrow", "balance", *index)
    assert float(balance["free"]) > 6.5
    assert balance["daily_limit"] == "2"
    client.types("escrow", "set-limits", "--daily-limit", "3", *index, "--yes")
    client.types("escrow", "withdraw", "all", *index, "--yes")
    balance = client.reads("escrow", "balance", *index)
    assert (balance["daily_limit"], balance["jobs"]) == ("3", 0)
    assert float(balance["free"]) < 0.1
    assert "free to withdraw" in client.types("escrow", "balance", *index).stdout


def test_owner_needs_no_hot_key_to_move_money(client: Person, escrow: str, tmp_path: Path) -> None:
    owner = Person(str(tmp_path / "owner.toml"))
    lines = Path(client.config).read_text().splitlines(keepends=True)
    Path(owner.config).write_text("".join(line for line in lines if not line.startswith("hot_key_file")))
    owner.types("escrow", "deposit", "1", "--yes")
    error = owner.reads("job", "create", "--model", "echo", "--prompt", "x", "--yes", code=1)["error"]
    assert error["what"] == "the escrow's hot key is needed for this"


def test_client_can_buy_an_answer_and_see_why_it_cost_what_it_did(client: Person, escrow: str) -> None:
    number = opened(client)
    assert client.reads("job", "list")[0]["id"] == number
    result = client.reads("job", "result", str(number), "--wait", "60")
    assert result["response"]["choices"][0]["message"]["content"] == "[echo, not a model] one two three"
    assert result["accepted"] is False
    assert client.reads("job", "accept", str(number), code=1)["error"]["type"] == "NotConfirmedError"
    paid = client.reads("job", "accept", f"{escrow}/{number}", "--yes")
    assert (paid["state"], paid["amount_nano"]) == ("paid", "1000000")
    assert client.reads("job", "list") == []
    assert client.reads("job", "list", "--last", "1")[0]["state"] == "paid"

    told = client.reads("explain", f"{escrow}/{number}")
    facts = [fact for section in told["sections"] for fact in section["facts"]]
    payment = next(fact for fact in facts if fact["kind"] == "worker_paid")
    assert payment["amount"] == {"nano": "1000000", "ton": "0.001"}
    assert "handed over directly" in client.types("explain", f"{escrow}/{number}").stdout
    transaction = f"{payment['tx']['address']}@{payment['tx']['lt']}"
    assert "accept signed" in client.types("explain", transaction).stdout
    assert "genuine" in client.types("explain", escrow).stdout


def test_client_is_told_when_there_is_nothing_to_verify(client: Person, escrow: str) -> None:
    number = opened(client)  # the echo engine's offers promise nothing
    endpoint = ("--endpoint", "http://127.0.0.1:9/v1")  # nobody is asked
    for name in ((str(number),), ("job", f"{escrow}/{number}")):
        error = client.reads("verify", *name, *endpoint, code=EXIT_NOT_CHECKABLE)["error"]
        assert error["type"] == "NotCheckableError"
    client.reads("job", "accept", str(number), "--yes", "--wait", "60")
    assert "--endpoint" in client.types("verify", str(number), code=2).output


def test_client_can_buy_from_whoever_claims_first(
    client: Person, escrow: str, sandbox: dict[str, Any]
) -> None:
    number = opened(client, "--worker", "open")
    result = client.reads("job", "result", str(number), "--wait", "60")
    assert result["response"]["choices"][0]["message"]["content"].endswith("one two three")
    status = client.reads("job", "status", str(number))
    assert status["worker"] == sandbox["worker"]
    assert client.types("job", "accept", str(number), "--dry-run").stdout == ""
    assert client.reads("job", "accept", str(number), "--yes")["state"] == "paid"


def test_client_cannot_take_back_what_a_worker_is_at_work_on(client: Person, escrow: str) -> None:
    number = opened(client)
    error = client.reads("job", "cancel", str(number), "--yes", code=1)["error"]
    assert error["type"] in ("TooEarlyError", "WrongStateError")
    assert client.reads("job", "dispute", str(number), "--dry-run")["moves"][0]["amount"] == "0.2"
    assert client.reads("job", "accept", str(number), "--yes", "--wait", "60")["state"] == "paid"
    assert client.reads("job", "cancel", str(number), "--yes", code=1)["error"]["type"] == "NoJobError"


def test_client_cannot_ask_for_jobs_that_are_not_its_own(client: Person, worker: Person, escrow: str) -> None:
    worker.types("escrow", "open", "1", "--daily-limit", "1", "--yes")
    error = worker.reads("job", "status", f"{escrow}/1", code=1)["error"]
    assert error["why"].startswith("your escrow is")
    assert client.reads("job", "status", "4000000", code=1)["error"]["type"] == "NoJobError"


def test_request_cannot_be_both_prompt_and_file_or_not_json(
    client: Person, escrow: str, tmp_path: Path
) -> None:
    broken = tmp_path / "request.json"
    broken.write_text("[]")
    for arguments in ((), ("--prompt", "x", "--request", str(broken)), ("--request", str(broken))):
        error = client.reads("job", "create", "--model", "echo", *arguments, "--yes", code=1)["error"]
        assert error["type"] == "ConfigError"


def test_owner_can_replace_the_hot_key(client: Person, tmp_path: Path) -> None:
    index = ("--index", "2")
    client.types("escrow", "open", "1", "--daily-limit", "1", *index, "--yes")
    address = client.reads("escrow", "balance", *index)["address"]
    key = SigningKey.generate()
    write_key_file(tmp_path / "new.key", key)
    client.types("escrow", "set-key", str(tmp_path / "new.key"), *index, "--yes")
    assert key.verify_key.hex in client.types("explain", address).stdout


def test_worker_can_stake_unbond_and_collect(worker: Person, tmp_path: Path) -> None:
    key = tmp_path / "operator.key"
    setup = ("worker", "setup", "--operator-key", str(key), "--stake", "3", "--gas", "2")
    assert worker.reads(*setup, "--dry-run")["dry_run"] is True
    assert not key.exists()
    worker.types(*setup, "--yes")
    assert key.exists()
    worker.types("worker", "add-stake", "1", "--yes")
    facts = worker.reads("worker", "status")["sections"][1]["facts"]
    stake = next(fact["value"] for fact in facts if fact["name"] == "stake")
    assert stake["ton"] == "4"
    worker.types("worker", "unbond", "1", "--yes")
    again = worker.reads("worker", "unbond", "1", "--yes", code=1)["error"]
    assert again["type"] == "InsufficientStakeError"
    worker.types("worker", "withdraw", "--keep-gas", "1", "--yes")
    assert worker.reads("worker", "withdraw", "--keep-gas", "10", "--yes")["sent"] is False


def test_reader_is_told_of_an_endpoint_that_is_down(client: Person) -> None:
    done = runner.invoke(
        app,
        ["--endpoint", "http://127.0.0.1:9/api/v2", "models", "list", "--json"],
        env={"COCOON_CONFIG": client.config},
    )
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["type"] == "ChainUnavailableError"
