"""Files of `cocoon sandbox`: names for traces, saved accounts, the places of sandboxes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path

import pytest
from pytoniq_core import Address, Cell, begin_cell
from pytoniq_core.boc.tvm_bitarray import TvmBitarray

from cocoon_sdk.cli.output import Output
from cocoon_sdk.cli.sandbox import parse_duration
from cocoon_sdk.cli.sandbox_abi import suite_names
from cocoon_sdk.cli.sandbox_place import connect, ephemeral_folder, own_folder, running_folders
from cocoon_sdk.cli.sandbox_saving import from_chain, parse_addresses
from cocoon_sdk.cli.session import Session
from cocoon_sdk.clock import SystemClock
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.sandbox import state_init
from cocoon_sdk.sandbox.abi_names import read_abi
from cocoon_sdk.sandbox.control import NotRunningError
from cocoon_sdk.sandbox.host import SandboxHost
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.storage import SandboxFolder
from cocoon_sdk.types import Nano

ROOT = Path(__file__).resolve().parents[3]


def test_names_come_from_a_compiled_tact_abi(tmp_path: Path) -> None:
    path = tmp_path / "Registry.abi.json"
    path.write_bytes(files("cocoon_sdk.contracts").joinpath("artifacts", "Registry.abi.json").read_bytes())
    names = read_abi(path)
    document = json.loads(path.read_text())
    kind = next(each for each in document["types"] if each["header"] is not None)
    assert names.op(kind["header"]) == kind["name"] == suite_names().op(kind["header"])
    code, error = next(iter(document["errors"].items()))
    assert error["message"][:40] in names.exit_code(int(code))


def test_names_come_from_two_plain_tables(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text('{"ops": {"0x10": "Ten", "32": "Two"}, "errors": {"101": "NotOwner"}}')
    names = read_abi(path)
    assert [names.op(16), names.op(32), names.exit_code(101)] == ["Ten", "Two", "NotOwner (101)"]
    path.write_text('{"ops": {}}')
    assert read_abi(path).op(16) == "0x00000010"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "1", '{"ops": {"x": "A"}}', '{"ops": {"1": 2}}', '{"types": [{}]}', "[" * 100_000],
)
def test_file_that_names_nothing_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="cannot take names"):
        read_abi(path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259_200), ("1w", 604_800), ("0", 0)],
)
def test_durations_are_read_in_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1.5h", "h", "1y", "9" * 13])
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_duration(text)


def test_sandbox_that_is_meant_is_named_by_option_environment_or_being_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("COCOON_SANDBOX", raising=False)
    default = tmp_path / "cocoon" / "sandboxes" / "default"
    assert own_folder(None) == default
    with pytest.raises(NotRunningError, match=str(default)):
        connect(None)
    left = ephemeral_folder()
    with SandboxFolder(left), SandboxFolder(default):
        assert running_folders() == [default, left]
        with pytest.raises(ConfigError, match="2 sandboxes run"):
            connect(None)
        other = ephemeral_folder()
        assert left.exists()
        monkeypatch.setenv("COCOON_SANDBOX", str(other))
        assert running_folders() == []
        assert own_folder(None) == other
        assert own_folder(tmp_path) == tmp_path
        monkeypatch.delenv("COCOON_SANDBOX")
    assert ephemeral_folder().exists()
    assert not left.exists()  # whoever comes next clears away what a killed one left


async def test_libraries_are_saved_with_the_accounts_that_need_them() -> None:
    library = begin_cell().store_uint(0xC0DE, 16).end_cell()
    bits = TvmBitarray(1023)
    bits.frombytes(b"\x02" + library.hash)
    code = begin_cell().store_ref(Cell(bits, [], 2)).end_cell()
    async with SandboxHost(Node(clock=SystemClock())) as host, AsyncExitStack() as closing:
        node = host.node
        address: Address = await node.apply(
            lambda chain: chain.deploy(state_init(code, begin_cell().end_cell()), Nano.ton(1))
        )
        session = Session(Output(as_json=True), closing)
        saved = await from_chain(session, host.endpoint, [address.to_str()])
        assert saved.to_json(Path("x"))["missing_libraries"] == [library.hash.hex()]
        node.blockchain.set_libraries([library])
        await node.mine()
        saved = await from_chain(session, host.endpoint, [address.to_str(), address.to_str()])
    assert [cell.hash for cell in saved.accounts.libraries] == [library.hash]
    assert (saved.accounts.missing_libraries(), len(saved.accounts.accounts)) == (set(), 1)


def test_text_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="not an address"):
        parse_addresses(["EQ"])


def test_example_of_the_docs_runs() -> None:
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8"), re.S
    )
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "/api/v2 127.0.0.1:" in done.stdout
