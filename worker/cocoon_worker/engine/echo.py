"""A labelled stand-in for a model: it repeats the prompt and says so, for trying the paid path without one.

Owns nothing but the echo. It goes through the same request checks as a real engine, answers in the same forms
(whole and streamed, calls of tools, JSON by a schema, embeddings), and its counts are real counts of its own
tokens (words), so that prices, limits and budgets can be watched at work.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from typing import Final

import msgspec

from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.errors import EngineUnavailableError
from cocoon_worker.engine.base import (
    EngineChunk,
    EngineHealth,
    EngineKind,
    EngineLimits,
    EngineRequest,
    EngineRequestError,
    EngineResult,
    EngineState,
    EngineTimeoutError,
    EngineUsage,
    Json,
)
from cocoon_worker.engine.echo_forms import Reply, embeddings, reply_to, said_in
from cocoon_worker.engine.request import checked_body

ECHO_MODEL: Final = "echo"
ECHO_LABEL: Final = "[echo, not a model]"
_BLOCK: Final = 16
"""Words in a block of the prefix cache: only whole blocks are found again."""
_MAX_BLOCKS: Final = 1 << 14
_encode: Final = msgspec.json.Encoder().encode


class EchoEngine:
    """Answers with the label and the words of the prompt. One word is one token.

    `pace_s` is the time between the words of a streamed answer, by `clock`.
    """

    def __init__(
        self, *, limits: EngineLimits | None = None, clock: Clock | None = None, pace_s: float = 0.0
    ) -> None:
        self._limits = limits or EngineLimits()
        self._clock = clock or SystemClock()
        self._pace_s = pace_s
        self._started = False
        self._blocks: dict[bytes, None] = {}

    def models(self) -> tuple[str, ...]:
        """Return `("echo",)`, once started."""
        return (ECHO_MODEL,) if self._started else ()

    async def start(self) -> None:
        """Become ready; nothing is loaded."""
        self._started = True

    async def stop(self) -> None:
        """Stop answering."""
        self._started = False

    async def health(self) -> EngineHealth:
        """Ready between `start` and `stop`."""
        state = EngineState.READY if self._started else EngineState.STOPPED
        return EngineHealth(ready=self._started, state=state, detail="an echo, not a model")

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        """Repeat the last message or the prompt; see `Engine.run`."""
        body = self._ready(request, deadline_s)
        words = said_in(request.kind, body)
        cached = self._remember(words)
        head = self._head(request.kind, body)
        if request.kind is EngineKind.EMBEDDING:
            usage = EngineUsage(len(words), cached, 0)
            answer = {"object": "list", "data": embeddings(body), "model": ECHO_MODEL, "usage": _usage(usage)}
            return EngineResult(_encode(answer), usage)
        reply = reply_to(request.kind, body, ECHO_LABEL)
        usage = EngineUsage(len(words), cached, len(reply.pieces))
        choice: Json = {"index": 0, "logprobs": None, "finish_reason": reply.finish_reason}
        choice |= reply.whole(request.kind)
        answer = {**head, "system_fingerprint": ECHO_LABEL, "choices": [choice], "usage": _usage(usage)}
        return EngineResult(_encode(answer), usage)

    async def stream(self, request: EngineRequest, *, deadline_s: float) -> AsyncGenerator[EngineChunk, None]:
        """Repeat it word by word; see `Engine.stream`. The events are those that vLLM would send."""
        body = self._ready(request, deadline_s)
        if request.kind is EngineKind.EMBEDDING:
            raise EngineRequestError("the request is refused", why="embeddings are not streamed")
        words = said_in(request.kind, body)
        cached, prompt = self._remember(words), len(words)
        head = self._head(request.kind, body)
        if request.kind is EngineKind.CHAT:
            head["object"] = "chat.completion.chunk"
        reply = reply_to(request.kind, body, ECHO_LABEL)
        for done, choice in _steps(request.kind, reply):
            if not self._started:
                raise EngineUnavailableError("the echo engine was stopped")
            event = {**head, "choices": [choice], "usage": _usage(EngineUsage(prompt, 0, done), told=False)}
            yield EngineChunk(_encode(event), prompt, None, done, False)
            if self._pace_s:
                await self._clock.sleep(self._pace_s)
            else:
                await asyncio.sleep(0)
        usage = EngineUsage(prompt, cached, len(reply.pieces))
        event = {**head, "choices": [], "usage": _usage(usage), "system_fingerprint": ECHO_LABEL}
        yield EngineChunk(_encode(event), prompt, cached, len(reply.pieces), True)

    async def count_tokens(self, request: EngineRequest) -> int | None:
        """Count the words."""
        return len(said_in(request.kind, checked_body(request, (ECHO_MODEL,), self._limits)))

    def _ready(self, request: EngineRequest, deadline_s: float) -> Json:
        if not self._started:
            raise EngineUnavailableError("the echo engine is not running", hint="Call start() first.")
        if deadline_s <= 0:
            raise EngineTimeoutError("the request was not served", why="its deadline has passed already")
        return checked_body(request, self.models(), self._limits)

    def _head(self, kind: EngineKind, body: Json) -> Json:
        return {
            "id": "echo-" + hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()[:24],
            "object": "chat.completion" if kind is EngineKind.CHAT else "text_completion",
            "created": self._clock.now(),
            "model": ECHO_MODEL,
        }

    def _remember(self, words: list[str]) -> int:
        """Return how many words of a prompt were at the beginning of an earlier one, and keep its blocks."""
        found, known, chain = 0, True, hashlib.blake2b(digest_size=16)
        for start in range(0, len(words) - _BLOCK + 1, _BLOCK):
            chain.update("\0".join(words[start : start + _BLOCK]).encode())
            block = chain.digest()
            known = known and block in self._blocks
            # The last word is always read anew, as a model has to.
            found += _BLOCK if known and start + _BLOCK < len(words) else 0
            self._blocks.pop(block, None)
            self._blocks[block] = None
        while len(self._blocks) > _MAX_BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        return found


def _steps(kind: EngineKind, reply: Reply) -> Iterator[tuple[int, Json]]:
    """Yield the choice of each event and the tokens up to and with it."""
    common: Json = {"index": 0, "logprobs": None, "finish_reason": None}
    if kind is EngineKind.CHAT:
        yield 0, {**common, "delta": {"role": "assistant", "content": ""}}
    last = len(reply.pieces)
    for done, part in enumerate(reply.parts(kind), 1):
        yield done, {**common, **part, "finish_reason": reply.finish_reason if done == last else None}


def _usage(usage: EngineUsage, *, told: bool = True) -> Json:
    counts: Json = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    return counts | {"prompt_tokens_details": {"cached_tokens": usage.cached_tokens}} if told else counts
