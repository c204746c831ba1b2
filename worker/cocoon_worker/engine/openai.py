"""Any existing OpenAI-compatible endpoint as an engine, over HTTP.

Owns the HTTP exchange: time limits, bounded reading, and the meaning of every way it can fail. Must not
know who runs the endpoint or why. The bearer key is never shown: not in a repr, a log or an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from urllib.parse import urlsplit

import aiohttp

from cocoon_sdk.errors import ConfigError, EngineError, EngineInterruptedError, EngineUnavailableError
from cocoon_worker.engine.base import (
    EngineAnswerError,
    EngineHealth,
    EngineKind,
    EngineLimits,
    EngineRequest,
    EngineRequestError,
    EngineResult,
    EngineState,
    EngineTimeoutError,
    parse_answer,
)
from cocoon_worker.engine.request import checked_body

_PATHS = {
    EngineKind.CHAT: "/chat/completions",
    EngineKind.COMPLETION: "/completions",
    EngineKind.EMBEDDING: "/embeddings",
}
_CONNECT_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 5.0
_MAX_PROBE_BYTES = 1 << 20
_MAX_ERROR_BYTES = 1 << 14
_MAX_ERROR_CHARS = 300
_MAX_MODELS = 256
_CHUNK_BYTES = 1 << 16


class OpenAIEngine:
    """An engine behind a base URL such as `http://127.0.0.1:8000/v1`.

    `models` limits what may be asked for; without it the endpoint's own list is taken at `start`. Raises
    `ConfigError` when the URL or the key cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        models: Sequence[str] | None = None,
        limits: EngineLimits | None = None,
    ) -> None:
        self._base = _checked_base(base_url)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip()):
            raise ConfigError(
                "the engine's API key cannot be used", why="it is empty or holds unprintable characters"
            )
        self._api_key = api_key
        self._only_models = None if models is None else frozenset(models)
        self._limits = limits or EngineLimits()
        self._models: tuple[str, ...] = ()
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"OpenAIEngine({self._base!r})"

    def models(self) -> tuple[str, ...]:
        """Return the names found at `start`."""
        return self._models

    async def start(self) -> None:
        """Connect and read the model list.

        Raises `EngineUnavailableError`, or `ConfigError` when a wanted model is not served.
        """
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout)
        try:
            found = await self._list_models()
            missing = (self._only_models or frozenset()) - set(found)
            if missing:
                raise ConfigError(
                    f"{self._base} does not serve {', '.join(sorted(missing))}",
                    why=f"it serves {', '.join(found) or 'no model'}",
                )
        except BaseException:
            await self.stop()
            raise
        self._models = tuple(name for name in found if self._only_models is None or name in self._only_models)

    async def stop(self) -> None:
        """Close the connections; the endpoint itself is not ours to stop."""
        session, self._session, self._models = self._session, None, ()
        if session is not None:
            await session.close()

    async def health(self) -> EngineHealth:
        """Ask for the model list; ready when it comes within a few seconds."""
        if self._session is None:
            return EngineHealth(ready=False, state=EngineState.STOPPED, detail="not started")
        try:
            await self._list_models()
        except EngineError as error:
            return EngineHealth(ready=False, state=EngineState.BACKOFF, detail=str(error))
        return EngineHealth(ready=True, state=EngineState.READY)

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        """See `Engine.run`. A broken connection after the request was sent counts as interrupted."""
        session = self._open_session()
        if deadline_s <= 0:
            raise EngineTimeoutError("the request was not sent", why="its deadline has passed already")
        body = checked_body(request, self._models, self._limits)
        payload = json.dumps(body, allow_nan=False).encode()
        sent = False
        try:
            async with (
                asyncio.timeout(deadline_s),
                session.post(
                    self._base + _PATHS[request.kind],
                    data=payload,
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,  # a redirect could carry prompt and key to somebody else
                ) as response,
            ):
                sent = True
                limit = self._limits.max_response_bytes if response.status == 200 else _MAX_ERROR_BYTES
                raw = await _read_bounded(response, limit, cut=response.status != 200)
        except TimeoutError:
            raise EngineTimeoutError(
                "the answer was not complete in time",
                why=f"{deadline_s:g} s were given",
                hint="Ask for fewer tokens or give more time.",
            ) from None
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            raise self._unavailable(type(error).__name__) from None
        except (aiohttp.ClientError, OSError) as error:
            step = "while answering" if sent else "before it began to answer"
            raise EngineInterruptedError(
                f"the engine at {self._base} broke off {step}",
                why=type(error).__name__,
                hint="Send the request again when it is back.",
            ) from None
        if response.status != 200:
            raise self._failure(response.status, raw)
        return parse_answer(request.kind, raw)

    async def _list_models(self) -> list[str]:
        session = self._open_session()
        try:
            async with (
                asyncio.timeout(_PROBE_TIMEOUT_S),
                session.get(self._base + "/models", allow_redirects=False) as response,
            ):
                raw = await _read_bounded(response, _MAX_PROBE_BYTES, cut=response.status != 200)
        except TimeoutError:
            raise self._unavailable(f"no answer within {_PROBE_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(type(error).__name__) from None
        if response.status != 200:
            raise self._unavailable(f"HTTP {response.status}: {self._error_text(raw)}")
        try:
            names = [entry["id"] for entry in json.loads(raw)["data"][:_MAX_MODELS]]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._unavailable("its model list is not in the OpenAI form") from None
        if not all(isinstance(name, str) and name for name in names):
            raise self._unavailable("its model list holds something that is not a name")
        return names

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise self._unavailable("the engine was not started, or was stopped")
        return self._session

    def _failure(self, status: int, raw: bytes) -> EngineError:
        text = self._error_text(raw)
        if status in (400, 404, 413, 422):
            return EngineRequestError("the engine refused the request", why=f"HTTP {status}: {text}")
        if status in (401, 403):
            return EngineUnavailableError(
                f"the engine at {self._base} does not let us in",
                why=f"HTTP {status}",
                hint="Check its API key.",
            )
        if status == 500:
            # vLLM answers 500 to what was being generated when its inner process died.
            return EngineInterruptedError("the engine failed while generating", why=f"HTTP {status}: {text}")
        return self._unavailable(f"HTTP {status}: {text}")

    def _unavailable(self, why: str) -> EngineUnavailableError:
        return EngineUnavailableError(
            f"the engine at {self._base} is not available",
            why=why,
            hint="Check that it runs and is not overloaded.",
        )

    def _error_text(self, raw: bytes) -> str:
        """Pick the message out of an error body: one line, bounded, never with the key in it."""
        text = raw.decode("utf-8", "replace")
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict):
            inner = parsed.get("error", parsed.get("detail", text))
            inner = inner.get("message", text) if isinstance(inner, dict) else inner
            text = inner if isinstance(inner, str) else text
        if self._api_key:
            text = text.replace(self._api_key, "[key]")
        line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return line[:_MAX_ERROR_CHARS] or "no explanation"


async def _read_bounded(response: aiohttp.ClientResponse, limit: int, *, cut: bool) -> bytes:
    """Read a body of at most `limit` bytes; a longer one is cut (error texts) or refused (answers)."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit:
            response.close()
            if cut:
                break
            raise EngineAnswerError(
                "the engine's answer cannot be used",
                why=f"it is longer than {limit} bytes",
                hint="Ask for fewer tokens or log-probabilities.",
            )
    return bytes(body[:limit])


def _checked_base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            "the engine's URL cannot be used",
            why="it is not of the form http(s)://host[:port]/path",
            hint="Give the base that ends in /v1.",
        )
    if parts.username or parts.password:
        raise ConfigError(
            "the engine's URL cannot be used",
            why="it carries a password, which would end up in logs",
            hint="Pass the key as the API key.",
        )
    return url.rstrip("/")
