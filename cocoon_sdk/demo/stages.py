"""How the demo reports its steps, and how long each took.

Owns timing and passing words on. Must not know what the steps do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol


class Stage(Protocol):
    """Where a step reports to; `cocoon_sdk.cli.output.Output.step` has this form."""

    def update(self, detail: str) -> None:
        """Say how far the step is."""
        ...

    def done(self, text: str) -> None:
        """Replace the words that stay when the step is over."""
        ...


StepFactory = Callable[[str], Any]
"""Opens a step: a context manager that yields a `Stage`."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one step took, in seconds."""

    step: str
    seconds: float


class Stages:
    """The steps of one run, one after the other."""

    def __init__(self, step: StepFactory) -> None:
        self._step = step
        self._stage: Stage | None = None
        self.timings: list[Timing] = []

    @contextmanager
    def step(self, text: str) -> Iterator[Stage]:
        """Run one step under its words."""
        start = time.perf_counter()
        with self._step(text) as stage:
            self._stage = stage
            try:
                yield stage
            finally:
                self._stage = None
        self.timings.append(Timing(text, time.perf_counter() - start))

    def progress(self, detail: str) -> None:
        """Pass on what the engine says, to whichever step is running."""
        if self._stage is not None:
            self._stage.update(detail)
