"""Events into the journal: each transaction's effects and the cursor behind it in one durable step.

Owns the mapping from events to rows. Must not talk to the chain: it is told what happened.
"""

from __future__ import annotations

from typing import assert_never

from pytoniq_core import Address

from cocoon_sdk.chain.watcher import Cursor
from cocoon_sdk.protocol.exit_codes import error_for_exit_code
from cocoon_worker.context import Context
from cocoon_worker.events import (
    Event,
    ExternalAccepted,
    JobDisputed,
    JobNoticed,
    JobOutcome,
    LockExpired,
    SessionCloses,
)
from cocoon_worker.lifecycle import done, is_over, on_dispute, on_expiry, on_outcome, undone
from cocoon_worker.records import ExternalRecord, JobKey, JobRecord
from cocoon_worker.sessions.bookkeeping import SessionBookkeeper
from cocoon_worker.states import SESSION_ACTIONS, ActionKind, ExternalState, JobState


def announced_key(model_id: bytes) -> str:
    """Return where the journal keeps what was announced for a model: `<info hash>:<time>`."""
    return f"announced:{model_id.hex()}"


class Bookkeeper:
    """Writes what happened. Raises what `Journal` raises; then nothing of that transaction is written."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._journal = context.journal
        self.sessions = SessionBookkeeper(context.sessions, context.log)

    def note(self, account: Address, cursor: Cursor, event: Event | None, now: int) -> None:
        """Write a transaction's effect and that it was seen; `now` is its unix time."""
        with self._journal.transaction():
            if event is not None:
                self._apply(event, now)
            self._journal.put_cursor(account, cursor)

    def _apply(self, event: Event, now: int) -> None:
        match event:
            case JobNoticed():
                self._noticed(event, now)
            case JobOutcome():
                job = self._accepted_job(event.key)
                if job is not None:
                    self.keep(job, on_outcome(job, event, now))
                self.sessions.outcome(event, now)
            case SessionCloses():
                self.sessions.closing(event.key, now)
            case JobDisputed():
                job = self._accepted_job(event.key)
                if job is not None:
                    self.keep(job, on_dispute(job, now))
                self.sessions.disputed(event.key, now)
            case LockExpired():
                for job in self._journal.locked_jobs():
                    if job.lock == event.lock:
                        self.keep(job, on_expiry(job, now))
                self.sessions.lock_expired(event.lock, now)
            case ExternalAccepted():
                self._external(event, now)
            case _:
                assert_never(event)

    def _noticed(self, event: JobNoticed, now: int) -> None:
        if self._journal.count_jobs().get(JobState.OFFERED, 0) >= self._context.config.policy.max_queue:
            self._context.metrics.dropped.inc()
            self._context.log.warning("notice dropped", job=str(event.key), why="max_queue is reached")
            return
        job = JobRecord(
            key=event.key,
            state=JobState.OFFERED,
            is_open=event.is_open,
            notice_lt=event.notice_lt,
            created_at=now,
            updated_at=now,
        )
        if self._journal.add_job(job):
            self._context.log.info("job noticed", job=str(event.key), open=event.is_open)

    def _accepted_job(self, key: JobKey) -> JobRecord | None:
        # What an account says that was never found genuine is noise, whatever amounts it names.
        job = self._journal.job(key)
        return job if job is not None and job.facts is not None else None

    def keep(self, old: JobRecord, new: JobRecord) -> None:
        """Write a job that changed, inside a transaction; forget its evidence when nothing is left to do."""
        if new == old:
            return
        self._journal.put_job(new)
        if is_over(new) and not is_over(old):
            self._journal.wipe_evidence(new.key)
        if new.state is not old.state:
            self._context.log.info(
                "job moved", job=str(new.key), old=old.state, new=new.state, reason=new.reason or None
            )

    # -- externals -----------------------------------------------------------------------------------------

    def _external(self, event: ExternalAccepted, now: int) -> None:
        mine = self._journal.external_by_body(event.body_hash)
        for rival in self._journal.rivals(event.seqno):
            if mine is None or rival.number != mine.number:
                self.abandon_external(rival, ExternalState.VOID, "another message took its place", now)
        if mine is None:
            self._context.metrics.foreign.inc()
            self._context.log.error(
                "foreign external",
                seqno=event.seqno,
                why="the operator key signed a message that this journal does not know",
                hint="Run one worker per operator key; if nobody else should have it, let the owner SetKey",
            )
            return
        if mine.state in (ExternalState.CONFIRMED, ExternalState.VOID):
            return
        self._journal.set_external(mine, ExternalState.CONFIRMED)
        made = iter(event.locks)
        for position, action in enumerate(mine.actions, 1):
            code = event.skipped.get(position)
            locks = code is None and action.kind in (ActionKind.SUBMIT, ActionKind.SUBMIT_CLAIMED)
            lock = next(made, 0) if locks else 0
            if code is not None:
                why = str(error_for_exit_code(code, f"the stake skipped the {action.kind}"))
                self._context.log.warning("action skipped", kind=action.kind, exit_code=code, why=why)
            if action.kind is ActionKind.ANNOUNCE:
                if code is None:
                    self._journal.put_meta(
                        f"announced:{action.model_id.hex()}", f"{mine.info_hash.hex()}:{now}"
                    )
                continue
            if action.kind in SESSION_ACTIONS:
                if code is None:
                    self.sessions.carried_out(action, now, self._context.config.policy.confirmation_s)
                else:
                    self.sessions.given_up(action, now, why)
                continue
            job = None if action.key is None else self._journal.job(action.key)
            if job is None:
                continue
            if code is None:
                self.keep(job, done(job, action.kind, lock, now))
            else:
                self.keep(job, undone(job, action.kind, now, why))

    def abandon_external(self, external: ExternalRecord, state: ExternalState, why: str, now: int) -> None:
        """Give up an external, inside a transaction: what was to be done by it is planned anew."""
        under_way = external.state is ExternalState.PENDING
        self._journal.set_external(external, state)
        if not under_way:
            return
        for action in external.actions:
            if action.kind in SESSION_ACTIONS:
                self.sessions.given_up(action, now, why)
            job = None if action.key is None else self._journal.job(action.key)
            if job is not None:
                self.keep(job, undone(job, action.kind, now, why))
