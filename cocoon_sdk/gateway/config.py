"""Settings of a gateway: names, bounds and defaults.

Must not read files or the environment: the command line does. Money is TON in a file ("0.25") and `Nano` in
the program; times are seconds.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    StringConstraints,
    model_validator,
)

from cocoon_sdk.gateway.budgets import DEFAULT_CHUNK
from cocoon_sdk.protocol.session_wire import MAX_BODY_BYTES
from cocoon_sdk.types import Nano

DEFAULT_PORT: Final = 8410


def _ton(value: object) -> Nano:
    if isinstance(value, Nano):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError('expected an amount of TON as text, such as "0.25"')
    return Nano.ton(value)


def _origin(text: str) -> str:
    if text.endswith("/") or not text.startswith(("https://", "http://")):
        raise ValueError("an origin is http(s)://host[:port], without a path")
    return text


TonAmount: TypeAlias = Annotated[InstanceOf[Nano], BeforeValidator(_ton)]
HostName: TypeAlias = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9._:\[\]-]{1,253}\z")]
Origin: TypeAlias = Annotated[str, StringConstraints(max_length=300), AfterValidator(_origin)]


class GatewayConfig(BaseModel):
    """Everything a gateway is told about serving; which escrow pays is the caller's business."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: HostName = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = DEFAULT_PORT
    """0 takes a free one."""
    require_keys: Literal["auto", "always"] = "auto"
    """`auto`: keys are needed as soon as there is one, and always where others can connect."""
    allowed_hosts: tuple[HostName, ...] = ()
    """Further names under which a gateway without keys may be addressed."""
    cors_origins: tuple[Origin, ...] = ()
    """Web pages that may call the gateway from a browser; none by default."""
    open_metrics: bool = False
    """Whether /metrics needs no key where others can connect."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=MAX_BODY_BYTES)] = MAX_BODY_BYTES
    max_header_bytes: Annotated[int, Field(ge=1024, le=65_536)] = 8190
    """Longest request line, and longest header."""
    max_concurrent: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Requests under way, all keys together; more are refused with 429."""
    max_concurrent_per_key: Annotated[int, Field(ge=1, le=100_000)] = 256
    body_timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    write_timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long a client may take to read what is ready for it, before it is left."""
    request_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    keepalive_s: Annotated[float, Field(gt=0, le=3600)] = 75.0
    """How long a connection may be idle, and how long it may take to send a request's head."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """How long answers under way may take to end when the gateway is stopped."""

    max_price: TonAmount | None = None
    """The most that one request may cost."""
    budget_chunk: TonAmount = DEFAULT_CHUNK
    """What is taken of a key's budget at a time: what `kill -9` may cost a key."""
    flush_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """How often the use of keys is written down, and what idle keys hold is given back."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def needs_keys(self) -> bool:
        """Whether requests need a key even while there is none."""
        return self.require_keys == "always" or not self.is_local

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.budget_chunk <= 0 or (self.max_price is not None and self.max_price <= 0):
            raise ValueError("budget_chunk and max_price must be more than 0")
        return self
