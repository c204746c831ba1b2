"""A load generator for HTTP servers that costs little itself: keep-alive connections, one request at a time.

`python -m tests.bench.load URL --connections N --seconds S [--stream] [--key KEY]` prints one line of JSON.
Every answer is read whole and has to be 200; anything else ends the run, since a refusal is cheap to serve.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, cast
from urllib.parse import urlsplit

import uvloop

_COUNT: Final = b'"completion_tokens":'
_END_OF_CHUNKS: Final = b"0\r\n\r\n"


@dataclass(slots=True)
class Tally:
    """What a run saw. Times in seconds."""

    until: float
    answers: int = 0
    tokens: int = 0
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    failure: str = ""


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, tally: Tally, ended: asyncio.Future[None]) -> None:
        self._request, self._tally, self._ended = request, tally, ended
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._sent = 0.0
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._tally.failure = self._tally.failure or f"the connection was closed ({error})"
            self._ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._first and b"data: " in self._buffer:
            self._first = time.perf_counter() - self._sent
        if self._complete():
            tally = self._tally
            now = time.perf_counter()
            if not self._buffer.startswith(b"HTTP/1.1 200"):
                tally.failure = bytes(self._buffer[:400]).decode("utf-8", "replace")
                self._stop()
                return
            tally.answers += 1
            tally.tokens += _tokens(self._buffer)
            tally.first.append(self._first or now - self._sent)
            tally.whole.append(now - self._sent)
            self._buffer.clear()
            if now >= tally.until or tally.failure:
                self._stop()
            else:
                self._next()

    def _complete(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end]).lower()
        if b"transfer-encoding: chunked" in head:
            return len(self._buffer) > end + 4 and self._buffer.endswith(_END_OF_CHUNKS)
        at = head.find(b"content-length:")
        return len(self._buffer) >= end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])

    def _next(self) -> None:
        assert self._transport is not None
        self._sent, self._first = time.perf_counter(), 0.0
        self._transport.write(self._request)

    def _stop(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        assert self._transport is not None
        self._transport.close()


def _tokens(answer: bytearray) -> int:
    """Return how many tokens the last usage of an answer counts."""
    at = answer.rfind(_COUNT)
    if at < 0:
        return 0
    digits = bytes(answer[at + len(_COUNT) : at + len(_COUNT) + 12]).split(b",", 1)[0].split(b"}", 1)[0]
    return int(digits)


def request_bytes(url: str, model: str, *, stream: bool, key: str, tokens: int = 16) -> bytes:
    """Return one chat completion request as it goes over the wire."""
    parts = urlsplit(url)
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "Say sixteen words about silkworms, please."}],
        "max_tokens": tokens,
        "stream": stream,
        "temperature": 0,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    raw = json.dumps(body).encode()
    head = (
        f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


async def load(url: str, request: bytes, *, connections: int, seconds: float) -> Tally:
    """Send the request again and again over `connections`, for `seconds`."""
    loop = asyncio.get_running_loop()
    tally = Tally(time.perf_counter() + seconds)
    parts = urlsplit(url)
    ends = []
    for _ in range(connections):
        ended: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(
            lambda ended=ended: _Connection(request, tally, ended),  # type: ignore[misc]
            parts.hostname,
            parts.port,
        )
        ends.append(ended)
    await asyncio.gather(*ends)
    return tally


def main() -> None:
    """Run once and print what was seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--key", default="none")
    given = parser.parse_args()
    request = request_bytes(given.url, given.model, stream=given.stream, key=given.key, tokens=given.tokens)
    start = time.perf_counter()
    tally = uvloop.run(load(given.url, request, connections=given.connections, seconds=given.seconds))
    took = time.perf_counter() - start
    if tally.failure or not tally.answers:
        raise SystemExit(f"the run failed: {tally.failure or 'no answer'}")
    print(
        json.dumps(
            {
                "answers": tally.answers,
                "per_s": tally.answers / took,
                "tokens": tally.tokens,
                "tokens_per_s": tally.tokens / took,
                "first_ms": median(tally.first) * 1000,
                "whole_ms": median(tally.whole) * 1000,
                "seconds": took,
            }
        )
    )


if __name__ == "__main__":
    main()
