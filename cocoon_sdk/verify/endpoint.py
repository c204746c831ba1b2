"""HTTP to the vLLM endpoint that re-scores: bounds, retries, and a named error for every failure.

Owns the socket side and the errors. Must not know what is asked. The API key lives in the session's headers
only: no error or repr shows it, and it never travels over plain HTTP to another machine. A request is sent
again only where the endpoint computed nothing of it: it was not reached, or it refused for being busy.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec
from yarl import URL

from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.errors import CocoonError, ConfigError

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_IDLE_S: Final = 2.0
"""How long an idle connection is kept. vLLM closes its side after 5 s, and a request that is just then on its
way breaks; whether something was computed for it, nobody can tell."""
_BUSY: Final = frozenset({429, 503})
_MAX_ERROR_BYTES: Final = 1 << 14
_MAX_ERROR_CHARS: Final = 300
_encode: Final = msgspec.json.Encoder().encode


class VerifierError(CocoonError):
    """An answer could not be re-scored; this says nothing about who gave it."""


class VerifierUnavailableError(VerifierError):
    """The endpoint is not reachable, fails, or does not let us in."""


class VerifierTimeoutError(VerifierUnavailableError):
    """The endpoint did not answer in time."""


class VerifierRefusedError(VerifierError):
    """The endpoint refuses the request itself; `answer` is its (shortened) text."""

    def __init__(self, what: str, *, answer: str, hint: str = "") -> None:
        super().__init__(what, why=answer, hint=hint)
        self.answer = answer


class VerifierAnswerError(VerifierError):
    """The endpoint answered something else than was asked for, or beyond a bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimits:
    """Bounds of one endpoint. Times in seconds; `timeout_s` is for one request."""

    timeout_s: float = 120.0
    attempts: int = 4
    backoff_s: float = 0.5

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.backoff_s <= 0 or self.attempts < 1:
            raise ConfigError("the verifier's limits make no sense", why="every bound must be positive")


class Endpoint:
    """POSTs JSON to one origin; close it in the end. `url` is the base that ends in /v1.

    Raises `ConfigError` for a URL or key that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        limits: EndpointLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._root = _checked_root(url, with_key=api_key is not None)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip()):
            raise ConfigError(
                "the verifier's API key cannot be used", why="it is empty or holds unprintable characters"
            )
        self._key = api_key
        self._limits = limits or EndpointLimits()
        self._clock = clock or SystemClock()
        self._session: aiohttp.ClientSession | None = None

    @property
    def host(self) -> str:
        """Host and port, fit to be shown."""
        return self._root.authority

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, path: str, body: dict[str, Any], *, max_bytes: int) -> bytes:
        """Send JSON to `path` (below the root, such as `v1/completions`); return the answer's bytes.

        Raises `VerifierUnavailableError`, `VerifierTimeoutError`, `VerifierRefusedError` or
        `VerifierAnswerError`.
        """
        data = _encode(body)
        for attempt in range(1, self._limits.attempts + 1):
            try:
                return await self._once(path, data, max_bytes)
            except _NothingDoneError as failed:
                if attempt == self._limits.attempts:
                    raise self._unavailable(str(failed)) from None
            await self._clock.sleep(self._limits.backoff_s * 2 ** (attempt - 1))
        raise AssertionError("the loop above returns or raises")

    async def _once(self, path: str, data: bytes, max_bytes: int) -> bytes:
        timeout_s = self._limits.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                request = self._connected().post(self._root / path, data=data, allow_redirects=False)
                async with request as response:
                    raw = await _read(response, max_bytes if response.status == 200 else _MAX_ERROR_BYTES)
        except TimeoutError:
            raise VerifierTimeoutError(
                f"the verifier at {self.host} is too slow",
                why=f"no answer within {timeout_s:g} s",
                hint="Give more time, or use a faster endpoint",
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise _NothingDoneError(f"cannot connect ({type(error.os_error).__name__})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(f"the connection broke ({type(error).__name__})") from None
        if response.status != 200:
            raise self._failure(response.status, raw)
        if len(raw) > max_bytes:
            raise VerifierAnswerError(
                "the verifier's answer cannot be used", why=f"it is longer than {max_bytes} bytes"
            )
        return raw

    def _failure(self, status: int, raw: bytes) -> Exception:
        text = f"HTTP {status}: {self._text(raw)}"
        if status in _BUSY:
            return _NothingDoneError(text)
        if status in (400, 404, 405, 413, 422):
            return VerifierRefusedError(f"the verifier at {self.host} refused the request", answer=text)
        if status in (401, 403):
            return self._unavailable(f"HTTP {status}: it does not let us in", hint="Check its API key")
        return self._unavailable(text)

    def _unavailable(self, why: str, *, hint: str = "Check that it runs") -> VerifierUnavailableError:
        return VerifierUnavailableError(f"the verifier at {self.host} is not available", why=why, hint=hint)

    def _text(self, raw: bytes) -> str:
        """Pick the message out of an error body: one line, bounded, never with the key in it."""
        text = raw.decode("utf-8", "replace")
        try:
            parsed: Any = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            parsed = None
        if isinstance(parsed, dict):
            inner = parsed.get("error", parsed.get("detail"))
            inner = inner.get("message") if isinstance(inner, dict) else inner
            text = inner if isinstance(inner, str) else text
        if self._key:
            text = text.replace(self._key, "[key]")
        line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return line[:_MAX_ERROR_CHARS] or "no explanation"

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Content-Type": "application/json"}
            if self._key is not None:
                headers["Authorization"] = f"Bearer {self._key}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(keepalive_timeout=_IDLE_S),
                timeout=aiohttp.ClientTimeout(),  # `timeout_s` alone counts: its own is five minutes
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


class _NothingDoneError(Exception):
    """The endpoint computed nothing: asking again costs nothing twice."""


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read the body up to one byte beyond `most`."""
    body = bytearray()
    async for piece in response.content.iter_chunked(1 << 18):
        body += piece
        if len(body) > most:
            break
    return bytes(body[: most + 1])


def _checked_root(url: str, *, with_key: bool) -> URL:
    what = "the verifier's URL cannot be used"
    try:
        parsed = URL(url)
    except (ValueError, TypeError):
        raise ConfigError(
            what, why="it is not a URL", hint="Give something like http://host:8000/v1"
        ) from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query_string or parsed.fragment:
        raise ConfigError(what, why="it is not of the form http(s)://host[:port]/v1")
    if parsed.user or parsed.password:
        raise ConfigError(what, why="it carries a secret", hint="Give the key on its own")
    if with_key and parsed.scheme == "http" and parsed.host not in _LOOPBACK:
        raise ConfigError(what, why="an API key must not travel over plain HTTP", hint="Use https://")
    return parsed.with_path(parsed.path.rstrip("/").removesuffix("/v1") + "/")
