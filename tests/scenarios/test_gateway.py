"""The official client, a gateway, sessions, real workers and real contracts: answers, and every nanoTON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from pydantic import BaseModel

from cocoon_sdk.client.sessions.funds.records import SpendLimits
from cocoon_sdk.errors import EngineInterruptedError
from cocoon_sdk.gateway.budgets import DAY_S
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from cocoon_worker.engine.base import EngineChunk, EngineRequest
from cocoon_worker.engine.echo import ECHO_LABEL, EchoEngine
from cocoon_worker.service import WorkerService
from tests.helpers.gateway_rig import GatewayTown, RunningGateway
from tests.helpers.sdk import MODEL_NAME, Town

HELLO: Any = [{"role": "user", "content": "one two three"}]
SAID = f"{ECHO_LABEL} one two three"
COST = 3 * 100 + 7 * 10_000
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


class City(BaseModel):
    name: str
    people: int


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[GatewayTown]:
    made = Town(blockchain)
    place = GatewayTown(made, tmp_path)
    async with place.stack:
        yield place
    await made.close()


def booked(*services: WorkerService) -> int:
    """Return what workers have booked for what they handed over."""
    return sum(entry.booked for each in services for entry in each.context.sessions.book.open_entries())


async def ask(client: openai.AsyncOpenAI, **options: Any) -> Any:
    return await client.chat.completions.create(model=MODEL_NAME, messages=HELLO, **options)


async def test_user_pays_the_worker_what_the_answer_says(town: GatewayTown) -> None:
    worker = await town.worker("bob")
    gateway = await town.gateway()
    _, text = await town.key(gateway, budget_total=Nano.ton(1))
    client = gateway.openai(text)

    whole = await ask(client)
    assert whole.choices[0].message.content == SAID
    assert whole.model == MODEL_NAME
    stream = await ask(client, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SAID
    response = await client.responses.create(model=MODEL_NAME, input="one two three")
    assert response.output_text == SAID

    usages: list[Any] = [whole.usage, chunks[-1].usage, response.usage]
    costs = [usage.model_extra["cost"]["nano_ton"] for usage in usages]
    assert costs == [COST, COST, COST]
    await gateway.server.drain()
    (use,) = await gateway.store.list(town.rig.clock.now() // DAY_S)
    assert use.spent == booked(worker) == sum(costs)


async def test_official_client_gets_all_that_the_api_offers(town: GatewayTown) -> None:
    await town.worker("bob")
    client = (await town.gateway()).openai()

    called = await ask(client, tools=TOOLS, tool_choice="required")
    async with client.chat.completions.stream(
        model=MODEL_NAME, messages=HELLO, tools=TOOLS, tool_choice="required"
    ) as streaming:
        streamed = await streaming.get_final_completion()
    answers: list[Any] = [called, streamed]
    for answer in answers:
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "weather"
        assert set(json.loads(call.function.arguments)) == {"city"}

    parsed = await client.chat.completions.parse(model=MODEL_NAME, messages=HELLO, response_format=City)
    assert isinstance(parsed.choices[0].message.parsed, City)
    asked = await client.responses.parse(model=MODEL_NAME, input="Ulm", text_format=City)
    assert isinstance(asked.output_parsed, City)
    async with client.responses.stream(model=MODEL_NAME, input="one two three") as events:
        assert (await events.get_final_response()).output_text == SAID

    completion = await client.completions.create(model=MODEL_NAME, prompt="four five", max_tokens=5)
    assert completion.choices[0].text == f"{ECHO_LABEL} four"
    as_numbers = await client.embeddings.create(model=MODEL_NAME, input=["six"], encoding_format="float")
    by_default = await client.embeddings.create(model=MODEL_NAME, input=["six"])
    assert as_numbers.data[0].embedding == pytest.approx(by_default.data[0].embedding)
    assert [model.id async for model in client.models.list()] == [MODEL_NAME]


async def test_leaving_user_stops_the_worker_and_pays_what_came(town: GatewayTown) -> None:
    worker = await town.worker("bob")
    gateway = await town.gateway()
    key, text = await town.key(gateway, budget_total=Nano.ton(10))
    client = gateway.openai(text)
    words = " ".join(f"word{number}" for number in range(1500))
    stream = await client.chat.completions.create(
        model=MODEL_NAME, messages=[{"role": "user", "content": words}], max_tokens=1000, stream=True
    )
    async with stream:
        await anext(stream)
    await gateway.server.drain()
    (use,) = await gateway.store.list(town.rig.clock.now() // DAY_S)
    assert use.key.id == key.id
    assert 0 < use.spent < 1000 * 10_000
    assert use.held == 0
    assert use.spent == booked(worker)


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


async def test_user_does_not_notice_that_a_worker_failed(town: GatewayTown) -> None:
    broken = await town.worker("bob", engine=BreakingEngine(4, clock=town.rig.clock))
    other = await town.worker("alice", output_price="12")
    client = (await town.gateway()).openai()
    stream = await ask(client, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == SAID
    assert chunks[-1].usage.model_extra["cost"]["nano_ton"] == booked(broken, other)


async def test_user_is_told_why_nobody_answers(town: GatewayTown) -> None:
    gateway = await town.gateway()
    client = gateway.openai()
    with pytest.raises(openai.InternalServerError) as nobody:
        await ask(client)
    assert (nobody.value.status_code, nobody.value.code) == (503, "no_worker")
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="nobody/nothing", messages=HELLO)
    assert unknown.value.code == "model_not_found"


async def test_user_is_told_when_the_escrow_is_empty(town: GatewayTown) -> None:
    await town.worker("bob")
    client = (await town.gateway(deposit=Nano.ton("0.02"))).openai()
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(client)
    assert (caught.value.status_code, caught.value.code) == (402, "insufficient_escrow")


async def test_user_is_told_when_the_owners_limit_is_reached(town: GatewayTown) -> None:
    await town.worker("bob")
    limits = SpendLimits(per_day=Nano.ton("0.0001"))
    client = (await town.gateway(spend_limits=limits)).openai()
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(client)
    assert (caught.value.status_code, caught.value.code) == (402, "spend_limit")


@pytest.mark.parametrize(
    ("change", "status"),
    [({"top_k": "many"}, 400), ({"messages": []}, 400), ({"n": 3}, 400), ({"temperature": 9}, 400)],
    ids=str,
)
async def test_user_is_told_what_is_wrong_with_a_request(
    town: GatewayTown, change: dict[str, Any], status: int
) -> None:
    worker = await town.worker("bob")
    gateway = await town.gateway()
    body = {"model": MODEL_NAME, "messages": HELLO, **change}
    url = f"http://127.0.0.1:{gateway.server.port}/v1/chat/completions"
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
        assert answer.status == status
        assert "error" in await answer.json()
    assert booked(worker) == 0


async def test_gateways_on_one_escrow_and_database_keep_one_keys_budget(town: GatewayTown) -> None:
    worker = await town.worker("bob")
    first = await town.gateway(budget_chunk=Nano(4_000_000))
    second = await town.gateway(budget_chunk=Nano(4_000_000))
    budget = Nano.ton("0.05")
    _, text = await town.key(first, budget_total=budget)
    await second.server.keys.refresh()

    async def spend(gateway: RunningGateway) -> int:
        client, answers = gateway.openai(text), 0
        for _ in range(60):
            try:
                await ask(client, max_tokens=7)
            except openai.APIStatusError as error:
                if error.status_code == 402:
                    return answers
                raise
            answers += 1
        return answers

    answers = await asyncio.gather(spend(first), spend(second))
    for gateway in (first, second):
        await gateway.server.drain()
    (use,) = await first.store.list(town.rig.clock.now() // DAY_S)
    assert min(answers) > 0
    assert use.spent == sum(answers) * COST == booked(worker)
    assert use.spent <= budget
    assert use.held == 0


async def test_operator_sees_escrow_and_sessions_in_the_metrics(town: GatewayTown) -> None:
    await town.worker("bob")
    gateway = await town.gateway()
    await ask(gateway.openai())
    url = f"http://127.0.0.1:{gateway.server.port}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        lines = (await answer.text()).splitlines()
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] != "#"}
    assert values['cocoon_gateway_sessions{state="open"}'] == 1
    assert 49 < values["cocoon_gateway_escrow_free_ton"] < 50
    assert values['cocoon_gateway_spend_ton{period="ever"}'] > 0
    assert values[f'cocoon_gateway_cost_ton_total{{model="{MODEL_NAME}"}}'] == pytest.approx(COST / 1e9)
