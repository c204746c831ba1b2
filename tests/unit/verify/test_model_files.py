"""Which files are a model, and what cannot be one: incomplete, escaping or odd folders."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pytest

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.verify.file_hashes import FileHasher, UnreadableFileError, in_thread
from cocoon_sdk.verify.manifest import ModelManifest, Problem
from cocoon_sdk.verify.model_files import (
    EscapingPathError,
    MissingWeightsError,
    ModelFolderError,
    check_model,
    hash_model,
    manifest_of,
    open_model,
    read_manifest,
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "dtype": "bfloat16",
    "hidden_size": 64,
    "rope_theta": 1e4,
    "sliding_window": None,
}
INDEX = "model.safetensors.index.json"


def fill(folder: Path, **more: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "model.safetensors": b"weights",
        "README.md": b"not part of it",
        **more,
    }
    names = list(contents)
    random.Random(str(folder)).shuffle(names)
    for name in names:
        (folder / name).write_bytes(contents[name])
    return folder


def describe(folder: Path) -> ModelManifest:
    found = open_model(folder)
    return manifest_of(found, hash_model(found, FileHasher()), name="model")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return fill(tmp_path / "model")


def test_manifest_lists_what_an_engine_loads_and_nothing_else(model: Path) -> None:
    manifest = describe(model)
    assert {file.path: file.sha256 for file in manifest.files} == {
        name: hashlib.sha256((model / name).read_bytes()).hexdigest()
        for name in ("chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json")
    }
    assert manifest.architecture == {"architectures": ("LlamaForCausalLM",), "hidden_size": 64}
    assert (manifest.dtype, manifest.quantization, manifest.engine) == ("bfloat16", None, "vllm")


def test_manifest_is_the_same_when_order_times_and_place_differ(model: Path, tmp_path: Path) -> None:
    copy = fill(tmp_path / "elsewhere" / "copy")
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    assert describe(copy).digest == describe(model).digest


def test_manifest_follows_links_when_the_folder_is_of_a_hub_cache(model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot, blobs = repository / "snapshots" / ("0" * 40), repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in model.iterdir():
        path.rename(blobs / f"blob-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/blob-{path.name}")
    found = open_model(snapshot)
    assert found.name == "owner/name"
    assert describe(snapshot).digest == describe(fill(tmp_path / "plain")).digest


@pytest.mark.parametrize("target", ["../outside", "/etc/hostname"])
def test_folder_cannot_be_listed_when_a_link_leads_out(model: Path, target: str) -> None:
    (model.parent / "outside").write_bytes(b"x")
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.json").symlink_to(target)
    with pytest.raises(EscapingPathError, match=r"tokenizer\.json leads out"):
        open_model(model)


def test_folder_cannot_be_listed_when_a_link_leads_nowhere(model: Path) -> None:
    (model / "vocab.json").symlink_to("gone")
    with pytest.raises(ModelFolderError, match="link to nothing"):
        open_model(model)


def test_folder_cannot_be_listed_when_a_file_is_a_pipe(model: Path) -> None:
    (model / "model.safetensors").unlink()
    os.mkfifo(model / "model.safetensors")
    with pytest.raises(ModelFolderError, match="no regular file"):
        open_model(model)


def sharded(model: Path, *shards: object) -> Path:
    (model / INDEX).write_text(json.dumps({"weight_map": {f"w{n}": name for n, name in enumerate(shards)}}))
    return model


def test_folder_lists_the_shards_when_an_index_names_them(model: Path) -> None:
    (model / "b.safetensors").write_bytes(b"b")
    (model / "a.safetensors").write_bytes(b"a")
    names = {file.path for file in describe(sharded(model, "b.safetensors", "a.safetensors")).files}
    assert names >= {INDEX, "a.safetensors", "b.safetensors"}
    assert "model.safetensors" not in names  # the engine leaves what the index does not name


def test_folder_cannot_be_listed_when_the_index_names_absent_shards(model: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"names gone\.safetensors, not there"):
        open_model(sharded(model, "model.safetensors", "gone.safetensors"))


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/hostname", "", 7, ["x"], None])
def test_folder_cannot_be_listed_when_the_index_names_no_plain_file(model: Path, shard: object) -> None:
    with pytest.raises(EscapingPathError):
        open_model(sharded(model, shard))


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": []}', "{" * 100_000, '{"weight_map": {}}'])
def test_folder_cannot_be_listed_when_the_index_is_no_index(model: Path, text: str) -> None:
    (model / INDEX).write_text(text)
    with pytest.raises(ModelFolderError):
        open_model(model)


def test_folder_cannot_be_listed_when_there_are_no_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "training_args.bin")
    with pytest.raises(MissingWeightsError, match="no weights"):
        open_model(model)


def test_folder_cannot_be_listed_when_the_weights_were_not_downloaded(model: Path) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(MissingWeightsError, match="Git LFS pointer"):
        open_model(model)


def test_folder_cannot_be_listed_when_it_is_not_there_or_has_no_configuration(model: Path) -> None:
    with pytest.raises(ModelFolderError, match="No such file"):
        open_model(model / "none")
    with pytest.raises(ModelFolderError, match="Not a directory"):
        open_model(model / "config.json")
    (model / "config.json").unlink()
    with pytest.raises(ModelFolderError, match=r"no config\.json"):
        open_model(model)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (b"[]", "is not JSON"),
        (b"{", "is not JSON"),
        (b" " * ((4 << 20) + 1), "exceeds 4194304 bytes"),
        (b"\xff", "is not JSON"),
    ],
)
def test_folder_cannot_be_listed_when_its_configuration_is_not_readable(
    tmp_path: Path, config: bytes, why: str
) -> None:
    with pytest.raises(ModelFolderError, match=rf"config\.json {why}"):
        open_model(fill(tmp_path / "odd", **{"config.json": config}))


def test_manifest_takes_the_language_part_when_a_model_is_composed(tmp_path: Path) -> None:
    config = {
        "architectures": ["Composed"],
        "text_config": {"hidden_size": 32, "torch_dtype": "float16", "architectures": ["Inner"]},
        "quantization_config": {"quant_method": "awq", "bits": 4},
    }
    manifest = describe(fill(tmp_path / "composed", **{"config.json": json.dumps(config).encode()}))
    assert manifest.architecture == {"architectures": ("Composed",), "hidden_size": 32}
    assert (manifest.dtype, manifest.quantization) == ("float16", "awq-4bit")


def test_manifest_cannot_be_made_when_no_dtype_is_known(tmp_path: Path) -> None:
    found = open_model(fill(tmp_path / "bare", **{"config.json": b"{}"}))
    with pytest.raises(ModelFolderError, match="names no number format"):
        manifest_of(found, ())
    assert manifest_of(found, (), dtype="float32").dtype == "float32"


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        ({"eos_token_id": 2}, None, {2}),
        ({"eos_token_id": 2}, {"eos_token_id": [3, 4]}, {2, 3, 4}),
        ({}, {"eos_token_id": None}, None),
        ({"eos_token_id": True}, {"eos_token_id": ["x", 7]}, {7}),
    ],
)
def test_folder_tells_which_tokens_end_an_answer(
    tmp_path: Path, config: dict[str, object], generation: dict[str, object] | None, ends: set[int] | None
) -> None:
    more = {} if generation is None else {"generation_config.json": json.dumps(generation).encode()}
    folder = open_model(fill(tmp_path / "ends", **{"config.json": json.dumps(config).encode(), **more}))
    assert folder.end_tokens == ends


def test_folder_tells_whether_it_has_a_chat_template(model: Path) -> None:
    assert open_model(model).has_chat_template
    (model / "chat_template.jinja").unlink()
    assert not open_model(model).has_chat_template
    (model / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert open_model(model).has_chat_template


def test_check_finds_nothing_when_the_files_are_the_manifests(model: Path) -> None:
    assert check_model(model, describe(model), FileHasher()) == ()


def test_check_tells_each_file_when_files_were_changed_removed_and_added(model: Path) -> None:
    manifest = describe(model)
    (model / "model.safetensors").write_bytes(b"WEIGHTS")
    (model / "tokenizer.json").write_bytes(b"{ }")
    (model / "chat_template.jinja").unlink()
    (model / "more.safetensors").write_bytes(b"more")
    found = {each.path: each.problem for each in check_model(model, manifest, FileHasher())}
    assert found == {
        "chat_template.jinja": Problem.MISSING,
        "model.safetensors": Problem.CONTENT,
        "more.safetensors": Problem.ADDED,
        "tokenizer.json": Problem.SIZE,
    }


def test_check_tells_missing_weights_when_the_folder_has_none(model: Path) -> None:
    manifest = describe(model)
    (model / "model.safetensors").unlink()
    assert [(each.path, each.problem) for each in check_model(model, manifest, FileHasher())] == [
        ("model.safetensors", Problem.MISSING)
    ]


def test_manifest_file_can_be_read_when_it_was_written(model: Path, tmp_path: Path) -> None:
    manifest, path = describe(model), tmp_path / "manifest.json"
    path.write_bytes(manifest.to_bytes() + b"\n")
    assert read_manifest(path) == manifest
    path.write_bytes(b"{}")
    with pytest.raises(MalformedError, match=r"manifest\.json"):
        read_manifest(path)
    with pytest.raises(MalformedError, match="No such file"):
        read_manifest(tmp_path / "none")


# -- what is remembered ------------------------------------------------------------------------------------


def reads(path: Path, memory: Path | None, *, fresh: bool = False) -> tuple[str, int]:
    """Hash one file; return the hash and how often its bytes came (a remembered file comes at once)."""
    calls: list[int] = []
    hasher = FileHasher(memory, fresh=fresh)
    found = hasher.hash(path, lambda name, count: calls.append(count))
    hasher.save()
    return found.sha256, len(calls)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(b"x" * (9 << 20))  # three reads
    return path


def test_hash_is_remembered_when_the_file_stays(large: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    first = reads(large, memory)
    assert first == (hashlib.sha256(large.read_bytes()).hexdigest(), 3)
    assert reads(large, memory) == (first[0], 1)
    assert reads(large, memory, fresh=True) == first
    assert reads(large, None) == first


def test_hash_is_taken_anew_when_the_content_changed_behind_the_same_time(
    large: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "memory.json"
    before, found = reads(large, memory), large.stat()
    large.write_bytes(b"y" * (9 << 20))
    os.utime(large, ns=(found.st_atime_ns, found.st_mtime_ns))
    after = reads(large, memory)
    assert after[0] != before[0]
    assert after[1] == 3


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"v": 2, "files": {}}', '{"v": 1, "files": []}', "[" * 99_999]
)
def test_memory_is_left_alone_when_it_cannot_be_understood(large: Path, tmp_path: Path, text: str) -> None:
    memory = tmp_path / "memory.json"
    memory.write_text(text)
    assert reads(large, memory)[1] == 3
    assert reads(large, memory)[1] == 1


@pytest.mark.parametrize("harm", [lambda e: e[:-1], lambda e: [*e[:-1], "AB" * 32], lambda e: ["1", *e[1:]]])
def test_memory_is_not_believed_when_an_entry_is_odd(large: Path, tmp_path: Path, harm: object) -> None:
    memory = tmp_path / "memory.json"
    reads(large, memory)
    document = json.loads(memory.read_text())
    assert callable(harm)
    document["files"] = {path: harm(entry) for path, entry in document["files"].items()}
    memory.write_text(json.dumps(document))
    assert reads(large, memory)[1] == 3


def test_hasher_works_on_when_its_memory_cannot_be_written(large: Path, tmp_path: Path) -> None:
    assert reads(large, tmp_path / "no such folder" / "memory.json")[1] == 3


def test_file_cannot_be_hashed_when_it_changes_meanwhile(large: Path) -> None:
    def meddle(name: str, count: int) -> None:
        with large.open("ab") as file:
            file.write(b"more") if large.stat().st_size == 9 << 20 else None

    with pytest.raises(UnreadableFileError, match="changed while"):
        FileHasher().hash(large, meddle)


def test_file_cannot_be_hashed_when_it_is_a_pipe_or_gone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "gone"):
        with pytest.raises(UnreadableFileError):
            FileHasher().hash(tmp_path / name)


async def test_hashing_ends_when_it_is_cancelled(large: Path) -> None:
    import asyncio
    import threading

    entered, go_on = threading.Event(), threading.Event()
    ended: list[BaseException] = []

    def work(tell: object) -> None:
        assert callable(tell)
        try:
            FileHasher().hash(large, tell)
        except BaseException as error:
            ended.append(error)
            raise

    def hold(name: str, count: int) -> None:
        entered.set()
        go_on.wait(10)

    task = asyncio.ensure_future(in_thread(work, hold))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert [type(error) for error in ended] == [UnreadableFileError]
