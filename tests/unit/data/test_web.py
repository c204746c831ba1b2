"""Reading http locations: bounded, checked, and never against our own network unless it was named."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cocoon_sdk.data import AddressPolicy, HttpSource, Location, LocationRefusedError
from cocoon_sdk.errors import ConfigError, HashMismatchError, MalformedError, ResultUnavailableError

CONTENT = b"sealed result" * 100
LOCAL = ("127.0.0.1/32",)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        application = web.Application()
        application.router.add_get("/{path:.*}", handler)
        server = TestServer(application, host="127.0.0.1")
        await server.start_server()
        servers.append(server)
        return f"http://127.0.0.1:{server.port}"

    yield start
    for server in servers:
        await server.close()


async def _content(_: web.Request) -> web.Response:
    return web.Response(body=CONTENT)


async def test_worker_can_fetch_what_was_promised(serve: Serve) -> None:
    base = await serve(_content)
    async with HttpSource(private_networks=LOCAL) as source:
        assert await source.get(Location.of(f"{base}/x", CONTENT)) == CONTENT
        assert await source.get(Location.of(f"{base}/y", CONTENT)) == CONTENT


async def test_worker_can_fetch_a_signed_url_unchanged(serve: Serve) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response(body=CONTENT)

    base = await serve(handler)
    async with HttpSource(private_networks=LOCAL) as source:
        await source.get(Location.of(f"{base}/a%2Fb?sig=x%2By/z==", CONTENT))
    assert seen == ["/a%2Fb?sig=x%2By/z=="]


async def test_worker_cannot_fetch_from_a_private_address_when_not_allowed(serve: Serve) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=CONTENT)

    base = await serve(handler)
    port = base.rpartition(":")[2]
    async with HttpSource() as source:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::1]", "[::]"):
            with pytest.raises(LocationRefusedError, match="public"):
                await source.get(Location.of(f"http://{host}:{port}/x", CONTENT))
        for host in ("127.1", "2130706433", "0x7f000001", "017700000001"):
            with pytest.raises((LocationRefusedError, ResultUnavailableError)):
                await source.get(Location.of(f"http://{host}:{port}/x", CONTENT))
    assert asked == []


async def test_worker_cannot_be_redirected_to_another_private_address(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"http://127.0.0.2:{request.url.port}/inside")

    base = await serve(handler)
    async with HttpSource(private_networks=LOCAL) as source:
        with pytest.raises(LocationRefusedError, match=r"127\.0\.0\.2 is not a public address"):
            await source.get(Location.of(f"{base}/x", CONTENT))


async def test_worker_cannot_be_rebound_when_a_name_turns_private(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int((await serve(_content)).rpartition(":")[2])
    loop = asyncio.get_running_loop()

    async def resolve(host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        assert host == "innocent.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    async with HttpSource() as source:
        with pytest.raises(LocationRefusedError):
            await source.get(Location.of(f"http://innocent.example:{port}/x", CONTENT))
    async with HttpSource(private_networks=LOCAL) as source:
        assert await source.get(Location.of(f"http://innocent.example:{port}/x", CONTENT)) == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/y", "http://user@127.0.0.1/", "//[", "\\"])
async def test_worker_cannot_be_redirected_to_an_unusable_url(serve: Serve, target: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target})

    base = await serve(handler)
    async with HttpSource(private_networks=LOCAL) as source:
        with pytest.raises((LocationRefusedError, ResultUnavailableError)):
            await source.get(Location.of(f"{base}/x", CONTENT))


async def test_worker_can_follow_a_few_redirects_and_no_more(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        left = int(request.path[1:])
        if left == 0:
            return web.Response(body=CONTENT)
        return web.Response(status=307, headers={"Location": f"/{left - 1}"})

    base = await serve(handler)
    async with HttpSource(private_networks=LOCAL) as source:
        assert await source.get(Location.of(f"{base}/3", CONTENT)) == CONTENT
        with pytest.raises(ResultUnavailableError, match="redirects"):
            await source.get(Location.of(f"{base}/4", CONTENT))


@pytest.mark.parametrize("body", [CONTENT[:-1] + b"?", CONTENT + b"?", CONTENT[:-1], b""])
@pytest.mark.parametrize("chunked", [False, True])
async def test_worker_cannot_see_content_when_it_is_not_what_was_promised(
    serve: Serve, body: bytes, chunked: bool
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if not chunked:
            return web.Response(body=body)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        return response

    base = await serve(handler)
    async with HttpSource(private_networks=LOCAL) as source:
        with pytest.raises(HashMismatchError):
            await source.get(Location.of(f"{base}/x", CONTENT))


async def test_worker_stops_reading_when_the_stream_has_no_end(serve: Serve) -> None:
    ended = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1 << 16))
        finally:
            ended.set()

    base = await serve(handler)
    async with HttpSource(private_networks=LOCAL) as source:
        with pytest.raises(HashMismatchError):
            await source.get(Location.of(f"{base}/x", CONTENT))
        await ended.wait()


async def test_worker_cannot_be_asked_to_fetch_more_than_its_limit() -> None:
    async with HttpSource(max_bytes=len(CONTENT) - 1) as source:
        with pytest.raises(MalformedError, match="exceed the limit"):
            await source.get(Location.of("http://worker.example/x", CONTENT))


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({"status": 404}, "answers 404"),
        ({"status": 500}, "answers 500"),
        ({"status": 206, "body": CONTENT}, "answers 206"),
        ({"body": CONTENT, "headers": {"Content-Encoding": "gzip"}}, "compresses"),
    ],
)
async def test_worker_can_tell_that_the_server_has_no_content(
    serve: Serve, response: dict[str, Any], why: str
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(**response)

    base = await serve(handler)
    async with HttpSource(private_networks=LOCAL) as source:
        with pytest.raises(ResultUnavailableError, match=why) as caught:
            await source.get(Location.of(f"{base}/x?token=secret", CONTENT))
    assert "secret" not in str(caught.value)


async def test_worker_gives_up_when_the_server_is_silent(serve: Serve) -> None:
    release = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response(body=CONTENT)

    base = await serve(handler)
    async with HttpSource(private_networks=LOCAL, timeout_s=0.05) as source:
        with pytest.raises(ResultUnavailableError, match="not complete within"):
            await source.get(Location.of(f"{base}/x", CONTENT))
    release.set()


async def test_worker_can_tell_that_nobody_listens(serve: Serve) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        async with HttpSource(private_networks=LOCAL) as source:
            with pytest.raises(ResultUnavailableError, match="cannot connect"):
                await source.get(Location.of(f"http://127.0.0.1:{unused.getsockname()[1]}/x", CONTENT))


async def test_worker_can_tell_that_the_answer_is_no_http() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01 nonsense\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, HttpSource(private_networks=LOCAL) as source:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ResultUnavailableError):
            await source.get(Location.of(f"http://127.0.0.1:{port}/x", CONTENT))


async def test_http_source_cannot_read_other_schemes() -> None:
    async with HttpSource() as source:
        with pytest.raises(LocationRefusedError, match="s3"):
            await source.get(Location.of("s3://bucket/x", CONTENT))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "not an address",
        "",
    ],
)
def test_policy_refuses_addresses_that_are_not_public(address: str) -> None:
    assert not AddressPolicy().permits(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_policy_permits_public_addresses(address: str) -> None:
    assert AddressPolicy().permits(address)


def test_policy_permits_only_the_private_networks_that_were_named() -> None:
    policy = AddressPolicy(["10.1.0.0/16", "fd00::/8"])
    assert [
        policy.permits(each) for each in ("10.1.2.3", "fd00::5", "::ffff:10.1.2.3", "10.2.0.1", "::1")
    ] == [
        True,
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(ConfigError):
        AddressPolicy(["10.1.0.0/33"])
