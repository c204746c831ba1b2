"""Settings out of a file and the environment: what wins, and what an error says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.settings_files import ProgramSettings, read_settings


class Shop(ProgramSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_", extra="forbid", hide_input_in_errors=True)

    name: str
    price: int = 5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text('name = "corner"\nprice = 7\n', encoding="utf-8")
    return path


def test_environment_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PRICE", "9")
    found = read_settings(Shop, file, whose="the shop's")
    assert isinstance(found, Shop)
    assert (found.name, found.price) == ("corner", 9)


def test_program_that_builds_settings_gets_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PRICE", "9")
    assert Shop(name="mine").price == 5


def test_error_names_the_setting_and_no_value(file: Path) -> None:
    file.write_text('name = "corner"\nprice = "secret-value"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="the shop's settings") as refused:
        read_settings(Shop, file, whose="the shop's")
    assert "price" in refused.value.why
    assert "SHOP_" in refused.value.hint
    assert "secret-value" not in str(refused.value)


def test_file_that_is_no_toml_is_named(file: Path) -> None:
    file.write_text("name = ", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read the shop's settings from"):
        read_settings(Shop, file, whose="the shop's")
