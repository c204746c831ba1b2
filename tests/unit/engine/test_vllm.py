"""The supervision of vLLM, with a stand-in process; the real vLLM is in tests/e2e/test_vllm_engine.py."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cocoon_sdk.errors import ConfigError, EngineUnavailableError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_worker.engine.base import (
    ENGINE_TRANSITIONS,
    EngineIdentity,
    EngineKind,
    EngineProgress,
    EngineRequest,
    EngineState,
)
from cocoon_worker.engine.vllm import Device, EngineLoad, VllmEngine, VllmSettings
from cocoon_worker.engine.vllm_command import (
    SAMPLER,
    cpu_dtype,
    vllm_command,
    vllm_environment,
    vllm_identity,
)
from tests.unit.engine import stand_in

PROMPT = EngineRequest(EngineKind.COMPLETION, {"prompt": "x"})


class Watcher:
    """Collects progress and lets a test wait for a state."""

    def __init__(self) -> None:
        self.seen: list[EngineProgress] = []
        self._news = asyncio.Event()

    def __call__(self, progress: EngineProgress) -> None:
        self.seen.append(progress)
        self._news.set()

    @property
    def states(self) -> list[EngineState]:
        """Every state once per visit."""
        states = [progress.state for progress in self.seen]
        return [state for i, state in enumerate(states) if i == 0 or states[i - 1] != state]

    async def until(self, state: EngineState, times: int = 1) -> None:
        while self.states.count(state) < times:
            self._news.clear()
            await self._news.wait()


Settings = Callable[..., VllmSettings]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in.__file__} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "model").mkdir()

    def build(**changes: object) -> VllmSettings:
        values = {
            "model": str(tmp_path / "model"),
            "served_name": "small",
            "log_path": tmp_path / "vllm.log",
            "python": str(python),
            "stop_grace_s": 2.0,
            "backoff_s": 0.01,
            **changes,
        }
        return VllmSettings(**values)  # type: ignore[arg-type]

    return build


async def test_worker_can_generate_when_vllm_is_supervised(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCOON_OPERATOR_KEY", "secret")
    watcher = Watcher()
    engine = VllmEngine(settings(), on_progress=watcher)
    assert engine.models() == ()
    with pytest.raises(EngineUnavailableError, match="not ready"):
        await engine.run(PROMPT, deadline_s=10)
    await engine.start()
    try:
        await engine.start()  # a second start changes nothing
        assert engine.models() == ("small",)
        assert (await engine.health()).ready
        assert await engine.load() == EngineLoad(running=2, waiting=1)
        result = await engine.run(PROMPT, deadline_s=10)
        assert result.response["choices"][0]["text"] == "[]"  # it sees none of our variables
    finally:
        await engine.stop()
    assert engine.models() == ()
    assert not (await engine.health()).ready
    assert watcher.states == [EngineState.STARTING, EngineState.READY, EngineState.STOPPED]
    await engine.stop()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 137), (signal.SIGTERM, 143)])
async def test_engine_can_come_back_when_its_process_ends(
    settings: Settings, number: signal.Signals, code: int
) -> None:
    watcher = Watcher()
    engine = VllmEngine(settings(), on_progress=watcher)
    await engine.start()
    try:
        assert engine.process_group is not None
        os.kill(engine.process_group, number)
        await watcher.until(EngineState.BACKOFF)
        assert f"exit code {code}" in watcher.seen[-1].detail
        await engine.wait_ready(30)
        assert (await engine.health()).restarts == 1
        await engine.run(PROMPT, deadline_s=10)
    finally:
        await engine.stop()


async def test_engine_can_keep_trying_when_restarts_fail(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN", "once")
    monkeypatch.setenv("STAND_IN_MARK", str(tmp_path / "mark"))
    watcher = Watcher()
    engine = VllmEngine(settings(), on_progress=watcher)
    await engine.start()
    try:
        assert engine.process_group is not None
        os.kill(engine.process_group, signal.SIGKILL)
        await watcher.until(EngineState.BACKOFF, times=3)
        assert "no such model" in watcher.seen[-1].detail
        assert not (await engine.health()).ready
        with pytest.raises(EngineUnavailableError):
            await engine.run(PROMPT, deadline_s=10)
        with pytest.raises(EngineUnavailableError):
            await engine.wait_ready(0.01)
        pauses = [p.detail.rsplit(" ", 2)[1] for p in watcher.seen if p.state is EngineState.BACKOFF][:3]
        assert pauses == ["0.01", "0.02", "0.04"]
        (tmp_path / "mark").unlink()
        await engine.wait_ready(30)
        await engine.run(PROMPT, deadline_s=10)
    finally:
        await engine.stop()
    for before, after in zip(watcher.states, watcher.states[1:], strict=False):
        assert after in ENGINE_TRANSITIONS[before]


async def test_engine_cannot_start_when_vllm_ends_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "crash")
    engine = VllmEngine(settings())
    with pytest.raises(EngineUnavailableError) as caught:
        await engine.start()
    assert "exit code 3" in str(caught.value)
    assert "ValueError: no such model" in str(caught.value)
    assert (await engine.health()).state is EngineState.STOPPED


async def test_engine_cannot_start_when_vllm_is_never_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "sulk")
    watcher = Watcher()
    engine = VllmEngine(settings(startup_timeout_s=1.0), on_progress=watcher)
    with pytest.raises(EngineUnavailableError, match="not ready after"):
        await engine.start()
    assert any(progress.detail == "reading the model's configuration" for progress in watcher.seen)
    assert engine.process_group is None


async def test_engine_cannot_leave_a_process_when_its_start_is_cancelled(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "sulk")
    engine = VllmEngine(settings())
    starting = asyncio.create_task(engine.start())
    while (group := engine.process_group) is None:  # noqa: ASYNC110 - announced by the child
        await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


async def test_operator_cannot_start_when_the_model_folder_is_missing(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="/nonexistent"):
        await VllmEngine(settings(model="/nonexistent")).start()


async def test_operator_cannot_start_when_the_log_cannot_be_written(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="log"):
        await VllmEngine(settings(log_path=Path("/proc/none/vllm.log"))).start()


def test_operator_can_rely_on_the_command_when_there_is_no_gpu(settings: Settings) -> None:
    options = settings(device=Device.CPU, dtype=None, cpu_threads=3, extra_args=("--seed=1",))
    command = vllm_command(options, 1234)
    environment = vllm_environment(options, {"PATH": "/bin", "COCOON_KEY": "x"}, "sesame")

    assert {"--enforce-eager", f"--dtype={cpu_dtype()}", "--port=1234", "--host=127.0.0.1"} <= set(command)
    assert command[-1] == "--seed=1"
    assert (environment["OMP_NUM_THREADS"], environment["GOMP_SPINCOUNT"]) == ("3", "3000")
    assert vllm_environment(settings(device=Device.CPU), {}, "")["OMP_NUM_THREADS"] == str(os.cpu_count())
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["PATH"] == "/bin"
    assert "COCOON_KEY" not in environment
    assert not any("sesame" in word for word in command)


def test_operator_can_rely_on_the_command_when_there_is_a_gpu(settings: Settings) -> None:
    options = settings(device=Device.GPU, model="org/name")
    assert "--enforce-eager" not in vllm_command(options, 1)
    assert not any(word.startswith("--dtype") for word in vllm_command(options, 1))
    assert {"HF_HUB_OFFLINE", "OMP_NUM_THREADS"}.isdisjoint(vllm_environment(options, {}, "sesame"))


def test_vllm_loads_the_sampler_when_an_offer_is_replayable(settings: Settings) -> None:
    asked = f"--logits-processors={SAMPLER}"
    for sampling in SamplingClass:
        wanted = sampling is SamplingClass.REPLAYABLE
        assert (asked in vllm_command(settings(sampling=sampling), 1)) is wanted
        environment = vllm_environment(settings(sampling=sampling), {}, "sesame")
        assert ("VLLM_USE_V2_MODEL_RUNNER" in environment) is wanted
    assert asked not in vllm_command(settings(sampling=SamplingClass.REPLAYABLE, runner="pooling"), 1)


def test_operator_can_rely_on_what_commitments_say_of_the_engine(settings: Settings, tmp_path: Path) -> None:
    cpu = vllm_identity(settings(device=Device.CPU))
    assert cpu == EngineIdentity(platform="cpu", dtype=cpu_dtype())
    forced = settings(device=Device.CPU, dtype="float32", extra_args=("--dtype=float16",))
    assert vllm_identity(forced).dtype == "float16"
    gpus = tmp_path / "gpus"
    gpu = settings(device=Device.GPU)
    assert vllm_identity(gpu, gpus) == EngineIdentity(platform="gpu", dtype="")
    for number, model in enumerate(("NVIDIA H100 80GB HBM3", "NVIDIA A10")):
        (gpus / str(number)).mkdir(parents=True)
        (gpus / str(number) / "information").write_text(f"Model: \t\t {model}\nIRQ: 1\n")
    config = Path(gpu.model) / "config.json"
    for text, dtype in (
        ('{"torch_dtype": "bfloat16"}', "bfloat16"),
        ('{"dtype": "float16", "torch_dtype": "float32"}', "float16"),
        ('{"dtype": "float32"}', ""),
        ('{"dtype": 7}', ""),
        ("[]", ""),
        ("{", ""),
    ):
        config.write_text(text)
        assert vllm_identity(gpu, gpus) == EngineIdentity(platform="cuda NVIDIA H100 80GB HBM3", dtype=dtype)
    assert vllm_identity(settings(device=Device.GPU, dtype="float16"), gpus).dtype == "float16"


@pytest.mark.parametrize(
    ("flags", "dtype"), [("fpu avx2", "float32"), ("avx512_bf16", "bfloat16"), ("asimd bf16", "bfloat16")]
)
def test_operator_can_get_the_fast_dtype_when_the_cpu_tells_its_features(
    tmp_path: Path, flags: str, dtype: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
    assert cpu_dtype(cpuinfo) == dtype
    assert cpu_dtype(tmp_path / "missing") == "float32"
