"""Disputes that follow from audits: sent once, by one process, whatever happens in between.

Owns the way from "wanted" to an end, by what the chain says. Must not know how a finding came about, or what
evidence is. A dispute is wanted in the same transaction as its finding is kept; whoever finds it wanted looks
at the job first, so one that was sent before a crash is only taken note of. Two that race cannot both count:
the job's state lets one through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from cocoon_sdk.client.auditing.dispute_store import DisputeStore
from cocoon_sdk.client.auditing.policy import AuditPolicy
from cocoon_sdk.client.auditing.records import Audited, AuditRecord, DisputeEnd, DisputeStep
from cocoon_sdk.client.auditing.session_disputes import SessionDisputes
from cocoon_sdk.client.errors import EvidenceTooLateError
from cocoon_sdk.client.job_status import RUNNING, UNPAID_ENDS, JobStatus
from cocoon_sdk.client.sessions.funds.holders import has_died
from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.exit_codes import TooLateError
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.types import Nano

log: Final = logging.getLogger("cocoon.audits")

LEASE_S: Final = 600
"""How long a process that took a dispute may be silent before another one takes it."""


class DisputableJob(Protocol):
    """What a dispute needs of a job's handle (`AsyncJob`)."""

    async def status(self) -> JobStatus:
        """Return where the job stands."""
        ...

    async def bond(self) -> Nano:
        """Return what a lost dispute costs."""
        ...

    async def dispute(self) -> JobStatus:
        """Call the arbiters, and send them the evidence."""
        ...

    async def send_evidence(self) -> object:
        """Send the evidence on a dispute that stands; may be repeated."""
        ...


class DisputeDesk:
    """Sends the disputes of one client's escrow. `limit` bounds the bonds of a day besides the policy.

    `with_evidence` tells that the client knows arbiters to send evidence to: then a dispute is done when
    enough of them have it, or its evidence deadline is over.
    """

    def __init__(
        self,
        store: DisputeStore,
        policy: AuditPolicy,
        jobs: Callable[[int], DisputableJob],
        holder: str,
        clock: Clock,
        *,
        limit: Nano | None,
        with_evidence: bool,
        sessions: SessionDisputes | None = None,
    ) -> None:
        self._store, self._policy, self._jobs = store, policy, jobs
        self._holder, self._clock, self._limit = holder, clock, limit
        self._with_evidence, self._sessions = with_evidence, sessions

    async def run(self, record: AuditRecord) -> DisputeStep:
        """Bring a wanted dispute as far as it goes now, unless another process does.

        Raises nothing of the network: what fails is tried again later.
        """
        if not await self._take(record.uid):
            return record.dispute
        try:
            end = await self._proceed(record)
        except EvidenceTooLateError as error:
            end = DisputeEnd(DisputeStep.DISPUTED, str(error))
        except CocoonError as error:
            end = DisputeEnd(DisputeStep.WANTED, str(error))
        await self._store.settle(record.uid, self._holder, end.step, end.why)
        if end.step is not DisputeStep.WANTED:
            log.info("dispute of %s: %s %s", record.subject, end.step, end.why)
        return end.step

    async def _take(self, uid: str) -> bool:
        now = self._clock.now()
        if await self._store.take(uid, self._holder, now, now + LEASE_S):
            return True
        other = await self._store.holder_of(uid)
        return has_died(other) and await self._store.take(
            uid, self._holder, now, now + LEASE_S, instead_of=other
        )

    async def _proceed(self, record: AuditRecord) -> DisputeEnd:
        if record.subject.what is not Audited.JOB:
            if self._sessions is None:
                return DisputeEnd(DisputeStep.REFUSED, "answers of sessions are not disputed here")
            return await self._sessions.proceed(record, self._stake)
        job = self._jobs(record.subject.number)
        status = await job.status()
        if status.state is JobState.DISPUTED:
            if self._with_evidence:
                await job.send_evidence()
            return DisputeEnd(DisputeStep.DISPUTED)
        if status.state is JobState.PAID or status.state in UNPAID_ENDS:
            why = f"the job ended as: {status.state}"
            if record.bond:
                return DisputeEnd(DisputeStep.DISPUTED, why)
            return DisputeEnd(
                DisputeStep.TOO_LATE if status.state is JobState.PAID else DisputeStep.NOT_NEEDED, why
            )
        if status.state in RUNNING:
            if status.late:
                return DisputeEnd(DisputeStep.NOT_NEEDED, "the worker did not submit in time")
            return DisputeEnd(DisputeStep.WANTED, "the worker has not submitted its result yet")
        if status.late:
            return DisputeEnd(DisputeStep.TOO_LATE, "the window is over")
        refused = await self._stake(record, await job.bond())
        if refused:
            return DisputeEnd(DisputeStep.REFUSED, refused)
        try:
            await job.dispute()
        except TooLateError:
            return DisputeEnd(DisputeStep.TOO_LATE, "the window ended before the dispute arrived")
        return DisputeEnd(DisputeStep.DISPUTED)

    async def _stake(self, record: AuditRecord, bond: Nano) -> str:
        """Count the bond as at stake; return why it may not be, empty when it may."""
        policy = self._policy
        if not policy.dispute:
            return "the audit policy does not dispute"
        if bond > policy.most_bond:
            return f"its bond is {bond}, the policy allows {policy.most_bond}"
        limit = policy.bonds_of_a_day if self._limit is None else min(policy.bonds_of_a_day, self._limit)
        if not await self._store.stake(record, self._holder, bond, limit, self._clock.now()):
            return f"its bond of {bond} does not fit into what a day's disputes may put at stake: {limit}"
        return ""
