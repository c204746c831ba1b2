"""One client's WebSocket with its channel: frames in, frames out, many of them in one message.

Owns sealing, the outbox and its bounds. Must not know what frames mean. What becomes ready in the same turn
of the event loop, or within a millisecond of the last message, leaves together: one encoding, one seal, one
write. What somebody waits for, such as the first piece of an answer, is not kept that millisecond.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import WSMsgType, web

from cocoon_sdk.crypto.channel import Channel
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.session_wire import (
    MAX_FRAMES,
    ClientFrame,
    Delta,
    Leaving,
    Proof,
    WorkerFrame,
    encode_frames,
    read_client_frames,
)

MAX_OUTBOX_BYTES: Final = 1 << 20
"""What may wait to be sent before the engine's streams are read more slowly."""
_GAP_S: Final = 0.001
_END_S: Final = 2.0
_FRAME_BYTES: Final = 256
"""What a frame counts for besides its data."""
_HAVE_DATA: Final = (Delta, Proof)
_BATCH_BYTES: Final = 1 << 20
_GOING_AWAY: Final = 1001


class Connection:
    """Give it frames with `send`; read with `receive`."""

    def __init__(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport | None, channel: Channel
    ) -> None:
        self._socket, self._transport, self._channel = socket, transport, channel
        self.before_write: Callable[[], None] | None = None
        """Called before each message leaves."""
        self._loop = asyncio.get_running_loop()
        self._frames: list[WorkerFrame] = []
        self._bytes = 0
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Event | None = None
        self._ending = self._hurry = False
        self._last = 0.0
        self.sending_since = 0.0
        """Since when a message is being written; 0: none is."""
        self.heard_at = self._loop.time()
        self._writer = self._loop.create_task(self._write(), name="session-writer")

    # -- out -----------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether more waits to be sent than should."""
        return self._bytes > MAX_OUTBOX_BYTES

    def send(self, frame: WorkerFrame, *, now: bool = False) -> None:
        """Put a frame into the outbox, which leaves soon or `now`; after `end` it is dropped."""
        if self._ending:
            return
        self._hurry = self._hurry or now
        self._frames.append(frame)
        self._bytes += _FRAME_BYTES + (len(frame.data) if isinstance(frame, _HAVE_DATA) else 0)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def room(self) -> None:
        """Wait until the outbox is not full."""
        while self.full and not self._ending:
            if self._room is None:
                self._room = asyncio.Event()
            await self._room.wait()

    def leave(self, why: str) -> None:
        """Tell the client that nothing new is taken."""
        self.send(Leaving(why))

    async def end(self, last: WorkerFrame | None = None) -> None:
        """Send what is in the outbox and a last frame, and close. Safe to call again."""
        if last is not None:
            self.send(last)
        self._stop_taking()
        await asyncio.wait({self._writer}, timeout=_END_S)
        if not self._writer.done():
            self.abort()  # nobody reads it
        await self._socket.close(code=_GOING_AWAY if isinstance(last, Leaving) else 1000)

    def abort(self) -> None:
        """Drop the connection at once."""
        self._stop_taking()
        self._writer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _stop_taking(self) -> None:
        self._ending = True
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        if self._room is not None:
            self._room.set()

    async def _write(self) -> None:
        try:
            while self._frames or not self._ending:
                if not self._frames:
                    self._wake = self._loop.create_future()
                    await self._wake
                elif (
                    not (self._ending or self._hurry)
                    and (left := self._last + _GAP_S - self._loop.time()) > 0
                ):
                    await asyncio.sleep(left)
                else:
                    await self._write_one()
        except (ConnectionError, asyncio.CancelledError):
            pass  # whoever reads learns of it
        finally:
            self._stop_taking()
            self._frames.clear()

    async def _write_one(self) -> None:
        if self.before_write is not None:
            self.before_write()
        batch, size = self._frames, self._bytes
        self._hurry = False
        if len(batch) > MAX_FRAMES or size > _BATCH_BYTES:
            batch, size = self._cut(batch)
        self._frames = self._frames[len(batch) :]
        self._bytes -= size
        self._last = self.sending_since = self._loop.time()
        await self._socket.send_bytes(self._channel.seal(encode_frames(batch)))
        self.sending_since = 0.0
        if self._room is not None and not self.full:
            self._room.set()
            self._room = None

    def _cut(self, frames: list[WorkerFrame]) -> tuple[list[WorkerFrame], int]:
        size = 0
        for count, frame in enumerate(frames):
            more = _FRAME_BYTES + (len(frame.data) if isinstance(frame, _HAVE_DATA) else 0)
            if count and (count >= MAX_FRAMES or size + more > _BATCH_BYTES):
                return frames[:count], size
            size += more
        return frames, size

    # -- in ------------------------------------------------------------------------------------------------

    async def receive(self) -> list[ClientFrame] | None:
        """Return the frames of the next message; None when the connection has ended.

        Raises `DecryptionError` or `MalformedError` for anything but a sealed message of frames.
        """
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY:
            self.heard_at = self._loop.time()
            return read_client_frames(self._channel.open(message.data))
        if message.type is WSMsgType.TEXT:
            raise MalformedError("cannot read the message", why="it is text")
        return None
