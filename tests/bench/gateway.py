"""Requests per second through our gateway and through the LiteLLM proxy, over the same upstream, in turns.

Ours does what it does in production: a session on a chain, vouchers on disk before they are sent, receipts
checked, everything encrypted between gateway and worker. LiteLLM forwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.bench.runs import Run, load, upstream
from tests.bench.stack import PATIENCE_S, answers, free_port, stack
from tests.bench.upstream import MODEL

INTEROP: Final = Path(__file__).resolve().parents[2] / os.environ.get("COCOON_INTEROP_VENV", ".venv-interop")
CONNECTIONS: Final = 32
ROUNDS: Final = 3
ROUND_S: Final = 5.0
WARM_S: Final = 8.0
"""LiteLLM gets faster for several seconds after it has started."""
START_S: Final = 120.0


@dataclass(slots=True)
class Compared:
    """Requests per second of each round, streamed and not."""

    ours: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    theirs: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})

    def ratio(self, stream: bool) -> float:
        """How many requests pass ours while one passes theirs: the median of the rounds."""
        pairs = zip(self.ours[stream], self.theirs[stream], strict=True)
        return median(ours / theirs for ours, theirs in pairs)


async def compare() -> Compared:
    """Measure both in turns."""
    found = Compared()
    with upstream() as url, tempfile.TemporaryDirectory(prefix="cocoon-bench-") as name:
        folder = Path(name)
        async with litellm(url, folder) as (theirs, key), stack(url, MODEL, folder) as ours:
            for stream in (False, True):
                await _run(theirs, stream, key=key, seconds=WARM_S)
                await _run(ours.url, stream, seconds=WARM_S / 2)
                for _ in range(ROUNDS):
                    found.theirs[stream].append((await _run(theirs, stream, key=key)).per_s)
                    found.ours[stream].append((await _run(ours.url, stream)).per_s)
    return found


async def _run(url: str, stream: bool, *, key: str = "none", seconds: float = ROUND_S) -> Run:
    return await load(url, MODEL, connections=CONNECTIONS, seconds=seconds, stream=stream, key=key)


@contextlib.asynccontextmanager
async def litellm(url: str, folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Run the LiteLLM proxy as its users do, in its production mode; yields its base URL and key."""
    program = INTEROP / "bin" / "litellm"
    if not program.exists():
        raise RuntimeError("LiteLLM is not installed: run `make interop`")
    config: dict[str, Any] = {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {"model": f"openai/{MODEL}", "api_base": url, "api_key": "none"},
            }
        ],
        "litellm_settings": {"telemetry": False},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))  # JSON is YAML
    key, port = f"sk-{secrets.token_hex(24)}", free_port()
    env = {
        **os.environ,
        "LITELLM_MASTER_KEY": key,
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [str(program), "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1"]
    with (folder / "litellm.log").open("w") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - once, before anything is measured
            [*command, "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            start_new_session=True,
        )
        try:
            alive = f"http://127.0.0.1:{port}/health/liveliness"
            await answers(alive, lambda: process.poll() is not None, patience_s=START_S)
            yield f"http://127.0.0.1:{port}/v1", key
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
