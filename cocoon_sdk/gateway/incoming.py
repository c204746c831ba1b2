"""What comes from a client: its key, its address, its body, each within bounds.

Owns the checks before a request is understood. Must not know what is asked. Without keys the gateway spends
its owner's money for anybody on this machine, so two things that a web page in a browser can do are refused:
sending what is not declared as JSON (which a browser asks permission for), and using a name of its own that
it lets point here.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from cocoon_sdk.gateway.config import GatewayConfig
from cocoon_sdk.gateway.errors import (
    BadRequestError,
    BodyTimeoutError,
    BodyTooLargeError,
    ContentTypeError,
    HostRefusedError,
)
from cocoon_sdk.gateway.keys import ApiKey, KeyRing

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Incoming:
    """Reads requests of one gateway."""

    def __init__(self, keys: KeyRing, config: GatewayConfig) -> None:
        self._keys, self._config = keys, config
        self._hosts = _LOCAL_NAMES | {_host(config.host), *(_host(name) for name in config.allowed_hosts)}

    async def key(self, request: web.Request) -> ApiKey | None:
        """Return the request's key, None where none is needed.

        Raises `MissingKeyError`, `WrongKeyError`, `HostRefusedError`, `StorageError`.
        """
        key = await self._keys.authenticate(request.headers.get("Authorization"))
        if key is None and not self.names_this_machine(request):
            raise HostRefusedError(
                "this gateway has another name",
                why="without API keys it answers only to names of this machine",
                hint="Make a key (`cocoon gateway keys add`), or set allowed_hosts",
            )
        return key

    def names_this_machine(self, request: web.Request) -> bool:
        """Tell whether a request was sent to one of the names that need no key."""
        return _host(request.host) in self._hosts

    async def body(self, request: web.Request) -> bytes:
        """Return the whole body.

        Raises `ContentTypeError`, `BodyTooLargeError`, `BodyTimeoutError`, `BadRequestError` for one that
        breaks off or cannot be unpacked.
        """
        if request.content_type != "application/json":
            raise ContentTypeError(
                "the body is not declared as JSON", hint="Send the header `Content-Type: application/json`"
            )
        length = request.content_length
        if length is not None and length > self._config.max_body_bytes:
            raise self._too_large()
        try:
            if request.content.is_eof():  # all of it came with the head: nothing to wait for
                return await request.read()
            async with asyncio.timeout(self._config.body_timeout_s):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise self._too_large() from None
        except TimeoutError:
            raise BodyTimeoutError(
                "the body did not arrive", why=f"{self._config.body_timeout_s:g} s were given"
            ) from None
        except web.RequestPayloadError:
            why = "it broke off, or is not packed as it says"
            raise BadRequestError("the body cannot be read", why=why) from None

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            "the body is too large",
            why=f"at most {self._config.max_body_bytes} bytes are taken",
            hint="Shorten the conversation, or open a job for it (`cocoon job create`)",
        )


def _host(text: str) -> str:
    """Return the name in a Host header, without its port."""
    if text.startswith("["):
        return text[1:].partition("]")[0].lower()
    return text.lower() if text.count(":") > 1 else text.partition(":")[0].lower()
