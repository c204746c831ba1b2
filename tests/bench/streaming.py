"""Real vLLM, bare and behind gateway and worker, in turns, all processes on this machine's cores.

What gateway and worker add to the time to the first token, what share of the tokens per second they leave at
saturation, and how much CPU time a streamed token costs them.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from cocoon_sdk.demo.engines import MAX_CONTEXT, packaged_model
from cocoon_worker.engine.child import ChildLog, GuardedChild
from cocoon_worker.engine.packaged_model import PACKAGED_MODEL
from cocoon_worker.engine.vllm_command import VllmSettings, vllm_command, vllm_environment
from tests.bench.runs import Run, load
from tests.bench.stack import answers, free_port, stack

CONNECTIONS: Final = 16
TOKENS: Final = 64
ROUNDS: Final = 4
ROUND_S: Final = 8.0
FIRST_ROUNDS: Final = 8
FIRST_S: Final = 2.5
LOADING_S: Final = 240.0


@dataclass(slots=True)
class Streamed:
    """Figures of each round. Rates in tokens per second, times in milliseconds, CPU in microseconds."""

    bare: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    ours: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    first_bare: list[float] = field(default_factory=list)
    first_ours: list[float] = field(default_factory=list)
    gateway_us: float = 0.0
    worker_us: float = 0.0

    @property
    def ttft_added_ms(self) -> float:
        """What the median time to the first token grows by."""
        return median(self.first_ours) - median(self.first_bare)

    def ratio(self, stream: bool) -> float:
        """The share of bare vLLM's tokens per second: the median of the rounds."""
        pairs = zip(self.ours[stream], self.bare[stream], strict=True)
        return median(ours / bare for ours, bare in pairs)


async def measure() -> Streamed:
    """Load the packaged model once and measure both ways to it."""
    found = Streamed()
    with tempfile.TemporaryDirectory(prefix="cocoon-bench-") as name:
        folder = Path(name)
        async with bare_vllm(folder) as (bare, key), stack(bare, PACKAGED_MODEL, folder, key=key) as ours:
            ways = _Ways(bare, key, ours.url)
            for url in (bare, ours.url):
                await ways.load(url, True, seconds=4)
            for _ in range(FIRST_ROUNDS):
                found.first_bare.append((await ways.first(bare)).first_ms)
                found.first_ours.append((await ways.first(ours.url)).first_ms)
            streamed = 0
            for stream in (True, False):
                for _ in range(ROUNDS):
                    found.bare[stream].append((await ways.load(bare, stream)).tokens_per_s)
                    gateway_s, worker_s = ours.gateway.cpu_s(), ours.worker.cpu_s()
                    run = await ways.load(ours.url, stream)
                    found.ours[stream].append(run.tokens_per_s)
                    if stream:
                        streamed += run.tokens
                        found.gateway_us += (ours.gateway.cpu_s() - gateway_s) * 1e6
                        found.worker_us += (ours.worker.cpu_s() - worker_s) * 1e6
            found.gateway_us /= streamed
            found.worker_us /= streamed
    return found


@dataclass(frozen=True, slots=True)
class _Ways:
    """Both ways to the same vLLM."""

    bare: str
    key: str
    ours: str

    async def load(self, url: str, stream: bool, *, seconds: float = ROUND_S) -> Run:
        """Saturate it."""
        return await self._run(url, connections=CONNECTIONS, seconds=seconds, stream=stream, tokens=TOKENS)

    async def first(self, url: str) -> Run:
        """Ask for one token, again and again."""
        return await self._run(url, connections=1, seconds=FIRST_S, stream=True, tokens=1)

    async def _run(self, url: str, **how: Any) -> Run:
        key = self.key if url == self.bare else "none"
        return await load(url, PACKAGED_MODEL, key=key, **how)


@asynccontextmanager
async def bare_vllm(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Run vLLM as the worker runs it; yields its base URL and key."""
    model = await packaged_model(lambda _: None)
    settings = VllmSettings(
        model=str(model),
        served_name=PACKAGED_MODEL,
        log_path=folder / "vllm.log",
        max_model_len=MAX_CONTEXT,
    )
    port, key = free_port(), secrets.token_urlsafe(32)
    child = await GuardedChild.launch(
        vllm_command(settings, port),
        env=vllm_environment(settings, os.environ, key),
        log=ChildLog(settings.log_path),
        grace_s=settings.stop_grace_s,
    )
    try:
        await answers(f"http://127.0.0.1:{port}/health", lambda: not child.running, patience_s=LOADING_S)
        yield f"http://127.0.0.1:{port}/v1", key
    finally:
        await child.stop()
