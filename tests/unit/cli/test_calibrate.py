"""`cocoon verify calibrate` on the command line; a table model stands in for vLLM, all else is real."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cocoon_sdk.cli import local_vllm
from cocoon_sdk.cli.main import app
from cocoon_sdk.verify.calibration import Served
from cocoon_sdk.verify.thresholds import Thresholds
from cocoon_worker.engine.vllm_command import VllmSettings, vllm_command
from tests.helpers.table_model import TableModel
from tests.helpers.table_server import table_server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"dtype": "float32"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def test_owner_can_calibrate_and_gets_limits(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []

    def serve(settings: VllmSettings) -> AbstractAsyncContextManager[Served]:
        commands.append(" ".join(vllm_command(settings, 1)))

        @asynccontextmanager
        async def serving():  # type: ignore[no-untyped-def]
            async with table_server(TableModel(spread=0.01, machine=len(commands))) as (_, served):
                yield Served(served.url, None, served.model)

        return serving()

    monkeypatch.setattr(local_vllm, "serve_vllm", serve)
    output, work = tmp_path / "thresholds.json", tmp_path / "work"
    chosen = ["--dtype", "float32", "--concurrency", "4", "--prompts", "84", "--held-out", "4"]
    arguments = [*chosen, "-o", str(output), "--work", str(work)]
    done = CliRunner().invoke(app, ["verify", "calibrate", str(model), *arguments, "--json"])
    assert done.exit_code == 0, done.output
    found = Thresholds.from_bytes(output.read_bytes())
    document = json.loads(done.stdout)
    assert document == {"thresholds": json.loads(found.to_bytes()), "hash": found.digest().hex()}
    assert found.greedy is not None
    assert found.sampled is not None
    assert found.greedy.honest_checks == 42
    assert found.greedy.held_out_checks + found.sampled.held_out_checks == 8
    assert len(commands) == 3
    assert all("CocoonSampler" in command and "--dtype=float32" in command for command in commands)
    assert "--no-enable-prefix-caching" in commands[1]

    shown = CliRunner().invoke(app, ["verify", "calibrate", str(model), *arguments])
    assert shown.exit_code == 0, shown.output
    assert "false alarms" in shown.stdout
    assert len(commands) == 3  # all of it was recorded


def test_owner_cannot_calibrate_another_model_than_the_manifest_names(model: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    CliRunner().invoke(app, ["model", "manifest", str(model), "-o", str(manifest)])
    (model / "model.safetensors").write_bytes(b"WEIGHTS")
    arguments = ["--manifest", str(manifest), "--work", str(tmp_path / "work"), "--json"]
    done = CliRunner().invoke(app, ["verify", "calibrate", str(model), *arguments])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["type"] == "ModelDiffersError"
