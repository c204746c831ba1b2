"""The bench of cheaters over a table model: honest answers pass, every cheat is caught, a run goes on.

The real figures are `tests.bench.verify`'s, with vLLM; here its plan and its judge are tested.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.verify.calibration import EngineSetting
from cocoon_sdk.verify.prompts import CHAT, Prompt, PromptSet, prompt_set
from cocoon_sdk.verify.records import Records
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.thresholds import Thresholds, fit
from tests.bench import verify, verify_report
from tests.bench.verify_attacks import CASES, TRUE
from tests.bench.verify_plan import HONEST, SETTINGS
from tests.helpers.table_model import END, MODEL_ID, TableModel
from tests.helpers.table_server import END_TOKENS, table_server

WEIGHTS = {"another model": 2, "dropped layer": 3, "int4": 4, "int8": 5}


def limits() -> Thresholds:
    """Return limits that fit machines which differ by a hundredth of a nat."""
    checks = [Numbers(0.01, 0.05, 0.005, 0.06)] * 400
    kind = fit({"any": checks}, longest=128)
    return Thresholds(model_id=MODEL_ID, greedy=kind, sampled=kind)


class TableBench(verify.Bench):
    """The bench, on table models: one machine for each setting, other weights for each cheaper model."""

    started_engines: list[str]

    @asynccontextmanager
    async def _engine(self, setting: EngineSetting, weights: str | None) -> AsyncIterator[verify.Engine]:
        self.started_engines.append(weights or setting.name)
        machine = [each.name for each in SETTINGS].index(setting.name)
        model = TableModel(weights=WEIGHTS.get(weights or "", 1), spread=0.01, machine=machine)
        async with (
            table_server(model) as (_, served),
            verify._opened(served, self.top, self.ends) as engine,
        ):
            yield engine

    async def _measure(self, engine: verify.Engine) -> None:
        own = {"generating_own_s": [6.0, 4.0], "rescoring_own_s": [2.0, 2.0]}
        hot = {"generating_hot_s": [10.0], "rescoring_hot_s": [5.0]}
        speed = {"ours_s": [2.0], "native_s": [1.9], "prompt_tokens": [3, 5]}
        self.records.put("measured", own | hot | speed)


def short(count: int) -> tuple[Prompt, ...]:
    """Return questions whose answers take little time here."""
    return tuple(
        Prompt(each.set, each.index, each.style, each.kind, {**each.body, "max_tokens": 16})
        for each in prompt_set(PromptSet.EVALUATION, count)
    )


async def run(folder: Path, prompts: tuple[Prompt, ...]) -> tuple[TableBench, dict[str, Any]]:
    with Records(folder / "records", "table") as records:
        bench = TableBench(folder, folder, records, prompts, MODEL_ID, END_TOKENS, 20)
        bench.started_engines = []
        await bench.run()
        output, report = folder / "figures.json", folder / "report.md"
        verify_report.write(records, prompts, limits(), output, report)
    figures: dict[str, Any] = json.loads(output.read_text())
    return bench, figures


async def test_cheaters_are_caught_and_the_honest_are_not(tmp_path: Path) -> None:
    prompts = short(12)
    bench, figures = await run(tmp_path, prompts)
    assert bench.started_engines == ["float32", *WEIGHTS, "bfloat16", "float32-small", "float32"]
    checks = [len(group.among(prompts)) * len(group.judges) for group in HONEST]
    assert figures["honest_checks"] == sum(checks) > 2_000 / 200 * len(prompts)
    assert figures["false_alarms"] == 0
    details = figures["details"]
    judged, idle = details["cheats_judged"], details["cheats_that_did_nothing"]
    assert {name: judged[name] + idle[name] for name in judged} == {c.name: len(prompts) for c in CASES}
    chats = sum(prompt.kind == CHAT for prompt in prompts)
    assert judged["changed system prompt"] <= chats
    for case in CASES:
        if case.name == "half the prompt":  # this model reads two tokens: the rest of a prompt is idle
            continue
        assert judged[case.name] > 0, case.name
        assert figures["detection"][case.name] == 1, case.name
        # Whoever re-scores with the true model is clean in LP: TOK and structure have to see it.
        assert details["detection_by_tokens_when_re_scored"][case.name] >= 0.9, case.name
    assert figures["verify_cost_ratio_256"] == 0.4
    assert details["verify_cost_ratio_256_at_temperature_1"] == 0.5
    assert figures["sampler_ratio"] == 0.95
    report = (tmp_path / "report.md").read_text()
    assert "| one replaced token |" in report
    assert "0 false alarms" in report

    again, same = await run(tmp_path, prompts)
    assert again.started_engines == []
    assert same == figures


def test_every_cheater_of_the_figures_is_there() -> None:
    assert {case.name for case in CASES} == {
        *("another model", "dropped layer", "int4", "int8", "half the prompt", "changed system prompt"),
        *("copied answer", "one replaced token", "truncated answer", "temperature 0.7 for 1.0"),
        *("temperature 0.7 for 0", "wrong seed", "undeclared top-k"),
    }
    assert all(case.engine in (TRUE, case.name) for case in CASES)
    assert END in END_TOKENS


@pytest.mark.parametrize(("share", "accused"), [(0.0, False), (0.8, True)])
def test_score_accuses_over_several_audits_when_numbers_are_often_high(share: float, accused: bool) -> None:
    known = limits().sampled
    assert known is not None
    rung = known.lp_mean.ladder.steps[-1].value / 1_000_000
    high, low = Numbers(rung * 1.01, 0.01, 0.0, 0.0), Numbers(0.0, 0.0, 0.0, 0.0)
    many = int(20 * share)
    judged = [verify_report.Judged(high, (), known, 1) for _ in range(many)]
    judged += [verify_report.Judged(low, (), known, 1) for _ in range(20 - many)]
    found = verify_report.accused(judged, 16, 200)
    assert found == float(accused)
    assert verify_report.accused(judged[:15], 16, 20) is None
