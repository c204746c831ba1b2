"""Commitments over a session: what a receipt names is what the engine told, and travels when asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.protocol.canonical import parse_canonical
from cocoon_sdk.protocol.session_wire import FailureCode
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.protocol.vouchers import NO_PROOF, request_hash
from cocoon_sdk.verify.commitment import Commitment, prompt_hash
from cocoon_sdk.verify.noise import NOISE_UNIT, gumbel
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.seeds import request_seed
from cocoon_worker.engine.base import EngineIdentity
from cocoon_worker.engine.openai import OpenAIEngine
from tests.helpers.session_bench import Bench, bench, offer, terms
from tests.helpers.session_client import Answer, TestClient
from tests.helpers.vllm_double import MODEL, VllmDouble, logprobs_after, vllm_double

TALK = "one two three"
FORMS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@asynccontextmanager
async def serving(
    folder: Path, sampling: SamplingClass = SamplingClass.REPLAYABLE, **options: Any
) -> AsyncIterator[tuple[VllmDouble, Bench, TestClient]]:
    own = offer(terms(sampling=sampling), engine_model=MODEL)
    async with vllm_double(**options) as double:
        engine = OpenAIEngine(double.url, identity=EngineIdentity("vllm 0.32.0", "cpu", "float32"))
        async with (
            bench(folder, engine, offers=(own,)) as worker,
            worker.client(proves=True).connected() as client,
        ):
            yield double, worker, client


def commitment_of(answer: Answer) -> Commitment:
    assert answer.proof is not None
    assert answer.done is not None
    commitment = Commitment.from_json(parse_canonical(answer.proof.data))
    assert commitment.digest() == answer.done.proof_hash
    assert commitment.prompt_tokens == answer.done.input_tokens
    assert commitment.output_tokens == answer.done.output_tokens
    return commitment


@FORMS
async def test_client_can_replay_every_choice_when_the_offer_is_replayable(
    tmp_path: Path, stream: bool
) -> None:
    async with serving(tmp_path) as (double, _, client):
        answer = await client.chat(TALK, temperature=1.5, max_tokens=30, stream=stream)
        commitment = commitment_of(answer)
        prompt, tokens, best, finish = double.generate(double.bodies[-1])
        (choice,) = commitment.choices
        assert (list(choice.tokens), choice.finish) == (tokens, finish)
        assert answer.text == double._text(tokens)
        assert commitment.prompt_hash == prompt_hash(prompt)
        asked = request_hash(answer.asked.kind, answer.asked.body)
        assert commitment.seed == request_seed(client.ref, answer.asked.rid, asked)
        assert commitment.sampling == Sampling(temperature=1_500_000).to_json()
        assert commitment.manifest == client.terms.model_id
        assert (commitment.max_tokens, commitment.unreplayable) == (30, "")
        assert (commitment.engine, commitment.platform, commitment.dtype) == ("vllm 0.32.0", "cpu", "float32")
        for place, token in enumerate(tokens):
            table = logprobs_after(prompt + tokens[:place])
            noise = gumbel(commitment.seed, place, np.arange(len(table)))
            assert int((table + 1.5 * noise * NOISE_UNIT).argmax()) == token
            assert choice.nats[place] == pytest.approx(table[token], abs=1 / 256)
        assert tokens != best


async def test_answers_differ_when_the_same_question_is_asked_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, client):
        first = await client.chat(TALK, temperature=2, max_tokens=30, ignore_eos=True)
        second = await client.chat(TALK, temperature=2, max_tokens=30, ignore_eos=True)
        assert commitment_of(first).seed != commitment_of(second).seed
        assert first.text != second.text


@FORMS
async def test_client_can_check_the_best_tokens_when_the_offer_is_greedy(
    tmp_path: Path, stream: bool
) -> None:
    async with serving(tmp_path, SamplingClass.GREEDY, sampler=False) as (double, _, client):
        answer = await client.chat(TALK, max_tokens=30, stream=stream)
        _, tokens, best, _ = double.generate(double.bodies[-1])
        assert list(commitment_of(answer).choices[0].tokens) == tokens == best
        assert commitment_of(answer).sampling == Sampling(temperature=0).to_json()
        assert not double.bodies[-1]["vllm_xargs"]


async def test_greedy_offer_cannot_be_sampled_when_the_request_says_otherwise(tmp_path: Path) -> None:
    async with serving(tmp_path, SamplingClass.GREEDY) as (_, _, client):
        answer = await client.chat(TALK, temperature=0.7)
        assert answer.failed is not None
        assert answer.failed.code == FailureCode.BAD_REQUEST


async def test_old_client_can_see_nothing_new_when_it_does_not_ask_for_proof(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, worker, client):
        proved = await client.chat(TALK, max_tokens=5)
        assert proved.proof is not None
        async with worker.client(2).connected() as old:
            answer = await old.chat(TALK, max_tokens=5)
            assert answer.proof is None
            assert answer.done is not None
            assert answer.done.proof_hash != NO_PROOF
            assert {type(frame) for message in old.messages for frame in message} <= {
                wire.Welcome,
                wire.Delta,
                wire.Done,
            }


async def test_client_can_see_what_an_unverified_engine_says_when_nothing_is_promised(tmp_path: Path) -> None:
    async with serving(tmp_path, SamplingClass.UNVERIFIED) as (double, _, client):
        answer = await client.chat(TALK, max_tokens=5)
        assert answer.proof is None
        assert answer.done is not None
        assert answer.done.proof_hash == NO_PROOF
        assert not {"return_token_ids", "logprobs", "vllm_xargs"} & double.bodies[-1].keys()
        steering = await client.chat(TALK, vllm_xargs={"cocoon_temperature": 7})
        assert steering.failed is not None
        assert steering.failed.code == FailureCode.BAD_REQUEST


async def test_client_can_have_a_commitment_when_it_cancels_half_way(tmp_path: Path) -> None:
    async with serving(tmp_path) as (double, _, client):
        double.pause_at = 4
        answer = await client.ask(
            messages=[{"role": "user", "content": TALK}], max_tokens=50, ignore_eos=True, temperature=1
        )
        while not answer.deltas or answer.deltas[-1].output_tokens < 4:
            answer.moved.clear()
            await answer.moved.wait()
        await client.send(wire.Cancel(answer.asked.rid))
        await client.end(answer)
        commitment = commitment_of(answer)
        assert answer.done is not None
        assert answer.done.cancelled
        (choice,) = commitment.choices
        assert (len(choice.tokens), choice.finish) == (4, "cancelled")
        assert list(choice.tokens) == double.generate(double.bodies[-1])[1][:4]


async def test_client_can_cancel_without_commitment_when_nothing_was_made(tmp_path: Path) -> None:
    async with serving(tmp_path) as (double, _, client):
        double.pause_at = 0
        answer = await client.ask(messages=[{"role": "user", "content": TALK}], max_tokens=50)
        async with asyncio.timeout(10):
            await double.paused.wait()
        await client.send(wire.Cancel(answer.asked.rid))
        await client.end(answer)
        assert answer.done is not None
        assert (answer.done.output_tokens, answer.done.proof_hash, answer.proof) == (0, NO_PROOF, None)


async def test_worker_cannot_claim_a_receipt_when_its_engine_tells_no_tokens(tmp_path: Path) -> None:
    async with serving(tmp_path, evidence=False) as (_, _, client):
        for stream in (True, False):
            answer = await client.chat(TALK, max_tokens=5, stream=stream)
            assert answer.failed is not None
            assert answer.failed.code == FailureCode.ENGINE


@pytest.mark.parametrize(
    "fields", [{"include_reasoning": False}, {"vllm_xargs": {"cocoon_seed": "00"}}, {"top_p": 0}]
)
async def test_client_cannot_ask_for_what_cannot_be_verified(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with serving(tmp_path) as (double, _, client):
        answer = await client.chat(TALK, **fields)
        assert answer.failed is not None
        assert answer.failed.code == FailureCode.BAD_REQUEST
        assert double.bodies == []


async def test_client_can_be_told_why_when_a_choice_cannot_be_replayed(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, client):
        answer = await client.chat(TALK, max_tokens=5, response_format={"type": "json_object"})
        assert "response_format" in commitment_of(answer).unreplayable


async def test_proof_is_sent_once_when_it_is_asked_for_often(tmp_path: Path) -> None:
    async with serving(tmp_path) as (double, _, client):
        double.pause_at = 2
        answer = await client.ask(messages=[{"role": "user", "content": TALK}], max_tokens=5, ignore_eos=True)
        await client.send(*[wire.Prove(answer.asked.rid)] * 3, wire.Prove(99))
        await double.paused.wait()
        double.go_on()
        await client.end(answer)
        commitment_of(answer)  # the client takes one proof only
        assert client.session_failed is None
