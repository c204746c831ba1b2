"""Every fact can be said and written as JSON; every refusal and deadline has words."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from enum import Enum
from typing import Any

import pytest
from pytoniq_core import Address

from cocoon_sdk.explain import explanation, facts, job_facts
from cocoon_sdk.explain.explanation import Explanation, Section
from cocoon_sdk.explain.facts import Fact, TxRef, to_plain
from cocoon_sdk.explain.job_facts import CanDo, JobStatus, WorkerPaid
from cocoon_sdk.explain.next_steps import Standing, next_steps
from cocoon_sdk.types import Hash, Nano

ADDRESS = Address((0, bytes(range(32))))
NOW = 1_780_000_000
FACTS = sorted(
    {
        value
        for module in (facts, job_facts)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Fact) and value is not Fact
    },
    key=lambda kind: kind.__name__,
)


def sample(kind: Any) -> Any:
    """Make a value of an annotated type."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return sample(next(option for option in typing.get_args(kind) if option is not type(None)))
    if kind is Nano:
        return Nano.ton("1.5")
    if kind is Address:
        return ADDRESS
    if kind in (bytes, Hash):
        return Hash(bytes(32))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if kind is TxRef:
        return TxRef(ADDRESS, 7)
    if typing.get_origin(kind) is dict:
        return {"id": 1, "amount": Nano(5), "to": ADDRESS}
    return {int: NOW + 60, bool: True, str: "word"}[kind]


def build(kind: type[Fact], **changes: Any) -> Fact:
    hints = typing.get_type_hints(kind)
    values = {item.name: sample(hints[item.name]) for item in dataclasses.fields(kind)}
    return kind(**{**values, **changes})


def explained(*found: Fact) -> Explanation:
    return Explanation("Job", "it", NOW, (Section("What", found),))


@pytest.mark.parametrize("kind", FACTS, ids=lambda kind: kind.__name__)
def test_every_fact_has_words_and_json(kind: type[Fact]) -> None:
    fact = build(kind)
    document = json.loads(json.dumps(explained(fact).to_json()))
    (written,) = document["sections"][0]["facts"]
    assert written["kind"] == fact.kind
    assert written["text"]
    for item in dataclasses.fields(kind):
        assert item.name in written
    assert str(explained(fact))


@pytest.mark.parametrize("kind", FACTS, ids=lambda kind: kind.__name__)
def test_every_choice_within_a_fact_has_words(kind: type[Fact]) -> None:
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        hint = hints[item.name]
        if isinstance(hint, type) and issubclass(hint, Enum):
            for choice in hint:
                assert explained(build(kind, **{item.name: choice})).sentences()[0][1].text


def test_text_of_a_stranger_is_never_read_as_markup() -> None:
    from rich.console import Console

    fact = build(job_facts.WorkerSays, reason="[red]pay me[/red] [/]", answer=job_facts.WorkerAnswer.REFUSED)
    console = Console(width=200, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(explained(fact))
    assert "[red]pay me[/red] [/]" in captured.get()


def test_amounts_are_exact_in_words_and_json() -> None:
    fact = build(WorkerPaid, amount=Nano(1_000_000_001), fee=Nano(10_000_001), price=Nano(2_000_000_000))
    text = explained(fact).sentences()[0][1].text
    assert "Paid 1.000000001 TON" in text
    assert "0.99 TON for the worker and 0.010000001 TON protocol fee" in text
    assert "0.999999999 TON, is the client's again" in text
    assert to_plain(fact)["amount"] == {"nano": "1000000001", "ton": "1.000000001"}


def test_unknown_value_is_refused_rather_than_guessed() -> None:
    with pytest.raises(TypeError, match="machine-readable"):
        to_plain(1.5)


def steps(status: JobStatus, now: int, *, directed: bool = True, window_s: int = 3600) -> list[CanDo]:
    standing = Standing(
        job="E/1",
        status=status,
        directed=directed,
        window_s=window_s,
        deadline=NOW,
        evidence_s=100,
        arbitration_s=200,
    )
    return list(next_steps(standing, now))


@pytest.mark.parametrize("status", list(JobStatus))
def test_every_state_that_can_go_on_says_who_can_end_it(status: JobStatus) -> None:
    over = status in (JobStatus.ENDED, JobStatus.UNKNOWN)
    for now in (NOW - 10, NOW, NOW + 10_000):
        assert bool(steps(status, now)) is not over


def test_client_can_cancel_a_directed_job_only_after_its_deadline() -> None:
    cancel = next(step for step in steps(JobStatus.OPEN, NOW - 10) if "cancel it" in step.what)
    assert cancel.since == NOW + 1
    free = next(step for step in steps(JobStatus.OPEN, NOW - 10, directed=False) if "cancel it" in step.what)
    assert free.since is None


def test_dispute_is_not_offered_once_the_window_is_over() -> None:
    assert any("dispute" in step.what for step in steps(JobStatus.SUBMITTED, NOW - 1))
    assert not any("dispute" in step.what for step in steps(JobStatus.SUBMITTED, NOW))


def test_anyone_can_finalise_a_dispute_after_evidence_and_arbitration() -> None:
    (last,) = [step for step in steps(JobStatus.DISPUTED, NOW) if step.who == "anyone"]
    assert last.since == NOW + 300


def test_claim_is_not_offered_for_a_job_without_window() -> None:
    assert not any("claim" in step.what for step in steps(JobStatus.OPEN, NOW - 1, window_s=0))


def test_sections_and_text_come_from_the_same_facts() -> None:
    fact = build(WorkerPaid)
    said = explained(fact).sentences()[0][1].text
    assert said in str(explained(fact))
    assert explained(fact).to_json()["sections"][0]["facts"][0]["text"] == said
    assert said in explanation.styled(explained(fact).sentences()[0][1]).plain
