"""Settings of `cocoon gateway`: options over `COCOON_GATEWAY_...` over `[gateway]` in the settings file.

Owns where they come from; what they mean is `GatewayConfig`'s, `SpendLimits`' and `SessionPolicy`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cocoon_sdk.cli.settings import config_file
from cocoon_sdk.client.auditing import AuditPolicy, OwnVerifier
from cocoon_sdk.client.sessions.funds.records import SECONDS_A_DAY, SessionPolicy, SpendLimits
from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.gateway.config import GatewayConfig, TonAmount
from cocoon_sdk.settings_files import wrong_settings

if TYPE_CHECKING:  # it needs NumPy, and gateways that check nothing do not
    from cocoon_sdk.verify.thresholds import Thresholds

ENV_PREFIX: Final = "COCOON_GATEWAY_"
TABLE: Final = "gateway"


class GatewaySettings(GatewayConfig, BaseSettings):
    """How a gateway serves (`GatewayConfig`), and what it may spend."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    log_json: bool = False

    spend_per_day: TonAmount | None = None
    """The most that may go to workers in a day of UTC."""
    spend_total: TonAmount | None = None
    spend_per_session: TonAmount | None = None
    session_deposit: TonAmount | None = None
    """What a new session gets; a top-up adds as much."""
    session_lifetime_s: Annotated[int, Field(ge=3600, le=365 * SECONDS_A_DAY)] | None = None
    session_idle_s: Annotated[int, Field(ge=0, le=365 * SECONDS_A_DAY)] | None = None
    """Sessions unused for so long are closed, so that their deposits are free again."""

    audit: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the answers that is checked."""
    verifier: str | None = None
    """URL of a vLLM that checks them; without one, other workers are paid for it."""
    verifier_key: SecretStr | None = None
    verifier_models: dict[str, str] = {}
    """Names under which the verifier serves models, where they are not the workers' names."""
    thresholds: tuple[Path, ...] = ()
    """Files with the thresholds of the models that are checked."""
    audit_spend_per_day: TonAmount | None = None
    """The most that checks by other workers may cost in a day of UTC."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options over the environment over the file's table."""
        return init_settings, env_settings, _Table(settings_cls)

    @model_validator(mode="after")
    def _policy_makes_sense(self) -> Self:
        self.policy()
        return self

    def config(self) -> GatewayConfig:
        """Return how to serve."""
        return GatewayConfig(**{name: getattr(self, name) for name in GatewayConfig.model_fields})

    def limits(self) -> SpendLimits:
        """Return what may be spent."""
        return SpendLimits(
            per_session=self.spend_per_session, per_day=self.spend_per_day, total=self.spend_total
        )

    def audits(self) -> AuditPolicy | None:
        """Return how answers are checked, None for not at all. Raises `ConfigError`."""
        if not self.audit:
            return None
        own = None
        if self.verifier is not None:
            key = None if self.verifier_key is None else self.verifier_key.get_secret_value()
            own = OwnVerifier(self.verifier, key, self.verifier_models)
        more: dict[str, Any] = {}
        if self.audit_spend_per_day is not None:
            more["spend_per_day"] = self.audit_spend_per_day
        limits = tuple(_read_thresholds(path) for path in self.thresholds)
        return AuditPolicy(share=self.audit, verifier=own, thresholds=limits, **more)

    def policy(self) -> SessionPolicy:
        """Return how sessions are run. Raises `ValueError` for what contradicts itself."""
        given = {
            "deposit": self.session_deposit,
            "lifetime_s": self.session_lifetime_s,
            "idle_s": self.session_idle_s,
        }
        return SessionPolicy(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _read_thresholds(path: Path) -> Thresholds:
    from cocoon_sdk.verify.thresholds import MAX_THRESHOLDS_BYTES, Thresholds

    what = f"the thresholds {path} cannot be used"
    try:
        with path.open("rb") as source:
            return Thresholds.from_bytes(source.read(MAX_THRESHOLDS_BYTES + 1))
    except OSError as error:
        raise ConfigError(what, why=error.strerror or "") from None
    except MalformedError as error:
        raise ConfigError(what, why=str(error)) from None


class _Table(TomlConfigSettingsSource):
    """The file's table of the gateway; the rest of the file is for other commands."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, toml_file=config_file())

    def __call__(self) -> dict[str, Any]:
        table = self.toml_data.get(TABLE, {})
        if not isinstance(table, dict):
            raise ValueError(f"[{TABLE}] is not a table")
        return table


def load_gateway_settings(**options: Any) -> GatewaySettings:
    """Read the settings; `options` that are not None win. Raises `ConfigError` naming what is wrong."""
    try:
        return GatewaySettings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(
            "the gateway's settings cannot be used",
            why=wrong_settings(error),
            hint=f"Correct [{TABLE}] in {config_file()}, the {ENV_PREFIX}... variables or the options",
        ) from None
    except (ValueError, OSError) as error:  # not TOML, or not readable
        what = f"cannot read the settings from {config_file()}"
        raise ConfigError(what, why=type(error).__name__) from None
