"""What is asked of `tests.bench.verify`: the honest settings, who answers how many prompts, who checks them.

Owns the plan and the names under which it is recorded. Must not know engines, cheaters or limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_sdk.verify.calibration import EngineSetting
from cocoon_sdk.verify.prompts import Prompt

BATCH: Final = 16
SINGLE: Final = EngineSetting("float32", "float32", True, None, (BATCH,))
HALF: Final = EngineSetting("bfloat16", "bfloat16", True, None, (BATCH,))
SMALL: Final = EngineSetting("float32-small", "float32", False, 256, (BATCH,))
SETTINGS: Final = (HALF, SINGLE, SMALL)
"""In this order, because most computers emulate bfloat16 slowly: calibration makes answers in it, and has
others re-score them.
"""
JUDGE: Final = SINGLE
"""Where cheaters are judged."""


@dataclass(frozen=True, slots=True)
class Honest:
    """Honest answers to one in `every` prompts, and the settings in which they are checked."""

    setting: EngineSetting
    concurrency: int
    variant: str
    judges: tuple[EngineSetting, ...]
    every: int = 1

    @property
    def name(self) -> str:
        """A short name."""
        return f"{self.setting.name} x{self.concurrency} {self.variant}"

    def key(self, prompt: Prompt) -> str:
        """Return the key of its answer to a prompt."""
        return f"honest/{self.name}/{prompt.index}"

    def among(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return which prompts it answers."""
        return [prompt for prompt in prompts if prompt.index % self.every == 0]


HONEST: Final = (
    Honest(SINGLE, BATCH, "own", (SINGLE, SMALL)),
    Honest(SINGLE, BATCH, "hot", (SINGLE, SMALL)),
    Honest(SINGLE, BATCH, "greedy", (SINGLE, SMALL)),
    Honest(SINGLE, 4, "own", (SINGLE, SMALL)),
    Honest(SINGLE, 1, "own", (SMALL,), every=4),
    Honest(SMALL, BATCH, "own", (SINGLE,)),
    Honest(SMALL, 4, "own", (SINGLE,)),
    Honest(HALF, BATCH, "own", (SINGLE,), every=2),
    Honest(HALF, 4, "own", (HALF,), every=8),
)
BEGINNINGS: Final = {
    each.variant: each for each in HONEST if each.setting is SINGLE and each.concurrency == BATCH
}
"""Where cheaters begin who change an honest answer, by the questions' variant."""


def judged_key(judge: EngineSetting, key: str) -> str:
    """Return where it is recorded what re-scoring an answer in a setting came to."""
    return f"judged/{judge.name}/{key}"


def cheat_key(case: str, prompt: Prompt) -> str:
    """Return where a cheater's answer is recorded."""
    return f"cheat/{case}/{prompt.index}"
