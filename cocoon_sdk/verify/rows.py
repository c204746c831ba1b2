"""Many answers of a session: when they come to something that no single one of them shows.

Owns the rule by which an arbiter takes collateral for them, and a client knows that it would. Must not know
where answers come from. Whoever shows the answers chooses them, and a worker may withhold receipts. So each
answer has its place, the number of its request, which the worker signed and which it takes only in rising
order; and every place between the first and the last one counts. What is not shown there counts as a perfect
answer. No honest answer could bring less, so leaving one out never helps against an honest worker: whatever
is left out, the score is at most what all the answers together come to. And a worker that lies cannot tear
its answers apart. How often a row could have begun elsewhere is why the line is a thousand times further than
that of an audit (`score.ALPHA`), whose answers chance has chosen.

Whoever asks also chooses the prompts, and honest machines differ more on some prompts than on others, each
time alike. So the same prompt counts once, in its other places there are perfect answers; and a statistic
counts only where it is beyond the limit for the reward, where calibration has seen no honest answer at all.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final, NamedTuple

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.verify.checking import Findings
from cocoon_sdk.verify.score import Score, observe
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.thresholds import KindThresholds

LINE: Final = 1e-6
"""Probability with which the pooled score of an honest worker's row is ever over the line, at most."""
LEAST_ROW: Final = 8
"""Fewest prompts in a row whose score counts. What was left out is none."""
_PERFECT: Final = Numbers(0.0, 0.0, 0.0, 0.0)


class InRow(NamedTuple):
    """What one answer brings into a row: its place, its numbers, and what they are held against."""

    place: int
    """The number of its request in the session: signed, and no two answers have the same."""
    numbers: Numbers
    limits: KindThresholds
    prompt: bytes
    """What names the prompt: the hash of its tokens."""
    others: KindThresholds | None = None
    """The limits of the model's other kind of sampling, of which answers that are left out may be."""

    @classmethod
    def of(cls, place: int, findings: Findings) -> InRow | None:
        """Return what an answer's findings bring in its place; None where nothing was measured.

        An answer that is longer than any in the calibration brings its means only: of more tokens the largest
        deviation is larger anyway, and whoever asks could ask for the longest answers there are.
        """
        numbers, limits = findings.numbers, findings.limits
        if numbers is None or limits is None:
            return None
        if len(findings.tokens) > limits.longest:
            numbers = numbers._replace(lp_max=0.0, tok_max=None if numbers.tok_max is None else 0.0)
        return cls(place, numbers, limits, findings.prompt, findings.others)

    @property
    def _beyond(self) -> Numbers:
        """The numbers that are beyond the limit for the reward; the others are those of a perfect answer."""
        exceeded = self.limits.exceeded(self.numbers, "refund")
        return self.numbers._replace(
            **{name: 0.0 for name, _ in self.numbers.items() if name not in exceeded}
        )

    @property
    def _distance(self) -> float:
        return sum(value / max(1, self.limits.limits(name).refund) for name, value in self._beyond.items())


def longest_row(shown: Sequence[InRow]) -> Sequence[InRow]:
    """Return the most answers one after the other of which no more places are left out than are shown.

    Of equals the first. `shown` rises by places. The bound keeps a row as short as what is shown for it.
    """
    row: Sequence[InRow] = ()
    for first, begin in enumerate(shown):
        for last in range(len(shown) - 1, first + len(row) - 1, -1):
            if shown[last].place - begin.place < 2 * (last - first + 1):
                row = shown[first : last + 1]
                break
    return row


def row_score(row: Sequence[InRow]) -> Score:
    """Return the running score of a row, from its first place to its last.

    Of answers to the same prompt the mildest counts. Raises `ConfigError` for what is no row: places that do
    not rise, or more of them left out than shown.
    """
    if any(later.place <= earlier.place for earlier, later in pairwise(row)) or len(longest_row(row)) < len(
        row
    ):
        raise ConfigError("cannot score the row", why="its places do not rise, or too many are left out")
    counted = {each.place: each for each in _once(row)}
    kinds = _kinds(row)
    score = Score()
    for place in range(row[0].place, row[-1].place + 1) if row else ():
        each = counted.get(place)
        score = _left_out(score, kinds) if each is None else observe(score, each._beyond, each.limits)
    return score


def is_over_the_line(row: Sequence[InRow]) -> bool:
    """Tell whether a row has enough prompts, and is no honest worker's. Raises what `row_score` raises."""
    return len(_once(row)) >= LEAST_ROW and row_score(row).accused(LINE)


def _left_out(score: Score, kinds: Sequence[KindThresholds]) -> Score:
    """Return the score after an answer that was left out: perfect, and of the kind where that says most."""
    after = [observe(score, _PERFECT, kind) for kind in kinds]
    return replace(after[0], wealth=tuple(map(min, zip(*(each.wealth for each in after), strict=True))))


def _kinds(row: Sequence[InRow]) -> list[KindThresholds]:
    kinds: list[KindThresholds] = []
    for each in row:
        kinds += [kind for kind in (each.limits, each.others) if kind is not None and kind not in kinds]
    return kinds


def _once(row: Sequence[InRow]) -> list[InRow]:
    mildest: dict[bytes, InRow] = {}
    for each in row:
        known = mildest.setdefault(each.prompt, each)
        if each._distance < known._distance:
            mildest[each.prompt] = each
    return list(mildest.values())
