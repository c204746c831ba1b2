"""`cocoon demo --engine echo`: the whole paid path in one process, its books, and its end by Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.demo.books import Books
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.local_sandbox import cocoon

PROMPT = 'Say: "fünf [bold]$HOME[/] `x`"'
_PATIENCE_S = 60


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Keep the demo's cache and temporary files where the test can look for leftovers."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COCOON_")}
    return {**kept, "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(temporary)}


def leftovers(environment: dict[str, str]) -> list[str]:
    return [path.name for path in Path(environment["TMPDIR"]).iterdir()]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("demo")
    env = {**os.environ, "XDG_CACHE_HOME": str(folder), "COCOON_PROMPT": PROMPT}
    process = cocoon("demo", "--engine", "echo", "--json", env=env, err=subprocess.PIPE)
    out, err = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, err
    assert "Sending the encrypted job" in err
    document: dict[str, Any] = json.loads(out)
    return document


def test_demo_answers_the_prompt_through_a_paid_job(report: dict[str, Any]) -> None:
    assert report["answer"] == f"[echo, not a model] {PROMPT}"
    assert report["engine"] == "echo"
    assert report["arrival"].startswith("handed over")
    assert report["usage"]["input_tokens"] == len(PROMPT.split())


def test_demo_accounts_for_every_nanoton(report: dict[str, Any]) -> None:
    assert report["balanced"] is True
    ledger = {name: Decimal(amount) for name, amount in report["ledger"].items()}
    assert ledger["missing"] == ledger["in_flight"] == 0
    assert ledger["minted"] == ledger["balances"] + ledger["fees"]
    balances = report["balances"]
    assert sum(Decimal(row["after"]) for row in balances) == ledger["balances"]
    assert sum(Decimal(row["before"]) for row in balances) == ledger["minted"]
    assert sum(Decimal(row["change"]) for row in balances) == -ledger["fees"]
    fees = sum(Decimal(row["fees"]) + Decimal(row["forward_fees"]) for row in report["transactions"])
    assert fees == ledger["fees"]


def test_demo_names_everybody_and_every_message(report: dict[str, Any]) -> None:
    assert {row["name"] for row in report["balances"]} == {
        "governor",
        "registry",
        "market of echo",
        "worker's wallet",
        "worker's stake",
        "client's wallet",
        "client's escrow",
    }
    kinds = [row["what"] for row in report["transactions"]]
    assert kinds[-4:] == ["signed request", "JobOffer", "signed request", "Reward"]
    assert not any(row["result"] for row in report["transactions"])


def test_demo_takes_seconds(report: dict[str, Any]) -> None:
    # Its own steps, without starting Python; far above what they take, far below what would annoy.
    assert sum(timing["seconds"] for timing in report["timings"]) < 15


@pytest.mark.parametrize("prompt", ["", " ", "x" * 5000])
def test_demo_refuses_a_prompt_that_it_cannot_send(prompt: str, environment: dict[str, str]) -> None:
    process = cocoon("demo", "--engine", "echo", f"--prompt={prompt}", env=environment, err=subprocess.PIPE)
    out, err = process.communicate(timeout=_PATIENCE_S)
    assert (process.returncode, out) == (1, "")
    assert "cannot ask this" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_demo_leaves_nothing_behind_when_it_is_interrupted(
    number: signal.Signals, code: int, environment: dict[str, str]
) -> None:
    process = cocoon("demo", "--engine", "echo", env=environment, err=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if "Staking a worker" in line:
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=_PATIENCE_S)
    assert (process.returncode, out) == (code, ""), err
    assert "Traceback" not in err
    assert leftovers(environment) == []


# -- the books ------------------------------------------------------------------------------------------


def spoil_nothing(_: Blockchain) -> None:
    """Leave the books as they are."""


def mint_on_the_side(blockchain: Blockchain) -> None:
    """Money that the ledger knows of but nobody holds."""
    blockchain._state.minted += 1


def lose_a_fee(blockchain: Blockchain) -> None:
    """A fee that validators never got."""
    blockchain._state.fees -= 1


@pytest.mark.parametrize(
    ("spoil", "balanced"), [(spoil_nothing, True), (mint_on_the_side, False), (lose_a_fee, False)]
)
def test_books_balance_only_when_no_nanoton_is_missing(
    spoil: Callable[[Blockchain], None], balanced: bool
) -> None:
    blockchain = Blockchain()
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    books = Books(blockchain)
    alice.send(bob.address, Nano.ton("1.5"))
    spoil(blockchain)
    statement = books.close({alice.address: "alice", bob.address: "bob"})
    assert statement.is_balanced is balanced
    assert statement.to_json()["balanced"] is balanced
    assert ("Not one nanoTON is unaccounted for" in statement.verdict()) is balanced


def test_books_do_not_balance_while_money_is_under_way() -> None:
    blockchain = Blockchain()
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    books = Books(blockchain)
    blockchain.hold()
    alice.send(bob.address, Nano.ton(1))
    statement = books.close({})
    assert not statement.is_balanced
    assert statement.closing.in_flight > Nano.ton(1)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("demo")
    env = {**os.environ, "XDG_CACHE_HOME": str(folder), "COCOON_PROMPT": PROMPT}
    process = cocoon("demo", "--engine", "echo", "--mode", "session", "--json", env=env, err=subprocess.PIPE)
    out, err = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_demo_streams_fifty_requests_over_one_session(streamed: dict[str, Any]) -> None:
    assert streamed["answer"] == f"[echo, not a model] {PROMPT}"
    assert streamed["requests"] == streamed["receipts"] == 50
    assert int(streamed["cost_nano"]) <= int(streamed["redeemed_nano"]) <= int(streamed["signed_nano"])


def test_demo_settles_a_session_by_one_redemption(streamed: dict[str, Any]) -> None:
    kinds = [each["what"] for each in streamed["transactions"]]
    assert kinds.count("Redeem") == kinds.count("Reward") == 1
    assert "Submit" not in kinds
    assert streamed["balanced"] is True
    ledger = {name: Decimal(amount) for name, amount in streamed["ledger"].items()}
    assert ledger["missing"] == ledger["in_flight"] == 0
