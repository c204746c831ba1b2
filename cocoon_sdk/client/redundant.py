"""Redundant jobs: the same job at several workers, each answer checked by the others, for who has no GPU.

Owns the matrix of verdicts, who agrees with whom, and what follows. Must not know how workers are picked, or
how an answer is checked (`cocoon_sdk.client.auditing`). Texts are never compared: honest machines differ, and
so do seeds. What counts is whether the others' models find an answer to be the model's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Final

from pytoniq_core import Address

from cocoon_sdk.client.auditing.case import AuditCase
from cocoon_sdk.client.auditing.errors import NoAgreementError, UncheckableError
from cocoon_sdk.client.auditing.examining import judged, judged_at_once
from cocoon_sdk.client.auditing.lookers import look_of_worker, most_of_look
from cocoon_sdk.client.auditing.paid import Asker
from cocoon_sdk.client.auditing.policy import MOST_PER_CHECK
from cocoon_sdk.client.auditing.records import DisputeStep
from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.results import JobResult
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.checking import Findings
from cocoon_sdk.verify.structure import Level
from cocoon_sdk.verify.thresholds import Thresholds

if TYPE_CHECKING:
    from cocoon_sdk.client.job import AsyncJob
    from cocoon_sdk.client.job_audits import JobAudits

FEWEST_WORKERS: Final = 2
CHECK_S: Final = 300.0
"""How long one worker may take to check one answer."""
_NOTHING: Final = Nano(0)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one worker's model makes of another one's answer; `level` is None when it could not tell."""

    by: Address
    level: Level | None
    why: str
    cost: Nano
    findings: Findings | None = field(default=None, repr=False)

    @property
    def agrees(self) -> bool:
        """Whether it finds nothing to act upon."""
        return self.level is not None and self.level < Level.REFUND

    @property
    def objects(self) -> bool:
        """Whether it would not let the worker have the money."""
        return self.level is not None and self.level >= Level.REFUND


@dataclass(frozen=True, slots=True)
class RedundantPart:
    """One worker's part. `result` is None when it gave none; `why` says what became of it.

    `paid` (nanoTON) is what it got. `refused` tells that most of those who agree object to its answer,
    `undecided` that they neither refuse nor confirm it: then it is neither paid nor disputed here, and its
    `accept()` and `dispute()` are the caller's to call before the window ends, which pays it.
    """

    job_id: int
    worker: Address
    result: JobResult | None
    agreed: bool
    refused: bool
    undecided: bool
    opinions: tuple[Opinion, ...]
    paid: Nano
    why: str
    dispute: DisputeStep = DisputeStep.NONE


@dataclass(frozen=True, slots=True)
class RedundantResult:
    """The agreed answer, and how it came to be one. Amounts in nanoTON.

    `paid` is what all workers got for their answers, `checks` what checking each other cost.
    """

    result: JobResult
    parts: tuple[RedundantPart, ...]
    paid: Nano
    checks: Nano

    @property
    def text(self) -> str:
        """The agreed answer's text. Raises `MalformedError` when it has none."""
        return self.result.text

    @property
    def reasons(self) -> tuple[str, ...]:
        """What became of each part, in words."""
        return tuple(f"job {part.job_id} at {part.worker.to_str()}: {part.why}" for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Answer:
    job: AsyncJob
    offer: WorkerOffer
    result: JobResult
    case: AuditCase


class AsyncRedundantJob:
    """The same job at several workers; get it from `AsyncJobs.create_redundant` or `get_redundant`.

    `jobs` are the handles. Nothing is accepted before `result` has compared the answers.
    """

    def __init__(
        self,
        jobs: Sequence[tuple[AsyncJob, WorkerOffer]],
        audits: JobAudits,
        ask: Asker,
        thresholds: Thresholds,
        *,
        dispute: bool,
        most_per_check: Nano = MOST_PER_CHECK,
    ) -> None:
        self.jobs = tuple(job for job, _ in jobs)
        self._jobs, self._audits, self._ask = tuple(jobs), audits, ask
        self._thresholds, self._dispute = thresholds, dispute
        self._most_per_check = most_per_check

    def __repr__(self) -> str:
        return f"<AsyncRedundantJob {', '.join(str(job.id) for job in self.jobs)}>"

    async def result(self, timeout: float | None = None) -> RedundantResult:
        """Wait for the answers, have each checked by the other workers, and return one that most agree on.

        `timeout` (seconds) is for the answers; who has none by then has no say. Who agrees is paid, and so is
        whose answer more of those find right than not; whose answer most of them refuse is not, and is
        disputed as soon as that can be. An answer that they say nothing clear about is left `undecided`:
        neither is done. Raises `NoAgreementError`
        when no majority of all workers agrees: then nothing was accepted, and nobody accused.
        """
        found = await asyncio.gather(*(self._answer(job, offer, timeout) for job, offer in self._jobs))
        answers = {index: each for index, each in enumerate(found) if isinstance(each, _Answer)}
        opinions = await self._opinions(answers)
        group = agreement(
            len(self._jobs),
            {(of, by) for of, row in opinions.items() for by, each in row.items() if each.agrees},
        )
        checks = Nano(sum(int(each.cost) for row in opinions.values() for each in row.values()))
        if not group:
            raise NoAgreementError(
                f"the {len(self._jobs)} workers do not agree",
                why="; ".join(
                    self._told(index, each, opinions.get(index, {})) for index, each in enumerate(found)
                ),
                hint=f"Nothing was accepted; checking cost {checks}. Ask more workers",
            )
        parts = [
            await self._conclude(index, each, opinions.get(index, {}), group)
            for index, each in enumerate(found)
        ]
        # By the order of the workers, cheapest terms first: by amounts, short answers would be preferred.
        chosen = parts[min(group)].result
        assert chosen is not None
        paid = Nano(sum(int(part.paid) for part in parts))
        return RedundantResult(chosen, tuple(parts), paid, checks)

    # -- answers --------------------------------------------------------------------------------------

    async def _answer(
        self, job: AsyncJob, offer: WorkerOffer, timeout: float | None
    ) -> _Answer | CocoonError:
        try:
            result = await job.result(timeout)
            case = await self._audits.case(job, result)
        except CocoonError as error:
            return error
        return _Answer(job, offer, result, case)

    async def _opinions(self, answers: Mapping[int, _Answer]) -> dict[int, dict[int, Opinion]]:
        """Have every answer checked by all who gave another one, one check at a time for each worker."""
        rows: dict[int, dict[int, Opinion]] = {index: {} for index in answers}

        async def check_all(by: int) -> None:
            for of, answer in answers.items():
                if of != by:
                    rows[of][by] = await self._opinion(answer, answers[by].offer)

        await asyncio.gather(*(check_all(by) for by in answers))
        return rows

    async def _opinion(self, answer: _Answer, by: WorkerOffer) -> Opinion:
        cost = _NOTHING
        try:
            findings = judged_at_once(answer.case, self._thresholds)
            if findings is None:
                most = min(self._most_per_check, most_of_look(answer.case, by))
                look = await look_of_worker(self._ask, by, answer.case, most=most, timeout_s=CHECK_S)
                cost = look.cost
                findings = await asyncio.to_thread(judged, answer.case, look, self._thresholds)
            if findings.limits is None and findings.level < Level.REFUND:
                raise UncheckableError(
                    "it cannot be checked", why=f"no thresholds for {findings.kind} answers"
                )
        except CocoonError as error:
            spent = error.cost if isinstance(error, UncheckableError) else None
            return Opinion(by.address, None, str(error), cost if spent is None else spent)
        why = "; ".join(findings.reasons[:2])
        return Opinion(by.address, findings.level, why, cost, findings)

    # -- consequences ---------------------------------------------------------------------------------

    async def _conclude(
        self,
        index: int,
        found: _Answer | CocoonError,
        opinions: Mapping[int, Opinion],
        group: frozenset[int],
    ) -> RedundantPart:
        job, offer = self._jobs[index]
        part = RedundantPart(
            job_id=job.id,
            worker=offer.address,
            result=None,
            agreed=index in group,
            refused=False,
            undecided=False,
            opinions=tuple(opinions[by] for by in sorted(opinions)),
            paid=_NOTHING,
            why=self._told(index, found, opinions),
        )
        if isinstance(found, CocoonError):
            return part
        said = [opinions[by] for by in group if by in opinions]
        objecting = [each for each in said if each.objects]
        if not part.agreed and 2 * len(objecting) > len(group):
            mildest = min(objecting, key=lambda each: each.level or Level.HONEST)
            assert mildest.findings is not None
            step = await self._audits.accuse(found.case, mildest.findings, dispute=self._dispute)
            return replace(part, result=found.result, refused=True, dispute=step)
        if not part.agreed and sum(each.agrees for each in said) <= len(objecting):
            why = f"{part.why}; undecided: neither paid nor disputed"
            return replace(part, result=found.result, undecided=True, why=why)
        return await self._pay(part, found)

    async def _pay(self, part: RedundantPart, answer: _Answer) -> RedundantPart:
        result = answer.result
        if not result.accepted:
            try:
                await answer.job.accept(unaudited=True)
            except CocoonError as error:
                why = f"{part.why}; not accepted: {error}"
                return replace(part, result=result, why=why)
        return replace(part, result=result, paid=result.amount)

    def _told(self, index: int, found: _Answer | CocoonError, opinions: Mapping[int, Opinion]) -> str:
        if isinstance(found, CocoonError):
            return f"no answer: {found}"
        if not opinions:
            return "nobody could check its answer"
        said = [f"{sum(each.agrees for each in opinions.values())} of {len(opinions)} find its answer right"]
        said += [each.why for each in opinions.values() if not each.agrees and each.why][:1]
        return "; ".join(said)


def agreement(count: int, agrees: set[tuple[int, int]]) -> frozenset[int]:
    """Return the largest set of more than half of `count` workers that find each other's answers right.

    `agrees` holds pairs (of, by): worker `by` finds the answer of worker `of` right. Empty when there is no
    such set. Of several, the one whose answers most workers find right, then the one of earlier workers.
    """
    for size in range(count, count // 2, -1):
        if size < FEWEST_WORKERS:
            break
        sets = [
            frozenset(each)
            for each in combinations(range(count), size)
            if all((of, by) in agrees for of in each for by in each if of != by)
        ]
        if sets:
            return max(
                sets,
                key=lambda each: (sum(of in each for of, _ in agrees), [-index for index in sorted(each)]),
            )
    return frozenset()
