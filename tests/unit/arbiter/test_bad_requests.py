"""Requests that no honest worker takes: a bad payload before any engine of an arbiter's sees them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cocoon_sdk.arbiter.evidence import weigh
from cocoon_sdk.arbiter.rules import Outcome
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.protocol.canonical import canonical_bytes
from cocoon_sdk.protocol.disputes import Ground, ItemKind, payload_item
from cocoon_sdk.protocol.envelope import JobKind, PayloadPlain

MESSAGES = [{"role": "user", "content": "hi"}]
IMAGE = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}}
NOBODY = cast(Dispute, None)
"""The dispute itself is looked at only when both payload and result are in form."""


def ground(kind: JobKind, request: dict[str, Any]) -> Ground | None:
    """Return what an arbiter makes of a payload whose result is none."""
    plain = PayloadPlain(kind=kind, model="m", request=request)
    payload = payload_item(b"wire", canonical_bytes(plain.to_wire()))
    return weigh(NOBODY, {ItemKind.PAYLOAD: payload.data, ItemKind.RESULT: b"{}"}, Outcome(None)).ground


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        (JobKind.CHAT_COMPLETION, {"messages": [{"role": "user", "content": [IMAGE]}]}),
        (JobKind.CHAT_COMPLETION, {"messages": MESSAGES, "chat_template": "{{ 1 }}"}),
        (JobKind.CHAT_COMPLETION, {"messages": MESSAGES, "chat_template_kwargs": {"documents": 1}}),
        (JobKind.CHAT_COMPLETION, {"messages": MESSAGES, "chat_template_kwargs": [1]}),
        (JobKind.CHAT_COMPLETION, {"messages": MESSAGES, "n": 1 << 20}),
        (JobKind.CHAT_COMPLETION, {"messages": MESSAGES, "never_heard_of": 1}),
        (JobKind.CHAT_COMPLETION, {"messages": MESSAGES, "media_io_kwargs": {}}),
        (JobKind.CHAT_COMPLETION, {"messages": MESSAGES, "reasoning_effort": {"a": 1}}),
        (JobKind.CHAT_COMPLETION, {}),
        (JobKind.COMPLETION, {"prompt": ["one", "two"]}),
        (JobKind.COMPLETION, {"prompt": "x", "prompt_embeds": "AAAA"}),
        (JobKind.COMPLETION, {"prompt": "x", "logprobs": 1 << 20}),
    ],
)
def test_client_cannot_have_arbiters_ask_their_engine_what_no_worker_takes(
    kind: JobKind, request_: dict[str, Any]
) -> None:
    assert ground(kind, request_) is Ground.BAD_PAYLOAD


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        (JobKind.CHAT_COMPLETION, {"messages": MESSAGES, "chat_template_kwargs": {"enable_thinking": False}}),
        (JobKind.COMPLETION, {"prompt": [1] * 200_000, "max_tokens": 1 << 20}),
    ],
)
def test_worker_cannot_get_away_with_a_bad_result_when_the_request_is_one_that_workers_take(
    kind: JobKind, request_: dict[str, Any]
) -> None:
    assert ground(kind, request_) is Ground.BAD_RESULT
