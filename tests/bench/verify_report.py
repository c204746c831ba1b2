"""Figures and report out of the records of `tests.bench.verify`: the judge's side.

Owns applying limits to recorded numbers, the counts, `build/bench-verify.json` and the report in words.
Must not know engines. An answer is *caught* when its findings reach the level at which an arbiter takes the
reward away: by a limit of a statistic, or by a fault of its structure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

from cocoon_sdk.verify.calibration import EngineSetting
from cocoon_sdk.verify.ladder import MILLION
from cocoon_sdk.verify.prompts import Prompt
from cocoon_sdk.verify.records import Records
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.score import Score, observe
from cocoon_sdk.verify.statistics import NAMES, Numbers
from cocoon_sdk.verify.structure import Level
from cocoon_sdk.verify.thresholds import KindThresholds, SamplingKind, Thresholds, binomial_bound
from tests.bench.verify_attacks import CASES, UNDECLARED_TOP_K
from tests.bench.verify_plan import HONEST, JUDGE, cheat_key, judged_key

POOLED: Final = "int8"
AUDITS: Final = 16
ORDERS: Final = 200
HONEST_ORDERS: Final = 20
COMMITTED: Final = "as committed"
TRUE_LOGPROBS: Final = "re-scored"


@dataclass(frozen=True, slots=True)
class Judged:
    """One re-scored answer: its statistics (None: its tokens do not exist), faults, and its limits."""

    numbers: Numbers | None
    faults: tuple[tuple[str, int], ...]
    limits: KindThresholds
    temperature: int

    def statistics(self, level: str) -> tuple[str, ...]:
        """Return the statistics beyond a limit."""
        return () if self.numbers is None else self.limits.exceeded(self.numbers, level)

    def reaches(self, level: Level) -> bool:
        """Tell whether the findings reach a level."""
        if self.numbers is None or any(weight >= level for _, weight in self.faults):
            return True
        return bool(self.statistics(level.word))

    @property
    def caught_by_tokens(self) -> bool:
        """Whether TOK or the structure alone catch it."""
        return (
            self.numbers is None
            or any(weight >= Level.REFUND for _, weight in self.faults)
            or any(name.startswith("tok") for name in self.statistics("refund"))
        )


@dataclass(slots=True)
class Tally:
    """What became of one case."""

    as_committed: list[Judged] = field(default_factory=list)
    re_scored: list[Judged] = field(default_factory=list)
    idle: int = 0
    """Answers on which the cheat did nothing, or could not be done."""


def judge(
    records: Records, key: str, checker: EngineSetting, limits: Thresholds, form: str = COMMITTED
) -> Judged | None:
    """Return one answer under the limits; None when it was not re-scored in that setting."""
    judged = judged_key(checker, key)
    if judged not in records:
        return None
    found, body = records[judged], records[key]["sample"]["body"]
    sampling = Sampling.of_request(body)
    kind = limits.kind(SamplingKind.GREEDY if sampling.greedy else SamplingKind.SAMPLED)
    assert kind is not None
    if "foreign" in found:
        return Judged(None, (), kind, sampling.temperature)
    if form not in found:
        return None
    faults = tuple((name, weight) for name, weight in found[form]["faults"])
    return Judged(Numbers(*found[form]["numbers"]), faults, kind, sampling.temperature)


def rate(judged: Iterable[bool]) -> float:
    """Return the share of what is so; 0 of nothing."""
    seen = list(judged)
    return sum(seen) / len(seen) if seen else 0.0


def accused(judged: Sequence[Judged], audits: int, orders: int) -> float | None:
    """Return how often a worker is accused within so many audits, over many orders of its answers.

    By the running score, or by one answer alone. None for fewer answers than that.
    """
    if len(judged) < audits:
        return None
    caught = 0
    for order in range(orders):
        ranks = [hashlib.sha256(b"%d/%d" % (order, place)).digest() for place in range(len(judged))]
        score = Score()
        for place in sorted(range(len(judged)), key=ranks.__getitem__)[:audits]:
            each = judged[place]
            if not each.reaches(Level.REFUND):
                assert each.numbers is not None
                score = observe(score, each.numbers, each.limits)
                if not score.accused():
                    continue
            caught += 1
            break
    return round(caught / orders, 4)


def write(
    records: Records,
    prompts: Sequence[Prompt],
    limits: Thresholds,
    output: Path,
    report: Path | None,
) -> None:
    """Judge all records, write the figures and, if wanted, the report; print the table."""
    honest = {
        f"{group.name} | {checker.name}": [
            found
            for prompt in group.among(prompts)
            if (found := judge(records, group.key(prompt), checker, limits))
        ]
        for group in HONEST
        for checker in group.judges
    }
    tallies: dict[str, Tally] = {}
    for case in CASES:
        tally = tallies[case.name] = Tally()
        for prompt in prompts:
            key = cheat_key(case.name, prompt)
            if key not in records:
                continue
            committed = judge(records, key, JUDGE, limits) if records[key] is not None else None
            if committed is None:
                tally.idle += 1
                continue
            tally.as_committed.append(committed)
            again = judge(records, key, JUDGE, limits, TRUE_LOGPROBS)
            if again is not None:
                tally.re_scored.append(again)
    figures = _figures(honest, tallies, records.get("measured"))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n")
    text = _words(figures, limits, honest, tallies)
    print(text)
    if report is not None:
        report.write_text(text)


def _figures(
    honest: dict[str, list[Judged]], tallies: dict[str, Tally], measured: dict[str, Any] | None
) -> dict[str, Any]:
    every = [each for group in honest.values() for each in group]
    figures: dict[str, Any] = {
        "honest_checks": len(every),
        "false_alarms": sum(each.reaches(Level.REFUND) for each in every),
        "detection": {
            name: round(rate(each.reaches(Level.REFUND) for each in tally.as_committed), 4)
            for name, tally in tallies.items()
        },
        "details": {
            "honest_suspects": sum(each.reaches(Level.SUSPECT) for each in every),
            "honest_workers_accused": {
                name: accused(group, len(group), HONEST_ORDERS) for name, group in honest.items()
            },
            "false_alarms_bound_95": binomial_bound(
                sum(each.reaches(Level.REFUND) for each in every), max(1, len(every)), 0.05
            ),
            "detection_by_tokens_when_re_scored": {
                name: round(rate(each.caught_by_tokens for each in tally.re_scored), 4)
                for name, tally in tallies.items()
            },
            f"detection_over_{AUDITS}_audits": {
                name: accused(tally.as_committed, AUDITS, ORDERS) for name, tally in tallies.items()
            },
            f"detection_over_{AUDITS}_audits_by_tokens_when_re_scored": {
                name: accused(tally.re_scored, AUDITS, ORDERS) for name, tally in tallies.items()
            },
            "slashed": {
                name: round(rate(each.reaches(Level.SLASH) for each in tally.as_committed), 4)
                for name, tally in tallies.items()
            },
            "cheats_judged": {name: len(tally.as_committed) for name, tally in tallies.items()},
            "cheats_that_did_nothing": {name: tally.idle for name, tally in tallies.items()},
            "undeclared_top_k": UNDECLARED_TOP_K,
        },
    }
    over = figures["details"][f"detection_over_{AUDITS}_audits"]
    figures["detection"][f"{POOLED} over {AUDITS} audits"] = over[POOLED]
    if measured is not None:
        figures["verify_cost_ratio_256"] = _cost(measured, "own")
        figures["details"]["verify_cost_ratio_256_at_temperature_1"] = _cost(measured, "hot")
        figures["details"]["verify_cost_prompt_tokens"] = measured["prompt_tokens"]
        figures["sampler_ratio"] = round(median(measured["native_s"]) / median(measured["ours_s"]), 3)
    return figures


def _cost(measured: dict[str, Any], how: str) -> float:
    """Return re-scoring as a share of generating, for answers that were sampled one way or the other."""
    return round(sum(measured[f"rescoring_{how}_s"]) / sum(measured[f"generating_{how}_s"]), 3)


def _words(
    figures: dict[str, Any], limits: Thresholds, honest: dict[str, list[Judged]], tallies: dict[str, Tally]
) -> str:
    details = figures["details"]
    lines = [
        "# What verification catches, and what it does not",
        "",
        "Written by `make bench-verify` with real vLLM and the packaged model. Limits were set on",
        "calibration prompts; every answer below was made from evaluation prompts, which share no subject,",
        "name or phrase with them. *Caught* means: by one answer alone, at the level where an arbiter takes",
        "the reward away.",
        "",
        "## Honest workers",
        "",
        f"{figures['honest_checks']} checks, {figures['false_alarms']} false alarms "
        f"(rate at most {details['false_alarms_bound_95']:.3%} with 95 % confidence), "
        f"{details['honest_suspects']} suspects.",
        "",
        "| made in | checked in | checks | false alarms | LP mean | LP max | TOK mean | TOK max |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, group in honest.items():
        largest = [_largest(group, statistic) for statistic in NAMES]
        lines.append(
            f"| {name} | {len(group)} | {sum(each.reaches(Level.REFUND) for each in group)} | "
            + " | ".join(f"{value:.4f}" for value in largest)
            + " |"
        )
    suspected = sum(bool(rate) for rate in details["honest_workers_accused"].values())
    lines += [
        *("", "The four columns are the largest of the setting, in nat. The running score, over all answers"),
        f"of each row in {HONEST_ORDERS} random orders, accuses {suspected} of these {len(honest)} workers.",
        *("", "## Limits", ""),
    ]
    lines += ["| sampling | statistic | honest | suspect | refund | slash |", "|---|---|---|---|---|---|"]
    for kind in SamplingKind:
        known = limits.kind(kind)
        for statistic in NAMES if known is not None else ():
            assert known is not None
            each = known.limits(statistic)
            values = (each.honest, each.suspect, each.refund, each.slash)
            told = " | ".join(f"{value / MILLION:.4f}" for value in values)
            lines.append(f"| {kind.value} | {statistic} | {told} |")
    lines += [
        *("", "## Cheaters", ""),
        "*By tokens when re-scored* is the cheater who lets the true model score its answer and commits to",
        "that: LP sees nothing then, TOK and the structure are all there is.",
        "",
        f"*Over {AUDITS}* is the running score over so many audits, in {ORDERS} random orders.",
        "",
        f"| cheater | answers | did nothing | caught | slashed | over {AUDITS} | by tokens when re-scored "
        f"| over {AUDITS} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, tally in tallies.items():
        rates = (
            figures["detection"][name],
            details["slashed"][name],
            details[f"detection_over_{AUDITS}_audits"][name],
            details["detection_by_tokens_when_re_scored"][name],
            details[f"detection_over_{AUDITS}_audits_by_tokens_when_re_scored"][name],
        )
        told = " | ".join("-" if each is None else f"{each:.3f}" for each in rates)
        lines.append(f"| {name} | {len(tally.as_committed)} | {tally.idle} | {told} |")
    lines += [
        "",
        f"Undeclared top-k keeps {UNDECLARED_TOP_K} tokens. *Another model* is every second layer of the",
        "same one, because no package brings a second small language model. *Did nothing*: the answer came",
        "out as the honest one, or the cheat does not apply (a system prompt in a plain completion).",
        "",
    ]
    if "verify_cost_ratio_256" in figures:
        lines += [
            "## Costs",
            "",
            f"Re-scoring 256 tokens takes {figures['verify_cost_ratio_256']:.3f} of generating them in",
            "batches, with the prompts' own sampling parameters, and",
            f"{details['verify_cost_ratio_256_at_temperature_1']:.3f} with temperature 1 for all of them.",
            f"The {len(details['verify_cost_prompt_tokens'])} prompts have",
            f"{mean(details['verify_cost_prompt_tokens']):.0f} tokens in the mean; they are read again too.",
            f"With our sampler vLLM keeps {figures['sampler_ratio']:.2f} of its own throughput.",
            "",
        ]
    return "\n".join(lines)


def _largest(group: Sequence[Judged], statistic: str) -> float:
    values = [getattr(each.numbers, statistic) for each in group if each.numbers is not None]
    return max((value for value in values if value is not None), default=0.0)
