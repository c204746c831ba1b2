"""HTTP/1.1 to one upstream: kept connections, bounded answers, and nothing per token but what is needed.

Owns sockets, the reading of an answer's head and body, and the pool. Must not know what is asked. A body
that streams is handed on as it arrives, without a task or a parser object per piece: engines stream hundreds
of tokens a second for each of many requests, and this is the path of every one of them. Whoever leaves an
answer before its end closes its connection, which is how an engine learns to stop.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from types import TracebackType
from typing import Final, Self, cast
from urllib.parse import urlsplit

MAX_IDLE: Final = 128
"""Connections kept for later requests."""
_MAX_HEAD_BYTES: Final = 1 << 15
_MAX_UNREAD_BYTES: Final = 1 << 18
"""An answer that is read slower than it comes is not read further ahead than this."""
_CHUNK_SIZE: Final = re.compile(rb"\A[0-9a-fA-F]{1,8}\Z")
_STATUS: Final = re.compile(rb"\AHTTP/1\.[01] ([1-5][0-9]{2})(?: |\Z)")
_LENGTH: Final = re.compile(rb"\A[0-9]{1,15}\Z")
_IDLE, _HEAD, _LENGTHY, _CHUNK_LINE, _CHUNK_DATA, _TRAILER, _UNTIL_END = range(7)


class UpstreamError(Exception):
    """The exchange failed; the text names how, never what was sent."""


class UnreachableError(UpstreamError):
    """No connection: nothing was sent."""


class BrokenError(UpstreamError):
    """The connection ended too early. `answered`: after the first byte of the answer."""

    def __init__(self, why: str, *, answered: bool) -> None:
        super().__init__(why)
        self.answered = answered


class GarbledError(UpstreamError):
    """What came is no HTTP answer that is understood here."""


class TooLongError(UpstreamError):
    """The answer is longer than the caller takes."""


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.reusable = True
        self.status = 0
        self.answered = False
        self.complete = True
        self._head = b""
        self._pieces: list[bytes] = []
        self._unread = 0
        self._left = 0
        self._mode = _IDLE
        self._line = b""
        self._paused = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._mode == _IDLE:
            self.abort()  # nobody asked
            return
        self.answered = True
        try:
            self._take(data)
        except UpstreamError as error:
            self._fail(error)
        if self._unread > _MAX_UNREAD_BYTES and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.reusable = False
        if self._mode == _UNTIL_END and error is None:
            self._finish()
        elif not self.complete:
            why = type(error).__name__ if error is not None else "connection closed"
            self._fail(BrokenError(why, answered=self.answered))
        self._wake()

    # -- one exchange --------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def send(self, request: bytes) -> None:
        """Begin an exchange."""
        if self.transport is None:
            raise BrokenError("connection closed", answered=False)
        self._mode, self._head, self.status, self._error = _HEAD, b"", 0, None
        self.answered = self.complete = False
        self._pieces, self._unread = [], 0
        self.transport.write(request)

    async def head(self) -> int:
        """Wait for the answer's head; return its status."""
        while not self.status:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        return self.status

    async def read(self) -> bytes:
        """Return what has come of the body; empty at its end."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            self._waiter = self._loop.create_future()
            await self._waiter
        pieces, self._pieces, self._unread = self._pieces, [], 0
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def fail(self, error: UpstreamError) -> None:
        """End the exchange from outside, as a deadline does."""
        self._fail(error)
        self._wake()

    def abort(self) -> None:
        """Close at once; what is under way at the other end stops."""
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _fail(self, error: UpstreamError) -> None:
        self._error = self._error or error
        self.complete = True
        self.abort()

    def _finish(self) -> None:
        self.complete = True
        self._mode = _IDLE

    # -- reading -------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        if self._mode == _CHUNK_LINE and not self._line:
            data = self._take_whole_chunks(data)
        while data and not self.complete:
            if self._mode == _CHUNK_DATA:
                data = self._take_chunk(data)
            elif self._mode == _CHUNK_LINE:
                data = self._take_chunk_line(data)
            elif self._mode == _HEAD:
                data = self._take_head(data)
            elif self._mode == _TRAILER:
                data = self._take_trailer(data)
            else:
                data = self._take_plain(data)
        if data and self.complete:
            self.reusable = False  # more than was announced: the next answer would begin in the middle

    def _push(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._unread += len(piece)

    def _take_plain(self, data: bytes) -> bytes:
        if self._mode == _UNTIL_END:
            self._push(data)
            return b""
        piece, rest = data[: self._left], data[self._left :]
        self._push(piece)
        self._left -= len(piece)
        if not self._left:
            self._finish()
        return rest

    def _take_whole_chunks(self, data: bytes) -> bytes:
        """Take the chunks that are there whole, which is how a token arrives; the rest is for the others."""
        start = 0
        while (end := data.find(b"\r\n", start, start + 10)) > start:
            text = data[start:end]
            if not _CHUNK_SIZE.match(text) or not (size := int(text, 16)):
                break
            stop = end + 2 + size
            if stop + 2 > len(data):
                break
            self._push(data[end + 2 : stop])
            start = stop + 2
        return data[start:] if start else data

    def _take_chunk(self, data: bytes) -> bytes:
        # `_left` counts the line end behind the chunk too.
        size = self._left - 2
        if size > 0:
            self._push(data[:size] if len(data) > size else data)
        used = min(self._left, len(data))
        self._left -= used
        if not self._left:
            self._mode = _CHUNK_LINE
        return data[used:]

    def _take_chunk_line(self, data: bytes) -> bytes:
        line, rest = self._cut_line(data)
        if line is None:
            return b""
        text = line.partition(b";")[0].strip()
        if not _CHUNK_SIZE.match(text):
            raise GarbledError("a chunk has no size")
        size = int(text, 16)
        self._mode, self._left = (_CHUNK_DATA, size + 2) if size else (_TRAILER, 0)
        return rest

    def _take_trailer(self, data: bytes) -> bytes:
        line, rest = self._cut_line(data)
        if line == b"":
            self._finish()
        return rest

    def _cut_line(self, data: bytes) -> tuple[bytes | None, bytes]:
        end = data.find(b"\n")
        if end < 0:
            self._line += data
            line = None
        else:
            line, self._line = (self._line + data[:end]).rstrip(b"\r"), b""
        if len(self._line) > _MAX_HEAD_BYTES:
            raise GarbledError("a line is too long")
        return line, (b"" if end < 0 else data[end + 1 :])

    def _take_head(self, data: bytes) -> bytes:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if len(head) > _MAX_HEAD_BYTES:
            raise GarbledError("its head is too long")
        if not end:
            return b""
        self._head = b""
        lines = head.split(b"\r\n")
        found = _STATUS.match(lines[0])
        if found is None:
            raise GarbledError("it does not begin as an HTTP answer does")
        status = int(found[1])
        if status < 200:
            return rest  # "continue" and the like come before the answer
        self._read_fields(status, lines[1:])
        self.status = status
        return rest

    def _read_fields(self, status: int, lines: list[bytes]) -> None:
        length = coding = b""
        for line in lines:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip()
            if name == b"content-length":
                if not _LENGTH.match(value) or (length and length != value):
                    raise GarbledError("its length makes no sense")
                length = value
            elif name == b"transfer-encoding":
                coding = value.lower()
            elif name == b"connection" and value.lower() == b"close":
                self.reusable = False
            elif name == b"content-encoding" and value.lower() != b"identity":
                raise GarbledError("it is compressed, which was not asked for")
        if coding:
            if coding != b"chunked" or length:
                raise GarbledError("its framing is ambiguous")
            self._mode, self._line = _CHUNK_LINE, b""
        elif length and int(length):
            self._mode, self._left = _LENGTHY, int(length)
        elif length or status in (204, 304):
            self._finish()
        else:
            self._mode, self.reusable = _UNTIL_END, False


class Exchange:
    """An answer under way; leave it with `async with`. Before its end, that closes the connection."""

    def __init__(self, client: HttpClient, connection: _Connection) -> None:
        self._client, self._connection = client, connection
        self.status = connection.status

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client._take_back(self._connection)

    async def read(self) -> bytes:
        """Return the next bytes of the body, empty at its end. Raises `UpstreamError`."""
        return await self._connection.read()

    async def read_all(self, limit: int, *, cut: bool = False) -> bytes:
        """Return the whole body; beyond `limit` bytes it is cut, or raises `TooLongError`."""
        body = bytearray()
        while piece := await self._connection.read():
            body += piece
            if len(body) > limit:
                if cut:
                    break
                raise TooLongError(f"it is longer than {limit} bytes")
        return bytes(body[:limit])

    def expire(self, error: UpstreamError) -> None:
        """End it with this error, which the reader gets."""
        self._connection.fail(error)


class HttpClient:
    """Requests to the origin of `base_url`; `headers` are sent with each. Redirects are not followed."""

    def __init__(self, base_url: str, headers: dict[str, str], *, connect_timeout_s: float = 10.0) -> None:
        parts = urlsplit(base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeout_s = connect_timeout_s
        fields = {"Host": parts.netloc, "Accept-Encoding": "identity", **headers}
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._closed = False

    async def close(self) -> None:
        """Close every connection; exchanges under way end as broken."""
        self._closed = True
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()

    async def get(self, path: str) -> Exchange:
        """Send a request without a body; return when the answer's head is there."""
        return await self._exchange(f"GET {path} HTTP/1.1\r\n{self._fields}\r\n".encode("ascii"))

    async def post(self, path: str, body: bytes) -> Exchange:
        """Send JSON; return when the answer's head is there. Raises `UpstreamError`."""
        head = f"POST {path} HTTP/1.1\r\n{self._fields}Content-Type: application/json\r\n"
        return await self._exchange(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body)

    async def _exchange(self, request: bytes) -> Exchange:
        while True:
            kept = self._pick()
            connection = kept or await self._connect()
            self._busy.add(connection)
            try:
                connection.send(request)
                await connection.head()
            except BrokenError:
                self._take_back(connection)
                # A kept connection may have been closed at the other end while the request was on its way.
                if kept is not None and not connection.answered:
                    continue
                raise
            except BaseException:
                self._take_back(connection)
                raise
            return Exchange(self, connection)

    def _pick(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    async def _connect(self) -> _Connection:
        if self._closed:
            raise UnreachableError("the client was closed")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, connection = await loop.create_connection(
                    _Connection, self._host, self._port, ssl=self._ssl
                )
        except TimeoutError:
            raise UnreachableError("no connection in time") from None
        except (OSError, UnicodeError) as error:
            raise UnreachableError(type(error).__name__) from None
        return connection

    def _take_back(self, connection: _Connection) -> None:
        self._busy.discard(connection)
        whole = connection.complete and connection.reusable and connection.open
        if whole and not self._closed and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.abort()
