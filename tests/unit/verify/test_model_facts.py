"""What a model's files say of its answers: the same for everybody who holds its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.verify.file_hashes import FileHasher
from cocoon_sdk.verify.manifest import ModelDiffersError, ModelManifest
from cocoon_sdk.verify.model_facts import ModelFacts, context_of, facts_of
from cocoon_sdk.verify.model_files import hash_model, manifest_of, open_model

CONFIG = {"dtype": "bfloat16", "max_position_embeddings": 8192, "eos_token_id": 2}


def model(folder: Path, **more: str) -> ModelManifest:
    folder.mkdir()
    files = {"config.json": json.dumps(CONFIG), "model.safetensors": "weights", **more}
    for name, text in files.items():
        (folder / name).write_text(text)
    found = open_model(folder)
    return manifest_of(found, hash_model(found, FileHasher()), name="model")


def test_model_says_what_its_answers_can_be_without_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    manifest = model(folder, **{"generation_config.json": json.dumps({"eos_token_id": [7, 9]})})
    (folder / "model.safetensors").unlink()
    assert facts_of(manifest, folder) == ModelFacts(8192, frozenset({2, 7, 9}))
    assert facts_of(model(tmp_path / "plain"), tmp_path / "plain") == ModelFacts(8192, frozenset({2}))


def test_arbiter_cannot_have_limits_of_its_own_by_changing_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    manifest = model(folder, **{"generation_config.json": "{}"})
    (folder / "config.json").write_text(json.dumps({**CONFIG, "max_position_embeddings": 4096}))
    with pytest.raises(ModelDiffersError, match=r"config\.json: other content"):
        facts_of(manifest, folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "generation_config.json").unlink()
    with pytest.raises(ModelDiffersError, match=r"generation_config\.json: missing"):
        facts_of(manifest, folder)


def test_model_without_files_says_nothing(tmp_path: Path) -> None:
    engine = ModelManifest(name="echo", dtype="none", engine="echo")
    assert facts_of(engine, tmp_path / "nowhere") == ModelFacts()
    odd = model(tmp_path / "odd", **{"generation_config.json": "[]"})
    assert facts_of(odd, tmp_path / "odd") == ModelFacts(8192, frozenset({2}))


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({}, None),
        ({"max_position_embeddings": 0}, None),
        ({"max_position_embeddings": True}, None),
        ({"max_position_embeddings": "8192"}, None),
        ({"max_position_embeddings": 8192}, 8192),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": 8192, "rope_scaling": None}, 8192),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "dynamic", "factor": 2}}, 8192),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                },
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                },
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 4096,
                "rope_parameters": {
                    "sliding_attention": {"rope_type": "default"},
                    "full_attention": {"rope_type": "linear", "factor": 8.0},
                },
            },
            32768,
        ),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": None}}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 0.5}}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 1e300}}, 4096),
        ({"max_position_embeddings": 1 << 80}, 1 << 31),
        ({"max_position_embeddings": 1 << 2000, "rope_scaling": {"factor": 1.5}}, 1 << 31),
    ],
    ids=str,
)
def test_context_is_the_largest_that_an_engine_makes_of_a_configuration(
    config: dict[str, Any], context: int | None
) -> None:
    assert context_of(config) == context
