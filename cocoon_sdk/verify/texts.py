"""Is this text what the tokens say? Comparison up to what engines may do with a text on its way.

Owns the rules: engines leave marks of special tokens out or not, parsers cut a text into reasoning, content
and calls, blanks come and go where pieces are joined, and a character may be cut in the middle. Nothing may
be added or altered: a mark that is shown has to stand there too. Must not know tokens or faults.

A *mark* is what looks like one, `<...>` or `[INST]`: nobody who holds text only can tell a special token from
markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_sdk.verify.forms import THOUGHT, is_broken, is_unlisted, views, without_labels

MARK: Final = re.compile(r"<[^<>\n]{1,64}>|\[[A-Z_/]{2,32}\]")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_CUT: Final = "\0"
"""Stands where a piece was taken out, so that what was apart does not become one."""
_HEAD: Final = 32


def is_mark(text: str) -> bool:
    """Tell whether a text is nothing but one mark."""
    return MARK.fullmatch(text) is not None


def without_marks(text: str) -> str:
    """Return the text without its marks."""
    return MARK.sub("", text)


def squeezed(text: str) -> str:
    """Return the text without blanks, and without what stands for bytes that are no character.

    A character may be cut at the end, and of bad bytes engines that stream count as many as they like.
    """
    return "".join(text.split()).replace(_REPLACEMENT, "")


def fits(shown: str, said: str, *, cancelled: bool = False) -> bool:
    """Tell whether `shown` is what the tokens say; of a cancelled answer, either may end before the other."""
    rest = _walk(squeezed(shown), squeezed(said))
    if rest is None:
        return False
    more_shown, more_said = rest[0], without_marks(rest[1])
    if cancelled:
        return not more_shown or not more_said
    return not more_shown and not more_said


def ends_with(shown: str, said: str) -> bool:
    """Tell whether `shown` ends with what the tokens say, whatever stands before it (the prompt's echo)."""
    return squeezed(without_marks(shown)).endswith(squeezed(without_marks(said)))


def is_at_stop(shown: str, said: str, stops: Sequence[str]) -> bool:
    """Tell whether `shown` ends where the tokens have a stop sequence, or with one."""
    # As it stands first: a stop sequence may look like a mark, or be blank.
    pairs = ((shown, said), (shown.lstrip(), said.lstrip()), (shown.lstrip(), without_marks(said).lstrip()))
    for text, whole in pairs:
        rest = _walk(text, whole)
        if rest is None or rest[0]:
            continue
        behind = (rest[1], without_marks(rest[1]))
        if any(text.endswith(stop) or any(each.startswith(stop) for each in behind) for stop in stops):
            return True
    return False


@dataclass(frozen=True, slots=True, order=True)
class Left:
    """How many characters of a text nobody shows; when `is_unclear`, a parser may have thrown more away."""

    characters: int
    is_unclear: bool = False


def left_over(pieces: Sequence[str], said: str, *, cancelled: bool = False) -> Left | None:
    """Take the pieces that a parser made of a text out of it; return what nobody shows.

    Marks do not count, nor what the text's form puts around thoughts and answers (`forms`). None when a piece
    does not stand there: in one part, behind the pieces before it, or as whole blocks between marks.
    """
    text, shown = squeezed(said), [squeezed(piece) for piece in pieces]
    least: int | None = None
    unlisted = is_unlisted(text)
    for view in views(text):
        rest = _rest(view.text, shown, cancelled=cancelled)
        if rest is None:
            continue
        count = _count(rest)
        if not count or (unlisted and not _count(without_labels(rest))):
            return Left(0, is_unclear=bool(count) or not view.is_sure)
        least = count if least is None else min(least, count)
    if least is None:
        return None
    return Left(0, is_unclear=True) if is_broken(text) else Left(least)


def _rest(text: str, pieces: Sequence[str], *, cancelled: bool) -> str | None:
    """Return what is left of one reading of a text."""
    behind = 0
    for piece in pieces:
        taken = _in_one(piece, text, behind) or _before_thought(piece, text) or _in_blocks(piece, text)
        if taken is None:
            if cancelled and _runs_beyond(piece, text):
                continue
            return None
        text, behind = taken
    return text


def _count(rest: str) -> int:
    return len(without_marks(rest).replace(_CUT, ""))


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the text in parts, and whether each is a mark."""
    at = 0
    for found in MARK.finditer(text):
        if found.start() > at:
            yield text[at : found.start()], False
        yield found.group(), True
        at = found.end()
    if at < len(text):
        yield text[at:], False


def _walk(shown: str, said: str) -> tuple[str, str] | None:
    """Go along both, past marks that are not shown; return what is left of each when one ends.

    None where they part.
    """
    place = at = 0
    for part, marked in _parts(said):
        left = len(shown) - place
        if not left:
            break
        if shown.startswith(part, place):
            place += len(part)
        elif left < len(part) and part.startswith(shown[place:]):
            return "", said[at + left :]
        elif not marked:
            return None
        at += len(part)
    return shown[place:], said[at:]


def _in_one(piece: str, text: str, behind: int) -> tuple[str, int] | None:
    """Take a piece out where it stands in one part, as it is or without marks; None where it does not."""
    at = text.find(piece, behind)
    if at < 0:
        text = text[:behind] + without_marks(text[behind:])
        at = text.find(piece, behind)
    if at < 0:
        return None
    return f"{text[:at]}{_CUT}{text[at + len(piece) :]}", at + 1


def _before_thought(piece: str, text: str) -> tuple[str, int] | None:
    """Take a piece out that is all there is before a thought: some models say something first."""
    if piece and text.startswith(piece + THOUGHT):
        return f"{_CUT}{text[len(piece) :]}", 0
    return None


def _in_blocks(piece: str, text: str) -> tuple[str, int] | None:
    """Take a piece out that several whole blocks make together: some formats mix reasoning and content.

    These may stand anywhere: one block alone has its place.
    """
    place, kept = 0, []
    for part, _ in _parts(text):
        is_next = place < len(piece) and piece.startswith(part, place)
        place += len(part) if is_next else 0
        kept.append(_CUT if is_next else part)
    return ("".join(kept), 0) if place == len(piece) and kept.count(_CUT) > 1 else None


def _runs_beyond(piece: str, text: str) -> bool:
    """Tell whether a piece stands at the end of the text and goes on where that was cut off."""
    at = text.find(piece[:_HEAD])
    if at < 0:
        return any(text.endswith(piece[:count]) for count in range(min(_HEAD, len(piece)), 0, -1))
    return _walk(piece, text[at:]) is not None
