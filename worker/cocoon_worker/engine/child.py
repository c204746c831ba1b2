"""A guarded child process and its log: start, watch, end, with nothing left behind.

Owns the process handle, the process group and the bounded log. Must not know what the child computes.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cocoon_sdk.errors import EngineUnavailableError
from cocoon_worker.engine import guard

_ANSI = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")
_CHUNK_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 12
_TAIL_LINES = 40
_TAIL_LINE_CHARS = 300
_HARD_STOP_S = 15.0
_PUMP_S = 5.0


class ChildLog:
    """What a child prints: a file of at most `max_bytes`, one older such file, the last lines in memory."""

    def __init__(self, path: Path, *, max_bytes: int = 8 << 20) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._partial = b""
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Open the file for appending, readable by its owner only: prompts may end up in it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "ab", 0)

    def close(self) -> None:
        """Close the file; the tail stays readable."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, data: bytes) -> None:
        """Append what the child printed. A full disk loses log lines, never the engine."""
        with suppress(OSError):
            self._write_file(data)
        *lines, rest = (self._partial + data).replace(b"\r", b"\n").split(b"\n")
        self._partial = rest[-_MAX_LINE_BYTES:]
        for line in lines:
            text = _ANSI.sub(b"", line[:_MAX_LINE_BYTES]).decode("utf-8", "replace").strip()
            if text:
                self._tail.append(text[:_TAIL_LINE_CHARS])

    def _write_file(self, data: bytes) -> None:
        if self._file is None:
            return
        if self._file.tell() + len(data) > self._max_bytes:
            self.close()
            self.path.replace(self.path.with_suffix(self.path.suffix + ".1"))
            self.open()
        self._file.write(data)

    def tail(self, lines: int = 12) -> str:
        """Return the last lines, for an error message."""
        return "\n".join(list(self._tail)[-lines:])

    def recent(self) -> tuple[str, ...]:
        """Return every line still in memory, oldest first."""
        return tuple(self._tail)

    def forget(self) -> None:
        """Drop the lines in memory, before the next child starts."""
        self._tail.clear()
        self._partial = b""


class _Output:
    """The reading end of a pipe on the event loop."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self.reader = reader
        self._transport = transport

    @classmethod
    async def open(cls) -> tuple[_Output, int]:
        """Return the reading end, and the descriptor to write to, which is the caller's to close."""
        read_fd, write_fd = os.pipe()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        pipe = os.fdopen(read_fd, "rb", 0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        return cls(reader, transport), write_fd

    def close(self) -> None:
        self._transport.close()


class GuardedChild:
    """One run of a command under `guard`; made by `launch`."""

    def __init__(
        self, process: asyncio.subprocess.Process, output: _Output, log: ChildLog, grace_s: float
    ) -> None:
        self._process = process
        self._output = output
        self._log = log
        self._grace_s = grace_s
        self._group: int | None = None
        self._pump_task = asyncio.create_task(self._pump(), name="engine-log")

    @classmethod
    async def launch(
        cls, command: Sequence[str], *, env: Mapping[str, str], log: ChildLog, grace_s: float
    ) -> GuardedChild:
        """Start `command` in its own process group. Raises `EngineUnavailableError` if that is impossible."""
        # The output pipe is our own: asyncio's `wait` would not return before every process that holds the
        # pipe is gone, and a killed guard leaves some that do.
        output, write_fd = await _Output.open()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", guard.__file__, str(grace_s), *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=write_fd,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is for the worker, which ends us in order
                env=dict(env),
            )
        except BaseException as error:
            output.close()
            if isinstance(error, OSError):
                raise EngineUnavailableError(
                    "the engine's process cannot be started", why=str(error)
                ) from error
            raise
        finally:
            os.close(write_fd)
        return cls(process, output, log, grace_s)

    @property
    def group(self) -> int | None:
        """Process group of the command, once announced."""
        return self._group

    @property
    def running(self) -> bool:
        """Whether the command has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for the end of the whole group; return the exit code (128 + n after signal n)."""
        code = await self._process.wait()
        if code < 0:  # the guard itself was killed, before it could end the group
            self._kill_group()
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(TimeoutError):  # a process that left the group may hold the pipe open for ever
            await asyncio.wait_for(asyncio.shield(self._pump_task), _PUMP_S)
        self._pump_task.cancel()
        self._output.close()
        return 128 - code if code < 0 else code

    async def stop(self) -> None:
        """End the command: SIGTERM, after the grace SIGKILL for its whole group."""
        if self.running and self._process.stdin is not None:
            self._process.stdin.close()  # the guard's signal to end the group
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), self._grace_s + _HARD_STOP_S)
        except TimeoutError:
            self._kill_group()
            with suppress(ProcessLookupError):
                self._process.kill()
        await self.wait()

    def _kill_group(self) -> None:
        if self._group is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)

    async def _pump(self) -> None:
        """Move output to the log until every process of the group has closed it."""
        stdout = self._output.reader
        first = await stdout.readline()  # written at once, and far below the stream's line limit
        if first.startswith(guard.ANNOUNCEMENT):
            self._group = int(first.removeprefix(guard.ANNOUNCEMENT))
        else:  # the guard could not even start the command: what it said is the reason
            self._log.write(first)
        while data := await stdout.read(_CHUNK_BYTES):
            self._log.write(data)
