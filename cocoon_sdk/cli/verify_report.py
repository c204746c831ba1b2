"""How findings look on a terminal: the level and its reasons, the numbers, and a plot of every token.

Owns the drawing. Must not know where findings come from. A bar is as high as the token's deviation measured
by the limit for a single token; what is beyond the limit is drawn as `X` and listed below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from cocoon_sdk.verify.checking import Findings
    from cocoon_sdk.verify.statistics import TokenEvidence

BARS: Final = " ▁▂▃▄▅▆▇"
BEYOND: Final = "X"
PER_LINE: Final = 64
_SHOWN: Final = 8
_MAX_LINES: Final = 40
_UNIT: Final = 1_000_000
_MEANING: Final = {
    "lp_mean": "log-probability off, mean",
    "lp_max": "log-probability off, worst token",
    "tok_mean": "choice off, mean",
    "tok_max": "choice off, worst token",
}
_COLOURS: Final = {"honest": "green", "suspect": "yellow", "refund": "red", "slash": "bold red"}


def report(findings: Findings) -> RenderableType:
    """Return everything that a person wants to see."""
    word = findings.level.word
    parts: list[RenderableType] = [Text(f"Level: {word}", style=_COLOURS[word])]
    parts += [Text(f"  {reason}") for reason in findings.reasons]
    if findings.numbers is None:
        return Group(*parts)
    if findings.unclear:
        parts.append(Text(f"The text shown could not be compared with its tokens: {findings.unclear}."))
    if findings.unreplayable:
        parts.append(Text(f"Choices were not replayed: {findings.unreplayable}."))
    if findings.limits is None:
        parts.append(Text(f"No thresholds for {findings.kind.value} answers: the numbers were not judged."))
    parts.append(_numbers(findings))
    limit = None if findings.limits is None else findings.limits.lp_max.suspect / _UNIT
    parts += _plot("Log-probability: committed against recomputed", findings.tokens, _difference, limit)
    if not findings.unreplayable:
        limit = None if findings.limits is None else findings.limits.tok_max.suspect / _UNIT
        parts += _plot("Choice: regret of each token under the replay", findings.tokens, _regret, limit)
    parts += _worst(findings)
    return Group(*parts)


def _difference(token: TokenEvidence) -> float:
    return token.difference


def _regret(token: TokenEvidence) -> float:
    return token.regret or 0.0


def _numbers(findings: Findings) -> Table:
    table = Table("statistic", "nat", "honest up to", "suspect", "refund", "slash", box=None)
    assert findings.numbers is not None
    for name, value in findings.numbers.items():
        row = [_MEANING[name], f"{value:.4f}"]
        if findings.limits is not None:
            limits = findings.limits.limits(name)
            row += [
                f"{each / _UNIT:.4f}" for each in (limits.honest, limits.suspect, limits.refund, limits.slash)
            ]
        table.add_row(*row)
    return table


def _plot(
    title: str,
    tokens: Sequence[TokenEvidence],
    value: Callable[[TokenEvidence], float],
    limit: float | None,
) -> list[RenderableType]:
    """Draw one character for each token, `PER_LINE` in a line, with the first one's position in front."""
    values = [value(token) for token in tokens]
    top = limit if limit is not None else max(values, default=0.0)
    scale = f"full bar {top:.3f} nat" + (f", {BEYOND} beyond it" if limit is not None else "")
    lines: list[RenderableType] = [Text(f"\n{title} ({scale})", style="bold")]
    drawn = "".join(_bar(each, top) for each in values)
    starts = range(0, len(drawn), PER_LINE)
    lines += [Text(f"{start:6d} |{drawn[start : start + PER_LINE]}|") for start in starts[:_MAX_LINES]]
    if len(starts) > _MAX_LINES:
        lines.append(Text(f"       ... and {len(drawn) - _MAX_LINES * PER_LINE} tokens more"))
    return lines


def _bar(value: float, top: float) -> str:
    if value <= 0 or top <= 0:
        return BARS[0]
    if value > top:
        return BEYOND
    return BARS[max(1, min(len(BARS) - 1, round(value / top * (len(BARS) - 1))))]


def _worst(findings: Findings) -> Iterable[RenderableType]:
    """List the tokens that deviate most."""
    found = sorted(findings.tokens, key=lambda token: -max(_difference(token), _regret(token)))
    found = [token for token in found if max(_difference(token), _regret(token)) > 0.01][:_SHOWN]
    if not found:
        return
    table = Table("token no.", "id", "rank", "committed", "recomputed", "regret", "expected id", box=None)
    for token in found:
        table.add_row(
            f"{token.choice}:{token.position}" if token.choice else str(token.position),
            str(token.token),
            str(token.rank),
            f"{token.committed:.3f}",
            f"{token.recomputed:.3f}",
            "" if token.regret is None else f"{token.regret:.3f}",
            "" if token.expected in (None, token.token) else str(token.expected),
        )
    yield Text("\nTokens that deviate most (nat)", style="bold")
    yield table
