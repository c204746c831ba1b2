"""The forms of thoughts and answers, as vLLM's parsers read them: honest splits, and what is kept back."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from cocoon_sdk.verify.forms import FORMS
from cocoon_sdk.verify.texts import Left, left_over

BY_FILE = {"hf", "identity"}
"""Parsers of whatever a model's own files describe."""

HONEST = [
    # Tags; the first one may stand in the prompt, and the answer may end within the thought.
    ("qwen3", ("why", "Hello"), "<think>\nwhy\n</think>\n\nHello<|im_end|>"),
    ("qwen3", ("why", "Hello"), "why\n</think>\n\nHello<|im_end|>"),
    ("deepseek_r1", ("why",), "why"),
    ("deepseek_r1", ("why",), "<think>why"),
    ("deepseek_r1", ("Hello",), "<think>\n\n</think>\n\nHello"),
    ("seed_oss", ("why", "Hello"), "<seed:think>why</seed:think>Hello<seed:eos>"),
    ("hy_v4", ("why", "Hello"), "<think:6124c78e>why</think:6124c78e>Hello"),
    ("k2_horizon", ("why", "Hello"), "<ifm|think_fast>why</ifm|think_fast>Hello"),
    ("minimax_m3", ("why", "So. Hello"), "So. <mm:think>why</mm:think>Hello"),
    ("minimax_m3", ("why", "So."), "So. <mm:think>why"),
    ("ernie45", ("why", "Hello"), "why</think>\n\n<response>\nHello\n</response>\n"),
    ("hunyuan_a13b", ("why", "Hello"), "<think>\nwhy\n</think>\n<answer>\nHello\n</answer>"),
    ("mistral", ("why", "Hello"), "[THINK]why[/THINK]Hello</s>"),
    ("cohere_command4", ("why", "Hello"),
     "<|START_THINKING|>why<|END_THINKING|><|START_TEXT|>Hello<|END_TEXT|>"),
    ("plamo3", ("why", "Hello"), "<|plamo:begin_think:plamo|>why<|plamo:end_think:plamo|>Hello"),
    # Labels.
    ("gemma4", ("why", "Hello"), "<|channel>thought\nwhy<channel|>Hello<turn|>"),
    ("gemma4", ("why", "Hello"), "thought\nwhy<channel|>Hello"),
    ("gemma4", ("thoughtful", "Hello"), "<|channel>thoughtful<channel|>Hello"),
    ("inkling", ("why", "Hello"),
     "<|content_thinking|>why<|end_message|><|message_model|><|content_text|>Hello"),
    ("inkling", ("Hello",), "<|message_model|>greet<|content_text|>Hello<|end_message|>"),
    ("kimi_k3", ("why", "Hello"), "<|open|>think<|sep|>why<|close|>think<|sep|><|open|>response<|sep|>Hello"
     "<|close|>response<|sep|><|close|>message<|sep|>"),
    ("muse_glimmer", ("why", "Hello"),
     " to=self<|message|>why<|eom|><|start|>assistant to=user<|message|>Hello<|eot|>"),
    ("muse_glimmer", ("why",), " to=self<|message|>why<|eom|><|start|>assistant to="),
    ("inkling", ("why", "Hello"), "<|content_thinking|>why<|end_message|><|message_model|>a<|content_text|>"
     "Hel<|end_message|><|message_model|>greet<|content_text|>lo<|end_message|>"),
    ("plamo3", ("why", "Hello"), "Hello<|plamo:begin_think:plamo|>why"),
    # Where a text could be from more than one place, it is from that which explains the rest.
    ("kimi_k2", ("one", "one two"), "one two<think>one"),
    ("qwen3", ("two six", "<think>six"), " two<think> six</think><think> six"),
    # Channels.
    ("openai_gptoss", ("why", "Hello"), "<|channel|>analysis<|message|>why<|end|>"
     "<|start|>assistant<|channel|>final<|message|>Hello<|return|>"),
    ("openai_gptoss", ("why and how", "First. Hello"), "<|channel|>analysis<|message|>why <|end|>"
     "<|start|>assistant<|channel|>commentary<|message|>First.<|end|>"
     "<|start|>assistant<|channel|>analysis<|message|>and how<|end|>"
     "<|start|>assistant<|channel|>final <|constrain|>json<|message|>Hello"),
    ("openai_gptoss", ("why",), "<|channel|>analysis<|message|>why"),
    ("openai_gptoss", ("final",), "<|channel|>final<|message|>final<|return|>"),
    # Phrases; behind the first one alone, the answer ended within the thought.
    ("granite", ("why", "Hello"), "Here is my thought process: why Here is my response: Hello"),
    ("granite", ("why", "Hello"), "Here's my thought process: why\n\nHere's my response: Hello"),
    ("granite", ("process: why", "Hello"), "Here is my thought process: why Here is my response: Hello"),
    ("granite", (": why",), "Here is my thought process: why"),
    ("granite", ("why",), "Here is my thought process: why"),
    ("granite", ("Here is my thought process: why",), "Here is my thought process: why"),
]  # fmt: skip

UNCLEAR = [
    # What was held back for a phrase that never came.
    ("granite", ("why",), "Here is my thought process: why Here is my resp"),
    ("granite", (), "Here is my thou"),
    ("granite", ("why",), "Hm. Here is my thought process: why"),
    ("gemma4", ("why",), "thought\nwhy"),
    ("kimi_k3", ("why",), "why<|close|>think<|sep|><|open|>resp"),
    ("muse_glimmer", ("why",), "Hm to=self<|message|>why<|eom|>"),
    ("kimi_k3", ("Hello",), "Hm <|open|>response<|sep|>Hello"),
    ("ernie45", ("why", "Hello"), "why</think><response>Hello</response> there"),
    # Some throw away what stands before the opening tag.
    ("deepseek_r1", ("why", "Hello"), "a template opened it<think>why</think>Hello"),
    ("hunyuan_a13b", ("why", "Hello"), "<think>\nwhy\n</think>\n<answer>\nHello\n</answer> there"),
    # What is said to a tool that nobody has.
    ("openai_gptoss", ("why", "Hello"), "<|channel|>analysis<|message|>why<|end|>"
     "<|start|>assistant<|channel|>commentary to=python<|message|>print(1)<|call|>"
     "<|start|>assistant<|channel|>final<|message|>Hello<|return|>"),
    # A form that nobody listed.
    ("hf", ("why", "Hello"), "<|block|>musing<|text|>why<|block|>reply<|text|>Hello"),
]  # fmt: skip

KEPT_BACK = [
    ("qwen3", ("why", "Hello"), "<think>why</think>Hello there"),
    ("qwen3", ("why", "there"), "<think>why</think>Hello there"),
    ("qwen3", ("Hello",), "<think>why</think>Hello"),
    ("gemma4", ("why", "Hello"), "<|channel>thought\nwhy not<channel|>Hello"),
    ("openai_gptoss", ("why", "Hello"), "<|channel|>analysis<|message|>why<|end|>"
     "<|start|>assistant<|channel|>commentary<|message|>Yes<|end|>"
     "<|start|>assistant<|channel|>final<|message|>Hello<|return|>"),
    ("openai_gptoss", ("Hello",), "<|channel|>analysis<|message|>why<|end|>"
     "<|start|>assistant<|channel|>final<|message|>Hello<|return|>"),
    ("granite", ("why", "Hello"), "Here is my thought process: why Here is my response: Hello there"),
    ("granite", ("why", "Hello"), "Here is my thought process: why not Here is my response: Hello"),
    ("kimi_k3", ("why", "Hello"), "<|open|>think<|sep|>why<|close|>think<|sep|>"
     "<|open|>response<|sep|>Hello there<|close|>response<|sep|>"),
]  # fmt: skip


def known() -> set[str]:
    return {name for form in FORMS for name in form.parsers}


@pytest.mark.parametrize(("parser", "pieces", "said"), HONEST)
def test_honest_worker_is_not_accused_when_its_parser_cut_the_text(
    parser: str, pieces: tuple[str, ...], said: str
) -> None:
    assert parser in known()
    assert left_over(pieces, said) == Left(0)


@pytest.mark.parametrize(("parser", "pieces", "said"), UNCLEAR)
def test_form_says_so_when_it_cannot_tell_who_kept_a_text_back(
    parser: str, pieces: tuple[str, ...], said: str
) -> None:
    assert parser in known() | BY_FILE
    assert left_over(pieces, said) == Left(0, is_unclear=True)


@pytest.mark.parametrize(("parser", "pieces", "said"), KEPT_BACK)
def test_worker_cannot_keep_a_part_back_when_every_parser_would_show_it(
    parser: str, pieces: tuple[str, ...], said: str
) -> None:
    left = left_over(pieces, said)
    assert left is not None
    assert left.characters > 0


def test_every_parser_that_the_engine_may_be_told_to_use_has_its_form() -> None:
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed")
    source = Path(spec.origin).with_name("reasoning") / "__init__.py"
    tables = [
        each.value
        for each in ast.parse(source.read_text("utf-8")).body
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Dict)
    ]
    names = {name for table in tables for name in ast.literal_eval(table)}
    assert names
    assert names - known() <= BY_FILE
