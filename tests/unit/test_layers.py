"""Imports point down only: the rooms of the house and who may know whom.

Reads the sources (AST), so that an import inside a function or under TYPE_CHECKING counts too. A new room
has to be entered here before it can be merged.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = {"cocoon_sdk": ROOT / "cocoon_sdk", "cocoon_worker": ROOT / "worker" / "cocoon_worker"}

_GROUND: Final = ("cocoon_sdk.types", "cocoon_sdk.errors", "cocoon_sdk.clock")
_PURE: Final = (*_GROUND, "cocoon_sdk.protocol", "cocoon_sdk.crypto")
_READING: Final = (*_PURE, "cocoon_sdk.chain.base", "cocoon_sdk.contracts", "cocoon_sdk.history")
_SDK: Final = (
    *_READING,
    "cocoon_sdk.chain",
    "cocoon_sdk.data",
    "cocoon_sdk.storage",
    "cocoon_sdk.verify",
    "cocoon_sdk.explain",
    "cocoon_sdk.client",
)
_SESSIONS: Final = (
    *_READING,
    "cocoon_sdk.data",
    "cocoon_sdk.storage",
    "cocoon_sdk.client.discovery",
    "cocoon_sdk.client.sessions.bounds",
    "cocoon_sdk.client.sessions.errors",
    "cocoon_sdk.client.sessions.values",
    "cocoon_sdk.verify.commitment",
    "cocoon_sdk.verify.seeds",
)
_EVERYTHING: Final = ("cocoon_sdk", "cocoon_worker")


@dataclass(frozen=True)
class Room:
    """A module or package with what it may import of ours (itself is always allowed).

    A pure room does no I/O and knows no event loop and no wall clock; `files` names its modules that keep
    files all the same. A root chooses adapters and reads environment variables; `adapters` allows only the
    former.
    """

    name: str
    may_import: tuple[str, ...]
    pure: bool = False
    root: bool = False
    adapters: bool = False
    files: tuple[str, ...] = field(default=())


ROOMS: Final = (
    Room("cocoon_sdk.types", (), pure=True),
    Room("cocoon_sdk.errors", (), pure=True),
    Room("cocoon_sdk.clock", ()),
    Room("cocoon_sdk.logs", ()),
    Room("cocoon_sdk.settings_files", ("cocoon_sdk.errors",)),
    Room("cocoon_sdk.protocol", _PURE, pure=True),
    Room("cocoon_sdk.crypto", _PURE, pure=True, files=("cocoon_sdk.crypto.keyfiles",)),
    Room("cocoon_sdk.chain", _PURE),
    Room("cocoon_sdk.contracts", (*_PURE, "cocoon_sdk.chain.base", "cocoon_sdk.history")),
    Room("cocoon_sdk.history", (*_PURE, "cocoon_sdk.chain.base", "cocoon_sdk.contracts")),
    Room("cocoon_sdk.sandbox", (*_GROUND, "cocoon_sdk.chain")),
    Room("cocoon_sdk.data", _PURE),
    Room("cocoon_sdk.storage", _GROUND),
    Room("cocoon_sdk.verify", (*_READING, "cocoon_sdk.data")),
    Room("cocoon_sdk.explain", (*_READING, "cocoon_sdk.data")),
    Room("cocoon_sdk.client.connect", (*_READING, "cocoon_sdk.chain"), adapters=True),
    Room(
        "cocoon_sdk.client.sessions.funds",
        (*_SESSIONS, "cocoon_sdk.client.context", "cocoon_sdk.client.checks"),
    ),
    Room("cocoon_sdk.client.sessions.links", (*_SESSIONS, "cocoon_sdk.client.sessions.funds")),
    Room("cocoon_sdk.client.sessions.answers", (*_SESSIONS, "cocoon_sdk.client.sessions.links")),
    Room(
        "cocoon_sdk.client.auditing",
        (
            *_SESSIONS,
            "cocoon_sdk.verify",
            "cocoon_sdk.client.sessions.answers",
            "cocoon_sdk.client.sessions.funds.holders",
            "cocoon_sdk.client.errors",
            "cocoon_sdk.client.job_status",
        ),
    ),
    Room(
        "cocoon_sdk.client",
        (*_READING, "cocoon_sdk.data", "cocoon_sdk.storage", "cocoon_sdk.verify", "cocoon_sdk.explain"),
    ),
    Room("cocoon_sdk.gateway", _SDK),
    Room("cocoon_sdk.arbiter", _SDK),
    Room("cocoon_sdk.explorer", _SDK),
    Room("cocoon_sdk.demo", _EVERYTHING, root=True),
    Room("cocoon_sdk.cli", _EVERYTHING, root=True),
    Room("cocoon_worker.main", (*_SDK, "cocoon_sdk.logs", "cocoon_worker"), root=True),
    Room("cocoon_worker.config", (*_SDK, "cocoon_sdk.settings_files", "cocoon_worker"), root=True),
    Room("cocoon_worker", (*_SDK, "cocoon_worker")),
    Room("cocoon_sdk", _SDK),
)
ADAPTERS: Final = ("cocoon_sdk.chain.toncenter", "cocoon_sdk.chain.liteserver")
ENVIRONMENT_READERS: Final = {
    "cocoon_worker.engine.packaged_model": "finds the user's cache folder; sets up the process that converts",
    "cocoon_worker.engine.vllm": "hands its own environment on to the engine it starts",
}
IMPURE: Final = {
    "aiohttp",
    "asyncio",
    "http",
    "io",
    "pathlib",
    "random",
    "socket",
    "subprocess",
    "tempfile",
    "time",
}
PURE_OS_NAMES: Final = ("urandom",)


@dataclass(frozen=True)
class Source:
    """One module of ours and its syntax tree."""

    module: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


@dataclass(frozen=True)
class Import:
    """One imported module or `module.name`, with its line."""

    target: str
    line: int


def sources() -> Iterator[Source]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            names = parts[:-1] if parts[-1] == "__init__" else parts
            yield Source(".".join((package, *names)), path, ast.parse(path.read_text(encoding="utf-8")))


def imports(source: Source) -> Iterator[Import]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = source.module.split(".")
                here = parents[: len(parents) - node.level + (1 if source.is_package else 0)]
                base = ".".join((*here, base)) if base else ".".join(here)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno)


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def room_of(module: str) -> Room | None:
    """Return the room with the longest fitting name; a package's top level is its own `__init__` only."""
    fitting = [
        room
        for room in ROOMS
        if module == room.name or (room.name != "cocoon_sdk" and within(module, room.name))
    ]
    return max(fitting, key=lambda room: len(room.name), default=None)


def wrong_directions(source: Source) -> Iterator[str]:
    room = room_of(source.module)
    assert room is not None
    for found in imports(source):
        if found.target.partition(".")[0] not in PACKAGES:
            continue
        # `from cocoon_sdk import types` is judged by the full name of what it brings in.
        if not any(within(found.target, allowed) for allowed in (room.name, *room.may_import)):
            yield (
                f"{source.module} (line {found.line}) imports {found.target}: "
                f"the room {room.name} may know only {', '.join(room.may_import) or 'nothing of ours'}"
            )


def reads_environment(source: Source) -> Iterator[int]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"):
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in ("environ", "getenv"))


ALL: Final = tuple(sources())


def test_every_module_belongs_to_a_room() -> None:
    homeless = [source.module for source in ALL if room_of(source.module) is None]
    assert not homeless, f"enter these modules in ROOMS of {Path(__file__).name}: {', '.join(homeless)}"


@pytest.mark.parametrize("source", ALL, ids=lambda source: source.module)
def test_imports_point_down_only(source: Source) -> None:
    if room_of(source.module) is not None:
        assert not (found := list(wrong_directions(source))), "\n".join(found)


def impure_uses(source: Source) -> Iterator[tuple[int, str]]:
    """Yield imports that reach outside; of `os` a pure room may use the randomness only."""
    for found in imports(source):
        if found.target.partition(".")[0] in IMPURE:
            yield found.line, found.target
    for node in ast.walk(source.tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name not in PURE_OS_NAMES:
                yield node.lineno, f"os.{name}"


def test_pure_rooms_do_no_input_or_output() -> None:
    found = [
        f"{source.module} (line {line}) uses {name}: {room.name} does no I/O and reads no clock"
        for source in ALL
        if (room := room_of(source.module)) is not None and room.pure and source.module not in room.files
        for line, name in impure_uses(source)
    ]
    assert not found, "\n".join(found)


def test_only_composition_roots_choose_adapters() -> None:
    found = [
        f"{source.module} (line {line.line}) imports {line.target}: take a Chain as an argument instead"
        for source in ALL
        if (room := room_of(source.module)) is not None
        and not (room.root or room.adapters or room.name == "cocoon_sdk.chain")
        for line in imports(source)
        if any(within(line.target, adapter) for adapter in ADAPTERS)
    ]
    assert not found, "\n".join(found)


def test_only_composition_roots_read_environment_variables() -> None:
    found = [
        f"{source.module} (line {line}) reads the environment: take the setting as an argument instead"
        for source in ALL
        if (room := room_of(source.module)) is not None
        and not room.root
        and source.module not in ENVIRONMENT_READERS
        for line in reads_environment(source)
    ]
    assert not found, "\n".join(found)


def test_rooms_share_no_private_names() -> None:
    found = [
        f"{source.module} (line {line.line}) imports {line.target}: it is private to its room"
        for source in ALL
        if (room := room_of(source.module)) is not None
        for line in imports(source)
        if line.target.partition(".")[0] in PACKAGES
        and any(part.startswith("_") for part in line.target.split("."))
        and room_of(line.target.rpartition(".")[0]) is not room
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "text", "refused"),
    [
        ("cocoon_sdk.protocol.terms", "from cocoon_sdk.chain.base import Chain", True),
        ("cocoon_sdk.protocol.terms", "def f():\n    import cocoon_sdk.sandbox", True),
        ("cocoon_sdk.protocol.terms", "from cocoon_sdk import sandbox", True),
        ("cocoon_sdk.protocol.terms", "from ..sandbox import Blockchain", True),
        ("cocoon_sdk.protocol.terms", "from .models import HashHex", False),
        ("cocoon_sdk.history.lookup", "from cocoon_sdk.chain.toncenter import ToncenterChain", True),
        ("cocoon_sdk.history.lookup", "from cocoon_sdk.chain.base import Chain", False),
        ("cocoon_sdk.client.jobs", "import cocoon_worker.service", True),
        ("cocoon_sdk.cli.main", "import cocoon_worker.service", False),
    ],
)
def test_rule_sees_an_import_wherever_it_stands(module: str, text: str, refused: bool) -> None:
    source = Source(module, Path("module.py"), ast.parse(text))
    assert bool(list(wrong_directions(source))) is refused
