"""One client's TCP connection: handshake, pings, queries in fair turns, bounds.

Owns the life of a connection and its flow control. What a query means is the service's business.

Fairness: a connection works off a few packets, for a few milliseconds, per turn of the event loop, so that a
client that sends ten thousand queries at once gets its turn like every other. (Not just one packet: messages
that are sent together shall share a block.) Bounded memory: nothing is read while the receive buffer is full,
and no query is begun while the client leaves its answers unread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from cocoon_sdk.sandbox.liteserver.channel import Channel
from cocoon_sdk.sandbox.liteserver.errors import TlError, WireError
from cocoon_sdk.sandbox.liteserver.keys import HANDSHAKE_BYTES, ServerKey
from cocoon_sdk.sandbox.liteserver.limits import Limits
from cocoon_sdk.sandbox.liteserver.tl import lite_schema

_log = logging.getLogger(__name__)
_PING, _PONG = bytes.fromhex("9a2b084d"), bytes.fromhex("03fb69dc")
_PING_BYTES = 12
_TURN_PACKETS = 64
_TURN_S = 0.005


class Service(Protocol):
    """What answers queries."""

    def answer(self, peer: Connection, query: bytes) -> bytes | Coroutine[Any, Any, bytes]:
        """Return the serialised answer (or `liteServer.error`), or what gives it once it is known."""
        ...


class Connection(asyncio.Protocol):
    """The server's end of one client's connection."""

    def __init__(
        self, service: Service, key: ServerKey, limits: Limits, on_closed: Callable[[Connection], None]
    ) -> None:
        self._service = service
        self._key = key
        self._limits = limits
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._handshake = bytearray()
        self._channel: Channel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._turn_is_due = False
        self._writable = True
        self._reading = True
        self._last_heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._following: int | None = None
        self._caught_up: asyncio.Event = asyncio.Event()

    # -- life ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake's clock."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        self._last_heard = self._loop.time()
        self._timer = self._loop.call_later(self._limits.handshake_timeout_s, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop everything that was under way for this client."""
        self._transport = None
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._on_closed(self)

    def close(self) -> None:
        """Cut the connection; what was not sent yet is lost."""
        if self._transport is not None:
            self._transport.abort()

    def _check_idle(self) -> None:
        idle_s = self._limits.idle_timeout_s
        left_s = self._last_heard + idle_s - self._loop.time()
        if self._channel is None or left_s <= 0:
            self.close()
        else:
            self._timer = self._loop.call_later(left_s, self._check_idle)

    # -- reading ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client; packets are worked off in later turns."""
        self._last_heard = self._loop.time()
        if self._channel is None:
            self._handshake += data
            if len(self._handshake) < HANDSHAKE_BYTES:
                return
            data = self._greet()
        if self._channel is None:
            return
        self._channel.push(data)
        if self._channel.buffered >= self._limits.read_buffer_bytes and self._reading:
            self._reading = False
            self._live().pause_reading()
        self._schedule()

    def _greet(self) -> bytes:
        """Open the session and answer with an empty packet, as clients expect; return what came after."""
        received = bytes(self._handshake)
        self._handshake.clear()
        try:
            secret = self._key.open(received[:HANDSHAKE_BYTES])
        except WireError as error:
            self._refuse(error)
            return b""
        self._channel = Channel(secret, self._limits.max_frame_bytes)
        if self._timer is not None:
            self._timer.cancel()
        self._check_idle()
        self._send(b"")
        return received[HANDSHAKE_BYTES:]

    def _schedule(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Work off a few packets and queue up for the next turn."""
        self._turn_is_due = False
        channel = self._channel
        deadline = self._loop.time() + _TURN_S
        for _ in range(_TURN_PACKETS):
            if self._transport is None or channel is None or not self._may_begin():
                return
            try:
                payload = channel.pop()
                if payload is None:
                    if not self._reading:
                        self._reading = True
                        self._transport.resume_reading()
                    return
                self._take(payload)
            except (WireError, TlError) as error:
                self._refuse(error)
                return
            if self._loop.time() > deadline:
                break
        self._schedule()

    def _may_begin(self) -> bool:
        return self._writable and len(self._tasks) - self._waiting < self._limits.max_running

    def _take(self, payload: bytes) -> None:
        if not payload:  # keeps the connection alive
            return
        if len(payload) == _PING_BYTES and payload.startswith(_PING):
            self._send(_PONG + payload[len(_PING) :])
            return
        asked = lite_schema().decode_whole(payload, "adnl.message.query")
        answer = self._service.answer(self, asked["query"])
        if isinstance(answer, bytes):
            self._send_answer(asked["query_id"], answer)
        else:
            task = self._loop.create_task(self._finish(asked["query_id"], answer))
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    async def _finish(self, query_id: bytes, answer: Coroutine[Any, Any, bytes]) -> None:
        self._send_answer(query_id, await answer)

    def _send_answer(self, query_id: bytes, answer: bytes) -> None:
        self._send(lite_schema().encode("adnl.message.answer", query_id=query_id, answer=answer))

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("a query failed", exc_info=error)
            self.close()
        else:
            self._schedule()

    def _refuse(self, error: WireError | TlError) -> None:
        _log.info("closing a lite client's connection: %s", error)
        self.close()

    # -- writing ------------------------------------------------------------------------------------------

    def _live(self) -> asyncio.Transport:
        if self._transport is None:
            raise WireError("the client cannot be reached", why="its connection is closed")
        return self._transport

    def _send(self, payload: bytes) -> None:
        if self._transport is not None and self._channel is not None:
            self._transport.write(self._channel.seal(payload))

    def pause_writing(self) -> None:
        """Begin no query while the client leaves what it has unread."""
        self._writable = False
        self._write_timer = self._loop.call_later(self._limits.write_timeout_s, self.close)

    def resume_writing(self) -> None:
        """Go on once the client has read."""
        self._writable = True
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._schedule()

    # -- waiting ------------------------------------------------------------------------------------------

    @property
    def may_wait(self) -> bool:
        """Whether one more query may wait for a block."""
        return self._waiting < self._limits.max_waiting

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Hold a query back without taking a place among those that are worked on."""
        self._waiting += 1
        self._schedule()
        try:
            yield
        finally:
            self._waiting -= 1

    def follows(self, seqno: int) -> None:
        """Note that the client waits for every new masterchain block, and knows `seqno`."""
        self._following = seqno
        self._caught_up.set()

    def learned(self, seqno: int) -> None:
        """Note that the client, if it follows the chain, has shown to know a masterchain block."""
        if self._following is not None:
            self.follows(max(seqno, self._following))

    async def catch_up(self, seqno: int) -> None:
        """Wait until a client that follows the chain knows block `seqno`; bounded by `follow_s`.

        Clients such as pytoniq's read accounts at the newest block that a task of theirs has heard of. An
        answer to `sendMessage` that overtakes that task makes them read the state before their own message.
        The client's next question tells that it has heard: until then the answer is held back.
        """
        deadline = self._loop.time() + self._limits.follow_s
        while self._following is not None and self._following < seqno and self.may_wait:
            self._caught_up.clear()
            try:
                with self.waiting():
                    async with asyncio.timeout_at(deadline):
                        await self._caught_up.wait()
            except TimeoutError:
                self._following = None  # it stopped following: do not wait for it again
