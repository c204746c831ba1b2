"""Real vLLM as a supervised child: started, watched, restarted, and ended without leftovers.

Owns vLLM's life cycle (`ENGINE_TRANSITIONS`); its command line is made in `vllm_command`, and requests go
through `OpenAIEngine`. Must not know what is generated for whom.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from cocoon_sdk.errors import CocoonError, ConfigError, EngineUnavailableError
from cocoon_worker.engine.base import (
    ENGINE_TRANSITIONS,
    EngineChunk,
    EngineHealth,
    EngineLimits,
    EngineProgress,
    EngineRequest,
    EngineResult,
    EngineState,
    ProgressCallback,
)
from cocoon_worker.engine.child import ChildLog, GuardedChild
from cocoon_worker.engine.openai import OpenAIEngine
from cocoon_worker.engine.vllm_command import (
    HOST,
    Device,
    VllmSettings,
    detect_device,
    vllm_command,
    vllm_environment,
    vllm_identity,
)

__all__ = ["Device", "EngineLoad", "VllmEngine", "VllmSettings", "detect_device"]

_MAX_BACKOFF_S = 60.0
_STABLE_S = 300.0  # an engine that served this long starts its count of failures anew
_PROBE_TIMEOUT_S = 5.0
_START_POLL_S = 0.5
_WATCH_POLL_S = 10.0
_SICK_PROBES = 6  # so long may a living process fail its health check before it is replaced
_MAX_PROBE_BYTES = 1 << 20
_QUIET_S = 5.0  # progress is reported at least this often

_STAGES = (  # what vLLM prints -> what a person waiting wants to know; the last match counts
    ("Resolved architecture", "reading the model's configuration"),
    ("Initializing a V1 LLM engine", "starting the engine process"),
    ("Starting to load model", "loading weights"),
    ("Loading weights took", "weights loaded"),
    ("KV cache size", "memory for prompts set aside"),
    ("init engine", "warmed up"),
    ("Starting vLLM server", "opening the HTTP port"),
)


_LOAD = re.compile(r"^vllm:num_requests_(running|waiting)(?:\{[^}\n]*\})? ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """Requests that vLLM computes now, and requests that wait for a place in the batch."""

    running: int
    waiting: int


class VllmEngine:
    """vLLM under supervision. Any exit of the child, also with code 0, is a failure and ends in a restart.

    While it restarts, `run` raises `EngineUnavailableError` at once; `wait_ready` waits.
    """

    def __init__(
        self,
        settings: VllmSettings,
        *,
        limits: EngineLimits | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> None:
        self._settings = settings
        longest = settings.max_model_len
        self._limits = limits or EngineLimits(
            max_output_tokens=longest, default_output_tokens=min(512, longest // 2), max_prompt_tokens=longest
        )
        self._on_progress = on_progress
        self._log = ChildLog(settings.log_path)
        self._state = EngineState.STOPPED
        self._detail = "not started"
        self._restarts = 0
        self._launched_at = 0.0
        self._child: GuardedChild | None = None
        self._client: OpenAIEngine | None = None
        self._root = ""
        self._http: aiohttp.ClientSession | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def process_group(self) -> int | None:
        """Process group of the running vLLM, for operators and tests."""
        return self._child.group if self._child is not None else None

    def models(self) -> tuple[str, ...]:
        """Return the served name from `start` to `stop`, restarts included."""
        return (self._settings.served_name,) if self._supervisor is not None else ()

    async def start(self) -> None:
        """Start vLLM and wait until it is ready (half a minute to many minutes, by model).

        Raises `EngineUnavailableError` with the end of its log when it ends or hangs before that; only an
        engine that has been ready once is restarted by itself.
        """
        if self._supervisor is not None:
            return
        self._prepare_files()
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S))
        self._restarts = 0
        try:
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="vllm-supervisor")

    def _prepare_files(self) -> None:
        model = self._settings.model
        if model.startswith(("/", ".")) and not Path(model).is_dir():
            raise ConfigError(f"the model folder {model} does not exist")
        try:
            self._log.open()
        except OSError as error:
            raise ConfigError(f"the log {self._log.path} cannot be written", why=str(error)) from None

    async def stop(self) -> None:
        """End the supervision and vLLM with all its processes."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await supervisor
        await self._drop()
        if self._state is not EngineState.STOPPED:
            self._move(EngineState.STOPPED, "stopped")
        if self._http is not None:
            await self._http.close()
            self._http = None
        self._log.close()

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until `run` can be called. Raises `EngineUnavailableError` when that takes longer."""
        try:
            await asyncio.wait_for(self._ready.wait(), timeout_s)
        except TimeoutError:
            raise self._unavailable() from None

    async def health(self) -> EngineHealth:
        """Return the state; when ready, what vLLM itself says at this moment."""
        ready, detail = self._state is EngineState.READY, self._detail
        if ready and (problem := await self._probe()):
            ready, detail = False, problem
        return EngineHealth(ready=ready, state=self._state, detail=detail, restarts=self._restarts)

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        """See `Engine.run`."""
        if self._client is None:
            raise self._unavailable()
        return await self._client.run(request, deadline_s=deadline_s)

    def stream(self, request: EngineRequest, *, deadline_s: float) -> AsyncGenerator[EngineChunk, None]:
        """See `Engine.stream`. Raises `EngineUnavailableError` at once while vLLM is away."""
        if self._client is None:
            raise self._unavailable()
        return self._client.stream(request, deadline_s=deadline_s)

    async def count_tokens(self, request: EngineRequest) -> int | None:
        """Ask vLLM's tokenizer; None while vLLM is away."""
        return None if self._client is None else await self._client.count_tokens(request)

    async def load(self) -> EngineLoad:
        """Return how busy vLLM is now. Raises `EngineUnavailableError` when it does not tell."""
        try:
            status, text = await self._get("/metrics")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineUnavailableError("vLLM does not tell its load", why=type(error).__name__) from None
        if status != 200:
            raise EngineUnavailableError("vLLM does not tell its load", why=f"HTTP {status}")
        found = {name: float(value) for name, value in _LOAD.findall(text)}
        running, waiting = found.get("running", 0.0), found.get("waiting", 0.0)
        return EngineLoad(running=int(running), waiting=int(waiting))

    # -- life cycle ------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Watch the ready child; when it ends, restart it with growing pauses for as long as it takes."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            since = loop.time()
            if self._state is EngineState.READY:
                why = await self._watch()
                failures = 0 if loop.time() - since > _STABLE_S else failures
            else:
                try:
                    await self._launch()
                    continue
                except CocoonError as error:
                    why = str(error)
            await self._drop()
            self._restarts += 1
            pause = min(_MAX_BACKOFF_S, self._settings.backoff_s * 2 ** min(failures, 10))
            failures += 1
            self._move(EngineState.BACKOFF, f"{why}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)

    async def _launch(self) -> None:
        """Start one child and bring it to READY. Raises `EngineUnavailableError`; the caller cleans up."""
        settings = self._settings
        port, api_key = _free_port(), secrets.token_urlsafe(32)
        self._launched_at = asyncio.get_running_loop().time()
        self._move(EngineState.STARTING, "starting Python")
        self._log.forget()
        self._child = child = await GuardedChild.launch(
            vllm_command(settings, port),
            env=vllm_environment(settings, os.environ, api_key),
            log=self._log,
            grace_s=settings.stop_grace_s,
        )
        self._root = f"http://{HOST}:{port}"
        await self._until_healthy(child)
        client = OpenAIEngine(
            f"{self._root}/v1",
            api_key=api_key,
            models=[settings.served_name],
            limits=self._limits,
            sampling=settings.sampling,
            identity=vllm_identity(settings),
        )
        await client.start()
        self._client = client
        self._move(EngineState.READY, "ready")

    async def _until_healthy(self, child: GuardedChild) -> None:
        loop = asyncio.get_running_loop()
        reported = loop.time()
        while child.running:
            elapsed = loop.time() - self._launched_at
            if elapsed > self._settings.startup_timeout_s:
                raise self._failed(f"it was not ready after {elapsed:.0f} s")
            if not await self._probe():
                return
            stage = self._stage()
            if stage != self._detail or loop.time() - reported >= _QUIET_S:
                self._detail, reported = stage, loop.time()
                self._report()
            await asyncio.sleep(_START_POLL_S)
        raise self._failed(f"it ended with exit code {await child.wait()}")

    async def _watch(self) -> str:
        """Return why the ready child has to be replaced: it ended, or has been sick for too long."""
        child, sick = self._child, 0
        if child is None:
            return "it was never started"
        end = asyncio.create_task(child.wait())
        try:
            while sick < _SICK_PROBES:
                await asyncio.wait([end], timeout=_WATCH_POLL_S)
                if end.done():
                    return f"vLLM ended by itself with exit code {end.result()}"
                sick = sick + 1 if await self._probe() else 0
        finally:
            end.cancel()
        return "vLLM runs but fails its health check"

    async def _probe(self) -> str:
        """Ask vLLM for its health; return what is wrong, nothing if all is well."""
        try:
            status, _ = await self._get("/health")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"its health check fails ({type(error).__name__})"
        return "" if status == 200 else f"its health check gives HTTP {status}"

    async def _get(self, path: str) -> tuple[int, str]:
        if self._http is None:
            raise self._unavailable()
        async with self._http.get(self._root + path, allow_redirects=False) as response:
            return response.status, (await response.content.read(_MAX_PROBE_BYTES)).decode("utf-8", "replace")

    async def _drop(self) -> None:
        """End child and connections, whatever state they are in."""
        self._ready.clear()
        client, self._client = self._client, None
        child, self._child = self._child, None
        if child is not None:
            await child.stop()  # first: whoever still waits for an answer learns that it was interrupted
        if client is not None:
            await client.stop()

    def _move(self, state: EngineState, detail: str) -> None:
        if state not in ENGINE_TRANSITIONS[self._state]:
            raise RuntimeError(f"an engine cannot go from {self._state} to {state}")
        self._state, self._detail = state, detail
        if state is EngineState.READY:
            self._ready.set()
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            elapsed = asyncio.get_running_loop().time() - self._launched_at
            self._on_progress(EngineProgress(self._state, elapsed, self._detail))

    def _stage(self) -> str:
        stage = self._detail
        for line in self._log.recent():
            stage = next((told for said, told in reversed(_STAGES) if said in line), stage)
        return stage

    def _failed(self, why: str) -> EngineUnavailableError:
        return EngineUnavailableError(
            "vLLM did not start",
            why=why,
            hint=f"Its whole log is in {self._log.path}; it ends:\n{self._log.tail()}",
        )

    def _unavailable(self) -> EngineUnavailableError:
        return EngineUnavailableError(
            f"vLLM is not ready ({self._state})", why=self._detail, hint=f"Its log is in {self._log.path}."
        )


def _free_port() -> int:
    """Pick a free loopback port. Should another process take it first, vLLM ends and the next try differs."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
