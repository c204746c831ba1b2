"""One loaded vLLM for all tests of this folder: loading takes up to a minute and two gigabytes.

The engine lives on an event loop of its own in a thread, so that a test may run on any loop (pytest-asyncio
gives each its own) while vLLM's log is read and its child is supervised all the time.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_worker.engine.base import (
    EngineChunk,
    EngineHealth,
    EngineProgress,
    EngineRequest,
    EngineResult,
)
from cocoon_worker.engine.packaged_model import PACKAGED_MODEL, ensure_packaged_model
from cocoon_worker.engine.vllm import VllmEngine, VllmSettings

T = TypeVar("T")
_BUILD = Path(__file__).parents[2] / "build"
_START_S = 900
_STOP_S = 60


class SharedEngine:
    """The session's vLLM as an `Engine` for any event loop. `start` and `stop` leave it running."""

    def __init__(self, engine: VllmEngine) -> None:
        self.engine = engine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-loop", daemon=True)
        self._thread.start()

    def open(self) -> None:
        asyncio.run_coroutine_threadsafe(self.engine.start(), self._loop).result(_START_S)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.engine.stop(), self._loop).result(_STOP_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)
        self._loop.close()

    def endpoint(self) -> tuple[str, str | None]:
        """Return base URL, ending in /v1, and key of the vLLM that runs now."""
        client = self.engine._client
        assert client is not None
        return f"{self.engine._root}/v1", client._api_key

    async def call(self, step: Coroutine[Any, Any, T]) -> T:
        """Await something of the engine's loop from the test's loop; cancelling goes through."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(step, self._loop))

    def models(self) -> tuple[str, ...]:
        return self.engine.models()

    async def start(self) -> None:
        await self.call(self.engine.wait_ready(_START_S))

    async def stop(self) -> None:
        pass

    async def health(self) -> EngineHealth:
        return await self.call(self.engine.health())

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        return await self.call(self.engine.run(request, deadline_s=deadline_s))

    async def stream(self, request: EngineRequest, *, deadline_s: float) -> AsyncGenerator[EngineChunk, None]:
        """Follow a stream of the engine's loop from the test's loop; leaving it leaves it there too."""
        here = asyncio.get_running_loop()
        chunks: asyncio.Queue[EngineChunk | BaseException | None] = asyncio.Queue()

        async def follow() -> None:
            end: BaseException | None = None
            try:
                async with aclosing(self.engine.stream(request, deadline_s=deadline_s)) as stream:
                    async for chunk in stream:
                        here.call_soon_threadsafe(chunks.put_nowait, chunk)
            except Exception as error:
                end = error
            here.call_soon_threadsafe(chunks.put_nowait, end)

        following = asyncio.ensure_future(self.call(follow()))
        try:
            while (chunk := await chunks.get()) is not None:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk
        finally:
            following.cancel()

    async def count_tokens(self, request: EngineRequest) -> int | None:
        return await self.call(self.engine.count_tokens(request))


@pytest.fixture(scope="session")
def packaged_model() -> Path:
    """The folder of the packaged model, converted once into build/."""
    if importlib.util.find_spec("vllm") is None:
        pytest.fail("vLLM is not installed: run `make vllm`, or deselect with -m 'not vllm'")
    return ensure_packaged_model(_BUILD / "models" / PACKAGED_MODEL, progress=print)


@pytest.fixture(scope="session")
def vllm_engine(packaged_model: Path) -> Iterator[SharedEngine]:
    """A ready vLLM serving `PACKAGED_MODEL`. Mark the test `vllm`; after killing it, wait with `start()`."""
    settings = VllmSettings(
        model=str(packaged_model),
        served_name=PACKAGED_MODEL,
        log_path=_BUILD / "logs" / "vllm-tests.log",
        sampling=SamplingClass.REPLAYABLE,
    )
    shared = SharedEngine(VllmEngine(settings, on_progress=_tell))
    try:
        shared.open()
        yield shared
    finally:
        shared.close()


def _tell(progress: EngineProgress) -> None:
    print(f"vLLM {progress.state} {progress.elapsed_s:5.1f} s  {progress.detail}", flush=True)
