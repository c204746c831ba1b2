"""Checking real answers of real vLLM: honest ones pass in other batches, cheats are found, and cheaply."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import msgspec
import pytest

from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.checking import Findings
from cocoon_sdk.verify.commitment import Choice, Commitment
from cocoon_sdk.verify.rescoring import Verifier
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.structure import FaultKind, Level, Question
from cocoon_sdk.verify.thresholds import Thresholds, fit
from cocoon_sdk.verify.verifying import verify
from cocoon_worker.engine.base import EngineKind, EngineRequest
from cocoon_worker.engine.packaged_model import PACKAGED_MODEL
from cocoon_worker.promises import make_promise
from tests.e2e.conftest import SharedEngine
from tests.helpers.session_bench import terms

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.xdist_group("vllm")]
MODEL = Hash(b"\x01" * 32)
SEED = bytes(range(16))
BODIES: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.0},
    {"temperature": 0.9, "top_k": 12, "presence_penalty": 0.4},
)
# One machine with itself hardly differs: these limits are what rounding and near ties ask for.
LIMITS = fit({"exact": [Numbers(0.0, 0.0, 0.0, 0.0)] * 20}, longest=64)
THRESHOLDS = Thresholds(model_id=MODEL, greedy=LIMITS, sampled=LIMITS)


@dataclasses.dataclass(frozen=True)
class Made:
    question: Question
    response: dict[str, Any]
    commitment: Commitment


async def made(engine: SharedEngine, **body: Any) -> Made:
    """Answer as a worker with replayable offers does."""
    asked = {"messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 48, **body}
    request = EngineRequest(EngineKind.CHAT, asked)
    promise = make_promise(terms(model_id=MODEL, sampling=SamplingClass.REPLAYABLE), request, SEED)
    assert promise is not None
    result = await engine.run(promise.engine, deadline_s=300)
    commitment = promise.commit(result.evidence, tokens=result.usage.completion_tokens)
    question = Question(
        kind="chat.completion",
        body=asked,
        seed=SEED,
        sampling=SamplingClass.REPLAYABLE,
        model_id=MODEL,
        output_limit=2048,
        context=2048,
    )
    return Made(question, result.response, commitment)


def verifier(engine: SharedEngine) -> Verifier:
    return Verifier(*engine.endpoint(), PACKAGED_MODEL)


async def judged(engine: SharedEngine, answer: Made, **options: Any) -> Findings:
    async with verifier(engine) as asked:
        return await verify(answer.question, answer.response, answer.commitment, asked, THRESHOLDS, **options)


async def rescored(engine: SharedEngine, answer: Made, tokens: list[int]) -> Made:
    """Commit to other tokens, with the true model's log-probabilities: what a clever cheater does."""
    async with verifier(engine) as asked:
        prompt = await asked.prompt_tokens(answer.question.kind, answer.question.body)
        true = await asked.rescore(prompt, tokens)
        text = await asked.text(tokens)
    (choice,) = answer.commitment.choices
    forged = Choice.of(tokens, [float(each) for each in true.logprobs], choice.finish)
    response = msgspec.json.decode(msgspec.json.encode(answer.response))
    response["choices"][0]["message"]["content"] = text
    response["usage"]["completion_tokens"] = len(tokens)
    return Made(answer.question, response, answer.commitment.model_copy(update={"choices": (forged,)}))


@pytest.mark.parametrize("body", BODIES, ids=str)
async def test_honest_answer_passes_alone_and_in_company(
    vllm_engine: SharedEngine, body: dict[str, Any]
) -> None:
    await vllm_engine.start()
    answer, *_ = await asyncio.gather(*(made(vllm_engine, **body) for _ in range(3)))
    found = await judged(vllm_engine, answer, shapes=(1, 2))
    assert found.level is Level.HONEST, found.reasons
    assert found.unreplayable == ""
    assert len(found.tokens) == answer.commitment.output_tokens > 0


@pytest.mark.parametrize("stop", [{"stop": [" the"]}, {"stop": "sea", "include_stop_str_in_output": True}])
async def test_honest_answer_passes_when_a_stop_sequence_ends_it(
    vllm_engine: SharedEngine, stop: dict[str, Any]
) -> None:
    await vllm_engine.start()
    answer = await made(vllm_engine, temperature=0, **stop)
    assert answer.commitment.choices[0].finish == "stop"
    found = await judged(vllm_engine, answer)
    assert found.level is Level.HONEST, found.reasons


@pytest.mark.parametrize("body", BODIES[:3], ids=str)
async def test_replaced_token_is_found_though_the_true_model_scored_it(
    vllm_engine: SharedEngine, body: dict[str, Any]
) -> None:
    await vllm_engine.start()
    answer = await made(vllm_engine, **body)
    tokens = list(answer.commitment.choices[0].tokens)
    tokens[10] = tokens[12] + 1
    found = await judged(vllm_engine, await rescored(vllm_engine, answer, tokens))
    assert found.level >= Level.REFUND
    assert found.faults == ()
    assert max(found.tokens, key=lambda token: token.regret or 0.0).position in (10, 11)


async def test_other_prompt_seed_and_temperature_are_found(vllm_engine: SharedEngine) -> None:
    await vllm_engine.start()
    answer = await made(vllm_engine, temperature=1.0)
    other = {**answer.question.body, "messages": [{"role": "user", "content": "Tell me about bees."}]}
    asked = dataclasses.replace(answer.question, body=other)
    found = await judged(vllm_engine, dataclasses.replace(answer, question=asked))
    assert found.level is Level.SLASH
    assert FaultKind.PROMPT in {fault.kind for fault in found.faults}
    for question in (
        dataclasses.replace(answer.question, seed=bytes(16)),
        dataclasses.replace(answer.question, body={**answer.question.body, "temperature": 0.5}),
    ):
        said = answer.commitment.model_copy(
            update={"seed": question.seed, "sampling": answer.commitment.sampling}
        )
        found = await judged(vllm_engine, Made(question, answer.response, said))
        assert found.numbers is not None
        assert found.numbers.tok_mean is not None
        assert found.numbers.tok_mean > 0.1
        assert found.level is Level.SLASH


async def test_truncated_answer_is_found(vllm_engine: SharedEngine) -> None:
    await vllm_engine.start()
    answer = await made(vllm_engine, temperature=0)
    cut = list(answer.commitment.choices[0].tokens[:12])
    found = await judged(vllm_engine, await rescored(vllm_engine, answer, cut))
    assert found.level >= Level.REFUND
    assert FaultKind.FINISH in {fault.kind for fault in found.faults}


async def test_checking_costs_less_than_half_of_the_generation(vllm_engine: SharedEngine) -> None:
    await vllm_engine.start()
    await made(vllm_engine, temperature=0, max_tokens=4)
    began = time.perf_counter()
    answers = await asyncio.gather(
        *(made(vllm_engine, temperature=1.0, max_tokens=256, ignore_eos=True, user=str(n)) for n in range(4))
    )
    generated = time.perf_counter() - began
    began = time.perf_counter()
    found = await asyncio.gather(*(judged(vllm_engine, answer) for answer in answers))
    checked = time.perf_counter() - began
    assert all(each.level is Level.HONEST for each in found)
    assert checked <= 0.5 * generated, (checked, generated)
