"""The worker's HTTP endpoint: results for their clients, the announcement, health and metrics; and the door
to sessions, which are served by `cocoon_worker.sessions`.

Owns routes, bounds and answers. Must not change a job: it only reads the journal. Nothing here is secret:
results are sealed to the client's key, and a signature is of use to the escrow's hot key only. No request has
a body; answers say no more than the chain does.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from cocoon_sdk.protocol import encode_info
from cocoon_sdk.protocol.session_wire import SESSION_PATH
from cocoon_worker.agenda import Agenda
from cocoon_worker.config import EndpointConfig
from cocoon_worker.context import Context
from cocoon_worker.errors import JournalError
from cocoon_worker.records import JobKey, JobRecord
from cocoon_worker.sessions.endpoint import SessionEndpoint
from cocoon_worker.states import JobState

_KEY: Final = re.compile(r"\A0:([0-9a-f]{64})\Z")
_MAX_ID: Final = 0xFFFF_FFFF
_MAX_ANSWERS: Final = 16
"""Results that are held in memory at a time."""
_SEND_S: Final = 60.0
_MAX_PLAIN_SOCKETS: Final = 256
"""Connections beside those that sessions may have."""
_WORKING: Final = {
    JobState.OFFERED: "queued",
    JobState.QUEUED: "queued",
    JobState.CLAIMING: "queued",
    JobState.CLAIMED: "queued",
    JobState.RUNNING: "running",
}
_GONE: Final = frozenset({JobState.REFUSED, JobState.FAILED, JobState.LOST, JobState.ABANDONED})


class _Door:
    """Makes the protocol of each connection, up to so many at a time; more are closed as they come.

    Those that send nothing whole are closed by the runner's keep-alive timer.
    """

    def __init__(self, server: web.Server | None, most: int) -> None:
        self._server, self._most = server, most

    def __call__(self) -> asyncio.BaseProtocol:
        if self._server is None or len(self._server.connections) >= self._most:
            return _Closed()
        return self._server()


class _Closed(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class WorkerServer:
    """Serves one worker; `start` binds, `stop` closes."""

    def __init__(
        self, context: Context, agenda: Agenda, config: EndpointConfig, sessions: SessionEndpoint
    ) -> None:
        self._context, self._agenda, self._config, self._sessions = context, agenda, config, sessions
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._answering = asyncio.Semaphore(_MAX_ANSWERS)
        self.port = 0

    async def start(self) -> None:
        """Bind host and port (0 takes a free one, see `port`). Raises `OSError` when that fails."""
        app = web.Application(client_max_size=1024, middlewares=[_calm])
        app.add_routes(
            [
                web.get("/v1/results/{escrow}/{id}", self._result),
                web.get("/v1/data/{hash}", self._data),
                web.get("/v1/info", self._info),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get(SESSION_PATH, self._sessions.handle),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=30.0)
        await runner.setup()
        serving = self._context.config.sessions.serving
        most = serving.max_connections + serving.max_handshakes + _MAX_PLAIN_SOCKETS
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                _Door(runner.server, most), self._config.host, self._config.port, backlog=128
            )
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = int(self._listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the socket after answering what is under way."""
        runner, self._runner = self._runner, None
        if self._listener is not None:
            self._listener.close()
        if runner is not None:
            await runner.cleanup()

    # -- routes --------------------------------------------------------------------------------------------

    async def _result(self, request: web.Request) -> web.StreamResponse:
        key = _job_key(request.match_info["escrow"], request.match_info["id"])
        job = None if key is None else self._context.journal.job(key)
        if key is None or job is None:
            return _answer(404, status="unknown")
        if job.state in _WORKING:
            return _answer(202, status=_WORKING[job.state])
        if job.state in _GONE:
            return _answer(410, status="refused", reason=job.reason)
        return await self._bounded(request, lambda: self._hand_over(key, job))

    async def _bounded(self, request: web.Request, answer: Callable[[], web.Response]) -> web.StreamResponse:
        """Make and send a possibly large answer while at most `_MAX_ANSWERS` others are being sent."""
        if self._answering.locked():
            return _answer(503, status="busy")
        async with self._answering:
            response = answer()
            try:
                async with asyncio.timeout(_SEND_S):
                    await response.prepare(request)
                    await response.write_eof()
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()  # whoever reads this slowly only wants to hold it
            return response

    def _hand_over(self, key: JobKey, job: JobRecord) -> web.Response:
        result = self._context.journal.result(key)
        if result is None:
            return _answer(410, status="refused", reason="the result is not kept any more")
        if job.state is JobState.READY and not self._may_hand_over(job):
            # Without the time left to submit on chain, a client could keep the answer and take the job back.
            return _answer(202, status="running")
        self._context.metrics.handovers.inc()
        return _answer(
            200,
            result=base64.b64encode(result.sealed).decode(),
            result_hash=result.result_hash.hex(),
            amount=str(int(result.amount)),
            signature=result.signature.hex(),
        )

    def _may_hand_over(self, job: JobRecord) -> bool:
        return self._context.time.maybe() + self._context.config.policy.confirmation_s <= job.deadline

    async def _data(self, request: web.Request) -> web.StreamResponse:
        text = request.match_info["hash"]
        if not re.fullmatch(r"[0-9a-f]{64}", text):
            return _answer(404, status="unknown")
        found = self._context.journal.sealed_result(bytes.fromhex(text))
        job = None if found is None else self._context.journal.job(found[0])
        # By reference, what is not on chain yet is nobody's business: the signed way is the other route.
        if found is None or job is None or job.state in (JobState.READY, *_WORKING):
            return _answer(404, status="unknown")
        body = found[1]
        return await self._bounded(
            request, lambda: web.Response(body=body, content_type="application/octet-stream")
        )

    async def _info(self, _: web.Request) -> web.Response:
        return web.Response(body=encode_info(self._agenda.info()), content_type="application/octet-stream")

    async def _health(self, _: web.Request) -> web.Response:
        engine = await self._context.engine.health()
        well = engine.ready and not self._context.alarms and not self._context.draining
        return _answer(
            200 if well else 503,
            status="stopping" if self._context.draining else ("ok" if well else "unwell"),
            engine=engine.state.value,
            alarms=sorted(self._context.alarms),
            chain_time=self._context.time.surely(),
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        body = self._context.metrics.render(self._context.journal)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})


def _job_key(escrow: str, number: str) -> JobKey | None:
    match = _KEY.match(escrow)
    if match is None or not re.fullmatch(r"[0-9]{1,10}", number) or int(number) > _MAX_ID:
        return None
    return JobKey(int(match.group(1), 16), int(number))


def _answer(code: int, /, **fields: object) -> web.Response:
    return web.json_response(fields, status=code, headers={"Cache-Control": "no-store"})


@web.middleware
async def _calm(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a failing journal with 503 instead of a stack trace."""
    try:
        return await handler(request)
    except JournalError:
        return _answer(503, status="unwell")
