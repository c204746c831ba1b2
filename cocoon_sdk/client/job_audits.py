"""Audits of jobs: what of a finished job is checked, and that it is not paid by hand meanwhile.

Owns the way from a job's result to a case, and what acceptance waits for. Must not know how results are
checked, or who is accused. A worker that handed over or submitted is committed by then; a check delays its
payment at most, and the end of the window pays it in any case.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from pytoniq_core import Address

from cocoon_sdk.client.auditing.auditor import AsyncAudits
from cocoon_sdk.client.auditing.case import AuditCase, usage_with_counts
from cocoon_sdk.client.auditing.errors import AuditFailedError, UncheckableError
from cocoon_sdk.client.auditing.records import Audited, AuditOutcome, AuditSubject, DisputeStep
from cocoon_sdk.client.auditing.store import Judgement
from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import AsyncWorkers
from cocoon_sdk.client.models import AsyncModels
from cocoon_sdk.client.results import JobResult
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.errors import CocoonError, MalformedError
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import Commitment
from cocoon_sdk.verify.seeds import job_seed

if TYPE_CHECKING:  # what checks needs NumPy, and clients that check nothing do not
    from cocoon_sdk.client.job import AsyncJob
    from cocoon_sdk.verify.checking import Findings

log: Final = logging.getLogger("cocoon.audits")
_REMEMBERED: Final = 10_000


class JobAudits:
    """Draws jobs' results for the audits of one client."""

    def __init__(
        self, audits: AsyncAudits, context: ClientContext, workers: AsyncWorkers, models: AsyncModels
    ) -> None:
        self._audits, self._context = audits, context
        self._workers, self._models = workers, models
        self._drawn: OrderedDict[int, None] = OrderedDict()
        self._domain: Domain | None = None

    async def hold(self, job: AsyncJob, result: JobResult) -> bool:
        """Draw a result that is there for the first time; tell whether it must not be accepted now.

        What goes wrong with it holds nothing up.
        """
        try:
            if job.id not in self._drawn:
                self._drawn[job.id] = None
                if len(self._drawn) > _REMEMBERED:
                    self._drawn.popitem(last=False)
                if self._audits.draw():
                    await self._begin(job, result)
            outcome = await self._audits.standing(await self._uid(job), wait=False)
        except CocoonError as error:
            log.warning("job %d is not audited: %s", job.id, error)
            return False
        return outcome in (AuditOutcome.UNDER_WAY, AuditOutcome.FAILED)

    async def clear(self, job: AsyncJob) -> None:
        """Wait until a job's audit, if there is one, lets it be accepted. Raises `AuditFailedError`."""
        outcome = await self._audits.standing(await self._uid(job), wait=True)
        if outcome is AuditOutcome.FAILED:
            raise AuditFailedError(
                f"job {job.id} is not accepted",
                why="its result failed its audit",
                hint="See audits.list(); accept(unaudited=True) pays it all the same",
            )
        if outcome is AuditOutcome.UNDER_WAY:
            raise AuditFailedError(
                f"job {job.id} is not accepted yet",
                why="another process checks its result",
                hint="Call accept() again, or accept(unaudited=True)",
            )

    async def _uid(self, job: AsyncJob) -> str:
        return AuditSubject.uid_of(await self._home(), job.id, 0)

    async def _home(self) -> Domain:
        if self._domain is None:
            self._domain = await self._context.escrow.domain()
        return self._domain

    async def case(self, job: AsyncJob, result: JobResult) -> AuditCase:
        """Return what a job's result is checked against.

        Raises `UncheckableError`, what `AsyncJob.payload` and `AsyncJob.terms` raise, and `ChainError`.
        """
        subject, terms = await self._subject(job, result)
        return await self._case(job, result, subject, terms)

    async def accuse(self, case: AuditCase, findings: Findings, *, dispute: bool) -> DisputeStep:
        """Keep a finding that others came to; leave its worker, and dispute the job if that is wanted."""
        from cocoon_sdk.client.auditing.examining import judgement, told

        examined = told(findings)

        def judge(state: dict[str, Any]) -> Judgement:
            return judgement(state, case.subject, examined, dispute=dispute)

        return await self._audits.accuse(case.subject, examined, judge)

    async def _begin(self, job: AsyncJob, result: JobResult) -> None:
        subject, terms = await self._subject(job, result)

        async def claim() -> AuditCase:
            return await self._case(job, result, subject, terms)

        async def then(outcome: AuditOutcome) -> None:
            if outcome is not AuditOutcome.FAILED and job.accept_mode == "auto":
                await self._accept(job)

        self._audits.begin(subject, claim, then)

    async def _subject(self, job: AsyncJob, result: JobResult) -> tuple[AuditSubject, Terms]:
        status, terms = await job.status(), await job.terms()
        if status.worker is None:
            raise UncheckableError("the result cannot be checked", why="nobody knows whose it is")
        subject = AuditSubject(
            what=Audited.JOB,
            domain=await self._home(),
            number=job.id,
            request=0,
            worker=status.worker,
            model_id=terms.model_id,
            model=(await self._models.get(bytes(terms.model_id))).name,
            amount=result.amount,
        )
        return subject, terms

    async def _case(self, job: AsyncJob, result: JobResult, subject: AuditSubject, terms: Terms) -> AuditCase:
        payload = await job.payload()
        calibration, owner, limits = await self._offered(subject, terms)
        return AuditCase(
            subject=subject,
            kind=payload.plain.kind.value,
            body=payload.plain.request,
            response={**result.response, "usage": _usage(result)},
            usage=result.usage,
            terms=terms,
            calibration=calibration,
            owner=owner,
            seed=job_seed(subject.domain, job.id, payload.payload_hash),
            commitment=_commitment(result),
            limits=limits,
        )

    async def _offered(
        self, subject: AuditSubject, terms: Terms
    ) -> tuple[Hash, Address, tuple[int, int] | None]:
        """Return the model's calibration, the worker's owner, and the limits that it offered."""
        model = await self._models.get(bytes(terms.model_id))
        if model.entry_hash != terms.model_entry_hash:
            raise UncheckableError(
                "the result cannot be checked", why="the model's registry entry has changed since"
            )
        # What it announces may be gone by now, or name somebody else: the stake itself says whose it is.
        owner = (await WorkerStake.at(self._context.chain, subject.worker).identity()).owner
        offer = (await self._workers.list(bytes(terms.model_id))).find(subject.worker)
        if offer is None or offer.terms.terms_hash != terms.terms_hash:
            return model.calibration_hash, owner, None
        return model.calibration_hash, owner, (offer.offer.max_output_tokens, offer.offer.max_context)

    async def _accept(self, job: AsyncJob) -> None:
        try:
            await job.accept(unaudited=True)
        except CocoonError as error:
            log.info("job %d is left to the end of its window: %s", job.id, error)


def _usage(result: JobResult) -> dict[str, object]:
    said = result.response.get("usage")
    return usage_with_counts(said if isinstance(said, dict) else {}, result.usage)


def _commitment(result: JobResult) -> Commitment | None:
    """Return what a result commits to; what is none is worth as much as nothing."""
    if result.plain.proof is None:
        return None
    try:
        return Commitment.from_json(result.plain.proof)
    except MalformedError:
        return None
