"""Which worker is asked, what a request can cost, who is listed, and what may be connected to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from cocoon_sdk.client.discovery import WorkerList
from cocoon_sdk.client.sessions.answers.catalogue import FRESH_S, USABLE_S, Catalogue, Listing
from cocoon_sdk.client.sessions.answers.selection import TYPICAL, Selection, SelectionPolicy
from cocoon_sdk.client.sessions.bounds import (
    LIKELY_BYTES_PER_TOKEN,
    TEMPLATE_TOKENS,
    Ceiling,
    RequestHead,
    Tariff,
)
from cocoon_sdk.client.sessions.errors import (
    BusyError,
    EndpointRefusedError,
    RequestRefusedError,
    SpendLimitError,
    WorkerLostError,
    http_meaning,
)
from cocoon_sdk.client.sessions.links.dialing import Dialer, session_url
from cocoon_sdk.client.sessions.values import CHAT, EMBEDDING
from cocoon_sdk.data import AddressPolicy
from cocoon_sdk.errors import ChainUnavailableError, InsufficientEscrowError, UnknownModelError
from cocoon_sdk.protocol.session_wire import MAX_BODY_BYTES
from cocoon_sdk.types import Nano
from tests.helpers.scripted_session_worker import ENTRY, Monotonic, ScriptedSessionWorker

POLICY = SelectionPolicy(explore_every=1000)


@pytest.fixture
def time() -> Monotonic:
    return Monotonic()


@pytest.fixture
def selection(time: Monotonic) -> Selection:
    return Selection(POLICY, clock=time)


async def listings(*prices: str) -> list[Listing]:
    workers = [
        ScriptedSessionWorker(f"worker {number}", output_price=Nano.ton(price))
        for number, price in enumerate(prices)
    ]
    return [Listing.of(worker.offer) for worker in workers]


def nothing(_: Listing) -> Nano | None:
    return None


def order(selection: Selection, found: list[Listing], remaining: Any = nothing) -> list[int]:
    return [found.index(each) for each in selection.order(found, TYPICAL, remaining)]


# -- choosing ----------------------------------------------------------------------------------------------


async def test_cheapest_comes_first_when_nothing_is_known(selection: Selection) -> None:
    assert order(selection, await listings("0.3", "0.1", "0.2")) == [1, 2, 0]


async def test_slow_worker_falls_behind(selection: Selection) -> None:
    found = await listings("0.1", "0.2")
    for each, seconds in zip(found, (9.0, 0.2), strict=True):
        selection.first_piece(each.key, seconds)
    assert order(selection, found) == [1, 0]
    for _ in range(30):
        selection.first_piece(found[0].key, 0.1)
    assert order(selection, found) == [0, 1]


async def test_failing_worker_is_left_alone_longer_each_time(selection: Selection, time: Monotonic) -> None:
    found = await listings("0.1", "0.2")
    pauses = []
    for _ in range(10):
        selection.failed(found[0].key, "broken")
        pauses.append(selection.cooling(found[0].key))
        time.now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert order(selection, found) == [1, 0]
    selection.succeeded(found[0].key)
    assert selection.cooling(found[0].key) == 0


async def test_lying_worker_is_not_asked_for_an_hour(selection: Selection, time: Monotonic) -> None:
    found = await listings("0.1", "0.2")
    selection.lied(found[0].key, "its receipt")
    assert order(selection, found) == [1]
    time.now += POLICY.banned_s
    assert order(selection, found) == [1, 0]


async def test_worker_that_was_left_is_not_asked_until_it_is_forgiven(
    selection: Selection, time: Monotonic
) -> None:
    found = await listings("10", "20")
    left = found[0].key
    selection.left(left, "it failed an audit")
    selection.succeeded(left)  # an answer that was under way
    selection.failed(left, "then it failed")
    selection.unavailable(left, 1.0, "then it was busy")
    time.now += 1_000_000.0
    assert order(selection, found) == [1]
    candidate = selection.explain(found, nothing)[1]
    assert (candidate.usable, candidate.reasons[-1]) == (False, "left for good: it failed an audit")
    selection.come_back(left)
    assert sorted(order(selection, found)) == [0, 1]
    selection.come_back(found[1].key)  # nothing happens to who was not left
    assert len(order(selection, found)) == 2


async def test_busy_worker_is_no_worse_afterwards(selection: Selection, time: Monotonic) -> None:
    found = await listings("0.1", "0.2")
    selection.unavailable(found[0].key, 5, "busy")
    assert order(selection, found) == [1]
    time.now += 5
    assert order(selection, found) == [0, 1]


async def test_open_session_counts_for_a_worker(selection: Selection) -> None:
    found = await listings("0.1", "0.11")
    held = {found[1].key: Nano.ton(1)}
    assert order(selection, found, lambda each: held.get(each.key)) == [1, 0]
    held = {found[1].key: Nano(1)}
    assert order(selection, found, lambda each: held.get(each.key)) == [0, 1]


async def test_prompt_that_no_context_holds_is_sent_to_nobody(selection: Selection) -> None:
    found = await listings("0.1")
    head = replace(TYPICAL, body_bytes=12 * 5000)
    assert selection.order(found, head, nothing) == []


async def test_stake_decides_between_equal_workers(selection: Selection) -> None:
    first, second = await listings("0.1", "0.1")
    richer = replace(second, offer=replace(second.offer, lockable=Nano.ton(50)))
    assert selection.order([first, richer], TYPICAL, nothing) == [richer, first]


# -- what a request can cost -------------------------------------------------------------------------------


async def test_request_cannot_cost_more_than_its_ceiling() -> None:
    (listing,) = await listings("10")
    body = b'{"model":"m","messages":[],"max_tokens":50,"n":2,"stream_options":{"include_usage":true}}'
    head = RequestHead.read(CHAT, body)
    assert head.include_usage
    ceiling = Ceiling.of(head, listing.offer.offer, listing.tariff)
    assert ceiling.output_tokens == 100
    assert ceiling.input_tokens == len(body) + TEMPLATE_TOKENS
    assert ceiling.reserve == listing.tariff.price(2 * (len(body) // LIKELY_BYTES_PER_TOKEN), 0, 100)
    assert ceiling.likely_begin < ceiling.begin
    unlimited = Ceiling.of(RequestHead.read(CHAT, b"{}"), listing.offer.offer, listing.tariff)
    assert unlimited.output_tokens == listing.offer.offer.max_output_tokens
    embedding = Ceiling.of(RequestHead.read(EMBEDDING, b"{}"), listing.offer.offer, listing.tariff)
    assert embedding.output_tokens == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"max_tokens":-1}',
        b'{"max_tokens":"9"}',
        b'{"n":0}',
        b'{"n":1000}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_body_that_nobody_could_serve_is_refused_at_once(body: bytes) -> None:
    with pytest.raises(RequestRefusedError):
        RequestHead.read(CHAT, body)


def test_request_is_refused_when_it_is_too_long_or_of_no_known_kind() -> None:
    with pytest.raises(RequestRefusedError, match="travel in a session"):
        RequestHead.read(CHAT, b" " * (MAX_BODY_BYTES + 1))
    with pytest.raises(RequestRefusedError, match="kind"):
        RequestHead.read("transcription", b"{}")


# -- who offers --------------------------------------------------------------------------------------------


class Source:
    """Offers that a test changes; counts how often it is asked."""

    def __init__(self, offers: Callable[[], Awaitable[WorkerList]]) -> None:
        self.offers, self.asked = offers, 0

    async def list(self, model: Any = None) -> Any:
        self.asked += 1
        return await self.offers()


async def test_offers_are_read_once_and_renewed_beside_requests(time: Monotonic) -> None:
    worker = ScriptedSessionWorker("alice")
    hidden = replace(worker.offer, info=worker.offer.info.model_copy(update={"endpoint": None}))

    async def offers() -> WorkerList:
        return WorkerList(ENTRY, (worker.offer, hidden), (), 1)

    source = Source(offers)
    catalogue = Catalogue(source, source, clock=time)
    (listing,) = await catalogue.offers("m")
    assert isinstance(listing.tariff, Tariff)
    assert [await catalogue.offers("m") for _ in range(5)] == [(listing,)] * 5
    assert source.asked == 1
    time.now += FRESH_S
    assert await catalogue.offers("m") == (listing,)
    await asyncio.gather(*catalogue._reading.values())
    assert source.asked == 2
    time.now += USABLE_S
    await catalogue.offers("m")
    assert source.asked == 3
    catalogue.outdated("m")
    await catalogue.offers("m")
    assert source.asked == 4
    await catalogue.close()


async def test_old_offers_serve_while_the_chain_is_away_but_not_for_ever(time: Monotonic) -> None:
    away = False

    async def offers() -> WorkerList:
        if away:
            raise ChainUnavailableError("the endpoint is away")
        return WorkerList(ENTRY, (ScriptedSessionWorker("alice").offer,), (), 1)

    source = Source(offers)
    catalogue = Catalogue(source, source, clock=time)
    await catalogue.offers("m")
    away = True
    time.now += FRESH_S
    assert len(await catalogue.offers("m")) == 1
    await asyncio.gather(*catalogue._reading.values(), return_exceptions=True)
    time.now += USABLE_S
    with pytest.raises(ChainUnavailableError):
        await catalogue.offers("m")
    await catalogue.close()


# -- connecting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://a.example", "ws://a.example/v1/session"),
        ("https://a.example:8443/base/", "wss://a.example:8443/base/v1/session"),
        ("wss://a.example/?x=1#y", "wss://a.example/v1/session"),
    ],
)
def test_sessions_are_taken_below_the_endpoint(endpoint: str, url: str) -> None:
    assert session_url(endpoint) == url


def test_endpoint_of_another_scheme_is_refused() -> None:
    with pytest.raises(EndpointRefusedError):
        session_url("ftp://a.example")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"])
async def test_worker_cannot_send_us_into_our_own_network(endpoint: str) -> None:
    dialer = Dialer(AddressPolicy())
    with pytest.raises(EndpointRefusedError, match="not a public address"):
        await dialer.connect(endpoint)
    await dialer.close()


async def test_endpoint_that_is_away_is_named_as_lost() -> None:
    dialer = Dialer(AddressPolicy(("127.0.0.0/8",)))
    with pytest.raises(WorkerLostError, match="cannot connect"):
        await dialer.connect("http://127.0.0.1:9")
    await dialer.close()


# -- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestRefusedError("x"), 400, "bad_request"),
        (InsufficientEscrowError("x"), 402, "insufficient_escrow"),
        (SpendLimitError("x"), 402, "spend_limit"),
        (UnknownModelError("x"), 404, "model_not_found"),
        (BusyError("x"), 429, "busy"),
        (WorkerLostError("x"), 502, "worker_lost"),
        (ChainUnavailableError("x"), 503, "chain_unavailable"),
    ],
)
def test_every_error_has_a_meaning_over_http(error: Any, status: int, code: str) -> None:
    assert http_meaning(error) == (status, code)
