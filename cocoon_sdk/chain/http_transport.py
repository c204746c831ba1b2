"""JSON-RPC over HTTP to one endpoint: bounds, retries, rate limit, and a named error for every failure.

Owns the socket side of the HTTP adapters. Must not know what the methods mean. The API key lives in the
session's headers only: no error, log line or repr shows it, and it never travels over plain HTTP to
another machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import (
    ChainError,
    ChainTimeoutError,
    ChainUnavailableError,
    ConfigError,
)

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_CHUNK = 1 << 16


class MalformedResponseError(ChainUnavailableError):
    """The endpoint answered with something that is not what the method returns, or exceeds a bound."""


class RateLimitedError(ChainUnavailableError):
    """The endpoint keeps refusing because of too many requests."""


class EndpointFailedError(ChainUnavailableError):
    """The endpoint answered that it failed; `status` is the HTTP code, `answer` its (shortened) words."""

    def __init__(self, what: str, *, status: int, answer: str, hint: str = "") -> None:
        super().__init__(
            what, why=f"status {status}: {answer[:300]}" if answer else f"status {status}", hint=hint
        )
        self.status, self.answer = status, answer


class RequestRefusedError(ChainError):
    """The endpoint says that the request itself is wrong or not allowed; repeating it is useless."""

    def __init__(self, what: str, *, status: int, answer: str, hint: str = "") -> None:
        super().__init__(
            what, why=f"status {status}: {answer[:300]}" if answer else f"status {status}", hint=hint
        )
        self.status, self.answer = status, answer


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Bounds of one endpoint. Times in seconds; `requests_per_s` None means no limit on our side.

    Worst case for one read: `attempts` timeouts plus the waits between them, each at most
    `backoff_max_s`, or `retry_after_max_s` where the endpoint asked for it.
    """

    timeout_s: float = 10.0
    attempts: int = 4
    backoff_s: float = 0.25
    backoff_max_s: float = 8.0
    retry_after_max_s: float = 30.0
    max_response_bytes: int = 8 << 20
    requests_per_s: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.timeout_s, self.backoff_s, self.backoff_max_s, self.retry_after_max_s)
        if min(numbers) <= 0 or self.attempts < 1 or self.max_response_bytes < 1:
            raise ConfigError("transport limits make no sense", why="every bound must be positive")
        if self.requests_per_s is not None and self.requests_per_s <= 0:
            raise ConfigError("transport limits make no sense", why="requests_per_s must be positive or None")


class _FailedAttempt(Exception):
    """One attempt's outcome: the error to raise in the end, and whether another attempt may help."""

    def __init__(
        self, error: ChainError, *, again: bool, unprocessed: bool = False, wait_s: float = 0.0
    ) -> None:
        super().__init__(error)
        self.error, self.again, self.unprocessed, self.wait_s = error, again, unprocessed, wait_s


class _Pacer:
    """Spaces requests evenly; an endpoint's wish to wait holds back everybody."""

    def __init__(self, clock: Clock, requests_per_s: float | None) -> None:
        self._clock = clock
        self._interval = 1.0 / requests_per_s if requests_per_s else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        now = float(self._clock.now())
        slot = max(self._next, now)
        self._next = slot + self._interval
        if slot > now:
            await self._clock.sleep(slot - now)

    def hold(self, seconds: float) -> None:
        self._next = max(self._next, self._clock.now() + seconds)


class JsonRpcTransport:
    """Calls methods of one HTTP endpoint. Safe to use from many tasks of one event loop."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        clock: Clock,
        limits: TransportLimits,
        jitter: random.Random | None = None,
    ) -> None:
        self._url = _checked_url(url, with_key=api_key is not None)
        self._key = api_key
        self._clock, self._limits = clock, limits
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._pacer = _Pacer(clock, limits.requests_per_s)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def host(self) -> str:
        """Host and port of the endpoint, fit to be shown."""
        return self._url.authority

    def __repr__(self) -> str:
        return f"JsonRpcTransport({self.host})"

    async def call(self, method: str, params: dict[str, Any], *, repeatable: bool = True) -> Any:
        """Call `method` and return its `result`.

        A failed attempt is repeated after a growing, jittered wait when `repeatable`; otherwise only when
        the endpoint refused it unprocessed. Raises `ChainTimeoutError`, `RateLimitedError`,
        `EndpointFailedError`, `MalformedResponseError`, `RequestRefusedError` or `ChainUnavailableError`.
        """
        attempt = 0
        while True:
            attempt += 1
            if self._closed:
                raise ChainUnavailableError(f"{method} at {self.host}", why="the adapter is closed")
            await self._pacer.wait()
            try:
                return await self._attempt(method, params)
            except _FailedAttempt as failed:
                again = failed.again and (repeatable or failed.unprocessed)
                if not again or attempt >= self._limits.attempts:
                    raise failed.error from failed.__cause__
                await self._clock.sleep(self._wait_s(attempt, failed.wait_s))

    def _wait_s(self, attempt: int, asked_s: float) -> float:
        ceiling = min(self._limits.backoff_max_s, self._limits.backoff_s * 2.0 ** (attempt - 1))
        return max(asked_s, ceiling * (0.5 + 0.5 * self._jitter.random()))

    async def _attempt(self, method: str, params: dict[str, Any]) -> Any:
        what = f"{method} at {self.host}"
        body = {"jsonrpc": "2.0", "id": "1", "method": method, "params": params}
        try:
            async with self._open_session().post(self._url, json=body, allow_redirects=False) as response:
                raw = await self._read(response, what)
                return self._result(response.status, response.headers.get("Retry-After"), raw, what)
        except TimeoutError as error:
            late = ChainTimeoutError(what, why=f"no complete answer within {self._limits.timeout_s:g} s")
            raise _FailedAttempt(late, again=True) from error
        except aiohttp.ClientConnectorError as error:
            unreachable = ChainUnavailableError(
                what, why=self._shown(str(error)), hint="Check the endpoint's URL"
            )
            raise _FailedAttempt(unreachable, again=True, unprocessed=True) from error
        except (aiohttp.ClientError, OSError) as error:
            broken = ChainUnavailableError(what, why=self._shown(f"{type(error).__name__}: {error}"))
            raise _FailedAttempt(broken, again=True) from error

    async def _read(self, response: aiohttp.ClientResponse, what: str) -> bytes:
        bound = self._limits.max_response_bytes
        raw = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            raw += chunk
            if len(raw) > bound:
                response.close()
                error = MalformedResponseError(what, why=f"answer exceeds {bound} bytes")
                raise _FailedAttempt(error, again=False)
        return bytes(raw)

    def _result(self, status: int, retry_after: str | None, raw: bytes, what: str) -> Any:
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError) as error:
            if status == 200:
                cut = MalformedResponseError(what, why=f"not JSON: {self._shown(str(error))}")
                raise _FailedAttempt(cut, again=True) from error
            answer = {"ok": False, "error": raw[:2000].decode("utf-8", "replace")}
        if not isinstance(answer, dict):
            raise _FailedAttempt(MalformedResponseError(what, why="answer is not an object"), again=True)
        if status == 200 and answer.get("ok") is True and "result" in answer:
            return answer["result"]
        words = answer.get("error")
        text = self._shown(words if isinstance(words, str) else json.dumps(words), 4000)
        code = answer.get("code")
        if status == 200 and isinstance(code, int) and 400 <= code <= 999:
            status = code
        raise self._failure(status, text, _seconds(retry_after, self._limits.retry_after_max_s), what)

    def _failure(self, status: int, text: str, asked_s: float, what: str) -> _FailedAttempt:
        if status == 429:
            self._pacer.hold(asked_s)
            hint = "Set a lower request rate, or use an API key"
            limited = RateLimitedError(what, why=text[:300] or "too many requests", hint=hint)
            return _FailedAttempt(limited, again=True, unprocessed=True, wait_s=asked_s)
        if status in (408, 504):
            return _FailedAttempt(ChainTimeoutError(what, why=text[:300]), again=True, wait_s=asked_s)
        if status in (401, 403):
            refused = RequestRefusedError(what, status=status, answer=text, hint="Check the API key")
            return _FailedAttempt(refused, again=False)
        if 300 <= status < 500:
            return _FailedAttempt(RequestRefusedError(what, status=status, answer=text), again=False)
        return _FailedAttempt(
            EndpointFailedError(what, status=status, answer=text), again=True, wait_s=asked_s
        )

    def _shown(self, text: str, limit: int = 300) -> str:
        """Make foreign text fit to be shown: no key, no control characters, bounded."""
        if self._key:
            text = text.replace(self._key, "***")
        return re.sub(r"[\x00-\x1f\x7f]+", " ", text).strip()[:limit]

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"X-API-Key": self._key} if self._key else None
            self._session = aiohttp.ClientSession(
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=self._limits.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=16),
            )
        return self._session

    async def close(self) -> None:
        """Close all sockets; further calls raise `ChainUnavailableError`."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None
            # The loop needs one turn to drop the transports, or their destructors warn.
            await asyncio.sleep(0)


def _checked_url(url: str, *, with_key: bool) -> URL:
    try:
        parsed = URL(url)
    except (ValueError, TypeError):
        raise ConfigError("endpoint is not a URL", hint="Give something like https://host/api/v2") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError("endpoint is not an HTTP URL", hint="Give something like https://host/api/v2")
    if parsed.user or parsed.password or parsed.query_string:
        raise ConfigError("endpoint carries a secret or a query", hint="Pass the key as api_key instead")
    if with_key and parsed.scheme == "http" and parsed.host not in _LOOPBACK:
        raise ConfigError("an API key must not travel over plain HTTP", hint="Use an https:// endpoint")
    path = parsed.path.rstrip("/")
    return parsed.with_path(path if path.endswith("/jsonRPC") else f"{path}/jsonRPC")


def _seconds(retry_after: str | None, most: float) -> float:
    """Read a Retry-After in seconds; the date form is rare here and falls back to our own waiting."""
    if retry_after is None or not re.fullmatch(r"[0-9]{1,9}", retry_after.strip()):
        return 0.0
    return min(float(retry_after), most)
