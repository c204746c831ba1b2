"""The official client, unmodified, against a gateway in front of the labelled double."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.unit.gateway.conftest import House
from tests.unit.gateway.double import MODEL, PROMPT_TOKENS

TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
]


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


class Point(BaseModel):
    x: int
    y: int


async def test_client_gets_a_chat_with_usage_and_cost(house: House) -> None:
    client = house.client(await house.gateway())
    answer = await client.chat.completions.create(model=MODEL, messages=said("one two three"))
    assert answer.choices[0].message.content == "one two three"
    assert answer.model == MODEL
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT_TOKENS, 3)
    cost = answer.usage.model_extra
    assert cost == {"cost": {"nano_ton": 1600, "ton": "0.0000016"}}
    assert answer._request_id is not None


async def test_client_can_stream_a_chat(house: House) -> None:
    client = house.client(await house.gateway())
    texts = []
    async for chunk in await client.chat.completions.create(
        model=MODEL, messages=said("one two three"), stream=True
    ):
        assert chunk.usage is None
        assert chunk.model == MODEL
        texts.append(chunk.choices[0].delta.content or "")
    assert texts == ["", "one", " two", " three", ""]


async def test_client_gets_usage_and_cost_in_a_stream_when_it_asks(house: House) -> None:
    client = house.client(await house.gateway())
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=MODEL,
            messages=said("one two three"),
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3
    assert chunks[-1].usage.model_extra == {"cost": {"nano_ton": 1600, "ton": "0.0000016"}}


async def test_client_can_call_tools_streaming_and_not(house: House) -> None:
    client = house.client(await house.gateway())
    asked: Any = {"model": MODEL, "messages": said('call:weather {"city": "Ulm"}'), "tools": TOOLS}
    whole = await client.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason == "tool_calls"
    async with client.chat.completions.stream(**asked) as stream:
        streamed = await stream.get_final_completion()
    for answer in (whole, streamed):
        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        function = getattr(calls[0], "function", None)
        assert function is not None
        assert (function.name, json.loads(function.arguments)) == ("weather", {"city": "Ulm"})


async def test_client_can_parse_structured_output(house: House) -> None:
    client = house.client(await house.gateway())
    parsed = await client.chat.completions.parse(
        model=MODEL, messages=said('{"x": 1, "y": 2}'), response_format=Point
    )
    assert parsed.choices[0].message.parsed == Point(x=1, y=2)
    assert json.loads(house.inference.asked[-1].body)["response_format"]["type"] == "json_schema"
    async with client.chat.completions.stream(
        model=MODEL, messages=said('{"x": 1, "y": 2}'), response_format=Point
    ) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == Point(x=1, y=2)


async def test_client_can_complete_a_text_streaming_and_not(house: House) -> None:
    client = house.client(await house.gateway())
    whole = await client.completions.create(model=MODEL, prompt=["one two"])
    assert whole.choices[0].text == "one two"
    assert json.loads(house.inference.asked[-1].body)["prompt"] == "one two"
    texts = [
        chunk.choices[0].text
        async for chunk in await client.completions.create(model=MODEL, prompt="one two", stream=True)
    ]
    assert "".join(texts) == "one two"


@pytest.mark.parametrize("engine_as_base64", [True, False])
@pytest.mark.parametrize("form", ["float", "base64", None])
async def test_client_gets_vectors_in_the_form_it_asks_for(
    house: House, form: str | None, engine_as_base64: bool
) -> None:
    house.inference.vectors_as_base64 = engine_as_base64
    client = house.client(await house.gateway())
    options: Any = {} if form is None else {"encoding_format": form}
    answer = await client.embeddings.create(model=MODEL, input=["abc", "de"], **options)
    vectors = [each.embedding for each in answer.data]
    if form == "base64":
        assert all(isinstance(vector, str) for vector in vectors)
    else:
        assert vectors == [[3.0, 0.5, -1.25], [2.0, 0.5, -1.25]]
    assert answer.usage.model_extra == {"completion_tokens": 0, "cost": {"nano_ton": 1000, "ton": "0.000001"}}


async def test_client_can_list_models_and_get_one_by_name(house: House) -> None:
    client = house.client(await house.gateway())
    listed = [model async for model in client.models.list()]
    assert [model.id for model in listed] == [MODEL]
    model = await client.models.retrieve(MODEL)
    assert model.owned_by == "cocoon"
    assert model.model_extra is not None
    assert model.model_extra["cocoon"]["ton_per_million_tokens"]["output"] == "0.2"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody/nothing")


async def test_blocking_client_can_chat_and_stream(house: House) -> None:
    server = await house.gateway()

    def work() -> tuple[str | None, str]:
        with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model=MODEL, messages=said("one two"))
            with client.chat.completions.stream(model=MODEL, messages=said("three four")) as stream:
                final = stream.get_final_completion()
            return whole.choices[0].message.content, final.choices[0].message.content or ""

    assert await asyncio.to_thread(work) == ("one two", "three four")


async def test_worker_never_sees_who_asked(house: House) -> None:
    client = house.client(await house.gateway())
    await client.chat.completions.create(
        model=MODEL,
        messages=said("hi"),
        user="alice",
        metadata={"ticket": "7"},
        store=False,
        safety_identifier="abc",
        temperature=None,
    )
    assert set(json.loads(house.inference.asked[-1].body)) == {"model", "messages"}
