"""API keys, what they allow, and budgets that several gateways share."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.gateway import KeyLimits, UnknownKeyError, new_key
from cocoon_sdk.gateway.limits import Bucket
from tests.unit.gateway.conftest import NOON, House
from tests.unit.gateway.double import MODEL

HELLO: Any = [{"role": "user", "content": "one two three"}]
COST = 1600
"""Nanoton that the answer to `HELLO` costs at the double."""


async def ask(client: openai.AsyncOpenAI, **options: Any) -> None:
    await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=3, **options)


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
