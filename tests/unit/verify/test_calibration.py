"""Calibration: who generates and who re-scores, what is recorded, and how a run goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.calibration import Calibration, EngineSetting, Plan, Served, honest_settings, in_turns
from cocoon_sdk.verify.endpoint import VerifierAnswerError, VerifierRefusedError
from cocoon_sdk.verify.generation import Generator, trial_seed
from cocoon_sdk.verify.prompts import PromptSet
from cocoon_sdk.verify.records import Records
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.thresholds import SamplingKind
from tests.helpers.table_model import TableModel
from tests.helpers.table_server import NAME, TableServer, table_server

MODEL_ID = Hash(b"\x77" * 32)
FIRST = EngineSetting("first", "float32", concurrencies=(1, 3))
SECOND = EngineSetting("second", "bfloat16", concurrencies=(2,))


class Engines:
    """Starts table models: one machine for each setting. `started` tells which, in order."""

    def __init__(self, spread: float = 0.01) -> None:
        self.spread = spread
        self.started: list[str] = []
        self.servers: list[TableServer] = []

    @asynccontextmanager
    async def serve(self, setting: EngineSetting) -> AsyncIterator[Served]:
        self.started.append(setting.name)
        machine = TableModel(spread=self.spread, machine=len(setting.name))
        async with table_server(machine) as (server, served):
            self.servers.append(server)
            yield served


def plan(prompts: int = 6, held_out: int = 3) -> Plan:
    return Plan(MODEL_ID, (FIRST, SECOND), prompts, held_out)


async def run(plan: Plan, engines: Engines, path: Path) -> Calibration:
    """Run a calibration that has too few prompts for limits, but does all else."""
    with Records(path, plan.about()) as records:
        calibration = Calibration(plan, engines.serve, records)
        with pytest.raises(ConfigError, match="fewer than 20"):
            await calibration.run()
    return calibration


async def test_each_answer_is_scored_by_the_next_engine(tmp_path: Path) -> None:
    engines = Engines()
    calibration = await run(plan(), engines, tmp_path / "records")
    assert engines.started == ["first", "second", "first"]
    generated = [sum("prompt_logprobs" not in body for body in server.bodies) for server in engines.servers]
    scored = [sum("prompt_logprobs" in body for body in server.bodies) for server in engines.servers]
    assert generated == [18, 9, 0]
    assert scored == [0, 18, 9]
    assert [server.most for server in engines.servers] <= [3, 6, 6]
    greedy, sampled = (calibration.checks()[kind] for kind in SamplingKind)
    assert greedy.settings.keys() == sampled.settings.keys() == {"first", "second"}
    assert len(greedy.held_out) + len(sampled.held_out) == 9
    assert sum(len(checks) for checks in sampled.settings.values()) == 12
    assert 16 <= sampled.longest <= 128
    for checks in (*greedy.settings.values(), *sampled.settings.values()):
        for each in checks:
            assert 0 < each.lp_max < 0.2  # the machines differ a little, and only a little
            assert each.tok_max is not None
            assert each.tok_max < 0.2


async def test_run_goes_on_when_it_was_interrupted(tmp_path: Path) -> None:
    path, engines = tmp_path / "records", Engines()
    await run(plan(), engines, path)
    lines = path.read_text().splitlines(keepends=True)
    checks = [line for line in lines if line.startswith('["check/second')]
    path.write_text("".join(line for line in lines if line not in checks[:2]) + '["check/torn')
    again = Engines()
    await run(plan(), again, path)
    assert again.started == ["first"]
    assert len(again.servers[0].bodies) == 2
    nothing = Engines()
    await run(plan(), nothing, path)
    assert nothing.started == []


def test_records_are_refused_when_they_are_of_another_plan(tmp_path: Path) -> None:
    path = tmp_path / "records"
    Records(path, plan().about()).close()
    Records(path, plan(7).about()).close()  # more questions only go on
    other = Plan(MODEL_ID, (FIRST,), 6, 3)
    with pytest.raises(ConfigError, match="other settings"):
        Records(path, other.about())


def test_limits_follow_from_the_checks_and_held_out_ones_only_test_them(tmp_path: Path) -> None:
    chosen = Plan(MODEL_ID, (FIRST, SECOND), 144, 72)
    with Records(tmp_path / "records", chosen.about()) as records:
        calibration = Calibration(chosen, Engines().serve, records)
        for setting in chosen.settings:
            for concurrency in setting.concurrencies:
                for prompt in chosen.prompt_sets():
                    value = 0.1 if prompt.set is PromptSet.CALIBRATION else 0.2
                    numbers = Numbers(value / 10, value, value / 20, value)
                    key = f"check/{setting.name}/{concurrency}/{prompt.name}"
                    records.put(key, [prompt.body["max_tokens"], *numbers])
        found = calibration.thresholds()
    assert found.model_id == MODEL_ID
    for kind in (found.greedy, found.sampled):
        assert kind is not None
        assert kind.lp_max.honest == 100_000  # of 0.2 nothing is seen
        assert kind.settings == 2
        assert kind.longest == 128
        assert kind.held_out_alarms == kind.held_out_checks > 0
        assert kind.false_alarm_bound > 0.9


def test_plan_cannot_have_two_settings_of_one_name() -> None:
    with pytest.raises(ConfigError, match="one name"):
        Plan(MODEL_ID, (FIRST, FIRST))


def test_honest_settings_cover_formats_batches_and_caching() -> None:
    settings = honest_settings(["bfloat16", "float32"])
    assert {setting.dtype for setting in settings} == {"bfloat16", "float32"}
    assert {setting.prefix_caching for setting in settings} == {True, False}
    assert {number for setting in settings for number in setting.concurrencies} == {1, 4, 16}
    assert "--max-num-batched-tokens=256" in settings[-1].arguments()
    assert len({setting.name for setting in settings}) == 3


# -- generation ---------------------------------------------------------------------------------------------


async def test_generator_gives_what_an_honest_worker_commits_to() -> None:
    async with table_server(TableModel()) as (server, served), Generator(served.url, None, NAME) as generator:
        sampling, seed = Sampling(temperature=700_000), trial_seed("a", "b")
        made = await generator.generate([30, 31], 8, sampling, seed)
        assert made.tokens == tuple(TableModel().generate([30, 31], sampling, seed, 8)[0])
        assert made.choice.tokens == made.tokens
        assert len(made.choice.logprobs) == len(made.tokens)
        assert server.bodies[0]["vllm_xargs"]["cocoon_seed"] == seed.hex()
        assert trial_seed("a", "b") != trial_seed("a/b", "c")


@pytest.mark.parametrize("harm", [{"finish_reason": None}, {"token_ids": [1, 2]}, {"logprobs": None}])
async def test_generator_cannot_use_an_engine_that_answers_otherwise(
    harm: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with table_server(TableModel()) as (server, served), Generator(served.url, None, NAME) as generator:
        good = server._generated({"prompt": [1], "max_tokens": 4, "temperature": 0})
        monkeypatch.setattr(server, "_generated", lambda body: {**good, **harm})
        with pytest.raises(VerifierAnswerError):
            await generator.generate([1], 4, Sampling(temperature=0), bytes(16))


async def test_generator_tells_when_the_engine_refuses() -> None:
    async with (
        table_server(TableModel()) as (_, served),
        Generator(served.url + "/x/v1", None, NAME) as other,
    ):
        with pytest.raises(VerifierRefusedError):
            await other.generate([1], 4, Sampling(), bytes(16))


# -- turns and records --------------------------------------------------------------------------------------


async def test_turns_keep_order_and_bound() -> None:
    now = most = 0

    async def job(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return number

    told: list[tuple[int, int]] = []
    found = await in_turns([job(n) for n in range(7)], 3, lambda done, total: told.append((done, total)))
    assert found == list(range(7))
    assert most == 3
    assert told == [(n, 7) for n in range(1, 8)]


async def test_turns_end_when_one_fails() -> None:
    begun: list[int] = []

    async def job(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError("failed")
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="failed"):
        await in_turns([job(n) for n in range(9)], 2)
    assert begun[:2] == [0, 1]
    assert len(begun) < 4


def test_records_come_back_and_a_torn_line_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "records"
    with Records(path, {"run": 1}) as records:
        records.put("a", [1, {"b": None}])
        records.put("a", [2])
    with path.open("a") as file:
        file.write('["torn", ')
    with Records(path, {"run": 1}) as records:
        assert records["a"] == [2]
        assert "torn" not in records
        assert records.get("torn") is None
        records.put("c", 3)
    with Records(path, {"run": 1}) as records:
        assert records["c"] == 3
    with pytest.raises(ConfigError, match="closed"):
        records.put("d", 4)


@pytest.mark.parametrize("text", ["{}\n", "nonsense\n", '["only one"]\n', "[" * 99_999 + "\n"])
def test_records_cannot_be_of_another_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "records"
    path.write_text(text)
    with pytest.raises(ConfigError, match="begins no record"):
        Records(path, 1)
    assert path.read_text() == text


def test_records_cannot_be_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot use the records"):
        Records(tmp_path / "file" / "records", 1)
