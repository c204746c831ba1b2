"""Characters that no single token says: filled in from the answer that is shown, and nothing else.

Owns mending the text of tokens for its comparison. Must not know what the comparison finds. A worker that
re-scores an answer tells each token's text on its own. A character that several tokens make together, or
bytes that are none, then have no text, another one (U+FFFD), or only one of two sides has it. Such a place, a
hole, is taken from what is shown, as far as the text before and behind it is the same on both sides. All the
rest is compared as ever: where the sides part without a hole, nothing is mended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cocoon_sdk.client.auditing.case import AuditCase
from cocoon_sdk.verify.rescoring import Rescoring
from cocoon_sdk.verify.texts import MARK

HOLE: Final = "\N{REPLACEMENT CHARACTER}"
MOST_BEGINNINGS: Final = 64
"""Places where a piece of an answer is looked for."""
MOST_TRIES: Final = 20_000
"""Ends of holes that are tried for one text."""
_CONTEXT: Final = 12
"""Characters behind a hole that have to be the same."""
_SHOWN: Final = ("reasoning", "reasoning_content", "content", "text")


def filled(rescoring: Rescoring, case: AuditCase) -> Rescoring:
    """Return a rescoring whose texts have the characters that its tokens could not say one by one."""
    choices = case.response.get("choices")
    shown = [_pieces(each) for each in choices] if isinstance(choices, list) else []
    if len(shown) != len(rescoring.texts):
        return rescoring
    echo = bool(case.body.get("echo"))
    return replace(
        rescoring,
        texts=tuple(_mended(text, each, echo) for text, each in zip(rescoring.texts, shown, strict=True)),
        bodies=tuple(_mended(text, each, echo) for text, each in zip(rescoring.bodies, shown, strict=True)),
    )


def _pieces(choice: Any) -> list[str]:
    choice = choice if isinstance(choice, dict) else {}
    message = choice.get("message")
    fields = message if isinstance(message, dict) else choice
    return [text for name in _SHOWN if isinstance(text := fields.get(name), str) and text]


def _mended(said: str | None, shown: Sequence[str], echo: bool) -> str | None:
    for piece in shown:
        said = said if said is None else mend(said, piece, echo=echo)
    return said


def mend(said: str, shown: str, *, echo: bool = False) -> str:
    """Return `said`, with what stands in `shown` wherever one of the two has no whole character.

    A hole in `said` is filled with at most as many characters as it has itself. With `echo`, `shown` begins
    with something else. What does not fit is returned as it is.
    """
    if HOLE not in said and HOLE not in shown:
        return said
    sides = _Sides(said, shown)
    for start in sides.beginnings(echo):
        found = sides.walk(*start)
        if found is not None:
            return found
    return said


@dataclass(slots=True)
class _Hole:
    """A hole on the way, from `left` up to `behind`: where it may end, and what was copied before it."""

    left: int
    behind: int
    right: int
    ends: Iterator[int]
    parts: int
    copied: int


class _Sides:
    """Both texts without their blanks, and where each character stands."""

    def __init__(self, said: str, shown: str) -> None:
        self._said, self._shown = said, shown
        self._at = [place for place, each in enumerate(said) if not each.isspace()]
        self._of = [place for place, each in enumerate(shown) if not each.isspace()]
        self._left = "".join(said[place] for place in self._at)
        self._right = "".join(shown[place] for place in self._of)
        self._marks = {found.start(): found.end() for found in MARK.finditer(self._left)}

    def beginnings(self, echo: bool) -> Iterator[tuple[int, int]]:
        """Yield where the two may begin to be the same."""
        yield 0, 0
        places = self._places(self._left, self._right)
        yield from ((place, 0) for place in places)
        if echo:
            yield from ((0, place) for place in self._places(self._right, self._left))

    def _places(self, text: str, other: str) -> Iterator[int]:
        head = other.partition(HOLE)[0][:_CONTEXT]
        place = -1
        for _ in range(MOST_BEGINNINGS if head else 0):
            place = text.find(head, place + 1)
            if place < 0:
                return
            yield place

    def walk(self, left: int, right: int) -> str | None:
        """Go along both from there; return the mended text, None where they part without a hole.

        Where a hole may end at several places the first one counts that leads on to the end.
        """
        parts: list[str] = []
        copied = tries = 0
        trail: list[_Hole] = []
        while right < len(self._right):
            mine = self._left[left : left + 1]
            if mine == self._right[right] and mine != HOLE:
                left, right = left + 1, right + 1
                continue
            if HOLE in (mine, self._right[right]):
                behind = left + _run(self._left, left)
                trail.append(_Hole(left, behind, right, self._ends(left, behind, right), len(parts), copied))
            elif left in self._marks:
                left = self._marks[left]  # a mark that is not shown
                continue
            found = None
            while trail and found is None:
                hole = trail[-1]
                found = next(hole.ends, None)
                if found is None:
                    trail.pop()
            tries += 1
            if found is None or tries > MOST_TRIES:
                return None
            copied = self._at[hole.behind - 1] + 1 if hole.behind else 0
            start = self._at[hole.left] if hole.behind > hole.left else copied
            first = self._of[hole.right]
            last = self._of[found - 1] + 1 if found > hole.right else first
            parts[hole.parts :] = [self._said[hole.copied : start], self._shown[first:last]]
            left, right = hole.behind, found
        return "".join([*parts, self._said[copied:]])

    def _ends(self, left: int, behind: int, right: int) -> Iterator[int]:
        """Yield where the shown side may go on as the other does behind its hole."""
        others = _run(self._right, right)
        for more in range(0 if others else 1, behind - left + 1):
            end = right + others + more
            if end <= len(self._right) and self._same(behind, end):
                yield end

    def _same(self, left: int, right: int) -> bool:
        for _ in range(_CONTEXT):
            while left in self._marks and self._left[left] != self._right[right : right + 1]:
                left = self._marks[left]
            if right >= len(self._right):
                return True  # what is not shown any more is for whoever compares
            mine, other = self._left[left : left + 1], self._right[right]
            if HOLE in (mine, other):
                return True
            if mine != other:
                return False
            left, right = left + 1, right + 1
        return True


def _run(text: str, place: int) -> int:
    """Return how many holes stand there."""
    found = re.compile(f"{HOLE}*").match(text, place)
    return found.end() - place if found is not None else 0
