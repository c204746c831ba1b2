"""`ToncenterServer`: the toncenter v2 HTTP API of a sandbox node, REST and JSON-RPC.

Owns routing, bodies and their bounds, CORS, and the frame around answers and errors. Must not know what the
methods do. The model is the service that runs at toncenter.com (ton-http-api-cpp).
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Self

from aiohttp import web

from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.errors import (
    ChainTimeoutError,
    ChainUnavailableError,
    CocoonError,
    ConfigError,
    MalformedError,
)
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.account_methods import AccountMethods
from cocoon_sdk.sandbox.toncenter.block_methods import BlockMethods
from cocoon_sdk.sandbox.toncenter.contract_methods import ContractMethods
from cocoon_sdk.sandbox.toncenter.methods import Method
from cocoon_sdk.sandbox.toncenter.params import Params, Refused
from cocoon_sdk.sandbox.toncenter.transaction_methods import TransactionMethods

MAX_BODY_BYTES = 1 << 20
_PREFIX = "/api/v2"
_RPC = ("/api/v2/jsonRPC", "/jsonRPC")
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, X-API-Key, X-Ton-Client-Version",
    "Access-Control-Max-Age": "86400",
}
_MAX_WORDS = 5000

_log = logging.getLogger(__name__)


class ToncenterServer:
    """Serves `/api/v2/<method>`, `/api/v2/jsonRPC` and `/jsonRPC` over a `node` that others start and end.

    Listens on loopback unless `host` says otherwise; `port` 0 picks a free one, see `url`. API keys are taken
    and ignored. Pages of any origin may ask, as at the real service.
    """

    def __init__(
        self, node: Node, *, host: str = "127.0.0.1", port: int = 0, clock: Clock | None = None
    ) -> None:
        self._host, self._port = host, port
        self._clock = clock or SystemClock()
        self._runner: web.AppRunner | None = None
        self._url: str | None = None
        rooms = (AccountMethods(node), BlockMethods(node), TransactionMethods(node), ContractMethods(node))
        self._methods: dict[str, Method] = {}
        for room in rooms:
            self._methods |= room.table()

    @property
    def url(self) -> str:
        """Base URL without a trailing slash, such as `http://127.0.0.1:34567`; the API is below `/api/v2`."""
        if self._url is None:
            raise ConfigError("the server has no URL", why="it is not running", hint="Await start() first")
        return self._url

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of all methods, sorted."""
        return tuple(sorted(self._methods))

    async def start(self) -> Self:
        """Bind and serve. Raises `ConfigError` when already running, `OSError` when the port is taken."""
        if self._runner is not None:
            raise ConfigError("the server cannot start", why="it is already running")
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_frame])
        for path in _RPC:
            app.router.add_post(path, self._json_rpc)
        app.router.add_get(_PREFIX + "/{method}", self._rest)
        app.router.add_post(_PREFIX + "/{method}", self._rest)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        port = runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._runner, self._url = runner, f"http://{host}:{port}"
        return self

    async def stop(self) -> None:
        """Close the socket and all connections; a stopped server may start again."""
        runner, self._runner, self._url = self._runner, None, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- HTTP -----------------------------------------------------------------------------------------------

    async def _rest(self, request: web.Request) -> web.Response:
        started = asyncio.get_running_loop().time()
        called = self._methods.get(request.match_info["method"])
        try:
            if called is None:
                raise Refused(404, "Not Found")
            if request.method == "POST":
                params = Params(await _body(request))
            elif called.get:
                repeated = {name: request.query.getall(name) for name in set(request.query)}
                params = Params(dict(request.query), get=True, repeated=repeated)
            else:
                raise Refused(405, f"unsupported http method: {request.method}")
        except Refused as error:
            return _error(error.status, error.words, self._extra(started))
        return await self._answer(called, params, {}, started)

    async def _json_rpc(self, request: web.Request) -> web.Response:
        started = asyncio.get_running_loop().time()
        more: dict[str, Any] = {"jsonrpc": "2.0"}
        try:
            call = await _body(request)
            if not isinstance(call, dict):
                raise Refused(422, "failed to parse post request: an object was expected")
            identity = call.get("id")
            if isinstance(identity, str | int):
                more["id"] = identity
            name, values = call.get("method"), call.get("params") or {}
            if not isinstance(values, dict):
                raise Refused(422, "params must contain an object")
            called = self._methods.get(name) if isinstance(name, str) else None
            if called is None:
                raise Refused(404, "Not Found")
        except Refused as error:
            return _error(error.status, error.words, {**more, **self._extra(started)})
        return await self._answer(called, Params(values), more, started)

    async def _answer(
        self, called: Method, params: Params, more: dict[str, Any], started: float
    ) -> web.Response:
        try:
            result = await called.handler(params.only(called.names))
        except Refused as error:
            status, words = error.status, error.words
        except CocoonError as error:
            status, words = _status(error), str(error)
        except Exception as error:
            _log.exception("a request to the toncenter API failed")
            status, words = 500, f"{type(error).__name__}: {error}"
        else:
            return web.json_response({"ok": True, "result": result, **more, **self._extra(started)})
        return _error(status, words, {**more, **self._extra(started)})

    def _extra(self, started: float) -> dict[str, Any]:
        """Tell when, by which liteserver (there is one) and in how many milliseconds."""
        elapsed_ms = (asyncio.get_running_loop().time() - started) * 1000
        return {"@extra": f"{self._clock.now()}:0:{elapsed_ms:.3f}"}


@web.middleware
async def _frame(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer preflight requests, put CORS on everything, and put the router's own refusals into JSON."""
    if request.method == "OPTIONS":
        return web.Response(status=204, headers=_CORS)
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        response = _error(error.status, error.reason, {"@extra": "_"})
    response.headers.update(_CORS)
    return response


async def _body(request: web.Request) -> Any:
    """Return the JSON of a body; an empty one is an empty object."""
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused(413, f"request body exceeds {MAX_BODY_BYTES} bytes") from error
    try:
        return json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise Refused(422, "failed to parse post request: the body is not JSON") from error


def _error(status: int, words: str, more: dict[str, Any]) -> web.Response:
    answer = {"ok": False, "error": words[:_MAX_WORDS], "code": status, **more}
    return web.json_response(answer, status=status)


def _status(error: CocoonError) -> int:
    if isinstance(error, MalformedError):
        return 422
    if isinstance(error, ChainTimeoutError):
        return 504
    return 503 if isinstance(error, ChainUnavailableError) else 500
