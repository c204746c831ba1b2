"""What a finished job gives its client, and every check before anyone sees it.

Owns opening and judging a result. Must not know how it arrived or how it is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pytoniq_core import Address

from cocoon_sdk.client.errors import AmountMismatchError
from cocoon_sdk.crypto.keys import BoxKey
from cocoon_sdk.errors import DecryptionError, MalformedError
from cocoon_sdk.protocol.envelope import JobRef, ResultPlain, open_result
from cocoon_sdk.protocol.pricing import Usage, price
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Hash, Nano


class Arrival(StrEnum):
    """How a result came."""

    INLINE = "in the worker's message on chain"
    LOCATION = "from a location named on chain"
    HANDOVER = "handed over by the worker, with its signature"


@dataclass(frozen=True, slots=True)
class JobResult:
    """A checked result: its hash is the one that the worker committed to, its price is the agreed one.

    `response` is the OpenAI response body, `amount` what the worker gets, in nanoTON.
    """

    job_id: int
    response: dict[str, Any] = field(repr=False)
    usage: Usage
    amount: Nano
    result_hash: Hash
    arrival: Arrival
    accepted: bool
    plain: ResultPlain = field(repr=False)

    @property
    def text(self) -> str:
        """The first choice's text. Raises `MalformedError` when the response has none."""
        try:
            choice = self.response["choices"][0]
            text = choice["message"]["content"] if "message" in choice else choice["text"]
        except (KeyError, IndexError, TypeError):
            text = None
        if not isinstance(text, str):
            raise MalformedError(
                "the response holds no text", why="it has no choice with content", hint="See `response`"
            )
        return text


def open_sealed(
    sealed: bytes, keys: Iterable[BoxKey], expected_hash: bytes, escrow: Address, job_id: int
) -> ResultPlain:
    """Open a result with the job's key and check it against the committed hash and the job.

    Raises `DecryptionError`, `HashMismatchError` or `MalformedError`.
    """
    refused: DecryptionError | None = None
    for key in keys:
        try:
            return open_result(sealed, key, expected_hash, job=JobRef.of(escrow, job_id))
        except DecryptionError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def judged(
    job_id: int, plain: ResultPlain, amount: Nano, result_hash: bytes, terms: Terms, arrival: Arrival
) -> JobResult:
    """Return the result if the amount is the price of its usage. Raises `AmountMismatchError`."""
    result = JobResult(
        job_id=job_id,
        response=plain.response,
        usage=plain.usage,
        amount=amount,
        result_hash=Hash(bytes(result_hash)),
        arrival=arrival,
        accepted=False,
        plain=plain,
    )
    due = price(plain.usage, terms)
    if amount != due:
        raise AmountMismatchError(
            f"the worker of job {job_id} asks for {amount}",
            result=result,
            why=f"its terms give {due} for the usage that it states",
            hint="Nothing was accepted; call dispute() before the window ends",
        )
    return result
