"""Which fields a request to a model may have, within which bounds.

Owns the allow-list. Workers refuse what is not on it, and arbiters take a payload that is not for a bad one:
a worker that was asked for it owed nothing, and no engine of theirs ever sees it. A field that is not listed
is refused, never dropped: it might multiply the work (`n`, `best_of`), read files or addresses (image parts,
templates) or change the meaning of what was paid for. Must not know any engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cocoon_sdk.protocol import request_fields as f
from cocoon_sdk.protocol.canonical import MAX_JSON_BYTES
from cocoon_sdk.protocol.request_fields import RequestLimits, RequestRefusedError, refused

__all__ = ["LEFT_OUT", "WIDEST", "RequestLimits", "RequestRefusedError", "check_request", "refused"]

WIDEST: Final = RequestLimits(max_request_bytes=MAX_JSON_BYTES, max_prompt_tokens=1 << 20)
"""What no worker goes beyond, whatever it offers; what is beyond is nobody's request."""
_MAX_DEPTH: Final = 32
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_encode: Final = msgspec.json.Encoder().encode


def check_request(kind: str, body: Mapping[str, Any], limits: RequestLimits = WIDEST) -> None:
    """Check that every field of an OpenAI body is on the list and in range, and that none is missing.

    `kind` is a job's kind. Raises `RequestRefusedError` naming the first offending field.
    """
    checks = _CHECKS.get(kind)
    if checks is None:
        raise RequestRefusedError("the request is refused", why=f"{kind[:64]} is no kind that is served")
    _check_size(body, limits)
    for name, value in body.items():
        check = checks.get(name)
        if check is None:
            raise refused(str(name)[:64], f"this field is not offered for {kind}")
        check(name, value, limits)
    for name in _REQUIRED[kind]:
        if name not in body:
            raise refused(name, "it is missing")


def _check_size(body: Mapping[str, Any], limits: RequestLimits) -> None:
    _check_depth(body, 0)
    try:
        size = len(_encode(body))
    except (TypeError, ValueError, msgspec.MsgspecError) as error:  # also lone surrogates: they have no UTF-8
        why = f"it is not plain JSON ({type(error).__name__})"
        raise RequestRefusedError("the request is refused", why=why) from None
    if size > limits.max_request_bytes:
        raise RequestRefusedError(
            "the request is refused",
            why=f"it is {size} bytes long, at most {limits.max_request_bytes} are served",
            hint="Shorten the prompt.",
        )


def _check_depth(value: Mapping[str, Any] | list[Any] | tuple[Any, ...], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise RequestRefusedError("the request is refused", why=f"it nests deeper than {_MAX_DEPTH} levels")
    for item in value.values() if isinstance(value, Mapping) else value:
        kind = type(item)
        if kind is dict or kind is list or kind is tuple:
            _check_depth(item, depth + 1)
        elif kind not in _SCALARS or (kind is float and not math.isfinite(item)):
            raise RequestRefusedError("the request is refused", why="it is not plain JSON")


_COUNT = f.integer(1, f.MAX_TOKEN_ID)

_SAMPLING: Mapping[str, f.Check] = {
    "model": f.text,
    "user": f.text,
    "n": f.only(1, None),
    "stream": f.flag,
    "stream_options": f.stream_options,
    "max_tokens": _COUNT,
    "min_tokens": f.integer(0, f.MAX_TOKEN_ID),
    "temperature": f.number(0, 2),
    "top_p": f.number(0, 1),
    "top_k": f.integer(-1, f.MAX_TOKEN_ID),
    "min_p": f.number(0, 1),
    "presence_penalty": f.number(-2, 2),
    "frequency_penalty": f.number(-2, 2),
    "repetition_penalty": f.number(0.01, 10),
    "seed": f.integer(-(1 << 63), (1 << 63) - 1),
    "stop": f.stop,
    "stop_token_ids": f.tokens,
    "ignore_eos": f.flag,
    "logit_bias": f.logit_bias,
    "prompt_logprobs": f.integer(0, f.MAX_LOGPROBS),
    "return_token_ids": f.flag,
    "return_tokens_as_token_ids": f.flag,
    "skip_special_tokens": f.flag,
    "logprob_token_ids": f.tokens,
    "include_stop_str_in_output": f.flag,
    "spaces_between_special_tokens": f.flag,
    "allowed_token_ids": f.tokens,
    "bad_words": f.texts(f.MAX_LOGIT_BIAS),
    "vllm_xargs": f.sampler_arguments,
    "response_format": f.response_format,
    "structured_outputs": f.structured,
    "cache_salt": f.text,
    "metadata": f.metadata,
    "store": f.only(False, None),
    "service_tier": f.only("auto", "default", None),
    "prompt_cache_key": f.text,
    "safety_identifier": f.text,
}
LEFT_OUT: Final = (
    # Whether the engine streams is decided by how it is called.
    *("n", "stream", "stream_options"),
    *("metadata", "store", "service_tier", "prompt_cache_key", "safety_identifier", "modalities"),
)
"""What no engine is told: only a provider's own bookkeeping reads it."""

_CHECKS: Mapping[str, Mapping[str, f.Check]] = {
    "chat.completion": {
        **_SAMPLING,
        "messages": f.messages,
        "max_completion_tokens": _COUNT,
        "logprobs": f.flag,
        "top_logprobs": f.integer(0, f.MAX_LOGPROBS),
        "tools": f.tool_list,
        "tool_choice": f.tool_choice,
        "parallel_tool_calls": f.flag,
        "modalities": f.only(["text"], None),
        "reasoning_effort": f.only("none", "minimal", "low", "medium", "high", "xhigh", "max", None),
        "include_reasoning": f.flag,
        "chat_template_kwargs": f.template_arguments,
        # An answer that was cut off elsewhere goes on from its text: the last message, left open.
        "continue_final_message": f.flag,
        "add_generation_prompt": f.flag,
    },
    "completion": {
        **_SAMPLING,
        "prompt": f.prompt,
        "echo": f.flag,
        "logprobs": f.integer(0, f.MAX_LOGPROBS),
        "add_special_tokens": f.flag,
    },
    "embedding": {
        "model": f.text,
        "user": f.text,
        "input": f.inputs,
        "encoding_format": f.only("float", "base64", None),
        "dimensions": f.integer(1, 1 << 16),
    },
}

_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "chat.completion": ("messages",),
    "completion": ("prompt",),
    "embedding": ("input",),
}
