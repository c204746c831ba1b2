"""What is shown against what tokens say: engines may drop and join, nobody may add or alter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.verify.texts import Left, ends_with, fits, is_at_stop, is_mark, left_over
from cocoon_sdk.verify.work import MOST_WORK, Work

_TEXT = st.text(st.sampled_from(" \n<>[]|abcAB\N{REPLACEMENT CHARACTER}"), max_size=30)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("Hello world", "Hello world<|im_end|>"),
        (" Hello world\n", "<s>Hello world</s>"),
        ("a <b>bold</b> word", "a <b>bold</b> word<|im_end|>"),
        ("Hello<tool> world", "Hello<tool> world"),
        ("Hello world", "Hello<tool> world"),
        ("cut \N{REPLACEMENT CHARACTER}", "cut"),
        ("cut", "cut \N{REPLACEMENT CHARACTER}<|im_end|>"),
        (
            "bad \N{REPLACEMENT CHARACTER} bytes",
            "bad \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} bytes",
        ),
        ("", "<|im_end|>"),
        ("<a><a>b", "<a><a><a>b"),
    ],
)
def test_engine_may_leave_marks_and_blanks_out(shown: str, said: str) -> None:
    assert fits(shown, said)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("Hello <b>now pay Eve</b> world", "Hello  world"),
        ("Hello world [SYSTEM]", "Hello world"),
        ("Hello world<script src=x>", "Hello world<|im_end|>"),
        ("a <i>word", "a <b>word"),
        ("a word<b>", "a <b>word"),
        ("Hello", "Hello world"),
        ("Hello world and more", "Hello world"),
        ("Hallo", "Hello"),
    ],
)
def test_worker_cannot_show_what_its_tokens_do_not_say_when_it_looks_like_a_mark(
    shown: str, said: str
) -> None:
    assert not fits(shown, said)


def test_cancelled_answer_may_end_on_either_side() -> None:
    assert fits("Hello wo", "Hello world", cancelled=True)
    assert fits("Hello world", "Hello w", cancelled=True)
    assert not fits("Hello moon", "Hello world", cancelled=True)


@given(text=_TEXT)
def test_text_always_fits_itself(text: str) -> None:
    assert fits(text, text)
    assert ends_with("prompt" + text, text)
    assert left_over([text], text) == Left(0)


@given(before=_TEXT, after=_TEXT)
def test_text_is_at_a_stop_when_it_ends_before_one(before: str, after: str) -> None:
    assert is_at_stop(before, f"{before}STOP{after}", ["STOP"])


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (("why", "Hello"), "<think>why</think>Hello<|im_end|>"),
        (("why", "Hello"), "why</think>\n\nHello"),
        (("use <b>tags</b>", "Hello"), "<think>\nuse <b>tags</b>\n</think>\n\nHello"),
        (
            ("why", "Hello"),
            "<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>final<|message|>Hello",
        ),
        # Blocks that come in turns are put together.
        (("one two", "Hello world"), "<|t|>one<|e|><|c|>Hello<|e|><|t|> two<|e|><|c|> world<|e|>"),
    ],
)
def test_parser_may_cut_a_text_into_reasoning_and_content(pieces: tuple[str, ...], said: str) -> None:
    assert left_over(pieces, said) == Left(0)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (("because", "Hello"), "<think>why</think>Hello"),
        (("why", "Hello <b>there"), "<think>why</think>Hello there"),
        (("why", "why"), "<think>why</think>Hello"),
        (("Hello", "why"), "<think>why</think>Hello there"),
        (("w", "ell"), "<think>why</think>Hi there"),
    ],
)
def test_worker_cannot_show_other_reasoning_or_content(pieces: tuple[str, ...], said: str) -> None:
    assert left_over(pieces, said) is None


def test_what_nobody_shows_is_counted() -> None:
    assert left_over(["why", "Hello"], "<think>why</think>Hello" + "x" * 100) == Left(100)
    assert left_over(["why", "Hello"], "<think>why</think>Hello x") == Left(1)


def test_judging_goes_no_further_than_its_work_when_a_text_may_be_cut_in_many_ways() -> None:
    said = "<think>x</think>y" * 2000
    work = Work()
    assert left_over(["x", "y", "y"], said, work=work) == Left(3997)
    assert 0 < MOST_WORK - work.left < 100 * len(said)
    assert left_over(["x", "y", "z"], said) is None
    assert left_over(["x", "y", "z"], said, work=Work(len(said))) == Left(0, is_unclear=True)


_WORDS = st.text(st.sampled_from("ab \n.:"), min_size=1, max_size=20).filter(lambda text: bool(text.strip()))


@given(thought=_WORDS, before=st.text("ab ", max_size=9), gone=_WORDS, after=st.text("ab ", max_size=9))
def test_worker_can_keep_nothing_back_beside_a_thought(
    thought: str, before: str, gone: str, after: str
) -> None:
    said = f"<think>{thought}</think>{before}{gone}{after}<|im_end|>"
    assert left_over([thought, before + gone + after], said) == Left(0)
    left = left_over([thought, before + after], said)
    assert left is None or left.characters >= len("".join(gone.split()))


def test_mark_is_known_by_its_look() -> None:
    assert is_mark("<|im_end|>")
    assert is_mark("[INST]")
    assert not is_mark("<a> b")
