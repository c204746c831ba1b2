"""What the records of a session come to together: one that is beyond doubt, or many in a row.

Owns reading a record as question and answer, and the rule over several. Must not know who re-scores
(`rescoring`), whose word a record is (`receipts`), amounts, or other arbiters.

The client chooses what it shows. Out of thousands of honest answers it could pick the one that deviates most,
so what a single record shows counts only beyond the limit for a slash, which lies far outside of all honest
answers. What is less counts in a row (`cocoon_sdk.verify.rows`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import structlog

from cocoon_sdk.arbiter.errors import JudgingError
from cocoon_sdk.arbiter.judging import Judgement, measured
from cocoon_sdk.arbiter.receipts import SessionCase
from cocoon_sdk.client.sessions.answers.joining import join_pieces, read_event
from cocoon_sdk.client.sessions.values import CHAT, COMPLETION
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.canonical import parse_canonical
from cocoon_sdk.protocol.disputes import Ground, Measure, Measured
from cocoon_sdk.protocol.requests import check_request
from cocoon_sdk.protocol.session_evidence import EvidenceRecord
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.protocol.vouchers import SessionRef
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.checking import Findings, NotCheckableError
from cocoon_sdk.verify.commitment import CANCELLED, MAX_COMMITMENT_BYTES, Commitment
from cocoon_sdk.verify.ladder import MILLION
from cocoon_sdk.verify.rows import LINE, InRow, is_over_the_line, longest_row, row_score
from cocoon_sdk.verify.seeds import request_seed
from cocoon_sdk.verify.structure import FaultKind, Level, Question, says_something

_CHECKABLE: Final = frozenset({CHAT, COMPLETION})
log = structlog.get_logger("cocoon.arbiter")

Examine: TypeAlias = Callable[[Hash, Question, Mapping[str, Any], Commitment], Awaitable[Findings]]
"""Re-scores one answer of the model with this id. Raises `NotCheckableError`, `MalformedError` for a request
that no engine would have taken, and `JudgingError` when it cannot be told here and now.
"""


async def judge_records(case: SessionCase, examine: Examine) -> Judgement:
    """Return what the records come to, with the numbers of what decided. Raises `JudgingError`."""
    if await asyncio.to_thread(lambda: any(_breaks_promise(record) for record in case.records)):
        return Judgement(Ground.NO_COMMITMENT)
    seen: list[InRow] = []
    worst: Findings | None = None
    for record in case.records:
        findings = await _examined(case, record, examine)
        if findings is None:
            continue
        if findings.level is Level.SLASH or _contradicts_itself(findings):
            return Judgement(Ground.SLASH, measured(findings))
        if worst is None or findings.level > worst.level:
            worst = findings
        if (in_row := InRow.of(record.rid, findings)) is not None:
            seen.append(in_row)
    row = longest_row(seen)
    if is_over_the_line(row):
        return Judgement(Ground.SLASH, _measured_row(row))
    log.info("session_judged", dispute=case.dispute.digest.hex()[:16], checked=len(seen), row=len(row))
    if worst is None:
        return Judgement(Ground.NOT_CHECKABLE)
    ground = Ground.HONEST if worst.level is Level.HONEST else Ground.SUSPECT
    return Judgement(ground, measured(worst))


def _measured_row(row: Sequence[InRow]) -> Measured:
    line = round(-math.log(LINE) * MILLION)
    value = round(row_score(row).peak * MILLION)
    return Measured(measures=(Measure(name="score", value=value, refund=line, slash=line),))


# -- one record --------------------------------------------------------------------------------------------


async def _examined(case: SessionCase, record: EvidenceRecord, examine: Examine) -> Findings | None:
    """Return what is found of one record; None for what says nothing about the worker."""
    try:
        commitment = read_commitment(record)
        if commitment is None:
            return None
        question = question_of(record, case.dispute.session, commitment)
        answer = await asyncio.to_thread(answer_of, record)
        findings = await examine(record.read_terms().model_id, question, answer, commitment)
    except (NotCheckableError, MalformedError) as error:
        log.info("not_checkable", dispute=case.dispute.digest.hex()[:16], rid=record.rid, why=error.why)
        return None
    except JudgingError:
        raise
    except Exception as error:
        # A stranger wrote it, to have us stumble perhaps: the other records are judged all the same.
        log.error("not_checkable", dispute=case.dispute.digest.hex()[:16], error=type(error).__name__)
        return None
    log.info(
        "judged",
        dispute=case.dispute.digest.hex()[:16],
        rid=record.rid,
        level=findings.level.word,
        numbers=None if findings.numbers is None else dict(findings.numbers.items()),
    )
    # Calibrated for other kinds of sampling only: then structure was judged, and nothing else.
    return None if findings.limits is None and findings.level < Level.REFUND else findings


def _contradicts_itself(findings: Findings) -> bool:
    """Tell whether the worker signed a commitment to more than it was asked for.

    It cannot be re-scored, so no number will show what it is; and no honest worker signs it. (What a model
    holds does not count here: an engine can be told to hold more, and collateral is more than a reward.)
    """
    return any(fault.outsized and fault.kind is not FaultKind.CONTEXT for fault in findings.faults)


def _promises(record: EvidenceRecord) -> bool:
    """Tell whether the record's terms promise a commitment to its answer: to anything that it says."""
    verifiable = record.read_terms().sampling is not SamplingClass.UNVERIFIED
    if not verifiable or record.kind not in _CHECKABLE:
        return False
    if record.output_tokens > 0:
        return True
    joined = _joined(record)
    return joined is None or says_something(joined)


def _breaks_promise(record: EvidenceRecord) -> bool:
    """Tell whether the worker signed an answer without the commitment that its terms promise."""
    if not _promises(record):
        return False
    try:
        return read_commitment(record) is None
    except MalformedError:
        return True  # it signed the hash of something else


def read_commitment(record: EvidenceRecord) -> Commitment | None:
    """Return what the worker committed to, None for nothing. Raises `MalformedError`."""
    if not record.commitment:
        return None
    return Commitment.from_json(parse_canonical(record.commitment, max_bytes=MAX_COMMITMENT_BYTES))


def question_of(record: EvidenceRecord, session: SessionRef, commitment: Commitment | None) -> Question:
    """Return what was asked, under which promise. Raises `MalformedError` for what no worker takes."""
    body = read_event(record.request)
    if record.kind not in _CHECKABLE:
        raise MalformedError("the answer cannot be judged", why=f"{record.kind} makes no tokens")
    check_request(record.kind, body)
    receipt, terms = record.receipt, record.read_terms()
    return Question(
        kind=record.kind,
        body=body,
        seed=request_seed(session, record.rid, receipt.request_hash),
        sampling=terms.sampling,
        # Who states no manifest has not said anything false; the numbers speak for or against it.
        model_id=None if commitment is None or commitment.manifest is None else terms.model_id,
        # Only the worker says that an answer was cancelled. It may: the tokens count all the same.
        cancelled=commitment is not None and any(choice.finish == CANCELLED for choice in commitment.choices),
    )


def answer_of(record: EvidenceRecord) -> dict[str, Any]:
    """Return the answer as an OpenAI response, with the counts that it was charged for.

    One that cannot be read has no choices: what is wrong with it must not keep its tokens from being judged.
    """
    joined = _joined(record)
    usage = {"prompt_tokens": record.input_tokens, "completion_tokens": record.output_tokens}
    return {**({"choices": []} if joined is None else joined), "usage": usage}


def _joined(record: EvidenceRecord) -> dict[str, Any] | None:
    """Return what was shown as one response; None for what cannot be read."""
    pieces = record.pieces
    try:
        whole = pieces[0] if len(pieces) == 1 and _is_whole(pieces[0]) else join_pieces(record.kind, pieces)
        return read_event(whole)
    except Exception:  # anything: a stranger made it, to be unreadable perhaps
        return None


def _is_whole(piece: bytes) -> bool:
    """Tell whether a piece is a whole answer; of a completion it reads the same either way."""
    choices = read_event(piece).get("choices")
    return isinstance(choices, list) and any(isinstance(each, dict) and "message" in each for each in choices)
