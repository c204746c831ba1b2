"""What fails, and what the official client makes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from cocoon_sdk.client.sessions import (
    BusyError,
    RequestRefusedError,
    SpendLimitError,
    WorkerFailedError,
    WorkerTimeoutError,
)
from cocoon_sdk.errors import (
    ChainUnavailableError,
    InsufficientEscrowError,
    NoWorkerError,
    PriceTooHighError,
    UnknownModelError,
)
from cocoon_sdk.gateway import GatewayServer
from cocoon_sdk.storage import StorageUnreachableError
from tests.unit.gateway.conftest import House
from tests.unit.gateway.double import MODEL

HELLO: Any = [{"role": "user", "content": "the secret of the prompt"}]

FAILURES = [
    (RequestRefusedError("the field 'top_k' is refused"), 400, "bad_request", None),
    (InsufficientEscrowError("the escrow is empty", hint="Deposit"), 402, "insufficient_escrow", None),
    (SpendLimitError("the limit of the day is reached"), 402, "spend_limit", None),
    (PriceTooHighError("the answer was cut"), 402, "price_too_high", None),
    (UnknownModelError("no such model"), 404, "model_not_found", None),
    (BusyError("all are busy", retry_after_s=7), 429, "busy", "7"),
    (WorkerFailedError("a worker failed"), 502, "worker_failed", "1"),
    (NoWorkerError("no worker serves it", why="none has an endpoint"), 503, "no_worker", "5"),
    (ChainUnavailableError("the chain is away"), 503, "chain_unavailable", "5"),
    (StorageUnreachableError("postgres://db.example is away"), 503, "storage", "5"),
    (WorkerTimeoutError("it takes too long"), 504, "timeout", None),
]


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"), FAILURES, ids=lambda value: str(value)[:24]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_client_gets_the_right_error_when_nothing_was_answered_yet(
    house: House, error: Exception, status: int, code: str, retry_after: str | None, stream: bool
) -> None:
    house.inference.error = error
    client = house.client(await house.gateway())
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
    raised = caught.value
    assert (raised.status_code, raised.code) == (status, code)
    assert raised.response.headers.get("retry-after") == retry_after
    assert raised.response.headers["x-should-retry"] == ("false" if retry_after is None else "true")
    assert raised.request_id is not None
    if status != 503 or code != "storage":
        assert str(error) in raised.message
    else:
        assert "db.example" not in raised.message


async def test_client_learns_why_a_stream_broke_off(house: House) -> None:
    house.inference.error_after = (2, WorkerFailedError("the worker went away"))
    client = house.client(await house.gateway())
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    texts = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
    with pytest.raises(openai.APIError, match="the worker went away") as caught:
        await anext(stream)
    assert texts == ["", "the"]
    assert caught.value.code == "worker_failed"


async def test_client_retries_by_itself_when_it_is_told_to(house: House) -> None:
    house.inference.error = BusyError("busy", retry_after_s=0)
    client = house.client(await house.gateway(), max_retries=1)
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert len(house.inference.asked) == 2


async def test_gateway_tells_nothing_of_an_error_that_is_not_ours(house: House) -> None:
    house.inference.error = ValueError("the secret of the prompt")
    client = house.client(await house.gateway())
    with structlog.testing.capture_logs() as logs, pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert "secret" not in caught.value.message
    assert logs[-1]["event"] == "gateway_failed"
    assert "secret" not in str(logs)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"\xff\xfe", None),
        (b'{"model": "test/echo"', None),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b'{"messages": []}', "model"),
        (b'{"model": 7, "messages": []}', "model"),
        (b'{"model": "", "messages": []}', "model"),
        (b'{"model": "' + b"x" * 300 + b'", "messages": []}', "model"),
        (b'{"model": "test/echo"}', "messages"),
        (b'{"model": "test/echo", "messages": null}', "messages"),
        (b'{"model": "test/echo", "messages": [], "stream": 1}', "stream"),
        (b'{"model": "test/echo", "messages": [], "stream_options": {}}', "stream_options"),
        (b"{" + b",".join(b'"f%d": 1' % n for n in range(200)) + b"}", None),
    ],
    ids=range(14),
)
async def test_client_cannot_send_what_is_no_request(house: House, body: bytes, param: str | None) -> None:
    http = house.http(await house.gateway())
    async with http.post(
        "/v1/chat/completions", data=body, headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 400
        error = (await answer.json())["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert house.inference.asked == []


async def test_client_cannot_send_a_body_beyond_the_bound(house: House) -> None:
    http = house.http(await house.gateway(max_body_bytes=2000))

    async def chunks(count: int) -> Any:
        for _ in range(count):
            yield b" " * 1000

    headers = {"Content-Type": "application/json"}
    for data in (b" " * 2001, chunks(4)):
        async with http.post("/v1/chat/completions", data=data, headers=headers) as answer:
            assert answer.status == 413
            assert (await answer.json())["error"]["code"] == "request_too_large"


async def test_packed_body_is_bounded_by_what_it_unpacks_to(house: House) -> None:
    import gzip

    http = house.http(await house.gateway(max_body_bytes=2000))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with http.post(
        "/v1/chat/completions", data=gzip.compress(b" " * 10_000_000), headers=headers
    ) as answer:
        assert answer.status == 413


async def test_headers_are_bounded(house: House) -> None:
    server = await house.gateway(max_header_bytes=1024)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 5000 + b"\r\n\r\n")
    assert (await reader.read(100)).startswith(b"HTTP/1.0 400")
    writer.close()


async def test_body_that_does_not_arrive_is_given_up(house: House) -> None:
    server = await house.gateway(body_timeout_s=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    assert b"408 Request Timeout" in await reader.read(200)
    writer.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/images/generations", 404),
        ("GET", "/", 404),
        ("GET", "/v1/responses/resp_1", 400),
        ("DELETE", "/v1/responses/resp_1", 400),
        ("POST", "/v1/responses/resp_1/cancel", 400),
    ],
)
async def test_client_is_told_what_is_not_here(house: House, method: str, path: str, status: int) -> None:
    http = house.http(await house.gateway())
    async with http.request(method, path) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["message"]


async def test_web_page_cannot_spend_the_owners_money(house: House) -> None:
    server = await house.gateway()
    http = house.http(server)
    body = b'{"model": "test/echo", "messages": [{"role": "user", "content": "hi"}]}'
    plain = {"Content-Type": "text/plain"}  # what a browser sends without asking
    async with http.post("/v1/chat/completions", data=body, headers=plain) as answer:
        assert answer.status == 415
    rebound = {"Content-Type": "application/json", "Host": f"evil.example:{server.port}"}
    async with http.post("/v1/chat/completions", data=body, headers=rebound) as answer:
        assert answer.status == 403
        assert (await answer.json())["error"]["code"] == "host_not_allowed"
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with http.options("/v1/chat/completions", headers=preflight) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert house.inference.asked == []


async def test_web_page_can_ask_when_its_origin_is_named(house: House) -> None:
    http = house.http(await house.gateway(cors_origins=("https://app.example",)))
    for origin, allowed in (("https://app.example", True), ("https://evil.example", False)):
        preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        async with http.options("/v1/chat/completions", headers=preflight) as answer:
            assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is allowed
        async with http.get("/v1/models", headers={"Origin": origin}) as answer:
            assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is allowed


async def metric(server: GatewayServer, name: str, **labels: str) -> float:
    text = server.metrics.render().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return 0.0


async def test_operator_sees_requests_tokens_cost_and_errors(house: House) -> None:
    server = await house.gateway()
    client = house.client(server)
    await client.chat.completions.create(model=MODEL, messages=HELLO)
    async for _ in await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True):
        pass
    house.inference.error = NoWorkerError("no worker")
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    chat = "/v1/chat/completions"
    assert await metric(server, "cocoon_gateway_requests_total", endpoint=chat, status="200") == 2
    assert await metric(server, "cocoon_gateway_requests_total", endpoint=chat, status="503") == 1
    assert await metric(server, "cocoon_gateway_errors_total", code="no_worker") == 1
    assert await metric(server, "cocoon_gateway_tokens_total", model=MODEL, side="output") == 10
    assert await metric(server, "cocoon_gateway_cost_ton_total", model=MODEL) == pytest.approx(4e-6)
    assert await metric(server, "cocoon_gateway_ttft_seconds_count", model=MODEL) == 1
    http = house.http(server)
    async with http.get("/metrics") as answer:
        assert "secret" not in await answer.text()


async def test_strange_model_names_make_no_labels(house: House) -> None:
    server = await house.gateway()
    client = house.client(server)
    house.inference.error = UnknownModelError("no such model")
    for number in range(3):
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model=f"strange-{number}", messages=HELLO)
    assert "strange" not in server.metrics.render().decode()
