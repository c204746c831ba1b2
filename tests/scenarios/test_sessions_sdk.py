"""The SDK's sessions and real workers on one sandbox: answers, failover, and money to the nanoTON."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.sessions import CHAT, InferenceRequest, Outcome
from cocoon_sdk.client.sessions.funds.records import SessionPolicy
from cocoon_sdk.errors import EngineInterruptedError
from cocoon_sdk.protocol.pricing import Tariff
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from cocoon_worker.config import EndpointConfig
from cocoon_worker.engine.base import Engine, EngineChunk, EngineRequest
from cocoon_worker.engine.echo import ECHO_LABEL, EchoEngine
from cocoon_worker.service import WorkerService
from tests.helpers.sdk import MODEL_NAME, Town, chat
from tests.helpers.worker_rig import Rig

PRICES = {"input_price": "0.1", "output_price": "10", "minimum_price": "0"}


@pytest.fixture
async def town(blockchain: Blockchain, chain: Chain) -> AsyncIterator[Town]:
    made = Town(blockchain, chain)
    yield made
    await made.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def said(text: str) -> Any:
    """Return messages in whatever type the method wants."""
    return chat(text)


class Works:
    """Real workers with real endpoints, for one town."""

    def __init__(self, town: Town, folder: Path) -> None:
        self.rig = Rig(folder, town.chain, town.adapter)
        self.rig.suite.model_id = town.model.model_id
        self.stack = AsyncExitStack()
        self.tariffs: dict[str, Tariff] = {}

    async def open(self, name: str, *, engine: Engine | None = None, **prices: str) -> WorkerService:
        rig, port = self.rig, free_port()
        config = rig.config(name, endpoint=True, offer={**PRICES, **prices})
        endpoint = EndpointConfig(host="127.0.0.1", port=port, public_url=f"http://127.0.0.1:{port}")
        service = WorkerService(
            config.model_copy(update={"endpoint": endpoint}),
            rig.chain,
            engine or EchoEngine(clock=rig.clock),
            rig.clock,
            operator=rig.account(name).key,
        )
        await self.stack.enter_async_context(service)
        await service.settle()
        self.tariffs[name] = Tariff(service.info().offers[0].terms)
        return service


@pytest.fixture
async def works(town: Town, tmp_path: Path) -> AsyncIterator[Works]:
    made = Works(town, tmp_path)
    async with made.stack:
        yield made


async def client_of(town: Town, folder: Path, **options: Any) -> AsyncCocoon:
    return await town.client(database=folder / "client.sqlite", **options)


async def test_client_can_stream_a_chat_and_pays_the_real_worker_exactly(
    town: Town, works: Works, tmp_path: Path
) -> None:
    service = await works.open("bob")
    cocoon = await client_of(town, tmp_path)
    stream = await cocoon.chat.completions.create(
        model=MODEL_NAME,
        messages=said("one two three"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == f"{ECHO_LABEL} one two three"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 7)
    expected = works.tariffs["bob"].price(3, 0, 7)
    assert usage.model_dump()["cost"]["nano_ton"] == expected == stream.bill.cost
    await cocoon.inference.close()
    (session,) = await cocoon.sessions.list()
    assert session.accounted == expected
    (entry,) = service.context.sessions.book.open_entries()
    assert entry.booked == expected
    assert entry.signed == session.signed


class BreakingEngine(EchoEngine):
    """An echo that fails in the middle of its answer, once."""

    def __init__(self, after: int, **options: Any) -> None:
        super().__init__(**options)
        self._left = after

    async def stream(self, request: EngineRequest, *, deadline_s: float) -> AsyncGenerator[EngineChunk, None]:
        async with aclosing(super().stream(request, deadline_s=deadline_s)) as chunks:
            async for chunk in chunks:
                if not self._left:
                    raise EngineInterruptedError("the engine failed while generating")
                self._left -= 1
                yield chunk


async def test_stream_goes_on_with_another_real_worker_and_each_is_paid_for_its_own(
    town: Town, works: Works, tmp_path: Path
) -> None:
    broken = await works.open("bob", engine=BreakingEngine(4, clock=works.rig.clock))
    other = await works.open("alice", output_price="12")
    cocoon = await client_of(town, tmp_path)
    stream = await cocoon.chat.completions.create(
        model=MODEL_NAME,
        messages=said("one two three"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    # The echo repeats the last message: what the first worker said, labelled anew.
    assert text.startswith(f"{ECHO_LABEL} ")
    bill = stream.bill
    first, second = bill.attempts
    assert (first.worker, second.worker) == (
        works.rig.account("bob").address,
        works.rig.account("alice").address,
    )
    usages = first.usage, second.usage
    prices = [
        works.tariffs[name].price(usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
        for name, usage in zip(("bob", "alice"), usages, strict=True)
    ]
    assert [first.cost, second.cost] == prices
    assert min(usage.output_tokens for usage in usages) > 0
    booked = [service.context.sessions.book.open_entries()[0].booked for service in (broken, other)]
    assert booked == prices
    assert bill.cost == sum(prices)
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == sum(usage.output_tokens for usage in usages)
    assert chunks[-1].usage.prompt_tokens == first.usage.input_tokens


async def test_client_gets_whole_answers_completions_and_embeddings(
    town: Town, works: Works, tmp_path: Path
) -> None:
    service = await works.open("bob")
    cocoon = await client_of(town, tmp_path)
    (model,) = (await cocoon.openai.models.list()).data
    assert model.id == MODEL_NAME
    answer = await cocoon.chat.completions.create(
        model=model.id,
        messages=said("one two three"),
        max_tokens=5,
    )
    assert answer.choices[0].message.content == f"{ECHO_LABEL} one"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    completion = await cocoon.completions.create(model=model.id, prompt="four five")
    assert completion.choices[0].text == f"{ECHO_LABEL} four five"
    embedded = await cocoon.embeddings.create(model=model.id, input=["six", "seven eight"])
    assert [each.index for each in embedded.data] == [0, 1]
    assert all(isinstance(number, float) for number in embedded.data[0].embedding)
    costs = [
        each.usage.model_dump()["cost"]["nano_ton"]
        for each in (answer, completion, embedded)
        if each.usage is not None
    ]
    (entry,) = service.context.sessions.book.open_entries()
    await cocoon.close()
    (entry,) = service.context.sessions.book.open_entries()
    assert entry.booked == sum(costs)
    assert entry.next_rid == 4


async def test_restarted_client_goes_on_with_its_session_and_loses_nothing(
    town: Town, works: Works, tmp_path: Path
) -> None:
    service = await works.open("bob")
    await client_of(town, tmp_path)
    body = msgspec.json.encode({"messages": chat("one")})
    costs = []
    for _ in range(3):
        cocoon = town.cocoon(database=tmp_path / "client.sqlite")
        _, bill = await cocoon.inference.answer(InferenceRequest(CHAT, MODEL_NAME, body, stream=False))
        costs.append(bill.cost)
        await cocoon.inference.close()
        await cocoon.sessions.close()
    (entry,) = service.context.sessions.book.open_entries()
    assert entry.booked == sum(costs)
    assert entry.next_rid == 4


async def test_long_stream_is_paid_as_it_comes(town: Town, works: Works, tmp_path: Path) -> None:
    service = await works.open("bob")
    policy = SessionPolicy(increment=Nano(150_000))
    cocoon = await client_of(town, tmp_path, session_policy=policy)
    words = " ".join(f"word{number}" for number in range(100))
    async with await cocoon.chat.completions.create(
        model=MODEL_NAME, messages=[{"role": "user", "content": words}], stream=True
    ) as stream:
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == f"{ECHO_LABEL} {words}"
    assert stream.bill.cost > 6 * policy.increment
    (entry,) = service.context.sessions.book.open_entries()
    assert stream.bill.cost <= entry.signed <= stream.bill.cost + policy.increment


async def test_leaving_a_stream_stops_the_real_worker(town: Town, works: Works, tmp_path: Path) -> None:
    service = await works.open("bob")
    cocoon = await client_of(town, tmp_path)
    words = " ".join(f"word{number}" for number in range(2000))
    async with await cocoon.chat.completions.create(
        model=MODEL_NAME, messages=[{"role": "user", "content": words}], stream=True
    ) as stream:
        await anext(stream)
    (attempt,) = stream.bill.attempts
    assert attempt.outcome is Outcome.CANCELLED
    assert 0 < attempt.usage.output_tokens < 2000
    await cocoon.close()
    (entry,) = service.context.sessions.book.open_entries()
    assert entry.booked == stream.bill.cost


async def test_example_of_the_documentation_runs(town: Town, works: Works, tmp_path: Path) -> None:
    await works.open("bob")
    cocoon = await client_of(town, tmp_path)
    text = ""
    stream = await cocoon.chat.completions.create(
        model=MODEL_NAME,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        stream=True,
    )
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    assert "the capital of France?" in text
    assert stream.bill.worker == works.rig.account("bob").address
    assert stream.bill.cost == stream.bill.attempts[0].cost > 0
