"""Which OpenAI request fields pass, within which bounds, and what the engine is really asked.

Owns the allow-list. A field that is not listed is refused, never dropped: it might multiply the work
(`n`, `best_of`), read files or addresses (image parts, templates) or change the meaning of what was paid
for. What only a provider's own bookkeeping reads (`metadata`, `store`) is checked and left out. Pure; must
not know any engine.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from cocoon_worker.engine import fields as f
from cocoon_worker.engine.base import EngineKind, EngineLimits, EngineRequest, EngineRequestError, Json

_MAX_DEPTH = 32
_SCALARS = frozenset({str, int, float, bool, type(None)})
_encode = msgspec.json.Encoder().encode


def checked_body(request: EngineRequest, models: Collection[str], limits: EngineLimits) -> Json:
    """Return the body to send: every field allowed and in range, model named, output length clamped.

    Raises `EngineRequestError` naming the first offending field. The client's mapping is not changed.
    """
    body = dict(request.body)
    _check_size(body, limits)
    checks = _CHECKS[request.kind]
    for name, value in body.items():
        check = checks.get(name)
        if check is None:
            raise f.refused(str(name)[:64], f"this field is not offered for {request.kind.value}")
        check(name, value, limits)
    for name in _REQUIRED[request.kind]:
        if name not in body:
            raise f.refused(name, "it is missing")
    body["model"] = _model(body.get("model"), models)
    if request.kind is not EngineKind.EMBEDDING:
        _clamp_output(body, limits)
    for name in _LEFT_OUT:
        body.pop(name, None)
    return body


def _check_size(body: Json, limits: EngineLimits) -> None:
    _check_depth(body, 0)
    try:
        size = len(_encode(body))
    except (TypeError, ValueError, msgspec.MsgspecError) as error:  # also lone surrogates: they have no UTF-8
        why = f"it is not plain JSON ({type(error).__name__})"
        raise EngineRequestError("the request is refused", why=why) from None
    if size > limits.max_request_bytes:
        raise EngineRequestError(
            "the request is refused",
            why=f"it is {size} bytes long, at most {limits.max_request_bytes} are served",
            hint="Shorten the prompt.",
        )


def _check_depth(value: Json | list[Any] | tuple[Any, ...], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise EngineRequestError("the request is refused", why=f"it nests deeper than {_MAX_DEPTH} levels")
    for item in value.values() if isinstance(value, dict) else value:
        kind = type(item)
        if kind is dict or kind is list or kind is tuple:
            _check_depth(item, depth + 1)
        elif kind not in _SCALARS or (kind is float and not math.isfinite(item)):
            raise EngineRequestError("the request is refused", why="it is not plain JSON")


def _model(name: object, models: Collection[str]) -> str:
    if name is None and len(models) == 1:
        return next(iter(models))
    if not isinstance(name, str) or name not in models:
        raise f.refused("model", f"this engine serves {', '.join(sorted(models)) or 'nothing yet'}")
    return name


def _clamp_output(body: Json, limits: EngineLimits) -> None:
    given = [body[name] for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    wanted = min(given, default=limits.default_output_tokens)
    field = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    body.pop("max_tokens", None)
    body.pop("max_completion_tokens", None)
    body[field] = min(wanted, limits.max_output_tokens)
    if (body.get("min_tokens") or 0) > body[field]:
        raise f.refused("min_tokens", f"it is above the output limit of {body[field]} tokens")


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
_LEFT_OUT = (
    # Whether the engine streams is decided by how it is called.
    *("n", "stream", "stream_options"),
    *("metadata", "store", "service_tier", "prompt_cache_key", "safety_identifier", "modalities"),
)

_CHECKS: Mapping[EngineKind, Mapping[str, f.Check]] = {
    EngineKind.CHAT: {
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
    EngineKind.COMPLETION: {
        **_SAMPLING,
        "prompt": f.prompt,
        "echo": f.flag,
        "logprobs": f.integer(0, f.MAX_LOGPROBS),
        "add_special_tokens": f.flag,
    },
    EngineKind.EMBEDDING: {
        "model": f.text,
        "user": f.text,
        "input": f.inputs,
        "encoding_format": f.only("float", "base64", None),
        "dimensions": f.integer(1, 1 << 16),
    },
}

_REQUIRED: Mapping[EngineKind, tuple[str, ...]] = {
    EngineKind.CHAT: ("messages",),
    EngineKind.COMPLETION: ("prompt",),
    EngineKind.EMBEDDING: ("input",),
}
