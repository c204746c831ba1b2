"""vLLM's endpoints over `TableModel`, and labelled so: a stand-in that generates, tokenises and re-scores.

Every few bytes of text are a token. For tests of what asks an engine; `tests.bench.verify` asks the real one.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from zlib import crc32

from aiohttp import web

from cocoon_sdk.verify.calibration import Served
from cocoon_sdk.verify.sampling import Sampling
from tests.helpers.table_model import END, TableModel, shown, text_of

NAME = "table"
_FIRST = 20
_BYTES = 8


class TableServer:
    """One engine; `bodies` are the requests that it has seen, `most` how many at a time."""

    def __init__(self, model: TableModel) -> None:
        self.model = model
        self.bodies: list[dict[str, Any]] = []
        self.now = self.most = 0

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = body.get("prompt") or "".join(each["content"] for each in body["messages"])
        data = text.encode()
        pieces = [data[start : start + _BYTES] for start in range(0, len(data), _BYTES)]
        return web.json_response({"tokens": [_FIRST + crc32(piece) % 250 for piece in pieces]})

    async def detokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"prompt": text_of((await request.json())["tokens"])})

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            found = self._scored(body) if "prompt_logprobs" in body else self._generated(body)
        finally:
            self.now -= 1
        return web.json_response({"choices": [found]})

    def _generated(self, body: dict[str, Any]) -> dict[str, Any]:
        given = Sampling.of_engine(body.get("vllm_xargs"))
        sampling, seed = given or (Sampling.of_request(body), bytes(16))
        tokens, logprobs, finish = self.model.generate(body["prompt"], sampling, seed, body["max_tokens"])
        return {
            **{"text": shown(tokens), "finish_reason": finish, "token_ids": tokens},
            "logprobs": {"token_logprobs": logprobs},
        }

    def _scored(self, body: dict[str, Any]) -> dict[str, Any]:
        tokens, top = body["prompt"], body["prompt_logprobs"]
        rescored = self.model.rescore([], tokens, top)
        rows: list[dict[str, Any] | None] = []
        for place, token in enumerate(tokens):
            best = zip(
                rescored.top_tokens[place].tolist(), rescored.top_logprobs[place].tolist(), strict=True
            )
            row = {
                str(each): {"logprob": logprob, "rank": rank} for rank, (each, logprob) in enumerate(best, 1)
            }
            row[str(token)] = {
                "logprob": max(-9999.0, float(rescored.logprobs[place])),
                "rank": int(rescored.ranks[place]),
            }
            assert all(math.isfinite(entry["logprob"]) for entry in row.values())
            rows.append(row)
        return {"prompt_logprobs": rows, "text": "", "finish_reason": "length"}


@asynccontextmanager
async def table_server(model: TableModel) -> AsyncIterator[tuple[TableServer, Served]]:
    """Serve a model on a free port."""
    server = TableServer(model)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/tokenize", server.tokenize)
    app.router.add_post("/detokenize", server.detokenize)
    app.router.add_post("/v1/completions", server.complete)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield server, Served(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", None, NAME)
    finally:
        await runner.cleanup()


@contextmanager
def table_server_beside(model: TableModel) -> Iterator[str]:
    """Serve a model beside commands, which have an event loop of their own; yields the URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = table_server(model)
    try:
        _, served = asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(30)
        yield served.url
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


END_TOKENS = frozenset({END})
