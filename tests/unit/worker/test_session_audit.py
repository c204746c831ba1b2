"""Holes that an audit found: sessions that are over, forgotten work, and what costs a client nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol.session_wire import FailureCode, Pay
from cocoon_sdk.protocol.vouchers import Voucher, voucher_key
from cocoon_sdk.types import Nano
from cocoon_worker.sessions import SessionFacts, SessionState
from cocoon_worker.sessions.watch import closing, ended
from tests.helpers.session_bench import ESCROW, HOT_KEY, NOW, Bench, bench, session_facts
from tests.unit.worker.test_session_endpoint import STRANGER, refused
from tests.unit.worker.test_session_serving import KEY


def see_over(worker: Bench, state: SessionState) -> None:
    """Let the worker learn from its history that session 1 is over."""
    entry = worker.book.entry(KEY)
    assert entry is not None
    worker.book.put(closing(entry, NOW) if state is SessionState.CLOSING else ended(entry, NOW, "gone"))
    worker.context.sessions.over.append(KEY)
    worker.context.sessions.tell_over()


@pytest.mark.parametrize("state", [SessionState.CLOSING, SessionState.ENDED])
async def test_client_cannot_come_back_to_a_session_that_is_over_when_the_endpoint_lags(
    tmp_path: Path, state: SessionState
) -> None:
    async with bench(tmp_path) as worker:
        async with worker.client().connected() as client:
            assert client.welcome is not None
        see_over(worker, state)
        failed = await refused(worker.client())  # the chain still says that it is open
        assert failed.code == FailureCode.SESSION
        assert worker.context.sessions.connected == set()


async def test_client_cannot_slip_in_when_its_session_closes_while_the_chain_is_read(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        async with worker.client().connected():
            pass
        look, reading, go_on = worker.chain.look, asyncio.Event(), asyncio.Event()

        async def slow(escrow: int, session_id: int, *, max_age_s: int = 0) -> SessionFacts:
            facts = await look(escrow, session_id)
            reading.set()
            await go_on.wait()
            return facts

        worker.chain.look = slow  # type: ignore[method-assign]
        client = worker.client()
        async with aiohttp.ClientSession() as http:
            connecting = asyncio.ensure_future(client.connect(http))
            await reading.wait()
            see_over(worker, SessionState.CLOSING)
            go_on.set()
            await connecting
            failed = await client.end_of_session()
            assert failed is not None
            assert failed.code == FailureCode.SESSION
            assert client.welcome is None
            await client.cut()


async def test_client_cannot_have_redeemed_work_again_when_the_worker_lost_its_journal(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as worker:
        worker.chain.facts[1] = session_facts(1, redeemed=Nano(50_000))
        client = worker.client()
        client.best = Voucher.sign(client.signer, client.ref, Nano(60_000))
        client.ledger.sign(60_000)
        async with client.connected(accounted=0):
            assert client.welcome is not None
            assert (client.welcome.signed, client.welcome.booked) == (60_000, 50_000)


async def test_client_loses_nothing_when_what_it_paid_ahead_was_redeemed(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        client = worker.client()
        async with client.connected():
            await client.chat("hello")
        booked = client.ledger.accounted
        entry = worker.book.entry(KEY)
        assert entry is not None
        assert booked < entry.signed
        worker.book.put(replace(entry, redeemed=entry.signed))
        worker.chain.facts[1] = session_facts(1, redeemed=entry.signed)
        async with client.connected():
            assert client.welcome is not None
            assert client.welcome.booked == booked


async def test_stranger_cannot_have_the_chain_read_anew_when_it_claims_a_dear_voucher(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        failed = await refused(worker.client(signer=STRANGER), amount=1 << 52, signature=bytes(64))
        assert failed.code == FailureCode.SESSION
        assert worker.chain.looks == 1


def raises(key: SigningKey, step: int, count: int) -> list[Pay]:
    ref = session_facts(1).ref
    amounts = [step * number for number in range(1, count + 1)]
    return [Pay(amount, Voucher.sign(key, ref, Nano(amount)).signature) for amount in amounts]


async def test_client_cannot_keep_the_worker_busy_with_vouchers_that_add_nothing(tmp_path: Path) -> None:
    key = voucher_key(HOT_KEY, ESCROW, 1)
    async with bench(tmp_path) as worker:
        async with worker.client(pays=False).connected() as client:
            await client.send(*raises(key, 1, 1000))
            failed = await client.end_of_session()
            assert failed is not None
            assert failed.code == FailureCode.BUSY
        entry = worker.book.entry(KEY)
        assert entry is not None
        assert 200 <= entry.signed < 1000  # what came before is kept


async def test_client_can_pay_often_when_it_pays_something(tmp_path: Path) -> None:
    key = voucher_key(HOT_KEY, ESCROW, 1)
    async with bench(tmp_path) as worker, worker.client(pays=False).connected() as client:
        await client.send(*raises(key, 1_000, 500))
        client.ledger.signed = 500_000
        assert (await client.chat("hello")).done is not None
        entry = worker.book.entry(KEY)
        assert entry is not None
        assert entry.signed >= 500_000
