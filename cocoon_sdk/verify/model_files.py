"""The files of a model on disk: which ones decide what an engine computes, and their manifest.

Owns the choice of files, what is read out of the configuration, and the refusal of folders that are not
whole. Must not know workers, engines' command lines or the registry. A folder of the Hugging Face cache is
followed through its links into `blobs`; any other path that leaves the folder is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from cocoon_sdk.errors import CocoonError, MalformedError
from cocoon_sdk.verify.file_hashes import FileHasher, FileProgress
from cocoon_sdk.verify.manifest import (
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    Difference,
    Fact,
    ModelFile,
    ModelManifest,
    check_path,
    compare_files,
)

DEFAULT_ENGINE: Final = "vllm"
CONFIG: Final = "config.json"
GENERATION: Final = "generation_config.json"
_PLAIN: Final = (
    *(CONFIG, GENERATION, "params.json", "*.py"),
    *("quantize_config.json", "quant_config.json", "hf_quant_config.json"),
    *("preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model*", "*.tiktoken", "tekken.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("spiece.model", "sentencepiece*.model", "chat_template.jinja", "chat_template.json"),
)
_TEMPLATES: Final = "additional_chat_templates"
_CLOCK: Final = b"strftime_now"
"""The function by which chat templates read the clock."""
_WEIGHTS: Final = (  # an engine takes the first kind that is there: suffix, index of its shards
    (".safetensors", "model.safetensors.index.json"),
    (".bin", "pytorch_model.bin.index.json"),
    (".gguf", ""),
)
_NO_WEIGHTS: Final = frozenset({"training_args.bin", "optimizer.bin"})
_MAX_ENTRIES: Final = 20_000
MAX_CONFIG_BYTES: Final = 4 << 20
_MAX_INDEX_BYTES: Final = 64 << 20
_POINTER: Final = b"version https://git-lfs"
_MAX_POINTER_BYTES: Final = 1024
_FACTS: Final = (
    "architectures",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_experts",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_local_experts",
    "sliding_window",
    "tie_word_embeddings",
    "vocab_size",
)


class ModelFolderError(CocoonError):
    """A folder is not a model whose files can be listed."""


class MissingWeightsError(ModelFolderError):
    """A folder holds no weights, or not all that its index names."""


class EscapingPathError(ModelFolderError):
    """A file of a model, or a name in its index, leads out of the model's folder."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk: its files as path in the manifest -> path on disk, and its configuration."""

    path: Path
    files: Mapping[str, Path]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return `owner/name` inside a Hugging Face cache, else the folder's name."""
        repository = self.path.parent.parent.name
        if self.path.parent.name == "snapshots" and repository.startswith("models--"):
            return repository.removeprefix("models--").replace("--", "/")
        return self.path.name

    @property
    def architecture(self) -> dict[str, Fact]:
        """What the configuration says of the model's shape; of a composed model, of its language part."""
        inner = self.config.get("text_config")
        merged = {**(inner if isinstance(inner, dict) else {}), **self.config}
        facts: dict[str, Fact] = {}
        for name in _FACTS:
            value = merged.get(name)
            if isinstance(value, list) and all(isinstance(each, str) for each in value):
                facts[name] = tuple(value)
            elif isinstance(value, str) or (isinstance(value, int) and value >= 0):
                facts[name] = value
        return facts

    @property
    def dtype(self) -> str | None:
        """The number format that the configuration names."""
        inner = self.config.get("text_config")
        for part in (self.config, inner if isinstance(inner, dict) else {}):
            for name in ("dtype", "torch_dtype"):
                if isinstance(part.get(name), str):
                    return str(part[name]).removeprefix("torch.")
        return None

    @property
    def quantization(self) -> str | None:
        """The quantisation method that the configuration names, with its bits where it tells them."""
        section = self.config.get("quantization_config")
        if not isinstance(section, dict):
            return None
        bits = section.get("bits", section.get("weight_bits"))
        method = str(section.get("quant_method", "unknown"))[:64]
        return f"{method}-{bits}bit" if isinstance(bits, int) else method

    @property
    def has_chat_template(self) -> bool:
        """Whether the model says how a conversation becomes a prompt."""
        if {"chat_template.jinja", "chat_template.json"} & self.files.keys():
            return True
        tokenizer = self.files.get("tokenizer_config.json")
        return tokenizer is not None and "chat_template" in _json(tokenizer, MAX_CONFIG_BYTES, str(self.path))

    @property
    def reads_clock(self) -> bool:
        """Whether a chat template puts the date into prompts: then nobody can make the same prompt again."""
        return any(
            _CLOCK in _bytes(path, MAX_CONFIG_BYTES, str(self.path))
            for name, path in self.files.items()
            if name.endswith(".jinja") or name in ("chat_template.json", "tokenizer_config.json")
        )

    @property
    def end_tokens(self) -> frozenset[int] | None:
        """The tokens that end an answer, by generation and model configuration; None where neither tells."""
        generation = self.files.get(GENERATION)
        told = {} if generation is None else _json(generation, MAX_CONFIG_BYTES, str(self.path))
        return end_tokens_of((told, self.config))


def end_tokens_of(configs: Iterable[Mapping[str, Any]]) -> frozenset[int] | None:
    """Return the tokens that end an answer, by any of these configurations; None where none tells."""
    found: set[int] = set()
    for config in configs:
        value = config.get("eos_token_id")
        found |= {each for each in (value if isinstance(value, list) else [value]) if type(each) is int}
    return frozenset(found) or None


def open_model(path: Path) -> ModelFolder:
    """Find the files of the model in a folder, without hashing them.

    Raises `ModelFolderError` when there is no such folder or no configuration, `MissingWeightsError` and
    `EscapingPathError`.
    """
    what = f"cannot list the model in {path}"
    try:
        root = path.resolve(strict=True)
        names = _names(root, what)
        inner = _names(root / _TEMPLATES, what) if _TEMPLATES in names else set()
    except OSError as error:
        hint = "Name the folder that holds config.json, not a file in it"
        raise ModelFolderError(what, why=error.strerror or type(error).__name__, hint=hint) from None
    chosen = [name for name in names if any(fnmatchcase(name, each) for each in _PLAIN)]
    chosen += [f"{_TEMPLATES}/{name}" for name in inner if name.endswith(".jinja")]
    weights, index = _weights(root, names, what)
    files = {name: _inside(root, name, what) for name in sorted({*chosen, *weights, *index})}
    if len(files) > MAX_FILES:
        raise ModelFolderError(what, why=f"it has more than {MAX_FILES} files")
    if CONFIG not in files:
        raise ModelFolderError(what, why=f"it has no {CONFIG}", hint="Name the folder that the engine loads")
    for name in weights:
        _refuse_pointer(files[name], name, what)
    config = _json(files[CONFIG], MAX_CONFIG_BYTES, what)
    return ModelFolder(root, files, config)


def hash_model(
    folder: ModelFolder, hasher: FileHasher, progress: FileProgress = lambda name, count: None
) -> tuple[ModelFile, ...]:
    """Hash all files of a model, in the manifest's order. Raises `UnreadableFileError`."""
    files = []
    for name, path in sorted(folder.files.items()):
        found = hasher.hash(path, progress)
        files.append(ModelFile(name, found.size, found.sha256))
    return tuple(files)


def manifest_of(
    folder: ModelFolder,
    files: Iterable[ModelFile],
    *,
    name: str | None = None,
    dtype: str | None = None,
    engine: str = DEFAULT_ENGINE,
) -> ModelManifest:
    """Return the manifest of a model whose files were hashed; what is not given comes from the folder.

    Raises `ModelFolderError` when no number format is given and the configuration names none.
    """
    chosen = dtype or folder.dtype
    if chosen is None:
        why = "its configuration names no number format"
        raise ModelFolderError(f"cannot describe the model in {folder.path}", why=why, hint="Pass the dtype")
    return ModelManifest(
        name=name or folder.name,
        dtype=chosen,
        engine=engine,
        files=tuple(files),
        architecture=folder.architecture,
        quantization=folder.quantization,
    )


def check_model(
    path: Path,
    manifest: ModelManifest,
    hasher: FileHasher,
    progress: FileProgress = lambda name, count: None,
) -> tuple[Difference, ...]:
    """Return what differs between a folder and a manifest, file by file; nothing when all is the same.

    Files that an engine would load and the manifest does not name count. Raises what `open_model` and
    `hash_model` raise, but for weights that are missing: those are differences.
    """
    try:
        folder = open_model(path)
    except MissingWeightsError:
        found = _listed(path.resolve(), manifest)
    else:
        found = {**_listed(folder.path, manifest), **folder.files}
    hashed = hash_model(ModelFolder(path, found, {}), hasher, progress)
    return compare_files(manifest.files, hashed)


def read_manifest(path: Path) -> ModelManifest:
    """Read a manifest from a file. Raises `MalformedError` naming the file."""
    what = f"cannot read the model manifest {path}"
    try:
        with path.open("rb") as file:
            return ModelManifest.from_bytes(file.read(MAX_MANIFEST_BYTES + 1))
    except OSError as error:
        raise MalformedError(what, why=error.strerror or type(error).__name__) from None
    except MalformedError as error:
        raise MalformedError(what, why=error.why or error.what, hint=error.hint) from None


def _listed(root: Path, manifest: ModelManifest) -> dict[str, Path]:
    """Return those files of a manifest that are there, whether or not an engine would choose them."""
    what = f"cannot list the model in {root}"
    return {
        file.path: _inside(root, file.path, what)
        for file in manifest.files
        if os.path.lexists(root / file.path)
    }


def _names(folder: Path, what: str) -> set[str]:
    names: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            names.add(entry.name)
            if len(names) > _MAX_ENTRIES:
                raise ModelFolderError(what, why=f"it has more than {_MAX_ENTRIES} entries")
    return names


def _weights(root: Path, names: set[str], what: str) -> tuple[list[str], list[str]]:
    """Return the names of the weight files and of their index, if there is one."""
    for suffix, index in _WEIGHTS:
        if index in names:
            shards = _shards(_inside(root, index, what), what)
            absent = [shard for shard in shards if not os.path.exists(root / shard)]
            if absent:
                shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
                hint = "Download the rest of the model"
                raise MissingWeightsError(what, why=f"{index} names {shown}, not there", hint=hint)
            return shards, [index]
        found = [name for name in names if name.endswith(suffix) and name not in _NO_WEIGHTS]
        if found:
            return found, []
    kinds = ", ".join(suffix for suffix, _ in _WEIGHTS)
    raise MissingWeightsError(what, why=f"it has no weights ({kinds})", hint="Download the model first")


def _shards(index: Path, what: str) -> list[str]:
    places = _json(index, _MAX_INDEX_BYTES, what).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise MissingWeightsError(what, why=f"{index.name} names no weights")
    for shard in places.values():
        try:
            check_path(shard)
        except MalformedError as error:
            raise EscapingPathError(what, why=f"{index.name}: {error.why}") from None
    return sorted(set(places.values()))


def _inside(root: Path, name: str, what: str) -> Path:
    """Return where a file really lies. Raises `EscapingPathError`, `ModelFolderError` when it is no file."""
    try:
        real = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):
        raise ModelFolderError(what, why=f"{name} is a link to nothing, or cannot be read") from None
    if not real.is_file():  # reading a named pipe would never end
        raise ModelFolderError(what, why=f"{name} is no regular file")
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    if not any(real.is_relative_to(each) for each in allowed):
        raise EscapingPathError(
            what, why=f"{name} leads out of the folder", hint="Copy the file into the folder"
        )
    return real


def _refuse_pointer(path: Path, name: str, what: str) -> None:
    """Refuse what Git LFS leaves in place of a large file that was not downloaded."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_POINTER_BYTES:
                return
            start = file.read(len(_POINTER))
    except OSError as error:
        raise ModelFolderError(what, why=f"{name}: {error.strerror}") from None
    if start == _POINTER:
        raise MissingWeightsError(what, why=f"{name} is a Git LFS pointer", hint="Run `git lfs pull` there")


def _bytes(path: Path, most: int, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(most + 1)
    except OSError as error:
        raise ModelFolderError(what, why=f"{path.name}: {error.strerror}") from None
    if len(text) > most:
        raise ModelFolderError(what, why=f"{path.name} exceeds {most} bytes")
    return text


def _json(path: Path, most: int, what: str) -> dict[str, Any]:
    try:
        value = json.loads(_bytes(path, most, what))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ModelFolderError(what, why=f"{path.name} is not JSON")
    return value
