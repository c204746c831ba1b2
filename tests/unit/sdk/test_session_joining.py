"""Pieces joined into whole bodies, usage taken out of events, and going on from what was said."""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.client.sessions.answers.continuation import (
    Continuer,
    NotContinuableError,
    continued_body,
    said_so_far,
)
from cocoon_sdk.client.sessions.answers.events import usage_event, usage_with_cost, without_usage
from cocoon_sdk.client.sessions.answers.joining import beside, join_pieces
from cocoon_sdk.client.sessions.values import CHAT, COMPLETION, EMBEDDING, Bill
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.types import Nano

to_json, from_json = msgspec.json.encode, msgspec.json.decode
HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
USAGE = {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2}


def delta(index: int = 0, *, finish: str | None = None, **content: Any) -> bytes:
    choice = {"index": index, "delta": content, "logprobs": None, "finish_reason": finish}
    return to_json({**HEAD, "choices": [choice]})


def joined(kind: str, *pieces: bytes) -> Any:
    return from_json(join_pieces(kind, pieces))


def call_delta(**function: Any) -> bytes:
    return delta(tool_calls=[{"index": 0, "function": function}])


# -- joining -----------------------------------------------------------------------------------------------


def test_chat_is_joined_with_its_head_reason_and_usage() -> None:
    last = to_json({**HEAD, "choices": [], "usage": USAGE})
    answer = joined(
        CHAT,
        delta(role="assistant", content=""),
        delta(content="Pa"),
        delta(content="ris."),
        delta(finish="stop"),
        last,
    )
    assert answer == {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }


def test_tool_calls_are_joined_by_their_index() -> None:
    answer = joined(
        CHAT,
        delta(role="assistant", content=None),
        delta(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "look"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"at":'}}]),
        delta(
            tool_calls=[
                {"index": 0, "function": {"arguments": "1}"}},
                {"index": 1, "id": "b", "type": "function", "function": {"name": "go", "arguments": "{}"}},
            ]
        ),
        delta(finish="tool_calls"),
    )
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}},
            {"id": "b", "type": "function", "function": {"name": "go", "arguments": "{}"}},
        ],
    }


def test_tool_calls_after_none_of_them_are_joined() -> None:
    """Engines write null where an event has none: what comes later is no less a call."""
    answer = joined(
        CHAT,
        delta(content="a", tool_calls=None, function_call=None),
        delta(tool_calls=[{"index": 0, "id": "c", "function": None}]),
        call_delta(name="f", arguments=None),
        call_delta(arguments="{}"),
        delta(function_call={"name": "g", "arguments": "1"}),
    )
    message = answer["choices"][0]["message"]
    assert message["tool_calls"] == [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    assert message["function_call"] == {"name": "g", "arguments": "1"}


@pytest.mark.parametrize("kind", [CHAT, COMPLETION])
@pytest.mark.parametrize("message", [5, "x", [1], {"tool_calls": {"a": 1}, "function_call": 5, "content": 5}])
def test_message_where_a_delta_belongs_ends_in_no_other_error(kind: str, message: Any) -> None:
    piece = to_json({**HEAD, "choices": [{"index": 0, "message": message}]})
    more = delta(content="a", function_call={"name": "f"}, tool_calls=[{"index": 1}])
    with suppress(MalformedError):
        joined(kind, piece, more)


@pytest.mark.parametrize(
    ("kind", "piece"),
    [
        (CHAT, delta(content="x" * 6000)),
        (CHAT, delta(reasoning_content="x" * 6000)),
        (CHAT, call_delta(arguments="x" * 6000)),
        (CHAT, delta(function_call={"arguments": "x" * 6000})),
        (COMPLETION, to_json({**HEAD, "choices": [{"index": 0, "text": "x" * 6000}]})),
    ],
)
@pytest.mark.timeout(60)
def test_joining_takes_time_by_the_length_not_its_square(kind: str, piece: bytes) -> None:
    """By the square, this would take minutes; it is done in a part of a second."""
    assert join_pieces(kind, [piece] * 6400).count(b"x" * 6000) == 6400


async def test_many_events_are_joined_beside_the_loop() -> None:
    """An answer in as many pieces as there may be holds up nobody else's."""
    assert await beside([b"x"] * 10, threading.get_ident) == threading.get_ident()
    assert await beside([b"x"] * 2000, threading.get_ident) != threading.get_ident()
    assert await beside([b"x" * 300_000], threading.get_ident) != threading.get_ident()


def test_logprobs_and_reasoning_are_joined() -> None:
    def piece(text: str, thought: str) -> bytes:
        choice = {
            "index": 0,
            "delta": {"content": text, "reasoning_content": thought},
            "logprobs": {"content": [{"token": text, "logprob": -0.5, "top_logprobs": []}]},
        }
        return to_json({**HEAD, "choices": [choice]})

    (choice,) = joined(CHAT, piece("a", "x"), piece("b", "y"))["choices"]
    assert [each["token"] for each in choice["logprobs"]["content"]] == ["a", "b"]
    assert choice["message"]["reasoning_content"] == "xy"


def test_completion_is_joined_with_its_logprobs() -> None:
    def piece(text: str, offset: int) -> bytes:
        logprobs = {"tokens": [text], "token_logprobs": [-1.0], "text_offset": [offset], "top_logprobs": None}
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": None}
        return to_json({**HEAD, "object": "text_completion", "choices": [choice]})

    answer = joined(COMPLETION, piece("one ", 0), piece("two", 4))
    assert answer["object"] == "text_completion"
    (choice,) = answer["choices"]
    assert choice["text"] == "one two"
    assert choice["logprobs"]["tokens"] == ["one ", "two"]
    assert choice["logprobs"]["text_offset"] == [0, 4]


def test_embeddings_are_joined_in_order() -> None:
    parts = [[{"index": 0, "embedding": [0.5]}], [{"index": 1, "embedding": [0.25]}]]
    pieces = [to_json({"object": "list", "data": data, "model": "m", "usage": USAGE}) for data in parts]
    answer = joined(EMBEDDING, *pieces)
    assert answer["data"] == parts[0] + parts[1]
    assert answer["usage"] == USAGE


def test_several_choices_are_kept_apart() -> None:
    answer = joined(CHAT, delta(1, content="b"), delta(0, content="a"), delta(1, content="B"))
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["a", "bB"]


@given(st.text(), st.lists(st.integers(0, 40)))
def test_text_is_the_same_however_it_was_cut(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]
    answer = joined(CHAT, delta(role="assistant"), *(delta(content=piece) for piece in pieces))
    assert answer["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize(
    "piece",
    [
        b"",
        b"[]",
        b"{" * 5000,
        b'{"choices":{}}',
        b'{"choices":[1]}',
        b'{"choices":[{"index":-1,"delta":{}}]}',
        b'{"choices":[{"index":100000,"delta":{}}]}',
        b'{"choices":[{"index":0,"delta":{"content":1}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":100000}]}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"function":3}]}}]}',
        b'{"choices":[{"index":0,"delta":[]}]}',
        b'{"choices":[{"index":0,"logprobs":[]}]}',
        b'\xff{"choices":[]}',
    ],
)
def test_piece_that_makes_no_answer_is_refused(piece: bytes) -> None:
    with pytest.raises(MalformedError):
        join_pieces(CHAT, [piece])
    with pytest.raises(MalformedError):
        join_pieces(CHAT, [])


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda each: (
            st.lists(each)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "delta", "index", "tool_calls", "function", "content", "logprobs"]
                ),
                each,
            )
        ),
    )
)
def test_joining_anything_gives_a_body_or_a_named_error(event: Any) -> None:
    with suppress(MalformedError):
        join_pieces(CHAT, [to_json(event)])


# -- usage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("usage", [USAGE, {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}}, None])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("text", ["hi", '"usage":{', '}},"usage":{"a":1}}'])
def test_usage_is_taken_out_of_an_event_wherever_it_stands(usage: Any, last: bool, text: str) -> None:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    whole = {**HEAD, "choices": choices, "usage": usage} if last else {"usage": usage, "choices": choices}
    left = without_usage(to_json(whole))
    assert left is not None
    expected = {name: value for name, value in whole.items() if name != "usage"}
    assert from_json(left) == expected


def test_event_without_usage_passes_as_it_is() -> None:
    event = delta(content="hi")
    assert without_usage(event) is event


def test_event_that_brings_usage_alone_is_held_back() -> None:
    assert without_usage(to_json({**HEAD, "choices": [], "usage": USAGE})) is None


def test_usage_says_what_was_counted_and_what_it_costs() -> None:
    bill = Bill(
        usage=Usage(input_tokens=4, cached_input_tokens=1, output_tokens=3), cost=Nano(1_230_000), attempts=()
    )
    event = from_json(usage_event(delta(content="hi"), {"prompt_tokens_details": {"audio_tokens": 0}}, bill))
    assert event["id"] == "c-1"
    assert event["choices"] == []
    assert event["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 3,
        "total_tokens": 7,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 1},
        "cost": {"nano_ton": 1_230_000, "ton": "0.00123"},
    }
    assert usage_with_cost(None, Bill())["total_tokens"] == 0


# -- going on ----------------------------------------------------------------------------------------------

CHAT_BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}


def go_on(body: dict[str, Any], text: str = "so far", tokens: int = 3, kind: str = CHAT) -> Any:
    piece = delta(content=text)
    if kind == COMPLETION:
        piece = to_json({**HEAD, "choices": [{"index": 0, "text": text, "finish_reason": None}]})
    continued = continued_body(kind, to_json(body), said_so_far(kind, [piece]), tokens)
    return None if continued is None else from_json(continued)


def test_chat_is_continued_from_its_text() -> None:
    body = go_on({**CHAT_BODY, "min_tokens": 2, "temperature": 0.5})
    assert body["messages"][1:] == [{"role": "assistant", "content": "so far"}]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert (body["max_tokens"], body["min_tokens"], body["temperature"]) == (7, 0, 0.5)


def test_users_own_prefix_grows_when_a_chat_is_continued() -> None:
    messages = [*CHAT_BODY["messages"], {"role": "assistant", "content": "Well, "}]  # type: ignore[misc]
    body = go_on({**CHAT_BODY, "messages": messages, "continue_final_message": True})
    assert body["messages"][-1] == {"role": "assistant", "content": "Well, so far"}
    assert len(body["messages"]) == 2


@pytest.mark.parametrize("prompt", ["Once ", ["Once "]])
def test_completion_is_continued_from_its_text(prompt: Any) -> None:
    body = go_on({"model": "m", "prompt": prompt, "max_tokens": 5}, kind=COMPLETION)
    assert body["prompt"] == "Once so far"
    assert body["max_tokens"] == 2


def test_nothing_is_asked_for_when_the_limit_is_reached() -> None:
    assert go_on(CHAT_BODY, tokens=10) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"response_format": {"type": "json_schema"}},
        {"guided_regex": "a+"},
        {"logprobs": True},
        {"n": 2},
        {"tools": [{}], "tool_choice": "required"},
        {"messages": []},
    ],
)
def test_chat_is_not_continued_when_its_form_forbids_it(changes: dict[str, Any]) -> None:
    with pytest.raises(NotContinuableError):
        go_on({**CHAT_BODY, **changes})


@pytest.mark.parametrize(
    "changes", [{"prompt": [1, 2]}, {"prompt": ["a", "b"]}, {"echo": True}, {"suffix": "x"}]
)
def test_completion_is_not_continued_when_its_form_forbids_it(changes: dict[str, Any]) -> None:
    with pytest.raises(NotContinuableError):
        go_on({"model": "m", "prompt": "a", **changes}, kind=COMPLETION)


@pytest.mark.parametrize(
    "piece",
    [
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]),
        delta(reasoning_content="hm"),
        delta(refusal="no"),
        delta(1, content="other"),
        to_json({**HEAD, "choices": [{"index": 0, "delta": {}, "logprobs": {"content": []}}]}),
    ],
)
def test_chat_is_not_continued_after_what_no_text_stands_for(piece: bytes) -> None:
    with pytest.raises(NotContinuableError):
        said_so_far(CHAT, [delta(content="a"), piece])


def test_finished_answer_is_known_as_finished_whatever_it_says() -> None:
    calls = delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}])
    assert said_so_far(CHAT, [calls, delta(finish="tool_calls")]).finished


def test_second_worker_speaks_under_the_first_ones_name() -> None:
    so_far = said_so_far(CHAT, [delta(role="assistant", content="a")])
    other = {**HEAD, "id": "x", "created": 9, "model": "n"}
    choice = {"index": 0, "delta": {"role": "assistant", "content": "b"}, "finish_reason": None}
    event = from_json(Continuer(CHAT, so_far).rewrite(to_json({**other, "choices": [choice]})))
    assert {name: event[name] for name in HEAD} == HEAD
    assert event["choices"][0]["delta"] == {"content": "b"}
