"""What a client checks of its results, with whose help, and what that may cost.

Owns the settings and their bounds. Must not act on them. Amounts are nanoTON, times are seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.types import Nano

if TYPE_CHECKING:  # it needs NumPy, and clients that check nothing do not
    from cocoon_sdk.verify.thresholds import Thresholds

_PER_DAY: Final = Nano.ton("0.1")
MOST_PER_CHECK: Final = Nano.ton("0.01")
"""What checking one result may cost, unless told otherwise."""
_BOND: Final = Nano.ton(5)
MAX_WAITING: Final = 10_000
MAX_AT_ONCE: Final = 64

Draw: TypeAlias = "Callable[[], float]"
"""Returns a number from 0 up to, not including, 1: below the share, a result is checked."""


def unpredictable() -> float:
    """Draw from the operating system: what nobody outside can know before it happens."""
    return random.SystemRandom().random()


@dataclass(frozen=True, slots=True)
class OwnVerifier:
    """A vLLM endpoint of the client's own that serves the models it buys; asking it costs no nanoTON.

    `url` is its base, such as `http://gpu.local:8000`. `models` gives the names under which it serves them,
    by the name that workers offer; a model without an entry is asked for under that name. `end_tokens` are
    the tokens that end an answer, by the same name, where known (`eos_token_id` of its generation
    configuration). `top` tokens per position are asked for; more than 20 need `--max-logprobs` there.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    models: Mapping[str, str] = field(default_factory=dict)
    end_tokens: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    top: int = 20

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("the verifier's URL cannot be used", why="it is neither http:// nor https://")


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """Which share of the results is checked, and what follows. Amounts in nanoTON, times in seconds.

    `share` (0 to 1) is the same for every worker; which results are checked is drawn when they are there.
    `verifier` recomputes them: an endpoint of one's own, or (None) another worker of the same model, of
    another owner, that is paid for it: at most `most_per_check` for one result, `spend_per_day` in a day of
    UTC. `thresholds` belong to models by the calibration hash of their registry entry.

    A worker over the line is not asked any more. Where a result of it can be disputed, and `dispute` is on,
    it is disputed if the bond at stake is at most `most_bond`, and all such bonds of a day together are at
    most `bonds_per_day`. At most `waiting` results wait for their check, and `at_once` are under way; what
    comes when that is full is not checked, and counted. A check takes at most `timeout_s`; `drain_s` is how
    long closing the client waits for those that have begun. `draw` is for tests.
    """

    share: float = 0.05
    verifier: OwnVerifier | None = None
    thresholds: tuple[Thresholds, ...] = ()
    spend_per_day: Nano = _PER_DAY
    most_per_check: Nano = MOST_PER_CHECK
    dispute: bool = True
    most_bond: Nano = _BOND
    bonds_per_day: Nano | None = None
    waiting: int = 64
    at_once: int = 2
    timeout_s: float = 300.0
    drain_s: float = 60.0
    every_s: float = 30.0
    """How often what was left undone is tried again: disputes, and what other processes found."""
    keep_days: int = 90
    """How long findings without a dispute are kept."""
    draw: Draw = field(default=unpredictable, repr=False, compare=False)

    def __post_init__(self) -> None:
        problem = None
        if not 0.0 <= self.share <= 1.0:
            problem = "the share is a number from 0 to 1"
        elif not (1 <= self.waiting <= MAX_WAITING and 1 <= self.at_once <= MAX_AT_ONCE):
            problem = f"1 to {MAX_WAITING} results may wait, and 1 to {MAX_AT_ONCE} be checked at once"
        elif self.spend_per_day < 0 or self.most_per_check < 0 or self.most_bond < 0:
            problem = "no limit is negative"
        elif self.timeout_s <= 0 or self.drain_s < 0 or self.every_s <= 0 or self.keep_days < 1:
            problem = "times are positive"
        if problem is not None:
            raise ConfigError("this audit policy makes no sense", why=problem)

    @classmethod
    def of(cls, asked: float | AuditPolicy | None) -> AuditPolicy | None:
        """Return the policy that a client was given: a share alone leaves the rest as it is by default.

        None, and a share of 0, is no audit. Raises `ConfigError`.
        """
        policy = cls(share=float(asked)) if isinstance(asked, int | float) else asked
        return None if policy is None or policy.share == 0.0 else policy

    @property
    def bonds_of_a_day(self) -> Nano:
        """The most that may be at stake in automatic disputes begun in one day."""
        return 3 * self.most_bond if self.bonds_per_day is None else self.bonds_per_day
