"""The proof that a model folder is complete; the conversion itself runs in tests/e2e."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cocoon_worker.engine import packaged_model
from cocoon_worker.engine.packaged_model import default_folder, is_complete


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    packaged_model._write_record(folder)
    return folder


def test_worker_can_trust_a_folder_when_its_record_holds(folder: Path) -> None:
    assert is_complete(folder)
    files = json.loads((folder / "conversion.json").read_text())["files"]
    assert files["model.safetensors"] == hashlib.sha256(b"weights").hexdigest()


def _change(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weightz")


def _remove(folder: Path) -> None:
    (folder / "config.json").unlink()


def _add(folder: Path) -> None:
    (folder / "extra.bin").touch()


def _drop_record(folder: Path) -> None:
    (folder / "conversion.json").unlink()


def _empty_record(folder: Path) -> None:
    (folder / "conversion.json").write_text("[]")


def _other_source(folder: Path) -> None:
    record = json.loads((folder / "conversion.json").read_text())
    record["source"]["sha256"] = "0" * 64
    (folder / "conversion.json").write_text(json.dumps(record))


@pytest.mark.parametrize("harm", [_change, _remove, _add, _drop_record, _empty_record, _other_source])
def test_worker_cannot_trust_a_folder_when_it_was_changed(folder: Path, harm: object) -> None:
    assert callable(harm)
    harm(folder)
    assert not is_complete(folder)


def test_worker_cannot_trust_a_folder_when_it_does_not_exist(tmp_path: Path) -> None:
    assert not is_complete(tmp_path / "none")


def test_worker_can_find_its_cache_when_the_system_names_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "cocoon" / "models" / "smollm2-135m-instruct"


def test_worker_cannot_hold_torch_in_memory_when_it_imports_the_engines() -> None:
    code = (
        "import sys, cocoon_worker.engine.packaged_model, cocoon_worker.engine.vllm\n"
        "sys.exit(bool({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
