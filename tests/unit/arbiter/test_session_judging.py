"""What records of a session come to: one beyond doubt, or a row; and what a client or worker could try."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
from msgspec.structs import replace
from pytoniq_core import Address

from cocoon_sdk.arbiter.errors import JudgingError
from cocoon_sdk.arbiter.receipts import SessionCase
from cocoon_sdk.arbiter.rescoring import JudgedModel, RescoringJudge
from cocoon_sdk.arbiter.session_judging import (
    Examine,
    answer_of,
    judge_records,
    question_of,
    read_commitment,
)
from cocoon_sdk.client.sessions.answers.joining import write_json
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.canonical import parse_canonical
from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.protocol.session_evidence import EvidenceRecord
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.protocol.vouchers import SessionRef, request_hash
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.checking import Findings, NotCheckableError, check
from cocoon_sdk.verify.commitment import CANCELLED, Commitment
from cocoon_sdk.verify.rescoring import Verifier
from cocoon_sdk.verify.seeds import request_seed
from cocoon_sdk.verify.statistics import Numbers, TokenEvidence
from cocoon_sdk.verify.structure import Fault, FaultKind, Level, Question
from cocoon_sdk.verify.thresholds import SamplingKind, Thresholds
from tests.helpers.session_records import LIMITS, draw, signed_record
from tests.helpers.table_model import MODEL_ID, TableModel, shown, table_terms
from tests.helpers.table_server import END_TOKENS, NAME, table_server

SESSION = SessionRef(Domain(-239, Address((0, b"\x01" * 32)), 1_700_000_000), 7, Address((0, b"\x02" * 32)))
KEY = SigningKey(b"\x06" * 32)
TERMS = table_terms()
WORKER = TableModel(spread=0.01, machine=1)
VERIFIER = TableModel(spread=0.01, machine=2)


class _Dispute:
    session = SESSION
    digest = Hash(b"\x01" * 32)


def case(records: Sequence[EvidenceRecord]) -> SessionCase:
    return SessionCase(cast(Dispute, _Dispute), tuple(records))


def answered(
    rid: int,
    model: TableModel = WORKER,
    *,
    terms: Terms = TERMS,
    bend: Callable[[Commitment], Commitment] | None = None,
    pieces: Sequence[dict[str, Any] | bytes] | None = None,
    **fields: Any,
) -> EvidenceRecord:
    """Let a model answer a completion; `fields` go into its request."""
    prompt = [int(each) for each in np.random.default_rng(rid).integers(1, 300, 8)]
    body = {"prompt": prompt, "max_tokens": 16, "temperature": 1.0, **fields}
    seed = request_seed(SESSION, rid, request_hash("completion", write_json(body)))
    answer = model.answer(prompt, {k: v for k, v in body.items() if k not in ("prompt",)}, seed, most=16)
    committed = answer.commitment if bend is None else bend(answer.commitment)
    return signed_record(
        SESSION,
        rid,
        KEY,
        terms,
        body=body,
        pieces=[answer.response] if pieces is None else pieces,
        commitment=committed,
        input_tokens=len(prompt),
        output_tokens=committed.output_tokens,
    )


def found(level: Level, numbers: Numbers | None, *, faults: tuple[Fault, ...] = ()) -> Findings:
    return Findings(level, (), faults, SamplingKind.SAMPLED, numbers, (), LIMITS)


def scripted(*findings: Findings | Exception) -> tuple[Examine, list[Question]]:
    """Return a double that finds these, one after the other, and what it was asked."""
    asked: list[Question] = []

    async def examine(_: Hash, question: Question, __: Mapping[str, Any], ___: Commitment) -> Findings:
        given = findings[len(asked)]
        asked.append(question)
        if isinstance(given, Exception):
            raise given
        return dataclasses.replace(given, prompt=b"%d" % len(asked))

    return examine, asked


async def really(
    model_id: Hash, question: Question, response: Mapping[str, Any], made: Commitment
) -> Findings:
    """Judge as an arbiter does; only the transport to the engine is left out."""
    assert model_id == MODEL_ID
    limits = Thresholds(model_id=MODEL_ID, greedy=None, sampled=LIMITS)
    return check(question, response, made, [VERIFIER.examine(question.body["prompt"], made)], limits)


# -- what is found -------------------------------------------------------------------------------------------


async def test_honest_worker_on_another_machine_is_released() -> None:
    assert (
        await judge_records(case([answered(rid) for rid in range(1, 33)]), really)
    ).ground is Ground.HONEST


async def test_worker_with_another_model_is_slashed_for_one_answer() -> None:
    records = [answered(1), answered(2, TableModel(weights=2)), answered(3)]
    assert (await judge_records(case(records), really)).ground is Ground.SLASH


async def test_worker_with_nearly_the_model_is_slashed_for_a_row_and_for_no_single_answer() -> None:
    cheap = TableModel(spread=0.08, machine=3)
    records = [answered(rid, cheap) for rid in range(1, 33)]
    assert (await judge_records(case(records), really)).ground is Ground.SLASH
    for record in records[:8]:
        assert (await judge_records(case([record]), really)).ground is not Ground.SLASH


async def test_worker_with_another_seed_is_slashed() -> None:
    # It drew until the answer was short; what it says about the seed itself is no evidence for it.
    prompt = [5, 6, 7]
    answer = WORKER.answer(prompt, {"temperature": 1.0}, bytes(16), most=16)
    body = {"prompt": prompt, "max_tokens": 16, "temperature": 1.0}
    record = signed_record(
        SESSION,
        1,
        KEY,
        TERMS,
        body=body,
        pieces=[answer.response],
        commitment=answer.commitment,
        input_tokens=3,
        output_tokens=answer.commitment.output_tokens,
    )
    assert (await judge_records(case([record]), really)).ground is Ground.SLASH


# -- the rule over several -----------------------------------------------------------------------------------


async def test_client_cannot_leave_out_what_speaks_for_the_worker_in_the_middle_of_a_row() -> None:
    rng = random.Random(1)
    bad = [found(Level.SUSPECT, draw(rng, 5.0)) for _ in range(14)]
    examine, _ = scripted(*bad)
    judgement = await judge_records(case([answered(rid) for rid in range(1, 15)]), examine)
    assert judgement.ground is Ground.SLASH
    assert judgement.measured is not None
    (score,) = judgement.measured.measures
    assert (score.name, score.value > score.slash == 13_815_511) == ("score", True)
    # The same ones out of twice as many: what stood between them counts as perfect, and was no better.
    examine, _ = scripted(*bad)
    every_second = await judge_records(case([answered(rid) for rid in range(1, 29, 2)]), examine)
    assert every_second.ground is Ground.SUSPECT
    # Out of more they are no row at all.
    examine, _ = scripted(*bad)
    every_third = await judge_records(case([answered(rid) for rid in range(1, 43, 3)]), examine)
    assert every_third.ground is Ground.SUSPECT


async def test_worker_cannot_escape_by_withholding_every_seventh_receipt() -> None:
    rng = random.Random(1)
    rids = [rid for rid in range(1, 38) if rid % 7]
    examine, _ = scripted(*(found(Level.SUSPECT, draw(rng, 5.0)) for _ in rids))
    assert (await judge_records(case([answered(rid) for rid in rids]), examine)).ground is Ground.SLASH


async def test_client_cannot_win_with_the_maxima_of_answers_longer_than_any_in_the_calibration() -> None:
    records = [answered(rid) for rid in range(1, 33)]
    for length, ground in ((LIMITS.longest, Ground.SLASH), (LIMITS.longest + 1, Ground.SUSPECT)):
        one = found(Level.SUSPECT, Numbers(0.005, 2.0, 0.005, 3.0))
        one = dataclasses.replace(one, tokens=cast(tuple[TokenEvidence, ...], (None,) * length))
        examine, _ = scripted(*[one] * len(records))
        assert (await judge_records(case(records), examine)).ground is ground
    # Its means count all the same.
    bad = dataclasses.replace(one, numbers=Numbers(0.05, 2.0, 0.05, 3.0))
    examine, _ = scripted(*[bad] * len(records))
    assert (await judge_records(case(records), examine)).ground is Ground.SLASH


async def test_answer_that_cannot_be_judged_counts_as_one_that_is_left_out() -> None:
    rng = random.Random(1)
    bad = [found(Level.SUSPECT, draw(rng, 5.0)) for _ in range(26)]
    records = [answered(rid) for rid in range(1, 27)]
    examine, _ = scripted(*bad[:7], MalformedError("odd"), *bad[8:])
    assert (await judge_records(case(records), examine)).ground is Ground.SLASH
    odd = [MalformedError("odd") if at % 3 else each for at, each in enumerate(bad)]
    examine, _ = scripted(*odd)
    assert (await judge_records(case(records), examine)).ground is Ground.SUSPECT


async def test_single_answer_below_a_slash_does_nothing() -> None:
    fault = Fault(FaultKind.TEXT, Level.REFUND, "another")
    examine, _ = scripted(found(Level.REFUND, Numbers(0.02, 0.4, None, None), faults=(fault,)))
    assert (await judge_records(case([answered(1)]), examine)).ground is Ground.SUSPECT


async def test_one_answer_beyond_the_limit_is_enough_wherever_it_stands() -> None:
    honest = found(Level.HONEST, Numbers(0.0, 0.0, 0.0, 0.0))
    examine, asked = scripted(honest, NotCheckableError("nothing"), found(Level.SLASH, None), honest)
    assert (
        await judge_records(case([answered(rid) for rid in (2, 9, 40, 41)]), examine)
    ).ground is Ground.SLASH
    assert len(asked) == 3


async def test_nothing_that_could_be_judged_is_nobodys_fault() -> None:
    examine, _ = scripted(NotCheckableError("nothing"))
    assert (await judge_records(case([answered(1)]), examine)).ground is Ground.NOT_CHECKABLE


async def test_arbiter_is_silent_when_one_answer_cannot_be_judged_now() -> None:
    examine, _ = scripted(found(Level.HONEST, None), JudgingError("the engine is away"))
    with pytest.raises(JudgingError):
        await judge_records(case([answered(1), answered(2)]), examine)


# -- promises ------------------------------------------------------------------------------------------------


def silent(rid: int = 1, *, terms: Terms = TERMS, output_tokens: int = 3, **changes: Any) -> EvidenceRecord:
    fields: dict[str, Any] = {
        "body": {"prompt": [1], "max_tokens": 3},
        "pieces": [{"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}],
        "commitment": None,
        "input_tokens": 1,
        "output_tokens": output_tokens,
    }
    return signed_record(SESSION, rid, KEY, terms, **{**fields, **changes})


async def test_worker_cannot_sign_an_answer_without_the_commitment_that_it_promised() -> None:
    examine, asked = scripted()
    assert (await judge_records(case([answered(1), silent(2)]), examine)).ground is Ground.NO_COMMITMENT
    assert asked == []


async def test_worker_cannot_commit_to_what_is_no_commitment() -> None:
    garbage = b'{"v":1}'
    examine, _ = scripted()
    record = replace(silent(), commitment=garbage)
    assert (await judge_records(case([record]), examine)).ground is Ground.NO_COMMITMENT


@pytest.mark.parametrize(
    "record",
    [
        silent(terms=TERMS.model_copy(update={"sampling": SamplingClass.UNVERIFIED})),
        silent(output_tokens=0, pieces=[{"choices": []}]),
        silent(kind="embedding", body={"input": "x"}),
    ],
    ids=["unverified", "no tokens", "embedding"],
)
async def test_worker_owes_no_commitment_that_it_did_not_promise(record: EvidenceRecord) -> None:
    examine, asked = scripted()
    assert (await judge_records(case([record]), examine)).ground is Ground.NOT_CHECKABLE
    assert asked == []


@pytest.mark.parametrize(
    "fields",
    [{"n": 50}, {"chat_template": "evil"}, {"max_tokens": "many"}],
    ids=["many", "template", "words"],
)
async def test_client_cannot_have_the_engine_asked_what_no_worker_takes(fields: dict[str, Any]) -> None:
    body = {"prompt": [1], "max_tokens": 3, **fields}
    answer = WORKER.answer([1], {}, bytes(16), most=3)
    examine, asked = scripted()
    record = silent(body=body, commitment=answer.commitment)
    assert (await judge_records(case([record]), examine)).ground is Ground.NOT_CHECKABLE
    assert asked == []


# -- reading -------------------------------------------------------------------------------------------------


async def test_client_cannot_win_by_cancelling_in_the_middle() -> None:
    """A cancelled answer shows less than its tokens say."""

    def stopped(commitment: Commitment) -> Commitment:
        (choice,) = commitment.choices
        cut = choice.model_copy(
            update={
                "tokens": choice.tokens[:6],
                "logprobs": choice.logprobs[:6],
                "finish": CANCELLED,
            }
        )
        return commitment.model_copy(update={"choices": (cut,)})

    whole = answered(1)
    commitment = read_commitment(whole)
    assert commitment is not None
    text = shown(commitment.choices[0].tokens[:4])
    piece = {"choices": [{"index": 0, "text": text, "finish_reason": None}]}
    record = answered(1, bend=stopped, pieces=[piece])
    assert (await judge_records(case([record]), really)).ground is Ground.HONEST


@pytest.mark.parametrize(
    "pieces",
    [
        [b"no json"],
        [b"[]"],
        [{"choices": "none"}],
        [{"choices": [{"index": 10**9}]}],
        [{"choices": [{"message": "x"}]}, {"choices": [{"delta": {"content": "x"}}]}],
    ],
    ids=str,
)
async def test_worker_cannot_keep_its_tokens_from_being_judged_by_an_answer_that_cannot_be_read(
    pieces: list[Any],
) -> None:
    record = answered(1, TableModel(weights=2), pieces=pieces)
    assert isinstance(answer_of(record), dict)
    assert (await judge_records(case([record]), really)).ground is Ground.SLASH


def test_answer_reads_the_same_in_one_piece_and_in_many() -> None:
    whole = answered(1)
    text = answer_of(whole)["choices"][0]["text"]
    parts: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "text": part, "finish_reason": None}]} for part in (text[:5], text[5:])
    ]
    last = answer_of(whole)["choices"][0]["finish_reason"]
    parts.append(
        {"choices": [{"index": 0, "text": "", "finish_reason": last}], "usage": {"prompt_tokens": 1}}
    )
    streamed = answered(1, pieces=parts)
    for record in (whole, streamed):
        answer = answer_of(record)
        assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == (text, last)
        assert answer["usage"] == {"prompt_tokens": 8, "completion_tokens": record.output_tokens}


def test_chat_reads_as_one_message_whether_it_was_streamed_or_not() -> None:
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris."}}]}
    streamed = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Par"}}]},
        {"choices": [{"index": 0, "delta": {"content": "is."}, "finish_reason": "stop"}]},
    ]
    for pieces in ([whole], streamed):
        record = silent(kind="chat.completion", pieces=pieces)
        assert answer_of(record)["choices"][0]["message"]["content"] == "Paris."


def test_question_is_the_requests_own_seed_and_the_model_that_its_terms_name() -> None:
    record = answered(4)
    commitment = read_commitment(record)
    assert commitment is not None
    question = question_of(record, SESSION, commitment)
    assert question.seed == request_seed(SESSION, 4, record.receipt.request_hash)
    assert (question.model_id, question.sampling) == (MODEL_ID, SamplingClass.REPLAYABLE)
    assert not question.cancelled


async def test_arbiter_judges_records_with_its_own_endpoint() -> None:
    limits = Thresholds(model_id=MODEL_ID, greedy=None, sampled=LIMITS)

    async def calibration(_: Hash) -> Hash:
        return limits.digest()

    async with table_server(VERIFIER) as (server, served):
        verifier = Verifier(served.url, None, NAME, end_tokens=END_TOKENS)
        judge = RescoringJudge({MODEL_ID: JudgedModel(verifier, limits)}, calibration, batches=(1, 2))
        assert (await judge.judge_session(case([answered(1), answered(2)]))).ground is Ground.HONEST
        assert len(server.bodies) == 6, "each one alone, and beside a copy of itself"
        judgement = await judge.judge_session(case([answered(3, TableModel(weights=2))]))
        assert judgement.ground is Ground.SLASH
        assert judgement.measured is not None
        assert any(each.value > each.slash for each in judgement.measured.measures)
        lies: list[dict[str, Any]] = [{"max_tokens": 17}, {"manifest": Hash(b"\7" * 32)}, {"sampling": {}}]
        for lie in lies:
            # What is wrong with its form keeps an answer's tokens from nobody's eyes.
            bend = functools.partial(Commitment.model_copy, update=lie)
            record = answered(4, TableModel(weights=2), bend=bend)
            judgement = await judge.judge_session(case([record]))
            assert judgement.ground is Ground.SLASH, lie
            assert judgement.measured is not None
            assert any(each.value > each.slash for each in judgement.measured.measures)
        foreign = TERMS.model_copy(update={"model_id": Hash(b"\x01" * 32)})
        with pytest.raises(JudgingError, match="no endpoint"):
            await judge.judge_session(case([answered(1, terms=foreign)]))
        await judge.close()


# -- what was tried to get around it -----------------------------------------------------------------------


async def test_worker_cannot_say_that_it_made_no_tokens() -> None:
    examine, _ = scripted()
    assert (await judge_records(case([silent(output_tokens=0)]), examine)).ground is Ground.NO_COMMITMENT
    unreadable = silent(output_tokens=0, pieces=[{"choices": [{"index": 999, "text": "x"}]}])
    assert (await judge_records(case([unreadable]), examine)).ground is Ground.NO_COMMITMENT


async def test_worker_cannot_have_other_records_lost_by_one_that_nobody_can_read() -> None:
    async def stumbling(
        model: Hash, question: Question, response: Mapping[str, Any], made: Commitment
    ) -> Findings:
        if question.seed == Commitment.from_json(parse_canonical(poisoned.commitment)).seed:
            raise RecursionError
        return await really(model, question, response, made)

    poisoned, cheap = answered(1), answered(2, TableModel(weights=2))
    assert (await judge_records(case([poisoned, cheap]), stumbling)).ground is Ground.SLASH
