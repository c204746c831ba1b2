"""`AsyncJobs`: creating jobs and finding them again.

Owns the order: every check first, one external, a handle. Must not know how a job is planned and sealed
(`JobOpening`), or what happens to it afterwards (`AsyncJob`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cocoon_sdk.client.auditing.policy import MOST_PER_CHECK
from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import AsyncWorkers
from cocoon_sdk.client.fetching import JobMemory
from cocoon_sdk.client.handover import HandoverClient
from cocoon_sdk.client.job import AcceptMode, AsyncJob
from cocoon_sdk.client.job_audits import JobAudits
from cocoon_sdk.client.job_opening import InlineMode, JobOpening, PreparedJob, WorkerChoice
from cocoon_sdk.client.models import AsyncModels
from cocoon_sdk.client.planning import JobCost, normalise
from cocoon_sdk.contracts.accounts import Plan
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.envelope import JobKind
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Nano

if TYPE_CHECKING:  # they need NumPy, and clients that check nothing do not
    from cocoon_sdk.client.cross_checks import CrossChecks
    from cocoon_sdk.client.redundant import AsyncRedundantJob
    from cocoon_sdk.verify.thresholds import Thresholds


class AsyncJobs:
    """The jobs of one client; get it as `AsyncCocoon.jobs`."""

    def __init__(
        self,
        context: ClientContext,
        models: AsyncModels,
        workers: AsyncWorkers,
        handover: HandoverClient,
        crossing: Callable[[], CrossChecks],
        audits: JobAudits | None = None,
    ) -> None:
        self._context, self._models = context, models
        self._workers, self._handover = workers, handover
        self._crossing, self._audits = crossing, audits
        self._opening = JobOpening(context, models, workers)

    async def create(
        self,
        *,
        model: str | bytes,
        messages: list[dict[str, Any]] | None = None,
        request: dict[str, Any] | None = None,
        kind: JobKind | str | None = None,
        worker: WorkerChoice = None,
        terms: Terms | None = None,
        max_price: Nano | None = None,
        max_output_tokens: int | None = None,
        max_input_tokens: int | None = None,
        window_s: int | None = None,
        claim_s: int | None = None,
        work_s: int | None = None,
        inline: InlineMode = "auto",
        accept: AcceptMode = "auto",
    ) -> AsyncJob:
        """Open a job and return its handle; nothing is spent before every check has passed.

        Give `messages` or the whole OpenAI body as `request`. `max_price` (nanoTON) bounds what the request
        can cost under the worker's terms; the job reserves that cost, its bond and its gas. `inline=False`
        keeps the payload out of the message and needs a data store. An open job is readable by everybody.

        Raises `UnknownModelError`, `NoWorkerError`, `PriceTooHighError`, `InsufficientStakeError`,
        `InsufficientEscrowError` (with the numbers), `DailyLimitError`, `WorkerNotAllowedError`,
        `BadPeriodsError`, `PayloadTooLargeError`, `BadSignatureError` (not the escrow's hot key),
        `ConfigError`, and `ChainError` subclasses.
        """
        plan = await self._opening.plan(
            model=model,
            asked=normalise(kind, messages, request, max_output_tokens, max_input_tokens),
            worker=worker,
            terms=terms,
            max_price=max_price,
            periods=(claim_s, work_s, window_s),
        )
        hot_key, escrow = self._context.hot_key, self._context.escrow
        prepared: list[PreparedJob] = []

        async def attempt(view: m.EscrowView) -> Plan:
            made = await self._opening.prepare(plan, view, hot_key, inline)
            prepared[:] = [made]
            return Plan([signing.open_job(made.job_id, made.terms, made.data)], made.cost.spend)

        transaction = await escrow.act(hot_key, attempt)
        (opened,) = prepared
        return AsyncJob(
            self._context,
            self._workers,
            self._handover,
            opened.job_id,
            accept=accept,
            cost_estimate=opened.cost,
            memory=JobMemory(
                terms=plan.terms,
                endpoint=None if plan.worker is None else plan.worker.endpoint,
                looked_up=plan.worker is not None,
                opened_lt=transaction.lt,
            ),
            audits=self._audits,
        )

    async def estimate(
        self,
        *,
        model: str | bytes,
        messages: list[dict[str, Any]] | None = None,
        request: dict[str, Any] | None = None,
        kind: JobKind | str | None = None,
        worker: WorkerChoice = None,
        terms: Terms | None = None,
        max_price: Nano | None = None,
        max_output_tokens: int | None = None,
        max_input_tokens: int | None = None,
        window_s: int | None = None,
        claim_s: int | None = None,
        work_s: int | None = None,
        inline: InlineMode = "auto",
    ) -> JobCost:
        """Return what `create` would take out of free funds, after the same checks, without spending.

        With `inline=False` nothing is stored. Raises what `create` raises.
        """
        plan = await self._opening.plan(
            model=model,
            asked=normalise(kind, messages, request, max_output_tokens, max_input_tokens),
            worker=worker,
            terms=terms,
            max_price=max_price,
            periods=(claim_s, work_s, window_s),
        )
        return await self._opening.estimate(plan, await self._context.escrow.state(), inline)

    async def create_redundant(
        self,
        *,
        model: str | bytes,
        messages: list[dict[str, Any]] | None = None,
        request: dict[str, Any] | None = None,
        kind: JobKind | str | None = None,
        workers: int = 3,
        max_price: Nano | None = None,
        max_output_tokens: int | None = None,
        max_input_tokens: int | None = None,
        window_s: int | None = None,
        thresholds: Thresholds | None = None,
        dispute: bool = True,
        most_per_check: Nano = MOST_PER_CHECK,
    ) -> AsyncRedundantJob:
        """Open the same job at several workers of different owners, who will check each other's answers.

        `max_price` (nanoTON) bounds each of them. `thresholds` are the model's; those of the audit policy are
        known. Checks are paid requests of sessions, each of `most_per_check` (nanoTON) at most, within the
        client's spend limits; who asks for more gives no opinion. `dispute` disputes an
        answer that most of those who agree refuse. Raises what `create` raises, and `NoWorkerError` when not
        so many verifiable workers can take it. When opening fails in the middle, what was opened goes on if
        that is at least two.
        """
        listed = await self._workers.list((await self._models.get(model)).model_id)
        return await self._crossing().open(
            self,
            listed,
            await self._context.escrow.state(),
            workers,
            thresholds=thresholds,
            dispute=dispute,
            most_per_check=most_per_check,
            max_price=max_price,
            messages=messages,
            request=request,
            kind=kind,
            max_output_tokens=max_output_tokens,
            max_input_tokens=max_input_tokens,
            window_s=window_s,
        )

    async def get_redundant(
        self,
        job_ids: Sequence[int],
        *,
        thresholds: Thresholds | None = None,
        dispute: bool = True,
        most_per_check: Nano = MOST_PER_CHECK,
    ) -> AsyncRedundantJob:
        """Return the handle of a redundant job by the numbers of its jobs, after a restart for example.

        Raises `NoWorkerError` when one of its workers offers the model no more.
        """
        jobs = [self.get(job_id, accept="manual") for job_id in job_ids]
        return await self._crossing().find(
            jobs,
            self._workers.list,
            thresholds=thresholds,
            dispute=dispute,
            most_per_check=most_per_check,
        )

    def get(self, job_id: int, *, accept: AcceptMode = "auto", terms: Terms | None = None) -> AsyncJob:
        """Return the handle of a job by its id, after a restart for example; see `AsyncJob.status`.

        `terms` are needed only if the worker's announcement of them cannot be found any more.
        """
        memory = JobMemory(terms=terms)
        return AsyncJob(
            self._context,
            self._workers,
            self._handover,
            job_id,
            accept=accept,
            memory=memory,
            audits=self._audits,
        )

    async def list(self) -> tuple[AsyncJob, ...]:
        """Return handles of all jobs that have not ended, oldest first."""
        return tuple(self.get(job_id) for job_id in await self._context.escrow.jobs())
