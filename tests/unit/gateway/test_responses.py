"""The Responses API through the official client, against a gateway in front of the labelled double."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseReasoningItem
from pydantic import BaseModel

from cocoon_sdk.client.sessions import WorkerFailedError
from tests.unit.gateway.conftest import House
from tests.unit.gateway.double import MODEL, PROMPT_TOKENS

TOOLS: Any = [
    {
        "type": "function",
        "name": "weather",
        "description": "tells it",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        "strict": True,
    }
]


class Point(BaseModel):
    x: int
    y: int


def asked(house: House) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(house.inference.asked[-1].body)
    return body


async def test_client_gets_a_response(house: House) -> None:
    client = house.client(await house.gateway())
    response = await client.responses.create(
        model=MODEL,
        input="one two three",
        instructions="be brief",
        metadata={"ticket": "7"},
        reasoning={"effort": "low"},
        max_output_tokens=50,
        temperature=0.5,
    )
    assert response.output_text == "one two three"
    assert response.status == "completed"
    assert response.metadata == {"ticket": "7"}
    assert response.reasoning is not None
    assert response.reasoning.effort == "low"
    assert response.model_extra is not None
    assert response.model_extra["store"] is False
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (PROMPT_TOKENS, 3)
    assert response.usage.model_extra == {"cost": {"nano_ton": 1600, "ton": "0.0000016"}}
    assert asked(house) == {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one two three"},
        ],
        "temperature": 0.5,
        "max_completion_tokens": 50,
    }


async def test_conversation_with_tools_becomes_a_chat(house: House) -> None:
    client = house.client(await house.gateway())
    response = await client.responses.create(
        model=MODEL,
        instructions="be brief",
        tools=TOOLS,
        tool_choice={"type": "function", "name": "weather"},
        input=[
            {"role": "developer", "content": "and polite"},
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "how is "}, {"type": "input_text", "text": "Ulm"}],
            },
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "status": "completed",
                "content": [{"type": "output_text", "text": "I look", "annotations": []}],
            },
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "sun"},
            {
                "type": "function_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "rain"}],
            },
            {"role": "user", "content": "and?"},
        ],
    )
    assert response.output_text == "and?"
    call = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
    body = asked(house)
    assert body["messages"] == [
        {"role": "system", "content": "be brief\n\nand polite"},
        {"role": "user", "content": "how is Ulm"},
        {
            "role": "assistant",
            "content": "I look",
            "tool_calls": [{"id": "c1", **call}, {"id": "c2", **call}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "rain"},
        {"role": "user", "content": "and?"},
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["tools"][0]["function"]["strict"] is True


async def test_client_gets_function_calls(house: House) -> None:
    client = house.client(await house.gateway())
    response = await client.responses.create(
        model=MODEL, input='call:weather,news {"city": "Ulm"}', tools=TOOLS
    )
    calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    assert len(calls) == len(response.output) == 2
    assert [(call.call_id, call.name) for call in calls] == [("call_0", "weather"), ("call_1", "news")]
    assert json.loads(calls[0].arguments) == {"city": "Ulm"}


async def test_client_can_parse_structured_output(house: House) -> None:
    client = house.client(await house.gateway())
    parsed = await client.responses.parse(model=MODEL, input='{"x": 1, "y": 2}', text_format=Point)
    assert parsed.output_parsed == Point(x=1, y=2)
    form = asked(house)["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is True
    assert set(form["json_schema"]["schema"]["properties"]) == {"x", "y"}


async def test_events_of_a_text_come_in_the_official_order(house: House) -> None:
    client = house.client(await house.gateway())
    events = [
        event async for event in await client.responses.create(model=MODEL, input="one two", stream=True)
    ]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last: Any = events[-1]
    assert last.response.output_text == "one two"
    assert last.response.id == events[0].response.id  # type: ignore[union-attr]
    assert last.response.usage.output_tokens == 2
    assert last.response.usage.model_extra["cost"]["nano_ton"] == 1400


async def test_official_accumulator_reads_text_calls_and_reasoning(house: House) -> None:
    client = house.client(await house.gateway())
    for text, kinds in (
        ("one two", ["message"]),
        ("think: so be it", ["reasoning", "message"]),
        ('call:weather,news {"city": "Ulm"}', ["function_call", "function_call"]),
    ):
        async with client.responses.stream(model=MODEL, input=text, tools=TOOLS) as stream:
            final = await stream.get_final_response()
        whole = await client.responses.create(model=MODEL, input=text, tools=TOOLS)
        assert [item.type for item in final.output] == kinds
        assert [item.type for item in whole.output] == kinds
        assert final.output_text == whole.output_text
        assert final.usage == whole.usage
        for streamed, item in zip(final.output, whole.output, strict=True):
            if isinstance(item, ResponseFunctionToolCall):
                assert isinstance(streamed, ResponseFunctionToolCall)
                assert (streamed.name, streamed.arguments) == (item.name, item.arguments)
            elif isinstance(item, ResponseReasoningItem):
                assert isinstance(streamed, ResponseReasoningItem)
                assert streamed.content == item.content


async def test_official_accumulator_parses_structured_output(house: House) -> None:
    client = house.client(await house.gateway())
    async with client.responses.stream(model=MODEL, input='{"x": 1, "y": 2}', text_format=Point) as stream:
        final = await stream.get_final_response()
    assert final.output_parsed == Point(x=1, y=2)


@pytest.mark.parametrize("stream", [False, True])
async def test_answer_that_was_cut_is_incomplete(house: House, stream: bool) -> None:
    client = house.client(await house.gateway())
    if stream:
        events = [each async for each in await client.responses.create(model=MODEL, input="cut", stream=True)]
        assert events[-1].type == "response.incomplete"
        response: Any = events[-1].response
    else:
        response = await client.responses.create(model=MODEL, input="cut")
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert isinstance(response.output[0], ResponseOutputMessage)
    assert response.output[0].status == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
async def test_refusal_is_a_part_of_its_own(house: House, stream: bool) -> None:
    client = house.client(await house.gateway())
    if stream:
        events = [
            each async for each in await client.responses.create(model=MODEL, input="refuse", stream=True)
        ]
        assert "response.refusal.delta" in [each.type for each in events]
        response: Any = events[-1].response  # type: ignore[union-attr]
    else:
        response = await client.responses.create(model=MODEL, input="refuse")
    assert response.output[0].content[0].refusal == "I will not"


async def test_logprobs_come_where_they_are_asked_for(house: House) -> None:
    client = house.client(await house.gateway())
    response: Any = await client.responses.create(
        model=MODEL, input="one two", include=["message.output_text.logprobs"], top_logprobs=0
    )
    assert [each.token for each in response.output[0].content[0].logprobs] == ["one", "two"]


async def test_stream_that_breaks_off_ends_as_failed(house: House) -> None:
    house.inference.error_after = (2, WorkerFailedError("the worker went away"))
    client = house.client(await house.gateway())
    events = [each async for each in await client.responses.create(model=MODEL, input="one two", stream=True)]
    last: Any = events[-1]
    assert last.type == "response.failed"
    assert last.response.error.message == "the worker went away"
    assert last.response.output_text == "one"


async def test_failure_before_the_first_event_has_its_own_status(house: House) -> None:
    house.inference.error = WorkerFailedError("the worker went away")
    client = house.client(await house.gateway())
    with pytest.raises(openai.InternalServerError) as caught:
        await client.responses.create(model=MODEL, input="one two", stream=True)
    assert caught.value.status_code == 502


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "nothing_is_stored"),
        ({"conversation": "conv_1"}, "conversation", "nothing_is_stored"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", None),
        ({"background": True}, "background", None),
        ({"truncation": "auto"}, "truncation", None),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", None),
        ({"tool_choice": {"type": "web_search"}, "tools": TOOLS}, "tool_choice", None),
        ({"include": ["file_search_call.results"]}, "include", None),
        ({"text": {"format": {"type": "yaml"}}}, "text.format", None),
        ({"text": []}, "text.format", None),
        ({"input": []}, "input", None),
        ({"input": 7}, "input", None),
        ({"input": [7]}, "input[0]", None),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]", "nothing_is_stored"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type", None),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", None),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0]",
            None,
        ),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0].name", None),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id", None),
        ({"instructions": 7}, "instructions", None),
        ({"unheard_of": 1}, "unheard_of", None),
        ({"stream": "yes"}, "stream", None),
        ({"model": None}, "model", None),
        ({"tools": "none"}, "tools", None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_client_cannot_ask_for_what_is_not_offered(
    house: House, change: dict[str, Any], param: str, code: str | None
) -> None:
    http = house.http(await house.gateway())
    body = {"model": MODEL, "input": "hi", **change}
    async with http.post("/v1/responses", json=body) as answer:
        assert answer.status == 400
        error = (await answer.json())["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert house.inference.asked == []


async def test_what_has_no_meaning_here_does_no_harm(house: House) -> None:
    client = house.client(await house.gateway())
    response = await client.responses.create(
        model=MODEL,
        input="hi",
        store=True,
        user="alice",
        service_tier="auto",
        prompt_cache_key="k",
        safety_identifier="s",
        background=False,
        truncation="disabled",
        text={"verbosity": "low"},
    )
    assert response.output_text == "hi"
    assert set(asked(house)) == {"model", "messages"}
