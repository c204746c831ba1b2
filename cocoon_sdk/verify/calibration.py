"""Calibration: what honest machines differ by, measured, and the limits that follow from it.

Owns the honest settings, the plan of a run and its bookkeeping. Must not know how engines are started: it is
handed a function that serves a setting. Every answer is generated in one setting and re-scored in another,
as between a worker and whoever checks it: another number format, other batches, prefix caching on or off.
Limits are set on one prompt set; how often they are wrong is counted on another (`prompts`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import Choice
from cocoon_sdk.verify.endpoint import EndpointLimits
from cocoon_sdk.verify.generation import Generated, Generator, trial_seed
from cocoon_sdk.verify.prompts import PROMPTS_VERSION, Prompt, PromptSet, prompt_set
from cocoon_sdk.verify.records import Records
from cocoon_sdk.verify.rescoring import DEFAULT_TOP, Verifier
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.statistics import STATISTICS_VERSION, Numbers, Replayed, evidence, numbers
from cocoon_sdk.verify.thresholds import KindThresholds, SamplingKind, Thresholds, fit

DEFAULT_PROMPTS: Final = 144
"""Every style with every sampling; a quarter of them is greedy."""
DEFAULT_HELD_OUT: Final = 72
CONCURRENCIES: Final = (1, 4, 16)
RESCORING_CONCURRENCY: Final = 6
_PATIENT: Final = EndpointLimits(timeout_s=1800)
"""A computer that emulates a number format takes minutes for a full batch."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineSetting:
    """How an engine is started, and how many requests at a time it is given, in tokens where it says so."""

    name: str
    dtype: str
    prefix_caching: bool = True
    max_batched_tokens: int | None = None
    concurrencies: tuple[int, ...] = CONCURRENCIES

    def arguments(self) -> tuple[str, ...]:
        """Return vLLM's options for it, without the number format."""
        caching = "--enable-prefix-caching" if self.prefix_caching else "--no-enable-prefix-caching"
        batched = self.max_batched_tokens
        return (caching, *(() if batched is None else (f"--max-num-batched-tokens={batched}",)))


def honest_settings(
    dtypes: Sequence[str], concurrencies: Sequence[int] = CONCURRENCIES
) -> tuple[EngineSetting, ...]:
    """Return the settings of a calibration: each number format, and the first without caching, cut small."""
    numbers = tuple(concurrencies)
    settings = [EngineSetting(dtype, dtype, concurrencies=numbers) for dtype in dtypes]
    small = EngineSetting(f"{dtypes[0]}-small", dtypes[0], False, 256, numbers[len(numbers) // 2 :][:1])
    return (*settings, small)


@dataclass(frozen=True, slots=True)
class Served:
    """An engine that is running: base URL ending in /v1, key, and the model's name there."""

    url: str
    api_key: str | None
    model: str


Serve: TypeAlias = Callable[[EngineSetting], AbstractAsyncContextManager[Served]]
"""Starts an engine for a setting, with our sampler, and ends it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a calibration does. `chat` is False for models without a chat template."""

    model_id: Hash
    settings: tuple[EngineSetting, ...]
    prompts: int = DEFAULT_PROMPTS
    held_out: int = DEFAULT_HELD_OUT
    chat: bool = True
    top: int = DEFAULT_TOP

    def __post_init__(self) -> None:
        names = [setting.name for setting in self.settings]
        if not names or len(set(names)) != len(names):
            raise ConfigError("cannot calibrate", why="settings are missing, or two have one name")

    def about(self) -> dict[str, Any]:
        """Return what makes records fit this plan."""
        settings = [asdict(setting) for setting in self.settings]
        return {
            **{"model_id": self.model_id.hex(), "prompts": PROMPTS_VERSION, "top": self.top},
            "statistics": STATISTICS_VERSION,
            **{"chat": self.chat, "settings": settings},
        }

    def prompt_sets(self) -> tuple[Prompt, ...]:
        """Return the questions: those that set the limits, then those that only test them."""
        return (
            *prompt_set(PromptSet.CALIBRATION, self.prompts, chat=self.chat),
            *prompt_set(PromptSet.DEVELOPMENT, self.held_out, chat=self.chat),
        )


@dataclass(slots=True)
class Checks:
    """Honest checks of one kind of sampling: by setting for the limits, and those that only test them."""

    settings: dict[str, list[Numbers]] = field(default_factory=dict)
    held_out: list[Numbers] = field(default_factory=list)
    longest: int = 0

    def thresholds(self, other: Checks) -> KindThresholds | None:
        """Return the limits; None without any check. `other` are those of the other kind of sampling.

        Raises `ConfigError` for too few.
        """
        if not self.settings:
            return None
        both = {
            name: [*self.settings.get(name, ()), *other.settings.get(name, ())]
            for name in {**self.settings, **other.settings}
        }
        return fit(self.settings, longest=self.longest, both=both).with_held_out(self.held_out)


class Calibration:
    """One run. `records` keep what is done, `progress` hears what goes on."""

    def __init__(
        self, plan: Plan, serve: Serve, records: Records, progress: Callable[[str], None] = lambda text: None
    ) -> None:
        self._plan, self._serve, self._records, self._progress = plan, serve, records, progress

    async def run(self) -> Thresholds:
        """Generate and re-score what is missing, and return the limits.

        Raises `VerifierError` when an engine fails, `ConfigError` when there are too few prompts for limits,
        and whatever serving raises. What was done is recorded: another run goes on from there.
        """
        settings, prompts = self._plan.settings, self._plan.prompt_sets()
        # Each answer is re-scored by the next engine; the one before the last comes again for the last one's.
        for place, setting in enumerate((*settings, settings[-2:][0])):
            own = [] if place == len(settings) else self._missing("answer", setting, prompts)
            before = [] if place == 0 else self._missing("check", settings[place - 1], prompts)
            if not own and not before:
                continue
            self._progress(f"starting the engine: {setting.name}")
            async with self._serve(setting) as served:
                await self._generate(served, setting, own)
                if place:
                    before = self._missing("check", settings[place - 1], prompts)
                    await self._rescore(served, setting, settings[place - 1], before)
        return self.thresholds()

    def thresholds(self) -> Thresholds:
        """Return the limits that all recorded checks give. Raises `ConfigError` for too few."""
        checks = self.checks()
        greedy, sampled = checks[SamplingKind.GREEDY], checks[SamplingKind.SAMPLED]
        return Thresholds(
            model_id=self._plan.model_id,
            top=self._plan.top,
            greedy=greedy.thresholds(sampled),
            sampled=sampled.thresholds(greedy),
        )

    def checks(self) -> dict[SamplingKind, Checks]:
        """Return all recorded honest checks."""
        found = {kind: Checks() for kind in SamplingKind}
        for setting in self._plan.settings:
            for concurrency in setting.concurrencies:
                for prompt in self._plan.prompt_sets():
                    key = _key("check", setting, concurrency, prompt)
                    if key not in self._records:
                        continue
                    length, *values = self._records[key]
                    greedy = Sampling.of_request(prompt.body).greedy
                    kind = found[SamplingKind.GREEDY if greedy else SamplingKind.SAMPLED]
                    if prompt.set is PromptSet.CALIBRATION:
                        # One group for all concurrencies: a worker's batches change with its load.
                        kind.settings.setdefault(setting.name, []).append(Numbers(*values))
                        kind.longest = max(kind.longest, length)
                    else:
                        kind.held_out.append(Numbers(*values))
        return found

    def _missing(
        self, what: str, setting: EngineSetting, prompts: Iterable[Prompt]
    ) -> list[tuple[int, Prompt]]:
        every = [(number, prompt) for number in setting.concurrencies for prompt in prompts]
        return [each for each in every if _key(what, setting, *each) not in self._records]

    async def _generate(
        self, served: Served, setting: EngineSetting, missing: Sequence[tuple[int, Prompt]]
    ) -> None:
        async with (
            Generator(served.url, served.api_key, served.model, limits=_PATIENT) as generator,
            Verifier(served.url, served.api_key, served.model, limits=_PATIENT) as tokenizer,
        ):

            async def one(concurrency: int, prompt: Prompt) -> None:
                tokens = await tokenizer.prompt_tokens(prompt.kind, prompt.body)
                sampling = Sampling.of_request(prompt.body)
                seed = _seed(setting, concurrency, prompt)
                answer = await generator.generate(tokens, prompt.body["max_tokens"], sampling, seed)
                self._records.put(_key("answer", setting, concurrency, prompt), _to_json(tokens, answer))

            for concurrency in setting.concurrencies:
                wanted = [prompt for number, prompt in missing if number == concurrency]
                jobs = [one(concurrency, prompt) for prompt in wanted]
                await in_turns(jobs, concurrency, self._counter(f"{setting.name} x{concurrency}: answers"))

    async def _rescore(
        self, served: Served, here: EngineSetting, made: EngineSetting, missing: Sequence[tuple[int, Prompt]]
    ) -> None:
        top = self._plan.top
        async with Verifier(served.url, served.api_key, served.model, top=top, limits=_PATIENT) as verifier:

            async def one(concurrency: int, prompt: Prompt) -> None:
                stored = self._records[_key("answer", made, concurrency, prompt)]
                choice = Choice.from_wire(stored["choice"])
                sampling = Sampling.of_request(prompt.body)
                rescored = await verifier.rescore(stored["prompt"], choice.tokens, sampling)
                seed = _seed(made, concurrency, prompt)
                replayed = Replayed(sampling, seed, np.array(stored["prompt"], np.int64))
                found = numbers(evidence(0, choice, [rescored], replayed))
                key = _key("check", made, concurrency, prompt)
                self._records.put(key, [len(choice.tokens), *found])

            jobs = [one(*each) for each in missing]
            tell = self._counter(f"{made.name} re-scored by {here.name}")
            await in_turns(jobs, RESCORING_CONCURRENCY, tell)

    def _counter(self, what: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            if done == total or done % max(1, total // 20) == 0:
                self._progress(f"{what}: {done} of {total}")

        return tell


async def in_turns(
    jobs: Sequence[Coroutine[Any, Any, T]],
    concurrency: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[T]:
    """Run coroutines, so many at a time; return their results in order. The first failure ends all."""
    places = asyncio.Semaphore(concurrency)
    done = 0

    async def turn(job: Coroutine[Any, Any, T]) -> T:
        nonlocal done
        async with places:
            result = await job
        done += 1
        progress(done, len(jobs))
        return result

    tasks = [asyncio.ensure_future(turn(job)) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in jobs:
            job.close()  # of those whose turn never came


def _key(what: str, setting: EngineSetting, concurrency: int, prompt: Prompt) -> str:
    return f"{what}/{setting.name}/{concurrency}/{prompt.name}"


def _seed(setting: EngineSetting, concurrency: int, prompt: Prompt) -> bytes:
    return trial_seed("calibration", setting.name, str(concurrency), prompt.name)


def _to_json(prompt: Sequence[int], answer: Generated) -> dict[str, Any]:
    return {"prompt": list(prompt), "choice": answer.choice.to_wire()}
