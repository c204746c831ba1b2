"""How bytes that are too large for a message get from one side to the other.

Owns the two protocols, routing by scheme, and the rule that nobody sees content before its hash was
checked. Must not know what the bytes mean. Implementations: `web` (HTTP, reading only), `directory`
(local files) and `filesystems` (everything that fsspec reaches).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

from cocoon_sdk.data.location import DataRef, InlineData, Location, require_scheme
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.envelope import MAX_ENVELOPE_BYTES

DEFAULT_MAX_BYTES: Final = MAX_ENVELOPE_BYTES
"""What a store takes and gives at most: the largest payload or result."""


@runtime_checkable
class DataSource(Protocol):
    """A place to read from."""

    async def get(self, location: Location) -> bytes:
        """Return the content of `location`, already checked against its hash and length.

        Raises `ResultUnavailableError` (cannot be had), `HashMismatchError` (something else is there),
        `LocationRefusedError` (not allowed to go there) or `MalformedError` (larger than the limit).
        """
        ...


@runtime_checkable
class DataStore(DataSource, Protocol):
    """A place to write to as well."""

    async def put(self, data: bytes) -> Location:
        """Store `data` and return where. Raises `ResultUnavailableError` or `MalformedError` (too large)."""
        ...


class RoutingSource:
    """Sends each location to the source that serves its scheme; everything else is refused."""

    def __init__(self, sources: Mapping[str, DataSource]) -> None:
        self._sources = dict(sources)

    @property
    def schemes(self) -> frozenset[str]:
        """The schemes that are enabled."""
        return frozenset(self._sources)

    async def get(self, location: Location) -> bytes:
        """Return the checked content of `location`. Raises what `DataSource.get` raises."""
        require_scheme(location, self._sources)
        return location.check(await self._sources[location.scheme].get(location))


async def read_data(data: DataRef, source: DataSource) -> bytes:
    """Return the content, from the message itself or from `source`. Raises what `DataSource.get` raises."""
    return data.content if isinstance(data, InlineData) else await source.get(data)


def check_size(length: int, max_bytes: int) -> None:
    """Raise `MalformedError` when `length` exceeds what this side takes."""
    if length > max_bytes:
        raise MalformedError("the data is too large", why=f"{length} bytes exceed the limit of {max_bytes}")
