"""What the stake has to be asked for now: the worker's list of due actions, most urgent first.

Owns when each step is due, and giving up what came too late. Must not sign or send. Entries are looked at
before anything is paid for: what others did meanwhile is noted instead of repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cocoon_sdk.data import InlineData, encode_data
from cocoon_sdk.errors import MalformedError, ResultUnavailableError
from cocoon_sdk.protocol import WorkerInfo, encode_info, signing
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.job_states import EntryStatus
from cocoon_sdk.protocol.signing import Action
from cocoon_sdk.types import Nano
from cocoon_worker.bookkeeping import Bookkeeper, announced_key
from cocoon_worker.catalogue import worker_info
from cocoon_worker.context import Context
from cocoon_worker.delivery import Delivery
from cocoon_worker.errors import WorkerError
from cocoon_worker.lifecycle import UNSERVED, lose, move, on_view, retry_later
from cocoon_worker.records import JobFacts, JobRecord, PlannedAction
from cocoon_worker.sessions.redemption import Redemption, SessionDue
from cocoon_worker.slots import Slots
from cocoon_worker.states import ActionKind, JobState

FINALIZE_UNITS: Final = 2
"""A finalisation takes less than this many times what a submission takes."""
REDEEM_UNITS: Final = 2
"""The same for a redemption, which brings as much gas to the escrow as a finalisation."""
ANNOUNCE_PAUSE_S: Final = 300
"""Between two attempts to announce."""
ANNOUNCE_ALARM: Final = "announcement-too-large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One action that is due.

    `work_units` times the cost of a submission, or the cost of a claim, plus `extra` nanoTON, bound it.
    """

    action: PlannedAction
    signed: Action
    work_units: int = 1
    extra: Nano = field(default_factory=lambda: Nano(0))
    data_bytes: int = 0
    info_hash: bytes = b""


class Agenda:
    """Looks at the journal and the escrows. Raises `ChainError` and what `Journal` raises."""

    def __init__(
        self, context: Context, books: Bookkeeper, delivery: Delivery, redemption: Redemption
    ) -> None:
        self._context, self._books, self._delivery = context, books, delivery
        self._redemption = redemption
        self._journal, self._policy = context.journal, context.config.policy
        self._announce_after = 0
        self._slots: Slots | None = None

    async def due(self) -> list[Due]:
        """Return what is due, submissions on claims first: those have the hardest deadlines."""
        found: list[Due] = []
        self._slots = None  # read again when it is needed
        ready = self._waiting(JobState.READY)
        for job in sorted(ready, key=lambda job: (not job.claimed, job.deadline)):
            if self._submit_at(job) <= self._context.time.maybe():
                found += await self._submission(job)
        for job in self._waiting(JobState.CLAIMING):
            if not job.claimed:
                found += await self._claim(job)
        for job in self._waiting(JobState.SUBMITTED, JobState.DISPUTED):
            if self._context.time.surely() >= job.deadline:
                found += await self._finalization(job)
        sessions = await self._redemption.due(self._choose_lock)
        late = [_session_due(each) for each in sessions if not each.urgent]
        return [
            *(_session_due(each) for each in sessions if each.urgent),
            *found,
            *late,
            *await self._announcements(),
        ]

    async def _choose_lock(self, escrow: int, afresh: bool) -> int | None:
        if self._slots is None:
            self._slots = Slots((await self._context.stake.locks()).values())
        return self._slots.choose(escrow, afresh=afresh)

    async def look(self) -> None:
        """Look at the entries of jobs whose next step happens at the escrow, and note what changed."""
        states = (JobState.CLAIMING, JobState.SUBMITTING)
        for job in self._journal.jobs(states):
            if job.state is JobState.SUBMITTING or job.claimed:
                await self._look_at(job)
        overdue = self._context.time.surely() - self._policy.confirmation_s
        for job in self._journal.jobs(UNSERVED):
            if job.deadline < overdue and not job.locked:
                await self._look_at(job)

    async def _look_at(self, job: JobRecord) -> m.Job | None:
        view = await self._context.survey.entry(job.key)
        now, margin = self._context.time.surely(), self._policy.confirmation_s
        with self._journal.transaction():
            current = self._journal.job(job.key)
            if current is not None:
                account = self._context.survey.account
                self._books.keep(current, on_view(current, view, account, now, margin))
        return view

    def _waiting(self, *states: JobState) -> Iterable[JobRecord]:
        now = self._context.time.maybe()
        return [job for job in self._journal.jobs(states) if job.not_before <= now and job.facts is not None]

    # -- submissions --------------------------------------------------------------------------------------

    def _submit_at(self, job: JobRecord) -> int:
        """Return when a result goes on chain unless the client takes it before."""
        if self._context.public_url is None or self._context.draining:
            return 0
        latest = job.deadline - self._policy.confirmation_s - self._policy.safety_s
        return min(job.ready_at + self._policy.handover_s, latest)

    async def _submission(self, job: JobRecord) -> list[Due]:
        now = self._context.time.maybe()
        result = self._journal.result(job.key)
        if result is None or now > job.deadline or job.tries >= self._policy.send_attempts:
            reason = job.reason if job.tries else "the deadline passed before the result was submitted"
            self._keep(job, lose(job, now, reason))
            return []
        try:
            data = await self._delivery.place(result.sealed)
        except ResultUnavailableError as error:
            self._context.metrics.failures.labels("store").inc()
            self._keep(job, retry_later(job, now, str(error)))
            return []
        inline = len(data.content) if isinstance(data, InlineData) else 0
        cell = encode_data(data)
        target = await self._target(job)
        if target is None:
            return []
        kind = ActionKind.SUBMIT_CLAIMED if job.claimed else ActionKind.SUBMIT
        sign = signing.submit_claimed if job.claimed else signing.submit
        signed = sign(job.key.id, result.amount, target, result.result_hash, cell)
        return [Due(action=PlannedAction(kind, job.key), signed=signed, data_bytes=inline)]

    # -- claims and finalisations -------------------------------------------------------------------------

    async def _claim(self, job: JobRecord) -> list[Due]:
        now = self._context.time.maybe()
        if now + self._policy.confirmation_s > job.deadline or job.tries >= self._policy.send_attempts:
            self._keep(job, move(job, JobState.LOST, now, job.reason or "it became too late to claim it"))
            return []
        view = await self._context.survey.entry(job.key)
        if view is None or view.status != EntryStatus.OPEN:
            self._keep(job, move(job, JobState.LOST, now, "it was taken, or taken back, before our claim"))
            return []
        # Admission derived the account: what the stake sends there is not checked again on chain.
        target = m.ClaimTarget(
            escrow=job.key.escrow,
            bond=job.bond,
            key_tag=signing.key_tag(self._context.operator.verify_key.to_int()),
        )
        return [
            Due(
                action=PlannedAction(ActionKind.CLAIM, job.key),
                signed=signing.claim(job.key.id, _facts(job).binding, target),
                work_units=0,
                extra=job.bond,
            )
        ]

    async def _finalization(self, job: JobRecord) -> list[Due]:
        view = await self._look_at(job)
        current = self._journal.job(job.key)
        if current is None or current.state is not job.state or current.deadline != job.deadline:
            return []
        if view is None:
            # Somebody else ended it: the outcome is on its way to our stake.
            self._keep(current, retry_later(current, self._context.time.maybe(), "the outcome is on its way"))
            return []
        signed = signing.finalize(job.key.id, job.key.address)
        return [
            Due(action=PlannedAction(ActionKind.FINALIZE, job.key), signed=signed, work_units=FINALIZE_UNITS)
        ]

    async def _target(self, job: JobRecord) -> signing.JobTarget | None:
        """Name the job and the lock for its collateral; None, and noted, when all slots are taken."""
        facts, lock = _facts(job), 0
        if job.collateral:
            # A lock that was there may be emptied before the external arrives: the next try takes a new one.
            found = await self._choose_lock(job.key.escrow, job.tries > 0)
            if found is None:
                now = self._context.time.maybe()
                self._keep(job, retry_later(job, now, f"all {c.MAX_LOCKS} slots for locks are taken"))
                return None
            lock = found
        return signing.JobTarget(
            escrow_owner=facts.escrow_owner,
            escrow_index=facts.escrow_index,
            previous_code=facts.escrow_previous_code,
            collateral=job.collateral,
            lock=lock,
            job_hash=facts.job_hash,
            own_previous_code=facts.own_previous_code,
        )

    def _keep(self, old: JobRecord, new: JobRecord) -> None:
        with self._journal.transaction():
            current = self._journal.job(old.key)
            if current == old:
                self._books.keep(old, new)

    # -- announcements --------------------------------------------------------------------------------------

    def info(self) -> WorkerInfo:
        """Return what this worker announces now."""
        return worker_info(
            self._context.operator.verify_key,
            self._context.public_url,
            self._context.prekeys.announced(self._context.time.maybe()),
            self._context.offers,
        )

    async def _announcements(self) -> list[Due]:
        now = self._context.time.maybe()
        if self._context.draining or now < self._announce_after:
            return []
        info = self.info()
        models = dict.fromkeys(offer.model_id for offer in self._context.offers)
        stale = [model for model in models if self._is_stale(model, info, now)]
        if not stale:
            return []
        try:
            content = encode_info(info)
        except MalformedError as error:
            self._context.alarm(ANNOUNCE_ALARM, True, str(error))
            return []
        self._context.alarm(ANNOUNCE_ALARM, False)
        state = await self._context.stake.state()
        if state.params is None:
            return []
        fee = m.Params.from_cell(state.params).announce_fee
        self._announce_after = now + ANNOUNCE_PAUSE_S
        data = encode_data(InlineData(content))
        return [
            Due(
                action=PlannedAction(ActionKind.ANNOUNCE, model_id=model),
                signed=signing.announce(model, info.info_hash, data),
                extra=Nano(fee),
                data_bytes=len(content),
                info_hash=info.info_hash,
            )
            for model in stale
        ]

    def _is_stale(self, model_id: bytes, info: WorkerInfo, now: int) -> bool:
        known = self._journal.meta(announced_key(model_id))
        if known is None:
            return True
        info_hash, _, at = known.partition(":")
        return info_hash != info.info_hash.hex() or int(at) + self._policy.announce_s <= now


def _session_due(due: SessionDue) -> Due:
    units = REDEEM_UNITS if due.action.kind is ActionKind.REDEEM else 1
    return Due(action=due.action, signed=due.signed, work_units=units)


def _facts(job: JobRecord) -> JobFacts:
    if job.facts is None:
        raise WorkerError(f"job {job.key} is worked on without facts", hint="This is a bug: report it")
    return job.facts
