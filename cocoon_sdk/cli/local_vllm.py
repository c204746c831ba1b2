"""A vLLM of one's own for as long as something has to be measured, with our sampler in it.

Owns starting, waiting and ending. Must not know what is measured.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from cocoon_sdk.errors import EngineUnavailableError
from cocoon_sdk.protocol import SamplingClass
from cocoon_sdk.verify.calibration import EngineSetting, Served
from cocoon_worker.engine.child import ChildLog, GuardedChild
from cocoon_worker.engine.vllm_command import HOST, VllmSettings, vllm_command, vllm_environment

_POLL_S: Final = 1.0
_PROBE_S: Final = 5.0
SERVED_NAME: Final = "model"


def vllm_settings(
    model: Path, setting: EngineSetting, log: Path, *, context: int, top: int, arguments: tuple[str, ...] = ()
) -> VllmSettings:
    """Return how vLLM is run for a setting: `top` tokens may be asked for per position."""
    return VllmSettings(
        model=str(model),
        served_name=SERVED_NAME,
        log_path=log,
        max_model_len=context,
        dtype=setting.dtype,
        sampling=SamplingClass.REPLAYABLE,
        extra_args=(*setting.arguments(), f"--max-logprobs={top}", *arguments),
    )


@asynccontextmanager
async def serve_vllm(settings: VllmSettings) -> AsyncIterator[Served]:
    """Run vLLM until the block ends. Raises `EngineUnavailableError` with the end of its log."""
    port, key = _free_port(), secrets.token_urlsafe(32)
    log = ChildLog(settings.log_path)
    log.open()
    try:
        child = await GuardedChild.launch(
            vllm_command(settings, port),
            env=vllm_environment(settings, os.environ, key),
            log=log,
            grace_s=settings.stop_grace_s,
        )
        try:
            await _until_healthy(child, f"http://{HOST}:{port}/health", settings, log)
            yield Served(f"http://{HOST}:{port}/v1", key, settings.served_name)
        finally:
            await child.stop()
    finally:
        log.close()


async def _until_healthy(child: GuardedChild, url: str, settings: VllmSettings, log: ChildLog) -> None:
    timeout = aiohttp.ClientTimeout(total=_PROBE_S)
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.startup_timeout_s
    async with aiohttp.ClientSession(timeout=timeout) as http:
        while child.running and loop.time() < end:
            try:
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(_POLL_S)
    raise EngineUnavailableError(
        "vLLM did not start", why=log.tail(), hint=f"Its whole log is {settings.log_path}"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
