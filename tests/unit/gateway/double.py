"""A labelled double of `InferenceClient`: answers at once from what the last message says. Not a model.

The words of the answer are those of the last message; a few commands in it choose other answers:
`think:` reasons first, `call:NAME` calls that function with the rest as its arguments (all functions named),
`refuse` refuses, `cut` ends by length. What goes wrong is set on the object.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, Self

from pytoniq_core import Address

from cocoon_sdk.client.sessions import (
    CHAT,
    EMBEDDING,
    Attempt,
    Bill,
    InferenceRequest,
    Outcome,
    ServedModel,
)
from cocoon_sdk.protocol.hashing import sha256
from cocoon_sdk.protocol.pricing import Usage, price
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.types import Nano

MODEL = "test/echo"
WORKER = Address((0, bytes(31) + b"\x07"))
TERMS = Terms(
    model_id=sha256(b"model"),
    model_entry_hash=sha256(b"entry"),
    input_price=Nano(100_000_000),
    cached_input_price=Nano(50_000_000),
    output_price=Nano(200_000_000),
    minimum_price=Nano(0),
    sampling=SamplingClass.UNVERIFIED,
)
"""100 nanoTON for a token read, 200 for one written."""
PROMPT_TOKENS = 10


def served(name: str = MODEL) -> ServedModel:
    return ServedModel(
        name=name,
        model_id=sha256(name.encode()),
        workers=2,
        cheapest=TERMS,
        max_context=4096,
        max_output_tokens=100,
        announced_at=1_760_000_000,
    )


class EchoInference:
    """Stands where `InferenceClient` stands. `asked` has every request, `cancelled` those that were left."""

    def __init__(self, *models: ServedModel) -> None:
        self.served = models or (served(),)
        self.asked: list[InferenceRequest] = []
        self.cancelled: list[str] = []
        self.error: Exception | None = None
        """Raised before an answer begins."""
        self.error_after: tuple[int, Exception] | None = None
        """Raised in a stream after so many events."""
        self.hold = asyncio.Event()
        """Answers wait for this; set unless a test clears it."""
        self.hold.set()
        self.begun = asyncio.Event()
        self.vectors_as_base64 = True

    async def answer(
        self, request: InferenceRequest, *, on_bill: Callable[[Bill], None] | None = None
    ) -> tuple[bytes, Bill]:
        bill = Bill()
        try:
            await self._begin(request)
            body, usage = self._whole(request)
            _charge(bill, usage, Outcome.DONE)
        except asyncio.CancelledError:
            self.cancelled.append(request.model)
            _charge(bill, Usage(input_tokens=PROMPT_TOKENS, output_tokens=0), Outcome.CANCELLED)
            raise
        finally:
            if on_bill is not None:
                on_bill(bill)
        return json.dumps(body).encode(), bill

    def stream(self, request: InferenceRequest) -> EchoStream:
        return EchoStream(self, request)

    async def models(self) -> tuple[ServedModel, ...]:
        return self.served

    async def _begin(self, request: InferenceRequest) -> None:
        self.asked.append(request)
        self.begun.set()
        if self.error is not None:
            raise self.error
        await self.hold.wait()

    def _whole(self, request: InferenceRequest) -> tuple[dict[str, Any], Usage]:
        body = json.loads(request.body)
        if request.kind == EMBEDDING:
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            data = [
                {"object": "embedding", "index": index, "embedding": self._vector(text)}
                for index, text in enumerate(texts)
            ]
            usage = Usage(input_tokens=PROMPT_TOKENS)
            return {"object": "list", "data": data, "model": "engine", "usage": _stated(usage)}, usage
        if request.kind == CHAT:
            message, finish, usage = _said(body)
            choice = {
                "index": 0,
                "message": message,
                "logprobs": _logprobs(body, message),
                "finish_reason": finish,
            }
            name = "chat.completion"
        else:
            text = " ".join(str(body["prompt"]).split())
            usage = Usage(input_tokens=PROMPT_TOKENS, output_tokens=len(text.split()))
            choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
            name = "text_completion"
        whole = {"id": "echo-1", "object": name, "created": 1, "model": "engine", "choices": [choice]}
        return {**whole, "usage": _stated(usage)}, usage

    def _vector(self, text: str) -> list[float] | str:
        numbers = [float(len(text)), 0.5, -1.25]
        if not self.vectors_as_base64:
            return numbers
        return base64.b64encode(struct.pack("<3f", *numbers)).decode()


class EchoStream:
    """Stands where `InferenceStream` stands."""

    def __init__(self, owner: EchoInference, request: InferenceRequest) -> None:
        self.bill = Bill()
        self._owner, self._request = owner, request
        self._events = self._run()
        self._done = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def ready(self, most: int = 256) -> list[bytes]:
        return []

    async def aclose(self) -> None:
        await self._events.aclose()
        if not self._done and self._owner.error is None:
            self._owner.cancelled.append(self._request.model)
            self._done = True

    async def _run(self) -> AsyncGenerator[bytes]:
        await self._owner._begin(self._request)
        whole, usage = self._owner._whole(self._request)
        for count, piece in enumerate(_pieces(whole, self._request.kind)):
            if self._owner.error_after is not None and self._owner.error_after[0] == count:
                self._done = True
                raise self._owner.error_after[1]
            used = Usage(input_tokens=PROMPT_TOKENS, output_tokens=count + 1)
            _charge(self.bill, used, Outcome.UNDER_WAY)
            await self._owner.hold.wait()
            yield json.dumps(piece).encode()
        _charge(self.bill, usage, Outcome.DONE)
        self._done = True
        options = json.loads(self._request.body).get("stream_options") or {}
        if options.get("include_usage"):
            last = {**_head(whole), "choices": [], "usage": _stated(usage)}
            yield json.dumps(last, separators=(",", ":")).encode()


def _said(body: dict[str, Any]) -> tuple[dict[str, Any], str, Usage]:
    last = body["messages"][-1]["content"]
    words = last if isinstance(last, str) else " ".join(part["text"] for part in last)
    message: dict[str, Any] = {"role": "assistant", "content": words}
    finish = "stop"
    if words.startswith("think:"):
        message = {"role": "assistant", "reasoning_content": "let me think", "content": words[6:].strip()}
    elif words.startswith("call:"):
        names, _, arguments = words[5:].partition(" ")
        calls = [
            {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for at, name in enumerate(names.split(","))
        ]
        message, finish = {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"
    elif words == "refuse":
        message = {"role": "assistant", "content": None, "refusal": "I will not"}
    elif words == "cut":
        finish = "length"
    return message, finish, Usage(input_tokens=PROMPT_TOKENS, output_tokens=len(words.split()))


def _logprobs(body: dict[str, Any], message: dict[str, Any]) -> dict[str, Any] | None:
    if not body.get("logprobs"):
        return None
    tokens = (message["content"] or "").split()
    return {
        "content": [
            {"token": each, "bytes": list(each.encode()), "logprob": -0.5, "top_logprobs": []}
            for each in tokens
        ]
    }


def _pieces(whole: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    choice = whole["choices"][0]
    deltas: list[dict[str, Any]] = []
    if kind == CHAT:
        message = choice["message"]
        deltas.append({"delta": {"role": "assistant", "content": ""}})
        if message.get("reasoning_content"):
            deltas += [
                {"delta": {"reasoning_content": part}} for part in _split(message["reasoning_content"])
            ]
        deltas += [{"delta": {"content": part}} for part in _split(message.get("content") or "")]
        if message.get("refusal"):
            deltas += [{"delta": {"refusal": part}} for part in _split(message["refusal"])]
        for at, call in enumerate(message.get("tool_calls") or ()):
            function = call["function"]
            head = {**call, "index": at, "function": {"name": function["name"], "arguments": ""}}
            deltas.append({"delta": {"tool_calls": [head]}})
            for part in _split(function["arguments"]):
                deltas.append({"delta": {"tool_calls": [{"index": at, "function": {"arguments": part}}]}})
        deltas.append({"delta": {}, "finish_reason": choice["finish_reason"]})
        if choice["logprobs"] is not None:
            deltas[1]["logprobs"] = choice["logprobs"]
    else:
        deltas += [{"text": part} for part in _split(choice["text"])]
        deltas.append({"text": "", "finish_reason": choice["finish_reason"]})
    for delta in deltas:
        piece = {"index": 0, "logprobs": None, "finish_reason": None, **delta}
        yield {**_head(whole), "choices": [piece]}


def _head(whole: dict[str, Any]) -> dict[str, Any]:
    name = "chat.completion.chunk" if whole["object"] == "chat.completion" else "text_completion"
    return {"id": whole["id"], "object": name, "created": 1, "model": "engine"}


def _split(text: str) -> list[str]:
    words = text.split(" ")
    return [word if at == 0 else f" {word}" for at, word in enumerate(words)] if text else []


def _stated(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _charge(bill: Bill, usage: Usage, outcome: Outcome) -> None:
    bill.usage, bill.cost, bill.worker, bill.session_id = usage, price(usage, TERMS), WORKER, 1
    bill.attempts = (Attempt(WORKER, outcome, "", bill.cost, 0.001, usage, 1),)
