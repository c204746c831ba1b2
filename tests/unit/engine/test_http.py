"""The engine's HTTP client: framing however bytes arrive, bounds, kept connections."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_worker.engine.http import (
    BrokenError,
    GarbledError,
    HttpClient,
    TooLongError,
    UnreachableError,
    _Connection,
)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def client_of(serve: Serve) -> AsyncIterator[HttpClient]:
    """A client of a raw server."""

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    client = HttpClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {})
    try:
        yield client
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


def answers(*raw: bytes, then_close: bool = False) -> Serve:
    """Answer the requests of each connection with these bytes in turn."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in raw:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        if not then_close:
            await reader.read()

    return serve


async def get(client: HttpClient, limit: int = 10_000) -> tuple[int, bytes]:
    async with await client.get("/") as answer:
        return answer.status, await answer.read_all(limit)


class Pipe(asyncio.Transport):
    """A transport that takes what is written and can be closed."""

    closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def read_in_pieces(raw: bytes, cuts: list[int]) -> bytes:
    connection = _Connection()
    connection.connection_made(Pipe())
    connection.send(b"GET")
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    for start, stop in itertools.pairwise(places):
        connection.data_received(raw[start:stop])
    assert await connection.head() == 200
    body = b""
    while piece := await connection.read():
        body += piece
    assert connection.complete
    assert connection.reusable
    return body


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.lists(st.integers(0, 4000), max_size=12))
def test_client_can_read_chunks_when_they_arrive_in_any_pieces(chunks: list[bytes], cuts: list[int]) -> None:
    framed = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    raw = OK + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
    assert asyncio.run(read_in_pieces(raw, cuts)) == b"".join(chunks)


@given(st.binary(max_size=500), st.lists(st.integers(0, 600), max_size=8))
def test_client_can_read_a_length_when_it_arrives_in_any_pieces(body: bytes, cuts: list[int]) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + OK + f"content-length: {len(body)}\r\n\r\n".encode() + body
    assert asyncio.run(read_in_pieces(raw, cuts)) == body


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_anything_else_cannot_do_harm_when_it_comes_instead(raw: bytes, cuts: list[int]) -> None:
    async def feed() -> None:
        connection = _Connection()
        connection.connection_made(Pipe())
        connection.send(b"GET")
        places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
        for start, stop in itertools.pairwise(places):
            connection.data_received(raw[start:stop])
        connection.connection_lost(None)
        with pytest.raises((GarbledError, BrokenError)):
            await connection.head()

    asyncio.run(feed())


async def test_client_can_read_until_the_end_when_no_length_is_said() -> None:
    async with client_of(answers(OK + b"\r\nhello", then_close=True)) as client:
        assert await get(client) == (200, b"hello")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"200 OK\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"X: " + b"x" * 40_000,
    ],
)
async def test_client_cannot_be_misled_when_the_framing_is_wrong(head: bytes) -> None:
    async with client_of(answers(head)) as client:
        with pytest.raises(GarbledError):
            await get(client)


async def test_client_cannot_be_flooded_when_a_body_is_too_long() -> None:
    async with client_of(answers(OK + b"Content-Length: 100\r\n\r\n" + b"x" * 100)) as client:
        with pytest.raises(TooLongError):
            await get(client, 99)


async def test_client_can_try_again_when_a_kept_connection_was_closed_meanwhile() -> None:
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        await reader.readuntil(b"\r\n\r\n")
        seen += 1
        writer.write(OK + b"Content-Length: 2\r\n\r\nok")
        await reader.read(1)  # the second request of a connection is never answered

    async with client_of(serve) as client:
        assert [await get(client) for _ in range(3)] == [(200, b"ok")] * 3
    assert seen == 3


async def test_client_cannot_go_on_when_the_answer_breaks_off() -> None:
    async with client_of(answers(OK + b"Content-Length: 9\r\n\r\nhal", then_close=True)) as client:
        with pytest.raises(BrokenError) as caught:
            await get(client)
    assert caught.value.answered


async def test_client_cannot_reach_anybody_when_nobody_listens() -> None:
    server = await asyncio.start_server(answers(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(UnreachableError):
        await get(HttpClient(f"http://127.0.0.1:{port}", {}))
