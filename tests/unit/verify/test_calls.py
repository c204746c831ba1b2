"""Calls against what tokens say, in the forms that models write them in; and every way to show others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.verify.calls import Call, Doubt, doubt_about, shown_calls
from cocoon_sdk.verify.work import MOST_WORK, Work

ARGUMENTS: dict[str, Any] = {"to": "Bob Miller", "amount": 5, "note": 'say "hi" to José\n'}
JSON = json.dumps(ARGUMENTS)
FORMS = {
    "hermes": f'<tool_call>\n{{"name": "pay", "arguments": {JSON}}}\n</tool_call><|im_end|>',
    "llama": f'<|python_tag|>{{"name": "pay", "parameters": {JSON}}}<|eom_id|>',
    "text of JSON": f'{{"name": "pay", "arguments": {json.dumps(JSON)}}}',
    "required": f'[{{"name": "pay", "parameters": {JSON}}}]',
    "mistral": f"[TOOL_CALLS]pay[ARGS]{JSON}</s>",
    "kimi": f"<|tool_call_begin|>functions.pay:0<|tool_call_argument_begin|>{JSON}<|tool_call_end|>",
    "harmony": "<|channel|>commentary to=functions.pay <|constrain|>json<|message|>" + JSON + "<|call|>",
    "apertus": f'<|tools_prefix|>[{{"pay": {JSON}}}]<|tools_suffix|>',
    "qwen": '<function=pay>\n<parameter=to>\nBob Miller\n</parameter>\n<parameter=amount>\n5\n</parameter>\n'
    '<parameter=note>\nsay "hi" to José\n\n</parameter>\n</function>',
    "glm": "<tool_call>pay\n<arg_key>to</arg_key>\n<arg_value>Bob Miller</arg_value><arg_key>amount</arg_key>"
    '<arg_value>5</arg_value><arg_key>note</arg_key><arg_value>say "hi" to José\n</arg_value></tool_call>',
    "minimax": '<invoke name="pay"><parameter name="to">Bob Miller</parameter><parameter name="amount">5'
    '</parameter><parameter name="note">say &quot;hi&quot; to José\n</parameter></invoke>',
    "python": "[pay(to='Bob Miller', amount=5, note='say \"hi\" to Jos\\xe9\\n')]",
    "gemma": '<|tool_call>call:pay{to:<|"|>Bob Miller<|"|>,amount:5,note:<|"|>say "hi" to José\n<|"|>}',
}  # fmt: skip
IN_JSON = ("hermes", "llama", "text of JSON", "required", "mistral", "kimi", "harmony", "apertus")


def shown(name: str = "pay", **changes: Any) -> Call:
    arguments = {**ARGUMENTS, **changes}
    kept = {key: value for key, value in arguments.items() if value is not None}
    return Call(name, json.dumps(kept, ensure_ascii=False))


@pytest.mark.parametrize("form", FORMS)
def test_honest_worker_is_not_accused_when_its_engine_parsed_the_call(form: str) -> None:
    assert doubt_about([shown()], FORMS[form]) is Doubt.NONE
    assert doubt_about([shown(amount="5")], FORMS[form]) is Doubt.NONE, "the schema may say so"
    twice = f"I do it now.\n{FORMS[form]}\n{FORMS[form]}"
    assert doubt_about([shown(), shown()], twice) is Doubt.NONE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "call",
    [
        shown("transfer"),
        shown(to="Eve Miller"),
        shown(amount=50),
        shown(amount=5.5),
        shown(memo="x"),
        shown(note='say "no" to José\n'),
        Call("pay", '{"amount": 5, "to": {"Eve": 1}}'),
        Call("", JSON),
        Call("pay", json.dumps({"to": "Bob Miller" * 1000})),
    ],
    ids=str,
)
def test_worker_cannot_show_another_call_than_its_tokens_say(form: str, call: Call) -> None:
    assert doubt_about([call], FORMS[form]) is Doubt.FALSE


@pytest.mark.parametrize("form", FORMS)
def test_worker_cannot_show_a_call_twice_when_its_tokens_say_it_once(form: str) -> None:
    assert doubt_about([shown(), shown()], FORMS[form]) is Doubt.FALSE


@pytest.mark.parametrize("form", IN_JSON)
@pytest.mark.parametrize("call", [shown(note=None), shown(to="Bob"), Call("pay", "{}")], ids=str)
def test_worker_cannot_shorten_a_call_when_its_tokens_have_it_as_json(form: str, call: Call) -> None:
    assert doubt_about([call], FORMS[form]) is Doubt.FALSE


@pytest.mark.parametrize("form", sorted(set(FORMS) - set(IN_JSON)))
def test_part_of_a_value_is_odd_when_the_form_is_not_json(form: str) -> None:
    assert doubt_about([shown(to="Bob")], FORMS[form]) is Doubt.ODD


def test_call_that_the_request_names_has_no_name_in_the_tokens() -> None:
    assert doubt_about([shown()], JSON, named="pay") is Doubt.NONE
    assert doubt_about([shown()], JSON) is Doubt.FALSE
    assert doubt_about([shown(to="Eve Miller")], JSON, named="pay") is Doubt.FALSE


def test_arguments_that_were_cut_off_stand_there_as_they_are() -> None:
    said = '<tool_call>{"name": "pay", "arguments": {"to": "Bob Mi'
    assert doubt_about([Call("pay", '{"to": "Bob Mi')], said) is Doubt.NONE
    assert doubt_about([Call("pay", '{"to": "Eve Mi')], said) is Doubt.ODD


def test_reasoning_may_draft_a_call_before_the_real_one() -> None:
    draft = '<think>maybe {"name": "pay", "arguments": {"to": "Al"}}</think>'
    assert doubt_about([shown()], draft + FORMS["hermes"]) is Doubt.NONE
    assert doubt_about([shown()], draft + FORMS["qwen"]) is Doubt.NONE


def test_json_near_a_name_is_not_held_against_the_worker() -> None:
    prose = 'To pay, the form is like this: {"to": "somebody"}\n'
    own = "call pay with to: `Bob Miller`, amount: 5"
    assert doubt_about([Call("pay", '{"to": "Bob Miller", "amount": 5}')], prose + own) is Doubt.NONE


def test_judging_takes_little_time_when_calls_are_made_to_take_much() -> None:
    large = {str(number): number for number in range(20_000)}
    shown_ = [Call("f", json.dumps({**large, "x": 1}))] * 16
    assert doubt_about(shown_, "f " * 16 + json.dumps({"name": "f", "arguments": large})) is Doubt.FALSE
    assert doubt_about(shown_[:1], "f <param " + " ".join(large) + " x") is Doubt.OPEN
    assert doubt_about([Call("f", '{"a": 1}')] * 256, "f" * 300_000 + '{"a": 1}') is Doubt.NONE
    assert doubt_about([Call("f", '{"a": 1}')] * 256, "f" + "{" * 300_000) is Doubt.FALSE
    assert doubt_about([Call("f", '{"a": "%s"}' % ("x" * 10_000))], "f x") is Doubt.FALSE


PARTS = [f"part {number} of many" for number in range(4096)]
MANY = "<function=pay>" + "".join(f"<parameter=p>{part}</parameter>" for part in PARTS) + "</function>"


def test_honest_call_of_very_many_parts_is_checked_within_its_work() -> None:
    work = Work()
    assert doubt_about([Call("pay", json.dumps(PARTS))], MANY, work=work) is Doubt.NONE
    assert MOST_WORK - work.left < 20 * len(MANY)


def test_judging_goes_no_further_than_its_work_when_very_many_parts_are_made_to_take_much() -> None:
    work = Counted(1 << 22)
    backwards = [Call("pay", json.dumps(PARTS[::-1]))]
    assert doubt_about(backwards, MANY, work=work) is Doubt.OPEN
    # No step is longer than the text, and none is taken when nothing is left.
    assert -8 * len(MANY) < work.left < 0
    assert work.steps < 100
    # All that belongs to an answer has one amount of work.
    assert doubt_about([Call("pay", '{"to": "Bob"}')], 'pay {"to": "Bob"}', work=work) is Doubt.OPEN


def test_worker_cannot_hide_a_falsehood_behind_very_many_parts() -> None:
    false = [*PARTS, "and all the rest goes to Eve"]
    assert doubt_about([Call("pay", json.dumps(false))], MANY) is Doubt.FALSE
    small = Work(8 * len(MANY) * 2)
    calls = [Call("pay", "[0.25]"), Call("pay", json.dumps(PARTS[::-1]))]
    assert doubt_about(calls, MANY * 2, work=small) is Doubt.FALSE


class Counted(Work):
    """Work that counts its steps."""

    steps = 0

    def spend(self, characters: int) -> None:
        self.steps += 1
        super().spend(characters)


def test_call_that_only_the_engine_could_read_is_odd_at_most() -> None:
    said = (
        '<tool_call>{"name": "pay", "arguments": {"to": "Al"}} {"name": "pay", "arguments": {"to": "Bob",}}'
    )
    assert doubt_about([Call("pay", '{"to": "Bob"}')], said) is Doubt.ODD


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": "pay"},
        {"tool_calls": ["pay"]},
        {"tool_calls": [{"type": "custom", "custom": {"name": "pay", "input": "x"}}]},
        {"tool_calls": [{"function": {"name": "pay"}}]},
        {"tool_calls": [{"function": {"name": "pay", "arguments": "{}"}}] * 257},
        {"function_call": "pay"},
    ],
)
def test_calls_in_another_form_are_none(message: dict[str, Any]) -> None:
    assert shown_calls(message) is None


def test_calls_are_read_under_both_names() -> None:
    function = {"name": "pay", "arguments": "{}"}
    both = {"tool_calls": [{"id": "1", "type": "function", "function": function}], "function_call": function}
    assert shown_calls(both) == (Call("pay", "{}"), Call("pay", "{}"))
    assert shown_calls({"content": "x", "tool_calls": [], "function_call": None}) == ()


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.text(max_size=5), _VALUES, max_size=4), ascii_=st.booleans())
def test_arguments_of_any_kind_are_those_of_the_tokens(arguments: dict[str, Any], ascii_: bool) -> None:
    said = "<tool_call>" + json.dumps({"name": "pay", "arguments": arguments}, ensure_ascii=ascii_)
    assert doubt_about([Call("pay", json.dumps(arguments, ensure_ascii=False))], said) is Doubt.NONE


@given(said=st.text(max_size=60), arguments=st.text(max_size=30))
def test_calls_and_texts_in_any_form_are_judged_not_stumbled_over(said: str, arguments: str) -> None:
    doubt_about([Call("f", arguments)], said + "f{" + arguments)


def test_worker_cannot_crash_its_judges_with_arguments_that_are_nested_without_end() -> None:
    deep = [Call("pay", '{"x":' + "[" * depth + "]" * depth + "}") for depth in range(700, 1000, 3)]
    assert doubt_about(deep, "I pay. " * 400) >= Doubt.ODD
