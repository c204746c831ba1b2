"""Scores of given tokens over a session: how one worker checks another. They come whole, and are paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cocoon_sdk.protocol.session_wire import FailureCode
from cocoon_sdk.protocol.terms import SamplingClass
from tests.helpers.vllm_double import prompt_of
from tests.unit.worker.test_session_proofs import serving

TOKENS = [30, 40, 50, 1, 2, 3, 10]
ASKED: dict[str, Any] = {"prompt": TOKENS, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 20}


@pytest.mark.parametrize("sampling", [SamplingClass.REPLAYABLE, SamplingClass.UNVERIFIED])
async def test_client_gets_the_scores_of_given_tokens_at_the_price_of_reading_them(
    tmp_path: Path, sampling: SamplingClass
) -> None:
    async with serving(tmp_path, sampling) as (double, _, client):
        answer = await client.end(await client.ask("completion", stream=False, **ASKED))
        (piece,) = answer.data
        (choice,) = msgspec.json.decode(piece)["choices"]
        assert choice["prompt_logprobs"] == msgspec.json.decode(
            msgspec.json.encode(double.scored(TOKENS, 20))
        )
        assert answer.done is not None
        assert (answer.done.input_tokens, answer.done.output_tokens) == (len(TOKENS), 1)
        assert answer.done.charged == client.tariff.price(len(TOKENS), 0, 1)


async def test_client_gets_the_tokens_of_a_prompt(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, client):
        messages = [{"role": "user", "content": "one"}]
        asked = {"messages": messages, "max_tokens": 1, "return_token_ids": True}
        answer = await client.end(await client.ask("chat.completion", stream=False, **asked))
        body = msgspec.json.decode(answer.data[0])
        assert (body.get("prompt_token_ids") or body["choices"][0].get("prompt_token_ids")) == prompt_of(
            asked
        )


async def test_client_cannot_stream_scores(tmp_path: Path) -> None:
    async with serving(tmp_path) as (double, _, client):
        answer = await client.end(await client.ask("completion", stream=True, **ASKED))
        assert answer.failed is not None
        assert answer.failed.code == FailureCode.BAD_REQUEST
        assert "'prompt_logprobs'" in answer.failed.why
        assert double.bodies == []


@pytest.mark.parametrize("most", [21, -1, True])
async def test_client_cannot_ask_for_more_scores_than_engines_serve(tmp_path: Path, most: int) -> None:
    async with serving(tmp_path) as (double, _, client):
        asked = {**ASKED, "prompt_logprobs": most}
        answer = await client.end(await client.ask("completion", stream=False, **asked))
        assert answer.failed is not None
        assert answer.failed.code == FailureCode.BAD_REQUEST
        assert double.bodies == []
