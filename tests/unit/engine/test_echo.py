"""The echo engine: labelled, counted, bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import EngineUnavailableError
from cocoon_worker.engine.base import (
    Engine,
    EngineKind,
    EngineRequest,
    EngineTimeoutError,
)
from cocoon_worker.engine.echo import ECHO_LABEL, EchoEngine


@pytest.fixture
async def echo() -> AsyncIterator[EchoEngine]:
    engine = EchoEngine(clock=ManualClock(1_700_000_000))
    await engine.start()
    yield engine
    await engine.stop()


def chat(text: str, **fields: object) -> EngineRequest:
    return EngineRequest(EngineKind.CHAT, {"messages": [{"role": "user", "content": text}], **fields})


async def test_client_can_see_that_it_is_an_echo_when_it_asks(echo: EchoEngine) -> None:
    result = await echo.run(chat("two words", model="echo"), deadline_s=1)

    assert isinstance(echo, Engine)
    assert result.response["model"] == "echo"
    assert result.response["system_fingerprint"] == ECHO_LABEL
    choice = result.response["choices"][0]
    assert choice["message"]["content"] == f"{ECHO_LABEL} two words"
    assert choice["finish_reason"] == "stop"
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (2, 6)
    assert result.response["usage"]["total_tokens"] == 8
    assert result.response["created"] == 1_700_000_000


async def test_client_can_get_a_shorter_echo_when_it_limits_the_tokens(echo: EchoEngine) -> None:
    result = await echo.run(
        EngineRequest(EngineKind.COMPLETION, {"prompt": "a b c", "max_tokens": 3}), deadline_s=1
    )
    assert result.usage.completion_tokens == 3
    assert result.response["choices"][0]["finish_reason"] == "length"


async def test_client_can_get_the_same_echo_when_it_asks_twice(echo: EchoEngine) -> None:
    assert await echo.run(chat("x"), deadline_s=1) == await echo.run(chat("x"), deadline_s=1)


async def test_client_can_get_embeddings_when_the_echo_makes_them_of_hashes(echo: EchoEngine) -> None:
    request = EngineRequest(EngineKind.EMBEDDING, {"input": ["a b", "c", "a b"], "dimensions": 4})
    result = await echo.run(request, deadline_s=1)

    vectors = [each["embedding"] for each in result.response["data"]]
    assert vectors[0] == vectors[2] != vectors[1]
    assert [sum(number**2 for number in vector) for vector in vectors] == pytest.approx([1, 1, 1])
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (5, 0)


async def test_client_cannot_be_served_when_the_deadline_has_passed(echo: EchoEngine) -> None:
    with pytest.raises(EngineTimeoutError):
        await echo.run(chat("x"), deadline_s=0)


async def test_client_cannot_be_served_when_the_echo_is_stopped() -> None:
    echo = EchoEngine()
    assert not (await echo.health()).ready
    with pytest.raises(EngineUnavailableError):
        await echo.run(chat("x"), deadline_s=1)
