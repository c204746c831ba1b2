"""Connections under clients that are broken, slow, greedy or many; a good client is served meanwhile.

Everything is counted, nothing is timed: what "meanwhile" means is the order of answers, not seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.sandbox.liteserver.connection import Connection
from cocoon_sdk.sandbox.liteserver.keys import ServerKey
from cocoon_sdk.sandbox.liteserver.limits import Limits
from cocoon_sdk.sandbox.liteserver.listener import Listener
from cocoon_sdk.sandbox.liteserver.tl import lite_schema
from tests.unit.sandbox.liteserver.wire import PING, PONG, RawClient, frame, handshake

SHORT = Limits(
    max_connections=600,
    handshake_timeout_s=0.05,
    idle_timeout_s=30.0,
    write_timeout_s=0.05,
    max_frame_bytes=1 << 16,
    read_buffer_bytes=1 << 17,
    write_buffer_bytes=1 << 16,
    max_running=8,
    max_waiting=8,
)
BIG = b"\xbb" * (1 << 16)


class Echo:
    """Answers every query with what it was asked; on request late, large, or never."""

    def __init__(self) -> None:
        self.asked = 0
        self.order: list[Connection] = []
        self.gate = asyncio.Event()
        self.running = self.most_running = 0

    def answer(self, peer: Connection, query: bytes) -> bytes | Coroutine[Any, Any, bytes]:
        self.asked += 1
        self.order.append(peer)
        data: bytes = lite_schema().decode_whole(query, "liteServer.query")["data"]
        if data == b"late":
            return self._late(data)
        return BIG if data == b"big" else data

    async def _late(self, data: bytes) -> bytes:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return data


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def listener(echo: Echo) -> AsyncIterator[Listener]:
    async with Listener(echo, ServerKey(), limits=SHORT) as listening:
        yield listening


async def connect(listener: Listener) -> RawClient:
    return await RawClient.connect(listener.port, listener.key.public)


async def served(client: RawClient) -> bool:
    """Ask and get one answer."""
    data = os.urandom(16)
    asked = client.ask(data)
    return await client.answer() == (asked, data)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


async def gone(listener: Listener, left: int) -> None:
    """Let the loop turn until only so many connections are left."""
    await until(lambda: listener.connections <= left)


async def test_client_can_ping_and_ask_when_the_handshake_was_answered_with_an_empty_packet(
    listener: Listener,
) -> None:
    client = await connect(listener)
    client.send(PING + b"\x01\x02\x03\x04\x05\x06\x07\x08")
    assert await client.receive() == PONG + b"\x01\x02\x03\x04\x05\x06\x07\x08"
    client.send(b"")  # keeps alive, gets no answer
    assert await served(client)
    await client.close()
    await gone(listener, 0)


async def test_client_cannot_connect_when_it_means_another_key(listener: Listener) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(handshake(ServerKey(bytes(32)).public, os.urandom(160)))
    assert await reader.read() == b""
    writer.close()
    assert listener.connections == 0


@pytest.mark.parametrize("size", [0, 1, 255])
async def test_client_cannot_hold_a_connection_when_its_handshake_never_ends(
    listener: Listener, size: int
) -> None:
    good = await connect(listener)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(handshake(listener.key.public, os.urandom(160))[:size])
    assert await reader.read() == b""  # the server's clock ends it
    writer.close()
    assert await served(good)
    assert listener.connections == 1
    await good.close()


async def test_client_cannot_hold_a_connection_when_it_falls_silent(echo: Echo) -> None:
    limits = Limits(idle_timeout_s=0.05)
    async with Listener(echo, ServerKey(), limits=limits) as listening:
        client = await connect(listening)
        assert await client.is_cut()
        await client.close()


@pytest.mark.parametrize("length", [0, 63, (1 << 16) + 1, 0xFFFF_FFFF])
async def test_client_is_cut_when_a_frame_is_out_of_bounds(listener: Listener, length: int) -> None:
    bad, good = await connect(listener), await connect(listener)
    bad.write(length.to_bytes(4, "little") + bytes(100))
    assert await bad.is_cut()
    assert await served(good)
    await bad.close()
    await good.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"junk",
        PING,
        bytes(300),
        lite_schema().by_name["adnl.message.query"].id + bytes(31),
        lite_schema().encode("adnl.message.answer", query_id=bytes(32), answer=b""),
        lite_schema().encode("adnl.message.query", query_id=bytes(32), query=b"") + b"more",
    ],
)
async def test_client_is_cut_when_a_packet_is_not_a_query(listener: Listener, payload: bytes) -> None:
    bad, good = await connect(listener), await connect(listener)
    bad.send(payload)
    assert await bad.is_cut()
    assert await served(good)
    await bad.close()
    await good.close()


async def test_client_is_cut_when_a_checksum_is_wrong(listener: Listener) -> None:
    client = await connect(listener)
    damaged = bytearray(frame(b"hello"))
    damaged[-1] ^= 1
    client.write(bytes(damaged))
    assert await client.is_cut()
    await client.close()


async def test_good_client_is_served_when_500_others_are_idle(listener: Listener) -> None:
    idle = await asyncio.gather(*(connect(listener) for _ in range(500)))
    good = await connect(listener)
    assert listener.connections == 501
    for _ in range(20):
        assert await served(good)
    for client in (*idle, good):
        client.writer.close()
    await gone(listener, 0)


async def test_client_cannot_connect_when_all_places_are_taken(echo: Echo) -> None:
    async with Listener(echo, ServerKey(), limits=Limits(max_connections=2)) as listening:
        first, second = await connect(listening), await connect(listening)
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
        assert await reader.read() == b""
        writer.close()
        assert await served(first)
        await second.close()
        await gone(listening, 1)
        third = await connect(listening)
        assert await served(third)
        await first.close()
        await third.close()


async def test_good_client_is_served_when_10000_packets_of_junk_arrive(listener: Listener) -> None:
    good = await connect(listener)
    sent = 0
    while sent < 10_000:
        bad = await connect(listener)
        for _ in range(500):  # well-formed frames whose contents are noise
            bad.send(os.urandom(40))
            sent += 1
        assert await bad.is_cut()
        bad.writer.close()
        assert await served(good)
    await gone(listener, 1)
    await good.close()


async def test_good_client_is_served_when_2000_connections_send_noise_instead_of_a_handshake(
    listener: Listener,
) -> None:
    good = await connect(listener)

    async def noise() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(os.urandom(256))
        writer.close()

    for _ in range(4):
        await asyncio.gather(*(noise() for _ in range(500)))
        assert await served(good)
        await gone(listener, 1)
    await good.close()


async def test_good_client_is_served_in_turn_when_another_floods(listener: Listener, echo: Echo) -> None:
    greedy, good = await connect(listener), await connect(listener)
    assert await served(greedy)
    assert await served(good)
    greedy_peer, good_peer = echo.order
    echo.order.clear()
    flood = 3000
    for number in range(flood):
        greedy.ask(number.to_bytes(4, "little"))
    for _ in range(5):
        assert await served(good)
    turns = [index for index, peer in enumerate(echo.order) if peer is good_peer]
    gaps = [after - before - 1 for before, after in itertools.pairwise([-1, *turns])]
    assert len(turns) == 5
    assert max(gaps) < 1000  # a handful of turns, each of which serves few queries of the greedy one
    answers = [await greedy.answer() for _ in range(flood)]
    assert [answer for _, answer in answers] == [number.to_bytes(4, "little") for number in range(flood)]
    assert echo.order.count(greedy_peer) == flood
    await greedy.close()
    await good.close()


async def test_client_cannot_have_more_queries_worked_on_than_the_bound(
    listener: Listener, echo: Echo
) -> None:
    client, good = await connect(listener), await connect(listener)
    for _ in range(100):
        client.ask(b"late")
    await until(lambda: echo.running == SHORT.max_running)
    assert await served(good)
    assert echo.running == SHORT.max_running
    echo.gate.set()
    for _ in range(100):
        assert (await client.answer())[1] == b"late"
    assert echo.most_running == SHORT.max_running
    await client.close()
    await good.close()


async def test_slow_reader_is_cut_and_costs_bounded_memory(listener: Listener, echo: Echo) -> None:
    slow, good = await connect(listener), await connect(listener)
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(1000):  # answers of 64 MB in all
        slow.ask(b"big")
    for _ in range(5):
        assert await served(good)
    await gone(listener, 1)  # cut, since it does not read
    # Only what the sockets and one buffer hold was ever made.
    assert echo.asked - 5 < 500
    assert await served(good)
    slow.writer.transport.abort()
    await good.close()


async def test_query_is_ended_when_its_client_hangs_up(listener: Listener, echo: Echo) -> None:
    client = await connect(listener)
    client.ask(b"late")
    await until(lambda: echo.running == 1)
    client.writer.transport.abort()
    await until(lambda: echo.running == 0)
    assert listener.connections == 0


async def test_listener_cannot_start_when_the_port_is_taken(listener: Listener, echo: Echo) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{listener.port}"):
        await Listener(echo, ServerKey(), port=listener.port).start()


async def test_listener_cuts_all_clients_when_it_closes(echo: Echo) -> None:
    listening = Listener(echo, ServerKey())
    await listening.start()
    client = await connect(listening)
    await listening.close()
    assert await client.is_cut()
    await client.close()


def test_limits_cannot_be_set_so_that_nothing_works() -> None:
    with pytest.raises(ValueError, match="read_buffer_bytes"):
        Limits(max_frame_bytes=1 << 20, read_buffer_bytes=1 << 20)
    with pytest.raises(ValueError, match="at least 1"):
        Limits(max_running=0)
