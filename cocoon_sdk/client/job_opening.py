"""From a request to what opens a job: which worker, for which price, sealed for whom, at what cost.

Owns the plan of a job, and one attempt at opening it. Must not know who sends it, or what happens to a job
afterwards (`AsyncJob`). Nothing here spends anything; only `prepare` may store a payload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pytoniq_core import Address, Cell

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
from cocoon_sdk.client.models import AsyncModels
from cocoon_sdk.client.planning import (
    JobCost,
    JobPlan,
    JobRequest,
    check_offer,
    check_price,
    choose,
    plan_periods,
)
from cocoon_sdk.contracts.accounts import derived_from, peer_codes
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.data import MAX_INLINE_BYTES, ForwardPrices, InlineData, encode_data, inline_cost
from cocoon_sdk.errors import ChainError, NoWorkerError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.envelope import PackedPayload, publish_payload, seal_payload
from cocoon_sdk.protocol.exit_codes import UnlistedCodeError
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Nano

WorkerChoice: TypeAlias = "WorkerOffer | Address | str | None"
"""None: the cheapest that fits; "open": any worker may claim; else one worker, as found or by address."""
OPEN: Final = "open"
InlineMode: TypeAlias = "bool | Literal['auto']"

_FORWARD_PRICES: Final = 25
_LOCATION_BYTES: Final = 1100
"""More than the longest location takes."""


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """One attempt: the payload sealed for the id that the job will have, and what it costs."""

    job_id: int
    terms: Cell
    data: Cell
    cost: JobCost


class JobOpening:
    """Plans jobs of one client, and prepares them for the state that its escrow has."""

    def __init__(self, context: ClientContext, models: AsyncModels, workers: AsyncWorkers) -> None:
        self._context, self._models, self._workers = context, models, workers

    # -- planning ----------------------------------------------------------------------------------

    async def plan(
        self,
        *,
        model: str | bytes,
        asked: JobRequest,
        worker: WorkerChoice,
        terms: Terms | None,
        max_price: Nano | None,
        periods: tuple[int | None, int | None, int | None],
    ) -> JobPlan:
        """Return which job is opened; `periods` are those to claim, to work and to look at it, in seconds.

        Raises what `AsyncJobs.create` raises about models, workers, prices and periods.
        """
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

    async def estimate(self, plan: JobPlan, view: m.EscrowView, inline: InlineMode) -> JobCost:
        """Return what the job would cost. Raises `InsufficientEscrowError` and `ChainError`."""
        size = 0 if inline is False else len(self._seal(plan, view, self._context.hot_key).data)
        cost = await self._cost(plan, params_of(view), size)
        check_funds(view, cost)
        return cost

    async def prepare(
        self, plan: JobPlan, view: m.EscrowView, hot_key: SigningKey, inline: InlineMode
    ) -> PreparedJob:
        """Seal the payload for the job's number to be, and store it if it does not travel along.

        `hot_key` is the one that opens the job: its result is sealed for what follows from it.

        Raises `InsufficientEscrowError`, `PayloadTooLargeError`, `UnlistedCodeError`, `ChainError`.
        """
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
        return PreparedJob(view.next_id, terms.to_cell(), data, cost)

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
