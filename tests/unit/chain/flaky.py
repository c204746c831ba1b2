"""A local HTTP endpoint that misbehaves on command, for the adapter's tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

from aiohttp import web

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FlakyEndpoint:
    """Answers each request with the next behaviour of its script; the last one repeats."""

    def __init__(self, *script: Behaviour) -> None:
        self.script = list(script)
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(json.loads(await request.read()))
        self.headers.append(dict(request.headers))
        behaviour = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await behaviour(request)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/api/v2/jsonRPC", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, shutdown_timeout=0.01).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/api/v2"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def answer(result: Any) -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True, "result": result})

    return behave


def failure(status: int, error: str = "", *, http: int | None = None, **headers: str) -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        body = {"ok": False, "error": error, "code": status}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(body, status=http or status, headers=names)

    return behave


def text(body: str, status: int = 200) -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=status)

    return behave


async def silence(_: web.Request) -> web.StreamResponse:
    """Never answer; the client's time limit or the server's end cancels this."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def reset(request: web.Request) -> web.StreamResponse:
    """Cut the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def truncated(request: web.Request) -> web.StreamResponse:
    """Announce more bytes than are sent."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"ok": true, "result": {"seq')
    assert request.transport is not None
    request.transport.close()
    return response


async def half_json(request: web.Request) -> web.StreamResponse:
    """Send a complete response whose JSON stops in the middle."""
    return web.Response(body=b'{"ok": true, "result": {"seq', content_type="application/json")


async def endless(request: web.Request) -> web.StreamResponse:
    """Send bytes until the client has had enough."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def redirect(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:9/elsewhere"})
