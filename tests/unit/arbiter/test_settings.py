"""Settings of an arbiter: what docs/arbiter.md shows can be used as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cocoon_sdk.arbiter.config import ArbiterConfig
from cocoon_sdk.cli.arbiter_settings import load_arbiter_settings
from cocoon_sdk.errors import ConfigError

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
        ("end_tokens = [2]", 'end_tokens = ["x"]', "end_tokens"),
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


def test_settings_cannot_be_used_when_they_are_no_toml(tmp_path: Path) -> None:
    file = tmp_path / "arbiter.toml"
    file.write_text("key_file = ", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read"):
        load_arbiter_settings(file)
