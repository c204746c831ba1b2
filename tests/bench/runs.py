"""Runs of the load generator in a process of their own, and programs that are measured beside ours."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the load generator saw."""

    answers: int
    tokens: int
    per_s: float
    tokens_per_s: float
    first_ms: float
    whole_ms: float
    seconds: float


async def load(
    url: str,
    model: str,
    *,
    connections: int,
    seconds: float,
    stream: bool,
    tokens: int = 16,
    key: str = "none",
) -> Run:
    """Run `tests.bench.load` against `url`. Raises `RuntimeError` when an answer was not 200."""
    command = [sys.executable, "-m", "tests.bench.load", url, "--model", model, "--key", key]
    command += ["--connections", str(connections), "--seconds", str(seconds), "--tokens", str(tokens)]
    process = await asyncio.create_subprocess_exec(
        *command,
        *(("--stream",) if stream else ()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the load on {url} failed: {err.decode()[-500:]}")
    return Run(**json.loads(out))


@contextmanager
def upstream() -> Iterator[str]:
    """Run the upstream that answers at once; yields its base URL."""
    command = [sys.executable, "-m", "tests.bench.upstream"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.terminate()
        process.wait()
