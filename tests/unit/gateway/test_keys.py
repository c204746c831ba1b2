"""API keys, what they allow, and budgets that several gateways share."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.client.sessions import Bill
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.gateway import GatewayConfig, KeyLimits, UnknownKeyError, new_key
from cocoon_sdk.gateway.budgets import DAY_S, Budgets
from cocoon_sdk.gateway.errors import BudgetReachedError
from cocoon_sdk.gateway.limits import Bucket
from cocoon_sdk.types import Nano
from tests.unit.gateway.conftest import NOON, House
from tests.unit.gateway.double import MODEL

HELLO: Any = [{"role": "user", "content": "one two three"}]
COST = 1600
"""Nanoton that the answer to `HELLO` costs at the double."""


async def ask(client: openai.AsyncOpenAI, **options: Any) -> None:
    await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=3, **options)


async def ask_until_refused(client: openai.AsyncOpenAI) -> tuple[int, openai.APIStatusError]:
    """Return how many answers came before the first refusal, and the refusal."""
    for asked in range(1000):
        try:
            await ask(client)
        except openai.APIStatusError as refused:
            return asked, refused
    raise AssertionError("nothing was refused")


# -- authentication ----------------------------------------------------------------------------------------


async def test_client_needs_a_key_as_soon_as_there_is_one(house: House) -> None:
    server = await house.gateway()
    await ask(house.client(server, "whatever"))
    _, text = await house.key()
    with pytest.raises(openai.AuthenticationError):
        await ask(house.client(server, "whatever"))
    await ask(house.client(server, text))


async def test_gateway_that_others_can_reach_always_needs_a_key(house: House) -> None:
    server = await house.gateway(host="0.0.0.0", allowed_hosts=("127.0.0.1",))
    client = house.client(server)
    client.base_url = f"http://127.0.0.1:{server.port}/v1"
    with pytest.raises(openai.AuthenticationError):
        await ask(client)
    async with house.http(server) as http, http.get("/metrics") as answer:
        assert answer.status == 401


@pytest.mark.parametrize("change", ["", "Basic x", "Bearer", "Bearer sk-cocoon-1", "last", "id", "two"])
async def test_client_cannot_ask_with_a_wrong_key(house: House, change: str) -> None:
    server = await house.gateway()
    _, text = await house.key()
    wrong = {
        "last": f"Bearer {text[:-1]}{'A' if text[-1] != 'A' else 'B'}",
        "id": f"Bearer sk-cocoon-{'0' * 12}{text[22:]}",
        "two": f"Bearer {text} {text}",
    }.get(change, change)
    headers = {"Authorization": wrong} if wrong else {}
    async with house.http(server) as http, http.get("/v1/models", headers=headers) as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "invalid_api_key"


async def test_revoked_key_is_refused_and_stays_needed(house: House) -> None:
    server = await house.gateway(require_keys="always")
    key, text = await house.key()
    client = house.client(server, text)
    await ask(client)
    assert await house.store.revoke(key.id, NOON)
    assert not await house.store.revoke(key.id, NOON)
    await server.keys.refresh()
    with pytest.raises(openai.AuthenticationError, match="revoked"):
        await ask(client)


async def test_database_holds_no_key(house: House) -> None:
    _, text = await house.key()
    rows = await house.database.fetch("SELECT * FROM gateway_keys")
    assert text not in str(rows)
    assert text[24:] not in str(rows)


async def test_operator_cannot_name_two_keys_alike(house: House) -> None:
    await house.key("app")
    with pytest.raises(ConfigError, match="taken"):
        await house.key("app")
    with pytest.raises(ConfigError, match="not a name"):
        new_key("a\nb", KeyLimits(), 0)
    with pytest.raises(UnknownKeyError):
        await house.store.find("nobody")


async def test_key_of_some_models_sees_and_asks_no_others(house: House) -> None:
    server = await house.gateway()
    _, text = await house.key(models=frozenset({"other"}))
    client = house.client(server, text)
    assert [model async for model in client.models.list()] == []
    with pytest.raises(openai.PermissionDeniedError, match="may not use"):
        await ask(client)


# -- rates -------------------------------------------------------------------------------------------------


async def test_key_cannot_ask_more_often_than_its_rate(house: House) -> None:
    server = await house.gateway()
    _, text = await house.key(requests_per_minute=2)
    client = house.client(server, text)
    await ask(client)
    await ask(client)
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client)
    assert caught.value.code == "rate_limit_exceeded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 30


async def test_key_cannot_use_more_tokens_than_its_rate(house: House) -> None:
    server = await house.gateway()
    _, text = await house.key(tokens_per_minute=13)
    client = house.client(server, text)
    await ask(client)  # 10 read and 3 written
    with pytest.raises(openai.RateLimitError, match="tokens"):
        await ask(client)


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 2000)), max_size=30),
)
def test_bucket_lets_through_what_refills_and_no_more(rate: int, steps: list[tuple[float, int]]) -> None:
    time = 0.0
    bucket = Bucket(rate, lambda: time)
    taken = 0
    for pause, amount in steps:
        time += pause
        if bucket.wait_s(amount) == 0:
            # What is above the whole bucket is let through when it is full, and owed.
            assert bucket.level() >= min(amount, rate)
            bucket.take(amount)
            taken += amount
        else:
            time += bucket.wait_s(amount)
            assert bucket.wait_s(amount) == 0
    assert taken <= rate * (1 + time / 60) + max((amount for _, amount in steps), default=0) + 1e-6


# -- budgets -----------------------------------------------------------------------------------------------


async def test_key_cannot_spend_more_than_its_budget(house: House) -> None:
    server = await house.gateway(budget_chunk=Nano(1_000_000))
    key, text = await house.key(budget_total=Nano(300_000))
    client = house.client(server, text)
    asked, refused = await ask_until_refused(client)
    assert (refused.status_code, refused.code) == (402, "budget_reached")
    assert "may cost up to" in refused.message
    await server.abort()
    (use,) = await house.store.list(NOON // DAY_S)
    assert use.key.id == key.id
    assert (use.spent, use.held, use.spent_today, use.held_today) == (asked * COST, 0, asked * COST, 0)
    assert 0 < use.spent <= 300_000


async def test_request_goes_on_with_a_price_that_its_budget_covers(house: House) -> None:
    server = await house.gateway()
    _, text = await house.key(budget_total=Nano(10_000_000))
    await ask(house.client(server, text))
    most = house.inference.asked[-1].max_price
    assert most is not None
    assert COST < most < 10_000_000


async def test_daily_budget_begins_anew(house: House) -> None:
    server = await house.gateway(budget_chunk=Nano(1_000_000))
    _, text = await house.key(budget_day=Nano(240_000))
    client = house.client(server, text)
    _, refused = await ask_until_refused(client)
    assert "00:00 UTC" in refused.message
    house.clock.advance(DAY_S)
    await ask(client)
    await server.abort()
    (today,) = await house.store.list(NOON // DAY_S + 1)
    assert (today.spent_today, today.held_today, today.held) == (COST, 0, 0)


async def test_budget_can_be_raised_while_the_gateway_runs(house: House) -> None:
    server = await house.gateway()
    key, text = await house.key(budget_total=Nano(10))
    client = house.client(server, text)
    with pytest.raises(openai.APIStatusError):
        await ask(client)
    await house.store.set_limits(key.id, KeyLimits(budget_total=Nano(10_000_000)))
    await server.keys.refresh()
    await ask(client)


async def test_use_of_a_key_without_budget_is_written_down_too(house: House) -> None:
    server = await house.gateway()
    _, text = await house.key()
    await ask(house.client(server, text))
    await server.budgets.flush()
    (use,) = await house.store.list(NOON // DAY_S)
    assert (use.spent, use.held, use.spent_today) == (COST, 0, COST)


@pytest.mark.parametrize("stream", [False, True])
async def test_key_pays_what_was_made_when_its_client_leaves(house: House, stream: bool) -> None:
    server = await house.gateway()
    _, text = await house.key(budget_total=Nano(10_000_000))
    client = house.client(server, text)
    house.inference.hold.clear()
    asking = asyncio.ensure_future(client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream))
    await house.inference.begun.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await server.gate.unsettled.none()
    await server.abort()
    (use,) = await house.store.list(NOON // DAY_S)
    assert use.held == 0
    assert use.spent == (0 if stream else 1000)


async def test_gateways_on_one_database_never_overspend_together(house: House) -> None:
    budget = Nano(100_000)
    key, _ = await house.key(budget_total=budget)
    gateways = [Budgets(house.store, house.clock, chunk=Nano(7_000)) for _ in range(3)]
    spent = [0]

    async def spend(budgets: Budgets, cost: int) -> None:
        try:
            reservation = await budgets.of(key).reserve(Nano(cost))
        except BudgetReachedError:
            return
        await asyncio.sleep(0)
        reservation.settle(cost)
        spent[0] += cost

    await asyncio.gather(*(spend(gateways[at % 3], 1000 + at) for at in range(150)))
    assert 0 < spent[0] <= budget
    for budgets in gateways:
        await budgets.flush(everything=True)
    (use,) = await house.store.list(NOON // DAY_S)
    assert (use.spent, use.held) == (spent[0], 0)


async def test_killed_gateway_costs_a_key_at_most_its_chunk(house: House) -> None:
    chunk = Nano(50_000)
    key, _ = await house.key(budget_total=Nano(1_000_000))
    killed = Budgets(house.store, house.clock, chunk=chunk)
    (await killed.of(key).reserve(Nano(10_000))).settle(4_000)
    # Nothing is written down any more; the next gateway has the rest.
    after = Budgets(house.store, house.clock, chunk=chunk)
    for _ in range((1_000_000 - chunk) // 1_000):
        (await after.of(key).reserve(Nano(1_000))).settle(1_000)
    with pytest.raises(BudgetReachedError):
        await after.of(key).reserve(Nano(1_000))


async def test_idle_gateway_gives_its_chunk_back(house: House) -> None:
    key, _ = await house.key(budget_total=Nano(1_000_000))
    budgets = Budgets(house.store, house.clock, chunk=Nano(50_000))
    (await budgets.of(key).reserve(Nano(10_000))).settle(4_000)
    await budgets.flush()  # it was in use since the last one
    (use,) = await house.store.list(NOON // DAY_S)
    assert (use.spent, use.held) == (4_000, 46_000)
    await budgets.flush()
    (use,) = await house.store.list(NOON // DAY_S)
    assert (use.spent, use.held) == (4_000, 0)


async def test_client_that_leaves_while_a_chunk_is_taken_loses_nothing(house: House) -> None:
    key, _ = await house.key(budget_total=Nano(1_000_000))
    budgets = Budgets(house.store, house.clock, chunk=Nano(50_000))
    async with house.database.transaction():  # the database is busy
        asking = asyncio.ensure_future(budgets.of(key).reserve(Nano(10_000)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    reservation = await budgets.of(key).reserve(Nano(50_000))
    reservation.settle(0)
    await budgets.flush(everything=True)
    (use,) = await house.store.list(NOON // DAY_S)
    assert (use.spent, use.held) == (0, 0)


async def test_answer_that_costs_more_than_reserved_is_written_down_whole(house: House) -> None:
    key, _ = await house.key(budget_total=Nano(1_000_000))
    budgets = Budgets(house.store, house.clock, chunk=Nano(50_000))
    reservation = await budgets.of(key).reserve(Nano(10_000))
    reservation.settle(10_500)
    reservation.settle(99_999)  # only the first counts
    await budgets.flush(everything=True)
    (use,) = await house.store.list(NOON // DAY_S)
    assert (use.spent, use.held) == (10_500, 0)


def test_bill_of_nothing_costs_nothing() -> None:
    assert Bill().cost == 0
    assert GatewayConfig().budget_chunk > 0
