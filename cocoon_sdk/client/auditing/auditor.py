"""`AsyncAudits`: draws results, has them checked beside the answers, and acts on what comes out.

Owns the order of things: the draw when a result is there, the line that checks wait in, and what was left
undone. Must not know how a result is checked or kept (`Checks`), or sent for. No answer waits for any of it.
What cannot be checked is counted as that, and held against nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.client.auditing.case import AuditCase, Claim, case_of_answer, subject_of_answer
from cocoon_sdk.client.auditing.checks import Checks, Counter, Examined, Examiner
from cocoon_sdk.client.auditing.consequences import Consequences, Surroundings
from cocoon_sdk.client.auditing.errors import NoEvidenceError
from cocoon_sdk.client.auditing.evidence_book import EvidenceBook
from cocoon_sdk.client.auditing.line import AuditLine
from cocoon_sdk.client.auditing.policy import AuditPolicy
from cocoon_sdk.client.auditing.receipt_watch import ReceiptWatch
from cocoon_sdk.client.auditing.records import (
    AuditNumbers,
    AuditOutcome,
    AuditRecord,
    AuditSubject,
    DisputeStep,
    WorkerScore,
)
from cocoon_sdk.client.auditing.store import AuditStore, Judge
from cocoon_sdk.client.auditing.tables import AUDITS_SCHEMA, SECONDS_A_DAY
from cocoon_sdk.client.sessions.answers.finished import EndedPart, FinishedAnswer
from cocoon_sdk.client.sessions.funds.holders import has_died, holder_ended, new_holder
from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.session_evidence import SessionEvidence
from cocoon_sdk.storage import Database, open_database

log: Final = logging.getLogger("cocoon.audits")

Then: TypeAlias = Callable[[AuditOutcome], Awaitable[None]]

_CONNECTIONS: Final = 2


class AsyncAudits:
    """A client's audits; get it as `AsyncCocoon.audits`.

    Without a policy nothing is checked, but findings and scores of the database can be looked at. Every
    method that is awaited may raise `StorageError` and `ChainError` kinds.
    """

    def __init__(
        self,
        policy: AuditPolicy | None,
        place: Database | str | Path,
        examiner: Examiner | None,
        around: Surroundings,
        clock: Clock,
    ) -> None:
        self.policy = policy
        self._rules = policy or AuditPolicy(share=0.0)
        self._place, self._examiner, self._around, self._clock = place, examiner, around, clock
        self._holder = new_holder()
        self._line = AuditLine(self._rules.waiting, self._rules.at_once)
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._counter = Counter()
        self._consequences = Consequences(self._rules, around, self._holder, clock)
        self._book = EvidenceBook()
        self._checks = Checks(
            self._rules,
            examiner,
            self._consequences,
            self._counter,
            self._holder,
            clock,
            self._book,
            around.vault,
        )
        self._receipts = ReceiptWatch()
        self._bringing: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._store: AuditStore | None = None
        self._database: Database | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        share = "off" if self.policy is None else f"{self.policy.share:.2%} of the results"
        return f"<AsyncAudits {share}>"

    # -- for people ---------------------------------------------------------------------------------------

    @property
    def numbers(self) -> AuditNumbers:
        """What was done since this client began."""
        return replace(self._counter.numbers, waiting=self._line.length)

    async def list(self, *, worker: Address | None = None, most: int = 1000) -> tuple[AuditRecord, ...]:
        """Return the findings, newest first."""
        return tuple(
            await (await self.store()).findings(await self._around.domain(), worker=worker, most=most)
        )

    async def scores(self) -> tuple[WorkerScore, ...]:
        """Return what the checks of each worker came to; all escrows that share the database count."""
        return tuple(await (await self.store()).scores((await self._around.domain()).global_id))

    async def forgive(self, worker: Address) -> bool:
        """Begin a worker's score anew and ask it again; findings stay. False when it had none."""
        forgiven = await (await self.store()).forgive((await self._around.domain()).global_id, worker)
        self._consequences.come_back(worker)
        return forgiven

    async def evidence(self, session_id: int) -> SessionEvidence:
        """Return what a session's dispute stands on, or is going to: it holds prompts and answers.

        Raises `NoEvidenceError`, or `DecryptionError` when another hot key sealed it.
        """
        store, domain = await self.store(), await self._around.domain()
        sealed = await store.disputes.evidence_of(domain, session_id)
        if sealed is None or self._around.vault is None:
            raise NoEvidenceError(
                f"no evidence about session {session_id} is kept",
                why="no audit found anything in it that a dispute could stand on, or it was long ago",
            )
        return self._around.vault.open(sealed)

    async def idle(self, timeout_s: float | None = None) -> bool:
        """Wait until no check is under way or waiting; tell whether that is so."""
        if self._bringing is not None:
            await asyncio.wait({self._bringing}, timeout=timeout_s)
        return await self._line.drain(3600.0 if timeout_s is None else timeout_s)

    async def keep(self) -> None:
        """See to what was left undone, once: checks of processes that died, disputes, workers to leave."""
        store, domain = await self.store(), await self._around.domain()
        now = self._clock.now()
        for record, holder, until in await store.under_way(domain):
            if record.uid not in self._ends and (until <= now or has_died(holder)):
                why = "the process that checked it ended before it was done"
                await self._checks.give_up(store, record, holder, why)
        await self._bring_in()
        for score in await store.scores(domain.global_id, left_only=True):
            self._consequences.leave(score)
        for record in await store.disputes.wanted(domain):
            await self._checks.dispute(store, record)
        await store.prune(now - self._rules.keep_days * SECONDS_A_DAY)

    # -- opening and closing --------------------------------------------------------------------------------

    async def store(self) -> AuditStore:
        """Return where findings are kept; opens the database at the first call."""
        async with self._opening:
            if self._store is None:
                place = self._place
                if isinstance(place, str | Path):
                    place = self._database = await open_database(
                        place, AUDITS_SCHEMA, connections=_CONNECTIONS
                    )
                else:
                    await place.migrate(AUDITS_SCHEMA)
                self._store = AuditStore(place)
            return self._store

    def start(self) -> None:
        """Look after what was left undone, in the background, until `close`."""
        if self._keeping is None and not self._closed:
            self._keeping = asyncio.create_task(self._keep_on(self._rules.every_s), name="cocoon audits")

    async def _keep_on(self, every_s: float) -> None:
        while True:
            try:
                await self.keep()
            except CocoonError as error:
                log.warning("audits cannot be looked after now: %s", error)
            await asyncio.sleep(every_s)

    async def close(self) -> None:
        """Wait for the checks under way as long as the policy says, and close the database."""
        if self._line.length:
            await self._line.drain(self._rules.drain_s)
        self._closed = True
        await self._line.close()
        if self._bringing is not None:
            await asyncio.wait({self._bringing})
        with suppress(CocoonError):
            await self._bring_in()
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        if self._examiner is not None:
            await self._examiner.close()
        holder_ended(self._holder)
        database, self._database, self._store = self._database, None, None
        if database is not None:
            await database.close()

    # -- results come ---------------------------------------------------------------------------------------

    def finished(self, answer: FinishedAnswer) -> None:
        """Take note of a session's answer that is complete; it may be checked from now on."""

        async def claim() -> AuditCase:
            return await asyncio.to_thread(case_of_answer, answer)

        if self.policy is not None and self.policy.dispute and self._around.vault is not None:
            self._book.note(answer)
        if self.draw():
            self.begin(subject_of_answer(answer), claim)

    def ended(self, part: EndedPart) -> None:
        """Take note of how a worker's part in a session's answer ended: with its receipt, or without."""
        if self.policy is None or self._closed:
            return
        self.start()
        if not self._receipts.note(part):
            return
        self._counter.count(unreceipted=1)
        if self._bringing is None or self._bringing.done():
            self._bringing = asyncio.create_task(self._bring_in_now(), name="cocoon audits: receipts")

    async def _bring_in_now(self) -> None:
        try:
            await self._bring_in()
        except CocoonError as error:
            log.warning("receipts that did not come cannot be noted now: %s", error)

    async def _bring_in(self) -> None:
        if self._receipts.empty:
            return
        store, domain, now = await self.store(), await self._around.domain(), self._clock.now()
        for score in await self._receipts.bring_in(store, domain.global_id, now):
            self._consequences.leave(score)
            if score.left_at == now:
                self._line.offer(partial(self._checks.look_back, store, score.worker))

    def draw(self) -> bool:
        """Tell whether a result that is there now is to be checked. Every result is drawn for once."""
        if self.policy is None or self._closed:
            return False
        self.start()
        chosen = self.policy.draw() < self.policy.share
        self._counter.count(seen=1, chosen=int(chosen))
        return chosen

    def begin(self, subject: AuditSubject, claim: Claim, then: Then | None = None) -> bool:
        """Have a drawn result checked; False, and counted, when there is no room for it.

        `then` is called with what came of it, in the line: before the next result has its turn.
        """
        end = asyncio.get_running_loop().create_future()
        if not self._line.offer(lambda: self._work(subject, claim, then, end)):
            self._counter.count(dropped=1)
            return False
        self._ends[subject.uid] = end
        return True

    async def standing(self, uid: str, *, wait: bool) -> AuditOutcome | None:
        """Return how a result's audit stands, None when there is none; `wait` for one under way here."""
        end = self._ends.get(uid)
        if end is not None:
            if not wait:
                return AuditOutcome.UNDER_WAY
            await asyncio.wait({end})
        record = await (await self.store()).get(uid)
        return None if record is None else record.outcome

    async def accuse(self, subject: AuditSubject, examined: Examined, judge: Judge) -> DisputeStep:
        """Keep a finding that somebody else came to, and act on it; return how its dispute stands.

        A result that was checked already keeps its first finding.
        """
        self.start()
        return await self._checks.accuse(await self.store(), subject, examined, judge)

    async def _work(
        self, subject: AuditSubject, claim: Claim, then: Then | None, end: asyncio.Future[None]
    ) -> None:
        outcome = AuditOutcome.UNCHECKED
        try:
            outcome = await self._checks.check(await self.store(), subject, claim)
        finally:
            if self._ends.get(subject.uid) is end:
                del self._ends[subject.uid]
            end.set_result(None)
        if then is not None:
            await then(outcome)
