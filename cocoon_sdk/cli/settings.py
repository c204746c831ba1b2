"""Settings of the command line: environment variables `COCOON_...` over `~/.config/cocoon/config.toml`.

Owns names, bounds and defaults. Only the command line reads them; libraries take arguments. Secrets are
`SecretStr` and paths to files; no repr or error shows one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.settings_files import wrong_settings

ENV_PREFIX: Final = "COCOON_"
CONFIG_VARIABLE: Final = "COCOON_CONFIG"
"""Environment variable that names another settings file."""


class Settings(BaseSettings):
    """Everything the command line is told."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True, toml_file=None
    )

    endpoint: Annotated[str, StringConstraints(pattern=r"\Ahttps?://[!-~]{1,500}\z")] = (
        "https://toncenter.com/api/v2"
    )
    """A toncenter-compatible HTTP API."""
    network: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """Liteservers instead of the API: `mainnet`, `testnet`, or a file of the form of global.config.json."""
    trust: Literal["proven", "agreed", "server"] = "agreed"
    """Why a liteserver's block is believed: signatures since the known key block, two servers, or one."""
    api_key: SecretStr | None = None
    registry: str | None = None
    """Address of the registry that names the network."""
    mnemonic_file: Path | None = None
    """File with the 24 words of the owner's wallet, readable by nobody else."""
    owner_key_file: Path | None = None
    """Key file of the owner's wallet, instead of its words."""
    wallet_version: Literal["v3r2", "v4r2"] = "v4r2"
    owner: str | None = None
    """Address of the owner's wallet where its key is not at hand: enough for all but the owner's messages."""
    hot_key_file: Path | None = None
    """Key file of the escrow's hot key."""
    database: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    """Where vouchers are kept: a file, or a `postgresql://` URL; default: a file in the user's home."""
    index: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] = 0
    """Which of the owner's escrows or stakes."""
    previous_code: bool = False
    """The owner's account under the contract code that was current before: to end and empty what is there."""
    private_networks: tuple[str, ...] = ()
    """Networks (CIDR) that are not public and may be fetched from all the same, such as 127.0.0.0/8."""
    arbiters: Annotated[dict[str, str], Field(max_length=64)] = {}
    """Where arbiters can be reached, by their verdict keys: they get the evidence of disputes."""
    poll_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Pause between looks for a new block, in seconds."""
    max_lag_s: Annotated[int, Field(ge=5, le=86_400)] | None = 60
    """Oldest newest block that is acted on, in seconds."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options of the command line over the environment over the file."""
        file = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, env_settings, file


def config_file() -> Path:
    """Return where the settings file is: `COCOON_CONFIG`, else below `XDG_CONFIG_HOME` or `~/.config`."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "cocoon" / "config.toml"


def load_settings(**options: Any) -> Settings:
    """Read the settings; `options` that are not None win. Raises `ConfigError` naming what is wrong."""
    file = config_file()
    if CONFIG_VARIABLE in os.environ and not file.is_file():
        raise ConfigError(f"cannot read the settings from {file}", why="there is no such file")
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(
            "the settings cannot be used",
            why=wrong_settings(error),
            hint=f"Correct {file}, the {ENV_PREFIX}... variables or the options",
        ) from None
    except (ValueError, OSError) as error:  # not TOML, or not readable
        raise ConfigError(f"cannot read the settings from {file}", why=type(error).__name__) from None
