"""The lines of an OpenAI event stream: bytes in, the JSON of each event out.

Owns the framing (`data: {...}`, blank lines, comments, `[DONE]`) and its bounds. JSON is not read here; in
these streams an event's data is always one line.
"""

from __future__ import annotations

from typing import Final

from cocoon_worker.engine.base import EngineAnswerError

MAX_EVENT_BYTES: Final = 1 << 20
_DONE: Final = b"[DONE]"


class EventLines:
    """Cuts a stream into events; `done` from the end mark on."""

    __slots__ = ("_rest", "done")

    def __init__(self) -> None:
        self._rest = b""
        self.done = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of every event that is complete with these bytes.

        Raises `EngineAnswerError` for an event beyond `MAX_EVENT_BYTES`.
        """
        alone = piece.startswith(b"data: {") and piece.endswith(b"\n\n") and not self._rest
        if alone and piece.find(b"\n") == len(piece) - 2:
            return [piece[6:-2]]
        lines = (self._rest + piece if self._rest else piece).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EngineAnswerError("the engine's answer cannot be used", why="an event is too long")
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == _DONE:
                    self.done = True
                    break
                events.append(data)
        return events
