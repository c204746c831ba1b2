"""A local OpenAI-like HTTP server that misbehaves on demand, in the ways real ones do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from cocoon_worker.engine.openai import OpenAIEngine

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MODEL = "model-a"


def answer(**changes: Any) -> dict[str, Any]:
    """A complete chat answer as vLLM gives it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "total_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
        **changes,
    }


class Upstream:
    """What the server does next (`handler`) and what it has seen."""

    def __init__(self) -> None:
        self.handler: Handler = self.answers()
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self.url = ""
        self.root: dict[str, Handler] = {}
        """What is served outside of the API, by path."""

    def answers(self, status: int = 200, body: Any = None) -> Handler:
        async def handler(_: web.Request) -> web.StreamResponse:
            return web.json_response(answer() if body is None else body, status=status)

        return handler

    def sends(self, raw: bytes, status: int = 200) -> Handler:
        async def handler(_: web.Request) -> web.StreamResponse:
            return web.Response(body=raw, status=status, content_type="application/json")

        return handler

    async def hangs(self, _: web.Request) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.set()
        raise AssertionError("waiting for ever came to an end")

    async def dies_before_answering(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def dies_mid_answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.close()
        return response

    async def answers_without_end(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        except ConnectionError:
            return response
        finally:
            self.gone.set()

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(json.loads(await request.read()))
        self.authorizations.append(request.headers.get("Authorization"))
        self.arrived.set()
        return await self.handler(request)

    async def _beside(self, request: web.Request) -> web.StreamResponse:
        handler = self.root.get(request.path)
        return web.Response(status=404) if handler is None else await handler(request)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": MODEL}, {"id": "model-b"}]})


@asynccontextmanager
async def upstream_running() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_get("/v1/models", upstream._models)
    app.router.add_post("/v1/{path:.*}", upstream._post)
    app.router.add_post("/{path:.*}", upstream._beside)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield upstream
    finally:
        await runner.cleanup()


@asynccontextmanager
async def engine_running(upstream: Upstream, **options: Any) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(upstream.url, **{"models": [MODEL], **options})
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
