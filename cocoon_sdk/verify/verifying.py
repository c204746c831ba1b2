"""Question, answer and verifier in, findings out: re-scoring and judging in one call.

Owns the order of the two, and batch shapes. Must not know jobs, sessions or what follows from findings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cocoon_sdk.verify.checking import Findings, check, check_form
from cocoon_sdk.verify.commitment import Commitment
from cocoon_sdk.verify.rescoring import Rescoring, UnknownTokenError, Verifier, together
from cocoon_sdk.verify.structure import Question
from cocoon_sdk.verify.thresholds import Thresholds

ALONE: Final = (1,)
"""One prefill: what a client's own audit does."""


async def verify(
    question: Question,
    response: Mapping[str, Any],
    commitment: Commitment | None,
    verifier: Verifier,
    thresholds: Thresholds | None,
    *,
    shapes: Sequence[int] = ALONE,
) -> Findings:
    """Re-score an answer and judge it.

    Each number in `shapes` is how many times the same prefill is asked for at once: batches of different
    shape give the endpoint's own spread on this very prompt, and what it explains is not held against the
    worker. Raises `VerifierError` (nothing is said about the worker), `NotCheckableError` and
    `MalformedError`.
    """
    rescorings: list[Rescoring] = []
    at_once = check_form(question, response, commitment, thresholds)
    if at_once is not None and at_once.outsized:
        return at_once
    if commitment is not None:
        try:
            for shape in shapes:
                asked = (verifier.examine(question.kind, question.body, commitment) for _ in range(shape))
                rescorings += await together(asked)
        except UnknownTokenError:
            rescorings = []
    # Replaying thousands of choices takes a noticeable part of a second: not on the event loop.
    return await asyncio.to_thread(check, question, response, commitment, rescorings, thresholds)
