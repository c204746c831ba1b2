"""A stand-in for vLLM's HTTP server, and labelled so: it streams ready-made events with counts, and no model.

For timing what stands in front of an engine. Like vLLM it makes one token for every stream in each step, and
sends it to each as an event of its own, with token ids and log-probabilities for who asks. Run it as a
program, in a process of its own: `python -m tests.helpers.sse_upstream --step-ms 10`; it prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json

MODEL = "no-model"
_CHOSEN = '"token":" word","logprob":-0.8417205810546875,"bytes":[32,119,111,114,100],"top_logprobs":[]'
_LOGPROBS = '{{"content":[{{' + _CHOSEN + "}}]}}"  # as it stands in a template: with doubled braces
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(choices: str, prompt: int, done: int, *, cached: int | None = None, beside: str = "") -> bytes:
    details = "" if cached is None else f',"prompt_tokens_details":{{"cached_tokens":{cached}}}'
    usage = f'"prompt_tokens":{prompt},"completion_tokens":{done},"total_tokens":{prompt + done}{details}'
    return (
        '{"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk",'
        f'"created":1700000000,"model":"{MODEL}","choices":[{choices}]{beside},"usage":{{{usage}}}}}'
    ).encode()


def _chunk(data: bytes) -> bytes:
    line = b"data: " + data + b"\n\n"
    return f"{len(line):x}\r\n".encode() + line + b"\r\n"


class Upstream:
    """Serves `/v1/models` and `/v1/chat/completions`; `gone` counts clients that left early."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._tick = asyncio.Event()
        self.served = self.gone = 0

    async def tick(self) -> None:
        """Take steps for ever."""
        while True:
            await asyncio.sleep(self._step_s)
            tick, self._tick = self._tick, asyncio.Event()
            tick.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (
                        int(line[15:])
                        for line in head.split("\r\n")
                        if line.lower().startswith("content-length:")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                if head.startswith("GET"):
                    self._whole(writer, {"object": "list", "data": [{"id": MODEL}]})
                elif "/tokenize" in head.split("\r\n")[0]:
                    self._whole(writer, {"count": len(body) // 4, "max_model_len": 4096, "tokens": []})
                else:
                    await self._answer(writer, json.loads(body))
        writer.close()

    def _whole(self, writer: asyncio.StreamWriter, answer: object) -> None:
        data = json.dumps(answer).encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)

    async def _answer(self, writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        most = int(str(body.get("max_tokens") or body.get("max_completion_tokens")))
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "word " * most}}
            usage = {"prompt_tokens": 20, "completion_tokens": most, "total_tokens": 20 + most}
            choices = [{**choice, "finish_reason": "length"}]
            self._whole(writer, {"object": "chat.completion", "choices": choices, "usage": usage})
            self.served += 1
            return
        told = bool(body.get("return_token_ids"))
        delta = '{{"index":0,"delta":{{"content":"{0}"}},"logprobs":' + (_LOGPROBS if told else "null")
        delta += ',"finish_reason":{1},"token_ids":' + ("[1234]" if told else "null") + "}}"
        writer.write(_HEAD)
        prompt = "".join(f"{token}," for token in range(1000, 1020)).rstrip(",")
        start = '{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}'
        first = _event(start, 20, 0, beside=f',"prompt_token_ids":[{prompt}]' if told else "")
        for done in range(1, most + 1):
            await self._tick.wait()
            if writer.is_closing():
                self.gone += 1
                return
            event = _event(delta.format(" word", '"length"' if done == most else "null"), 20, done)
            if done == 1:
                writer.write(_chunk(first))
            writer.write(_chunk(event))
        writer.write(_chunk(_event("", 20, most, cached=16)) + _chunk(b"[DONE]"))
        writer.write(b"0\r\n\r\n")
        self.served += 1


async def main(step_s: float) -> None:
    """Serve until killed."""
    upstream = Upstream(step_s)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await upstream.tick()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--step-ms", type=float, default=10.0)
    import uvloop

    uvloop.run(main(parser.parse_args().step_ms / 1000))
