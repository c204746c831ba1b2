"""Which OpenAI request fields pass, within which bounds, and what the engine is really asked.

Owns the allow-list. A field that is not listed is refused, never dropped: it might multiply the work
(`n`, `best_of`), read files or addresses (image parts, templates) or change the meaning of what was paid
for. Pure; must not know any engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from cocoon_worker.engine.base import EngineKind, EngineLimits, EngineRequest, EngineRequestError, Json

_Check: TypeAlias = Callable[[str, Any, EngineLimits], None]

_MAX_TOKEN_ID = (1 << 31) - 1
_MAX_LOGPROBS = 20  # what vLLM serves by default
_MAX_STOPS = 16
_MAX_STOP_CHARS = 256
_MAX_LOGIT_BIAS = 1024
_MAX_TOOLS = 128
_MAX_DEPTH = 32


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
            raise _refused(str(name)[:64], f"this field is not offered for {request.kind.value}")
        check(name, value, limits)
    for name in _REQUIRED[request.kind]:
        if name not in body:
            raise _refused(name, "it is missing")
    body["model"] = _model(body.get("model"), models)
    if request.kind is not EngineKind.EMBEDDING:
        _clamp_output(body, limits)
        body.pop("n", None)
        body.pop("stream", None)
    return body


def _check_size(body: Json, limits: EngineLimits) -> None:
    _check_depth(body, 0)
    try:
        size = len(json.dumps(body, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError) as error:  # also lone surrogates, which have no UTF-8 form
        raise EngineRequestError("the request is refused", why=f"it is not plain JSON ({error})") from None
    if size > limits.max_request_bytes:
        raise EngineRequestError(
            "the request is refused",
            why=f"it is {size} bytes long, at most {limits.max_request_bytes} are served",
            hint="Shorten the prompt.",
        )


def _check_depth(value: object, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise EngineRequestError("the request is refused", why=f"it nests deeper than {_MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        for item in value.values():
            _check_depth(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_depth(item, depth + 1)


def _model(name: object, models: Collection[str]) -> str:
    if name is None and len(models) == 1:
        return next(iter(models))
    if not isinstance(name, str) or name not in models:
        raise _refused("model", f"this engine serves {', '.join(sorted(models)) or 'nothing yet'}")
    return name


def _clamp_output(body: Json, limits: EngineLimits) -> None:
    given = [body[name] for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    wanted = min(given, default=limits.default_output_tokens)
    field = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    body.pop("max_tokens", None)
    body.pop("max_completion_tokens", None)
    body[field] = min(wanted, limits.max_output_tokens)
    if (body.get("min_tokens") or 0) > body[field]:
        raise _refused("min_tokens", f"it is above the output limit of {body[field]} tokens")


def _refused(field: str, why: str) -> EngineRequestError:
    return EngineRequestError(f"the request's field {field!r} is refused", why=why, hint="Change or drop it.")


# -- checks of single fields ----------------------------------------------------------------------------


def _number(low: float, high: float) -> _Check:
    def check(name: str, value: Any, _: EngineLimits) -> None:
        if value is not None and (type(value) not in (int, float) or not low <= value <= high):
            raise _refused(name, f"it must be a number from {low} to {high}")

    return check


def _integer(low: int, high: int) -> _Check:
    def check(name: str, value: Any, _: EngineLimits) -> None:
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise _refused(name, f"it must be a whole number from {low} to {high}")

    return check


def _only(*allowed: object) -> _Check:
    def check(name: str, value: Any, _: EngineLimits) -> None:
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise _refused(name, "it must be " + " or ".join(json.dumps(each) for each in allowed))

    return check


def _flag(name: str, value: Any, _: EngineLimits) -> None:
    if value is not None and type(value) is not bool:
        raise _refused(name, "it must be true or false")


def _text(name: str, value: Any, _: EngineLimits) -> None:
    if value is not None and not isinstance(value, str):
        raise _refused(name, "it must be text")


def _stop(name: str, value: Any, _: EngineLimits) -> None:
    stops = [value] if isinstance(value, str) else value
    if value is None:
        return
    if (
        not isinstance(stops, list)
        or len(stops) > _MAX_STOPS
        or not all(isinstance(stop, str) and len(stop) <= _MAX_STOP_CHARS for stop in stops)
    ):
        raise _refused(name, f"it must be at most {_MAX_STOPS} texts of at most {_MAX_STOP_CHARS} characters")


def _tokens(name: str, value: Any, limits: EngineLimits) -> None:
    if value is not None and not _is_tokens(value, limits.max_prompt_tokens):
        raise _refused(name, f"it must be at most {limits.max_prompt_tokens} token ids")


def _is_tokens(value: object, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(token) is int and 0 <= token <= _MAX_TOKEN_ID for token in value)
    )


def _logit_bias(name: str, value: Any, _: EngineLimits) -> None:
    if value is not None and not (
        isinstance(value, dict)
        and len(value) <= _MAX_LOGIT_BIAS
        and all(isinstance(key, str) and key.isdecimal() and len(key) <= 10 for key in value)
        and all(type(bias) in (int, float) and -100 <= bias <= 100 for bias in value.values())
    ):
        raise _refused(name, "it must map token ids to numbers from -100 to 100")


def _sampler_arguments(name: str, value: Any, _: EngineLimits) -> None:
    if value is not None and not (
        isinstance(value, dict)
        and len(value) <= 16
        and all(isinstance(key, str) and type(item) in (str, int, float) for key, item in value.items())
    ):
        raise _refused(name, "it must map at most 16 names to texts or numbers")


def _format(name: str, value: Any, _: EngineLimits) -> None:
    if value is not None and not (
        isinstance(value, dict) and value.get("type") in ("text", "json_object", "json_schema")
    ):
        raise _refused(name, 'its type must be "text", "json_object" or "json_schema"')


def _tools(name: str, value: Any, _: EngineLimits) -> None:
    if value is not None and not (
        isinstance(value, list)
        and len(value) <= _MAX_TOOLS
        and all(isinstance(tool, dict) and tool.get("type") == "function" for tool in value)
    ):
        raise _refused(name, f"it must be at most {_MAX_TOOLS} functions")


def _tool_choice(name: str, value: Any, _: EngineLimits) -> None:
    named = isinstance(value, dict) and value.get("type") == "function"
    if value is not None and not named and value not in ("none", "auto", "required"):
        raise _refused(name, "it must be none, auto, required or one function")


def _prompt(name: str, value: Any, limits: EngineLimits) -> None:
    # A list of prompts would be several generations: one request is one answer.
    if not (isinstance(value, str) and value) and not (value and _is_tokens(value, limits.max_prompt_tokens)):
        raise _refused(name, f"it must be one text, or at most {limits.max_prompt_tokens} token ids")


def _inputs(name: str, value: Any, limits: EngineLimits) -> None:
    single = isinstance(value, str) or _is_tokens(value, limits.max_prompt_tokens)
    several = (
        isinstance(value, list)
        and len(value) <= limits.max_inputs
        and all(isinstance(item, str) or _is_tokens(item, limits.max_prompt_tokens) for item in value)
    )
    if not value or not (single or several):
        raise _refused(name, f"it must be a text, token ids, or at most {limits.max_inputs} of them")


_MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal"})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def _messages(name: str, value: Any, limits: EngineLimits) -> None:
    if not isinstance(value, list) or not 1 <= len(value) <= limits.max_messages:
        raise _refused(name, f"it must hold 1 to {limits.max_messages} messages")
    for position, message in enumerate(value):
        where = f"{name}[{position}]"
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise _refused(where, f"a message needs a role: {', '.join(sorted(_ROLES))}")
        strange = sorted(str(key)[:64] for key in message if key not in _MESSAGE_FIELDS)
        if strange:
            raise _refused(f"{where}.{strange[0]}", "this field is not offered in a message")
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        # Parts with an address (images, audio, files) would make the engine fetch what it names.
        if not (content is None or isinstance(content, str | list)) or not all(map(_is_text_part, parts)):
            raise _refused(f"{where}.content", "only text is served")


def _is_text_part(part: object) -> bool:
    return (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    )


_COUNT = _integer(1, _MAX_TOKEN_ID)

_SAMPLING: Mapping[str, _Check] = {
    "model": _text,
    "user": _text,
    "n": _only(1, None),
    "stream": _only(False, None),
    "max_tokens": _COUNT,
    "min_tokens": _integer(0, _MAX_TOKEN_ID),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "top_k": _integer(-1, _MAX_TOKEN_ID),
    "min_p": _number(0, 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "repetition_penalty": _number(0.01, 10),
    "seed": _integer(-(1 << 63), (1 << 63) - 1),
    "stop": _stop,
    "stop_token_ids": _tokens,
    "ignore_eos": _flag,
    "logit_bias": _logit_bias,
    "prompt_logprobs": _integer(0, _MAX_LOGPROBS),
    "return_token_ids": _flag,
    "return_tokens_as_token_ids": _flag,
    "skip_special_tokens": _flag,
    "vllm_xargs": _sampler_arguments,
    "response_format": _format,
}

_CHECKS: Mapping[EngineKind, Mapping[str, _Check]] = {
    EngineKind.CHAT: {
        **_SAMPLING,
        "messages": _messages,
        "max_completion_tokens": _COUNT,
        "logprobs": _flag,
        "top_logprobs": _integer(0, _MAX_LOGPROBS),
        "tools": _tools,
        "tool_choice": _tool_choice,
        "parallel_tool_calls": _flag,
    },
    EngineKind.COMPLETION: {
        **_SAMPLING,
        "prompt": _prompt,
        "echo": _flag,
        "logprobs": _integer(0, _MAX_LOGPROBS),
        "add_special_tokens": _flag,
    },
    EngineKind.EMBEDDING: {
        "model": _text,
        "user": _text,
        "input": _inputs,
        "encoding_format": _only("float", "base64", None),
        "dimensions": _integer(1, 1 << 16),
    },
}

_REQUIRED: Mapping[EngineKind, tuple[str, ...]] = {
    EngineKind.CHAT: ("messages",),
    EngineKind.COMPLETION: ("prompt",),
    EngineKind.EMBEDDING: ("input",),
}
