"""How vLLM is called: settings, command line and environment. Pure but for looking at this machine.

Must not start anything. The child gets no `COCOON_*` variable: those hold the worker's keys.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_worker.engine.base import ON_CPU, EngineIdentity

HOST = "127.0.0.1"
SAMPLER = "cocoon_worker.engine.sampler:CocoonSampler"
"""Our logits processor, by which choices of tokens can be replayed, as vLLM loads it."""
_IN_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""Runs the model in the scheduler's own process. What vLLM takes on a CPU by itself, a process of its own,
makes the scheduler spin on a core while that process computes. (Its reason is binding threads to cores, which
we do not; the plain name `uni` would be overruled.)
"""
_MAX_CONFIG_BYTES = 1 << 20
_GPUS = Path("/proc/driver/nvidia/gpus")
_MAX_CPUINFO_BYTES = 1 << 20
_MAX_PLATFORM = 100


class Device(StrEnum):
    """What vLLM computes on."""

    CPU = "cpu"
    GPU = "gpu"


def detect_device() -> Device:
    """Return GPU when this machine shows an NVIDIA or AMD device node, else CPU."""
    nvidia = any(name.removeprefix("nvidia").isdecimal() for name in os.listdir("/dev"))
    return Device.GPU if nvidia or os.path.exists("/dev/kfd") else Device.CPU


def cpu_dtype(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return bfloat16 when this CPU computes in it, else float32 (3 to 6 times faster than emulating it)."""
    try:
        with cpuinfo.open(encoding="ascii", errors="replace") as file:
            words = set(file.read(_MAX_CPUINFO_BYTES).split())
    except OSError:
        words = set()
    return "bfloat16" if words & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSettings:
    """How to run vLLM. `model` is a folder or a repository name; `served_name` is what requests carry.

    `dtype` left open is vLLM's own choice on a GPU and `cpu_dtype` on a CPU; who promises one sets it.
    `python` is the interpreter that has vLLM installed; `cpu_threads` defaults to all cores; `extra_args` go
    to vLLM as they are. `sampling` is the most that is promised of its answers. Times in
    seconds, `cpu_kv_cache_gib` in GiB, `max_model_len` in tokens.
    """

    model: str
    served_name: str
    log_path: Path
    max_model_len: int = 2048
    runner: Literal["generate", "pooling"] = "generate"
    device: Device = field(default_factory=detect_device)
    dtype: str | None = None
    python: str = sys.executable
    extra_args: tuple[str, ...] = ()
    sampling: SamplingClass = SamplingClass.UNVERIFIED
    cpu_threads: int | None = None
    cpu_kv_cache_gib: int = 2
    startup_timeout_s: float = 900.0
    stop_grace_s: float = 10.0
    backoff_s: float = 1.0


def vllm_command(settings: VllmSettings, port: int) -> tuple[str, ...]:
    """Return vLLM's command line. The `vllm` command is not used: the CPU build's does not start."""
    command = [
        *(settings.python, "-m", "vllm.entrypoints.openai.api_server"),
        f"--model={settings.model}",
        f"--served-model-name={settings.served_name}",
        f"--host={HOST}",
        f"--port={port}",
        f"--max-model-len={settings.max_model_len}",
        f"--runner={settings.runner}",
        # The request alone decides how is sampled, so that an arbiter can repeat it from the request alone.
        "--generation-config=vllm",
        "--enable-prompt-tokens-details",  # without it, cached tokens are not counted
        "--disable-uvicorn-access-log",
    ]
    if settings.device is Device.CPU:
        command.append("--enforce-eager")  # compiling takes minutes and gains little on a CPU
        command.append(f"--distributed-executor-backend={_IN_PROCESS}")
    if (dtype := _dtype(settings)) is not None:
        command.append(f"--dtype={dtype}")
    if _samples_replayably(settings):
        # Not for others: engines refuse to speculate beside it.
        command.append(f"--logits-processors={SAMPLER}")
    return (*command, *settings.extra_args)


def _samples_replayably(settings: VllmSettings) -> bool:
    return settings.sampling is SamplingClass.REPLAYABLE and settings.runner == "generate"


def vllm_identity(settings: VllmSettings, gpus: Path = _GPUS) -> EngineIdentity:
    """Return what is said of this vLLM in commitments, without its version, which it tells itself."""
    named = [
        argument.partition("=")[2] for argument in settings.extra_args if argument.startswith("--dtype=")
    ]
    dtype = named[-1] if named else _dtype(settings) or _model_dtype(Path(settings.model))
    return EngineIdentity(platform=_platform(settings.device, gpus), dtype=dtype)


def _dtype(settings: VllmSettings) -> str | None:
    return settings.dtype or (cpu_dtype() if settings.device is Device.CPU else None)


def _model_dtype(model: Path) -> str:
    """Return the number format that the model's files name: what vLLM takes when nobody names one."""
    try:
        with (model / "config.json").open("rb") as file:
            config = json.loads(file.read(_MAX_CONFIG_BYTES))
        dtype = config.get("dtype") or config.get("torch_dtype")
    except (OSError, ValueError, AttributeError):
        return ""
    # vLLM computes in half precision what was stored in single; in which, depends on the device.
    return dtype if dtype in ("bfloat16", "float16") else ""


def _platform(device: Device, gpus: Path) -> str:
    if device is Device.CPU:
        return ON_CPU
    try:
        texts = [path.read_text("ascii", "replace") for path in sorted(gpus.glob("*/information"))]
    except OSError:
        texts = []
    models = [
        line.partition(":")[2].strip() for text in texts for line in text.splitlines() if "Model:" in line
    ]
    if models:
        return f"cuda {models[0]}"[:_MAX_PLATFORM]
    return "gpu"


def vllm_environment(settings: VllmSettings, environ: Mapping[str, str], api_key: str) -> dict[str, str]:
    """Return the child's environment: ours without our secrets, and what vLLM needs."""
    env = {name: value for name, value in environ.items() if not name.startswith("COCOON_")}
    # In the environment, not on the command line, which every user of the machine can read.
    env |= {"VLLM_API_KEY": api_key, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    if Path(settings.model).is_dir():
        env["HF_HUB_OFFLINE"] = "1"
    if _samples_replayably(settings):
        env["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # the newer runner, first choice on a GPU, refuses our sampler
    if settings.device is Device.CPU:
        threads = settings.cpu_threads or os.cpu_count() or 1
        env |= {
            "VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_kv_cache_gib),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(threads),
            # Threads that wait soon yield: spinning long, any other load on the machine slows them ten times.
            "GOMP_SPINCOUNT": "3000",
        }
    return env
