"""`cocoon arbiter` as a process of its own, on `cocoon sandbox up`: started, looked at, stopped, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cocoon_sdk.cli.main import app
from cocoon_sdk.crypto.keyfiles import write_key_file
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.manifest import ModelManifest
from cocoon_sdk.verify.thresholds import Thresholds
from tests.helpers.local_sandbox import cocoon, read_document, sandbox_up

pytestmark = pytest.mark.xdist_group("cli")
runner = CliRunner()
PATIENCE_S = 60
MANIFEST = ModelManifest(name="m", dtype="float32", engine="vllm")
MODEL_ID = MANIFEST.digest.hex()
PEER = SigningKey(bytes(range(32))).verify_key.hex


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of commands on a running sandbox."""
    with sandbox_up(tmp_path_factory.mktemp("sandbox")) as document:
        yield {"COCOON_CONFIG": document["actors"][0]["config"]}


def settings(folder: Path, text: str = "") -> Path:
    """Write an arbiter's settings, key and thresholds."""
    key = folder / "arbiter.json"
    if not key.exists():
        write_key_file(key, SigningKey.generate())
        thresholds = Thresholds(model_id=Hash(bytes.fromhex(MODEL_ID)), greedy=None, sampled=None)
        (folder / "thresholds.json").write_bytes(thresholds.to_bytes())
        (folder / "manifest.json").write_bytes(MANIFEST.to_bytes())
    file = folder / "arbiter.toml"
    file.write_text(
        f'key_file = "{key}"\ndata_dir = "{folder / "data"}"\nport = 0\n'
        f'public_url = "http://arbiter.example"\n{text}'
        f'[peers]\n"{PEER}" = "http://127.0.0.1:9"\n'
        f'[models."{MODEL_ID}"]\nurl = "http://127.0.0.1:9"\nengine_model = "m"\n'
        f'thresholds = "{folder / "thresholds.json"}"\nmanifest = "{folder / "manifest.json"}"\n'
    )
    return file


@contextmanager
def arbiter(
    network: dict[str, str], file: Path, *options: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    arguments = ("arbiter", "run", "--config", str(file), "--json", *options)
    with file.with_suffix(".log").open("a") as err:
        process = cocoon(*arguments, env={**os.environ, **network}, err=err)
    assert process.stdout is not None
    try:
        yield process, read_document(process.stdout)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        process.stdout.close()


def reads(network: dict[str, str], *arguments: str, code: int = 0) -> Any:
    done = runner.invoke(app, [*arguments, "--json"], env=network)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_arbiter_runs_is_looked_at_and_stops_cleanly(network: dict[str, str], tmp_path: Path) -> None:
    file = settings(tmp_path)
    with arbiter(network, file) as (process, start):
        assert (start["peers"], start["models"], start["following"]) == (1, [MODEL_ID], 0)
        found = reads(network, "arbiter", "status", f"http://127.0.0.1:{start['port']}")
        assert found == {"key": start["key"], "accepts_evidence": True, "disputes": []}
        process.kill()
        process.wait(PATIENCE_S)
    # Another start finds the same evidence key: what was sealed to it can still be opened.
    with arbiter(network, file) as (process, again):
        assert (again["key"], again["evidence_key"]) == (start["key"], start["evidence_key"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    logs = [json.loads(line) for line in file.with_suffix(".log").read_text().splitlines()]
    assert "arbiter_started" in [each["event"] for each in logs]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense = 1\n", "nonsense"),
        ("max_judging = 0\n", "max_judging"),
        ('wallet_key_file = "KEY"\n', "hold no money"),
    ],
    ids=["unknown", "out of bounds", "verdict key as wallet"],
)
def test_arbiter_cannot_start_when_its_settings_make_no_sense(
    network: dict[str, str], tmp_path: Path, text: str, why: str
) -> None:
    file = settings(tmp_path, text.replace("KEY", str(tmp_path / "arbiter.json")))
    error = reads(network, "arbiter", "run", "--config", str(file), code=1)["error"]
    assert why in f"{error['what']} {error['why']} {error['hint']}"


def test_arbiter_says_what_is_missing(network: dict[str, str], tmp_path: Path) -> None:
    error = reads(network, "arbiter", "run", "--config", str(tmp_path / "none.toml"), code=1)["error"]
    assert "no such file" in error["why"]
    error = reads(network, "arbiter", "status", "http://127.0.0.1:9", code=1)["error"]
    assert error["type"] == "ArbiterUnreachableError"
