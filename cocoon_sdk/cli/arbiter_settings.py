"""Settings of `cocoon arbiter`: a TOML file, overridden by environment variables `COCOON_ARBITER_...`.

Owns names, bounds and defaults; what they mean is `ArbiterConfig`'s. Secrets are paths to key files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from pydantic_settings import SettingsConfigDict

from cocoon_sdk.arbiter.config import ArbiterConfig
from cocoon_sdk.cli.settings import config_file
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.settings_files import ProgramSettings, read_settings

ENV_PREFIX: Final = "COCOON_ARBITER_"
CONFIG_VARIABLE: Final = "COCOON_ARBITER_CONFIG"
DEFAULT_CONFIG: Final = "arbiter.toml"
Hex: Final = r"\A[0-9a-f]{64}\z"


class ModelSettings(BaseModel):
    """What re-scores one model: a vLLM endpoint, the model's manifest, and the thresholds that the registry's
    entry names. What decides a verdict is nobody's own choice: the manifest's hash is the model's id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=())

    url: Annotated[str, StringConstraints(pattern=r"\Ahttps?://[!-~]{1,500}\z")]
    engine_model: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\A[!-~]+\z")]
    """The model's name at the endpoint."""
    thresholds: Path
    manifest: Path
    """The model's manifest (`cocoon model manifest`)."""
    folder: Path | None = None
    """Where those of the model's files lie that say how long an answer can be and what ends it, config.json
    and generation_config.json; default: beside the manifest. Weights are not needed."""
    api_key: SecretStr | None = None
    top: Annotated[int, Field(ge=1, le=1000)] = 20
    """Tokens per position that the endpoint is asked for (vLLM's --max-logprobs)."""
    most_tokens: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    """Tokens of prompt and output together beyond which this arbiter is silent, as it is beyond what the
    endpoint takes; no verdict depends on it."""


class ArbiterSettings(ArbiterConfig, ProgramSettings):
    """How an arbiter works (`ArbiterConfig`), and with what."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    key_file: Path
    """Key file of the verdict key, which signs and holds no money."""
    data_dir: Path
    """State and the evidence key."""
    wallet_key_file: Path | None = None
    """Key file of a small wallet that hands verdicts in; without one, others do."""
    wallet_version: Annotated[str, StringConstraints(pattern=r"\Av[34]r2\z")] = "v4r2"
    peers: Annotated[dict[Annotated[str, StringConstraints(pattern=Hex)], str], Field(max_length=256)] = (
        Field(default_factory=dict)
    )
    """Other arbiters: verdict key -> URL."""
    models: Annotated[
        dict[Annotated[str, StringConstraints(pattern=Hex)], ModelSettings], Field(max_length=256)
    ] = Field(default_factory=dict)
    """Models that can be judged, by their ids."""
    log_json: bool = True

    def config(self) -> ArbiterConfig:
        """Return how to work."""
        return ArbiterConfig(**{name: getattr(self, name) for name in ArbiterConfig.model_fields})


def load_arbiter_settings(path: Path | None) -> ArbiterSettings:
    """Read the TOML file (argument, else `COCOON_ARBITER_CONFIG`, else ./arbiter.toml) and the environment.

    Raises `ConfigError` naming each wrong setting, never its value.
    """
    named = path or os.environ.get(CONFIG_VARIABLE)
    file = Path(named if named is not None else DEFAULT_CONFIG)
    if not file.is_file():
        raise ConfigError(
            f"cannot read the arbiter's settings from {file}",
            why="there is no such file",
            hint=f"Pass --config or set {CONFIG_VARIABLE}; the network's are in {config_file()}",
        )

    return read_settings(ArbiterSettings, file, whose="the arbiter's")
