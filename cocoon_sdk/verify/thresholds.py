"""What an honest answer looks like: limits of the statistics, how they are set, and what they are worth.

Owns the form of thresholds, the rule that sets them from honest checks, and the error bounds that follow.
Must not know where honest checks come from (`calibration`), or how limits are applied (`checking`, `score`).

Thresholds belong to one model. For each of the four statistics there are

* three *limits* for a single answer, multiples of the largest honest value of all settings: what is beyond
  the first is suspect, beyond the second an arbiter takes the reward away, beyond the third collateral too.
  They come from greedy and sampled checks together: a largest value needs many checks more than like ones;
* a *ladder* for many answers together (`ladder`): values with the share of honest answers that exceed them
  in the worst setting, and what may be bet on them. All ladders of a model hold together with probability
  1 - `LADDER_DOUBT` over the draw of the honest checks. Means estimate one spread of logits, whatever the
  sampling, so their ladders come from both kinds too. Those of the largest values are each kind's own:
  sampled answers go through unlikely tokens, whose log-probabilities spread more, and flip more often.

Nothing that is judged may enter: limits come from calibration prompts only, and checks of other prompts
(`held_out`) say how often they are wrong. All values are in millionths of a nat or of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.protocol.canonical import canonical_bytes, parse_json
from cocoon_sdk.protocol.hashing import Tag, tagged_hash
from cocoon_sdk.protocol.models import HashHex, VersionOne, WireInt, WireModel
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.ladder import MILLION, Ladder, Micro, make_ladder, micro
from cocoon_sdk.verify.rescoring import DEFAULT_TOP, MAX_TOP
from cocoon_sdk.verify.statistics import MEANS, NAMES, STATISTICS_VERSION, Numbers

MAX_THRESHOLDS_BYTES: Final = 64 * 1024
CONFIDENCE: Final = 0.95
"""Of the false-alarm bound that is told."""
LADDER_DOUBT: Final = 0.01
"""Probability that some ladder of a model lets honest workers lose more than they should."""
LADDERS: Final = len(MEANS) + 2 * (len(NAMES) - len(MEANS))
"""Of one model: those of the means serve both kinds of sampling."""
SUSPECT: Final = 1.25
"""What is beyond this many times the largest honest value is suspect."""
REFUND: Final = 1.5
SLASH: Final = 4.0
MIN_CHECKS: Final = 20
"""Fewest honest checks of a setting: below, not even the median has a useful bound."""
_LEAST: Final = {"lp_mean": 0.01, "lp_max": 0.02, "tok_mean": 0.004, "tok_max": 0.05}
"""Smallest honest values that limits are computed from, in nat: what rounding does to a commitment, and near
ties that no calibration of a precise engine may have met.
"""


class SamplingKind(StrEnum):
    """Which thresholds an answer is judged by."""

    GREEDY = "greedy"
    SAMPLED = "sampled"


class Limits(WireModel):
    """One statistic: the largest honest value, the limits, and the ladder from common to rare."""

    honest: Micro
    suspect: Micro
    refund: Micro
    slash: Micro
    ladder: Ladder

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.suspect <= self.refund <= self.slash:
            raise ValueError("limits do not rise from suspect over refund to slash")
        return self


class KindThresholds(WireModel):
    """Limits of the four statistics for one kind of sampling, and the checks that they come from.

    `honest_checks` in `settings` different settings set the limits; the longest answer among them had
    `longest` tokens. `held_out_checks` are honest checks of other prompts that did not, with
    `held_out_alarms` beyond a refund.
    """

    honest_checks: WireInt
    settings: WireInt
    longest: WireInt
    held_out_checks: WireInt
    held_out_alarms: WireInt
    lp_mean: Limits
    lp_max: Limits
    tok_mean: Limits
    tok_max: Limits

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.held_out_alarms > self.held_out_checks:
            raise ValueError("more alarms than checks")
        return self

    def limits(self, name: str) -> Limits:
        """Return the limits of a statistic by its name in `NAMES`."""
        if name not in NAMES:
            raise KeyError(name)
        found: Limits = getattr(self, name)
        return found

    @property
    def false_alarm_bound(self) -> float:
        """The largest rate of honest answers beyond a refund that the checks leave possible, at `CONFIDENCE`.

        From held-out checks by the exact binomial bound (with no alarm: about three divided by their number).
        Without any, from the limits' own checks: the chance to exceed the largest of n, for each statistic.
        """
        if self.held_out_checks:
            return binomial_bound(self.held_out_alarms, self.held_out_checks, 1 - CONFIDENCE)
        doubt = (1 - CONFIDENCE) / len(NAMES)
        return min(1.0, len(NAMES) * binomial_bound(0, self.honest_checks, doubt))

    def exceeded(self, numbers: Numbers, level: str) -> tuple[str, ...]:
        """Return the statistics beyond the limit of a level ("suspect", "refund" or "slash")."""
        return tuple(
            name for name, value in numbers.items() if value * MILLION > getattr(self.limits(name), level)
        )

    def with_held_out(self, checks: Sequence[Numbers]) -> Self:
        """Return the same limits with what honest checks of other prompts say about them."""
        alarms = sum(bool(self.exceeded(each, "refund")) for each in checks)
        return self.model_copy(update={"held_out_checks": len(checks), "held_out_alarms": alarms})


class Thresholds(WireModel):
    """All limits of one model; `model_id` is the hash of its manifest. None for kinds not calibrated.

    `statistics` is the version of what they limit: limits of another one are refused.

    `top` is how many of the best tokens of each position the honest checks saw. Who sees further finds more
    in honest answers too, so no check may look beyond it; who sees less is milder in TOK, and sees LP with
    weights that lack the least likely tokens, which hardly add to them.
    """

    v: VersionOne = 1
    model_id: HashHex
    statistics: int = STATISTICS_VERSION
    top: Annotated[int, Field(ge=1, le=MAX_TOP)] = DEFAULT_TOP
    greedy: KindThresholds | None
    sampled: KindThresholds | None

    @field_validator("statistics")
    @classmethod
    def _is_ours(cls, version: int) -> int:
        if version != STATISTICS_VERSION:
            raise ValueError(f"they limit statistics {version}, not {STATISTICS_VERSION}: calibrate again")
        return version

    def kind(self, kind: SamplingKind) -> KindThresholds | None:
        """Return the limits for one kind of sampling."""
        return self.greedy if kind is SamplingKind.GREEDY else self.sampled

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that `digest` covers."""
        return canonical_bytes(self.to_wire(), max_bytes=MAX_THRESHOLDS_BYTES)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read JSON within the bounds. Raises `MalformedError`."""
        return cls.from_wire(parse_json(data, max_bytes=MAX_THRESHOLDS_BYTES))

    def digest(self) -> Hash:
        """Return the tagged SHA-256 that a model's registry entry carries."""
        return tagged_hash(Tag.THRESHOLDS, self.to_bytes())


Checked: TypeAlias = Mapping[str, Sequence[Numbers]]
"""Honest checks, grouped by the setting (batch, dtype, machine) they were made in."""


def fit(settings: Checked, *, longest: int, both: Checked | None = None) -> KindThresholds:
    """Set limits for one kind of sampling from its honest checks, `settings`, and those of `both` kinds.

    `longest` is the number of tokens of the longest answer; without `both` there are no others. Raises
    `ConfigError` when a setting has fewer than `MIN_CHECKS`, or a statistic none at all.
    """
    if not settings or min(len(checks) for checks in settings.values()) < MIN_CHECKS:
        raise ConfigError(
            "cannot set limits",
            why=f"a setting has fewer than {MIN_CHECKS} honest checks",
            hint="Run more calibration prompts",
        )
    values: dict[str, Any] = {
        "honest_checks": sum(len(checks) for checks in settings.values()),
        "settings": len(settings),
        "longest": longest,
        "held_out_checks": 0,
        "held_out_alarms": 0,
    }
    seen = both or settings
    for name in NAMES:
        ladder = make_ladder(
            _values(name, seen if name in MEANS else settings),
            floor=_LEAST[name],
            doubt=LADDER_DOUBT / LADDERS,
        )
        values[name] = _limits(name, _values(name, seen), ladder)
    return KindThresholds(**values)


def _values(name: str, settings: Checked) -> list[list[float]]:
    """Return a statistic's values by setting. Raises `ConfigError` where there are too few."""
    groups = [
        [value for check in checks if (value := getattr(check, name)) is not None]
        for checks in settings.values()
    ]
    groups = [group for group in groups if group]
    if not groups or min(len(group) for group in groups) < MIN_CHECKS:
        raise ConfigError("cannot set limits", why=f"too few honest checks have {name}")
    return groups


def _limits(name: str, groups: Sequence[Sequence[float]], ladder: Ladder) -> Limits:
    largest = max(_LEAST[name], *(max(group) for group in groups))
    return Limits(
        honest=micro(largest),
        suspect=micro(largest * SUSPECT),
        refund=micro(largest * REFUND),
        slash=micro(largest * SLASH),
        ladder=ladder,
    )


def binomial_bound(failures: int, trials: int, doubt: float) -> float:
    """Return the largest rate at which so few failures still have a probability of `doubt`.

    The exact bound of Clopper and Pearson; with no failure and a doubt of 0.05 it is nearly 3 / trials.
    """
    if failures >= trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(failures, trials, middle) > doubt:
            low = middle
        else:
            high = middle
    return high


def _at_most(failures: int, trials: int, rate: float) -> float:
    """Return the probability of at most `failures` of `trials`."""
    return math.fsum(math.exp(_log_probability(each, trials, rate)) for each in range(failures + 1))


def _log_probability(failures: int, trials: int, rate: float) -> float:
    """Return ln of the probability of exactly `failures` of `trials`; `rate` lies between 0 and 1."""
    ways = math.lgamma(trials + 1) - math.lgamma(failures + 1) - math.lgamma(trials - failures + 1)
    return ways + failures * math.log(rate) + (trials - failures) * math.log1p(-rate)
