"""`AsyncJob`: a handle on one job: where it stands, its result, and what its client can do about it.

Owns waiting, accepting, disputing and taking back. Must not know how jobs are planned or results fetched.
Everything is read from the chain each time, so any number of handles, processes and restarts agree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Literal, TypeAlias, TypeVar

from cocoon_sdk.chain.base import ChainHead
from cocoon_sdk.client.arbiters import Delivered
from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import AsyncWorkers
from cocoon_sdk.client.errors import EvidenceNotSentError, TermsUnknownError
from cocoon_sdk.client.evidence import client_evidence
from cocoon_sdk.client.evidence_holders import check_held
from cocoon_sdk.client.fetching import JobMemory, ResultFetcher
from cocoon_sdk.client.handover import HandoverClient
from cocoon_sdk.client.job_audits import JobAudits
from cocoon_sdk.client.job_status import ADVICE, NEXT_STEP, RUNNING, UNPAID_ENDS, JobStatus, committed_hash
from cocoon_sdk.client.own_payload import OwnPayload, own_payload
from cocoon_sdk.client.planning import JobCost
from cocoon_sdk.client.results import JobResult
from cocoon_sdk.contracts.disputes import read_dispute
from cocoon_sdk.errors import (
    ChainStaleError,
    ChainUnavailableError,
    CocoonError,
    HashMismatchError,
    JobError,
    JobExpiredError,
    JobTimeoutError,
)
from cocoon_sdk.history import (
    HistoryNotFoundError,
    JobEvent,
    JobEventKind,
    state_after,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.disputes import ItemKind
from cocoon_sdk.protocol.exit_codes import (
    NoJobError,
    WrongStateError,
    error_for_exit_code,
)
from cocoon_sdk.protocol.job_states import (
    JobAction,
    JobState,
    Timing,
    deadline_of,
    refusal,
    state_of,
    timing_of,
)
from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Hash, Nano

T = TypeVar("T")
AcceptMode: TypeAlias = Literal["auto", "manual"]

_POLL_S: Final = 2.0
_PATIENCE: Final = 20
"""Looks in a row that may fail before an endless wait gives up."""
_TROUBLE: Final = (ChainUnavailableError, ChainStaleError, HistoryNotFoundError)


class AsyncJob:
    """One job of the client's escrow; get it from `AsyncCocoon.jobs`.

    `cost_estimate` is what opening it took out of free funds (None for a job that was looked up).
    """

    def __init__(
        self,
        context: ClientContext,
        workers: AsyncWorkers,
        handover: HandoverClient,
        job_id: int,
        *,
        accept: AcceptMode = "auto",
        cost_estimate: JobCost | None = None,
        memory: JobMemory | None = None,
        audits: JobAudits | None = None,
    ) -> None:
        self._context, self._workers, self._audits = context, workers, audits
        self._escrow = context.escrow
        self.id = job_id
        self.accept_mode: AcceptMode = accept
        self.cost_estimate = cost_estimate
        self._memory = memory or JobMemory()
        self._fetcher = ResultFetcher(context, workers, handover, job_id, self._memory)

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id} of {self._escrow.address.to_str()}>"

    # -- looking -----------------------------------------------------------------------------------

    async def history(self) -> tuple[JobEvent, ...]:
        """Return everything that happened to the job, oldest first."""
        return await self._fetcher.history()

    async def payload(self) -> OwnPayload:
        """Return what was asked, read again from the chain and opened with the job's key.

        Raises what `cocoon_sdk.client.own_payload.own_payload` raises.
        """
        status = await self.status()
        return await own_payload(self._context, self._workers, self.id, worker=status.worker)

    def unaudited(self) -> AsyncJob:
        """Return the same handle, whose result no audit is drawn for: it is checked otherwise."""
        self._audits = None
        return self

    async def terms(self) -> Terms:
        """Return the terms that the job was opened under. Raises `TermsUnknownError`."""
        return await self._fetcher.terms()

    async def bond(self) -> Nano:
        """Return what a lost dispute costs, in nanoTON. Raises `NoJobError` when the job has ended."""
        entry = await self._escrow.job(self.id)
        if entry is None:
            raise NoJobError(f"the escrow has no job {self.id}", why="it has ended, or was never opened")
        return Nano(m.Params.from_cell(entry.params).dispute_bond)

    async def status(self) -> JobStatus:
        """Return where the job stands now. Raises `NoJobError` when it was never opened."""
        return (await self._look())[0]

    async def _look(self) -> tuple[JobStatus, m.Job | None]:
        # Time is read before the entry: a step that a block makes in between must not seem to be late.
        head = await self._context.chain.head()
        entry = await self._escrow.job(self.id)
        return (await self._ended() if entry is None else self._status(entry, head)), entry

    def _status(self, entry: m.Job, head: ChainHead) -> JobStatus:
        state, late = state_of(entry), timing_of(entry, head.now) is Timing.LATE
        submitted = state in (JobState.SUBMITTED, JobState.DISPUTED)
        known = JobState.OFFERED if state is JobState.OFFERED_AT_ONCE else state
        return JobStatus(
            job_id=self.id,
            state=state,
            deadline=deadline_of(entry),
            late=late,
            next_step=NEXT_STEP[known, late],
            worker=account_address(entry.worker) if entry.worker else None,
            amount=Nano(entry.amount) if submitted else None,
            result_hash=Hash(entry.key_or_result.to_bytes(32, "big")) if submitted else None,
        )

    async def _ended(self) -> JobStatus:
        events = await self.history()
        if not events:
            if self._memory.opened_lt:
                raise ChainStaleError(
                    f"the endpoint does not show job {self.id}", why="it lags behind", hint="Try again"
                )
            raise NoJobError(f"the escrow has no job {self.id}", why="it was never opened")
        last = next(event for event in reversed(events) if event.kind is not JobEventKind.REFUSED)
        paid = [event for event in events if event.paid]
        worker = next((out.dst for out in last.transaction.out_messages if out.job_id == self.id), None)
        return JobStatus(
            job_id=self.id,
            state=state_after(events),
            deadline=None,
            late=False,
            next_step="nothing is left to do",
            worker=worker,
            amount=paid[-1].paid if paid else None,
            result_hash=committed_hash(events),
        )

    async def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until the job needs its client: submitted, ended, or past its deadline.

        Raises `JobTimeoutError` after `timeout` seconds (None: no limit but the job's own deadlines).
        """

        async def look() -> JobStatus | None:
            status = await self.status()
            return None if status.state in RUNNING and not status.late else status

        return await self._watch(look, timeout)

    async def _watch(self, look: Callable[[], Awaitable[T | None]], timeout: float | None) -> T:
        """Look at every block until something is found; outlast an endpoint that fails or lags."""
        chain, clock = self._context.chain, self._context.clock
        give_up = None if timeout is None else clock.now() + timeout
        seqno, failures, trouble = -1, 0, None
        while True:
            try:
                found = await look()
                if found is not None:
                    return found
                failures, trouble = 0, None
            except _TROUBLE as error:
                failures, trouble = failures + 1, error
            left = _POLL_S if give_up is None else give_up - clock.now()
            if trouble is not None and (left <= 0 or failures >= _PATIENCE):
                raise trouble
            if left <= 0:
                raise JobTimeoutError(
                    f"job {self.id} did not end within {timeout:g} s",
                    why="it goes on on chain",
                    hint="Call result() or wait() again, here or after a restart",
                ) from self._memory.trouble
            try:
                seqno = (await chain.wait_head(seqno, min(left, _POLL_S))).seqno
            except _TROUBLE as error:
                trouble = error
                await clock.sleep(min(left, _POLL_S))

    # -- the result --------------------------------------------------------------------------------

    async def result(self, timeout: float | None = None) -> JobResult:
        """Wait for the result, check it, accept it if `accept_mode` is "auto", and return it.

        Nothing is returned before its hash is the committed one and its amount the price of its usage. A
        result that is chosen for an audit is returned as well; it is accepted when the audit lets it be.
        Raises `JobExpiredError` (a deadline passed: says what to call), `JobTimeoutError`,
        `OfferRefusedError`, `HashMismatchError`, `AmountMismatchError`, `ResultUnavailableError`,
        `TermsUnknownError`, `JobCancelledError`.
        """
        result = await self._watch(self._find, timeout)
        held = self._audits is not None and await self._audits.hold(self, result)
        if self.accept_mode == "manual" or result.accepted or held:
            return result
        status = await self.status()
        if status.state is JobState.DISPUTED or status.state in UNPAID_ENDS:
            return result
        await self.accept()
        return replace(result, accepted=True)

    async def _find(self) -> JobResult | None:
        status, entry = await self._look()
        if status.state not in RUNNING:
            return await self._fetcher.committed_result(status)
        assert entry is not None
        found = await self._fetcher.handed_over(entry)
        if found is None and status.late:
            raise JobExpiredError(
                f"job {self.id} has no result", why=status.next_step, hint=ADVICE.get(status.state, "")
            ) from self._memory.trouble
        return found

    # -- acting ------------------------------------------------------------------------------------

    async def accept(self, *, unaudited: bool = False) -> JobStatus:
        """Pay the worker: for what it submitted, or, before that, for what it handed over with a signature.

        Waits for the audit of the result, if it was chosen for one; `unaudited` pays without. Raises
        `AuditFailedError`, and `JobError` when there is nothing to accept yet.
        """
        if self._audits is not None and not unaudited:
            await self._audits.clear(self)
        status = await self.status()
        handover = self._memory.handover
        if status.state in RUNNING and handover is not None:
            claimed = status.state is JobState.CLAIMED
            action = signing.accept_signed(
                self.id,
                handover.amount,
                handover.result_hash,
                handover.signature,
                handover.operator_key if claimed else None,
            )
            try:
                await self._escrow.send_external(self._context.hot_key, action)
                return await self.status()
            except (WrongStateError, NoJobError):
                status = await self.status()  # the worker submitted in the meantime
                if status.state in RUNNING:
                    raise
                if status.state is JobState.SUBMITTED and (
                    status.result_hash != handover.result_hash or status.amount != handover.amount
                ):
                    raise HashMismatchError(
                        f"the worker of job {self.id} submitted something else than it handed over",
                        why="hash or amount differ",
                        hint="Call dispute() before the window ends",
                    ) from None
        if status.state is JobState.PAID:
            return status
        if status.state in RUNNING:
            raise JobError(f"cannot accept job {self.id}", why="nothing was submitted", hint=status.next_step)
        try:
            return await self._step(JobAction.ACCEPT, signing.accept_result(self.id), "accept", status)
        except NoJobError:
            return await self.status()  # somebody finalised it first: the worker is paid

    async def dispute(self) -> JobStatus:
        """Call the arbiters, and send them the evidence if this client knows where they are.

        Raises `TooLateError` after the window, `WrongStateError` when nothing was submitted, and
        `EvidenceNotSentError` when the dispute stands but too few arbiters have the evidence: call
        `send_evidence`.
        """
        status = await self._step(JobAction.DISPUTE, signing.dispute_result(self.id), "dispute")
        if self._context.arbiters is not None:
            try:
                await self.send_evidence()
            except EvidenceNotSentError:
                raise
            except CocoonError as error:
                raise EvidenceNotSentError(
                    f"job {self.id} is disputed, and no arbiter has the evidence",
                    why=str(error),
                    hint="Call send_evidence() again before the evidence deadline",
                ) from error
        return status

    async def send_evidence(self) -> tuple[Delivered, ...]:
        """Send payload, result and the job's key to the arbiters of this dispute; may be repeated.

        Without the payload the worker wins. Raises what `check_held` raises unless enough arbiters took it,
        `NoDisputeError` when the job is not disputed (any more), and what finding the payload raises.
        """
        about = f"the evidence about job {self.id}"
        arbiters, context = self._context.arbiters, self._context
        if arbiters is None:
            raise EvidenceNotSentError(
                f"{about} is with no arbiter",
                why="this client does not know where they are",
                hint="Pass `arbiters` to the client",
            )
        dispute = await read_dispute(context.chain, self._escrow, self.id)
        try:
            terms = await self._fetcher.terms()
        except TermsUnknownError:
            terms = None  # then prices and promises are not checked
        handover = self._memory.handover
        sealed = None if handover is None else handover.sealed
        items = await client_evidence(context, self._workers, dispute, terms=terms, handed_over=sealed)
        delivered = await arbiters.send_evidence(dispute, items)
        await check_held(context, dispute, delivered, ItemKind.PAYLOAD, about)
        return delivered

    async def cancel(self) -> JobStatus:
        """Take an unserved job back: an open one at any time, a directed one after its claim deadline."""
        return await self._step(JobAction.CANCEL, signing.cancel_job(self.id), "cancel")

    async def reclaim(self) -> JobStatus:
        """Take the job back from a claimer that is late; it loses its bond."""
        return await self._step(JobAction.RECLAIM, signing.reclaim_late(self.id), "reclaim")

    async def _step(
        self, action: JobAction, signed: signing.Action, what: str, status: JobStatus | None = None
    ) -> JobStatus:
        status = status or await self.status()
        refused = refusal(status.state, action, Timing.LATE if status.late else Timing.IN_TIME)
        if refused is not None and refused.code is not None:
            error = error_for_exit_code(refused.code, f"cannot {what} job {self.id}, which is {status.state}")
            error.hint = f"Next: {status.next_step}"
            raise error
        await self._escrow.send_external(self._context.hot_key, signed)
        return await self.status()
