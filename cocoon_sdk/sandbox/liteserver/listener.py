"""The listening socket and the set of connections.

Owns who may connect. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.sandbox.liteserver.connection import Connection, Service
from cocoon_sdk.sandbox.liteserver.keys import ServerKey
from cocoon_sdk.sandbox.liteserver.limits import Limits

LOOPBACK = "127.0.0.1"
_BACKLOG = 512


class Listener:
    """An ADNL-TCP endpoint whose queries `service` answers; `port` 0 takes a free one."""

    def __init__(
        self,
        service: Service,
        key: ServerKey,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        limits: Limits | None = None,
    ) -> None:
        self.service = service
        self.key = key
        self.host = host
        self.limits = limits or Limits()
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    @property
    def port(self) -> int:
        """The port it listens on; 0 before `start` when any free one was asked for."""
        return self._port

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen. Raises `ConfigError` when the port cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accept, self.host, self._port, backlog=_BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"the liteserver cannot listen on {self.host}:{self._port}",
                why=str(error),
                hint="choose another port, or 0 for any free one",
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is not None:
            self._server.close()
            for connection in tuple(self._connections):
                connection.close()
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _accept(self) -> asyncio.BaseProtocol:
        if len(self._connections) >= self.limits.max_connections:
            return _Full()
        connection = Connection(self.service, self.key, self.limits, self._connections.discard)
        self._connections.add(connection)
        return connection


class _Full(asyncio.Protocol):
    """What a client gets that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
