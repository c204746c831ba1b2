"""Any existing OpenAI-compatible endpoint as an engine, over HTTP.

Owns what is asked of the endpoint, time limits, and the meaning of every way it can fail. Must not know who
runs the endpoint or why. The bearer key is never shown: not in a repr, a log or an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from cocoon_sdk.errors import ConfigError, EngineError, EngineInterruptedError, EngineUnavailableError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_worker.engine.answers import EventReader, parse_answer, parse_count, parse_version, unusable
from cocoon_worker.engine.base import (
    ON_CPU,
    EngineAnswerError,
    EngineChunk,
    EngineHealth,
    EngineIdentity,
    EngineKind,
    EngineLimits,
    EngineRequest,
    EngineRequestError,
    EngineResult,
    EngineState,
    EngineTimeoutError,
    Json,
)
from cocoon_worker.engine.evidence import EvidenceTaker
from cocoon_worker.engine.http import (
    BrokenError,
    Exchange,
    GarbledError,
    HttpClient,
    TooLongError,
    UnreachableError,
    UpstreamError,
)
from cocoon_worker.engine.probe import prove_sampling
from cocoon_worker.engine.request import checked_body
from cocoon_worker.engine.sse import EventLines

_PATHS: Final = {
    EngineKind.CHAT: "/chat/completions",
    EngineKind.COMPLETION: "/completions",
    EngineKind.EMBEDDING: "/embeddings",
}
_PROBE_TIMEOUT_S: Final = 5.0
_MAX_PROBE_BYTES: Final = 1 << 20
_MAX_COUNT_BYTES: Final = 1 << 23
_MAX_ERROR_BYTES: Final = 1 << 14
_MAX_ERROR_CHARS: Final = 300
_MAX_MODELS: Final = 256
_STREAMED: Final[Json] = {
    "stream": True,
    # Every event says what was used up so far: a session charges by it, piece by piece.
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}
_NO_TOKENIZER: Final = frozenset({404, 405, 501})
_encode: Final = msgspec.json.Encoder().encode


class _ExpiredError(UpstreamError):
    """The deadline passed."""


class OpenAIEngine:
    """An engine behind a base URL such as `http://127.0.0.1:8000/v1`.

    `models` limits what may be asked for; without it the endpoint's own list is taken at `start`. `sampling`
    is the most that is promised of its answers: `start` sees whether it can be kept. `identity` is what is
    said of the engine in commitments; a version left open is asked for. Raises `ConfigError` when the URL or
    the key cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        models: Sequence[str] | None = None,
        limits: EngineLimits | None = None,
        sampling: SamplingClass = SamplingClass.UNVERIFIED,
        identity: EngineIdentity | None = None,
    ) -> None:
        self._base = _checked_base(base_url)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip()):
            raise ConfigError(
                "the engine's API key cannot be used", why="it is empty or holds unprintable characters"
            )
        self._path = urlsplit(self._base).path
        self._api_key = api_key
        self._only_models = None if models is None else frozenset(models)
        self._limits = limits or EngineLimits()
        self._sampling, self._identity = sampling, identity or EngineIdentity()
        self._models: tuple[str, ...] = ()
        self._http: HttpClient | None = None
        self._tokenizes = True

    def __repr__(self) -> str:
        return f"OpenAIEngine({self._base!r})"

    def models(self) -> tuple[str, ...]:
        """Return the names found at `start`."""
        return self._models

    async def start(self) -> None:
        """Connect and read the model list.

        Raises `EngineUnavailableError`, or `ConfigError` when a wanted model is not served, or not in a way
        that can be verified as promised.
        """
        if self._http is None:
            headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            self._http, self._tokenizes = HttpClient(self._base, headers), True
        try:
            found = await self._list_models()
            missing = (self._only_models or frozenset()) - set(found)
            if missing:
                raise ConfigError(
                    f"{self._base} does not serve {', '.join(sorted(missing))}",
                    why=f"it serves {', '.join(found) or 'no model'}",
                )
            only = self._only_models
            self._models = tuple(name for name in found if only is None or name in only)
            if self._sampling is not SamplingClass.UNVERIFIED:
                if not self._identity.engine:
                    self._identity = replace(self._identity, engine=await self._version())
                for model in self._models:
                    await prove_sampling(self, model, self._sampling)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the connections; the endpoint itself is not ours to stop."""
        http, self._http, self._models = self._http, None, ()
        if http is not None:
            await http.close()

    async def health(self) -> EngineHealth:
        """Ask for the model list; ready when it comes within a few seconds."""
        if self._http is None:
            return EngineHealth(ready=False, state=EngineState.STOPPED, detail="not started")
        try:
            await self._list_models()
        except EngineError as error:
            return EngineHealth(ready=False, state=EngineState.BACKOFF, detail=str(error))
        return EngineHealth(ready=True, state=EngineState.READY)

    # -- answers -------------------------------------------------------------------------------------------

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        """See `Engine.run`. A broken connection after the request was sent counts as interrupted."""
        http, body = self._ready(request, deadline_s)
        taker = self._taker(request, body)
        try:
            async with asyncio.timeout(deadline_s):
                async with await http.post(self._path + _PATHS[request.kind], _encode(body)) as answer:
                    await self._check_status(answer)
                    raw = await answer.read_all(self._limits.max_response_bytes)
        except TimeoutError:
            raise _too_late(deadline_s) from None
        except UpstreamError as error:
            raise self._failed(error, deadline_s) from None
        result = parse_answer(request.kind, raw)
        return result if taker is None else taker.whole(result)

    async def stream(self, request: EngineRequest, *, deadline_s: float) -> AsyncGenerator[EngineChunk, None]:
        """See `Engine.stream`. Closing the generator closes the connection, at which vLLM stops."""
        http, body = self._ready(request, deadline_s)
        if request.kind is EngineKind.EMBEDDING:
            raise EngineRequestError("the request is refused", why="embeddings are not streamed")
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        lines, reader, taker = EventLines(), EventReader(), self._taker(request, body)
        left = self._limits.max_response_bytes
        try:
            async with asyncio.timeout(deadline_s):
                answer = await http.post(self._path + _PATHS[request.kind], _encode(body | _STREAMED))
            async with answer:
                # One timer for the whole stream, instead of one for each of its pieces.
                alarm = loop.call_at(end, answer.expire, _ExpiredError())
                try:
                    await self._check_status(answer)
                    while not lines.done and (piece := await answer.read()):
                        left -= len(piece)
                        if left < 0:
                            raise TooLongError(f"it is longer than {self._limits.max_response_bytes} bytes")
                        for data in lines.feed(piece):
                            chunk = reader.read(data)
                            if chunk is not None and taker is not None:
                                chunk = taker.step(chunk)
                            if chunk is not None:
                                yield chunk
                    last = reader.close()
                    yield last if taker is None else taker.last(last)
                    if lines.done:
                        await answer.read()  # what is left is the end itself: the connection can be kept
                finally:
                    alarm.cancel()
        except TimeoutError:
            raise _too_late(deadline_s) from None
        except UpstreamError as error:
            raise self._failed(error, deadline_s) from None

    async def count_tokens(self, request: EngineRequest) -> int | None:
        """Ask the tokenizer that vLLM serves beside the API; see `Engine.count_tokens`."""
        http = self._http
        asked = checked_body(request, self._models, self._limits)
        question = _tokenizer_question(request.kind, asked)
        if isinstance(question, int):
            return question
        if http is None or question is None or not self._tokenizes:
            return None
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                path = self._path.removesuffix("/v1") + "/tokenize"
                async with await http.post(path, _encode(question)) as answer:
                    if answer.status in _NO_TOKENIZER:
                        self._tokenizes = False
                    if answer.status != 200:
                        return None
                    return parse_count(await answer.read_all(_MAX_COUNT_BYTES))
        except (TimeoutError, UpstreamError):
            return None

    def _ready(self, request: EngineRequest, deadline_s: float) -> tuple[HttpClient, Json]:
        http = self._open_client()
        if deadline_s <= 0:
            raise EngineTimeoutError("the request was not sent", why="its deadline has passed already")
        body = checked_body(request, self._models, self._limits)
        if self._identity.platform == ON_CPU:
            # vLLM on a CPU (0.32) dies of a seeded request whose prompt it takes in pieces. What can be
            # replayed loses nothing: our sampler draws from a seed of its own.
            body.pop("seed", None)
        return http, body

    def _taker(self, request: EngineRequest, body: Json) -> EvidenceTaker | None:
        """Add to the body what brings evidence, where it is asked for."""
        if not request.evidence or request.kind is EngineKind.EMBEDDING:
            return None
        taker = EvidenceTaker(request.kind, body, self._identity)
        body |= taker.fields
        return taker

    # -- failures ------------------------------------------------------------------------------------------

    async def _check_status(self, answer: Exchange) -> None:
        if answer.status != 200:
            raw = await answer.read_all(_MAX_ERROR_BYTES, cut=True)
            raise self._failure(answer.status, raw)

    async def _list_models(self) -> list[str]:
        http = self._open_client()
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                async with await http.get(self._path + "/models") as answer:
                    raw = await answer.read_all(_MAX_PROBE_BYTES, cut=answer.status != 200)
        except TimeoutError:
            raise self._unavailable(f"no answer within {_PROBE_TIMEOUT_S:g} s") from None
        except UpstreamError as error:
            raise self._unavailable(str(error)) from None
        if answer.status != 200:
            raise self._unavailable(f"HTTP {answer.status}: {self._error_text(raw)}")
        try:
            names = [entry["id"] for entry in msgspec.json.decode(raw)["data"][:_MAX_MODELS]]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._unavailable("its model list is not in the OpenAI form") from None
        if not all(isinstance(name, str) and name for name in names):
            raise self._unavailable("its model list holds something that is not a name")
        return names

    async def _version(self) -> str:
        """Ask for the engine's version, as vLLM tells it; "" when nobody does."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                async with await self._open_client().get(
                    self._path.removesuffix("/v1") + "/version"
                ) as answer:
                    raw = await answer.read_all(_MAX_ERROR_BYTES, cut=True)
        except (TimeoutError, UpstreamError):
            return ""
        return parse_version(raw) if answer.status == 200 else ""

    def _open_client(self) -> HttpClient:
        if self._http is None:
            raise self._unavailable("the engine was not started, or was stopped")
        return self._http

    def _failed(self, error: UpstreamError, deadline_s: float) -> EngineError:
        match error:
            case _ExpiredError():
                return _too_late(deadline_s)
            case UnreachableError():
                return self._unavailable(str(error))
            case TooLongError():
                return EngineAnswerError(
                    "the engine's answer cannot be used",
                    why=str(error),
                    hint="Ask for fewer tokens or log-probabilities.",
                )
            case GarbledError():
                return unusable(str(error))
            case _:
                answered = isinstance(error, BrokenError) and error.answered
                return EngineInterruptedError(
                    f"the engine at {self._base} broke off "
                    + ("while answering" if answered else "before it began to answer"),
                    why=str(error),
                    hint="Send the request again when it is back.",
                )

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
            parsed: Any = msgspec.json.decode(raw)
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


def _tokenizer_question(kind: EngineKind, body: Json) -> Json | int | None:
    """Return what to ask the tokenizer; a count when there is nothing to ask, None when one cannot ask."""
    question: Json = {"model": body["model"]}
    if kind is EngineKind.CHAT:
        names = ("messages", "tools", "add_generation_prompt", "continue_final_message")
        return question | {name: body[name] for name in names if body.get(name) is not None}
    text = body["prompt"] if kind is EngineKind.COMPLETION else body["input"]
    if isinstance(text, str):
        return question | {"prompt": text, "add_special_tokens": body.get("add_special_tokens") is not False}
    if all(isinstance(token, int) for token in text):
        return len(text)
    return None


def _too_late(deadline_s: float) -> EngineTimeoutError:
    return EngineTimeoutError(
        "the answer was not complete in time",
        why=f"{deadline_s:g} s were given",
        hint="Ask for fewer tokens or give more time.",
    )


def _checked_base(url: str) -> str:
    parts = urlsplit(url)
    plain = url.isascii() and url.isprintable() and " " not in url
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or not plain
    ):
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
