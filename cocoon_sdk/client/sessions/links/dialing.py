"""Connecting to an endpoint that a stranger announced, without being turned against our own network.

Owns the HTTP client, the address rules and the WebSocket's bounds. Must not know what is said over it. Every
connection is checked on the address that is really connected to, as a name may resolve differently each time.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from yarl import URL

from cocoon_sdk.client.sessions.errors import EndpointRefusedError, WorkerLostError
from cocoon_sdk.crypto.channel import CHANNEL_OVERHEAD_BYTES, MAX_CHANNEL_MESSAGE_BYTES
from cocoon_sdk.data import AddressPolicy
from cocoon_sdk.protocol.session_wire import SESSION_PATH, SUBPROTOCOL

CONNECT_TIMEOUT_S: Final = 10.0
MAX_CONNECTIONS: Final = 256
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_MAX_MESSAGE: Final = MAX_CHANNEL_MESSAGE_BYTES + CHANNEL_OVERHEAD_BYTES
_CLOSE_S: Final = 1.0


class _ForbiddenAddressError(OSError):
    """Raised inside aiohttp's connector, which passes OSErrors on."""


def session_url(endpoint: str) -> str:
    """Return where an announced endpoint takes sessions. Raises `EndpointRefusedError`."""
    parts = urlsplit(endpoint)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise EndpointRefusedError("cannot reach the worker", why="its endpoint is no http(s) or ws(s) URL")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + SESSION_PATH, "", ""))


class Dialer:
    """Opens WebSockets to workers; close it when done."""

    def __init__(self, policy: AddressPolicy, *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._policy, self._timeout_s = policy, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def connect(self, endpoint: str) -> aiohttp.ClientWebSocketResponse:
        """Return an open WebSocket. Raises `EndpointRefusedError` or `WorkerLostError`."""
        url = session_url(endpoint)
        what = f"cannot reach the worker at {_origin(url)}"
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._connected().ws_connect(
                    URL(url, encoded=True),
                    protocols=(SUBPROTOCOL,),
                    max_msg_size=_MAX_MESSAGE,
                    compress=0,  # what is encrypted does not shrink
                    autoping=False,  # the link answers itself, and sees so that the worker lives
                    # Who the worker is comes from the chain: a certificate would add nothing to it.
                    ssl=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
                )
        except TimeoutError:
            raise WorkerLostError(what, why=f"no answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _ForbiddenAddressError):
                hint = "If it is really yours, name its network in private_networks"
                raise EndpointRefusedError(what, why=str(error.os_error), hint=hint) from None
            raise WorkerLostError(what, why="cannot connect") from None
        except aiohttp.WSServerHandshakeError as error:
            raise WorkerLostError(what, why=f"it serves no sessions there ({error.status})") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WorkerLostError(what, why=type(error).__name__) from None

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, socket_factory=self._guarded_socket),
                timeout=aiohttp.ClientTimeout(total=None),  # `connect` bounds everything together
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    def _guarded_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, target = info
        if not self._policy.permits(str(target[0])):
            raise _ForbiddenAddressError(f"{target[0]} is not a public address")
        return socket.socket(family=family, type=kind, proto=protocol)


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])
