"""What goes to a client: JSON bodies and server-sent events, to readers that keep up.

Owns headers, writing, and leaving a client that does not read. Must not know what is written.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import lru_cache
from typing import Final

from aiohttp import web
from pytoniq_core import Address

from cocoon_sdk.client.sessions import Bill
from cocoon_sdk.gateway.errors import Refusal

JSON: Final = "application/json"
REQUEST_ID_HEADER: Final = "x-request-id"
request_id: Final[ContextVar[str]] = ContextVar("request_id")
"""Names the request that the running task serves, in answers and logs."""
_KEEPS_UP_BYTES: Final = 16 * 1024
"""Below this many unsent bytes the connection takes more at once, and no timer is needed."""
_EVENT_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back otherwise
}


class ClientGoneError(ConnectionError):
    """The client left, or does not read what it asked for; nobody is there to be told."""


def json_response(body: bytes, bill: Bill | None = None, *, status: int = 200) -> web.Response:
    """Return a JSON answer, with its cost in the headers where something was paid."""
    headers = {"Content-Type": JSON, "Cache-Control": "no-store"}
    if bill is not None:
        headers["x-cocoon-cost-nano-ton"] = str(int(bill.cost))
        if bill.worker is not None:
            headers["x-cocoon-worker"] = _shown(bill.worker.wc, bill.worker.hash_part)
    return web.Response(body=body, status=status, headers=headers)


def refusal_response(refused: Refusal) -> web.Response:
    """Return OpenAI's error body with the right status."""
    response = json_response(refused.body(), status=refused.status)
    response.headers.update(refused.headers())
    return response


@lru_cache(maxsize=1024)
def _shown(workchain: int, account: bytes) -> str:
    """Return an address as text: its checksum costs more than the rest of an answer."""
    return str(Address((workchain, account)).to_str())


class EventWriter:
    """Writes one stream of events. `lost` tells that the client is gone."""

    __slots__ = ("_request", "_timeout_s", "lost", "response")

    def __init__(self, request: web.Request, timeout_s: float) -> None:
        self._request, self._timeout_s = request, timeout_s
        self.response: web.StreamResponse | None = None
        self.lost = False

    async def open(self, first: bytes) -> None:
        """Send the headers, and what comes before the first event. Raises `ClientGoneError`."""
        self.response = web.StreamResponse(headers=_EVENT_HEADERS)
        await self.response.prepare(self._request)
        if first:
            await self.write(first)

    async def write(self, data: bytes) -> None:
        """Send some bytes. Raises `ClientGoneError`, also when the client has not read for too long."""
        response, transport = self.response, self._request.transport
        if response is None or transport is None or transport.is_closing():
            raise self._gone()
        try:
            if transport.get_write_buffer_size() < _KEEPS_UP_BYTES:
                await response.write(data)
            else:
                async with asyncio.timeout(self._timeout_s):
                    await response.write(data)
        except TimeoutError:
            transport.abort()
            raise self._gone() from None
        except ConnectionError:
            raise self._gone() from None

    async def close(self, last: bytes) -> web.StreamResponse:
        """Send the last bytes and end the stream, in one piece. Raises `ClientGoneError`."""
        response, transport = self.response, self._request.transport
        assert response is not None
        try:
            if transport is not None and transport.get_write_buffer_size() < _KEEPS_UP_BYTES:
                await response.write_eof(last)
            else:
                async with asyncio.timeout(self._timeout_s):
                    await response.write_eof(last)
        except (TimeoutError, ConnectionError):
            if transport is not None:
                transport.abort()
            raise self._gone() from None
        return response

    def _gone(self) -> ClientGoneError:
        self.lost = True
        return ClientGoneError("the client left")
