"""Holes that an audit found: a budget that could be passed by, and counters that web pages could read."""

from __future__ import annotations

import openai
import pytest

from cocoon_sdk.protocol.hashing import sha256
from cocoon_sdk.types import Nano
from tests.unit.gateway.conftest import House
from tests.unit.gateway.double import MODEL
from tests.unit.gateway.test_serving import HELLO

MODEL_ID = sha256(MODEL.encode()).hex()


@pytest.mark.parametrize("model", [MODEL_ID, MODEL_ID.upper()])
async def test_key_cannot_pass_its_budget_by_asking_for_a_model_by_its_id(house: House, model: str) -> None:
    server = await house.gateway()
    _, text = await house.key(budget_total=Nano(10))
    with pytest.raises(openai.APIStatusError) as caught:
        await house.client(server, text).chat.completions.create(model=model, messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (402, "budget_reached")
    assert house.inference.asked == []


async def test_key_with_a_budget_cannot_ask_for_what_has_no_price(house: House) -> None:
    server = await house.gateway()
    _, text = await house.key(budget_total=Nano(10_000_000))
    with pytest.raises(openai.NotFoundError):
        await house.client(server, text).chat.completions.create(model="somebody/else", messages=HELLO)
    assert house.inference.asked == []


async def test_request_by_the_id_of_a_model_has_a_price_bound_when_its_key_has_a_budget(house: House) -> None:
    server = await house.gateway()
    _, text = await house.key(budget_total=Nano(10_000_000))
    await house.client(server, text).chat.completions.create(model=MODEL_ID, messages=HELLO)
    (asked,) = house.inference.asked
    assert asked.max_price is not None


async def test_web_page_cannot_read_the_counters_when_its_name_points_here(house: House) -> None:
    server = await house.gateway()
    http = house.http(server)
    async with http.get("/metrics", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403
    async with http.get("/metrics") as answer:
        assert answer.status == 200
    _, text = await house.key()
    async with http.get("/metrics", headers={"Host": "gateway.example"}) as answer:
        assert answer.status == 401
    headers = {"Host": "gateway.example", "Authorization": f"Bearer {text}"}
    async with http.get("/metrics", headers=headers) as answer:
        assert answer.status == 200
