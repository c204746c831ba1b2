"""Where settings come from, and that no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocoon_sdk.cli.settings import load_settings
from cocoon_sdk.errors import ConfigError

SECRET = "sesame-0123456789"


@pytest.fixture(autouse=True)
def no_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Start from nothing: no variables, an empty configuration folder."""
    import os

    for name in list(os.environ):
        if name.startswith("COCOON_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "cocoon").mkdir()
    return tmp_path / "cocoon" / "config.toml"


def test_defaults_reach_mainnet_without_a_network() -> None:
    settings = load_settings()
    assert (settings.endpoint, settings.registry) == ("https://toncenter.com/api/v2", None)


def test_option_wins_over_environment_and_environment_over_file(
    no_outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_outside.write_text('endpoint = "http://file/"\nregistry = "file"\nindex = 3\n')
    monkeypatch.setenv("COCOON_ENDPOINT", "http://environment/")
    monkeypatch.setenv("COCOON_REGISTRY", "environment")
    settings = load_settings(registry="option", endpoint=None)
    assert (settings.endpoint, settings.registry, settings.index) == ("http://environment/", "option", 3)


def test_variable_can_name_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.toml"
    other.write_text('registry = "other"\n')
    monkeypatch.setenv("COCOON_CONFIG", str(other))
    assert load_settings().registry == "other"
    monkeypatch.setenv("COCOON_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(ConfigError, match="no such file"):
        load_settings()


@pytest.mark.parametrize("content", ["index = -1\n", f'endpoint = "ftp://{SECRET}"\n', "not toml ["])
def test_wrong_setting_is_named_and_its_value_is_not(no_outside: Path, content: str) -> None:
    no_outside.write_text(content)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert SECRET not in str(refused.value)


def test_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOON_API_KEY", SECRET)
    settings = load_settings()
    assert SECRET not in repr(settings)
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == SECRET
