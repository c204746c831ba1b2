"""Reading `http(s)` locations that a stranger named, without being turned against our own network.

Owns the download's bounds (size, time, redirects) and the address rules. Must not know what is fetched.
A worker fetches URLs that clients choose, so every connection, redirects included, is checked at the last
moment, on the address that is really connected to: a name that resolves differently the second time gains
nothing. Proxies from the environment, cookies and transparent decompression are off.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from cocoon_sdk.data.location import Location, LocationRefusedError, check_url
from cocoon_sdk.data.store import DEFAULT_MAX_BYTES, check_size
from cocoon_sdk.errors import ConfigError, HashMismatchError, MalformedError, ResultUnavailableError

DEFAULT_TIMEOUT_S: Final = 60.0
MAX_REDIRECTS: Final = 3
_MAX_CONNECTIONS: Final = 16
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.ip_network("64:ff9b:1::/48")
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class _ForbiddenAddressError(OSError):
    """Raised inside aiohttp's connector, which passes OSErrors on."""


class AddressPolicy:
    """Which addresses may be connected to: the public internet, and networks that were named on purpose.

    `private_networks` are CIDR texts such as "10.1.0.0/16". Raises `ConfigError` for anything else.
    """

    def __init__(self, private_networks: Iterable[str] = ()) -> None:
        try:
            self._allowed: list[_Network] = [ipaddress.ip_network(text) for text in private_networks]
        except ValueError as error:
            raise ConfigError("cannot read the allowed networks", why=str(error)) from None

    def permits(self, address: str) -> bool:
        """Tell whether a connection to this IP address (in text) is allowed."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return all(self._permits(each) for each in _with_embedded(ip))

    def _permits(self, ip: _Address) -> bool:
        if any(ip in network for network in self._allowed):
            return True
        return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip not in _NAT64_LOCAL


def _with_embedded(ip: _Address) -> list[_Address]:
    """Return the address that counts: tunnels and mappings end at the IPv4 address inside."""
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    if ip in _NAT64:
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    if ip.sixtofour is not None:
        return [ip, ip.sixtofour]
    if ip.teredo is not None:
        return [ip, *ip.teredo]
    return [ip]


class HttpSource:
    """Reads `http` and `https` locations; close it, or use it with `async with`.

    Limits: `max_bytes` of content, `timeout_s` seconds for the whole download, three redirects. Addresses
    that are not public are refused unless `private_networks` names their network.
    """

    def __init__(
        self,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        private_networks: Iterable[str] = (),
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._policy = AddressPolicy(private_networks)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, location: Location) -> bytes:
        """Return the checked content. See `DataSource.get`."""
        check_size(location.length, self._max_bytes)
        what = f"cannot fetch from {_origin(location.url)}"
        try:
            async with asyncio.timeout(self._timeout_s):
                return location.check(await self._follow(location))
        except TimeoutError:
            why = f"not complete within {self._timeout_s:g} s"
            raise ResultUnavailableError(what, why=why, hint="Try again later") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _ForbiddenAddressError):
                raise _refused(str(error.os_error)) from None
            raise ResultUnavailableError(what, why="cannot connect", hint="Try again later") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The name of the error only: its text may hold a signed URL.
            raise ResultUnavailableError(what, why=type(error).__name__, hint="Try again later") from None

    async def _follow(self, location: Location) -> bytes:
        url = location.url
        for _ in range(MAX_REDIRECTS + 1):
            _check_web(url)
            # encoded=True: a signed URL must reach the server as it was signed.
            request = self._connected().get(URL(url, encoded=True), allow_redirects=False)
            async with request as response:
                if response.status in _REDIRECTS:
                    target = urljoin(url, response.headers.get("Location", ""))
                    if url.startswith("https:") and target.startswith("http:"):
                        raise LocationRefusedError("refused a redirect", why="it leaves https")
                    url = target
                    continue
                return await _read_body(response, location)
        raise ResultUnavailableError("cannot fetch the data", why=f"more than {MAX_REDIRECTS} redirects")

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, socket_factory=self._guarded_socket),
                timeout=aiohttp.ClientTimeout(total=None),  # `get` bounds all hops together
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,  # a compressed answer could be a bomb
                trust_env=False,
            )
        return self._session

    def _guarded_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, target = info
        if not self._policy.permits(str(target[0])):
            raise _ForbiddenAddressError(f"{target[0]} is not a public address")
        return socket.socket(family=family, type=kind, proto=protocol)


async def _read_body(response: aiohttp.ClientResponse, location: Location) -> bytes:
    what = f"cannot fetch from {_origin(location.url)}"
    if response.status != 200:
        raise ResultUnavailableError(what, why=f"the server answers {response.status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ResultUnavailableError(what, why="the server compresses although it was asked not to")
    wrong = HashMismatchError("the content is not what its location promises", why="the length differs")
    if response.content_length not in (None, location.length):
        raise wrong
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > location.length:
            raise wrong
    return bytes(body)


def _check_web(url: str) -> None:
    try:
        scheme = check_url(url)
    except MalformedError as error:
        raise LocationRefusedError("refused a redirect", why=error.why) from None
    if scheme not in ("http", "https"):
        raise LocationRefusedError(f"refused a {scheme} location", why="only http and https are read here")


def _origin(url: str) -> str:
    """Return scheme and host only: paths and queries often hold access tokens."""
    return "/".join(url.split("/", 3)[:3])


def _refused(why: str) -> LocationRefusedError:
    hint = "If it is really yours, name its network in private_networks"
    return LocationRefusedError("refused to connect", why=why, hint=hint)
