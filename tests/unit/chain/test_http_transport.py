"""The transport against a real local endpoint that fails in every way a network can."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from cocoon_sdk.chain.http_transport import (
    EndpointFailedError,
    JsonRpcTransport,
    MalformedResponseError,
    RateLimitedError,
    RequestRefusedError,
    TransportLimits,
)
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import ChainError, ChainTimeoutError, ChainUnavailableError, ConfigError
from tests.unit.chain.flaky import (
    Behaviour,
    FlakyEndpoint,
    answer,
    endless,
    failure,
    half_json,
    redirect,
    reset,
    silence,
    text,
    truncated,
)

KEY = "sekret-key-123"


def transport(url: str, clock: ManualClock | None = None, **changes: object) -> JsonRpcTransport:
    limits = {"timeout_s": 5.0, "attempts": 3, "max_response_bytes": 1 << 18} | changes
    return JsonRpcTransport(
        url,
        api_key=KEY,
        clock=clock or ManualClock(1000),
        limits=TransportLimits(**limits),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "behaviour",
    [reset, truncated, half_json, failure(500, "x"), failure(503), failure(429), text("<html>", 502)],
)
async def test_caller_can_get_the_result_when_two_attempts_fail(behaviour: Behaviour) -> None:
    async with FlakyEndpoint(behaviour, behaviour, answer({"seqno": 7})) as endpoint:
        client = transport(endpoint.url)
        assert await client.call("m", {"a": 1}) == {"seqno": 7}
        await client.close()
    assert len(endpoint.calls) == 3
    assert endpoint.calls[2] == {"jsonrpc": "2.0", "id": "1", "method": "m", "params": {"a": 1}}


@pytest.mark.parametrize(
    ("behaviour", "kind", "calls"),
    [
        (reset, ChainUnavailableError, 3),
        (truncated, ChainUnavailableError, 3),
        (half_json, MalformedResponseError, 3),
        (text("[1, 2]"), MalformedResponseError, 3),
        (text("[" * 100_000), MalformedResponseError, 3),
        (text("<html>bad gateway</html>", 502), EndpointFailedError, 3),
        (failure(500, "LITE_SERVER_NOTREADY"), EndpointFailedError, 3),
        (failure(500, "inside", http=200), EndpointFailedError, 3),
        (failure(504, "Liteserver timeout"), ChainTimeoutError, 3),
        (failure(429, "Ratelimit exceed"), RateLimitedError, 3),
        (failure(422, "Validation error"), RequestRefusedError, 1),
        (failure(416, "Incorrect address"), RequestRefusedError, 1),
        (failure(401, "API key does not exist"), RequestRefusedError, 1),
        (redirect, RequestRefusedError, 1),
        (endless, MalformedResponseError, 1),
    ],
)
async def test_caller_cannot_get_a_result_when_the_endpoint_keeps_failing(
    behaviour: Behaviour, kind: type[ChainError], calls: int
) -> None:
    async with FlakyEndpoint(behaviour) as endpoint:
        client = transport(endpoint.url)
        with pytest.raises(ChainError) as caught:
            await client.call("m", {})
        await client.close()
    assert type(caught.value) is kind
    assert len(endpoint.calls) == calls
    assert KEY not in f"{caught.value!r} {caught.value}"


async def test_caller_cannot_wait_longer_than_the_time_limit_when_the_endpoint_is_silent() -> None:
    async with FlakyEndpoint(silence) as endpoint:
        client = transport(endpoint.url, timeout_s=0.05)
        with pytest.raises(ChainTimeoutError, match=r"0\.05 s"):
            await client.call("m", {})
        await client.close()
    assert len(endpoint.calls) == 3


async def test_caller_can_learn_that_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        client = transport(f"http://127.0.0.1:{taken.getsockname()[1]}/api/v2")
        with pytest.raises(ChainUnavailableError, match="Check the endpoint"):
            await client.call("m", {})
        await client.close()


@pytest.mark.parametrize("behaviour", [reset, truncated, failure(500), failure(503)])
async def test_transport_cannot_repeat_a_call_when_it_may_have_taken_effect(behaviour: Behaviour) -> None:
    async with FlakyEndpoint(behaviour, answer(1)) as endpoint:
        client = transport(endpoint.url)
        with pytest.raises(ChainUnavailableError):
            await client.call("m", {}, repeatable=False)
        await client.close()
    assert len(endpoint.calls) == 1


async def test_transport_can_repeat_a_call_when_it_was_refused_unprocessed() -> None:
    async with FlakyEndpoint(failure(429), answer(1)) as endpoint:
        client = transport(endpoint.url)
        assert await client.call("m", {}, repeatable=False) == 1
        await client.close()


async def test_transport_can_wait_as_long_as_the_endpoint_asks() -> None:
    clock = ManualClock(1000)
    async with FlakyEndpoint(failure(429, "slow down", Retry_After="7"), answer(1)) as endpoint:
        client = transport(endpoint.url, clock)
        assert await client.call("m", {}) == 1
        assert clock.now() == 1007
        await client.close()


async def test_transport_can_hold_back_other_calls_as_long_as_the_endpoint_asks() -> None:
    clock = ManualClock(1000)
    async with FlakyEndpoint(failure(429, Retry_After="7"), answer(1)) as endpoint:
        client = transport(endpoint.url, clock, attempts=1)
        with pytest.raises(RateLimitedError):
            await client.call("m", {})
        assert await client.call("other", {}) == 1
        assert clock.now() == 1007
        await client.close()


async def test_transport_cannot_be_put_to_sleep_when_retry_after_is_absurd() -> None:
    clock = ManualClock(1000)
    waits = [failure(503, Retry_After=value) for value in ("999999999", "Wed, 21 Oct 2026 07:28:00 GMT")]
    async with FlakyEndpoint(*waits, answer(1)) as endpoint:
        client = transport(endpoint.url, clock, retry_after_max_s=20.0)
        assert await client.call("m", {}) == 1
        await client.close()
    assert 1020 <= clock.now() <= 1021


async def test_transport_can_grow_its_waits_between_attempts() -> None:
    class Recorder(ManualClock):
        waits: list[float]

        async def sleep(self, seconds: float) -> None:
            self.waits.append(seconds)
            await super().sleep(seconds)

    clock = Recorder(0)
    clock.waits = []
    async with FlakyEndpoint(failure(500)) as endpoint:
        client = transport(endpoint.url, clock, attempts=7, backoff_s=1.0, backoff_max_s=8.0)
        with pytest.raises(EndpointFailedError):
            await client.call("m", {})
        await client.close()
    for wait, ceiling in zip(clock.waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert ceiling / 2 <= wait <= ceiling


async def test_transport_can_keep_its_own_rate_limit() -> None:
    clock = ManualClock(1000)
    async with FlakyEndpoint(answer(1)) as endpoint:
        client = transport(endpoint.url, clock, requests_per_s=2.0)
        for _ in range(21):
            await client.call("m", {})
        assert clock.now() == 1010
        await client.close()


async def test_transport_can_serve_many_tasks_at_once() -> None:
    async with FlakyEndpoint(reset, failure(500), answer(5)) as endpoint:
        client = transport(endpoint.url)
        assert await asyncio.gather(*(client.call("m", {}) for _ in range(20))) == [5] * 20
        await client.close()


async def test_transport_can_send_the_key_in_a_header_and_never_show_it() -> None:
    async with FlakyEndpoint(failure(403, f"key {KEY} is\x1b[31m revoked")) as endpoint:
        client = transport(endpoint.url)
        with pytest.raises(RequestRefusedError, match=r"key \*\*\* is") as caught:
            await client.call("m", {})
        await client.close()
    assert endpoint.headers[0]["X-API-Key"] == KEY
    shown = f"{client!r} {caught.value!r} {caught.value} {vars(caught.value)}"
    assert KEY not in shown
    assert "\x1b" not in shown
    assert KEY not in json.dumps(endpoint.calls)


async def test_transport_cannot_be_used_when_closed() -> None:
    client = transport("http://127.0.0.1:1/api/v2")
    await client.close()
    with pytest.raises(ChainUnavailableError, match="closed"):
        await client.call("m", {})


@pytest.mark.parametrize(
    "url",
    [
        "toncenter.com/api/v2",
        "ftp://toncenter.com",
        f"https://toncenter.com/api/v2?api_key={KEY}",
        f"https://user:{KEY}@toncenter.com/api/v2",
        "http://toncenter.com/api/v2",
        "https://",
    ],
)
def test_transport_cannot_be_made_when_the_endpoint_is_wrong_or_leaks_the_key(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        transport(url)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("suffix", ["", "/", "/jsonRPC"])
async def test_transport_can_accept_the_usual_spellings_of_an_endpoint(suffix: str) -> None:
    async with FlakyEndpoint(answer(1)) as endpoint:
        client = transport(endpoint.url + suffix)
        assert await client.call("m", {}) == 1
        await client.close()


@pytest.mark.parametrize(
    "changes", [{"timeout_s": 0}, {"attempts": 0}, {"requests_per_s": 0.0}, {"max_response_bytes": 0}]
)
def test_limits_cannot_be_made_when_they_make_no_sense(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        TransportLimits(**changes)  # type: ignore[arg-type]
