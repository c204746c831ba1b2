"""The allow-list of request fields: what passes, what is clamped, what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_worker.engine.base import EngineKind, EngineLimits, EngineRequest, EngineRequestError
from cocoon_worker.engine.request import checked_body

LIMITS = EngineLimits(
    max_request_bytes=4000,
    max_messages=4,
    max_inputs=3,
    max_prompt_tokens=8,
    max_output_tokens=100,
    default_output_tokens=50,
)
BASES: dict[EngineKind, dict[str, Any]] = {
    EngineKind.CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    EngineKind.COMPLETION: {"prompt": "hello"},
    EngineKind.EMBEDDING: {"input": "hello"},
}


def checked(kind: EngineKind, **fields: Any) -> dict[str, Any]:
    return checked_body(EngineRequest(kind, {**BASES[kind], **fields}), ("m",), LIMITS)


@pytest.mark.parametrize("kind", EngineKind)
def test_client_can_send_a_plain_request_when_it_names_nothing_else(kind: EngineKind) -> None:
    length = {} if kind is EngineKind.EMBEDDING else {"max_tokens": 50}
    assert checked(kind) == {**BASES[kind], "model": "m", **length}


@pytest.mark.parametrize(
    ("given_fields", "sent"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 101}, {"max_tokens": 100}),
        ({"max_tokens": None}, {"max_tokens": 50}),
        ({"max_completion_tokens": 1 << 30}, {"max_completion_tokens": 100}),
        ({"max_completion_tokens": 30, "max_tokens": 20}, {"max_completion_tokens": 20}),
    ],
)
def test_client_cannot_get_longer_answers_when_the_limit_is_lower(
    given_fields: dict[str, Any], sent: dict[str, Any]
) -> None:
    body = checked(EngineKind.CHAT, **given_fields)
    assert {name: body[name] for name in body if name.startswith("max_")} == sent


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "stream": False, "temperature": 0, "top_p": 0.5, "top_k": 40, "min_p": 0, "seed": 7},
        {"stop": ["a", "b"], "stop_token_ids": [2], "logit_bias": {"7": -100}, "ignore_eos": True},
        {"logprobs": True, "top_logprobs": 20, "prompt_logprobs": 20, "return_token_ids": True},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {"vllm_xargs": {"seed": "1", "temperature": 0.5}, "user": "me"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    ],
)
def test_client_can_send_known_fields_when_they_are_in_range(fields: dict[str, Any]) -> None:
    sent = checked(EngineKind.CHAT, **fields)
    assert all(sent[name] == value for name, value in fields.items() if name not in ("n", "stream"))


_IMAGE = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (EngineKind.CHAT, {"n": 2}, "n"),
        (EngineKind.CHAT, {"n": True}, "n"),
        (EngineKind.CHAT, {"best_of": 4}, "best_of"),
        (EngineKind.CHAT, {"use_beam_search": True}, "use_beam_search"),
        (EngineKind.CHAT, {"stream": "yes"}, "stream"),
        (EngineKind.CHAT, {"chat_template": "{{ 1 }}"}, "chat_template"),
        (EngineKind.CHAT, {"priority": -1}, "priority"),
        (EngineKind.CHAT, {"kv_transfer_params": {}}, "kv_transfer_params"),
        (EngineKind.CHAT, {"documents": []}, "documents"),
        (EngineKind.CHAT, {"service_tier": "flex"}, "service_tier"),
        (EngineKind.CHAT, {"prompt": "x"}, "prompt"),
        (EngineKind.CHAT, {"model": "other"}, "model"),
        (EngineKind.CHAT, {"max_tokens": 0}, "max_tokens"),
        (EngineKind.CHAT, {"max_tokens": 1.5}, "max_tokens"),
        (EngineKind.CHAT, {"min_tokens": 101}, "min_tokens"),
        (EngineKind.CHAT, {"temperature": 2.1}, "temperature"),
        (EngineKind.CHAT, {"temperature": "0"}, "temperature"),
        (EngineKind.CHAT, {"top_logprobs": 21}, "top_logprobs"),
        (EngineKind.CHAT, {"logprobs": 1}, "logprobs"),
        (EngineKind.CHAT, {"stop": ["x"] * 17}, "stop"),
        (EngineKind.CHAT, {"stop": "x" * 257}, "stop"),
        (EngineKind.CHAT, {"stop_token_ids": [-1]}, "stop_token_ids"),
        (EngineKind.CHAT, {"logit_bias": {"1": 101}}, "logit_bias"),
        (EngineKind.CHAT, {"logit_bias": {"one": 1}}, "logit_bias"),
        (EngineKind.CHAT, {"vllm_xargs": {"a": {"b": 1}}}, "vllm_xargs"),
        (EngineKind.CHAT, {"response_format": {"type": "structural_tag"}}, "response_format"),
        (EngineKind.CHAT, {"tools": [{"type": "web_search"}]}, "tools"),
        (EngineKind.CHAT, {"tool_choice": ["auto"]}, "tool_choice"),
        (EngineKind.CHAT, {"messages": []}, "messages"),
        (EngineKind.CHAT, {"messages": "hello"}, "messages"),
        (EngineKind.CHAT, {"messages": [{"role": "user", "content": "x"}] * 5}, "messages"),
        (EngineKind.CHAT, {"messages": [{"role": "root", "content": "x"}]}, "messages[0]"),
        (EngineKind.CHAT, {"messages": [{"role": [], "content": "x"}]}, "messages[0]"),
        (EngineKind.CHAT, {"messages": [{"role": "user", "content": [_IMAGE]}]}, "messages[0].content"),
        (EngineKind.CHAT, {"messages": [{"role": "user", "content": {"a": 1}}]}, "messages[0].content"),
        (EngineKind.CHAT, {"messages": [{"role": "user", "content": "x", "audio": {}}]}, "messages[0].audio"),
        (EngineKind.COMPLETION, {"prompt": ["two", "prompts"]}, "prompt"),
        (EngineKind.COMPLETION, {"prompt": [[1], [2]]}, "prompt"),
        (EngineKind.COMPLETION, {"prompt": ""}, "prompt"),
        (EngineKind.COMPLETION, {"prompt": [1] * 9}, "prompt"),
        (EngineKind.COMPLETION, {"prompt": [True]}, "prompt"),
        (EngineKind.COMPLETION, {"suffix": "x"}, "suffix"),
        (EngineKind.COMPLETION, {"prompt_embeds": "x"}, "prompt_embeds"),
        (EngineKind.EMBEDDING, {"input": []}, "input"),
        (EngineKind.EMBEDDING, {"input": ["x"] * 4}, "input"),
        (EngineKind.EMBEDDING, {"input": [{"image": "x"}]}, "input"),
        (EngineKind.EMBEDDING, {"encoding_format": "bytes"}, "encoding_format"),
        (EngineKind.EMBEDDING, {"max_tokens": 5}, "max_tokens"),
    ],
)
def test_client_cannot_send_a_field_when_it_is_unknown_or_out_of_range(
    kind: EngineKind, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(EngineRequestError) as caught:
        checked(kind, **fields)
    assert f"{named!r}" in caught.value.what


@pytest.mark.parametrize("kind", EngineKind)
def test_client_cannot_omit_the_prompt_when_it_asks(kind: EngineKind) -> None:
    with pytest.raises(EngineRequestError, match="missing"):
        checked_body(EngineRequest(kind, {"model": "m"}), ("m",), LIMITS)


def test_client_cannot_send_too_much_when_the_size_is_bounded() -> None:
    with pytest.raises(EngineRequestError, match="at most 4000"):
        checked(EngineKind.COMPLETION, prompt="x" * 4000)


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("odd", [_nested(40), _nested(5000), float("nan"), "\ud800", b"bytes", {1, 2}])
def test_client_cannot_send_what_is_not_plain_json_when_it_hides_in_a_known_field(odd: object) -> None:
    with pytest.raises(EngineRequestError):
        checked(EngineKind.CHAT, response_format={"type": "json_schema", "json_schema": odd})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_NAMES = st.sampled_from(
    [
        "messages",
        "prompt",
        "input",
        "n",
        "stop",
        "max_tokens",
        "logit_bias",
        "tools",
        "tool_choice",
        "vllm_xargs",
    ]
)


@given(
    kind=st.sampled_from(EngineKind), fields=st.dictionaries(_NAMES | st.text(max_size=8), _JSON, max_size=4)
)
def test_client_can_only_be_served_or_refused_when_it_sends_anything(
    kind: EngineKind, fields: dict[str, Any]
) -> None:
    request = EngineRequest(kind, {**BASES[kind], **fields})
    before = copy.deepcopy(request.body)
    try:
        body = checked_body(request, ("m",), LIMITS)
    except EngineRequestError:
        return
    finally:
        assert repr(request.body) == repr(before)
    json.dumps(body, allow_nan=False)
    assert body["model"] == "m"
    assert "n" not in body
    if kind is not EngineKind.EMBEDDING:
        assert 1 <= (body.get("max_tokens") or body["max_completion_tokens"]) <= LIMITS.max_output_tokens
