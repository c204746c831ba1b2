"""Settings of an arbiter: what docs/arbiter.md shows can be used as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cocoon_sdk.arbiter.config import ArbiterConfig
from cocoon_sdk.arbiter.rescoring import JudgedModel
from cocoon_sdk.cli.arbiter import models_of
from cocoon_sdk.cli.arbiter_settings import load_arbiter_settings
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.file_hashes import FileHasher
from cocoon_sdk.verify.manifest import ModelDiffersError, ModelManifest
from cocoon_sdk.verify.model_files import hash_model, manifest_of, open_model
from cocoon_sdk.verify.thresholds import Thresholds

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "arbiter.md"
KEY = "8f" * 32


def documented() -> str:
    """Return the settings that the document shows, with whole keys."""
    found = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found.group(1).replace("8f2c...", KEY).replace("<model id>", KEY)


def test_documented_settings_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "arbiter.toml"
    file.write_text(documented(), encoding="utf-8")
    settings = load_arbiter_settings(file)
    assert settings.peers == {KEY: "https://other.example"}
    assert settings.models[KEY].thresholds == Path("model.thresholds.json")
    assert settings.config() == ArbiterConfig(host="0.0.0.0", port=8430, public_url="https://arbiter.example")
    monkeypatch.setenv("COCOON_ARBITER_PORT", "9")
    assert load_arbiter_settings(file).port == 9


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (KEY, "zz" * 32, "peers"),
        ("port = 8430", "port = 70000", "port"),
        ("https://arbiter.example", "arbiter.example", "public_url"),
        ("most_tokens = 8193", 'most_tokens = "many"', "most_tokens"),
        ("most_tokens = 8193", "context = 8192", "context"),
        ('manifest = "model.manifest.json"', "", "manifest"),
    ],
)
def test_settings_cannot_be_used_when_they_make_no_sense(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    file = tmp_path / "arbiter.toml"
    file.write_text(documented().replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_arbiter_settings(file)
    assert named in refused.value.why


def described(folder: Path, name: str) -> ModelManifest:
    """Write what is needed of a model to judge it, and its thresholds; return its manifest."""
    folder.mkdir()
    config = json.dumps({"dtype": "bfloat16", "max_position_embeddings": 8192, "eos_token_id": 2})
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_text(name)
    found = open_model(folder)
    manifest = manifest_of(found, hash_model(found, FileHasher()), name=name)
    (folder / "model.safetensors").unlink()
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    limits = Thresholds(model_id=manifest.digest, greedy=None, sampled=None)
    (folder / "thresholds.json").write_bytes(limits.to_bytes())
    return manifest


def test_arbiter_cannot_choose_what_decides_a_verdict(tmp_path: Path) -> None:
    mine, other = described(tmp_path / "mine", "mine"), described(tmp_path / "other", "other")

    def models(manifest: str, thresholds: str) -> dict[Hash, JudgedModel]:
        file = tmp_path / "arbiter.toml"
        file.write_text(
            f'key_file = "k"\ndata_dir = "d"\npublic_url = "http://arbiter.example"\n'
            f'[models."{mine.digest.hex()}"]\nurl = "http://127.0.0.1:9"\nengine_model = "m"\n'
            f'manifest = "{tmp_path / manifest / "manifest.json"}"\nmost_tokens = 100\n'
            f'thresholds = "{tmp_path / thresholds / "thresholds.json"}"\n'
        )
        return models_of(load_arbiter_settings(file))

    found = models("mine", "mine")[mine.digest]
    assert (found.context, found.most_tokens) == (8192, 100)
    assert found.verifier._end_tokens == frozenset({2})
    with pytest.raises(ConfigError, match=f"manifest of model {other.digest.hex()[:16]}"):
        models("other", "mine")
    with pytest.raises(ConfigError, match="not those of model"):
        models("mine", "other")
    (tmp_path / "mine" / "config.json").write_text("{}")
    with pytest.raises(ModelDiffersError):
        models("mine", "mine")


def test_settings_cannot_be_used_when_they_are_no_toml(tmp_path: Path) -> None:
    file = tmp_path / "arbiter.toml"
    file.write_text("key_file = ", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read"):
        load_arbiter_settings(file)
