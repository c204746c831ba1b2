"""A labelled stand-in for an inference server: answers at once with a fixed text, streamed or not.

It costs as little as possible, so that what is measured is what stands in front of it. Speaks just enough of
the OpenAI API for a gateway or a worker: models, chat completions with usage, and vLLM's /tokenize.
`python -m tests.bench.upstream` prints its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import Any, Final, cast

import uvloop

MODEL: Final = "bench/echo"
WORDS: Final = 16
"""Tokens of every answer."""
PROMPT_TOKENS: Final = 12
_CREATED: Final = 1_760_000_000


def _usage(words: int) -> dict[str, Any]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": words,
        "total_tokens": PROMPT_TOKENS + words,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _event(delta: dict[str, Any], words: int, finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _data({"choices": [choice], "usage": _usage(words)})


def _data(fields: dict[str, Any]) -> bytes:
    head = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": MODEL,
    }
    line = b"data: " + json.dumps({**head, **fields}, separators=(",", ":")).encode() + b"\n\n"
    return _chunk(line)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _stream() -> bytes:
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    events = [_event({"role": "assistant", "content": ""}, 0, None)]
    events += [_event({"content": f" word{number}"}, number + 1, None) for number in range(WORDS)]
    events.append(_event({"content": ""}, WORDS, "stop"))
    events.append(_data({"choices": [], "usage": _usage(WORDS)}))
    return head + b"".join(events) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _json(fields: dict[str, Any]) -> bytes:
    body = json.dumps(fields, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def _whole() -> bytes:
    message = {"role": "assistant", "content": "".join(f" word{number}" for number in range(WORDS))}
    return _json(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": _CREATED,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _usage(WORDS),
        }
    )


STREAM: Final = _stream()
WHOLE: Final = _whole()
MODELS: Final = _json(
    {"object": "list", "data": [{"id": MODEL, "object": "model", "created": _CREATED, "owned_by": "bench"}]}
)
TOKENIZE: Final = _json({"count": PROMPT_TOKENS, "max_model_len": 4096, "tokens": list(range(PROMPT_TOKENS))})
HEALTH: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
MISSING: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection; requests are answered in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            length = 0
            if (at := head.find(b"content-length:")) >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            whole = end + 4 + length
            if len(self._buffer) < whole:
                return
            body = bytes(self._buffer[end + 4 : whole])
            del self._buffer[:whole]
            assert self._transport is not None
            self._transport.write(_answer(head.split(b" ", 2)[1], body))


def _answer(path: bytes, body: bytes) -> bytes:
    if path.endswith(b"/chat/completions"):
        return STREAM if b'"stream":true' in body or b'"stream": true' in body else WHOLE
    if path.endswith(b"/models"):
        return MODELS
    if path.endswith(b"/tokenize"):
        return TOKENIZE
    return HEALTH if path.endswith(b"/health") else MISSING


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve())
