"""Many answers in a row: when they come to something that no single one of them shows.

Owns the rule by which an arbiter takes collateral for them, and a client knows that it would. Must not know
where answers come from. Whoever shows the answers of a session chooses them, so only those without a gap
between them count; and how often it could have begun such a row elsewhere is why the line is a thousand times
further than that of an audit (`score.ALPHA`), whose answers chance has chosen.

Whoever asks also chooses the prompts, and honest machines differ more on some prompts than on others, each
time alike. So the same prompt counts once, and a statistic counts only where it is beyond the limit for the
reward, where calibration has seen no honest answer at all. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from cocoon_sdk.verify.checking import Findings
from cocoon_sdk.verify.score import Score, observe
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.thresholds import KindThresholds

LINE: Final = 1e-6
"""Probability with which the pooled score of an honest worker's row is ever over the line, at most."""
LEAST_ROW: Final = 8
"""Fewest prompts in a row whose score counts."""


class InRow(NamedTuple):
    """What one answer brings into a row: its numbers, and what they are held against."""

    numbers: Numbers
    limits: KindThresholds
    prompt: bytes
    """What names the prompt: the hash of its tokens."""

    @classmethod
    def of(cls, findings: Findings) -> InRow | None:
        """Return what an answer's findings bring; None where nothing was measured.

        An answer that is longer than any in the calibration brings its means only: of more tokens the largest
        deviation is larger anyway, and whoever asks could ask for the longest answers there are.
        """
        numbers, limits = findings.numbers, findings.limits
        if numbers is None or limits is None:
            return None
        if len(findings.tokens) > limits.longest:
            numbers = numbers._replace(lp_max=0.0, tok_max=None if numbers.tok_max is None else 0.0)
        return cls(numbers, limits, findings.prompt)

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


def row_score(row: Sequence[InRow]) -> Score:
    """Return the running score of a row; of answers to the same prompt the mildest counts."""
    score = Score()
    for each in _once(row):
        score = observe(score, each._beyond, each.limits)
    return score


def is_over_the_line(row: Sequence[InRow]) -> bool:
    """Tell whether a row has enough prompts, and is no honest worker's."""
    return len(_once(row)) >= LEAST_ROW and row_score(row).accused(LINE)


def _once(row: Sequence[InRow]) -> list[InRow]:
    mildest: dict[bytes, InRow] = {}
    for each in row:
        known = mildest.setdefault(each.prompt, each)
        if each._distance < known._distance:
            mildest[each.prompt] = each
    return list(mildest.values())
