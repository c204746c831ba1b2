"""Model manifests: which files, in which number format and on which engine, a model's name stands for.

Owns the manifest's form, its hash and the comparison of two lists of files. Pure: reading folders is
`cocoon_sdk.verify.model_files`. Must not know the registry, workers or engines. The hash of a manifest is the
model id: the registry lists the model under it, terms and commitments name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from cocoon_sdk.errors import HashMismatchError, MalformedError
from cocoon_sdk.protocol.canonical import MAX_SAFE_INTEGER, canonical_bytes, parse_json
from cocoon_sdk.protocol.hashing import sha256
from cocoon_sdk.types import Hash

MANIFEST_VERSION: Final = 1
SAMPLER_VERSION: Final = 1
"""Version of the replayable sampler: its order of steps and its noise."""
MAX_MANIFEST_BYTES: Final = 2 << 20
MAX_FILES: Final = 4096
MAX_PATH_BYTES: Final = 255
MAX_TEXT_BYTES: Final = 127
"""Of a name, dtype, engine or quantisation: what a model's name in the registry may have."""
_MAX_FACTS: Final = 32
_MAX_FACT_ITEMS: Final = 16
_SHOWN: Final = 20
_HEX: Final = re.compile(r"\A[0-9a-f]{64}\Z")
_FACT_NAME: Final = re.compile(r"\A[a-z][a-z0-9_]{0,63}\Z")
_WHAT: Final = "cannot read a model manifest"

Fact: TypeAlias = int | bool | str | tuple[str, ...]
"""One value of a model's configuration that tells people what it is."""


@dataclass(frozen=True, slots=True, order=True)
class ModelFile:
    """One file: path relative to the model's folder with `/`, size in bytes, SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        check_path(self.path)
        if not _is_count(self.size) or not isinstance(self.sha256, str) or not _HEX.match(self.sha256):
            raise MalformedError(_WHAT, why=f"size or hash of {self.path} makes no sense")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """A model, to the bit. Values are checked: raises `MalformedError`.

    `dtype` is the number format that the model is served in where the hardware has it. `sampler` is the
    version of the replayable sampler, `engine` the engine that calibration was made with, `quantization` the
    method that the configuration names (None: full weights). An engine without files has none to list.
    """

    name: str
    dtype: str
    engine: str
    files: tuple[ModelFile, ...] = ()
    architecture: Mapping[str, Fact] = field(default_factory=dict)
    quantization: str | None = None
    sampler: int = SAMPLER_VERSION

    def __post_init__(self) -> None:
        for name in ("name", "dtype", "engine"):
            _check_text(name, getattr(self, name))
        if self.quantization is not None:
            _check_text("quantization", self.quantization)
        if not _is_count(self.sampler):
            raise MalformedError(_WHAT, why="the sampler's version is no number")
        if len(self.files) > MAX_FILES:
            raise MalformedError(_WHAT, why=f"more than {MAX_FILES} files")
        paths = [file.path for file in self.files]
        if paths != sorted(set(paths)):
            raise MalformedError(_WHAT, why="the files are not in order, or one is listed twice")
        _check_facts(self.architecture)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, whose canonical bytes are hashed."""
        facts = {key: list(v) if isinstance(v, tuple) else v for key, v in self.architecture.items()}
        return {
            "v": MANIFEST_VERSION,
            "name": self.name,
            "architecture": facts,
            "dtype": self.dtype,
            "engine": self.engine,
            "sampler": self.sampler,
            "quantization": self.quantization,
            "files": [file.to_json() for file in self.files],
        }

    def to_bytes(self) -> bytes:
        """Return the canonical form (RFC 8785)."""
        return canonical_bytes(self.to_json(), max_bytes=MAX_MANIFEST_BYTES)

    @property
    def digest(self) -> Hash:
        """SHA-256 of the canonical form: the manifest hash, which is the model id."""
        return sha256(self.to_bytes())

    @classmethod
    def from_json(cls, value: Any) -> ModelManifest:
        """Read the JSON form. Raises `MalformedError` for anything else, unknown fields included."""
        fields = _fields(value, ("v", *cls.__slots__))
        if fields.pop("v") != MANIFEST_VERSION or isinstance(value["v"], bool):
            raise MalformedError(
                _WHAT, why=f"its version is not {MANIFEST_VERSION}", hint="Update this program"
            )
        files, facts = fields.pop("files"), fields.pop("architecture")
        if not isinstance(files, list) or len(files) > MAX_FILES or not isinstance(facts, dict):
            raise MalformedError(_WHAT, why=f"it has no list of at most {MAX_FILES} files, or no facts")
        return cls(
            files=tuple(ModelFile(**_fields(file, ModelFile.__slots__)) for file in files),
            architecture={key: tuple(v) if isinstance(v, list) else v for key, v in facts.items()},
            **fields,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelManifest:
        """Read JSON text, canonical or not: the hash is that of its canonical form."""
        return cls.from_json(parse_json(data, max_bytes=MAX_MANIFEST_BYTES))


class Problem(StrEnum):
    """How a file on disk differs from the manifest."""

    MISSING = "missing"
    ADDED = "not in the manifest"
    SIZE = "other size"
    CONTENT = "other content"


@dataclass(frozen=True, slots=True)
class Difference:
    """One file that differs; `detail` tells expected and found."""

    path: str
    problem: Problem
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" + (f" ({self.detail})" if self.detail else "")


class ModelDiffersError(HashMismatchError):
    """The files of a model are not those that its manifest names; `differences` lists them."""

    def __init__(self, what: str, differences: Sequence[Difference], *, hint: str = "") -> None:
        shown = [str(each) for each in differences[:_SHOWN]]
        if len(differences) > _SHOWN:
            shown.append(f"and {len(differences) - _SHOWN} more")
        super().__init__(what, why="; ".join(shown), hint=hint)
        self.differences = tuple(differences)


def compare_files(expected: Iterable[ModelFile], found: Iterable[ModelFile]) -> tuple[Difference, ...]:
    """Return what differs, by path; nothing when both are the same files with the same content."""
    wanted = {file.path: file for file in expected}
    there = {file.path: file for file in found}
    differences = []
    for path in sorted(wanted.keys() | there.keys()):
        want, have = wanted.get(path), there.get(path)
        if have is None:
            differences.append(Difference(path, Problem.MISSING))
        elif want is None:
            differences.append(Difference(path, Problem.ADDED))
        elif want.size != have.size:
            detail = f"{have.size} bytes instead of {want.size}"
            differences.append(Difference(path, Problem.SIZE, detail))
        elif want.sha256 != have.sha256:
            detail = f"SHA-256 {have.sha256[:16]}... instead of {want.sha256[:16]}..."
            differences.append(Difference(path, Problem.CONTENT, detail))
    return tuple(differences)


def check_path(path: Any) -> None:
    """Raise `MalformedError` unless `path` names a file below a folder in one way only."""
    if (
        not isinstance(path, str)
        or not path.isprintable()
        or "\\" in path
        or not 0 < len(path.encode("utf-8", "replace")) <= MAX_PATH_BYTES
        or any(part in ("", ".", "..") for part in path.split("/"))
    ):
        shown = path[:100] if isinstance(path, str) else type(path).__name__
        raise MalformedError(_WHAT, why=f"{shown!r} is not a path inside the model's folder")


def _fields(value: Any, names: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise MalformedError(_WHAT, why="its fields are not those of a manifest")
    return dict(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SAFE_INTEGER


def _check_text(name: str, value: Any) -> None:
    if (
        not isinstance(value, str)
        or not value.isprintable()
        or not 0 < len(value.encode("utf-8", "replace")) <= MAX_TEXT_BYTES
    ):
        raise MalformedError(_WHAT, why=f"{name} is not a text of 1 to {MAX_TEXT_BYTES} bytes")


def _check_facts(facts: Mapping[str, Any]) -> None:
    if len(facts) > _MAX_FACTS:
        raise MalformedError(_WHAT, why=f"more than {_MAX_FACTS} facts about the architecture")
    for name, value in facts.items():
        if not isinstance(name, str) or not _FACT_NAME.match(name):
            raise MalformedError(_WHAT, why="a fact about the architecture has no name")
        if isinstance(value, tuple) and len(value) <= _MAX_FACT_ITEMS:
            for item in value:
                _check_text(name, item)
        elif isinstance(value, str):
            _check_text(name, value)
        elif not isinstance(value, bool) and not _is_count(value):
            raise MalformedError(_WHAT, why=f"{name} is neither number, text nor a list of texts")
