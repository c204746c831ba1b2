"""`AsyncJobs`: creating jobs and finding them again.

Owns the way from a request to an opened job: every check first, one external, a handle. Must not know what
happens to a job afterwards (`AsyncJob`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pytoniq_core import Address, Cell

from cocoon_sdk.client.auditing.policy import MOST_PER_CHECK
from cocoon_sdk.client.checks import (
    check_funds,
    check_usable,
    is_allowed,
    other_params,
    params_of,
    same_params,
)
from cocoon_sdk.client.context import ClientContext, job_box_key
from cocoon_sdk.client.discovery import AsyncWorkers, WorkerOffer
from cocoon_sdk.client.errors import PayloadTooLargeError
from cocoon_sdk.client.fetching import JobMemory
from cocoon_sdk.client.handover import HandoverClient
from cocoon_sdk.client.job import AcceptMode, AsyncJob
from cocoon_sdk.client.job_audits import JobAudits
from cocoon_sdk.client.models import AsyncModels
from cocoon_sdk.client.planning import (
    JobCost,
    JobPlan,
    JobRequest,
    check_offer,
    check_price,
    choose,
    normalise,
    plan_periods,
)
from cocoon_sdk.contracts.accounts import Plan, derived_from, peer_codes
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.data import MAX_INLINE_BYTES, ForwardPrices, InlineData, encode_data, inline_cost
from cocoon_sdk.errors import (
    ChainError,
    NoWorkerError,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.envelope import JobKind, PackedPayload, publish_payload, seal_payload
from cocoon_sdk.protocol.exit_codes import (
    UnlistedCodeError,
)
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Nano

if TYPE_CHECKING:  # they need NumPy, and clients that check nothing do not
    from cocoon_sdk.client.cross_checks import CrossChecks
    from cocoon_sdk.client.redundant import AsyncRedundantJob
    from cocoon_sdk.verify.thresholds import Thresholds

WorkerChoice: TypeAlias = "WorkerOffer | Address | str | None"
"""None: the cheapest that fits; "open": any worker may claim; else one worker, as found or by address."""
OPEN = "open"
InlineMode: TypeAlias = "bool | Literal['auto']"

_FORWARD_PRICES = 25


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One attempt: the payload sealed for the id that the job will have, and what it costs."""

    job_id: int
    terms: Cell
    data: Cell
    cost: JobCost


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
        plan = await self._plan(
            model=model,
            asked=normalise(kind, messages, request, max_output_tokens, max_input_tokens),
            worker=worker,
            terms=terms,
            max_price=max_price,
            periods=(claim_s, work_s, window_s),
        )
        hot_key, escrow = self._context.hot_key, self._context.escrow
        prepared: list[_Prepared] = []

        async def attempt(view: m.EscrowView) -> Plan:
            made = await self._prepare(plan, view, hot_key, inline)
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
        plan = await self._plan(
            model=model,
            asked=normalise(kind, messages, request, max_output_tokens, max_input_tokens),
            worker=worker,
            terms=terms,
            max_price=max_price,
            periods=(claim_s, work_s, window_s),
        )
        view = await self._context.escrow.state()
        packed = self._seal(plan, view, self._context.hot_key)
        size = 0 if inline is False else len(packed.data)
        cost = await self._cost(plan, params_of(view), size)
        check_funds(view, cost)
        return cost

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

    # -- planning ----------------------------------------------------------------------------------

    async def _plan(
        self,
        *,
        model: str | bytes,
        asked: JobRequest,
        worker: WorkerChoice,
        terms: Terms | None,
        max_price: Nano | None,
        periods: tuple[int | None, int | None, int | None],
    ) -> JobPlan:
        entry = await self._models.get(model)
        view = await self._context.escrow.state()
        params = params_of(view)
        claim_s, work_s, window_s = periods
        secured = window_s != 0
        offer: WorkerOffer | None = None
        name = entry.name or entry.model_id.hex()
        if worker == OPEN:
            if terms is None:
                listed = await self._workers.list(entry.model_id)
                pattern = choose(listed, asked, max_price, params)
                asked = asked.within(pattern.offer.max_output_tokens)
                terms, name = pattern.terms, pattern.offer.model
            price = check_price(asked, terms, max_price)
        else:
            offer = await self._pick(entry.model_id, asked, worker, max_price, view, secured=secured)
            terms, name = offer.terms, offer.offer.model
            asked = asked.within(offer.offer.max_output_tokens)
            price = check_offer(offer, asked, max_price, params, secured=secured)
        return JobPlan(
            model=entry,
            request=asked,
            terms=terms,
            worker=offer,
            # Workers take no job without a price, not even those that work for nothing.
            price=Nano(max(1, price)),
            periods=plan_periods(
                price, params, claim_s=claim_s, work_s=work_s, window_s=window_s, directed=offer is not None
            ),
            payload=asked.payload(name),
        )

    async def _pick(
        self,
        model_id: bytes,
        asked: JobRequest,
        worker: WorkerChoice,
        max_price: Nano | None,
        view: m.EscrowView,
        *,
        secured: bool,
    ) -> WorkerOffer:
        if isinstance(worker, WorkerOffer):
            check_usable(worker, view)
            return worker
        listed = await self._workers.list(model_id)
        if worker is not None:
            address = worker if isinstance(worker, Address) else Address(worker)
            found = listed.find(address)
            if found is None:
                reasons = [one.reason for one in listed.ignored if one.address == address]
                raise NoWorkerError(
                    f"{address.to_str()} does not serve this model",
                    why=f"left out: {reasons[0]}" if reasons else "it announced nothing for it",
                    hint="See workers.list()",
                )
            check_usable(found, view)
            return found
        usable = listed.only(lambda offer: is_allowed(offer, view) and same_params(offer, view))
        if len(listed) and not any(same_params(offer, view) for offer in listed):
            raise other_params("no worker works under this escrow's parameters")
        return choose(usable, asked, max_price, params_of(view), secured=secured)

    # -- one attempt -------------------------------------------------------------------------------

    async def _prepare(
        self, plan: JobPlan, view: m.EscrowView, hot_key: SigningKey, inline: InlineMode
    ) -> _Prepared:
        packed = self._seal(plan, view, hot_key)
        size = len(packed.data) if inline is not False and len(packed.data) <= MAX_INLINE_BYTES else 0
        cost = await self._cost(plan, params_of(view), size)
        check_funds(view, cost)
        data = encode_data(InlineData(packed.data)) if size else await self._stored(packed, inline)
        periods, worker = plan.periods, plan.worker
        terms = m.JobTerms(
            model_id=int.from_bytes(plan.model.model_id, "big"),
            payload_hash=int.from_bytes(packed.payload_hash, "big"),
            terms_hash=int.from_bytes(plan.terms.terms_hash, "big"),
            max_price=plan.price,
            claim_period=periods.claim_s,
            work_period=periods.work_s,
            window=periods.window_s,
            items=1,
            worker=None if worker is None else self._target(worker, view).to_cell(),
        )
        return _Prepared(view.next_id, terms.to_cell(), data, cost)

    def _seal(self, plan: JobPlan, view: m.EscrowView, hot_key: SigningKey) -> PackedPayload:
        key = job_box_key(hot_key, self._context.escrow.address, view.epoch, view.next_id)
        if plan.worker is None:
            return publish_payload(plan.payload, client_key=key)
        return seal_payload(plan.payload, plan.worker.prekey.key, client_key=key)

    async def _stored(self, packed: PackedPayload, inline: InlineMode) -> Cell:
        store = self._context.store
        if store is None:
            raise PayloadTooLargeError(
                "the payload cannot travel",
                why=f"it has {len(packed.data)} bytes; inline at most {MAX_INLINE_BYTES}"
                if inline is not False
                else "inline is off and this client has no data store",
                hint="Pass `store`, for example an FsspecStore or DirectoryStore that the worker can reach",
            )
        return encode_data(await store.put(packed.data))

    def _target(self, worker: WorkerOffer, view: m.EscrowView) -> m.JobWorker:
        """Name a worker whose code the escrow's owner accepted: any other could never claim.

        Raises `UnlistedCodeError`.
        """
        who = worker.worker
        known = None
        if view.peers is not None:
            codes, registry = peer_codes(view.peers), self._context.network.registry
            known = derived_from(codes, registry, who.owner, who.index, who.address)
        if known is None:
            raise UnlistedCodeError(
                f"the escrow does not deal with {who.address.to_str()}",
                why="its owner has not accepted that worker's code",
                hint="Call escrow.accept_code with the code's hash from the registry",
            )
        return m.JobWorker(operator_key=worker.operator.to_int(), account=signing.account_id(who.address))

    async def _cost(self, plan: JobPlan, params: m.Params, inline_bytes: int) -> JobCost:
        escrow = self._context.escrow
        prices = await self._context.chain.config_param(_FORWARD_PRICES)
        if prices is None:
            raise ChainError("the network names no message prices", why="ConfigParam 25 is not set")
        forward = ForwardPrices.from_cell(prices)
        secured = plan.periods.window_s != 0
        notice = params.announce_fee if plan.worker is None else 0
        # The data cell's own tag takes one byte; the lump is what the contract adds for any data at all.
        carried = inline_cost(max(1, inline_bytes) + 1, forward) + forward.lump_price
        if not inline_bytes:
            carried = inline_cost(_LOCATION_BYTES, forward) + forward.lump_price
        return JobCost(
            price=plan.price,
            bond=Nano(params.dispute_bond if secured else 0),
            announcements=Nano((params.announce_fee if secured else 0) + notice),
            gas=await escrow.job_gas(),
            inline=Nano(carried),
            external=await escrow.external_cost(1),
        )


_LOCATION_BYTES = 1100
"""More than the longest location takes."""
