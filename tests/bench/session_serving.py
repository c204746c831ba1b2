"""What a worker's session endpoint costs: CPU of its process per streamed token, and time to first token.

`python -m tests.bench.session_serving [--engine sse|echo] [--greedy]`. Three processes: an upstream that is
no model (`tests.helpers.sse_upstream`), the worker's endpoint on uvloop, and the clients. Prices are such
that clients pay all the time; with `--greedy` the offer is verifiable, and they ask for commitments. Prints
one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Nano
from cocoon_worker.engine.base import Engine
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.engine.openai import OpenAIEngine
from tests.helpers.session_bench import bench, offer, session_facts, terms
from tests.helpers.session_client import TestClient
from tests.helpers.sse_upstream import MODEL

TOKENS = 200
_TICKS = os.sysconf("SC_CLK_TCK")


async def serve(upstream: str | None, sampling: SamplingClass) -> None:
    """Run the endpoint in this process until its standard input ends."""
    engine: Engine = EchoEngine() if upstream is None else OpenAIEngine(upstream, models=[MODEL])
    own = offer(terms(sampling=sampling), engine_model=engine_model(upstream), max_output_tokens=4096)
    folder = Path(tempfile.mkdtemp())
    async with bench(folder, engine, offers=(own,), capacity=256, max_unpaid=Nano.ton("0.01")) as worker:
        print(worker.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def engine_model(upstream: str | None) -> str:
    return "echo" if upstream is None else MODEL


def cpu_s(pid: int) -> tuple[float, float]:
    """Return the CPU time of a process in its own code and in the kernel, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS


async def stream(url: str, own: Any, streams: int, session: int, rounds: int) -> dict[str, float]:
    """Stream so many answers at a time on one connection; return tokens and times to first token."""
    facts = session_facts(session)
    options: dict[str, Any] = {"increment": Nano(5_000_000)}
    options["proves"] = own.verifiable
    client = make_client(url, own, facts, session, options)
    prompt = " ".join(["word"] * (TOKENS - 4))
    first: list[float] = []
    tokens = 0
    async with aiohttp.ClientSession() as http:
        await client.connect(http)

        async def one() -> None:
            nonlocal tokens
            began = time.perf_counter()
            answer = await client.ask(
                messages=[{"role": "user", "content": prompt}], max_tokens=TOKENS, stream=True
            )
            await answer.moved.wait()
            first.append(time.perf_counter() - began)
            await client.end(answer)
            assert answer.done is not None, answer.failed
            tokens += answer.done.output_tokens
            answer.data.clear()

        for _ in range(rounds):
            await asyncio.gather(*(one() for _ in range(streams)))
        messages = len(client.messages)
        await client.cut()
    return {"tokens": tokens, "ttft_ms": 1000 * statistics.median(first), "messages": messages}


def make_client(url: str, own: Any, facts: Any, session: int, options: dict[str, Any]) -> TestClient:
    from cocoon_sdk.crypto.channel import WorkerName
    from cocoon_sdk.protocol.vouchers import voucher_key
    from tests.helpers.session_bench import ESCROW, GLOBAL_ID, HOT_KEY, OPERATOR, STAKE

    return TestClient(
        url=url,
        worker=WorkerName(GLOBAL_ID, bytes(STAKE.hash_part)),
        operator=OPERATOR.verify_key,
        ref=facts.ref,
        signer=voucher_key(HOT_KEY, ESCROW, session),
        terms=own.terms,
        deposit=facts.deposit,
        **options,
    )


def start(arguments: list[str]) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def measure(engine: str, step_ms: float, sampling: SamplingClass) -> dict[str, Any]:
    """Measure at 1, 16 and 64 streams."""
    upstream, port = start(["tests.helpers.sse_upstream", "--step-ms", str(step_ms)])
    arguments = ["tests.bench.session_serving", "--serve"]
    arguments += ["--greedy"] if sampling is SamplingClass.GREEDY else []
    if engine == "sse":
        arguments += ["--upstream", f"http://127.0.0.1:{port}/v1"]
    worker, url = start(arguments)
    engine_name = engine_model(None if engine == "echo" else "x")
    own = offer(terms(sampling=sampling), engine_model=engine_name, max_output_tokens=4096)
    found: dict[str, Any] = {}
    try:
        for session, streams in enumerate((1, 1, 16, 64), 1):
            before, began = cpu_s(worker.pid), time.perf_counter()
            rounds = 4 if streams == 1 else 3
            run = uvloop.run(stream(url, own, streams, session, rounds))
            after, took = cpu_s(worker.pid), time.perf_counter() - began
            own_s, kernel_s = after[0] - before[0], after[1] - before[1]
            found[str(streams)] = {
                "cpu_us_per_token": round(1e6 * (own_s + kernel_s) / run["tokens"], 1),
                "of_it_in_the_kernel_us": round(1e6 * kernel_s / run["tokens"], 1),
                "tokens_per_s": round(run["tokens"] / took),
                "ttft_ms": round(run["ttft_ms"], 2),
                "tokens_per_message": round(run["tokens"] / run["messages"], 1),
            }
    finally:
        for process in (worker, upstream):
            process.kill()
            process.wait()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--upstream")
    parser.add_argument("--engine", choices=("sse", "echo"), default="sse")
    parser.add_argument("--step-ms", type=float, default=10.0)
    parser.add_argument("--greedy", action="store_true")
    given = parser.parse_args()
    how = SamplingClass.GREEDY if given.greedy else SamplingClass.UNVERIFIED
    if given.serve:
        uvloop.run(serve(given.upstream, how))
    else:
        print(json.dumps(measure(given.engine, given.step_ms, how), indent=1))
