"""Settings of a worker: a TOML file, overridden by environment variables `COCOON_WORKER_...`.

Owns names, bounds and defaults. Must not open keys, sockets or databases: `cocoon_worker.main` does that.
Nested settings use two underscores: `COCOON_WORKER_CHAIN__API_KEY`. Secrets are `SecretStr` and paths to key
files; no repr, log or error shows a secret.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import SettingsConfigDict
from pytoniq_core import Address

from cocoon_sdk.data import MAX_INLINE_BYTES
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.protocol.offers import Endpoint
from cocoon_sdk.protocol.session_wire import MAX_REQUESTS
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.settings_files import ProgramSettings, read_settings
from cocoon_sdk.types import Nano

ENV_PREFIX: Final = "COCOON_WORKER_"
CONFIG_VARIABLE: Final = "COCOON_WORKER_CONFIG"
"""Environment variable that names the TOML file."""
DEFAULT_CONFIG: Final = "worker.toml"
DAY_S: Final = 86_400


def _address(text: str) -> str:
    try:
        address = Address(text)
    except Exception:  # pytoniq-core raises whatever it meets first
        raise ValueError("not an address") from None
    if address.wc != 0:
        raise ValueError("all accounts of the suite live in workchain 0")
    return text


def _ton(value: object) -> Nano:
    if isinstance(value, Nano):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError('expected an amount of TON as text, such as "0.25"')
    try:
        return Nano.ton(value)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from None


AddressText: TypeAlias = Annotated[str, AfterValidator(_address)]
TonAmount: TypeAlias = Annotated[InstanceOf[Nano], BeforeValidator(_ton)]
"""TON in the file ("0.25"), `Nano` in the program."""
Label: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"\A[ -~]+\z")]
HexHash: TypeAlias = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]
Seconds: TypeAlias = Annotated[int, Field(ge=0, le=365 * DAY_S)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=())


class ChainConfig(_Section):
    """Where the network is read and written: a toncenter-compatible HTTP API, or liteservers."""

    url: Annotated[str, StringConstraints(pattern=r"\Ahttps?://[!-~]{1,500}\z")] = (
        "https://toncenter.com/api/v2"
    )
    api_key: SecretStr | None = None
    network: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    """Liteservers instead of the API: `mainnet`, `testnet`, or a file of the form of global.config.json."""
    trust: Literal["proven", "agreed", "server"] = "agreed"
    """Why a liteserver's block is believed: signatures since the known key block, two servers, or one."""


class EngineConfig(_Section):
    """Which engine answers: an OpenAI-compatible endpoint, a supervised vLLM, or the labelled echo."""

    kind: Literal["openai", "vllm", "echo"]
    url: str | None = None
    api_key: SecretStr | None = None
    model_path: Path | None = None
    arguments: tuple[str, ...] = ()
    """Further arguments of `vllm serve`."""
    dtype: Label | None = None
    """The number format of its computations, such as bfloat16: given to a vLLM, and named in commitments."""
    platform: Label | None = None
    """What an openai engine runs on, as commitments name it, such as "cuda NVIDIA H100 80GB HBM3"."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "openai" and not self.url:
            raise ValueError("an openai engine needs its url")
        if self.kind == "vllm" and self.model_path is None:
            raise ValueError("a vllm engine needs its model_path")
        return self


class OfferConfig(_Section):
    """One model and its price. Prices in TON per million tokens, `minimum_price` in TON per job."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\A[!-~]+\z")]
    model_id: HexHash
    """Hash of the model's canonical manifest, as the registry and the market use it."""
    manifest: Path | None = None
    """That manifest as a file (`cocoon model manifest`): what the engine loads is compared with it."""
    engine_model: str | None = None
    """The engine's own name of the model, if it differs."""
    input_price: TonAmount
    cached_input_price: TonAmount | None = None
    output_price: TonAmount
    minimum_price: TonAmount
    sampling: SamplingClass = SamplingClass.UNVERIFIED
    max_context: Annotated[int, Field(ge=1, le=1 << 24)] = 4096
    max_output_tokens: Annotated[int, Field(ge=1, le=1 << 24)] = 1024
    tokens_per_second: Annotated[float, Field(gt=0, le=1e6)] = 20.0
    """Pessimistic speed of one request: decides whether a deadline can be met."""
    bytes_per_token: Annotated[float, Field(ge=0.5, le=16)] = 2.0
    """Fewest bytes of request text per prompt token: bounds the worst-case price before the engine counts."""
    open_jobs: bool = True
    """Whether open jobs of this model's market are claimed too."""


class EndpointConfig(_Section):
    """The HTTP endpoint for hand-over, information and metrics; without it all results go on chain."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8420
    """0 takes a free port."""
    public_url: Endpoint | None = None
    """How clients reach it; announced, and the base of result locations. None: not announced."""

    @field_validator("public_url")
    @classmethod
    def _no_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else value


class InlinePolicy(StrEnum):
    """Where result bytes go on the chain path."""

    AUTO = "auto"
    """Inside the submission while they fit, else to the result store or the own endpoint."""
    NEVER = "never"
    """Always by reference."""


class DataConfig(_Section):
    """How payloads are fetched and results are stored."""

    inline: InlinePolicy = InlinePolicy.AUTO
    max_inline_bytes: Annotated[int, Field(ge=0, le=MAX_INLINE_BYTES)] = MAX_INLINE_BYTES
    max_payload_bytes: Annotated[int, Field(ge=1024, le=1 << 25)] = 4 << 20
    payload_timeout_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    private_networks: tuple[str, ...] = ()
    """Networks (CIDR) that are not public and may be fetched from all the same."""
    directory: Path | None = None
    """A shared directory for `file://` payloads and results."""
    result_store: str | None = None
    """A prefix that fsspec reaches, such as s3://bucket/results."""
    result_retention_s: Seconds = 7 * DAY_S
    """How long the endpoint hands out a result after its job ended; evidence is wiped when it ends."""


class Policy(_Section):
    """Margins and limits of what is accepted. Times in seconds."""

    max_concurrent: Annotated[int, Field(ge=1, le=1024)] = 4
    """Requests that the engine works on at a time. Sessions use what jobs leave of it, at least a quarter."""
    max_accepted: Annotated[int, Field(ge=1, le=1024)] = 32
    """Jobs accepted but not yet submitted."""
    max_queue: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Notices not yet judged; more are dropped."""
    handover_s: Seconds = 20
    """How long the client may fetch a signed result before it is submitted on chain."""
    confirmation_s: Annotated[int, Field(ge=5, le=600)] = 30
    """Longest time from sending a message to its effect at the escrow."""
    safety_s: Annotated[int, Field(ge=0, le=3600)] = 30
    """Added to every estimate before a deadline."""
    message_validity_s: Annotated[int, Field(ge=30, le=240)] = 120
    resend_s: Annotated[int, Field(ge=1, le=120)] = 10
    engine_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    send_attempts: Annotated[int, Field(ge=1, le=50)] = 8
    """How often one step of a job is signed anew after it was skipped or expired."""
    announce_s: Annotated[int, Field(ge=3600, le=30 * DAY_S)] = 7 * DAY_S
    prekey_life_s: Annotated[int, Field(ge=2 * 3600, le=60 * DAY_S)] = 21 * DAY_S
    min_gas: TonAmount = Field(default_factory=lambda: Nano.ton("0.2"))
    """Spare gas below which no job is accepted."""
    shutdown_grace_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    poll_s: Annotated[float, Field(gt=0, le=60)] = 5.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.resend_s >= self.message_validity_s:
            raise ValueError("resend_s must be shorter than message_validity_s")
        return self


class ServingConfig(_Section):
    """Serving sessions over the endpoint: what is risked, and bounds on what others can make us hold."""

    max_unpaid: TonAmount = Field(default_factory=lambda: Nano.ton("0.001"))
    """Work done in one session before it is paid for, at most; over its whole life when it never is."""
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 256
    max_handshakes: Annotated[int, Field(ge=1, le=1000)] = 32
    """Connections at a time that have not shown yet which session they are for."""
    max_requests: Annotated[int, Field(ge=1, le=MAX_REQUESTS)] = 128
    """Requests under way in one session at a time."""
    max_waiting: Annotated[int, Field(ge=0, le=10_000)] = 512
    """Requests of all sessions that wait for the engine; more are refused as busy."""
    handshake_s: Annotated[float, Field(gt=0, le=120)] = 15.0
    """Longest time from connecting to the welcome, the look at the chain included."""
    pay_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    """How long a request waits for a voucher."""
    queue_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long a request waits for the engine, or until other requests of its session are paid."""
    request_s: Annotated[float, Field(gt=0, le=7200)] = 900.0
    """Longest generation."""
    stall_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long a client may leave unread what was sent to it."""
    idle_s: Annotated[float, Field(gt=0, le=DAY_S)] = 900.0
    """How long a connection may be quiet."""


class SessionsConfig(_Section):
    """Sessions: when what clients signed is redeemed, and what is put at risk for them. Times in seconds."""

    serving: ServingConfig = ServingConfig()
    least_left_s: Annotated[int, Field(ge=10, le=DAY_S)] = 120
    """Nothing new is served in a session that expires sooner."""
    redeem_threshold: TonAmount = Field(default_factory=lambda: Nano.ton("0.5"))
    """Unredeemed money of one session that is redeemed at once."""
    redeem_period_s: Annotated[int, Field(ge=60, le=30 * DAY_S)] = DAY_S
    """Longest time between redemptions of a session that earns."""
    least_redeem: TonAmount = Field(default_factory=lambda: Nano.ton("0.008"))
    """Less is not worth the gas of a redemption, not even at the end. Nor is it more than opening and closing
    a session costs its client, so whoever uses less and goes gains nothing."""
    before_expiry_s: Annotated[int, Field(ge=0, le=7 * DAY_S)] = 600
    """How long before its expiry a session is redeemed in any case."""
    end_with_redeem: bool = True
    """End a session that its client closes, or that expired, with the redemption: the rest is free then."""
    look_s: Annotated[int, Field(ge=10, le=DAY_S)] = 600
    """How often a session that holds unredeemed money is looked at on chain, whatever notices say."""
    alarm_margin_s: Annotated[int, Field(ge=60, le=30 * DAY_S)] = 6 * 3600
    """Alarm when less time is left to redeem; at most half of the network's delay after closing."""
    guard: bool = False
    """Lock collateral of the stake for each session (AcceptSession)."""
    guard_most: TonAmount = Field(default_factory=lambda: Nano.ton(10))
    """Most collateral for one session; what would need more is served without."""
    voucher_dir: Path | None = None
    """Where the best vouchers are written for a watchtower, one file for each session."""


class WorkerConfig(ProgramSettings):
    """Everything a worker is told. Load it with `load_config`, or build it in a program."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
    )

    registry: AddressText
    owner: AddressText
    index: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] = 0
    operator_key_file: Path
    prekey_dir: Path
    data_dir: Path
    chain: ChainConfig = ChainConfig()
    engine: EngineConfig
    offers: Annotated[tuple[OfferConfig, ...], Field(min_length=1, max_length=64)]
    endpoint: EndpointConfig | None = None
    data: DataConfig = DataConfig()
    policy: Policy = Policy()
    sessions: SessionsConfig = SessionsConfig()
    arbiters: Annotated[dict[HexHash, str], Field(max_length=64)] = Field(default_factory=dict)
    """Where arbiters can be reached, by their verdict keys: they get this worker's evidence in disputes."""
    rehash: bool = False
    """Read all files of the models at the start, also those that did not change since the last one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = True

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({offer.model for offer in self.offers}) != len(self.offers):
            raise ValueError("a model is offered twice")
        verifiable = any(offer.sampling is not SamplingClass.UNVERIFIED for offer in self.offers)
        if self.engine.kind == "echo" and verifiable:
            raise ValueError("the echo chooses no tokens that could be verified: offer it as unverified")
        if self.data.inline is InlinePolicy.NEVER and not self._has_store():
            raise ValueError("inline = never needs endpoint.public_url, data.directory or data.result_store")
        return self

    def _has_store(self) -> bool:
        announced = self.endpoint is not None and self.endpoint.public_url is not None
        return announced or self.data.directory is not None or self.data.result_store is not None

    @property
    def journal_path(self) -> Path:
        """Where the journal lies."""
        return self.data_dir / "journal.sqlite"

    @property
    def registry_address(self) -> Address:
        """The network's registry."""
        return Address(self.registry)

    @property
    def owner_address(self) -> Address:
        """The stake's owner wallet."""
        return Address(self.owner)


def load_config(path: str | os.PathLike[str] | None = None) -> WorkerConfig:
    """Read the TOML file (argument, else `COCOON_WORKER_CONFIG`, else ./worker.toml) and the environment.

    Raises `ConfigError` naming each wrong setting, never its value.
    """
    named = path if path is not None else os.environ.get(CONFIG_VARIABLE)
    file = Path(named if named is not None else DEFAULT_CONFIG)
    if named is not None and not file.is_file():
        raise ConfigError(f"cannot read the worker's settings from {file}", why="there is no such file")
    return read_settings(WorkerConfig, file, whose="the worker's")
