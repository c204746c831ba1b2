"""The echo engine: labelled, counted, bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
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


async def events_of(echo: EchoEngine, request: EngineRequest) -> list[dict[str, Any]]:
    async with aclosing(echo.stream(request, deadline_s=1)) as chunks:
        return [msgspec.json.decode(chunk.data) async for chunk in chunks]


async def test_client_can_stream_the_echo_word_by_word(echo: EchoEngine) -> None:
    request = chat("two words")
    whole = await echo.run(request, deadline_s=1)
    events = await events_of(echo, request)

    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    said = "".join(event["choices"][0]["delta"]["content"] for event in events if event["choices"])
    assert said == whole.response["choices"][0]["message"]["content"]
    assert [event["usage"]["completion_tokens"] for event in events] == [0, 1, 2, 3, 4, 5, 6, 6]
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]][-2:] == [None, "stop"]
    assert events[-1]["usage"] == whole.response["usage"]


async def test_client_can_see_cached_tokens_when_a_long_prompt_begins_as_another(echo: EchoEngine) -> None:
    words = [f"w{number}" for number in range(40)]
    counts = [
        (await echo.run(chat(" ".join(text)), deadline_s=1)).usage.cached_tokens
        for text in (words, words, [*words[:20], "other", *words[21:]], words[:16])
    ]
    assert counts == [0, 32, 16, 0]


TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}},
}


@pytest.mark.parametrize(
    ("choice", "reason"),
    [("required", "tool_calls"), ({"type": "function", "function": {"name": "weather"}}, "stop")],
)
async def test_client_can_have_a_tool_called_when_it_insists(
    echo: EchoEngine, choice: object, reason: str
) -> None:
    request = chat("x", tools=[TOOL], tool_choice=choice)
    choice_ = (await echo.run(request, deadline_s=1)).response["choices"][0]
    call = choice_["message"]["tool_calls"][0]
    assert call["function"]["name"] == "weather"
    assert msgspec.json.decode(call["function"]["arguments"]) == {"city": ECHO_LABEL}
    assert choice_["finish_reason"] == reason

    deltas = [event["choices"][0]["delta"] for event in await events_of(echo, request) if event["choices"]]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert "".join(part["function"]["arguments"] for part in calls) == call["function"]["arguments"]
    assert (calls[0]["id"], calls[0]["function"]["name"]) == (call["id"], "weather")


async def test_client_can_have_json_that_fits_its_schema(echo: EchoEngine) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 3},
            "kind": {"enum": ["a", "b"]},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "next": {"$ref": "#/$defs/Next"},
            "loop": {"$ref": "#"},
        },
        "$defs": {"Next": {"anyOf": [{"type": "null"}, {"type": "object"}]}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await echo.run(chat("x", response_format=wanted, max_tokens=4096), deadline_s=1)
    found = msgspec.json.decode(answer.response["choices"][0]["message"]["content"])
    assert found["name"] == ECHO_LABEL
    assert (found["age"], found["kind"], found["next"]) == (3, "a", None)
    assert found["tags"] == [ECHO_LABEL] * 2


async def test_client_can_continue_where_an_answer_broke_off(echo: EchoEngine) -> None:
    messages = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": f"{ECHO_LABEL} a"}]
    request = EngineRequest(
        EngineKind.CHAT,
        {"messages": messages, "continue_final_message": True, "add_generation_prompt": False},
    )
    answer = await echo.run(request, deadline_s=1)
    assert answer.response["choices"][0]["message"]["content"] == " b"


async def test_client_can_have_its_prompt_counted(echo: EchoEngine) -> None:
    assert await echo.count_tokens(chat("one two three")) == 3
