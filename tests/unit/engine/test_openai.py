"""An OpenAI endpoint that works, and every way in which it can fail."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import pytest

from cocoon_sdk.errors import ConfigError, EngineInterruptedError, EngineUnavailableError
from cocoon_worker.engine.base import (
    Engine,
    EngineAnswerError,
    EngineIdentity,
    EngineKind,
    EngineLimits,
    EngineRequest,
    EngineRequestError,
    EngineTimeoutError,
    EngineUsage,
)
from cocoon_worker.engine.openai import OpenAIEngine
from tests.unit.engine.upstream import MODEL, Upstream, answer, engine_running, upstream_running

CHAT = EngineRequest(EngineKind.CHAT, {"messages": [{"role": "user", "content": "hello"}]})
SECRET = "sk-very-secret-value"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with upstream_running() as server:
        yield server


@pytest.fixture
async def engine(upstream: Upstream) -> AsyncIterator[OpenAIEngine]:
    async with engine_running(upstream, api_key=SECRET) as running:
        yield running


async def test_engine_can_answer_when_the_endpoint_is_well(engine: OpenAIEngine, upstream: Upstream) -> None:
    result = await engine.run(CHAT, deadline_s=10)

    assert result.usage == EngineUsage(prompt_tokens=9, cached_tokens=4, completion_tokens=2)
    assert result.response == answer()
    assert upstream.bodies == [{**CHAT.body, "model": MODEL, "max_tokens": 512}]
    assert upstream.authorizations == [f"Bearer {SECRET}"]
    assert isinstance(engine, Engine)
    assert engine.models() == (MODEL,)
    assert (await engine.health()).ready


@pytest.mark.parametrize(("platform", "told"), [("cpu", False), ("", True), ("cuda NVIDIA H100", True)])
async def test_client_cannot_end_an_engine_on_a_cpu_with_a_seed(
    upstream: Upstream, platform: str, told: bool
) -> None:
    seeded = EngineRequest(EngineKind.CHAT, {**CHAT.body, "seed": 7})
    async with engine_running(upstream, identity=EngineIdentity(platform=platform)) as engine:
        await engine.run(seeded, deadline_s=10)
    assert ("seed" in upstream.bodies[-1]) is told


async def test_engine_can_count_when_nothing_is_said_about_the_cache(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = upstream.answers(
        body=answer(usage={"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": None})
    )
    assert (await engine.run(CHAT, deadline_s=10)).usage == EngineUsage(3, 0, 1)


async def test_engine_can_embed_when_the_endpoint_serves_embeddings(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = upstream.answers(
        body={"data": [{"embedding": [0.5], "index": 0}], "usage": {"prompt_tokens": 2, "total_tokens": 2}}
    )
    result = await engine.run(EngineRequest(EngineKind.EMBEDDING, {"input": "x"}), deadline_s=10)
    assert result.usage == EngineUsage(2, 0, 0)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, EngineRequestError),
        (404, EngineRequestError),
        (413, EngineRequestError),
        (422, EngineRequestError),
        (401, EngineUnavailableError),
        (403, EngineUnavailableError),
        (429, EngineUnavailableError),
        (502, EngineUnavailableError),
        (503, EngineUnavailableError),
        (302, EngineUnavailableError),
        (500, EngineInterruptedError),
    ],
)
async def test_engine_can_tell_failures_apart_when_the_endpoint_refuses(
    engine: OpenAIEngine, upstream: Upstream, status: int, expected: type[Exception]
) -> None:
    upstream.handler = upstream.answers(status, {"error": {"message": f"no {SECRET}\nbecause\x1b[31m"}})
    with pytest.raises(expected) as caught:
        await engine.run(CHAT, deadline_s=10)
    assert type(caught.value) is expected
    text = str(caught.value)
    assert SECRET not in text
    assert "\n" not in text
    assert "\x1b" not in text


async def test_engine_cannot_flood_an_error_when_the_error_page_is_huge(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = upstream.sends(b"x" * 1_000_000, status=400)
    with pytest.raises(EngineRequestError) as caught:
        await engine.run(CHAT, deadline_s=10)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("death", ["dies_before_answering", "dies_mid_answer"])
async def test_engine_cannot_complete_when_the_endpoint_dies(
    engine: OpenAIEngine, upstream: Upstream, death: str
) -> None:
    upstream.handler = getattr(upstream, death)
    with pytest.raises(EngineInterruptedError, match="broke off"):
        await engine.run(CHAT, deadline_s=10)


async def test_engine_cannot_wait_longer_than_the_deadline_when_the_endpoint_is_slow(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = upstream.hangs
    with pytest.raises(EngineTimeoutError):
        await engine.run(CHAT, deadline_s=0.1)
    await upstream.gone.wait()  # the endpoint was told, so it stops generating


async def test_engine_can_stop_the_generation_when_the_caller_cancels(
    engine: OpenAIEngine, upstream: Upstream
) -> None:
    upstream.handler = upstream.hangs
    running = asyncio.create_task(engine.run(CHAT, deadline_s=60))
    await upstream.arrived.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await upstream.gone.wait()


async def test_engine_cannot_be_flooded_when_the_answer_has_no_end(upstream: Upstream) -> None:
    async with engine_running(upstream, limits=EngineLimits(max_response_bytes=1 << 20)) as engine:
        upstream.handler = upstream.answers_without_end
        with pytest.raises(EngineAnswerError, match="longer than"):
            await engine.run(CHAT, deadline_s=30)
        await upstream.gone.wait()


_NO_REASON = [{"index": 0, "message": {"content": "h"}, "finish_reason": None}]
_ABORTED = [{"index": 0, "message": {"content": "h"}, "finish_reason": "abort"}]


@pytest.mark.parametrize("choices", [_NO_REASON, _ABORTED], ids=["no reason", "abort"])
async def test_engine_cannot_pass_off_half_an_answer_when_it_was_cut_short(
    engine: OpenAIEngine, upstream: Upstream, choices: object
) -> None:
    upstream.handler = upstream.answers(body=answer(choices=choices))
    with pytest.raises(EngineInterruptedError, match="cut short"):
        await engine.run(CHAT, deadline_s=10)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        answer(choices=[]),
        answer(choices=answer()["choices"] * 2),
        answer(usage=None),
        answer(usage={"prompt_tokens": -1, "completion_tokens": 1}),
        answer(usage={"prompt_tokens": True, "completion_tokens": 1}),
        answer(usage={"prompt_tokens": 1.0, "completion_tokens": 1}),
        answer(usage={"prompt_tokens": 1}),
        answer(usage={"prompt_tokens": 1, "completion_tokens": 1 << 40}),
        answer(
            usage={"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}
        ),
    ],
)
async def test_engine_cannot_bill_when_the_answer_does_not_add_up(
    engine: OpenAIEngine, upstream: Upstream, body: object
) -> None:
    upstream.handler = upstream.answers(body=body)
    with pytest.raises(EngineAnswerError):
        await engine.run(CHAT, deadline_s=10)


@pytest.mark.parametrize("raw", [b"", b"not json", b"[" * 100_000, b'{"a": NaN}', b"\xff\xfe"])
async def test_engine_cannot_bill_when_the_answer_is_not_json(
    engine: OpenAIEngine, upstream: Upstream, raw: bytes
) -> None:
    upstream.handler = upstream.sends(raw)
    with pytest.raises(EngineAnswerError):
        await engine.run(CHAT, deadline_s=10)


async def test_engine_cannot_start_when_nobody_listens() -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused, nobody else gets it
        taken.bind(("127.0.0.1", 0))
        engine = OpenAIEngine(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with pytest.raises(EngineUnavailableError):
            await engine.start()
    assert not (await engine.health()).ready


async def test_engine_cannot_start_when_the_model_is_not_served(upstream: Upstream) -> None:
    engine = OpenAIEngine(upstream.url, models=["other"])
    with pytest.raises(ConfigError, match="other"):
        await engine.start()
    assert engine.models() == ()


async def test_engine_can_serve_the_whole_list_when_no_model_is_named(upstream: Upstream) -> None:
    async with engine_running(upstream, models=None) as engine:
        assert engine.models() == (MODEL, "model-b")
        with pytest.raises(EngineRequestError, match="model"):
            await engine.run(CHAT, deadline_s=10)  # two models: the request has to name one
        await engine.run(EngineRequest(CHAT.kind, {**CHAT.body, "model": "model-b"}), deadline_s=10)
    assert upstream.bodies[-1]["model"] == "model-b"


async def test_engine_cannot_run_when_it_is_stopped(upstream: Upstream) -> None:
    async with engine_running(upstream) as engine:
        pass
    with pytest.raises(EngineUnavailableError):
        await engine.run(CHAT, deadline_s=10)
    await engine.stop()


async def test_engine_cannot_reveal_its_key_when_it_is_shown_or_fails(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with engine_running(upstream, api_key=SECRET) as engine:
        upstream.handler = upstream.dies_mid_answer
        with pytest.raises(EngineInterruptedError) as caught:
            await engine.run(CHAT, deadline_s=10)
        assert SECRET not in repr(engine) + str(engine) + repr(caught.value) + caplog.text


@pytest.mark.parametrize("url", ["", "ftp://h/v1", "http://", "http://user:pw@host/v1", "http://h/v1?x=1"])
async def test_operator_cannot_configure_when_the_url_is_unusable(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIEngine(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "  ", "a\nb", "schlüssel"])
async def test_operator_cannot_configure_when_the_key_is_unusable(key: str) -> None:
    with pytest.raises(ConfigError):
        OpenAIEngine("http://127.0.0.1/v1", api_key=key)
