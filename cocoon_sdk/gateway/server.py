"""The gateway: an HTTP server that speaks OpenAI's API and buys the answers from workers.

Owns routes, the life of the server, and turning every failure into an answer. Must not know how an answer is
bought. Prompts, answers and keys appear in no log, error or metric.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp import web

from cocoon_sdk.client.auditing import AuditNumbers
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.gateway import answers
from cocoon_sdk.gateway.budgets import Budgets
from cocoon_sdk.gateway.catalogue import Catalogue
from cocoon_sdk.gateway.config import GatewayConfig
from cocoon_sdk.gateway.errors import (
    ModelNotFoundError,
    NotFoundError,
    NotStoredError,
    Refusal,
    WrongMethodError,
    refusal,
)
from cocoon_sdk.gateway.gate import Gate
from cocoon_sdk.gateway.handlers import InferenceHandlers
from cocoon_sdk.gateway.incoming import Incoming
from cocoon_sdk.gateway.inference import Inference
from cocoon_sdk.gateway.key_store import KeyStore
from cocoon_sdk.gateway.keys import REFRESH_S, KeyRing
from cocoon_sdk.gateway.metrics import Metrics
from cocoon_sdk.gateway.outgoing import (
    REQUEST_ID_HEADER,
    ClientGoneError,
    json_response,
    refusal_response,
    request_id,
)
from cocoon_sdk.gateway.requests import encode
from cocoon_sdk.gateway.treasury import Treasury

MAX_HEADERS: Final = 64
BACKLOG: Final = 1024
_CUT_S: Final = 1.0
"""How long connections may take to close once nothing is waited for any more."""
_LAST_BILLS_S: Final = 5.0
"""How long workers that were stopped may take to say what they counted."""
_CLIENT_LEFT: Final = 499
_CORS_HEADERS: Final = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Expose-Headers": "x-request-id, x-cocoon-cost-nano-ton, Retry-After",
    "Access-Control-Max-Age": "600",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger("cocoon.gateway")


class GatewayServer:
    """Serves one escrow's gateway: `start`, then `drain` (or `abort`), which frees what it holds of budgets.

    What it is given stays the caller's to close.
    """

    def __init__(
        self,
        inference: Inference,
        store: KeyStore,
        config: GatewayConfig,
        *,
        treasury: Treasury | None = None,
        audits: Callable[[], AuditNumbers] | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        now = asyncio.get_running_loop().time
        self._config, self._treasury, self._clock = config, treasury, clock
        self._audits = audits
        self.metrics = Metrics()
        self.keys = KeyRing(store, now, required=config.needs_keys)
        self.catalogue = Catalogue(inference, now)
        self.budgets = Budgets(store, clock, chunk=config.budget_chunk)
        self.gate = Gate(config, self.budgets, self.catalogue, self.metrics, now)
        self._incoming = Incoming(self.keys, config)
        self._handlers = InferenceHandlers(inference, self.gate, self._incoming, config, clock, self._failed)
        self._boot, self._number = os.urandom(4).hex(), 0
        self._runner: web.AppRunner | None = None
        self._flushing: asyncio.Task[None] | None = None
        self.port = 0

    # -- life ----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base URL for clients."""
        host = self._config.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    async def start(self) -> None:
        """Read the keys, bind, and serve. Raises `OSError` when the port is taken, `StorageError`."""
        await self.keys.refresh()
        runner = web.AppRunner(
            self._app(),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,  # who leaves stops what was made for them
            keepalive_timeout=self._config.keepalive_s,
            max_line_size=self._config.max_header_bytes,
            max_field_size=self._config.max_header_bytes,
            max_headers=MAX_HEADERS,
            shutdown_timeout=_CUT_S,
        )
        await runner.setup()
        site = web.TCPSite(runner, self._config.host, self._config.port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = int(runner.addresses[0][1])
        self._flushing = asyncio.ensure_future(self._flush_often())

    async def drain(self) -> bool:
        """Take nothing new, let answers end for at most `drain_s`, then stop. False when some were cut."""
        self.gate.closing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await self.gate.under_way.none()
        whole = not self.gate.under_way.count
        await self.abort()
        return whole

    async def abort(self) -> None:
        """Stop at once: answers under way are cut (their workers stop too), budgets are given back."""
        self.gate.closing.set()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self.catalogue.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_BILLS_S):
                await self.gate.unsettled.none()
        await self.budgets.flush(everything=True)

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(self._config.flush_s)
            try:
                await self.budgets.flush()
            except CocoonError as error:
                log.error("use_of_keys_not_written", error=type(error).__name__, why=str(error))

    # -- routes --------------------------------------------------------------------------------------------

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=self._config.max_body_bytes)
        serve, handlers = self._served, self._handlers
        post = {
            "/v1/chat/completions": handlers.chat,
            "/v1/completions": handlers.completions,
            "/v1/embeddings": handlers.embeddings,
            "/v1/responses": handlers.responses,
        }
        for path, handler in post.items():
            app.router.add_post(path, serve(path, handler))
        app.router.add_get("/v1/models", serve("/v1/models", self._models))
        app.router.add_get("/v1/models/{name:.+}", serve("/v1/models", self._model))
        app.router.add_get("/health", serve("/health", self._health))
        app.router.add_get("/metrics", serve("/metrics", self._metrics))
        app.router.add_route("*", "/v1/responses/{rest:.+}", serve("other", self._stored_response))
        app.router.add_route("*", "/{rest:.*}", serve("other", self._elsewhere(frozenset(post))))
        app.on_response_prepare.append(self._headers)
        return app

    def _served(self, endpoint: str, handler: Handler) -> Handler:
        """Return the handler with its failures turned into answers, and counted."""
        metrics, requests = self.metrics, self.metrics.requests

        async def served(request: web.Request) -> web.StreamResponse:
            self._number += 1
            request_id.set(f"req_{self._boot}{self._number:08x}")
            metrics.in_flight.inc()
            status = _CLIENT_LEFT
            try:
                response = await handler(request)
                status = response.status
            except ClientGoneError:
                metrics.disconnects.inc()
                response = web.Response(status=_CLIENT_LEFT)  # nobody reads it
            except asyncio.CancelledError:
                metrics.disconnects.inc()
                raise
            except Exception as error:
                refused = self._failed(error)
                status, response = refused.status, refusal_response(refused)
            finally:
                metrics.in_flight.dec()
                requests.labels(endpoint, str(status)).inc()
            return response

        return served

    def _failed(self, error: BaseException) -> Refusal:
        """Count and log a failure; return what the client is told."""
        refused = refusal(error)
        self.metrics.errors.labels(refused.code or "none").inc()
        fields: dict[str, Any] = {"request": request_id.get(""), "code": refused.code}
        if refused.status == 500:
            # Its message may hold what was being worked on; where it happened says enough.
            where = "".join(traceback.format_tb(error.__traceback__)[-5:])
            log.error("gateway_failed", error=type(error).__name__, where=where, **fields)
        elif refused.status > 500 or refused.status == 402:
            log.warning("request_failed", status=refused.status, why=refused.message, **fields)
        return refused

    async def _headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers[REQUEST_ID_HEADER] = request_id.get("")
        if self._config.cors_origins and request.headers.get("Origin") in self._config.cors_origins:
            response.headers.update(_CORS_HEADERS)
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Vary"] = "Origin"

    async def _models(self, request: web.Request) -> web.StreamResponse:
        key = await self._incoming.key(request)
        found = await self.catalogue.models()
        allowed = [each for each in found.values() if key is None or key.allows(each.name)]
        shown = [answers.model_document(each) for each in allowed]
        return json_response(encode({"object": "list", "data": shown}))

    async def _model(self, request: web.Request) -> web.StreamResponse:
        key = await self._incoming.key(request)
        name = request.match_info["name"]
        found = await self.catalogue.find(name)
        if found is None or (key is not None and not key.allows(name)):
            raise ModelNotFoundError(
                "there is no such model", why="no worker serves it now", hint="See the names at /v1/models"
            )
        return json_response(encode(answers.model_document(found)))

    async def _stored_response(self, request: web.Request) -> web.StreamResponse:
        await self._incoming.key(request)
        raise NotStoredError(
            "responses cannot be read, continued or deleted",
            why="nothing is stored here",
            hint="Keep what you need when the answer arrives",
        )

    def _elsewhere(self, known: frozenset[str]) -> Handler:
        async def elsewhere(request: web.Request) -> web.StreamResponse:
            if request.method == "OPTIONS" and self._config.cors_origins:
                return web.Response(status=204)
            if request.path in known:
                hint = "Send it with POST"
                raise WrongMethodError(f"{request.method} is not known here", hint=hint)
            raise NotFoundError("there is no such path", hint="The API begins at /v1")

        return elsewhere

    # -- for operators -------------------------------------------------------------------------------------

    async def _health(self, _: web.Request) -> web.StreamResponse:
        """Answer 503 when a load balancer should send requests elsewhere."""
        alarms = []
        models = 0
        if self.gate.closing.is_set():
            alarms.append("stopping")
        try:
            await self.keys.refresh(REFRESH_S)
        except CocoonError:
            alarms.append("database")
        try:
            models = len(await self.catalogue.models())
        except CocoonError:
            alarms.append("models")
        document = {
            "status": "ok" if not alarms else "unwell",
            "alarms": alarms,
            "models": models,
            "requests_under_way": self.gate.under_way.count,
        }
        return json_response(encode(document), status=503 if alarms else 200)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        local = self._config.is_local and self._incoming.names_this_machine(request)
        if not (local or self._config.open_metrics):
            # They tell what was spent: nothing for web pages and whoever comes through a proxy.
            await self._incoming.key(request)
        self.metrics.keys.set(len(self.keys))
        if self._audits is not None:
            self.metrics.audited(self._audits())
        if self._treasury is not None:
            try:
                self.metrics.show(await self._treasury.look())
            except CocoonError as error:
                log.warning("treasury_not_read", error=type(error).__name__, why=str(error))
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self.metrics.render(), headers=headers)
