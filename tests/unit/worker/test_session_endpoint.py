"""The session endpoint: who gets in, what ends a connection, and what nobody can make the worker hold."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from cocoon_sdk.crypto.channel import ClientHandshake
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import ChainUnavailableError
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.protocol.session_wire import FailureCode
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.vouchers import SessionRef, Voucher, voucher_key
from cocoon_sdk.types import Nano
from cocoon_worker.sessions import (
    ForeignSessionError,
    ForgedEscrowError,
    SessionState,
    UnknownSessionError,
    WeakVoucherKeyError,
)
from tests.helpers.session_bench import ESCROW, HOT_KEY, NOW, STAKE, Bench, bench, offer, session_facts, terms
from tests.helpers.session_client import TestClient
from tests.unit.worker.test_session_serving import ECHO, KEY, TALK, SteppedEngine, deltas, until

STRANGER = SigningKey.from_seed(hashlib.sha256(b"stranger").digest())


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as running:
        yield running


async def refused(client: TestClient, **hello: Any) -> wire.Failed:
    """Connect and return why the session is not served."""
    async with client.connected(**hello):
        failed = await client.end_of_session()
        assert failed is not None
        assert client.welcome is None
        return failed


# -- getting in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "again"),
    [
        (UnknownSessionError("none"), True),
        (ForgedEscrowError("forged"), False),
        (ForeignSessionError("another's"), False),
        (WeakVoucherKeyError("weak"), False),
        (session_facts(1, state=SessionState.CLOSING), False),
        (session_facts(1, expires=NOW + 60), False),
    ],
)
async def test_client_cannot_enter_when_the_chain_speaks_against_it(
    worker: Bench, said: Any, again: bool
) -> None:
    worker.chain.facts[1] = said
    failed = await refused(worker.client())
    assert failed.code == FailureCode.SESSION
    assert (failed.retry_after_s is not None) is again
    assert worker.book.entry(KEY) is None


async def test_client_can_try_later_when_the_worker_cannot_read_the_chain(worker: Bench) -> None:
    worker.chain.facts[1] = ChainUnavailableError("down")
    failed = await refused(worker.client())
    assert (failed.code, failed.retry_after_s is not None) == (FailureCode.BUSY, True)


async def test_client_cannot_enter_when_its_proof_is_not_by_the_voucher_key(worker: Bench) -> None:
    failed = await refused(worker.client(signer=STRANGER))
    assert failed.code == FailureCode.SESSION
    # A proof for another channel, replayed.
    client = worker.client()
    async with client.connected():
        pass
    proof = client.signer.sign(b"cocoon.v1.channel.client" + client.channel.binding + client.ref.to_bytes())
    client.welcome = None
    assert (await refused(client, proof=proof)).code == FailureCode.SESSION


async def test_client_cannot_enter_when_its_best_voucher_is_false(worker: Bench) -> None:
    client = worker.client()
    failed = await refused(client, amount=1_000, signature=STRANGER.sign(b"x"))
    assert failed.code == FailureCode.BAD_VOUCHER


async def test_client_cannot_shake_hands_when_it_speaks_something_else(worker: Bench) -> None:
    url = worker.url + wire.SESSION_PATH
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(url) as socket:
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        for first in (b"", b"\x01" + bytes(32), b"\x02" + bytes(range(32)), b"x" * 100_000):
            async with http.ws_connect(url, protocols=(wire.SUBPROTOCOL,)) as socket:
                await socket.send_bytes(first)
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        async with http.ws_connect(url, protocols=(wire.SUBPROTOCOL,)) as socket:
            await socket.send_str("hello")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        async with http.get(url) as plain:
            assert plain.status == 400
    assert worker.sample("cocoon_session_handshakes") == 0
    assert worker.sample("cocoon_session_connections") == 0


async def test_client_cannot_begin_with_another_frame(worker: Bench) -> None:
    client = worker.client()
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(worker.url + wire.SESSION_PATH, protocols=(wire.SUBPROTOCOL,)) as socket,
    ):
        handshake = ClientHandshake(client.worker)
        await socket.send_bytes(handshake.hello)
        channel = handshake.finish((await socket.receive()).data, client.operator)
        await socket.send_bytes(channel.seal(wire.encode_frames([wire.Cancel(1)])))
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_strangers_cannot_hold_more_than_a_few_places(tmp_path: Path) -> None:
    async with bench(tmp_path, max_handshakes=2, handshake_s=0.3) as worker:
        url = worker.url + wire.SESSION_PATH
        async with aiohttp.ClientSession() as http:
            silent = [await http.ws_connect(url, protocols=(wire.SUBPROTOCOL,)) for _ in range(2)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(url, protocols=(wire.SUBPROTOCOL,))
            assert caught.value.status == 503
            for socket in silent:
                async with asyncio.timeout(5):
                    closed = await socket.receive()
                assert closed.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
                await socket.close()
        async with worker.client().connected() as client:
            assert client.welcome is not None


async def test_clients_cannot_connect_beyond_the_limit(tmp_path: Path) -> None:
    async with bench(tmp_path, max_connections=1) as worker, worker.client().connected():
        failed = await refused(worker.client(2))
        assert failed.code == FailureCode.BUSY


# -- one connection for each session -----------------------------------------------------------------------


async def test_newer_connection_takes_over_when_a_session_connects_twice(tmp_path: Path) -> None:
    engine = SteppedEngine(free=2)
    async with bench(tmp_path, engine) as worker:
        old, new = worker.client(), worker.client()
        async with old.connected():
            answer = await old.ask(messages=[{"role": "user", "content": TALK}])
            await deltas(answer, 2)
            new.best, new.ledger = old.best, old.ledger
            async with new.connected():
                failed = await old.end_of_session()
                assert failed is not None
                assert failed.code == FailureCode.REPLACED
                assert engine.left.is_set()
                assert new.welcome is not None
                assert new.welcome.next_rid == 2
                engine.step(100)
                assert (await new.chat(TALK)).text == ECHO
            assert worker.sample("cocoon_session_connections") <= 1


async def test_session_ends_when_its_client_closes_it_on_chain(worker: Bench) -> None:
    async with worker.client().connected() as client:
        worker.context.sessions.over.append(KEY)
        worker.context.sessions.tell_over()
        failed = await client.end_of_session()
        assert failed is not None
        assert failed.code == FailureCode.SESSION
    assert worker.context.sessions.connected == set()


# -- vouchers ----------------------------------------------------------------------------------------------


def _voucher(amount: int, **changes: Any) -> wire.Pay:
    """Return a voucher of session 1, or one that is wrong in one way."""
    ref = SessionRef(
        Domain(changes.get("network", -3), changes.get("escrow", ESCROW), changes.get("epoch", 7)),
        changes.get("session", 1),
        changes.get("worker", STAKE),
    )
    key = changes.get("key", voucher_key(HOT_KEY, ESCROW, 1))
    return wire.Pay(amount, Voucher.sign(key, ref, Nano(changes.get("signed", amount))).signature)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": STRANGER},
        {"session": 2},
        {"worker": ESCROW},
        {"escrow": STAKE},
        {"network": -239},
        {"epoch": 8},
        {"signed": 1_999_999},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_client_cannot_pay_with_a_voucher_that_is_not_for_this(
    worker: Bench, wrong: dict[str, Any]
) -> None:
    async with worker.client().connected() as client:
        await client.send(_voucher(2_000_000, **wrong))
        failed = await client.end_of_session()
        assert failed is not None
        assert failed.code == FailureCode.BAD_VOUCHER
    entry = worker.book.entry(KEY)
    assert entry is not None
    assert entry.signed <= 1_000_000


async def test_client_cannot_pay_beyond_the_deposit(worker: Bench) -> None:
    async with worker.client().connected() as client:
        looks = worker.chain.looks
        await client.send(_voucher(Nano.ton(1) + 1))
        failed = await client.end_of_session()
        assert failed is not None
        assert failed.code == FailureCode.BAD_VOUCHER
        assert worker.chain.looks == looks + 1  # it might have been topped up


async def test_client_cannot_pay_with_a_lower_or_replayed_voucher(worker: Bench) -> None:
    async with worker.client(pays=False).connected() as client:
        await client.send(_voucher(3_000), _voucher(2_000), _voucher(3_000), _voucher(1))
        client.ledger.signed = 3_000
        assert (await client.chat("x", max_tokens=2)).done is not None
        entry = worker.book.entry(KEY)
        assert entry is not None
        assert entry.signed == 3_000
    assert worker.sample("cocoon_session_vouchers_total", outcome="useless") == 3


async def test_client_cannot_go_on_when_the_worker_cannot_write_its_book(worker: Bench) -> None:
    async with worker.client(pays=False).connected() as client:
        database = worker.book._database
        database.limit_pages(database.read("PRAGMA page_count")[0][0])
        with database.transaction():
            pass
        failed = None
        for amount in range(1, 200):
            if client.closed.is_set():
                break
            await client.send(_voucher(amount * 1_000))
            await asyncio.sleep(0)
        if client.closed.is_set():
            failed = await client.end_of_session()
        entry = worker.book.entry(KEY)
        assert entry is not None
        if failed is not None:
            assert failed.code == FailureCode.INTERNAL
        assert worker.endpoint._accounts[KEY].ledger.signed == entry.signed


# -- requests that are not served --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda ask: replace_ask(ask, terms_hash=bytes(32)), FailureCode.UNKNOWN_TERMS),
        (lambda ask: replace_ask(ask, kind="image"), FailureCode.BAD_REQUEST),
        (lambda ask: replace_ask(ask, body=b"{"), FailureCode.BAD_REQUEST),
        (lambda ask: replace_ask(ask, body=b"[]"), FailureCode.BAD_REQUEST),
        (lambda ask: replace_ask(ask, body=b"\xff"), FailureCode.BAD_REQUEST),
        (lambda ask: replace_ask(ask, body=b"{}"), FailureCode.BAD_REQUEST),
        (lambda ask: replace_ask(ask, body=b'{"messages":' + b"[" * 5000), FailureCode.BAD_REQUEST),
        (lambda ask: replace_ask(ask, body=body(model="another")), FailureCode.BAD_REQUEST),
        (lambda ask: replace_ask(ask, body=body(best_of=3)), FailureCode.BAD_REQUEST),
        (lambda ask: replace_ask(ask, body=body(n=2)), FailureCode.BAD_REQUEST),
        (lambda ask: replace_ask(ask, body=body(text="w " * 4097)), FailureCode.BAD_REQUEST),
    ],
)
async def test_client_is_told_why_when_a_request_is_not_served(
    worker: Bench, change: Callable[[wire.Ask], wire.Ask], code: str
) -> None:
    async with worker.client().connected() as client:
        ask = client.frame(messages=[{"role": "user", "content": TALK}])
        await client.send(change(ask))
        answer = await client.end(client.answers[ask.rid])
        assert answer.failed is not None
        assert (answer.failed.code, answer.failed.charged) == (code, 0)
        assert answer.failed.why
        assert (await client.chat(TALK, model="echo-model")).done is not None
    assert worker.sample("cocoon_session_requests_total", outcome=code) == 1


def replace_ask(ask: wire.Ask, **changes: Any) -> wire.Ask:
    return msgspec.structs.replace(ask, **changes)


def body(text: str = TALK, **fields: Any) -> bytes:
    return msgspec.json.encode({"messages": [{"role": "user", "content": text}], **fields})


async def test_client_cannot_use_a_number_twice(worker: Bench) -> None:
    async with worker.client().connected() as client:
        await client.chat(TALK)
        ask = replace_ask(client.frame(messages=[{"role": "user", "content": TALK}]), rid=1)
        client.answers[1].ended.clear()
        await client.send(ask)
        answer = await client.end(client.answers[1])
        assert answer.failed is not None
        assert answer.failed.code == FailureCode.BAD_REQUEST


async def test_client_cannot_have_more_requests_than_the_limit(tmp_path: Path) -> None:
    engine = SteppedEngine()
    async with bench(tmp_path, engine, max_requests=2) as worker, worker.client().connected() as client:
        asked = [await client.ask(messages=[{"role": "user", "content": TALK}]) for _ in range(3)]
        await client.end(asked[2])
        assert asked[2].failed is not None
        assert asked[2].failed.code == FailureCode.BUSY
        engine.step(100)
        assert (await client.end(asked[0])).done is not None


async def test_clients_cannot_queue_more_than_the_limit(tmp_path: Path) -> None:
    engine = SteppedEngine()
    async with (
        bench(tmp_path, engine, capacity=1, max_waiting=1) as worker,
        worker.client().connected() as client,
    ):
        asked = [await client.ask(messages=[{"role": "user", "content": TALK}]) for _ in range(3)]
        await client.end(asked[2])
        assert asked[2].failed is not None
        assert (asked[2].failed.code, asked[2].failed.retry_after_s) == (FailureCode.BUSY, 1)
        assert worker.sample("cocoon_session_waiting") == 1
        engine.step(100)
        for answer in asked[:2]:
            assert (await client.end(answer)).done is not None


async def test_client_cannot_wait_longer_than_the_queue_allows(tmp_path: Path) -> None:
    engine = SteppedEngine()
    async with (
        bench(tmp_path, engine, capacity=1, queue_s=0.05) as worker,
        worker.client().connected() as client,
    ):
        asked = [await client.ask(messages=[{"role": "user", "content": TALK}]) for _ in range(2)]
        await client.end(asked[1])
        assert asked[1].failed is not None
        assert asked[1].failed.code == FailureCode.BUSY


async def test_client_cannot_ask_when_the_session_expires_soon(worker: Bench) -> None:
    worker.chain.facts[1] = session_facts(1, expires=NOW + 200)
    async with worker.client().connected() as client:
        worker.endpoint._accounts[KEY].expires = NOW + 100
        answer = await client.chat(TALK)
        assert answer.failed is not None
        assert answer.failed.code == FailureCode.SESSION


# -- nuisances ---------------------------------------------------------------------------------------------


async def test_client_cannot_send_what_is_no_message(worker: Bench) -> None:
    for send in (
        lambda c: c.socket.send_bytes(b"x" * 100),
        lambda c: c.socket.send_str("text"),
        lambda c: c.socket.send_bytes(c.channel.seal(b"\xc1")),
        lambda c: c.socket.send_bytes(c.channel.seal(msgspec.msgpack.encode([[99, 1]]))),
    ):
        async with worker.client().connected() as client:
            await send(client)
            failed = await client.end_of_session()
            assert failed is not None
            assert failed.code == FailureCode.BAD_REQUEST


async def test_client_cannot_keep_the_worker_busy_with_frames_that_come_to_nothing(worker: Bench) -> None:
    async with worker.client().connected() as client:
        await client.send(*[wire.Cancel(number) for number in range(1, 400)])
        failed = await client.end_of_session()
        assert failed is not None
        assert failed.code == FailureCode.BUSY


async def test_client_cannot_hold_answers_that_it_does_not_read(tmp_path: Path) -> None:
    cheap = offer(terms(input_price=Nano(1_000), cached_input_price=Nano(1_000), output_price=Nano(1_000)))
    async with bench(tmp_path, offers=(cheap,)) as worker, aiohttp.ClientSession() as http:
        client = worker.client(pays=False)
        await client.connect(http)
        await client.send(client.sign(Nano(1_000_000)))
        for task in client._tasks:
            task.cancel()
        assert client.socket._response.connection is not None
        transport = client.socket._response.connection.transport
        assert transport is not None
        transport.pause_reading()
        asks = [client.frame(messages=[{"role": "user", "content": "word " * 1000}]) for _ in range(60)]
        await client.send(*asks)
        connection = worker.endpoint._accounts[KEY].connection
        assert connection is not None
        await true(lambda: connection.full and connection.sending_since > 0)
        # What waits stays bounded however long this lasts.
        for _ in range(1000):
            await asyncio.sleep(0)
        assert connection._bytes < 3 << 20
        worker.endpoint.sweep(asyncio.get_running_loop().time() + 31)
        await true(lambda: not worker.endpoint.busy and not worker.context.sessions.connected)
        await client.cut()
    assert worker.sample("cocoon_session_refused_connections_total", why="stalled") == 1


async def true(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that no event tells of."""
    async with asyncio.timeout(20):
        for _ in iter(condition, True):
            await asyncio.sleep(0.005)


async def test_quiet_connection_is_ended_after_its_time(tmp_path: Path) -> None:
    engine = SteppedEngine()
    async with bench(tmp_path, engine) as worker, worker.client().connected() as client:
        answer = await client.ask(messages=[{"role": "user", "content": TALK}])
        await until(engine.begun)
        late = asyncio.get_running_loop().time() + 901
        worker.endpoint.sweep(late)
        engine.step(100)
        assert (await client.end(answer)).done is not None  # what works is not idle
        worker.endpoint.sweep(late)
        assert await client.end_of_session() is None
        assert client.leaving is not None


# -- leaving -----------------------------------------------------------------------------------------------


async def test_worker_can_leave_and_finish_what_is_under_way(tmp_path: Path) -> None:
    engine = SteppedEngine()
    async with bench(tmp_path, engine) as worker, worker.client().connected() as client:
        answer = await client.ask(messages=[{"role": "user", "content": TALK}])
        await until(engine.begun)
        worker.endpoint.leave()
        late = await client.chat(TALK)
        assert late.failed is not None
        assert late.failed.code == FailureCode.BUSY
        assert client.leaving is not None
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with worker.client(2).connected():
                pass
        engine.step(100)
        assert (await client.end(answer)).done is not None
        worker.endpoint.sweep(0)
        assert await client.end_of_session() is None


async def test_worker_can_stop_in_the_middle_and_keeps_what_was_handed_over(tmp_path: Path) -> None:
    engine = SteppedEngine(free=3)
    async with bench(tmp_path, engine) as worker, worker.client().connected() as client:
        answer = await client.ask(messages=[{"role": "user", "content": TALK}])
        await deltas(answer, 3)
        await worker.endpoint.stop()
        await client.end_of_session()
        assert engine.left.is_set()
        entry = worker.book.entry(KEY)
        assert entry is not None
        assert entry.booked == client.tariff.price(3, 0, 2)


@asynccontextmanager
async def two(tmp_path: Path, engine: SteppedEngine) -> AsyncIterator[tuple[TestClient, TestClient]]:
    async with (
        bench(tmp_path, engine) as worker,
        worker.client(1).connected() as first,
        worker.client(2).connected() as second,
    ):
        yield first, second


async def test_sessions_do_not_disturb_each_other_when_one_is_cut(tmp_path: Path) -> None:
    engine = SteppedEngine()
    async with two(tmp_path, engine) as (first, second):
        asked = [await each.ask(messages=[{"role": "user", "content": TALK}]) for each in (first, second)]
        await until(engine.begun)
        await first.cut()
        engine.step(100)
        assert (await second.end(asked[1])).done is not None
        assert asked[0].done is None
