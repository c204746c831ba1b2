"""`RescoringJudge`: judges content by asking the named model itself, one prefill at a time.

Owns which endpoint re-scores which model, in which company, and what an arbiter makes of the findings. Must
not know the statistics (`cocoon_sdk.verify`), amounts, or other arbiters.

Each answer is re-scored alone and beside copies of itself: another batch gives slightly other numbers, and of
each token the mildest counts. So what lies within the honest spread on this very prompt is held against
nobody, and two arbiters with different machines find the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import structlog

from cocoon_sdk.arbiter.errors import JudgingError
from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.judging import Judgement, measured
from cocoon_sdk.arbiter.receipts import SessionCase
from cocoon_sdk.arbiter.session_judging import judge_records
from cocoon_sdk.errors import CocoonError, MalformedError
from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.protocol.hashing import same_hash
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.checking import Findings, NotCheckableError, check, check_form
from cocoon_sdk.verify.commitment import Commitment
from cocoon_sdk.verify.rescoring import Rescoring, UnknownTokenError, Verifier, together
from cocoon_sdk.verify.seeds import job_seed
from cocoon_sdk.verify.structure import Level, Question
from cocoon_sdk.verify.thresholds import Thresholds

BATCHES: Final = (1, 2, 4)
"""How many copies of an answer are re-scored at a time, one batch after the other."""
_GROUNDS: Final = {
    Level.HONEST: Ground.HONEST,
    Level.SUSPECT: Ground.SUSPECT,
    Level.REFUND: Ground.REFUND,
    Level.SLASH: Ground.SLASH,
}
log = structlog.get_logger("cocoon.arbiter")

Calibration: TypeAlias = Callable[[Hash], Awaitable[Hash | None]]
"""Returns the hash of a model's thresholds as the registry names it; None for a model it does not list."""


@dataclass(frozen=True, slots=True)
class JudgedModel:
    """A model that this arbiter can judge: who re-scores it, and its thresholds.

    `context` is how many tokens of prompt and output the model holds by its own files, None where they do not
    say: all arbiters have the same. `most_tokens` is this arbiter's own: what is longer it does not judge.
    """

    verifier: Verifier
    thresholds: Thresholds
    context: int | None = None
    most_tokens: int | None = None


class RescoringJudge:
    """Judges cases of the models that it is given, by their ids; closes their verifiers."""

    def __init__(
        self,
        models: Mapping[Hash, JudgedModel],
        calibration: Calibration,
        *,
        batches: Sequence[int] = BATCHES,
    ) -> None:
        self._models, self._calibration, self._batches = dict(models), calibration, tuple(batches)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(model.verifier.close() for model in self._models.values()))

    async def judge(self, case: Case) -> Judgement:
        """See `Judge.judge`. Content that no engine could have taken, or that cannot be replayed at all, is
        not held against the worker.
        """
        try:
            findings = await self.examine(
                case.dispute.model_id, _question(case), _response(case), case.commitment
            )
        except (NotCheckableError, MalformedError) as error:
            log.info("not_checkable", dispute=case.dispute.digest.hex()[:16], why=error.why)
            return Judgement(Ground.NOT_CHECKABLE)
        log.info(
            "judged",
            dispute=case.dispute.digest.hex()[:16],
            level=findings.level.word,
            numbers=None if findings.numbers is None else dict(findings.numbers.items()),
        )
        if findings.limits is None and findings.level < Level.REFUND:
            return Judgement(Ground.NOT_CHECKABLE)  # calibrated for other kinds of sampling only
        return Judgement(_GROUNDS[findings.level], measured(findings))

    async def judge_session(self, case: SessionCase) -> Judgement:
        """See `Judge.judge_session`."""
        return await judge_records(case, self.examine)

    async def examine(
        self, model_id: Hash, question: Question, response: Mapping[str, Any], commitment: Commitment
    ) -> Findings:
        """Re-score one answer of a model and say what is found.

        Raises `NotCheckableError`, `MalformedError` for a request that no engine would have taken, and
        `JudgingError`.
        """
        model = await self._model(model_id)
        question = replace(question, context=model.context)
        findings = check_form(question, response, commitment, model.thresholds)
        # What is wrong with its form keeps no answer from being re-scored: the numbers may weigh more.
        if findings is not None and findings.outsized:
            return findings
        _check_size(commitment, model)
        try:
            rescorings = await self._rescored(question, commitment, model.verifier)
        except MalformedError:
            if findings is None:
                raise
            return findings
        return await asyncio.to_thread(check, question, response, commitment, rescorings, model.thresholds)

    async def _model(self, model_id: Hash) -> JudgedModel:
        what = f"cannot judge answers of model {model_id.hex()[:16]}"
        model = self._models.get(model_id)
        if model is None:
            raise JudgingError(what, why="no endpoint is named for it", hint="Name one in the settings")
        try:
            named = await self._calibration(model_id)
        except MalformedError as error:  # of what the endpoint says, not of the question
            raise JudgingError(what, why=str(error)) from None
        if named is None or not same_hash(named, model.thresholds.digest()):
            # Other thresholds than everybody's could lead to another verdict than everybody's.
            raise JudgingError(
                what,
                why="its thresholds are not those that the registry names",
                hint="Use the file whose hash stands in the model's registry entry",
            )
        return model

    async def _rescored(
        self, question: Question, commitment: Commitment, verifier: Verifier
    ) -> list[Rescoring]:
        """Return what the model says, batch by batch; nothing when it does not have the answer's tokens."""
        found: list[Rescoring] = []
        try:
            for size in self._batches:
                copies = (verifier.examine(question.kind, question.body, commitment) for _ in range(size))
                found += await together(copies)
        except UnknownTokenError:
            return []
        except MalformedError:
            raise
        except CocoonError as error:
            # Also for what is too long for our endpoint only: nobody is paid because we are too small.
            raise JudgingError("the answer cannot be re-scored now", why=str(error)) from None
        return found


def _check_size(commitment: Commitment, model: JudgedModel) -> None:
    """Raise `JudgingError` for an answer beyond what this arbiter judges: its own limit makes no verdict."""
    size = commitment.prompt_tokens + max((len(each.tokens) for each in commitment.choices), default=0)
    if model.most_tokens is not None and size > model.most_tokens:
        raise JudgingError(
            "the answer is too long to be judged here",
            why=f"{size} tokens with its prompt, this arbiter takes {model.most_tokens}",
            hint="Raise most_tokens if the endpoint takes more",
        )


def _response(case: Case) -> dict[str, Any]:
    """Return the answer with the counts that it is charged for: what else it says about them is no matter."""
    usage = case.result.usage
    return {
        **case.result.response,
        "usage": {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens},
    }


def _question(case: Case) -> Question:
    dispute = case.dispute
    return Question(
        kind=case.payload.kind.value,
        body=case.payload.request,
        seed=job_seed(dispute.domain, dispute.number, dispute.payload_hash),
        sampling=SamplingClass.UNVERIFIED if case.terms is None else case.terms.sampling,
        # Who states no manifest has not said anything false; the numbers speak for or against it.
        model_id=None if case.commitment.manifest is None else dispute.model_id,
    )
