"""A worker starts only with the files that it offers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.protocol import SamplingClass
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.file_hashes import FileHasher
from cocoon_sdk.verify.manifest import ModelDiffersError, ModelManifest, Problem
from cocoon_sdk.verify.model_files import MissingWeightsError, hash_model, manifest_of, open_model
from cocoon_worker.config import EngineConfig, OfferConfig, WorkerConfig
from cocoon_worker.model_guard import ALTERING, MEMORY_FILE, UnknownFilesError, guard_models

NAME = "listed-name"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"dtype": "bfloat16", "hidden_size": 8}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_bytes(b"{}")
    return folder


def describe(folder: Path) -> ModelManifest:
    found = open_model(folder)
    return manifest_of(found, hash_model(found, FileHasher()), name=NAME)


def settings(
    tmp_path: Path,
    model: Path,
    *,
    named: bool = True,
    sampling: SamplingClass = SamplingClass.GREEDY,
    model_id: str | None = None,
    engine: dict[str, Any] | None = None,
    **more: Any,
) -> WorkerConfig:
    manifest = describe(model)
    path = tmp_path / "manifest.json"
    path.write_bytes(manifest.to_bytes())
    (tmp_path / "data").mkdir(exist_ok=True)
    one = Nano(1)
    offer = OfferConfig(
        model="sold-name",
        model_id=model_id or manifest.digest.hex(),
        manifest=path if named else None,
        input_price=one,
        output_price=one,
        minimum_price=one,
        sampling=sampling,
    )
    return WorkerConfig(
        registry="0:" + "11" * 32,
        owner="0:" + "12" * 32,
        operator_key_file=tmp_path / "key",
        prekey_dir=tmp_path / "prekeys",
        data_dir=tmp_path / "data",
        engine=EngineConfig(**{"kind": "vllm", "model_path": model, **(engine or {})}),
        offers=(offer,),
        **more,
    )


async def guard(config: WorkerConfig) -> list[str]:
    """Return the events that were logged."""
    import structlog

    with capture_logs() as logs:
        ids = {bytes.fromhex(offer.model_id): NAME for offer in config.offers}
        await guard_models(config, ids, structlog.get_logger())
    return [each["event"] for each in logs]


@pytest.mark.parametrize("named", [True, False])
async def test_worker_can_start_when_its_files_are_the_offered_ones(
    tmp_path: Path, model: Path, named: bool
) -> None:
    assert await guard(settings(tmp_path, model, named=named)) == ["model files are what is offered"]


async def test_worker_cannot_start_when_its_weights_are_others(tmp_path: Path, model: Path) -> None:
    config = settings(tmp_path, model)
    (model / "model.safetensors").write_bytes(b"WEIGHTS")
    (model / "tokenizer.json").unlink()
    with pytest.raises(ModelDiffersError, match=r"model\.safetensors: other content") as caught:
        await guard(config)
    assert [each.problem for each in caught.value.differences] == [Problem.CONTENT, Problem.MISSING]


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
async def test_worker_cannot_promise_what_nobody_can_check_on_another_day(
    tmp_path: Path, model: Path, file: str
) -> None:
    (model / file).write_text(json.dumps({"chat_template": "Today: {{ strftime_now('%d %b %Y') }}"}))
    with pytest.raises(ConfigError, match="date"):
        await guard(settings(tmp_path, model))
    # What nobody promised may depend on the day.
    assert await guard(settings(tmp_path, model, sampling=SamplingClass.UNVERIFIED)) != []


async def test_worker_cannot_start_when_its_files_are_not_the_model_ids(tmp_path: Path, model: Path) -> None:
    config = settings(tmp_path, model, named=False)
    (model / "model.safetensors").write_bytes(b"WEIGHTS")
    with pytest.raises(UnknownFilesError, match="Set the offer's manifest"):
        await guard(config)


@pytest.mark.parametrize("harm", ["change", "remove"])
async def test_worker_can_start_with_a_warning_when_an_unverified_offer_names_no_manifest(
    tmp_path: Path, model: Path, harm: str
) -> None:
    config = settings(tmp_path, model, named=False, sampling=SamplingClass.UNVERIFIED)
    path = model / "model.safetensors"
    path.write_bytes(b"WEIGHTS") if harm == "change" else path.unlink()
    assert await guard(config) == ["model files are not what the model id names"]


async def test_worker_cannot_start_when_a_verified_offer_has_no_weights(tmp_path: Path, model: Path) -> None:
    config = settings(tmp_path, model, named=False)
    (model / "model.safetensors").unlink()
    with pytest.raises(MissingWeightsError):
        await guard(config)


async def test_worker_cannot_start_when_the_manifest_is_of_another_model(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ConfigError, match="model_id is another"):
        await guard(settings(tmp_path, model, model_id="ab" * 32))


async def test_worker_cannot_start_when_the_manifest_is_not_readable(tmp_path: Path, model: Path) -> None:
    config = settings(tmp_path, model)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(MalformedError, match="model manifest"):
        await guard(config)


@pytest.mark.parametrize("argument", [*ALTERING, "--quantization=fp8", "-q", "--hf_overrides.x", "--quant"])
async def test_worker_cannot_start_when_engine_arguments_change_the_model(
    tmp_path: Path, model: Path, argument: str
) -> None:
    with pytest.raises(ConfigError, match="changes what the model's files compute"):
        await guard(settings(tmp_path, model, engine={"arguments": ("--max-num-seqs=4", argument, "x")}))


async def test_worker_can_start_when_engine_arguments_leave_the_model(tmp_path: Path, model: Path) -> None:
    arguments = (
        "--max-num-seqs=4",
        "--dtype",
        "float32",
        "--max-model-len=512",
        "--no-enable-prefix-caching",
    )
    assert await guard(settings(tmp_path, model, engine={"arguments": arguments}))


async def test_worker_says_that_it_sees_no_files_when_the_engine_is_behind_a_url(
    tmp_path: Path, model: Path
) -> None:
    config = settings(tmp_path, model, engine={"kind": "openai", "url": "http://127.0.0.1:1/v1"})
    (model / "model.safetensors").unlink()
    assert await guard(config) == ["model files are not seen"]


async def test_worker_reads_files_once_when_they_stay(tmp_path: Path, model: Path) -> None:
    config = settings(tmp_path, model)
    memory = tmp_path / "data" / MEMORY_FILE
    await guard(config)
    # A memory that lies shows who reads it: --rehash does not.
    document = json.loads(memory.read_text())
    place = str((model / "model.safetensors").resolve())
    document["files"][place][-1] = "ab" * 32
    memory.write_text(json.dumps(document))
    with pytest.raises(ModelDiffersError):
        await guard(config)
    assert await guard(config.model_copy(update={"rehash": True}))
    assert await guard(config)
