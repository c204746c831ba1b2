"""Settings out of a TOML file and the environment, for programs that are told what to do in a file.

Owns where values come from, what wins, and the account of what is wrong. Must not know any setting. Errors
name settings and never show a value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from cocoon_sdk.errors import ConfigError


class ProgramSettings(BaseSettings):
    """Settings that are what they are given when a program builds them: only `read_settings` reads files."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take nothing from outside."""
        return (init_settings,)


_Kind = TypeVar("_Kind", bound=ProgramSettings)


def read_settings(kind: type[_Kind], file: Path, *, whose: str) -> _Kind:
    """Read settings: environment variables with the kind's own prefix over a TOML file, which may be missing.

    `whose` names them in errors ("the worker's"). Raises `ConfigError` naming each wrong setting.
    """

    def sources(
        cls: type[BaseSettings],
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    fields = {"__module__": kind.__module__, "settings_customise_sources": classmethod(sources)}
    make: Any = type(kind)
    from_file = cast(type[_Kind], make(kind.__name__, (kind,), fields))
    try:
        return from_file()
    except ValidationError as error:
        raise ConfigError(
            f"{whose} settings cannot be used",
            why=wrong_settings(error),
            hint=f"Correct {file} or the {kind.model_config.get('env_prefix', '')}... variables",
        ) from None
    except (ValueError, OSError) as error:  # not TOML, or not readable
        raise ConfigError(f"cannot read {whose} settings from {file}", why=type(error).__name__) from None


def wrong_settings(error: ValidationError) -> str:
    """Return the name of each wrong setting and what is wrong with it, never its value."""
    return "; ".join(
        f"{'.'.join(str(part) for part in each['loc']) or 'settings'}: {each['msg']}"
        for each in error.errors(include_input=False)
    )
