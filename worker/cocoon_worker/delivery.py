"""Where payloads are read from and result bytes are put.

Owns the routing by scheme and the choice between inline and by reference. Must not know jobs.
"""

from __future__ import annotations

from typing import Final

from cocoon_sdk.data import (
    DataRef,
    DataSource,
    DataStore,
    DirectoryStore,
    FsspecStore,
    HttpSource,
    InlineData,
    Location,
    RoutingSource,
)
from cocoon_worker.config import DataConfig, InlinePolicy

DATA_PATH: Final = "/v1/data/"


class Delivery:
    """The data side of one worker; close it."""

    def __init__(self, config: DataConfig, public_url: str | None) -> None:
        self._config, self._public_url = config, public_url
        self._web = HttpSource(
            max_bytes=config.max_payload_bytes,
            timeout_s=config.payload_timeout_s,
            private_networks=config.private_networks,
        )
        sources: dict[str, DataSource] = {"http": self._web, "https": self._web}
        self._store: DataStore | None = None
        if config.directory is not None:
            directory = DirectoryStore(config.directory)
            sources["file"] = self._store = directory
        if config.result_store is not None:
            remote = FsspecStore(config.result_store)
            sources[config.result_store.partition(":")[0]] = self._store = remote
        self.source = RoutingSource(sources)

    @property
    def schemes(self) -> frozenset[str]:
        """The schemes that payload locations may have."""
        return self.source.schemes

    def can_carry(self, length: int) -> bool:
        """Tell whether a result of so many bytes can be delivered on the chain path."""
        return self._fits(length) or self._store is not None or self._public_url is not None

    async def place(self, data: bytes) -> DataRef:
        """Return how a result travels, after storing it where that is needed.

        Raises `ResultUnavailableError` when the store fails.
        """
        if self._fits(len(data)):
            return InlineData(data)
        if self._store is not None:
            return await self._store.put(data)
        location = Location.of(f"{self._public_url}{DATA_PATH}", data)
        return Location(location.url + location.sha256.hex(), location.sha256, location.length)

    def _fits(self, length: int) -> bool:
        return self._config.inline is InlinePolicy.AUTO and length <= self._config.max_inline_bytes

    async def close(self) -> None:
        """Close connections."""
        await self._web.close()
