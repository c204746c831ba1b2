"""The engines that the demo offers: real vLLM with the packaged model, or the labelled echo.

Owns getting the model ready and naming it; the engines are the worker's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from cocoon_sdk.contracts.genesis import FirstModel
from cocoon_sdk.errors import EngineUnavailableError
from cocoon_sdk.protocol.hashing import sha256
from cocoon_sdk.types import Hash, Nano
from cocoon_sdk.verify.file_hashes import FileHasher, in_thread
from cocoon_sdk.verify.manifest import ModelManifest
from cocoon_sdk.verify.model_files import hash_model, manifest_of, open_model
from cocoon_worker.engine.base import Engine, EngineLimits, EngineProgress
from cocoon_worker.engine.echo import ECHO_LABEL, ECHO_MODEL, EchoEngine
from cocoon_worker.engine.packaged_model import (
    PACKAGED_MODEL,
    default_folder,
    is_complete,
    packaged_thresholds,
)
from cocoon_worker.engine.vllm import VllmEngine, VllmSettings

ARBITER_FEE: Final = Nano.ton("0.15")
MAX_CONTEXT: Final = 2048
MAX_OUTPUT: Final = 512
Progress = Callable[[str], None]


class EngineChoice(StrEnum):
    """What answers in the demo."""

    VLLM = "vllm"
    ECHO = "echo"


@dataclass(frozen=True, slots=True)
class ReadyEngine:
    """An engine that is not started yet, the model that the network lists for it, and the model's files."""

    choice: EngineChoice
    engine: Engine
    model: FirstModel
    describes: str
    folder: Path | None = None


async def prepare(choice: EngineChoice, log_dir: Path, progress: Progress) -> ReadyEngine:
    """Get an engine ready to start; the first time vLLM's model is converted, which takes a minute.

    Raises `EngineUnavailableError` when vLLM or its model is not installed.
    """
    limits = EngineLimits(
        max_prompt_tokens=MAX_CONTEXT, max_output_tokens=MAX_OUTPUT, default_output_tokens=MAX_OUTPUT
    )
    if choice is EngineChoice.ECHO:
        model = first_model(ModelManifest(name=ECHO_MODEL, dtype="none", engine="echo"))
        return ReadyEngine(choice, EchoEngine(limits=limits), model, ECHO_LABEL)
    folder = await packaged_model(progress)
    found = open_model(folder)
    files = await in_thread(lambda tell: hash_model(found, FileHasher(), tell))

    def report(state: EngineProgress) -> None:
        progress(f"{state.detail} ({state.elapsed_s:.0f} s)")

    await asyncio.to_thread(log_dir.mkdir, parents=True, exist_ok=True)
    settings = VllmSettings(
        model=str(folder),
        served_name=PACKAGED_MODEL,
        log_path=log_dir / "demo-vllm.log",
        max_model_len=MAX_CONTEXT,
    )
    engine = VllmEngine(settings, limits=limits, on_progress=report)
    manifest = manifest_of(found, files, name=PACKAGED_MODEL)
    known = packaged_thresholds()
    model = first_model(manifest, known.digest() if known.model_id == manifest.digest else None)
    return ReadyEngine(choice, engine, model, "vLLM with SmolLM2-135M-Instruct", folder)


def first_model(manifest: ModelManifest, calibration: Hash | None = None) -> FirstModel:
    """Return a model's entry by its manifest; without calibration nothing of it can be judged."""
    return FirstModel(manifest.digest, manifest.name, calibration or sha256(b"no calibration"), ARBITER_FEE)


async def packaged_model(progress: Progress) -> Path:
    """Return the folder of the packaged model, converting it first if needed; cancelling ends the conversion.

    Raises `EngineUnavailableError` with the conversion's last words.
    """
    folder = default_folder().absolute()
    if await asyncio.to_thread(is_complete, folder):
        return folder
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cocoon_worker.engine.packaged_model",
        str(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    last = ""
    try:
        assert child.stdout is not None
        async for line in child.stdout:
            last = line.decode("utf-8", "replace").strip() or last
            progress(last[:200])
        await child.wait()
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            await child.wait()
    if child.returncode != 0 or not await asyncio.to_thread(is_complete, folder):
        raise EngineUnavailableError("the packaged model is not ready", why=last, hint="Run `make vllm` once")
    return folder
