"""A sandbox's folder: private, and one process's at a time.

Owns making and locking it, and small private files in it. Must not know what the files mean.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cocoon_sdk.sandbox.storage.errors import FolderBusyError, StorageCorruptError, StorageError

_LOCK = "lock"
_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700
_MAX_DOCUMENT_BYTES = 1 << 20


class SandboxFolder:
    """A folder that this process has for itself until it is closed or dies. Use it with `with`.

    Raises `FolderBusyError` while another process has it, `StorageError` when it cannot be made or locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._lock: int | None = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            # The lock goes with the process, however that ends: nothing stale is ever left behind.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise FolderBusyError(
                f"the sandbox in {path} cannot be started",
                why="another process runs it",
                hint="look with `cocoon sandbox status`, or choose another folder",
            ) from None

    def close(self) -> None:
        """Give the folder up."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_claimed(path: Path) -> bool:
    """Tell whether some process has the folder now."""
    try:
        lock = os.open(path / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def write_document(path: Path, document: Any) -> None:
    """Write a JSON document that only its owner may read, in place of an older one: all of it or nothing."""
    write_private_text(path, json.dumps(document, indent=2) + "\n")


def write_private_text(path: Path, text: str) -> None:
    """Write a text that only its owner may read, in place of an older one: all of it or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _PRIVATE_FILE)
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, _PRIVATE_FILE)  # whatever the umask said
            file.write(text)
        draft.replace(path)
    except OSError as error:
        raise _unusable(path, error) from None


def read_document(path: Path) -> Any:
    """Read a private JSON document; None when there is none.

    Raises `StorageCorruptError` when it is no JSON, `StorageError` when others may have written it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from None
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise StorageError(
                f"cannot use {path}",
                why="it is not a private file of yours",
                hint="remove it, or run chmod 600 on it if you trust what it says",
            )
        content = file.read(_MAX_DOCUMENT_BYTES)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise StorageCorruptError(f"cannot read {path}", why="it is not JSON", hint="remove it") from None


def _unusable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot use {path}", why=error.strerror or str(error), hint="choose another folder with --folder"
    )
