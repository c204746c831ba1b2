"""The server's life, clients that leave or do not read, and how many may ask at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

import openai
import pytest

from cocoon_sdk.gateway import GatewayConfig, GatewayServer
from tests.unit.gateway.conftest import House
from tests.unit.gateway.double import MODEL

HELLO: Any = [{"role": "user", "content": "one two three"}]


def raw_request(stream: bool, content: str = "one two three") -> bytes:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": stream})
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@pytest.mark.parametrize("stream", [True, False])
async def test_worker_is_stopped_when_the_client_leaves(house: House, stream: bool) -> None:
    server = await house.gateway()
    house.inference.hold.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw_request(stream))
    await house.inference.begun.wait()
    writer.close()
    await server.gate.unsettled.none()
    assert house.inference.cancelled == [MODEL]


async def test_client_that_does_not_read_is_left(house: House) -> None:
    server = await house.gateway(write_timeout_s=0.05)
    with socket.socket() as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.connect(("127.0.0.1", server.port))
        words = "x " * 60_000  # as events more than the kernel keeps for both
        unread.sendall(raw_request(True, words))
        await house.inference.begun.wait()
        await server.gate.unsettled.none()
    assert house.inference.cancelled == [MODEL]


async def test_gateway_refuses_more_than_it_may_serve_at_once(house: House) -> None:
    server = await house.gateway(max_concurrent=1)
    client = house.client(server)
    house.inference.hold.clear()
    first = asyncio.ensure_future(client.chat.completions.create(model=MODEL, messages=HELLO))
    await house.inference.begun.wait()
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.code == "gateway_busy"
    house.inference.hold.set()
    assert (await first).choices[0].message.content == "one two three"
    await client.chat.completions.create(model=MODEL, messages=HELLO)


async def test_stopping_gateway_ends_its_streams_and_takes_nothing_new(house: House) -> None:
    server = await house.gateway()
    client = house.client(server)
    house.inference.hold.clear()

    async def read() -> str:
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    reading = asyncio.ensure_future(read())
    await house.inference.begun.wait()
    draining = asyncio.ensure_future(server.drain())
    async with house.http(server) as http, http.get("/health") as answer:
        assert (await answer.json())["alarms"] == ["stopping"]
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.code == "shutting_down"
    house.inference.hold.set()
    assert await reading == "one two three"
    assert await draining is True
    with pytest.raises(openai.APIConnectionError):
        await client.chat.completions.create(model=MODEL, messages=HELLO)


async def test_stopping_gateway_cuts_what_does_not_end_in_time(house: House) -> None:
    server = await house.gateway(drain_s=0.05)
    client = house.client(server)
    house.inference.hold.clear()
    asking = asyncio.ensure_future(client.chat.completions.create(model=MODEL, messages=HELLO))
    await house.inference.begun.wait()
    assert await server.drain() is False
    with pytest.raises(openai.APIConnectionError):
        await asking
    assert house.inference.cancelled == [MODEL]


async def test_gateway_says_when_its_port_is_taken(house: House) -> None:
    server = await house.gateway()
    config = GatewayConfig(port=server.port)
    second = GatewayServer(house.inference, house.store, config, clock=house.clock)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await second.abort()


async def test_health_tells_a_load_balancer(house: House) -> None:
    server = await house.gateway()
    http = house.http(server)
    async with http.get("/health") as answer:
        assert answer.status == 200
        assert (await answer.json())["models"] == 1
    server.gate.closing.set()
    async with http.get("/health") as answer:
        assert answer.status == 503
        assert (await answer.json())["alarms"] == ["stopping"]


async def test_answers_name_their_cost_and_worker_in_headers(house: House) -> None:
    client = house.client(await house.gateway())
    raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    assert raw.headers["x-cocoon-cost-nano-ton"] == "1600"
    assert raw.headers["x-cocoon-worker"].startswith("EQ")


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("gateway.example", False),
    ],
)
def test_keys_are_needed_wherever_others_can_connect(host: str, local: bool) -> None:
    config = GatewayConfig(host=host)
    assert (config.is_local, config.needs_keys) == (local, not local)


async def test_idle_connection_is_closed(house: House) -> None:
    server = await house.gateway(keepalive_s=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: loc")  # a head that never ends
    assert await reader.read(10) == b""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
