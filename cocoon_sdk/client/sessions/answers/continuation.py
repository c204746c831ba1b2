"""Going on with an answer on another worker, from the text that has already been delivered.

Owns what may be continued, the body that asks for the rest, and making the second worker's events look like
the first one's. Must not know who serves. What a tool call, logprobs or a structured output have begun cannot
be handed to another engine as a prefix: such an answer is not continued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cocoon_sdk.client.sessions.answers.joining import Joiner, read_event, write_json
from cocoon_sdk.client.sessions.values import CHAT, COMPLETION
from cocoon_sdk.errors import MalformedError

_STRUCTURED: Final = (
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "functions",
    "echo",
    "suffix",
    "prompt_logprobs",
    "return_token_ids",
)
_LIMITS: Final = ("max_tokens", "max_completion_tokens")
_SAID_ELSEWHERE: Final = ("tool_calls", "function_call", "refusal", "reasoning", "reasoning_content", "audio")


class NotContinuableError(MalformedError):
    """Another worker cannot go on from here; `why` says what stands in the way."""

    def __init__(self, why: str) -> None:
        super().__init__("the answer cannot be continued on another worker", why=why)


@dataclass(frozen=True, slots=True)
class SoFar:
    """What the user has already got of an answer. `head` holds the fields that all its events share."""

    text: str
    finish_reason: str | None
    head: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Tell whether the answer's last event was delivered: nothing is missing."""
        return self.finish_reason is not None


def said_so_far(kind: str, events: Sequence[bytes]) -> SoFar:
    """Read what was delivered. Raises `NotContinuableError` for what no text can stand for."""
    if kind not in (CHAT, COMPLETION):
        raise NotContinuableError("only chats and completions are")
    joiner = Joiner(kind)
    for event in events:
        joiner.add(event)
    if not events:
        return SoFar("", None, {})
    body = joiner.body()
    choices = body.pop("choices")
    body.pop("usage", None)
    body["object"] = read_event(events[0]).get("object", body["object"])
    if not choices:
        return SoFar("", None, body)
    if len(choices) > 1 or choices[0]["index"] != 0:
        raise NotContinuableError("it has several choices")
    choice = choices[0]
    reason = choice["finish_reason"]
    if kind == COMPLETION:
        text = choice["text"]
    else:
        message = choice["message"]
        text = message.get("content") or ""
        if reason is None and any(message.get(name) for name in _SAID_ELSEWHERE):
            raise NotContinuableError("a tool call or reasoning has begun")
    if reason is None and choice.get("logprobs") is not None:
        raise NotContinuableError("it carries logprobs")
    return SoFar(text, reason, body)


def is_complete(kind: str, events: Sequence[bytes]) -> bool:
    """Tell whether every choice of an answer has come to its end, whatever its form. Raises nothing."""
    if kind not in (CHAT, COMPLETION):
        return False
    joiner = Joiner(kind)
    try:
        for event in events:
            joiner.add(event)
        choices = joiner.body()["choices"]
    except MalformedError:
        return False
    return bool(choices) and all(choice["finish_reason"] is not None for choice in choices)


def continued_body(kind: str, body: bytes, so_far: SoFar, output_tokens: int) -> bytes | None:
    """Return the body that asks for the rest, None when the request's limit leaves nothing to ask for.

    `output_tokens` is what came already. Raises `NotContinuableError`.
    """
    request = read_event(body)
    _check_continuable(request)
    for name in _LIMITS:
        if request.get(name) is not None:
            request[name] -= output_tokens
            if request[name] < 1:
                return None
    if type(least := request.get("min_tokens")) is int:
        request["min_tokens"] = max(0, least - output_tokens)
    if kind == COMPLETION:
        prompt = request.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise NotContinuableError("its prompt is not one text")
        request["prompt"] = prompt + so_far.text
        return write_json(request)
    request["messages"] = _with_prefix(request, so_far.text)
    request["continue_final_message"] = True
    request["add_generation_prompt"] = False
    return write_json(request)


def _check_continuable(request: dict[str, Any]) -> None:
    form = request.get("response_format")
    if isinstance(form, dict) and form.get("type", "text") != "text":
        raise NotContinuableError("its output is structured")
    if request.get("logprobs") not in (None, False) or request.get("top_logprobs"):
        raise NotContinuableError("it carries logprobs")
    if any(request.get(name) not in (None, False) for name in _STRUCTURED):
        raise NotContinuableError("its output is structured")
    if request.get("n") not in (None, 1) or request.get("best_of") not in (None, 1):
        raise NotContinuableError("it has several choices")
    if request.get("tools") and request.get("tool_choice") not in (None, "auto", "none"):
        raise NotContinuableError("it calls a tool")


def _with_prefix(request: dict[str, Any], text: str) -> list[Any]:
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise NotContinuableError("it has no messages")
    last = messages[-1]
    if request.get("continue_final_message") and isinstance(last, dict) and last.get("role") == "assistant":
        # The user's own prefix: the answer so far belongs behind it, in the same message.
        if not isinstance(last.get("content"), str):
            raise NotContinuableError("its own prefix is not one text")
        return [*messages[:-1], {**last, "content": last["content"] + text}]
    return [*messages, {"role": "assistant", "content": text}]


class Continuer:
    """Rewrites the events of a worker that took over, so that the user sees one answer."""

    def __init__(self, kind: str, so_far: SoFar) -> None:
        self._kind, self._head = kind, so_far.head

    def rewrite(self, event: bytes) -> bytes:
        """Return the event under the first worker's id, time and name, without a second opening role."""
        content = read_event(event)
        for name in ("id", "created", "model", "object"):
            if name in self._head:
                content[name] = self._head[name]
        if self._kind == CHAT:
            for choice in content.get("choices") or ():
                if isinstance(choice, dict) and isinstance(choice.get("delta"), dict):
                    choice["delta"].pop("role", None)
        return write_json(content)


def closing_event(kind: str, so_far: SoFar) -> bytes:
    """Return the event that ends an answer which reached its limit when its worker was lost."""
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": "length"}
    choice["delta" if kind == CHAT else "text"] = {} if kind == CHAT else ""
    return write_json({**so_far.head, "choices": [choice]})
