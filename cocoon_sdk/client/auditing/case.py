"""What a check is given: one question, one answer, and what its worker committed to about it.

Owns the value, and reading it out of a finished answer of a session. Must not know how it is checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.client.auditing.records import Audited, AuditSubject
from cocoon_sdk.client.sessions.answers.finished import FinishedAnswer
from cocoon_sdk.client.sessions.answers.joining import join_pieces, read_event, write_json
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import Commitment
from cocoon_sdk.verify.seeds import request_seed


@dataclass(frozen=True, slots=True)
class AuditCase:
    """A result with everything that it is checked against.

    `body` is the OpenAI body as the worker had it, `response` what it answered, with its usage. `seed` is
    what the answer's noise has to be drawn from, `calibration` the hash that the model's registry entry
    names. `owner` is who owns the worker's stake: nobody checks results of their own. `limits` are the
    output tokens and the context that the worker offered, where known.
    """

    subject: AuditSubject
    kind: str
    body: Mapping[str, Any] = field(repr=False)
    response: Mapping[str, Any] = field(repr=False)
    usage: Usage
    terms: Terms
    calibration: Hash
    owner: Address
    seed: bytes
    commitment: Commitment | None = field(repr=False)
    limits: tuple[int, int] | None = None

    @property
    def body_bytes(self) -> int:
        """How long the request is."""
        return len(write_json(self.body))


Claim: TypeAlias = Callable[[], Awaitable[AuditCase]]
"""Makes a case, when its turn has come. Raises `UncheckableError` and other `CocoonError`s."""


def subject_of_answer(answer: FinishedAnswer) -> AuditSubject:
    """Return which result a session's answer is."""
    signed, offer = answer.receipt, answer.offer
    return AuditSubject(
        what=Audited.REQUEST,
        domain=signed.session.domain,
        number=signed.session.session_id,
        request=signed.receipt.rid,
        worker=offer.address,
        model_id=offer.model.model_id,
        model=offer.offer.model,
        amount=signed.receipt.charged,
    )


def case_of_answer(answer: FinishedAnswer) -> AuditCase:
    """Return the case of a session's answer. Raises `MalformedError` for pieces that make no answer."""
    signed, offer = answer.receipt, answer.offer
    receipt = signed.receipt
    usage = Usage(
        input_tokens=receipt.input_tokens,
        cached_input_tokens=receipt.cached_input_tokens,
        output_tokens=receipt.output_tokens,
    )
    whole = answer.pieces[0] if answer.whole else join_pieces(answer.kind, answer.pieces)
    response = read_event(whole)
    counts = response.get("usage")
    response["usage"] = usage_with_counts(counts if isinstance(counts, dict) else {}, usage)
    return AuditCase(
        subject=subject_of_answer(answer),
        kind=answer.kind,
        body=read_event(answer.body),
        response=response,
        usage=usage,
        terms=offer.terms,
        calibration=offer.model.calibration_hash,
        owner=offer.worker.owner,
        seed=request_seed(signed.session, receipt.rid, receipt.request_hash),
        commitment=signed.commitment,
        limits=(offer.offer.max_output_tokens, offer.offer.max_context),
    )


def usage_with_counts(said: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """Return an OpenAI usage object with the counts that were paid for."""
    return {
        **said,
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
