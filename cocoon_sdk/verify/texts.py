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

from cocoon_sdk.verify.forms import (
    CUT,
    THOUGHT,
    is_broken,
    is_unlisted,
    views,
    without_frames,
    without_labels,
)
from cocoon_sdk.verify.work import TooMuchError, Work

MARK: Final = re.compile(r"<[^<>\n]{1,64}>|\[[A-Z_/]{2,32}\]")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
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


def left_over(
    pieces: Sequence[str], said: str, *, cancelled: bool = False, work: Work | None = None
) -> Left | None:
    """Take the pieces that a parser made of a text out of it; return what nobody shows.

    Marks do not count, nor what the text's form puts around thoughts and answers (`forms`). None when a piece
    does not stand there: in one part, behind the pieces before it, or as whole blocks between marks. Beyond
    `work`, it is unclear.
    """
    try:
        return _left_over(pieces, said, Work() if work is None else work, cancelled=cancelled)
    except TooMuchError:
        return Left(0, is_unclear=True)


def _left_over(pieces: Sequence[str], said: str, work: Work, *, cancelled: bool) -> Left | None:
    text, shown = squeezed(said), [squeezed(piece) for piece in pieces]
    least: int | None = None
    unlisted = is_unlisted(text)
    for view in views(text):
        for rest in _rests(view.text, shown, 0, work, cancelled=cancelled):
            # Some frames may be shown, and others not.
            count = min(_count(rest), _count(without_frames(text, rest)))
            if not count or (unlisted and not _count(without_labels(rest))):
                return Left(0, is_unclear=bool(count) or not view.is_sure)
            least = count if least is None else min(least, count)
    if least is None:
        return None
    return Left(0, is_unclear=True) if is_broken(text) else Left(least)


def _rests(text: str, pieces: Sequence[str], behind: int, work: Work, *, cancelled: bool) -> Iterator[str]:
    """Yield what is left of one reading of a text, for every way in which the pieces may have been made."""
    work.spend(len(text))
    if not pieces:
        yield text
        return
    stands = False
    for rest, place in dict.fromkeys(_taken(pieces[0], text, behind)):
        stands = True
        yield from _rests(rest, pieces[1:], place, work, cancelled=cancelled)
    if not stands and cancelled and _runs_beyond(pieces[0], text):
        yield from _rests(text, pieces[1:], behind, work, cancelled=cancelled)


def _taken(piece: str, text: str, behind: int) -> Iterator[tuple[str, int]]:
    """Yield the text without a piece, for every place that it may be from, and where the next may begin."""
    thought = text.find(THOUGHT, behind)
    yield from _in_one(piece, text, behind)
    if thought >= 0:
        yield from _in_one(piece, text, thought)
    said_first = text.find(piece + THOUGHT) if piece else -1
    if said_first >= 0:  # some models say something before they think
        yield f"{text[:said_first]}{CUT}{text[said_first + len(piece) :]}", 0
    yield from _in_blocks(piece, text)
    yield from _in_one(piece, text[:behind] + without_marks(text[behind:]), behind)


def _count(rest: str) -> int:
    return len(without_marks(rest).replace(CUT, ""))


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


def _in_one(piece: str, text: str, behind: int) -> Iterator[tuple[str, int]]:
    """Take a piece out where it stands in one part."""
    at = text.find(piece, behind)
    if at >= 0:
        yield f"{text[:at]}{CUT}{text[at + len(piece) :]}", at + 1


def _in_blocks(piece: str, text: str) -> Iterator[tuple[str, int]]:
    """Take a piece out that several whole blocks make together: some formats mix reasoning and content.

    These may stand anywhere: one block alone has its place.
    """
    place, kept = 0, []
    for part, _ in _parts(text):
        is_next = place < len(piece) and piece.startswith(part, place)
        place += len(part) if is_next else 0
        kept.append(CUT if is_next else part)
    if place == len(piece) and kept.count(CUT) > 1:
        yield "".join(kept), 0


def _runs_beyond(piece: str, text: str) -> bool:
    """Tell whether a piece stands at the end of the text and goes on where that was cut off."""
    at = text.find(piece[:_HEAD])
    if at < 0:
        return any(text.endswith(piece[:count]) for count in range(min(_HEAD, len(piece)), 0, -1))
    return _walk(piece, text[at:]) is not None
