"""A stand-in for vLLM's HTTP server, and labelled so: its fields and its sampling, over a model of ten words.

Bodies and events have the very form of vLLM 0.32: what is written when nobody asks for token ids or
log-probabilities is `null` at the same places. The next word's logits follow from the words before, so every
answer can be computed again; with `sampler` it chooses by our noise when asked to, else the best word always.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web

from cocoon_sdk.verify.noise import NOISE_UNIT, gumbel

MODEL = "ten-words"
WORDS = (
    " zero",
    ' "one"',
    " [2]",
    ' "token_ids":[3],',
    ' "logprobs":null',
    " }5",
    " six\n",
    " é",
    " \\8",
    " nine",
)
END = 10
VERSION = "0.32.0"


def logprobs_after(tokens: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the log-probabilities of what may follow, the end token last."""
    seed = hashlib.sha256(",".join(map(str, tokens)).encode()).digest()
    logits = np.array([seed[place] / 64 for place in range(len(WORDS))] + [seed[20] / 48])
    found: np.ndarray[Any, np.dtype[np.float64]] = logits - math.log(np.exp(logits).sum())
    return found


def prompt_of(body: dict[str, Any]) -> list[int]:
    """Return a prompt's tokens: its bytes, above the words."""
    if isinstance(body.get("prompt"), list):
        return list(body["prompt"])
    text = body.get("prompt") or json.dumps(body["messages"])
    return [20 + byte for byte in str(text).encode()]


def decoded(tokens: list[int]) -> str:
    """Return tokens as text, special ones too."""
    return "".join(
        WORDS[token] if token < END else "<|end|>" if token == END else chr(token - 20) for token in tokens
    )


@dataclass
class VllmDouble:
    """What the server is like, and the bodies it has seen."""

    sampler: bool = True
    evidence: bool = True
    table: Callable[[list[int]], np.ndarray[Any, np.dtype[np.float64]]] = logprobs_after
    """The model: log-probabilities of what may follow."""
    down: bool = False
    """Whether it answers nothing but 503."""
    pause: asyncio.Event | None = None
    """What every request waits for."""
    spaced: bool = False
    hidden: Callable[[int], bool] = lambda place: False
    """Which of an answer's tokens come without any text, as control words of tools do."""
    pause_at: int | None = None
    """After so many tokens a stream waits for `go_on`; `paused` tells that it does."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    _goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def go_on(self) -> None:
        """End the pause."""
        self._goes_on.set()

    def generate(self, body: dict[str, Any]) -> tuple[list[int], list[int], list[int], str]:
        """Return prompt, tokens, the likeliest word at each place, and the finish reason."""
        prompt = prompt_of(body)
        tokens: list[int] = []
        best: list[int] = []
        given = (body.get("vllm_xargs") or {}) if self.sampler else {}
        temperature = given.get("cocoon_temperature", 0) / 1_000_000
        for place in range(int(body.get("max_completion_tokens") or body["max_tokens"])):
            scores = self.table(prompt + tokens)
            if body.get("ignore_eos"):
                scores[END] = -100.0
            best.append(int(scores.argmax()))
            if given:
                if keep := given["cocoon_top_k"]:
                    scores = np.where(scores >= np.sort(scores)[-keep], scores, -np.inf)
                noise = gumbel(bytes.fromhex(given["cocoon_seed"]), place, np.arange(len(scores)))
                scores = scores + temperature * noise * NOISE_UNIT
            tokens.append(int(scores.argmax()))
            if tokens[-1] == END:
                return prompt, tokens, best, "stop"
        return prompt, tokens, best, "length"

    def _text(self, tokens: list[int]) -> str:
        return "".join(WORDS[token] for token in tokens if token != END)

    def _logprobs(self, body: dict[str, Any], prompt: list[int], tokens: list[int], first: int) -> Any:
        chat = "messages" in body
        asked = body.get("logprobs")
        if not asked if chat else asked is None:
            return None
        content, top = [], []
        for place in range(first, len(tokens)):
            table = self.table(prompt + tokens[:place])
            if body.get("ignore_eos"):
                table[END] = -100.0
            most = body.get("top_logprobs") or 0 if chat else asked
            likeliest = [int(each) for each in np.argsort(-table)[:most]]
            text, value = self._text(tokens[place : place + 1]), float(table[tokens[place]])
            tops = [{"token": self._text([each]), "logprob": float(table[each])} for each in likeliest]
            content.append({"token": text, "logprob": value, "bytes": [*text.encode()], "top_logprobs": tops})
            top.append({f"token_id:{each}": float(table[each]) for each in {*likeliest, tokens[place]}})
        if chat:
            return {"content": content}
        return {
            "text_offset": [0] * len(content),
            "token_logprobs": [each["logprob"] for each in content],
            "tokens": [each["token"] for each in content],
            "top_logprobs": top,
        }

    def _ids(self, body: dict[str, Any], tokens: list[int]) -> list[int] | None:
        return tokens if self.evidence and body.get("return_token_ids") else None

    def scored(self, prompt: list[int], most: int) -> list[dict[str, Any] | None]:
        """Return a prompt's own log-probabilities, with the likeliest words at each place."""
        rows: list[dict[str, Any] | None] = [None]
        for place in range(1, len(prompt)):
            scores = self.table(prompt[:place])
            order = [int(each) for each in np.argsort(-scores, kind="stable")]
            listed = {*order[:most], prompt[place]}
            rows.append(
                {
                    str(each): {
                        "logprob": float(scores[each]) if each < len(scores) else -30.0,
                        "rank": order.index(each) + 1 if each < len(scores) else len(scores) + 1,
                        "decoded_token": decoded([each]),
                    }
                    for each in listed
                }
            )
        return rows

    def whole(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a body."""
        prompt, tokens, _, finish = self.generate(body)
        chat, text = "messages" in body, self._text(tokens)
        logprobs = self._logprobs(body, prompt, tokens, 0) if self.evidence else None
        choice: dict[str, Any] = {"index": 0}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice |= {"logprobs": logprobs, "finish_reason": finish, "stop_reason": None}
        choice["token_ids"] = self._ids(body, tokens)
        beside = {"prompt_token_ids": self._ids(body, prompt)}
        details = {"prompt_tokens_details": {"cached_tokens": 0}}
        usage = {**self._usage(len(prompt), len(tokens)), **details}
        if most := body.get("prompt_logprobs"):
            choice["prompt_logprobs"] = self.scored(prompt, most)
        return {
            "id": "chatcmpl-0",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1,
            "model": MODEL,
            "choices": [choice if chat else choice | beside],
            "usage": usage,
            **(beside if chat else {}),
        }

    def events(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the events of a stream."""
        prompt, tokens, _, finish = self.generate(body)
        chat = "messages" in body
        asked = {"prompt_token_ids": self._ids(body, prompt)}
        empty = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
        found = [self._event(chat, {**empty, "finish_reason": None}, len(prompt), 0, asked)] if chat else []
        for place, token in enumerate(tokens):
            last = place == len(tokens) - 1
            logprobs = self._logprobs(body, prompt, tokens[: place + 1], place) if self.evidence else None
            ids = self._ids(body, [token])
            quiet = chat and self.hidden(place)
            if quiet and not last and logprobs is None and ids is None:
                continue
            text = self._text([token])
            choice: dict[str, Any] = {"index": 0}
            choice |= ({"delta": {} if quiet else {"content": text}}) if chat else {"text": text}
            choice |= {"logprobs": logprobs, "finish_reason": finish if last else None}
            if last or not chat:
                choice["stop_reason"] = None
            if not chat:
                choice["prompt_token_ids"] = asked["prompt_token_ids"] if place == 0 else None
            choice["token_ids"] = ids
            found.append(self._event(chat, choice, len(prompt), place + 1, {}))
        usage = self._usage(len(prompt), len(tokens)) | {"prompt_tokens_details": {"cached_tokens": 0}}
        found.append({**found[-1], "choices": [], "usage": usage})
        return found

    def _event(
        self, chat: bool, choice: dict[str, Any], prompt: int, done: int, beside: dict[str, Any]
    ) -> dict[str, Any]:
        kind = "chat.completion.chunk" if chat else "text_completion"
        head = {"id": "chatcmpl-0", "object": kind, "created": 1, "model": MODEL}
        return {**head, "choices": [choice], **beside, "usage": self._usage(prompt, done)}

    def _usage(self, prompt: int, done: int) -> dict[str, Any]:
        return {"prompt_tokens": prompt, "total_tokens": prompt + done, "completion_tokens": done}

    def _json(self, value: object) -> bytes:
        if self.spaced:
            return json.dumps(value).encode()
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        if self.pause is not None:
            await self.pause.wait()
        if self.down:
            return web.json_response({"error": {"message": "it is down"}}, status=503)
        if body.get("stream") and body.get("prompt_logprobs"):
            message = "`prompt_logprobs` are not available when `stream=True`."
            return web.json_response({"error": {"message": message}}, status=400)
        if not body.get("stream"):
            return web.Response(body=self._json(self.whole(body)), content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events(body):
            if self.pause_at is not None and event["usage"]["completion_tokens"] > self.pause_at:
                self.paused.set()
                await self._goes_on.wait()
            await response.write(b"data: " + self._json(event) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"version": VERSION})
        return web.json_response({"object": "list", "data": [{"id": MODEL}]})

    async def _count(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            return web.json_response({"error": {"message": "it is down"}}, status=503)
        tokens = prompt_of(await request.json())
        return web.json_response({"count": len(tokens), "tokens": tokens})

    async def _detokenize(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"prompt": decoded((await request.json())["tokens"])})


@asynccontextmanager
async def vllm_double(**options: Any) -> AsyncIterator[VllmDouble]:
    """Serve one on a free port."""
    double = VllmDouble(**options)
    app = web.Application()
    app.router.add_get("/version", double._tell)
    app.router.add_get("/v1/models", double._tell)
    app.router.add_post("/tokenize", double._count)
    app.router.add_post("/detokenize", double._detokenize)
    app.router.add_post("/v1/{path:.*}", double._answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    double.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield double
    finally:
        await runner.cleanup()
