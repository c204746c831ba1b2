"""The worker's endpoint from the client's side: bounded, checked, never followed into our own network."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address

from cocoon_sdk.client.handover import HandoverClient, SignedHandover, parse_handover
from cocoon_sdk.data import AddressPolicy
from cocoon_sdk.errors import MalformedError, OfferRefusedError, ResultUnavailableError
from cocoon_sdk.types import Hash, Nano
from tests.helpers.sdk import LOCAL, Endpoint

ESCROW = Address((0, b"\xab" * 32))
GOOD: dict[str, Any] = {
    "result": base64.b64encode(b"sealed").decode(),
    "result_hash": "11" * 32,
    "amount": "123",
    "signature": "22" * 64,
}


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[HandoverClient]:
    made = HandoverClient(AddressPolicy(LOCAL), timeout_s=5)
    yield made
    await made.close()


async def test_client_can_fetch_what_is_ready(client: HandoverClient, endpoint: Endpoint) -> None:
    endpoint.answers[7] = (200, GOOD)
    found = await client.fetch(endpoint.url + "/", ESCROW, 7)
    assert found == SignedHandover(b"sealed", Hash(b"\x11" * 32), Nano(123), b"\x22" * 64)
    assert endpoint.calls == [f"/v1/results/0:{'ab' * 32}/7"]


async def test_client_can_tell_what_is_not_ready(client: HandoverClient, endpoint: Endpoint) -> None:
    assert await client.fetch(endpoint.url, ESCROW, 1) is None
    endpoint.answers[1] = (202, {"status": "running"})
    assert await client.fetch(endpoint.url, ESCROW, 1) is None
    assert await client.fetch("ws://worker.example", ESCROW, 1) is None


@pytest.mark.parametrize("body", [{"reason": "no \n room"}, {}, {"reason": 5}, {"reason": "x" * 10_000}])
async def test_client_can_learn_that_the_worker_declined(
    client: HandoverClient, endpoint: Endpoint, body: dict[str, Any]
) -> None:
    endpoint.answers[1] = (410, body)
    with pytest.raises(OfferRefusedError) as refused:
        await client.fetch(endpoint.url, ESCROW, 1)
    assert len(refused.value.why) <= 300
    assert refused.value.why.isprintable()


@pytest.mark.parametrize("status", [302, 401, 500])
async def test_client_cannot_use_an_endpoint_that_answers_something_else(
    client: HandoverClient, endpoint: Endpoint, status: int
) -> None:
    endpoint.answers[1] = (status, {})
    with pytest.raises(ResultUnavailableError, match=f"answers {status}"):
        await client.fetch(endpoint.url, ESCROW, 1)


async def test_client_cannot_be_led_into_its_own_network(endpoint: Endpoint) -> None:
    client = HandoverClient(AddressPolicy())
    with pytest.raises(ResultUnavailableError):
        await client.fetch(endpoint.url, ESCROW, 1)
    assert endpoint.calls == []
    await client.close()


async def test_client_cannot_wait_for_ever_on_an_endpoint_that_is_silent() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client has gone
        writer.close()
        await writer.wait_closed()
        gone.set()

    gone = asyncio.Event()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    client = HandoverClient(AddressPolicy(LOCAL), timeout_s=0.05)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ResultUnavailableError, match="no answer within"):
        await client.fetch(f"http://127.0.0.1:{port}", ESCROW, 1)
    await client.close()
    await gone.wait()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 123},
        {"amount": "-1"},
        {"amount": "1e3"},
        {"amount": "9" * 20},
        {"result": "***"},
        {"result": None},
        {"result_hash": "11" * 31},
        {"result_hash": "zz" * 32},
        {"signature": None},
    ],
)
def test_client_cannot_read_a_handover_that_is_not_in_form(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse_handover(json.dumps({**GOOD, **changes}).encode())


@given(st.binary(max_size=300))
def test_parser_cannot_fail_with_anything_but_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_handover(body)
