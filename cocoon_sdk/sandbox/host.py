"""`SandboxHost`: a node with everything that clients connect to, on loopback.

Owns starting and stopping the servers over one node, and what a tester has to know to reach them. Must not
know any contract, nor the command line.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.sandbox.liteserver.server import LiteServer
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.server import ToncenterServer

GLOBAL_CONFIG = "global-config.json"


class SandboxHost:
    """Serves a node over toncenter's API and over ADNL. Use it with `async with`; leaving ends the node too.

    Ports of 0 take free ones. With a `folder` the configuration for lite clients is written there. Entering
    raises `ConfigError` when a port cannot be had.
    """

    def __init__(self, node: Node, *, port: int = 0, adnl_port: int = 0, folder: Path | None = None) -> None:
        self.node = node
        self._toncenter = ToncenterServer(node, port=port)
        self._liteserver = LiteServer(node, port=adnl_port)
        self._port, self._folder = port, folder
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._closing.enter_async_context(self.node)
            try:
                await self._closing.enter_async_context(self._toncenter)
            except OSError as error:
                raise ConfigError(
                    f"cannot serve on port {self._port}",
                    why=error.strerror or str(error),
                    hint="choose another port, or 0 for any free one",
                ) from None
            await self._closing.enter_async_context(self._liteserver)
            if self.global_config_path is not None:
                self._liteserver.write_global_config(self.global_config_path)
        except BaseException:
            await self._closing.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    @property
    def endpoint(self) -> str:
        """URL of the toncenter API, as its clients take it."""
        return f"{self._toncenter.url}/api/v2"

    @property
    def port(self) -> int:
        """TCP port of the toncenter API."""
        return int(self._toncenter.url.rpartition(":")[2])

    @property
    def adnl(self) -> str:
        """Where the liteserver listens: host and port."""
        return f"{self._liteserver.host}:{self._liteserver.port}"

    @property
    def adnl_port(self) -> int:
        """TCP port of the liteserver."""
        return self._liteserver.port

    @property
    def global_config_path(self) -> Path | None:
        """The configuration file that lite clients take; None without a folder."""
        return None if self._folder is None else self._folder / GLOBAL_CONFIG

    @property
    def global_config(self) -> dict[str, Any]:
        """The same as a value."""
        return self._liteserver.global_config()

    @property
    def public_key(self) -> str:
        """The liteserver's key in base64, as lite clients take it."""
        return self._liteserver.key.public_base64

    def endpoints(self) -> dict[str, Any]:
        """Return all of this for people and machines."""
        path = self.global_config_path
        return {
            "endpoint": self.endpoint,
            "adnl": self.adnl,
            "adnl_key": self.public_key,
            "global_config": None if path is None else str(path),
        }
