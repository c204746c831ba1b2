"""What an arbiter makes of answers that are too long, too short, or too much for its own endpoint."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cocoon_sdk.arbiter.errors import JudgingError
from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.rescoring import JudgedModel, RescoringJudge
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.protocol.envelope import JobKind, JobRef, PayloadPlain, ResultPlain
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.rescoring import MAX_TOKENS, Verifier
from cocoon_sdk.verify.seeds import job_seed
from cocoon_sdk.verify.thresholds import Thresholds
from tests.helpers.table_model import MODEL_ID, TableModel, table_terms
from tests.helpers.table_server import END_TOKENS, NAME, table_server

MODEL = TableModel()
PROMPT = [7, 8, 9]
LIMITS = Thresholds(model_id=MODEL_ID, greedy=None, sampled=None)
DISPUTE = cast(
    Dispute,
    SimpleNamespace(
        model_id=MODEL_ID,
        digest=Hash(b"\x01" * 32),
        domain=SimpleNamespace(hash=lambda purpose: b"\x02" * 32),
        number=7,
        payload_hash=Hash(b"\x03" * 32),
    ),
)
TERMS = table_terms()


def case(most: int, **commitment: Any) -> Case:
    """Return a job's answer of `most` tokens, with something else committed to."""
    seed = job_seed(DISPUTE.domain, 7, DISPUTE.payload_hash)
    answer = MODEL.answer(PROMPT, {"temperature": 0}, seed, most=most)
    made = dataclasses.asdict(answer.question)
    return Case(
        dispute=DISPUTE,
        payload=PayloadPlain(kind=JobKind.COMPLETION, model=NAME, request={**made["body"], "max_tokens": 64}),
        result=ResultPlain(
            job=JobRef(escrow=f"0:{'0' * 64}", id=7),
            response=answer.response,
            usage=Usage(
                input_tokens=len(PROMPT),
                cached_input_tokens=0,
                output_tokens=answer.commitment.output_tokens,
            ),
        ),
        commitment=answer.commitment.model_copy(update={"max_tokens": 64, **commitment}),
        terms=TERMS,
    )


async def ground(
    of: Case,
    *,
    context: int | None = None,
    most_tokens: int | None = None,
    url: str = "http://127.0.0.1:9/v1",
) -> Ground:
    async def calibration(_: Hash) -> Hash:
        return LIMITS.digest()

    verifier = Verifier(url, None, NAME, end_tokens=END_TOKENS)
    judged = JudgedModel(verifier, LIMITS, context, most_tokens)
    judge = RescoringJudge({MODEL_ID: judged}, calibration, batches=(1,))
    try:
        return (await judge.judge(of)).ground
    finally:
        await judge.close()


async def test_worker_cannot_be_paid_for_an_early_end_when_the_context_is_known() -> None:
    early = case(5)
    assert early.commitment.choices[0].finish == "length"
    async with table_server(MODEL) as (_, served):
        assert await ground(early, url=served.url) is Ground.NOT_CHECKABLE
        assert await ground(early, url=served.url, context=8) is Ground.NOT_CHECKABLE, "it was full"
        assert await ground(early, url=served.url, context=100) is Ground.REFUND


async def test_worker_cannot_be_paid_for_more_tokens_than_the_context_holds() -> None:
    # No endpoint is asked: none could re-score that.
    assert await ground(case(5), context=7) is Ground.REFUND


async def test_arbiter_is_silent_when_the_answer_is_only_too_long_for_its_own_endpoint() -> None:
    long = case(5)
    request = {**long.payload.request, "prompt": [7] * MAX_TOKENS}
    long = dataclasses.replace(long, payload=long.payload.model_copy(update={"request": request}))
    with pytest.raises(JudgingError, match=f"{MAX_TOKENS} tokens"):
        await ground(long)


async def test_arbiters_with_other_limits_of_their_own_come_to_no_other_verdict() -> None:
    early = case(5)
    assert (early.commitment.prompt_tokens, len(early.commitment.choices[0].tokens)) == (3, 5)
    async with table_server(MODEL) as (server, served):
        for most_tokens in (8, 1000, None):
            found = await ground(early, url=served.url, context=100, most_tokens=most_tokens)
            assert found is Ground.REFUND
        server.bodies.clear()
        with pytest.raises(JudgingError, match="this arbiter takes 7"):
            await ground(early, url=served.url, context=100, most_tokens=7)
        assert server.bodies == []
    # What no engine can have made is no matter of anybody's size.
    assert await ground(early, context=7, most_tokens=1) is Ground.REFUND
