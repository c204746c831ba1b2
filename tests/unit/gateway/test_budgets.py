"""Budgets of API keys, on each kind of database: enforced ahead, shared by gateways, safe from kill -9."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from cocoon_sdk.gateway import KeyLimits
from cocoon_sdk.gateway.budgets import DAY_S, Budgets
from cocoon_sdk.gateway.errors import BudgetReachedError
from cocoon_sdk.types import Nano
from tests.helpers.databases import KINDS, database_place
from tests.unit.gateway.conftest import NOON, House
from tests.unit.gateway.double import MODEL
from tests.unit.gateway.test_keys import COST, HELLO, ask


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty database is, of each kind."""
    with database_place(request.param, tmp_path) as found:
        yield found


async def ask_until_refused(client: openai.AsyncOpenAI) -> tuple[int, openai.APIStatusError]:
    """Return how many answers came before the first refusal, and the refusal."""
    for asked in range(1000):
        try:
            await ask(client)
        except openai.APIStatusError as refused:
            return asked, refused
    raise AssertionError("nothing was refused")


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
