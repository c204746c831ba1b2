"""A whole worker serves a session on real contracts: from the opening on chain to the reward."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cocoon_sdk.crypto.channel import WorkerName
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from cocoon_worker.service import WorkerService
from cocoon_worker.sessions.records import SessionState
from cocoon_worker.states import JobState
from tests.helpers.session_client import TestClient
from tests.helpers.session_rig import OpenedSession, entry, open_session, settings
from tests.helpers.suite import Client
from tests.helpers.worker_rig import Rig, state
from tests.unit.worker.test_session_serving import SteppedEngine, until

CHEAP: dict[str, Any] = {"input_price": "0.1", "cached_input_price": "0.05", "output_price": "0.2"}
TALK = "one two three"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def alice(rig: Rig) -> Client:
    return rig.suite.client("alice")


def bob(rig: Rig, **options: Any) -> WorkerService:
    return rig.service("bob", endpoint=True, offer=CHEAP, sessions=settings(), **options)


def client_of(service: WorkerService, session: OpenedSession, **options: Any) -> TestClient:
    return TestClient(
        url=f"http://127.0.0.1:{service.port}",
        worker=WorkerName(service.context.global_id, bytes(session.worker.address.hash_part)),
        operator=session.worker.key.verify_key,
        ref=session.ref,
        signer=session.signer,
        terms=service.info().offers[0].terms,
        deposit=Nano.ton(2),
        **options,
    )


async def test_client_can_talk_and_the_worker_is_paid_by_one_redemption(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob")
        async with client_of(service, session).connected() as client:
            for _ in range(50):
                assert (await client.chat(TALK)).done is not None
            used, signed = client.ledger.used, client.ledger.signed
        session.close()
        await service.settle()
        found = entry(service, session)
        assert found.state is not SessionState.OPEN
        assert found.booked == used
        # Less than a redemption costs is left to the client.
        assert found.signed == signed < Nano.ton("0.01")
        async with client_of(service, session).connected() as late:
            assert late.welcome is None
            assert late.session_failed is not None
    Ledger.of(rig.blockchain).assert_balanced()


async def test_session_ends_when_it_is_closed_on_chain_in_the_middle(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob")
        async with client_of(service, session).connected() as client:
            await client.chat(TALK)
            session.close()
            await service.settle()
            failed = await client.end_of_session()
            assert failed is not None
            assert failed.code == "session"


async def test_jobs_start_while_sessions_fill_the_engine(rig: Rig, alice: Client) -> None:
    engine = SteppedEngine(clock=rig.clock)
    async with bob(rig, engine=engine, policy={"max_concurrent": 2}) as service:
        await service.settle()
        session = open_session(rig, alice, "bob")
        async with client_of(service, session).connected() as client:
            asked = [await client.ask(messages=[{"role": "user", "content": TALK}]) for _ in range(3)]
            await until(engine.begun)
            job = rig.open_job(alice, service, "bob")
            await service.settle()
            assert state(service, job) in (JobState.READY, JobState.SUBMITTED)
            engine.step(1000)
            for answer in asked:
                assert (await client.end(answer)).done is not None


async def test_worker_can_stop_and_finish_what_it_streams(rig: Rig, alice: Client) -> None:
    engine = SteppedEngine(clock=rig.clock)
    async with bob(rig, engine=engine) as service:
        session = open_session(rig, alice, "bob")
        running = asyncio.create_task(service.run())
        async with client_of(service, session).connected() as client:
            answer = await client.ask(messages=[{"role": "user", "content": TALK}])
            await until(engine.begun)
            service.stop()
            async with asyncio.timeout(10):
                for _ in iter(lambda: client.leaving is not None, True):
                    await asyncio.sleep(0.005)
            engine.step(1000)
            assert (await client.end(answer)).done is not None
        await running


async def test_strangers_cannot_open_more_sockets_than_the_worker_has(rig: Rig) -> None:
    config = {**settings(), "serving": {"max_connections": 1, "max_handshakes": 1}}
    async with rig.service("bob", endpoint=True, offer=CHEAP, sessions=config) as service:
        silent = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(258)]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as http:
            with pytest.raises(aiohttp.ClientError):
                await http.get("/health")
            for _, writer in silent[:10]:
                writer.close()
                await writer.wait_closed()
            await asyncio.sleep(0.05)
            async with http.get("/health") as answer:
                assert answer.status == 200
        for _, writer in silent[10:]:
            writer.close()
