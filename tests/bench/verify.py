"""Verification under attack, with real vLLM: `make bench-verify`, or `python -m tests.bench.verify --help`.

Owns the plan: which engine makes which answers, and which re-scores them. Limits come from the calibration
prompts, everything judged here from the evaluation prompts (`cocoon_sdk.verify.prompts`). Everything is
recorded as it comes, so an interrupted run goes on; the judge is applied to the records in the end
(`verify_report`). Engines run one at a time, each for all that it has to do.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from cocoon_sdk.cli.local_vllm import serve_vllm, vllm_settings
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.calibration import Calibration, EngineSetting, Plan, Served, in_turns
from cocoon_sdk.verify.checking import check
from cocoon_sdk.verify.commitment import Commitment
from cocoon_sdk.verify.endpoint import EndpointLimits
from cocoon_sdk.verify.file_hashes import FileHasher
from cocoon_sdk.verify.generation import Generated, Generator
from cocoon_sdk.verify.model_files import hash_model, manifest_of, open_model
from cocoon_sdk.verify.prompts import PROMPTS_VERSION, Prompt, PromptSet, prompt_set
from cocoon_sdk.verify.records import Records
from cocoon_sdk.verify.rescoring import Rescored, UnknownTokenError, Verifier
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.structure import Question
from cocoon_sdk.verify.thresholds import Thresholds
from cocoon_worker.engine.packaged_model import PACKAGED_MODEL, ensure_packaged_model
from tests.bench import verify_report, verify_weights
from tests.bench.verify_attacks import CASES, CONTEXT, TRUE, Asked, Case, Sample, ask, with_true_logprobs
from tests.bench.verify_attacks import honest as honest_sample
from tests.bench.verify_plan import (
    BATCH,
    BEGINNINGS,
    HALF,
    HONEST,
    JUDGE,
    SETTINGS,
    SINGLE,
    SMALL,
    Honest,
    cheat_key,
    judged_key,
)

BUILD: Final = Path(__file__).resolve().parents[2] / "build"
_LIMITS: Final = EndpointLimits(timeout_s=1800)
_COST_PROMPTS: Final = 32
_COST_TOKENS: Final = 256
_COST_ROUNDS: Final = 2
_SPEED_TOKENS: Final = 96
_SPEED_ROUNDS: Final = 8
T = TypeVar("T")


@dataclass(slots=True)
class Engine:
    """A running engine, seen as generator and as verifier."""

    generator: Generator
    verifier: Verifier


@dataclass(slots=True)
class CheaterKit:
    """What `verify_attacks` needs; `engine` answers, `true` may score."""

    bench: Bench
    engine: Engine
    model_id: Hash
    end_token: int

    async def tokens(self, body: Mapping[str, Any], kind: str) -> tuple[int, ...]:
        return await self.engine.verifier.prompt_tokens(kind, body)

    async def generate(self, prompt: Sequence[int], limit: int, sampling: Sampling, seed: bytes) -> Generated:
        return await self.engine.generator.generate(prompt, limit, sampling, seed)

    async def text(self, tokens: Sequence[int]) -> str:
        return await self.engine.verifier.text(tokens) or ""

    async def scored(self, prompt: Sequence[int], output: Sequence[int]) -> Rescored:
        return await self.engine.verifier.rescore(prompt, output)

    def honest(self, asked: Asked) -> Generated:
        return self.bench.made(BEGINNINGS[asked.variant].key(asked.prompt))

    def other(self, asked: Asked) -> Generated:
        prompts = self.bench.prompts
        return self.honest(ask(prompts[(asked.prompt.index + 7) % len(prompts)], asked.variant))


@dataclass(slots=True)
class Bench:
    """One run over `prompts`."""

    model: Path
    folder: Path
    records: Records
    prompts: tuple[Prompt, ...]
    model_id: Hash
    ends: frozenset[int]
    top: int
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Tell what goes on, with the seconds since the start."""
        print(f"{time.monotonic() - self.started:7.0f} s  {text}", flush=True)

    def made(self, key: str) -> Generated:
        """Return a recorded answer."""
        stored = self.records[key]
        return Generated(tuple(stored["tokens"]), tuple(stored["logprobs"]), stored["finish"], stored["text"])

    # -- the plan ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make and re-score all that is missing."""
        await self._visit(SINGLE, cases=[case for case in CASES if case.engine == TRUE], measure=True)
        for name in verify_weights.MAKERS:
            await self._visit(SINGLE, weights=name, cases=[case for case in CASES if case.engine == name])
        await self._visit(HALF)
        await self._visit(SMALL)
        await self._visit(JUDGE, cheats=True)

    async def _visit(
        self,
        setting: EngineSetting,
        *,
        weights: str | None = None,
        cases: Sequence[Case] = (),
        measure: bool = False,
        cheats: bool = False,
    ) -> None:
        """Start one engine and do with it what is missing; do not start it when nothing is."""
        to_make = [each for each in HONEST if not weights and each.setting is setting and self._unmade(each)]
        to_cheat = [case for case in cases if self._undone(case)]
        measure = measure and "measured" not in self.records
        judges = None if weights else setting
        if not (to_make or to_cheat or measure or self._unjudged(judges, cheats)):
            return
        self.say(f"starting {weights or 'the model'} in {setting.name}")
        async with self._engine(setting, weights) as engine:
            for group in to_make:
                await self._make(engine, group)
            for case in to_cheat:
                await self._cheat(engine, case)
            if measure:
                await self._measure(engine)
            await self._judge(engine, setting, self._unjudged(judges, cheats))

    @asynccontextmanager
    async def _engine(self, setting: EngineSetting, weights: str | None) -> AsyncIterator[Engine]:
        model = self.model
        if weights is not None:
            model = await asyncio.to_thread(verify_weights.make, self.model, weights, self.folder / "models")
        log = self.folder / f"vllm-{(weights or setting.name).replace(' ', '-')}.log"
        started = vllm_settings(model, setting, log, context=CONTEXT, top=max(20, self.top))
        async with serve_vllm(started) as served, _opened(served, self.top, self.ends) as engine:
            yield engine

    # -- answers -------------------------------------------------------------------------------------------

    def _unmade(self, group: Honest) -> list[Prompt]:
        return [each for each in group.among(self.prompts) if group.key(each) not in self.records]

    async def _make(self, engine: Engine, group: Honest) -> None:
        kit = self._kit(engine)

        async def one(asked: Asked) -> None:
            prompt = await kit.tokens(asked.body, asked.prompt.kind)
            made = await kit.generate(prompt, asked.body["max_tokens"], asked.sampling, asked.seed)
            sample = honest_sample(kit, asked, prompt, made)
            stored = {"tokens": made.tokens, "logprobs": made.logprobs, "finish": made.finish}
            key = group.key(asked.prompt)
            self.records.put(key, stored | {"text": made.text, "sample": _sample_json(sample)})

        await self._all(
            f"honest {group.name}",
            [one(ask(prompt, group.variant)) for prompt in self._unmade(group)],
            group.concurrency,
        )

    def _undone(self, case: Case) -> list[Asked]:
        questions = [ask(prompt, case.variant) for prompt in self.prompts]
        return [each for each in questions if cheat_key(case.name, each.prompt) not in self.records]

    async def _cheat(self, engine: Engine, case: Case) -> None:
        kit = self._kit(engine)

        async def one(asked: Asked) -> None:
            sample = await case.make(kit, asked)
            if sample is not None and case.may_do_nothing:
                (choice,) = sample.commitment.choices
                if choice.tokens == kit.honest(asked).tokens:
                    sample = None
            stored = None if sample is None else {"sample": _sample_json(sample)}
            self.records.put(cheat_key(case.name, asked.prompt), stored)

        await self._all(case.name, [one(asked) for asked in self._undone(case)], BATCH)

    def _kit(self, engine: Engine) -> CheaterKit:
        return CheaterKit(self, engine, self.model_id, min(self.ends))

    # -- judging -------------------------------------------------------------------------------------------

    def _unjudged(self, judge: EngineSetting | None, cheats: bool) -> list[tuple[str, bool]]:
        """Return the keys of answers that `judge` has to re-score, and whether it is a cheater's."""
        wanted = [
            (group.key(prompt), False)
            for group in HONEST
            if judge in group.judges
            for prompt in group.among(self.prompts)
        ]
        if cheats:
            wanted += [(cheat_key(case.name, p), True) for case in CASES for p in self.prompts]
        return [
            (key, cheat)
            for key, cheat in wanted
            if judge is not None
            and judged_key(judge, key) not in self.records
            and key in self.records
            and self.records[key] is not None
        ]

    async def _judge(self, engine: Engine, judge: EngineSetting, wanted: Sequence[tuple[str, bool]]) -> None:
        async def one(key: str, cheat: bool) -> None:
            sample = _sample_from(self.records[key]["sample"])
            found: dict[str, Any] = {"length": sample.commitment.output_tokens}
            try:
                rescoring = await engine.verifier.examine(
                    sample.question.kind, sample.question.body, sample.commitment
                )
            except UnknownTokenError:
                self.records.put(judged_key(judge, key), found | {"foreign": True})
                return
            for name, each in (
                ("as committed", sample),
                *([("re-scored", with_true_logprobs(sample, rescoring.choices[0]))] if cheat else []),
            ):
                result = check(each.question, each.response, each.commitment, [rescoring], None)
                assert result.numbers is not None
                faults = [[fault.kind.value, int(fault.level)] for fault in result.faults]
                found[name] = {"numbers": list(result.numbers), "faults": faults}
            self.records.put(judged_key(judge, key), found)

        await self._all(f"re-scoring in {judge.name}", [one(*each) for each in wanted], 6)

    # -- what it costs -------------------------------------------------------------------------------------

    async def _measure(self, engine: Engine) -> None:
        """Time generation against re-scoring, and our sampler against vLLM's own, on the same engine."""
        kit = self._kit(engine)
        chosen = [prompt for prompt in self.prompts if len(prompt.text) < 600][:_COST_PROMPTS]
        prompts = [await kit.tokens(prompt.body, prompt.kind) for prompt in chosen]
        own, hot = [Sampling.of_request(prompt.body) for prompt in chosen], [Sampling()] * len(chosen)
        on = {"ignore_eos": True}
        native = on | {"vllm_xargs": {}, "temperature": 1}

        async def generate(how: Sequence[Sampling], tokens: int, more: Mapping[str, Any]) -> list[Generated]:
            return await in_turns(
                [
                    engine.generator.generate(prompt, tokens, sampling, bytes([place] * 16), more=more)
                    for place, (prompt, sampling) in enumerate(zip(prompts, how, strict=True))
                ],
                BATCH,
            )

        async def rescore(how: Sequence[Sampling], made: Sequence[Generated]) -> list[Rescored]:
            return await in_turns(
                [
                    engine.verifier.rescore(prompt, answer.tokens, sampling)
                    for prompt, answer, sampling in zip(prompts, made, how, strict=True)
                ],
                BATCH,
            )

        self.say("measuring the cost of verification")
        await generate(own, 8, on)
        measured: dict[str, list[float]] = {}
        for _ in range(_COST_ROUNDS):
            for name, how in (("own", own), ("hot", hot)):
                generating, made = await _timed(generate(how, _COST_TOKENS, on))
                rescoring, _scored = await _timed(rescore(how, made))
                measured.setdefault(f"generating_{name}_s", []).append(generating)
                measured.setdefault(f"rescoring_{name}_s", []).append(rescoring)
        self.say("measuring the sampler")
        for _ in range(_SPEED_ROUNDS):
            for name, more in (("native_s", native), ("ours_s", on)):
                measured.setdefault(name, []).append((await _timed(generate(hot, _SPEED_TOKENS, more)))[0])
        self.records.put("measured", measured | {"prompt_tokens": [len(prompt) for prompt in prompts]})

    async def _all(self, what: str, jobs: Sequence[Any], concurrency: int) -> None:
        if not jobs:
            return
        begun = time.monotonic()
        step = max(1, len(jobs) // 4)

        def tell(done: int, total: int) -> None:
            if done % step == 0 or done == total:
                self.say(f"{what}: {done} of {total} ({(time.monotonic() - begun) / done:.2f} s each)")

        await in_turns(jobs, concurrency, tell)


@asynccontextmanager
async def _opened(served: Served, top: int, ends: frozenset[int]) -> AsyncIterator[Engine]:
    async with (
        Generator(served.url, served.api_key, served.model, limits=_LIMITS) as generator,
        Verifier(
            served.url, served.api_key, served.model, top=top, end_tokens=ends, limits=_LIMITS
        ) as verifier,
    ):
        yield Engine(generator, verifier)


async def _timed(work: Awaitable[list[T]]) -> tuple[float, list[T]]:
    begun = time.perf_counter()
    result = await work
    return time.perf_counter() - begun, result


def _sample_json(sample: Sample) -> dict[str, Any]:
    question = sample.question
    return {
        **{"kind": question.kind, "body": dict(question.body), "seed": question.seed.hex()},
        **{"response": sample.response, "commitment": sample.commitment.to_json()},
    }


def _sample_from(stored: Mapping[str, Any]) -> Sample:
    commitment = Commitment.from_json(stored["commitment"])
    question = Question(
        kind=stored["kind"],
        body=stored["body"],
        seed=bytes.fromhex(stored["seed"]),
        sampling=SamplingClass.REPLAYABLE,
        model_id=commitment.manifest,
        output_limit=CONTEXT,
        context=CONTEXT,
    )
    return Sample(question, stored["response"], commitment)


async def calibrated(bench: Bench, prompts: int, held_out: int) -> Thresholds:
    """Return the limits of the packaged model from calibration prompts, made now if they are not there."""
    plan = Plan(bench.model_id, SETTINGS, prompts, held_out, top=bench.top)
    folder = bench.folder / "calibration"
    with Records(folder / "records.jsonl", plan.about()) as records:

        def serve(setting: EngineSetting) -> Any:
            log = folder / f"vllm-{setting.name}.log"
            return serve_vllm(
                vllm_settings(bench.model, setting, log, context=CONTEXT, top=max(20, bench.top))
            )

        return await Calibration(plan, serve, records, bench.say).run()


async def _main(options: argparse.Namespace) -> None:
    model = await asyncio.to_thread(ensure_packaged_model, BUILD / "models" / PACKAGED_MODEL)
    opened = open_model(model)
    manifest = manifest_of(opened, await asyncio.to_thread(hash_model, opened, FileHasher()))
    ends = opened.end_tokens
    assert ends is not None
    about = {"model_id": manifest.digest.hex(), "prompts": PROMPTS_VERSION, "top": options.top, "version": 2}
    prompts = prompt_set(PromptSet.EVALUATION, options.prompts)
    with Records(options.work / "records.jsonl", about) as records:
        bench = Bench(model, options.work, records, prompts, manifest.digest, ends, options.top)
        if options.thresholds is not None:
            limits = Thresholds.from_bytes(options.thresholds.read_bytes())
        else:
            limits = await calibrated(bench, options.calibration, options.held_out)
            (options.work / "thresholds.json").write_bytes(limits.to_bytes())
        await bench.run()
        verify_report.write(records, prompts, limits, options.output, options.report)


def main() -> None:
    """Run what is missing and write the figures."""
    parser = argparse.ArgumentParser(prog="tests.bench.verify", description=__doc__)
    parser.add_argument("--prompts", type=int, default=200, help="evaluation prompts")
    parser.add_argument("--calibration", type=int, default=432, help="prompts that set the limits")
    parser.add_argument("--held-out", type=int, default=48, help="prompts that test the limits")
    parser.add_argument("--top", type=int, default=50, help="best tokens asked for per position")
    parser.add_argument("--work", type=Path, default=BUILD / "verify", help="records: a run goes on there")
    parser.add_argument("--thresholds", type=Path, help="limits to judge by, instead of calibrating")
    parser.add_argument("--output", type=Path, default=BUILD / "bench-verify.json")
    parser.add_argument("--report", type=Path, help="where to write the report in words")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
