"""A local directory as a data store, for one machine or a shared file system: `file://` locations.

Owns the layout (one file per content, named by its SHA-256). Must be enabled on purpose: a process that
reads `file://` locations from strangers without it would read its own disk for them. Only files that this
store could have written are ever opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path

from cocoon_sdk.data.location import Location, LocationRefusedError
from cocoon_sdk.data.store import DEFAULT_MAX_BYTES, check_size
from cocoon_sdk.errors import ConfigError, ResultUnavailableError
from cocoon_sdk.protocol.hashing import sha256
from cocoon_sdk.types import Hash


class DirectoryStore:
    """Stores content under `root`, an existing directory. Raises `ConfigError` when it is not one."""

    def __init__(self, root: str | os.PathLike[str], *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._root = Path(root).resolve()
        self._max_bytes = max_bytes
        if not self._root.is_dir():
            raise ConfigError(f"{self._root} is not a directory", hint="Create it, or choose another one")

    async def put(self, data: bytes) -> Location:
        """Store `data`; storing the same bytes again is harmless. See `DataStore.put`."""
        check_size(len(data), self._max_bytes)
        path = self._path(sha256(data))
        location = Location.of(path.as_uri(), data)
        await asyncio.to_thread(self._write, path, data)
        return location

    async def get(self, location: Location) -> bytes:
        """Return the checked content. See `DataSource.get`."""
        check_size(location.length, self._max_bytes)
        path = self._path(location.sha256)
        if location.url != path.as_uri():
            raise LocationRefusedError(
                "refused to read a local file",
                why="it is not a file of this store",
                hint="Both sides must use the same directory",
            )
        return location.check(await asyncio.to_thread(self._read, path, location.length))

    def _path(self, digest: Hash) -> Path:
        return self._root / f"{digest.hex()}.bin"

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # a reader sees the whole content or none
        except OSError as error:
            raise ResultUnavailableError("cannot store the data", why=error.strerror or "") from None
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _read(self, path: Path, length: int) -> bytes:
        try:
            with open(path, "rb", opener=_open_plain) as file:
                return file.read(length + 1)
        except OSError as error:
            raise ResultUnavailableError("cannot read the stored data", why=error.strerror or "") from None


def _open_plain(path: str, flags: int) -> int:
    # Neither a symbolic link out of the store nor a FIFO that blocks for ever.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
