"""`ResultFetcher`: one job's result, from the chain, a location or the worker's endpoint, always checked.

Owns finding the bytes, the keys and the prices. Must not accept or pay anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytoniq_core import Address, Cell

from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import AsyncWorkers
from cocoon_sdk.client.errors import AmountMismatchError, JobCancelledError, TermsUnknownError
from cocoon_sdk.client.handover import HandoverClient, SignedHandover
from cocoon_sdk.client.job_status import JobStatus
from cocoon_sdk.client.results import Arrival, JobResult, judged, open_sealed
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto.keys import BoxKey, VerifyKey
from cocoon_sdk.data import REMOTE_SCHEMES, InlineData, Location, decode_data
from cocoon_sdk.errors import (
    CocoonError,
    DecryptionError,
    HashMismatchError,
    JobExpiredError,
    KeyMaterialError,
    MalformedError,
    ResultUnavailableError,
)
from cocoon_sdk.history import (
    HistoryNotFoundError,
    JobEvent,
    JobEventKind,
    job_events,
    payload_of,
    result_of,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import (
    BadSignatureError,
    OverPriceError,
)
from cocoon_sdk.protocol.job_states import (
    JobState,
    state_of,
)
from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Nano


@dataclass(slots=True)
class JobMemory:
    """What a handle knows beyond the chain: filled at creation, else found when needed."""

    terms: Terms | None = None
    endpoint: str | None = None
    looked_up: bool = False
    opened_lt: int = 0
    handover: SignedHandover | None = None
    trouble: CocoonError | None = None


class ResultFetcher:
    """Finds and checks the result of one job; `memory` is shared with the job's handle."""

    def __init__(
        self,
        context: ClientContext,
        workers: AsyncWorkers,
        handover: HandoverClient,
        job_id: int,
        memory: JobMemory,
    ) -> None:
        self._context, self._workers, self._client = context, workers, handover
        self._escrow = context.escrow
        self._id, self._memory = job_id, memory

    async def history(self) -> tuple[JobEvent, ...]:
        """Return everything that happened to the job, oldest first."""
        after = max(0, self._memory.opened_lt - 1)
        return await job_events(self._context.chain, self._escrow.address, self._id, after_lt=after)

    async def committed_result(self, status: JobStatus) -> JobResult:
        """Fetch the result whose hash is on chain."""
        paid = status.state is JobState.PAID
        if status.result_hash is None:
            kind = JobExpiredError if status.state is JobState.PENALISED else JobCancelledError
            raise kind(f"job {self._id} has no result", why=f"it ended as: {status.state}")
        terms = await self.terms()
        try:
            found = await result_of(
                self._context.chain, self._escrow.address, self._id, result_hash=status.result_hash
            )
        except HistoryNotFoundError:
            if not paid:
                raise
            return await self._kept_by_worker(status, terms)
        arrival, sealed = await self._read(found.data)
        if sealed is None:
            return await self._kept_by_worker(status, terms)
        plain = open_sealed(sealed, await self._keys(), found.result_hash, self._escrow.address, self._id)
        result = judged(self._id, plain, found.amount, found.result_hash, terms, arrival)
        return replace(result, accepted=paid)

    async def _read(self, data: Cell | None) -> tuple[Arrival, bytes | None]:
        if data is None:
            return Arrival.HANDOVER, None
        schemes = getattr(self._context.source, "schemes", REMOTE_SCHEMES)
        where = decode_data(data, schemes=schemes)
        if isinstance(where, InlineData):
            return Arrival.INLINE, where.content
        return Arrival.LOCATION, await self._download(where)

    async def _download(self, where: Location) -> bytes:
        if self._context.source is None:
            raise ResultUnavailableError(
                f"the result of job {self._id} is at a {where.scheme} location",
                why="this client has no data source",
                hint="Pass `source`",
            )
        return await self._context.source.get(where)

    async def _kept_by_worker(self, status: JobStatus, terms: Terms) -> JobResult:
        """Ask the worker's endpoint for a result of which the chain holds the hash only."""
        endpoint = await self._endpoint(status.worker)
        found = None
        if endpoint is not None:
            found = await self._client.fetch(endpoint, self._escrow.address, self._id)
        if found is None or status.result_hash is None or status.amount is None:
            raise ResultUnavailableError(
                f"the result of job {self._id} cannot be had",
                why="the chain holds its hash only, and the worker's endpoint does not hand it out",
                hint="Keep results when they arrive; if the window is open, call dispute()",
            )
        keys = await self._keys()
        plain = open_sealed(found.sealed, keys, status.result_hash, self._escrow.address, self._id)
        result = judged(self._id, plain, status.amount, status.result_hash, terms, Arrival.HANDOVER)
        return replace(result, accepted=status.state is JobState.PAID)

    async def handed_over(self, entry: m.Job) -> JobResult | None:
        """Ask the worker's endpoint while nothing is on chain; a bad answer is kept for the error message."""
        if not entry.worker:
            return None
        worker = account_address(entry.worker)
        endpoint = await self._endpoint(worker)
        if endpoint is None:
            return None
        try:
            found = await self._client.fetch(endpoint, self._escrow.address, self._id)
            if found is None:
                return None
            key = await self._operator_key(entry, worker)
            result = await self._check_handover(entry, worker, found, key)
        except (
            ResultUnavailableError,
            MalformedError,
            HashMismatchError,
            DecryptionError,
            BadSignatureError,
            OverPriceError,
            AmountMismatchError,
        ) as error:
            # Nothing is lost: without an acceptance the worker has to submit on chain.
            self._memory.trouble = error
            return None
        self._memory.handover = replace(found, operator_key=key.to_int())
        return result

    async def _operator_key(self, entry: m.Job, worker: Address) -> VerifyKey:
        """Return the key whose signature counts: the job's own; of a claim, the one that ends as it shows."""
        key = entry.key_or_result
        if state_of(entry) is JobState.CLAIMED:
            key = (await WorkerStake.at(self._context.chain, worker).state()).operator_key
            if signing.key_tag(key) != entry.key_or_result:
                raise BadSignatureError(
                    f"the worker of job {self._id} has another operator key than it claimed with",
                    hint="Wait for its submission on chain",
                )
        try:
            return VerifyKey.from_int(key)
        except KeyMaterialError as error:
            raise BadSignatureError(
                f"the worker of job {self._id} has an unusable key", why=error.why
            ) from None

    async def _check_handover(
        self, entry: m.Job, worker: Address, found: SignedHandover, key: VerifyKey
    ) -> JobResult:
        what = f"the worker of job {self._id}"
        if found.amount > entry.price:
            raise OverPriceError(
                f"{what} asks for {found.amount}", why=f"at most {Nano(entry.price)} was agreed"
            )
        digest = signing.result_digest(
            await self._escrow.domain(), worker, self._id, found.result_hash, found.amount
        )
        if not key.verify(digest, found.signature):
            raise BadSignatureError(f"{what} handed over something that it did not sign")
        terms, keys = await self.terms(), await self._keys()
        plain = open_sealed(found.sealed, keys, found.result_hash, self._escrow.address, self._id)
        return judged(self._id, plain, found.amount, found.result_hash, terms, Arrival.HANDOVER)

    # -- what is needed for it ----------------------------------------------------------------------
    async def _keys(self) -> tuple[BoxKey, ...]:
        epoch = (await self._escrow.state()).epoch
        return tuple(self._context.box_keys(epoch, self._id))

    async def terms(self) -> Terms:
        """Return the worker's terms, of which the job holds the hash. Raises `TermsUnknownError`."""
        if self._memory.terms is None:
            await self._look_up(None)
        if self._memory.terms is None:
            raise TermsUnknownError(
                f"the prices of job {self._id} cannot be found",
                why="its worker announced no terms with the hash that the job names",
                hint="Pass `terms` to jobs.get",
            )
        return self._memory.terms

    async def _endpoint(self, worker: Address | None) -> str | None:
        if self._memory.endpoint is None and not self._memory.looked_up:
            await self._look_up(worker)
        return self._memory.endpoint

    async def _look_up(self, worker: Address | None) -> None:
        """Find terms and endpoint in what the worker announced."""
        opened = await payload_of(self._context.chain, self._escrow.address, self._id)
        terms = m.JobTerms.from_cell(opened.terms)
        worker = worker or await self._worker(terms)
        if worker is None:
            return
        self._memory.looked_up = True
        found = await self._workers.terms_of(worker, terms.terms_hash.to_bytes(32, "big"))
        if found is not None:
            info, offer = found
            self._memory.endpoint = self._memory.endpoint or info.endpoint
            self._memory.terms = self._memory.terms or offer.terms

    async def _worker(self, terms: m.JobTerms) -> Address | None:
        for event in reversed(await self.history()):
            if event.kind in (JobEventKind.SUBMITTED, JobEventKind.PAID_AT_ONCE, JobEventKind.CLAIMED):
                return None if event.message is None else event.message.src
            for message in event.transaction.out_messages:
                if message.job_id == self._id and isinstance(message.content, m.JobOffer | m.Reward):
                    return message.dst
        return None
