"""Object stores and other file systems through fsspec (S3, GCS, Azure, IPFS, SFTP, ...), if it is installed.

Owns the translation to fsspec and the rule which URLs may be read. Must not know credentials: they come
from the operator's fsspec configuration or `options`, so a stranger's URL is read only under the
prefixes that the operator listed.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cocoon_sdk.data.location import Location, LocationRefusedError, check_url
from cocoon_sdk.data.store import DEFAULT_MAX_BYTES, check_size
from cocoon_sdk.errors import ConfigError, ResultUnavailableError
from cocoon_sdk.protocol.hashing import sha256

DEFAULT_TIMEOUT_S: Final = 120.0
_ELSEWHERE: Final = {
    "file": "DirectoryStore",
    "local": "DirectoryStore",
    "http": "HttpSource",
    "https": "HttpSource",
}


class FsspecStore:
    """Writes below `prefix` (such as `s3://bucket/cocoon`) and reads below it and below `readable` prefixes.

    `options` go to the file system's constructor. Raises `ConfigError` when fsspec, or its driver for the
    scheme, is not installed, or the scheme has a guarded store of its own.
    """

    def __init__(
        self,
        prefix: str,
        *,
        readable: Iterable[str] = (),
        options: Mapping[str, Any] | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        scheme = check_url(prefix)
        if scheme in _ELSEWHERE:
            raise ConfigError(f"fsspec is not used for {scheme} URLs", hint=f"Use {_ELSEWHERE[scheme]}")
        self._prefix = _folder(prefix)
        self._readable = (self._prefix, *(_folder(each) for each in readable))
        if any(check_url(each) != scheme for each in self._readable):
            raise ConfigError(
                "one store serves one scheme", hint="Route the other scheme to a store of its own"
            )
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._files = _filesystem(scheme, dict(options or {}))

    async def put(self, data: bytes) -> Location:
        """Store `data` under its hash. See `DataStore.put`."""
        check_size(len(data), self._max_bytes)
        location = Location.of(f"{self._prefix}{sha256(data).hex()}.bin", data)
        await self._run("cannot store the data", self._write, location.url, data)
        return location

    async def get(self, location: Location) -> bytes:
        """Return the checked content. See `DataSource.get`."""
        check_size(location.length, self._max_bytes)
        # "::" chains file systems in fsspec, ".." climbs: neither may lead out of the prefix.
        plain = "::" not in location.url and ".." not in location.url.split("/")
        if not (plain and location.url.startswith(self._readable)):
            raise LocationRefusedError(
                f"refused a {location.scheme} location", why="it is not below a readable prefix of this store"
            )
        data = await self._run("cannot read the stored data", self._read, location.url, location.length)
        return location.check(data)

    def _write(self, url: str, data: bytes) -> bytes:
        with self._files.open(url, "wb") as file:
            file.write(data)
        return data

    def _read(self, url: str, length: int) -> bytes:
        with self._files.open(url, "rb") as file:
            return bytes(file.read(length + 1))

    async def _run(self, what: str, call: Any, *arguments: Any) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                return bytes(await asyncio.to_thread(call, *arguments))
        except TimeoutError:
            why = f"not complete within {self._timeout_s:g} s"
            raise ResultUnavailableError(what, why=why, hint="Try again later") from None
        except Exception as error:
            # Every driver has exceptions of its own; their texts may hold credentials.
            raise ResultUnavailableError(what, why=type(error).__name__) from None


def _folder(prefix: str) -> str:
    return prefix if prefix.endswith("/") else prefix + "/"


def _filesystem(scheme: str, options: dict[str, Any]) -> Any:
    try:
        return importlib.import_module("fsspec").filesystem(scheme, **options)
    except ModuleNotFoundError:
        hint = "Run: pip install fsspec (for S3: pip install s3fs, for GCS: gcsfs, for Azure: adlfs)"
        raise ConfigError(f"cannot use {scheme} URLs", why="fsspec is not installed", hint=hint) from None
    except ImportError as error:
        raise ConfigError(f"cannot use {scheme} URLs", why=str(error), hint="Install that driver") from None
    except ValueError:
        raise ConfigError(f"cannot use {scheme} URLs", why="fsspec knows no such scheme") from None
