"""Model manifests: one form, one hash, and every way a value can be wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.contracts.registry import model_id_of
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.verify.manifest import (
    MAX_MANIFEST_BYTES,
    Difference,
    ModelDiffersError,
    ModelFile,
    ModelManifest,
    Problem,
    compare_files,
)

HASH = "ab" * 32
MANIFEST = ModelManifest(
    name="owner/model",
    dtype="bfloat16",
    engine="vllm",
    files=(ModelFile("config.json", 10, HASH), ModelFile("model.safetensors", 1 << 40, "cd" * 32)),
    architecture={"architectures": ("LlamaForCausalLM",), "hidden_size": 64, "tie_word_embeddings": True},
)

texts = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=30)
files = st.builds(
    ModelFile,
    st.lists(st.from_regex(r"\A[a-z0-9_-]{1,12}\Z"), min_size=1, max_size=3).map("/".join),
    st.integers(0, 2**53 - 1),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)
manifests = st.builds(
    ModelManifest,
    name=texts,
    dtype=texts,
    engine=texts,
    files=st.lists(files, max_size=6, unique_by=lambda file: file.path).map(lambda each: tuple(sorted(each))),
    architecture=st.dictionaries(
        st.from_regex(r"\A[a-z][a-z0-9_]{0,20}\Z"),
        st.one_of(st.integers(0, 2**53 - 1), st.booleans(), texts, st.lists(texts, max_size=3).map(tuple)),
        max_size=5,
    ),
    quantization=st.none() | texts,
    sampler=st.integers(0, 100),
)


@given(manifests)
def test_manifest_can_be_read_again_when_it_was_written(manifest: ModelManifest) -> None:
    again = ModelManifest.from_bytes(manifest.to_bytes())
    assert again == manifest
    assert again.digest == manifest.digest == model_id_of(manifest.to_json())


def test_manifest_hash_is_the_model_id_when_the_form_is_not_canonical() -> None:
    loose = json.dumps(MANIFEST.to_json(), indent=3).encode()
    assert ModelManifest.from_bytes(loose).digest == MANIFEST.digest
    assert MANIFEST.digest.hex() == "674e1c73da84fdb537ecb4f68acc54f8ec2552f35c277f0dd5bf4cbdf8f61db3"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other/model"),
        ("dtype", "float16"),
        ("engine", "another"),
        ("sampler", 2),
        ("quantization", "awq-4bit"),
        ("architecture", {"hidden_size": 65}),
        ("files", MANIFEST.files[:1]),
    ],
)
def test_manifest_cannot_keep_its_hash_when_a_field_changes(field: str, value: Any) -> None:
    assert replace(MANIFEST, **{field: value}).digest != MANIFEST.digest


def changed(**fields: Any) -> dict[str, Any]:
    return {**MANIFEST.to_json(), **fields}


def file(**fields: Any) -> list[dict[str, Any]]:
    return [{"path": "a", "size": 1, "sha256": HASH, **fields}]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        changed(v=2),
        changed(v=True),
        changed(more=1),
        {key: value for key, value in MANIFEST.to_json().items() if key != "engine"},
        changed(name=""),
        changed(name="x" * 128),
        changed(name="a\nb"),
        changed(name="\udc00"),
        changed(dtype=None),
        changed(engine=7),
        changed(sampler=-1),
        changed(sampler=True),
        changed(sampler=1.5),
        changed(quantization=""),
        changed(architecture=[]),
        changed(architecture={"Bad Name": 1}),
        changed(architecture={"size": 1.5}),
        changed(architecture={"size": -1}),
        changed(architecture={"size": [1]}),
        changed(architecture={"size": ["x"] * 17}),
        changed(architecture={f"a{n}": 1 for n in range(33)}),
        changed(files={}),
        changed(files=file() * 2),
        changed(files=[*file(path="b"), *file(path="a")]),
        changed(files=file(more=1)),
        changed(files=file(size=-1)),
        changed(files=file(size=1.0)),
        changed(files=file(size=1 << 60)),
        changed(files=file(sha256=HASH.upper())),
        changed(files=file(sha256=HASH[1:])),
        changed(files=file(sha256=None)),
        *(changed(files=file(path=path)) for path in ("", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\\b")),
        *(changed(files=file(path=path)) for path in ("a\0b", "a\nb", "x" * 256, None, 1)),
        changed(files=[{"path": f"{n:05}", "size": 1, "sha256": HASH} for n in range(4097)]),
    ],
)
def test_manifest_cannot_be_read_when_a_value_is_wrong(value: Any) -> None:
    with pytest.raises(MalformedError):
        ModelManifest.from_json(value)


def test_manifest_cannot_be_read_when_it_is_too_long() -> None:
    with pytest.raises(MalformedError, match="exceed the limit"):
        ModelManifest.from_bytes(b" " * (MAX_MANIFEST_BYTES + 1))


def test_comparison_tells_each_file_when_files_differ() -> None:
    wanted = [ModelFile(name, 1, HASH) for name in ("content", "gone", "same", "size")]
    found = [
        ModelFile("added", 1, HASH),
        ModelFile("content", 1, "cd" * 32),
        ModelFile("same", 1, HASH),
        ModelFile("size", 2, HASH),
    ]
    assert [(each.path, each.problem) for each in compare_files(wanted, found)] == [
        ("added", Problem.ADDED),
        ("content", Problem.CONTENT),
        ("gone", Problem.MISSING),
        ("size", Problem.SIZE),
    ]
    assert compare_files(wanted, reversed(wanted)) == ()


def test_error_lists_a_bounded_number_when_many_files_differ() -> None:
    many = [Difference(f"shard-{n}", Problem.MISSING) for n in range(30)]
    error = ModelDiffersError("not the model", many)
    assert "shard-19: missing" in str(error)
    assert "shard-20" not in str(error)
    assert "and 10 more" in str(error)
    assert error.differences == tuple(many)
