"""The verdict on one answer: honest ones pass on any machine, every cheat is found by what should find it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.checking import Findings, NotCheckableError, check, check_form
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.structure import FaultKind, Level
from cocoon_sdk.verify.thresholds import Thresholds, fit
from tests.helpers.table_model import END, MODEL_ID, Answer, TableModel, committed

SPREAD = 0.01
TRUE = TableModel()
WORKER = TableModel(spread=SPREAD, machine=1)
VERIFIER = TableModel(spread=SPREAD, machine=2)
KINDS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.4},
    {"temperature": 1.0},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 10},
    {"temperature": 0.7, "min_p": 0.05, "presence_penalty": 0.5, "frequency_penalty": 0.2},
)
SAMPLED: dict[str, Any] = {"temperature": 1.0}
GREEDY: dict[str, Any] = {"temperature": 0}


def prompt(number: int) -> list[int]:
    return [int(each) for each in np.random.default_rng(number).integers(1, 300, 12)]


def seed(number: int) -> bytes:
    return number.to_bytes(16, "big")


def ask(number: int, body: dict[str, Any], model: TableModel = WORKER) -> Answer:
    return model.answer(prompt(number), body, seed(number))


def judge(answer: Answer, number: int, limits: Thresholds | None) -> Findings:
    rescoring = VERIFIER.examine(prompt(number), answer.commitment)
    return check(answer.question, answer.response, answer.commitment, [rescoring], limits)


def honest_numbers(bodies: tuple[dict[str, Any], ...], first: int) -> Iterator[Numbers]:
    for number in range(first, first + 30):
        found = judge(ask(number, bodies[number % len(bodies)]), number, None)
        assert found.numbers is not None
        yield found.numbers


@pytest.fixture(scope="module")
def limits() -> Thresholds:
    return Thresholds(
        model_id=MODEL_ID,
        greedy=fit({"one": list(honest_numbers(KINDS[:1], 1000))}, longest=48),
        sampled=fit({"one": list(honest_numbers(KINDS[1:], 2000))}, longest=48),
    )


@pytest.mark.parametrize("body", KINDS, ids=str)
def test_honest_worker_is_not_accused_when_its_machine_differs(
    body: dict[str, Any], limits: Thresholds
) -> None:
    for number in range(6):
        found = judge(ask(number, body), number, limits)
        assert found.level is Level.HONEST, found.reasons
        assert found.reasons == ()
        assert found.unreplayable == ""


@pytest.mark.parametrize("copies", [2, 128])
def test_worker_cannot_make_its_answer_uncheckable_by_what_it_commits_to(
    copies: int, limits: Thresholds
) -> None:
    answer = ask(1, SAMPLED)
    assert check_form(answer.question, answer.response, answer.commitment, limits) is None
    bloated = answer.commitment.model_copy(update={"choices": answer.commitment.choices * copies})
    found = check_form(answer.question, answer.response, bloated, limits)
    assert found is not None
    assert found.level is Level.REFUND
    assert FaultKind.CHOICES in {fault.kind for fault in found.faults}


def test_honest_worker_is_not_accused_when_it_gives_several_choices(limits: Thresholds) -> None:
    answer = ask(1, SAMPLED | {"n": 3})
    found = judge(answer, 1, limits)
    assert found.level is Level.HONEST, found.reasons
    assert {token.choice for token in found.tokens} == {0, 1, 2}
    assert len({choice.tokens for choice in answer.commitment.choices}) == 3


@pytest.mark.parametrize("body", [GREEDY, SAMPLED], ids=str)
def test_worker_cannot_serve_another_model(body: dict[str, Any], limits: Thresholds) -> None:
    found = judge(ask(1, body, TableModel(weights=2)), 1, limits)
    assert found.level is Level.SLASH
    assert found.numbers is not None
    assert found.numbers.lp_mean > 1


@pytest.mark.parametrize("body", [GREEDY, SAMPLED], ids=str)
def test_worker_cannot_pass_off_foreign_text_when_it_rescores_it_with_the_true_model(
    body: dict[str, Any], limits: Thresholds
) -> None:
    answer = ask(1, body, TableModel(weights=2))
    (choice,) = answer.commitment.choices
    true = WORKER.rescore(prompt(1), choice.tokens)
    forged = committed(
        answer.question, prompt(1), [(choice.tokens, [float(each) for each in true.logprobs], choice.finish)]
    )
    found = judge(forged, 1, limits)
    assert found.level is Level.SLASH
    assert found.numbers is not None
    # LP sees nothing of it.
    assert all(reason.startswith(("tokens are", "a token is")) for reason in found.reasons)


def _rescored(answer: Answer, tokens: list[int], finish: str = "length") -> Answer:
    true = WORKER.rescore(prompt(1), tokens)
    return committed(answer.question, prompt(1), [(tokens, [float(each) for each in true.logprobs], finish)])


@pytest.mark.parametrize("body", [GREEDY, SAMPLED], ids=str)
def test_worker_cannot_replace_one_token(body: dict[str, Any], limits: Thresholds) -> None:
    answer = ask(1, body)
    tokens = list(answer.commitment.choices[0].tokens)
    tokens[20] = (tokens[20] + 7) % 299 + 1
    assert judge(_rescored(answer, tokens), 1, limits).level >= Level.REFUND


def test_worker_cannot_draw_from_another_seed_or_temperature_or_top_k(limits: Thresholds) -> None:
    others: tuple[dict[str, Any], ...] = (
        {"temperature": 0.5},
        {"temperature": 0},
        {"top_k": 5},
        {"top_p": 0.5},
    )
    for number, other in enumerate(others):
        cheat = ask(number, SAMPLED | other)
        honest = ask(number, SAMPLED)
        (choice,) = cheat.commitment.choices
        said = committed(honest.question, prompt(number), [(choice.tokens, choice.nats, choice.finish)])
        assert judge(said, number, limits).level >= Level.REFUND, other
    cheat = WORKER.answer(prompt(7), SAMPLED, seed(8))
    (choice,) = cheat.commitment.choices
    said = committed(ask(7, SAMPLED).question, prompt(7), [(choice.tokens, choice.nats, choice.finish)])
    assert judge(said, 7, limits).level >= Level.REFUND


def test_worker_cannot_compute_on_half_the_prompt(limits: Thresholds) -> None:
    # A long context matters to this model through its last tokens only: cut those.
    cheat = WORKER.answer(prompt(1)[:6], GREEDY, seed(1))
    (choice,) = cheat.commitment.choices
    said = committed(ask(1, GREEDY).question, prompt(1), [(choice.tokens, choice.nats, choice.finish)])
    assert judge(said, 1, limits).level >= Level.REFUND
    fault = judge(dataclasses.replace(cheat, question=ask(1, GREEDY).question), 1, limits).faults[0]
    assert fault.kind is FaultKind.PROMPT


def test_worker_is_judged_by_what_was_asked_when_it_commits_to_something_else(limits: Thresholds) -> None:
    cheat = WORKER.answer(prompt(1), {"temperature": 0.5}, seed(9))
    found = judge(dataclasses.replace(cheat, question=ask(1, SAMPLED).question), 1, limits)
    assert {FaultKind.SEED, FaultKind.SAMPLING} <= {fault.kind for fault in found.faults}
    assert found.numbers is not None
    assert found.numbers.tok_mean is not None
    assert found.numbers.tok_mean > 0.1


def test_mildest_of_several_rescorings_counts_at_each_token(limits: Thresholds) -> None:
    answer = ask(1, GREEDY)
    good = VERIFIER.examine(prompt(1), answer.commitment)
    bad = TableModel(weights=2).examine(prompt(1), answer.commitment)
    found = check(answer.question, answer.response, answer.commitment, [bad, good], limits)
    assert found.level is Level.HONEST, found.reasons
    assert check(answer.question, answer.response, answer.commitment, [bad], limits).level is Level.SLASH


def test_choice_is_not_replayed_when_the_request_or_the_terms_do_not_allow_it(limits: Thresholds) -> None:
    answer = ask(1, SAMPLED)
    biased = dataclasses.replace(answer.question, body={**answer.question.body, "logit_bias": {"5": 1}})
    greedy = dataclasses.replace(answer.question, sampling=SamplingClass.GREEDY)
    for question in (biased, greedy):
        found = judge(dataclasses.replace(answer, question=question), 1, limits)
        assert found.unreplayable
        assert found.numbers is not None
        assert found.numbers.tok_mean is None
        assert found.level is Level.HONEST


HEADERS = "<|channel|>analysis<|message|>why<|channel|>final<|message|>Hello"
"""Channels of which the first has no end: engines mend that each in its own way."""


@pytest.mark.parametrize(
    ("shown", "level"), [({"reasoning": "why"}, Level.HONEST), ({"reasoning": "Eve"}, Level.SUSPECT)]
)
def test_tokens_are_judged_when_the_form_of_the_text_tells_nothing(
    shown: dict[str, str], level: Level, limits: Thresholds
) -> None:
    answer = ask(1, SAMPLED)
    rescoring = VERIFIER.examine(prompt(1), answer.commitment)
    rescoring = dataclasses.replace(rescoring, texts=(HEADERS,), bodies=(HEADERS,))
    choice = {**answer.response["choices"][0], "message": {"content": "Hello", **shown}}
    response = {**answer.response, "choices": [choice]}
    question = dataclasses.replace(answer.question, kind="chat.completion")
    found = check(question, response, answer.commitment, [rescoring], limits)
    assert found.level is level
    assert (found.to_json()["unclear"] == "") == (level is not Level.HONEST)
    assert found.numbers is not None
    assert found.numbers.tok_mean is not None
    cheat = ask(1, SAMPLED, TableModel(weights=2))
    rescoring = VERIFIER.examine(prompt(1), cheat.commitment)
    rescoring = dataclasses.replace(rescoring, texts=(HEADERS,), bodies=(HEADERS,))
    response = {**cheat.response, "choices": [{**cheat.response["choices"][0], "message": choice["message"]}]}
    assert check(question, response, cheat.commitment, [rescoring], limits).level is Level.SLASH


def test_honest_worker_is_not_accused_when_a_greedy_request_names_no_temperature(limits: Thresholds) -> None:
    answer = ask(1, GREEDY)
    body = {name: value for name, value in answer.question.body.items() if name != "temperature"}
    question = dataclasses.replace(answer.question, sampling=SamplingClass.GREEDY, body=body)
    found = judge(dataclasses.replace(answer, question=question), 1, limits)
    assert (found.level, found.unreplayable) == (Level.HONEST, "")
    assert found.numbers is not None
    assert found.numbers.tok_mean is not None
    sampled = dataclasses.replace(question, sampling=SamplingClass.REPLAYABLE)
    assert judge(dataclasses.replace(answer, question=sampled), 1, limits).level is not Level.HONEST


def test_missing_commitment_weighs_what_the_terms_promise() -> None:
    answer = ask(1, GREEDY)
    found = check(answer.question, answer.response, None, [], None)
    assert (found.level, found.faults[0].kind) == (Level.SLASH, FaultKind.NO_COMMITMENT)
    nothing = dataclasses.replace(answer.question, sampling=SamplingClass.UNVERIFIED)
    with pytest.raises(NotCheckableError):
        check(nothing, answer.response, None, [], None)


def test_tokens_that_the_model_does_not_have_are_slashed() -> None:
    answer = ask(1, GREEDY)
    found = check(answer.question, answer.response, answer.commitment, [], None)
    assert (found.level, found.faults[0].kind) == (Level.SLASH, FaultKind.TOKENS)


def test_answer_without_thresholds_is_judged_by_its_structure_alone() -> None:
    found = judge(ask(1, GREEDY, TableModel(weights=2)), 1, None)
    assert found.level is Level.HONEST
    assert found.limits is None
    assert found.numbers is not None


def test_findings_have_a_json_form_without_content(limits: Thresholds) -> None:
    found = judge(ask(1, SAMPLED, TableModel(weights=2)), 1, limits).to_json()
    assert found["level"] == "slash"
    assert found["sampling"] == "sampled"
    assert set(found["numbers"]) == {"lp_mean", "lp_max", "tok_mean", "tok_max"}
    assert found["tokens"][0].keys() >= {"position", "token", "committed", "recomputed", "regret"}
    assert 0 < found["false_alarm_bound"] < 1


def test_worker_cannot_truncate_an_answer(limits: Thresholds) -> None:
    answer = ask(1, GREEDY)
    (choice,) = answer.commitment.choices
    cut = list(choice.tokens[:10])
    for tokens, finish in (
        (cut, "length"),
        (cut, "stop"),
        ([*cut, END], "stop"),
    ):
        found = judge(_rescored(answer, tokens, finish), 1, limits)
        assert found.level >= Level.REFUND, (tokens, finish)


def test_manifest_of_another_model_is_a_fault(limits: Thresholds) -> None:
    answer = ask(1, GREEDY)
    other = dataclasses.replace(answer.question, model_id=Hash(bytes(32)))
    found = judge(dataclasses.replace(answer, question=other), 1, limits)
    assert [fault.kind for fault in found.faults] == [FaultKind.MANIFEST]


def test_check_looks_no_further_than_the_limits_were_made_for(limits: Thresholds) -> None:
    """Who sees more tokens finds more in an honest answer too; the limits do not know that."""
    answer = ask(1, SAMPLED)
    other = answer.commitment.model_copy(update={"seed": bytes(16)})
    asked = dataclasses.replace(answer.question, seed=bytes(16))
    rescoring = VERIFIER.examine(prompt(1), other)
    (choice,) = rescoring.choices
    assert choice.top_tokens.shape[1] > 2
    seen = [
        check(asked, answer.response, other, [rescoring], limits.model_copy(update={"top": top})).numbers
        for top in (2, 1000)
    ]
    narrow = dataclasses.replace(rescoring, choices=(choice.within(2),))
    assert check(asked, answer.response, other, [narrow], limits).numbers == seen[0] != seen[1]


def test_check_sees_the_same_of_an_endpoint_that_lists_more_than_was_in_question(limits: Thresholds) -> None:
    answer = ask(2, GREEDY)
    wide = VERIFIER.examine(prompt(2), answer.commitment)
    narrow = dataclasses.replace(wide, choices=(wide.choices[0].within(5),))
    assert wide.choices[0].top_tokens.shape[1] > 5

    found = [
        check(answer.question, answer.response, answer.commitment, [each], limits) for each in (wide, narrow)
    ]

    assert found[0].tokens == found[1].tokens
