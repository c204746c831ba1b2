"""Streamed answers of an endpoint: every event with its counts, every way to fail, and stopping in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from cocoon_sdk.errors import EngineInterruptedError, EngineUnavailableError
from cocoon_worker.engine.base import (
    EngineAnswerError,
    EngineChunk,
    EngineKind,
    EngineLimits,
    EngineRequest,
    EngineRequestError,
    EngineTimeoutError,
)
from cocoon_worker.engine.openai import OpenAIEngine
from tests.unit.engine.upstream import MODEL, Handler, Upstream, engine_running, upstream_running

CHAT = EngineRequest(EngineKind.CHAT, {"messages": [{"role": "user", "content": "hello"}]})


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with upstream_running() as server:
        yield server


@pytest.fixture
async def engine(upstream: Upstream) -> AsyncIterator[OpenAIEngine]:
    async with engine_running(upstream) as running:
        yield running


def event(done: int, *, reason: str | None = None, prompt: int = 9, **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": " word"}, "finish_reason": reason}
    usage = {"prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done}
    return {"object": "chat.completion.chunk", "choices": [choice], "usage": usage, **changes}


def last(done: int, **changes: Any) -> dict[str, Any]:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": done,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    return {"choices": [], "usage": usage, **changes}


WHOLE: tuple[dict[str, Any], ...] = (event(0), event(1), event(2, reason="stop"), last(2))


def sends(
    *events: object, end: bool = True, cut: Callable[[bytes], Sequence[bytes]] = lambda raw: [raw]
) -> Handler:
    """Return a handler that streams the events, in the pieces that `cut` makes."""
    raw = b"".join(
        b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n"
        for each in events
    )
    raw += b"data: [DONE]\n\n" if end else b""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in cut(raw):
            await response.write(piece)
        return response

    return handler


async def chunks_of(
    engine: OpenAIEngine, request: EngineRequest = CHAT, deadline_s: float = 10
) -> list[EngineChunk]:
    async with aclosing(engine.stream(request, deadline_s=deadline_s)) as chunks:
        return [chunk async for chunk in chunks]


async def test_client_can_follow_counts_when_an_answer_streams(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = sends(*WHOLE)

    chunks = await chunks_of(engine)

    assert [json.loads(chunk.data) for chunk in chunks] == list(WHOLE)
    counts = [(each.prompt_tokens, each.cached_tokens, each.completion_tokens) for each in chunks]
    assert counts == [(9, None, 0), (9, None, 1), (9, None, 2), (9, 4, 2)]
    assert [chunk.final for chunk in chunks] == [False, False, False, True]
    assert upstream.bodies[0]["stream"] is True
    assert upstream.bodies[0]["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
async def test_client_can_get_every_event_when_the_stream_is_cut_anywhere(
    engine: OpenAIEngine, upstream: Upstream, size: int
) -> None:
    upstream.handler = sends(
        b"", *WHOLE, cut=lambda raw: [raw[start : start + size] for start in range(0, len(raw), size)]
    )
    with pytest.raises(EngineAnswerError):  # an empty event is no event
        await chunks_of(engine)
    upstream.handler = sends(
        *WHOLE, cut=lambda raw: [raw[start : start + size] for start in range(0, len(raw), size)]
    )
    assert [json.loads(chunk.data) for chunk in await chunks_of(engine)] == list(WHOLE)


async def test_client_can_follow_a_stream_when_it_has_comments_and_other_line_ends(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    lines = b"".join(
        b": ping\r\n\r\nevent: x\r\ndata:" + json.dumps(each).encode() + b"\r\n\r\n" for each in WHOLE
    )

    def instead(_: bytes) -> Sequence[bytes]:
        return [lines, b"data: [DONE]\r\n\r\n"]

    upstream.handler = sends(cut=instead)
    assert len(await chunks_of(engine)) == 4


@pytest.mark.parametrize(
    ("events", "end", "expected"),
    [
        ((event(0), event(1)), True, EngineInterruptedError),
        ((event(0), event(1)), False, EngineInterruptedError),
        ((event(0), event(1, reason="stop")), True, EngineInterruptedError),
        ((event(0), last(0)), True, EngineInterruptedError),
        ((event(0), event(1, reason="abort"), last(1)), True, EngineInterruptedError),
        ((event(0), {"error": {"message": "died", "code": 500}}), True, EngineInterruptedError),
        (({"error": {"message": "bad", "code": 400}},), True, EngineRequestError),
        ((event(0, usage=None),), True, EngineAnswerError),
        ((event(2), event(1)), True, EngineAnswerError),
        ((event(0), event(1, prompt=8)), True, EngineAnswerError),
        ((event(0, usage={"prompt_tokens": -1, "completion_tokens": 0}),), True, EngineAnswerError),
        ((event(0, usage={"prompt_tokens": "9", "completion_tokens": 0}),), True, EngineAnswerError),
        ((event(0), last(1), event(2)), True, EngineAnswerError),
        ((event(0, choices=[{}, {}]),), True, EngineAnswerError),
        ((b"not json",), True, EngineAnswerError),
        ((b"\xff",), True, EngineAnswerError),
    ],
)
async def test_client_cannot_be_given_a_stream_that_cannot_be_billed(
    engine: OpenAIEngine, upstream: Upstream, events: Sequence[object], end: bool, expected: type[Exception]
) -> None:
    upstream.handler = sends(*events, end=end)
    with pytest.raises(expected):
        await chunks_of(engine)


async def test_client_cannot_flood_the_worker_when_an_event_has_no_end(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = sends(cut=lambda _: [b"data: " + b"x" * (1 << 18)] * 8)
    with pytest.raises(EngineAnswerError, match="too long"):
        await chunks_of(engine)


async def test_client_cannot_flood_the_worker_when_a_stream_has_no_end(upstream: Upstream) -> None:
    upstream.handler = sends(*[event(0)] * 100)
    async with engine_running(upstream, limits=EngineLimits(max_response_bytes=2000)) as engine:
        with pytest.raises(EngineAnswerError, match="longer than"):
            await chunks_of(engine)


async def test_client_can_be_told_why_when_the_endpoint_refuses(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = upstream.answers(400, {"error": {"message": "too many tokens"}})
    with pytest.raises(EngineRequestError, match="too many tokens"):
        await chunks_of(engine)
    upstream.handler = upstream.answers(503, {"error": "warming up"})
    with pytest.raises(EngineUnavailableError, match="warming up"):
        await chunks_of(engine)


async def test_embeddings_cannot_be_streamed(engine: OpenAIEngine) -> None:
    with pytest.raises(EngineRequestError):
        await chunks_of(engine, EngineRequest(EngineKind.EMBEDDING, {"input": "x"}))


async def test_engine_can_stop_a_generation_when_the_reader_leaves(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = endless(upstream)
    async with aclosing(engine.stream(CHAT, deadline_s=30)) as chunks:
        async for chunk in chunks:
            if chunk.completion_tokens == 3:
                break
    async with asyncio.timeout(5):
        await upstream.gone.wait()


async def test_engine_can_stop_a_generation_when_the_task_is_cancelled(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = upstream.hangs
    task = asyncio.create_task(chunks_of(engine))
    await upstream.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await upstream.gone.wait()


async def test_engine_can_stop_a_generation_when_the_deadline_passes(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = endless(upstream)
    with pytest.raises(EngineTimeoutError):
        await chunks_of(engine, deadline_s=0.2)
    async with asyncio.timeout(5):
        await upstream.gone.wait()


def endless(upstream: Upstream) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            done = 0
            while True:
                await response.write(b"data: " + json.dumps(event(done)).encode() + b"\n\n")
                done += 1
                await asyncio.sleep(0.001)
        finally:
            upstream.gone.set()

    return handler


async def test_engine_can_keep_one_connection_when_answers_follow_each_other(upstream: Upstream) -> None:
    ports: list[Any] = []
    upstream.handler = sends(*WHOLE)
    plain = upstream.handler

    async def noting(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername"))
        return await plain(request)

    upstream.handler = noting
    async with engine_running(upstream) as engine:
        for _ in range(3):
            await chunks_of(engine)
    assert len(ports) == 3
    assert len(set(ports)) == 1


async def test_engine_can_count_a_prompt_when_the_endpoint_has_a_tokenizer(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    asked: list[dict[str, Any]] = []

    async def tokenize(request: web.Request) -> web.StreamResponse:
        asked.append(await request.json())
        return web.json_response({"count": 17, "max_model_len": 99, "tokens": [1] * 17})

    upstream.root["/tokenize"] = tokenize
    assert await engine.count_tokens(CHAT) == 17
    assert asked == [{"model": MODEL, "messages": CHAT.body["messages"]}]
    assert await engine.count_tokens(EngineRequest(EngineKind.COMPLETION, {"prompt": [1, 2, 3]})) == 3
    several = EngineRequest(EngineKind.EMBEDDING, {"input": ["a", "b"]})
    assert await engine.count_tokens(several) is None


async def test_engine_cannot_count_when_the_endpoint_has_no_tokenizer(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    assert await engine.count_tokens(CHAT) is None
