"""A labelled stand-in for a model: it repeats the prompt and says so, for trying the paid path without one.

Owns nothing but the echo. It goes through the same request checks as a real engine and its counts are
real counts of its own tokens (words), so that prices, limits and budgets can be watched at work.
"""

from __future__ import annotations

import hashlib
import json
from itertools import islice

from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.errors import EngineUnavailableError
from cocoon_worker.engine.base import (
    EngineHealth,
    EngineKind,
    EngineLimits,
    EngineRequest,
    EngineRequestError,
    EngineResult,
    EngineState,
    EngineTimeoutError,
    EngineUsage,
    Json,
)
from cocoon_worker.engine.request import checked_body

ECHO_MODEL = "echo"
ECHO_LABEL = "[echo, not a model]"


class EchoEngine:
    """Answers chats and completions with the label and the words of the prompt. One word is one token."""

    def __init__(self, *, limits: EngineLimits | None = None, clock: Clock | None = None) -> None:
        self._limits = limits or EngineLimits()
        self._clock = clock or SystemClock()
        self._started = False

    def models(self) -> tuple[str, ...]:
        """Return `("echo",)`, once started."""
        return (ECHO_MODEL,) if self._started else ()

    async def start(self) -> None:
        """Become ready; nothing is loaded."""
        self._started = True

    async def stop(self) -> None:
        """Stop answering."""
        self._started = False

    async def health(self) -> EngineHealth:
        """Ready between `start` and `stop`."""
        state = EngineState.READY if self._started else EngineState.STOPPED
        return EngineHealth(ready=self._started, state=state, detail="an echo, not a model")

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        """Repeat the last message or the prompt; see `Engine.run`. Embeddings are refused."""
        if not self._started:
            raise EngineUnavailableError("the echo engine is not running", hint="Call start() first.")
        if deadline_s <= 0:
            raise EngineTimeoutError("the request was not served", why="its deadline has passed already")
        if request.kind is EngineKind.EMBEDDING:
            raise EngineRequestError("the echo engine has no embeddings", hint="Run a real embedding model.")
        body = checked_body(request, self.models(), self._limits)
        chat = request.kind is EngineKind.CHAT
        said = [_content(message) for message in body["messages"]] if chat else [_prompt_text(body["prompt"])]
        prompt_tokens = sum(len(text.split()) for text in said)
        most = body.get("max_tokens") or body["max_completion_tokens"]
        words = f"{ECHO_LABEL} {said[-1]}".split()
        kept = list(islice(words, most))
        text = " ".join(kept)
        usage = EngineUsage(prompt_tokens, 0, len(kept))
        choice: Json = {
            "index": 0,
            "logprobs": None,
            "finish_reason": "stop" if len(kept) == len(words) else "length",
        }
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        response: Json = {
            "id": "echo-" + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24],
            "object": "chat.completion" if chat else "text_completion",
            "created": self._clock.now(),
            "model": ECHO_MODEL,
            "system_fingerprint": ECHO_LABEL,
            "choices": [choice],
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
        }
        return EngineResult(response, usage)


def _content(message: Json) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part["text"] for part in content)


def _prompt_text(prompt: str | list[int]) -> str:
    return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
