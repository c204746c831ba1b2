"""Checks of single request fields: types and bounds, each named by the field that it refuses.

Owns the bounds and the error. Which fields pass at all is decided in `requests`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from cocoon_sdk.errors import MalformedError


class RequestRefusedError(MalformedError):
    """No honest worker takes this request: not in form, for something that is not offered, or too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """Bounds on what is asked. Bytes are of JSON, tokens are the model's."""

    max_request_bytes: int = 1 << 20
    max_messages: int = 512
    max_inputs: int = 256
    max_prompt_tokens: int = 1 << 17


Check: TypeAlias = Callable[[str, Any, RequestLimits], None]

MAX_TOKEN_ID = (1 << 31) - 1
MAX_LOGPROBS = 20  # what vLLM serves by default
_MAX_STOPS = 16
_MAX_STOP_CHARS = 256
MAX_LOGIT_BIAS = 1024
_MAX_TOOLS = 128
_MAX_REGEX_CHARS = 4096
_MAX_GRAMMAR_CHARS = 1 << 16
_MAX_STRUCTURED_CHOICES = 1024


def refused(field: str, why: str) -> RequestRefusedError:
    """Return the error that names the field."""
    return RequestRefusedError(
        f"the request's field {field!r} is refused", why=why, hint="Change or drop it."
    )


def number(low: float, high: float) -> Check:
    """Accept numbers within bounds."""

    def check(name: str, value: Any, _: RequestLimits) -> None:
        if value is not None and (type(value) not in (int, float) or not low <= value <= high):
            raise refused(name, f"it must be a number from {low} to {high}")

    return check


def integer(low: int, high: int) -> Check:
    """Accept whole numbers within bounds."""

    def check(name: str, value: Any, _: RequestLimits) -> None:
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise refused(name, f"it must be a whole number from {low} to {high}")

    return check


def only(*allowed: object) -> Check:
    """Accept these values only."""

    def check(name: str, value: Any, _: RequestLimits) -> None:
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise refused(name, "it must be " + " or ".join(json.dumps(each) for each in allowed))

    return check


def flag(name: str, value: Any, _: RequestLimits) -> None:
    """Accept true and false."""
    if value is not None and type(value) is not bool:
        raise refused(name, "it must be true or false")


def text(name: str, value: Any, _: RequestLimits) -> None:
    """Accept text."""
    if value is not None and not isinstance(value, str):
        raise refused(name, "it must be text")


def stop(name: str, value: Any, _: RequestLimits) -> None:
    """Accept stop sequences."""
    stops = [value] if isinstance(value, str) else value
    if value is None:
        return
    if (
        not isinstance(stops, list)
        or len(stops) > _MAX_STOPS
        or not all(isinstance(stop, str) and len(stop) <= _MAX_STOP_CHARS for stop in stops)
    ):
        raise refused(name, f"it must be at most {_MAX_STOPS} texts of at most {_MAX_STOP_CHARS} characters")


def tokens(name: str, value: Any, limits: RequestLimits) -> None:
    """Accept token ids."""
    if value is not None and not _is_tokens(value, limits.max_prompt_tokens):
        raise refused(name, f"it must be at most {limits.max_prompt_tokens} token ids")


def _is_tokens(value: object, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(token) is int and 0 <= token <= MAX_TOKEN_ID for token in value)
    )


def logit_bias(name: str, value: Any, _: RequestLimits) -> None:
    """Accept biases of tokens."""
    if value is not None and not (
        isinstance(value, dict)
        and len(value) <= MAX_LOGIT_BIAS
        and all(isinstance(key, str) and key.isdecimal() and len(key) <= 10 for key in value)
        and all(type(bias) in (int, float) and -100 <= bias <= 100 for bias in value.values())
    ):
        raise refused(name, "it must map token ids to numbers from -100 to 100")


def sampler_arguments(name: str, value: Any, _: RequestLimits) -> None:
    """Accept what samplers take."""
    if value is not None and not (
        isinstance(value, dict)
        and len(value) <= 16
        and all(isinstance(key, str) and type(item) in (str, int, float) for key, item in value.items())
    ):
        raise refused(name, "it must map at most 16 names to texts or numbers")


def metadata(name: str, value: Any, _: RequestLimits) -> None:
    """Accept a few named texts."""
    if value is not None and not (
        isinstance(value, dict)
        and len(value) <= 16
        and all(isinstance(key, str) and isinstance(item, str) for key, item in value.items())
    ):
        raise refused(name, "it must map at most 16 names to texts")


def template_arguments(name: str, value: Any, _: RequestLimits) -> None:
    """Accept switches of the chat template."""
    # Switches such as enable_thinking. "chat_template" and the like would be a way around this list.
    if value is not None and not (
        isinstance(value, dict)
        and len(value) <= 16
        and all(
            isinstance(key, str)
            and not key.startswith(("chat_template", "tool", "document", "message", "continue", "add_"))
            and type(item) in (bool, int, str)
            for key, item in value.items()
        )
    ):
        raise refused(name, "it must map at most 16 switches of the template to texts, numbers or flags")


def texts(most: int) -> Check:
    """Accept a few texts."""

    def check(name: str, value: Any, _: RequestLimits) -> None:
        if value is not None and not (
            isinstance(value, list) and len(value) <= most and all(isinstance(item, str) for item in value)
        ):
            raise refused(name, f"it must be at most {most} texts")

    return check


def stream_options(name: str, value: Any, _: RequestLimits) -> None:
    """Accept what may be asked of a stream."""
    known = {"include_usage", "continuous_usage_stats", "include_obfuscation"}
    if value is not None and not (
        isinstance(value, dict)
        and value.keys() <= known
        and all(item is None or type(item) is bool for item in value.values())
    ):
        raise refused(name, f"it must be flags of {', '.join(sorted(known))}")


def structured(name: str, value: Any, _: RequestLimits) -> None:
    """Check the constraints that vLLM offers beside `response_format`: exactly one of them."""
    if value is None:
        return
    kinds: dict[str, Callable[[Any], bool]] = {
        "json": lambda item: isinstance(item, dict | str),
        "regex": lambda item: isinstance(item, str) and len(item) <= _MAX_REGEX_CHARS,
        "choice": lambda item: (
            isinstance(item, list)
            and 1 <= len(item) <= _MAX_STRUCTURED_CHOICES
            and all(isinstance(each, str) for each in item)
        ),
        "grammar": lambda item: isinstance(item, str) and len(item) <= _MAX_GRAMMAR_CHARS,
        "json_object": lambda item: item is True,
    }
    given = [key for key in value if value[key] is not None] if isinstance(value, dict) else []
    if len(given) != 1 or given[0] not in kinds or not kinds[given[0]](value[given[0]]):
        raise refused(name, f"it must hold one constraint: {', '.join(kinds)}")


def response_format(name: str, value: Any, _: RequestLimits) -> None:
    """Accept the forms an answer may have."""
    if value is not None and not (
        isinstance(value, dict) and value.get("type") in ("text", "json_object", "json_schema")
    ):
        raise refused(name, 'its type must be "text", "json_object" or "json_schema"')


def tool_list(name: str, value: Any, _: RequestLimits) -> None:
    """Accept functions."""
    if value is not None and not (
        isinstance(value, list)
        and len(value) <= _MAX_TOOLS
        and all(isinstance(tool, dict) and tool.get("type") == "function" for tool in value)
    ):
        raise refused(name, f"it must be at most {_MAX_TOOLS} functions")


def tool_choice(name: str, value: Any, _: RequestLimits) -> None:
    """Accept whether and which function is called."""
    named = isinstance(value, dict) and value.get("type") == "function"
    if value is not None and not named and value not in ("none", "auto", "required"):
        raise refused(name, "it must be none, auto, required or one function")


def prompt(name: str, value: Any, limits: RequestLimits) -> None:
    """Accept one prompt."""
    # A list of prompts would be several generations: one request is one answer.
    if not (isinstance(value, str) and value) and not (value and _is_tokens(value, limits.max_prompt_tokens)):
        raise refused(name, f"it must be one text, or at most {limits.max_prompt_tokens} token ids")


def inputs(name: str, value: Any, limits: RequestLimits) -> None:
    """Accept what is embedded."""
    single = isinstance(value, str) or _is_tokens(value, limits.max_prompt_tokens)
    several = (
        isinstance(value, list)
        and len(value) <= limits.max_inputs
        and all(isinstance(item, str) or _is_tokens(item, limits.max_prompt_tokens) for item in value)
    )
    if not value or not (single or several):
        raise refused(name, f"it must be a text, token ids, or at most {limits.max_inputs} of them")


_MESSAGE_FIELDS = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning", "reasoning_content"}
)
# Clients send answers back as they got them, with empty fields for what the model did not do.
_EMPTY_MESSAGE_FIELDS = frozenset({"annotations", "audio", "function_call"})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def messages(name: str, value: Any, limits: RequestLimits) -> None:
    """Accept a conversation of text."""
    if not isinstance(value, list) or not 1 <= len(value) <= limits.max_messages:
        raise refused(name, f"it must hold 1 to {limits.max_messages} messages")
    for position, message in enumerate(value):
        where = f"{name}[{position}]"
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise refused(where, f"a message needs a role: {', '.join(sorted(_ROLES))}")
        strange = sorted(
            str(key)[:64]
            for key in message
            if key not in _MESSAGE_FIELDS
            and (key not in _EMPTY_MESSAGE_FIELDS or message[key] not in (None, []))
        )
        if strange:
            raise refused(f"{where}.{strange[0]}", "this field is not offered in a message")
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        # Parts with an address (images, audio, files) would make the engine fetch what it names.
        if not (content is None or isinstance(content, str | list)) or not all(map(_is_text_part, parts)):
            raise refused(f"{where}.content", "only text is served")


def _is_text_part(part: object) -> bool:
    return (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    )
