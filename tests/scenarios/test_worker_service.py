"""A worker as a running service: its loop, its endpoint, its owner, its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto import BoxKey, write_key_file
from cocoon_sdk.errors import ConfigError, InsufficientStakeError, KeyMaterialError
from cocoon_sdk.protocol import decode_info, signing
from cocoon_sdk.protocol.job_states import EntryStatus
from cocoon_sdk.sandbox.actors import Outgoing
from cocoon_sdk.types import Nano
from cocoon_worker import main as worker_main
from cocoon_worker import setup
from cocoon_worker.config import EngineConfig, WorkerConfig
from cocoon_worker.engine.openai import OpenAIEngine
from cocoon_worker.engine.vllm import VllmEngine
from cocoon_worker.errors import JournalLockedError
from cocoon_worker.service import WorkerService
from cocoon_worker.states import JobState
from tests.helpers.suite import Client, key_of
from tests.helpers.worker_faults import BreakingEngine
from tests.helpers.worker_rig import OpenedJob, Rig, record, state


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def alice(rig: Rig) -> Client:
    return rig.suite.client("alice")


async def eventually(reached: Callable[[], bool]) -> None:
    """Let the event loop run until something holds; the limit is for a test that fails."""
    async with asyncio.timeout(30):
        while not reached():  # noqa: ASYNC110 - nothing else tells; only turns of the loop are waited for
            await asyncio.sleep(0)


async def until(service: WorkerService, job: OpenedJob, wanted: JobState) -> None:
    """Wait until a running worker has a job in a state."""

    def reached() -> bool:
        found = service.journal.job(job.key)
        return found is not None and found.state is wanted

    await eventually(reached)


# -- the loop ----------------------------------------------------------------------


async def test_running_worker_can_serve_and_stop_cleanly(rig: Rig, alice: Client) -> None:
    async with rig.service("bob", policy={"poll_s": 0.05}) as service:
        running = asyncio.create_task(service.run())
        job = rig.open_job(alice, service, "bob")
        await until(service, job, JobState.SUBMITTED)
        rig.warp(3601)
        await until(service, job, JobState.PAID)
        service.stop()
        async with asyncio.timeout(10):
            await running


async def test_stopping_worker_can_finish_what_runs_and_submits_at_once(rig: Rig, alice: Client) -> None:
    engine = BreakingEngine(clock=rig.clock)
    engine.hang = asyncio.Event()
    options: dict[str, Any] = {"endpoint": True, "policy": {"poll_s": 0.05, "handover_s": 600}}
    async with rig.service("bob", engine=engine, **options) as service:
        running = asyncio.create_task(service.run())
        job = rig.open_job(alice, service, "bob")
        await until(service, job, JobState.RUNNING)
        service.stop()
        await asyncio.sleep(0)
        late = rig.open_job(alice, service, "bob")
        engine.hang.set()
        async with asyncio.timeout(20):
            await running
        entry = alice.job(job.id)
        assert entry is not None
        assert entry.status == EntryStatus.SUBMITTED
        assert state(service, late) is JobState.OFFERED  # for the next start
    async with rig.service("bob") as service:
        await service.settle()
        assert state(service, late) is JobState.SUBMITTED


async def test_stopping_worker_can_leave_unfinished_work_to_its_next_start(rig: Rig, alice: Client) -> None:
    engine = BreakingEngine(clock=rig.clock)
    engine.hang = asyncio.Event()  # never set: the engine is stuck
    options: dict[str, Any] = {"policy": {"poll_s": 0.05, "shutdown_grace_s": 0.2}}
    async with rig.service("bob", engine=engine, **options) as service:
        running = asyncio.create_task(service.run())
        job = rig.open_job(alice, service, "bob")
        await until(service, job, JobState.RUNNING)
        service.stop()
        async with asyncio.timeout(20):
            await running
        assert state(service, job) is JobState.RUNNING
    async with rig.service("bob") as service:
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED


async def test_second_worker_cannot_start_on_the_same_journal(rig: Rig) -> None:
    async with rig.service("bob"):
        with pytest.raises(JournalLockedError, match="another worker"):
            async with rig.service("bob"):
                pass


async def test_worker_can_run_from_a_settings_object_with_its_key_file(rig: Rig, alice: Client) -> None:
    config = rig.config("bob", policy={"poll_s": 0.05})
    write_key_file(config.operator_key_file, rig.account("bob").key)
    engine = BreakingEngine(clock=rig.clock)
    running = asyncio.create_task(
        worker_main.run(config, chain=rig.chain, engine=engine, clock=rig.clock, handle_signals=False)
    )
    await eventually(lambda: rig.account("bob").get_state().info_hash != 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with rig.service("bob") as service:  # lock and engine were let go
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED


async def test_worker_cannot_start_without_its_key(rig: Rig) -> None:
    service = WorkerService(rig.config("bob"), rig.chain, BreakingEngine(), rig.clock)
    with pytest.raises(KeyMaterialError):
        await service.__aenter__()


# -- the endpoint ----------------------------------------------------------------------


async def test_endpoint_can_answer_within_its_bounds_and_without_secrets(rig: Rig, alice: Client) -> None:
    engine = BreakingEngine(clock=rig.clock)
    async with (
        rig.service("bob", endpoint=True, engine=engine) as service,
        aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as session,
    ):

        async def get(path: str) -> tuple[int, bytes]:
            async with session.get(path) as response:
                return response.status, await response.read()

        await service.settle()
        unknown = f"/v1/results/0:{'ab' * 32}/1"
        for path in (
            unknown,
            "/v1/results/0:zz/1",
            "/v1/results/x/1",
            f"/v1/results/0:{'ab' * 32}/99999999999",
        ):
            assert (await get(path))[0] == 404, path
        assert (await get("/v1/data/zz"))[0] == 404
        assert (await get(f"/v1/data/{'00' * 32}"))[0] == 404
        assert (await get("/nothing"))[0] == 404

        status, info = await get("/v1/info")
        assert status == 200
        assert decode_info(info, service.info().info_hash) == service.info()

        refused = rig.open_job(alice, service, "bob", items=5)
        job = rig.open_job(alice, service, "bob")
        await service.step()
        engine.hang = asyncio.Event()
        assert json.loads((await get(job.url_path))[1]) == {"status": "queued"}
        for _ in range(4):
            await service.step()
            await asyncio.sleep(0)
        assert (await get(job.url_path)) == (202, b'{"status": "running"}')
        status, body = await get(refused.url_path)
        assert (status, json.loads(body)["status"]) == (410, "refused")
        assert "batch" in json.loads(body)["reason"]
        engine.hang.set()
        await service.settle()
        status, body = await get(job.url_path)
        assert status == 200
        assert set(json.loads(body)) == {"result", "result_hash", "amount", "signature"}

        status, health = await get("/health")
        assert (status, json.loads(health)["status"]) == (200, "ok")
        engine.ready = False
        assert (await get("/health"))[0] == 503
        status, metrics = await get("/metrics")
        assert status == 200
        assert b'cocoon_jobs{state="ready"} 1.0' in metrics
        assert b"cocoon_handovers_total 1.0" in metrics
        assert b'cocoon_refused_jobs_total{reason="batches-not-served"} 1.0' in metrics

        secrets = [rig.account("bob").key.reveal(), *(key.reveal() for key in service.context.prekeys.keys)]
        for secret in secrets:
            for shown in (info, body, metrics, health, repr(service.context).encode()):
                assert secret not in shown
                assert secret.hex().encode() not in shown


async def test_endpoint_cannot_hand_out_a_result_when_no_time_is_left_to_submit_it(
    rig: Rig, alice: Client
) -> None:
    async with (
        rig.service("bob", endpoint=True) as service,
        aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as session,
    ):
        await service.settle()
        job = rig.open_job(alice, service, "bob", claim_period=600)
        await service.settle()
        rig.clock.advance(580)  # the chain stands still, or the endpoint does: we cannot know
        async with session.get(job.url_path) as response:
            assert response.status == 202
        assert state(service, job) is JobState.READY


# -- owner and composition ----------------------------------------------------------------------


def deliver(rig: Rig, owner: str, messages: list[OwnerMessage]) -> None:
    sent = [Outgoing(msg.to, msg.value, msg.body, msg.state_init, msg.bounce, msg.mode) for msg in messages]
    rig.blockchain.actor(owner, Nano.ton(1000)).send_many(sent)


async def test_owner_can_create_fund_unwind_and_collect_a_stake(rig: Rig) -> None:
    owner = rig.blockchain.actor("olivia", Nano.ton(1000))
    stake = WorkerStake.from_owner(rig.chain, rig.suite.network, owner.address)
    operator = key_of("operator").verify_key
    deliver(rig, "olivia", setup.create_stake(stake, operator, amount=Nano.ton(20), gas=Nano.ton(2)))
    view = await stake.state()
    assert view.active
    assert (view.stake, view.max_locked, view.operator_key) == (Nano.ton(20), Nano.ton(20), operator.to_int())
    assert view.gas >= Nano.ton(2)

    deliver(rig, "olivia", setup.top_up(stake, amount=Nano.ton(5), gas=Nano.ton(1)))
    deliver(rig, "olivia", setup.change_operator(stake, key_of("next").verify_key))
    view = await stake.state()
    assert (view.stake, view.operator_key) == (Nano.ton(25), key_of("next").verify_key.to_int())

    with pytest.raises(InsufficientStakeError, match="not locked"):
        setup.start_unbonding(stake, view, Nano.ton(26))
    deliver(rig, "olivia", setup.start_unbonding(stake, view))
    view = await stake.state()
    with pytest.raises(InsufficientStakeError, match="on its way"):
        setup.start_unbonding(stake, view, Nano.ton(1))
    assert len(setup.collect(stake, view, now=rig.clock.now(), keep_gas=Nano(view.gas))) == 0
    rig.warp(view.unbonds_at - rig.clock.now())
    before = owner.balance
    deliver(rig, "olivia", setup.collect(stake, view, now=rig.clock.now(), keep_gas=Nano.ton(1)))
    after = await stake.state()
    assert after.stake == 0
    assert after.gas >= Nano.ton("0.9")
    assert owner.balance - before > Nano.ton(26)
    assert setup.free_expired_locks(stake, await stake.locks(), rig.clock.now()) == []
    with pytest.raises(ConfigError):
        setup.top_up(stake)
    with pytest.raises(ConfigError):
        setup.create_stake(stake, operator, amount=Nano(0), gas=Nano(1))


async def test_owner_can_collect_what_a_worker_earned(rig: Rig, alice: Client) -> None:
    async with rig.service("bob") as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        alice.act(signing.accept_result(job.id))
        await service.settle()
        assert state(service, job) is JobState.PAID
        stake, view = service.context.stake, await service.context.stake.state()
        messages = setup.collect(stake, view, now=rig.clock.now(), keep_gas=Nano(view.gas))
        assert len(messages) == 1
        deliver(rig, "bob", messages)
        assert (await stake.state()).earned == 0
        assert record(service, job).paid == view.earned + view.fee_due


def engine_settings(config: WorkerConfig, **changes: Any) -> WorkerConfig:
    return config.model_copy(update={"engine": EngineConfig(**changes)})


async def test_main_can_make_every_engine_the_settings_name(rig: Rig) -> None:
    config = rig.config("bob")
    assert worker_main.make_engine(config).models() == ()
    url = {"kind": "openai", "url": "http://127.0.0.1:1/v1", "api_key": "k3y"}
    openai = worker_main.make_engine(engine_settings(config, **url))
    assert isinstance(openai, OpenAIEngine)
    assert "k3y" not in repr(openai)
    vllm = worker_main.make_engine(engine_settings(config, kind="vllm", model_path="/models/x"))
    assert isinstance(vllm, VllmEngine)
    two = config.model_copy(
        update={"offers": (config.offers[0], config.offers[0].model_copy(update={"engine_model": "other"}))}
    )
    with pytest.raises(ConfigError, match="one model"):
        worker_main.make_engine(engine_settings(two, kind="vllm", model_path="/models/x"))
    chain = worker_main.make_chain(config)
    await chain.close()


def test_process_cannot_start_when_the_settings_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker_main.main([str(tmp_path / "absent.toml")]) == 1
    assert "ConfigError: cannot read the worker's settings" in capsys.readouterr().err


def test_prekeys_are_not_operator_keys(rig: Rig) -> None:
    config = rig.config("bob")
    write_key_file(config.operator_key_file, BoxKey.generate())
    service = WorkerService(config, rig.chain, BreakingEngine(), rig.clock)
    with pytest.raises(KeyMaterialError, match="no ed25519 key"):
        asyncio.run(service.__aenter__())
