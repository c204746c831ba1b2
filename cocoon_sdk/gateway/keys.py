"""API keys: their form, what they allow, and which of them a request brought.

Owns the text of a key, its hash, and the copy of all keys that requests are checked against. Must not know
HTTP or SQL. The text is shown once, when it is made; only its SHA-256 is kept, which is enough because a key
is 256 random bits and nothing a person chose. Two texts are compared by their hashes, in constant time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from cocoon_sdk.errors import CocoonError, ConfigError
from cocoon_sdk.gateway.errors import MissingKeyError, WrongKeyError
from cocoon_sdk.types import Nano

ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
MAX_NAME_CHARS: Final = 64
MAX_KEYS: Final = 10_000
"""Keys of one gateway: all of them are held in memory."""
REFRESH_S: Final = 2.0
"""After how long a change to a key is noticed by a running gateway, revoking it included."""
UNKNOWN_REFRESH_S: Final = 0.25
"""How often at most a key that is not known makes the gateway look again."""
_FORM: Final = re.compile(r"\Ask-cocoon-([0-9a-f]{12})-[A-Za-z0-9_-]{43}\Z")
_NAME: Final = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9 ._@/+-]{0,63}\Z")
_NOBODY: Final = bytes(32)


class UnknownKeyError(CocoonError):
    """No API key has that id or name."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key allows. Budgets in nanoTON, rates per minute; None: no limit of its own.

    Raises `ConfigError` for limits that make no sense.
    """

    budget_total: Nano | None = None
    budget_day: Nano | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    models: frozenset[str] = frozenset()
    """Models that the key may use; empty: all."""

    def __post_init__(self) -> None:
        for name, amount in (("total", self.budget_total), ("daily", self.budget_day)):
            if amount is not None and not 0 <= amount < 1 << 62:
                raise ConfigError(f"the {name} budget makes no sense", why="it lies outside of 0 to 2^62 - 1")
        for name, rate in (("requests", self.requests_per_minute), ("tokens", self.tokens_per_minute)):
            if rate is not None and not 1 <= rate <= 1_000_000_000:
                raise ConfigError(f"the limit of {name} makes no sense", why="it is not 1 to 10^9 a minute")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the gateway knows it: never its text. Times are unix seconds."""

    id: str
    name: str
    digest: bytes
    limits: KeyLimits
    created: int
    revoked: int | None = None

    def allows(self, model: str) -> bool:
        """Tell whether the key may use that model."""
        return not self.limits.models or model in self.limits.models


def new_key(name: str, limits: KeyLimits, now: int) -> tuple[ApiKey, str]:
    """Return a new key and its text, which exists nowhere else. Raises `ConfigError` for a bad name."""
    if not _NAME.match(name):
        raise ConfigError(
            "not a name for a key",
            why=f"a name has 1 to {MAX_NAME_CHARS} letters, digits, spaces or . _ @ / + -",
        )
    key_id = secrets.token_hex(ID_BYTES)
    text = f"sk-cocoon-{key_id}-{secrets.token_urlsafe(SECRET_BYTES)}"
    return ApiKey(key_id, name, digest_of(text), limits, now), text


def digest_of(text: str) -> bytes:
    """Return what is kept of a key's text."""
    return hashlib.sha256(b"cocoon gateway key\0" + text.encode()).digest()


class KeySource(Protocol):
    """Where all keys are read from."""

    async def keys(self) -> Mapping[str, ApiKey]:
        """Return all keys by id, revoked ones too."""
        ...


class KeyRing:
    """All keys in memory, read anew every `REFRESH_S`; `authenticate` touches the database for no request.

    `now` is a steady time in seconds. `required` tells whether a request without a valid key is refused.
    """

    def __init__(self, source: KeySource, now: Callable[[], float], *, required: bool) -> None:
        self._source, self._now = source, now
        self._always = required
        self._keys: Mapping[str, ApiKey] = {}
        self._valid = 0
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    @property
    def required(self) -> bool:
        """Whether requests need a key: by setting, or because there is one."""
        return self._always or self._valid > 0

    def __len__(self) -> int:
        return self._valid

    async def refresh(self, max_age_s: float = 0.0) -> None:
        """Read all keys, unless that was done within `max_age_s`. Raises `StorageError`."""
        if self._now() - self._read_at < max_age_s:
            return
        async with self._reading:
            if self._now() - self._read_at >= max_age_s:
                started = self._now()
                self._keys = await self._source.keys()
                self._valid = sum(key.revoked is None for key in self._keys.values())
                self._read_at = started

    async def authenticate(self, authorization: str | None) -> ApiKey | None:
        """Return the key of an `Authorization` header, None when none is needed.

        Raises `MissingKeyError` or `WrongKeyError`.
        """
        if self._now() - self._read_at >= REFRESH_S:
            await self.refresh(REFRESH_S)
        if not self.required:
            return None
        if not authorization:
            raise MissingKeyError(
                "no API key was sent", hint="Send it as `Authorization: Bearer sk-cocoon-...`"
            )
        scheme, _, text = authorization.partition(" ")
        match = _FORM.match(text.strip()) if scheme.lower() == "bearer" else None
        if match is None:
            raise _wrong("it does not have the form of one")
        digest = digest_of(match.group(0))
        key = self._keys.get(match.group(1))
        if key is None:
            await self.refresh(UNKNOWN_REFRESH_S)
            key = self._keys.get(match.group(1))
        known = hmac.compare_digest(_NOBODY if key is None else key.digest, digest)
        if key is None or not known:
            raise _wrong("it is not known here")
        if key.revoked is not None:
            raise _wrong("it was revoked")
        return key


def _wrong(why: str) -> WrongKeyError:
    hint = "Ask the operator of this gateway for a key (`cocoon gateway keys add`)"
    # In OpenAI's words: LiteLLM tells by them that it is the key.
    return WrongKeyError("Incorrect API key provided", why=why, hint=hint)
