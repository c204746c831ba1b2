"""`cocoon model`: manifests made and compared on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cocoon_sdk.cli.main import app
from cocoon_sdk.verify.manifest import ModelManifest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"dtype": "bfloat16", "num_hidden_layers": 3}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def cocoon(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_owner_can_write_and_check_a_manifest(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    done = cocoon("model", "manifest", model, "-o", file, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    written = ModelManifest.from_bytes(file.read_bytes())
    assert document == {"model_id": written.digest.hex(), "manifest": written.to_json()}
    assert written.name == "my-model"
    assert cocoon("model", "check", model, file).exit_code == 0


def test_owner_can_name_model_and_dtype(model: Path) -> None:
    done = cocoon("model", "manifest", model, "--name", "owner/name", "--dtype", "float32")
    assert done.exit_code == 0, done.output
    assert "owner/name: float32, not quantised, for vllm" in done.stdout
    assert "num_hidden_layers: 3" in done.stdout
    assert "Model id (hash of the manifest)" in done.stdout


def test_check_fails_and_tells_each_file_when_files_differ(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    cocoon("model", "manifest", model, "-o", file)
    (model / "model.safetensors").write_bytes(b"other weights")
    (model / "config.json").unlink()
    (model / "config.json").write_text("{}")
    shown = cocoon("model", "check", model, file)
    assert shown.exit_code == 1
    assert "model.safetensors: other size (13 bytes instead of 7)" in shown.stdout
    done = cocoon("model", "check", model, file, "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["same"] is False
    assert {each["path"] for each in document["differences"]} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("output", ["no-folder/manifest.json", "."])
def test_manifest_cannot_be_written_where_no_file_can_be(model: Path, tmp_path: Path, output: str) -> None:
    done = cocoon("model", "manifest", model, "-o", tmp_path / output, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["type"] == "ConfigError"


def test_manifest_cannot_be_made_of_a_folder_without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    done = cocoon("model", "manifest", model, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["type"] == "MissingWeightsError"
