"""`cocoon sandbox ...` as a tester types it, against a sandbox in a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core import Address, begin_cell
from typer.testing import CliRunner

from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.cli.main import app
from cocoon_sdk.client.wallets import KeyWallet
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.types import Nano
from tests.helpers.local_sandbox import cocoon, read_document, sandbox_up

pytestmark = pytest.mark.xdist_group("sandbox-cli")
runner = CliRunner()
NOBODY = "0:" + "17" * 32


class Person:
    """Types commands in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {"XDG_STATE_HOME": str(home), "COCOON_SANDBOX": ""}

    def types(self, *arguments: str, code: int = 0) -> str:
        done = runner.invoke(app, ["sandbox", *arguments], env=self.env)
        assert done.exit_code == code, done.output
        return str(done.stdout)

    def reads(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.types(*arguments, "--json", code=code))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Person, dict[str, Any]]]:
    """A plain sandbox in the default place with one funded wallet."""
    home = tmp_path_factory.mktemp("home")
    tester = Person(home)
    folder = home / "cocoon" / "sandboxes" / "default"
    with sandbox_up(home, "--folder", str(folder), "--no-suite", "--accounts", "1") as document:
        yield tester, document


@pytest.fixture
def tester(running: tuple[Person, dict[str, Any]]) -> Person:
    return running[0]


@pytest.fixture
def document(running: tuple[Person, dict[str, Any]]) -> dict[str, Any]:
    return running[1]


def test_tester_finds_the_running_sandbox_and_its_endpoints(tester: Person, document: dict[str, Any]) -> None:
    (status,) = tester.reads("status")["sandboxes"]
    for name in ("endpoint", "adnl", "adnl_key", "global_config", "folder", "accounts"):
        assert document[name], name
    assert (status["endpoint"], status["persistent"]) == (document["endpoint"], True)
    assert status["names"]["account 1"] == document["accounts"][0]["wallet"]
    config = json.loads(Path(document["global_config"]).read_text())
    assert f"127.0.0.1:{config['liteservers'][0]['port']}" == document["adnl"]
    shown = tester.types("status")
    assert document["endpoint"] in shown
    assert "the clock follows this machine's" in shown


def test_keys_of_funded_accounts_are_private(document: dict[str, Any]) -> None:
    (account,) = document["accounts"]
    file = Path(account["mnemonic_file"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().split()) == 24
    assert document["registry"] is None


def test_tester_can_steer_time_and_blocks(tester: Person) -> None:
    before = tester.reads("status")["sandboxes"][0]
    tester.types("snapshot", "steering")
    assert tester.reads("mine", "3")["seqno"] >= before["seqno"] + 3
    assert tester.reads("warp", "2h")["now"] >= before["now"] + 7200
    assert "holds 2.5 TON" in tester.types("faucet", NOBODY, "2.5")
    assert tester.reads("status")["sandboxes"][0]["ahead_s"] >= 7200
    tester.types("restore", "steering")
    after = tester.reads("status")["sandboxes"][0]
    assert (after["ahead_s"], after["transactions"]) == (before["ahead_s"], before["transactions"])


def test_tester_is_told_what_is_wrong(tester: Person) -> None:
    assert tester.reads("warp", "soon", code=1)["error"]["what"] == "not a duration"
    assert tester.reads("restore", "nothing", code=1)["error"]["what"] == "there is no snapshot 'nothing'"
    assert tester.reads("faucet", "nowhere", "1", code=1)["error"]["why"] == "address is not an address"
    assert tester.reads("reset", code=1)["error"]["hint"] == "Pass --yes"
    assert tester.reads("logs", "--abi", "/nothing.json", code=1)["error"]["type"] == "ConfigError"
    assert tester.reads("up", "--still", code=1)["error"]["what"] == "--still needs --no-suite"
    assert tester.reads("up", "--ephemeral", "--folder", "x", code=1)["error"]["type"] == "ConfigError"
    away = tester.home / "away"
    assert tester.reads("mine", "--folder", str(away), code=1)["error"]["type"] == "NotRunningError"


def test_second_sandbox_cannot_start_in_the_same_folder(tester: Person, document: dict[str, Any]) -> None:
    error = tester.reads("up", "--folder", document["folder"], code=1)["error"]
    assert (error["type"], error["why"]) == ("FolderBusyError", "another process runs it")


async def say_hello(endpoint: str, words: str) -> None:
    """Send a message with an opcode of its own to an account without code."""
    chain = ToncenterChain(endpoint, poll_s=0.05)
    try:
        body = begin_cell().store_uint(0xC0C00, 32).end_cell()
        wallet = KeyWallet.from_mnemonic(chain, words)
        await wallet.send([OwnerMessage(to=Address(NOBODY), value=Nano.ton(1), body=body)])
    finally:
        await chain.close()


def test_tester_reads_traces_with_names(tester: Person, document: dict[str, Any], tmp_path: Path) -> None:
    (account,) = document["accounts"]
    asyncio.run(say_hello(document["endpoint"], Path(account["mnemonic_file"]).read_text().strip()))
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"ops": {"0xc0c00": "Hello"}, "errors": {"33": "WrongSeqno"}}))
    found = tester.reads("logs", NOBODY, "--abi", str(names))["transactions"]
    hello = next(each for each in found if each["op"] == "0x000c0c00")
    assert (hello["op_name"], hello["value"]) == ("Hello", "1000000000")
    trace = tester.reads("logs", "--tx", hello["hash"])["transactions"]
    assert trace[0]["account_name"] == "account 1"
    assert hello["parent"] == trace[0]["hash"]
    tree = tester.types("logs", "--tx", hello["message"], "--abi", str(names))
    assert "account 1" in tree
    assert "Hello" in tree


def test_tester_can_follow_what_happens_until_ctrl_c(tester: Person, document: dict[str, Any]) -> None:
    arguments = ("sandbox", "logs", NOBODY, "-f", "--json", "--folder", document["folder"])
    with cocoon(*arguments, err=subprocess.DEVNULL) as process:
        try:
            gift = tester.reads("faucet", NOBODY, "4")["hash"]
            assert process.stdout is not None
            assert any(json.loads(line)["message"] == gift for line in iter(process.stdout.readline, ""))
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 128 + signal.SIGINT
        finally:
            process.kill()


def test_tester_can_save_accounts_and_fork_them(
    tester: Person, document: dict[str, Any], tmp_path: Path
) -> None:
    (account,) = document["accounts"]
    tester.types("faucet", NOBODY, "3")
    exact, told = tmp_path / "exact.json", tmp_path / "told.json"
    saved = tester.reads("save-accounts", account["wallet"], "0:" + "99" * 32, "-o", str(exact))
    assert (saved["saved"], saved["absent"]) == (1, ["0:" + "99" * 32])
    sources = (document["endpoint"], document["global_config"])
    for source in sources:
        found = tester.reads("save-accounts", account["wallet"], "--from", source, "-o", str(told))
        assert (found["saved"], found["source"]) == (1, source)
    one, other = (json.loads(file.read_text()) for file in (exact, told))
    assert one["config"] == other["config"]
    with sandbox_up(tmp_path, "--no-suite", "--fork", str(exact)) as forked:
        (status,) = tester.reads("status", "--folder", forked["folder"])["sandboxes"]
        assert status["accounts"] == 1
    assert not Path(forked["folder"]).exists()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_sandbox_goes_on_where_it_ended(tmp_path: Path, ending: signal.Signals) -> None:
    tester = Person(tmp_path)
    folder = tmp_path / "sandbox"
    here = ("--folder", str(folder))
    with started(folder, code=-ending if ending is signal.SIGKILL else 128 + ending) as (first, process):
        tester.types("faucet", NOBODY, "7", *here)
        tester.types("snapshot", "here", *here)
        process.send_signal(ending)
    with started(folder, code=128 + signal.SIGINT) as (second, process):
        (status,) = tester.reads("status", *here)["sandboxes"]
        assert "here" in status["snapshots"]
        # Rent is a few nanoTON a second.
        assert 7.999 < int(tester.reads("faucet", NOBODY, "1", *here)["balance"]) / 10**9 <= 8
        tester.types("reset", "--yes", *here)
        assert "holds 1 TON" in tester.types("faucet", NOBODY, "1", *here)
        process.send_signal(signal.SIGINT)
    assert first == second  # same ports, same accounts
    assert not (folder / "control.json").exists()


@contextmanager
def started(folder: Path, *, code: int) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """Run a plain sandbox in a folder and yield what it printed; the block has to end it, with `code`."""
    arguments = ("sandbox", "up", "--json", "--no-suite", "--accounts", "1", "--folder", str(folder))
    with cocoon(*arguments, err=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            yield read_document(process.stdout), process
            assert process.wait(30) == code
        finally:
            process.kill()


def test_nobody_is_served_when_nothing_runs(tmp_path: Path) -> None:
    error = Person(tmp_path).reads("status", code=1)["error"]
    assert error["type"] == "NotRunningError"
    assert "cocoon sandbox up" in error["hint"]


def test_suite_and_its_worker_go_on_after_the_chain_went_back_and_after_a_restart(tmp_path: Path) -> None:
    """The worker forgets what did not happen, and serves again."""
    folder = tmp_path / "sandbox"

    def buys(client: dict[str, str]) -> None:
        tester = Person(tmp_path)
        env = {**tester.env, "COCOON_CONFIG": client["config"]}

        def types(*arguments: str) -> Any:
            done = runner.invoke(app, [*arguments, "--json"], env=env)
            assert done.exit_code == 0, done.output
            return json.loads(done.stdout)

        types("escrow", "open", "20", "--daily-limit", "20", "--yes")
        job = ("--model", "echo", "--prompt", "one two", "--max-output-tokens", "9")
        number = types("job", "create", *job, "--yes")["id"]
        assert types("job", "accept", str(number), "--wait", "60", "--yes")["state"] == "paid"

    for _ in range(2):
        with sandbox_up(tmp_path, "--folder", str(folder)) as document:
            client = document["actors"][0]
            buys(client)
            Person(tmp_path).types("reset", "--yes", "--folder", str(folder))
            buys(client)
            Person(tmp_path).types("reset", "--yes", "--folder", str(folder))
