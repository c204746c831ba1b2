"""OpenAI's methods and types over sessions with scripted workers: with and without `await`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage

from cocoon_sdk.client.blocking import LoopThread
from cocoon_sdk.client.openai import AsyncOpenAIResources, OpenAIResources
from cocoon_sdk.client.openai.requests import as_type, make_request
from cocoon_sdk.client.sessions import CHAT, EMBEDDING, RequestRefusedError
from cocoon_sdk.errors import NoWorkerError
from cocoon_sdk.types import Nano
from tests.helpers.scripted_session_worker import MODEL, ScriptedSessionWorker, Street, street

MESSAGES: Any = [{"role": "user", "content": "Say hello, please."}]


async def test_chat_is_answered_in_openais_types(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        resources = AsyncOpenAIResources(made.client)
        answer = await resources.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0.5)
        assert isinstance(answer, ChatCompletion)
        assert answer.choices[0].message.content == "Hello world"
        assert answer.usage is not None
        assert answer.usage.model_dump()["cost"]["nano_ton"] == worker.price(4)
        assert worker.bodies == [{"model": MODEL, "messages": MESSAGES, "temperature": 0.5}]


async def test_stream_is_read_in_openais_types(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        resources = AsyncOpenAIResources(made.client)
        async with await resources.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True
        ) as stream:
            chunks = [chunk async for chunk in stream]
        assert all(isinstance(chunk, ChatCompletionChunk) for chunk in chunks)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert stream.bill.cost == worker.price(4)


async def test_obstacle_is_raised_before_the_stream_begins(tmp_path: Path) -> None:
    async with street(tmp_path) as made:
        resources = AsyncOpenAIResources(made.client)
        with pytest.raises(NoWorkerError):
            await resources.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)


async def test_models_are_listed_as_openai_lists_them(tmp_path: Path) -> None:
    async with street(tmp_path, ScriptedSessionWorker("alice")) as made:
        page = await AsyncOpenAIResources(made.client).models.list()
        assert [model.id async for model in page] == [MODEL]
        assert page.data[0].owned_by == "cocoon"


class BlockingStreet:
    """A street on the loop of a blocking client."""

    def __init__(self, folder: Path, *workers: ScriptedSessionWorker) -> None:
        self.thread, self.stack = LoopThread(), AsyncExitStack()
        self.made: Street = self.thread.run(self.stack.enter_async_context(street(folder, *workers)))
        self.resources = OpenAIResources(AsyncOpenAIResources(self.made.client), self.thread)

    def close(self) -> None:
        self.thread.run(self.stack.aclose())
        self.thread.close()


@pytest.fixture
def blocking_street(tmp_path: Path) -> Iterator[BlockingStreet]:
    made = BlockingStreet(tmp_path, ScriptedSessionWorker("alice"))
    yield made
    made.close()


def test_script_can_chat_stream_and_list(blocking_street: BlockingStreet) -> None:
    resources, (worker,) = blocking_street.resources, blocking_street.made.workers
    answer = resources.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello world"
    with resources.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert list(stream) == []
    assert text == "Hello world"
    assert stream.bill.cost == worker.price(4)
    assert [model.id for model in resources.models.list()] == [MODEL]


def test_script_can_leave_a_stream(blocking_street: BlockingStreet) -> None:
    resources, (worker,) = blocking_street.resources, blocking_street.made.workers
    worker.hold = 1
    with resources.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
        assert next(stream).choices[0].delta.content == "Hel"
    assert worker.cancelled == [1]
    assert list(stream) == []


# -- conversions -------------------------------------------------------------------------------------------


def test_arguments_become_the_body_and_ours_do_not() -> None:
    said = ChatCompletionMessage(role="assistant", content="Well.")
    request = make_request(
        CHAT,
        {
            "model": "m",
            "messages": (each for each in [MESSAGES[0], said]),
            "temperature": openai.NOT_GIVEN,
            "stop": openai.omit,
            "stream": True,
            "extra_body": {"top_k": 5},
            "timeout": 7,
            "max_price": Nano(9),
        },
    )
    assert msgspec.json.decode(request.body) == {
        "model": "m",
        "messages": [MESSAGES[0], {"role": "assistant", "content": "Well."}],
        "top_k": 5,
    }
    assert (request.stream, request.timeout_s, request.max_price) == (True, 7.0, 9)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"model": 3}, {"model": "m", "extra_headers": {"a": "b"}}, {"model": "m", "input": object()}],
)
def test_arguments_that_make_no_request_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(RequestRefusedError):
        make_request(EMBEDDING, arguments)


def test_answer_with_an_unknown_value_is_taken_as_it_is() -> None:
    content = {
        "id": "a",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "repetition"}
        ],
    }
    answer = as_type(ChatCompletion, content)
    assert answer.choices[0].message.content == "hi"
    assert str(answer.choices[0].finish_reason) == "repetition"


def test_embeddings_keep_both_forms() -> None:
    for vector in ([0.5, 0.25], "AAAAPw=="):
        data = [{"index": 0, "object": "embedding", "embedding": vector}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        content = {"object": "list", "data": data, "model": "m", "usage": usage}
        assert as_type(CreateEmbeddingResponse, content).data[0].embedding == vector
