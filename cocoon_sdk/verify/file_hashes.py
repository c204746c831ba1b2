"""Hashing large files, and remembering their hashes while they stay as they are.

Owns `FileHasher` and the form of its memory, a JSON file. Must not know what the files are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from cocoon_sdk.errors import CocoonError

FileProgress: TypeAlias = Callable[[str, int], None]
"""Called on the way with the name of the file and how many of its bytes came just now."""

T = TypeVar("T")

_CHUNK_BYTES: Final = 4 << 20
_MAX_MEMORY_BYTES: Final = 8 << 20
_MAX_REMEMBERED: Final = 16_384
_VERSION: Final = 1
_HEX: Final = frozenset("0123456789abcdef")


class UnreadableFileError(CocoonError):
    """A file cannot be read, is no regular file, or changes while it is read."""


@dataclass(frozen=True, slots=True)
class FileHash:
    """Size in bytes and SHA-256 in hexadecimal."""

    size: int
    sha256: str


class FileHasher:
    """Hashes files. With `memory`, what has the same path, size, times and inode is not read again.

    The time of the last change of the inode is compared too: unlike the modification time, no program sets
    it back. `fresh` reads everything anew and replaces what was remembered.
    """

    def __init__(self, memory: Path | None = None, *, fresh: bool = False) -> None:
        self._memory = memory
        self._known: dict[str, list[Any]] = {} if memory is None or fresh else _load(memory)
        self._seen: dict[str, list[Any]] = {}

    def hash(self, path: Path, progress: FileProgress = lambda name, count: None) -> FileHash:
        """Return size and hash of a regular file. Raises `UnreadableFileError`."""
        what = f"cannot read {path}"
        try:
            # Not blocking: somebody may have put a named pipe where a file should be.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
                before = os.fstat(file.fileno())
                if not stat.S_ISREG(before.st_mode):
                    raise UnreadableFileError(what, why="it is no regular file")
                key, state = str(path), _state(before)
                known = self._known.get(key)
                if known is not None and known[:-1] == state:
                    progress(path.name, before.st_size)
                    digest: str = known[-1]
                else:
                    digest = _read(file, path.name, progress)
                    if _state(os.fstat(file.fileno())) != state:
                        raise UnreadableFileError(
                            what, why="it changed while it was read", hint="Wait until it is written"
                        )
                self._seen[key] = [*state, digest]
                return FileHash(before.st_size, digest)
        except OSError as error:
            raise UnreadableFileError(what, why=error.strerror or type(error).__name__) from None

    def save(self) -> None:
        """Write the memory, if there is one: what was hashed by this object and nothing else.

        Not being able to write it costs the next start some time, and is no error.
        """
        if self._memory is None or self._seen == self._known:
            return
        scratch = self._memory.with_name(f".{self._memory.name}.{os.getpid()}")
        document = {"v": _VERSION, "files": dict(sorted(self._seen.items()))}
        with contextlib.suppress(OSError):
            scratch.write_text(json.dumps(document, indent=1), encoding="utf-8")
            scratch.replace(self._memory)


def total_bytes(paths: Iterable[Path]) -> int:
    """Return the sum of sizes, for a progress bar; what cannot be read counts nothing."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


async def in_thread(
    work: Callable[[FileProgress], T], progress: FileProgress = lambda name, count: None
) -> T:
    """Run work that hashes in a thread; cancelling ends it at its next report of progress."""
    stopped = threading.Event()

    def tell(name: str, count: int) -> None:
        if stopped.is_set():
            raise UnreadableFileError(f"cannot read {name}", why="hashing was stopped")
        progress(name, count)

    try:
        return await asyncio.to_thread(work, tell)
    finally:
        stopped.set()


def _state(found: os.stat_result) -> list[Any]:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


def _read(file: Any, name: str, progress: FileProgress) -> str:
    digest, buffer = hashlib.sha256(), bytearray(_CHUNK_BYTES)
    while count := file.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
        progress(name, count)
    return digest.hexdigest()


def _load(memory: Path) -> dict[str, list[Any]]:
    """Return what is remembered; nothing when there is no memory or it cannot be understood."""
    try:
        with memory.open("rb") as file:
            text = file.read(_MAX_MEMORY_BYTES + 1)
        document = json.loads(text) if len(text) <= _MAX_MEMORY_BYTES else {}
        files = document["files"] if document["v"] == _VERSION else {}
        if not isinstance(files, dict) or len(files) > _MAX_REMEMBERED:
            return {}
        return {path: state for path, state in files.items() if _is_entry(state)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _is_entry(state: Any) -> bool:
    if not isinstance(state, list) or len(state) != 6 or not isinstance(state[-1], str):
        return False
    return all(type(each) is int for each in state[:-1]) and len(state[-1]) == 64 and set(state[-1]) <= _HEX
