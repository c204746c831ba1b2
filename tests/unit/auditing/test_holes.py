"""Characters that no single token says: only the place itself is taken from what is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.client.auditing.holes import HOLE, mend
from cocoon_sdk.verify.texts import fits

WORDS = st.text(alphabet="abc d<>|", max_size=12)
DENSE = st.text(alphabet="é漢😀", min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"so {HOLE}{HOLE} it is", "so é it is"),
        (f"{HOLE}{HOLE}{HOLE}{HOLE}", "😀"),
        (f"{HOLE}{HOLE} first", "é first"),
        (f"at the end {HOLE}{HOLE}{HOLE}<|end|>", "at the end 漢"),
        (f"a{HOLE}{HOLE}b{HOLE}{HOLE}c", "aébèc"),
        (f"go {HOLE}{HOLE} go {HOLE}{HOLE} go", "go é go è go"),
        (f"<think>{HOLE}{HOLE}</think>so", "éso"),
        ("no text for bytes that are none", f"no text {HOLE}for bytes that are none"),
        (f"a broken {HOLE}{HOLE} one", f"a broken {HOLE} one"),
        (f"{'ab' * 30}{HOLE}{HOLE}{'ab' * 30}", f"{'ab' * 30}é{'ab' * 30}"),
    ],
)
def test_honest_answer_fits_although_a_character_is_in_several_tokens(said: str, shown: str) -> None:
    assert fits(shown, mend(said, shown))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"so {HOLE}{HOLE} it is not", "so é it is"),
        (f"so {HOLE}{HOLE} it is", "so that is how it is"),  # more than a hole can hold
        (f"the price is 10 {HOLE}{HOLE}{HOLE}", "the price is 99 €"),
        (f"buy now {HOLE}{HOLE}{HOLE}{HOLE}", "wait a bit 😀"),
        ("nothing is hidden", f"nothing {HOLE}hid"),
        (f"{HOLE}{HOLE}", "abc"),
    ],
)
def test_worker_cannot_show_another_text_around_a_hole(said: str, shown: str) -> None:
    assert not fits(shown, mend(said, shown))


def test_stop_sequence_behind_a_hole_stays_where_it_is() -> None:
    said, shown = f"one {HOLE}{HOLE} two. STOP more", "one é two. "
    assert mend(said, shown) == "one é two. STOP more"


def test_echo_of_the_prompt_is_no_obstacle() -> None:
    said, shown = f"so {HOLE}{HOLE} it is today", "what is it? so é it is today"
    assert mend(said, shown, echo=True) == "so é it is today"
    assert mend(said, shown) == said


@given(st.lists(st.tuples(WORDS, DENSE), max_size=6), WORDS)
def test_text_with_holes_for_its_dense_characters_is_mended(parts: list[tuple[str, str]], last: str) -> None:
    """Each character beyond ASCII is in as many tokens as it has bytes."""
    shown = "".join(words + dense for words, dense in parts) + last
    said = "".join(words + HOLE * len(dense.encode()) for words, dense in parts) + last
    assert fits(shown, mend(said, shown))


@given(st.text(alphabet=f"ab {HOLE}é", max_size=40), st.text(alphabet=f"ab {HOLE}é", max_size=40))
def test_anything_can_be_mended_without_an_error(said: str, shown: str) -> None:
    mend(said, shown)
    mend(said, shown, echo=True)
