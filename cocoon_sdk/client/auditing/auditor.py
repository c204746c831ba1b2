"""`AsyncAudits`: draws results, has them checked beside the answers, and acts on what comes out.

Owns the order of things: the draw when a result is there, the finding and the score in one transaction, then
leaving the worker and disputing. Must not know how a result is checked (`Examiner`) or sent for. No answer
waits for any of it. What cannot be checked is counted as that, and held against nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.client.auditing.case import AuditCase, Claim, case_of_answer, subject_of_answer
from cocoon_sdk.client.auditing.disputes import DisputableJob, DisputeDesk
from cocoon_sdk.client.auditing.errors import UncheckableError
from cocoon_sdk.client.auditing.line import AuditLine
from cocoon_sdk.client.auditing.policy import AuditPolicy
from cocoon_sdk.client.auditing.records import (
    AuditNumbers,
    AuditOutcome,
    AuditRecord,
    AuditSubject,
    DisputeStep,
    WorkerScore,
)
from cocoon_sdk.client.auditing.store import (
    AUDITS_SCHEMA,
    SECONDS_A_DAY,
    AuditStore,
    Conclusion,
    Judge,
    Judgement,
)
from cocoon_sdk.client.sessions.answers.finished import FinishedAnswer
from cocoon_sdk.client.sessions.funds.holders import has_died, holder_ended, new_holder
from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.storage import Database, open_database
from cocoon_sdk.types import Nano

log: Final = logging.getLogger("cocoon.audits")

Then: TypeAlias = Callable[[AuditOutcome], Awaitable[None]]

_NOTHING: Final = Nano(0)
_CONNECTIONS: Final = 2
_GRACE_S: Final = 60
"""How much longer than a check may take its holder may be silent."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What looking at one case came to. `cost` is what the verifier was paid, in nanoTON."""

    outcome: AuditOutcome
    level: str
    why: str
    numbers: dict[str, Any]
    verifier: str
    cost: Nano
    evidence: Any = None
    """What the score takes in."""


class Examiner(Protocol):
    """Checks one case with somebody's help."""

    async def most_cost(self, case: AuditCase) -> Nano:
        """Return what checking it may cost at most. Raises `UncheckableError`."""
        ...

    async def examine(self, case: AuditCase) -> Examined:
        """Check it. Raises `UncheckableError`, or any `CocoonError` of who helps."""
        ...

    def judge(self, state: dict[str, Any], case: AuditCase, examined: Examined) -> Judgement:
        """Return what it makes of a worker's score; pure."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an auditor acts on: the escrow's domain, its jobs, and who leaves workers.

    `bonds_limit` bounds the bonds of a day besides the policy, `with_evidence` tells that there are arbiters
    to send evidence to.
    """

    domain: Callable[[], Awaitable[Domain]]
    job: Callable[[int], DisputableJob]
    leave: Callable[[Address, str], None]
    come_back: Callable[[Address], None]
    bonds_limit: Nano | None = None
    with_evidence: bool = False


@dataclass(slots=True)
class _Check:
    """One check under way. `cost` is what it may have cost, in nanoTON."""

    store: AuditStore
    policy: AuditPolicy
    subject: AuditSubject
    claim: Claim
    case: AuditCase | None = None
    cost: Nano = _NOTHING


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
        self._numbers = AuditNumbers()
        self._opening = asyncio.Lock()
        self._store: AuditStore | None = None
        self._database: Database | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._left: set[bytes] = set()
        self._closed = False

    def __repr__(self) -> str:
        share = "off" if self.policy is None else f"{self.policy.share:.2%} of the results"
        return f"<AsyncAudits {share}>"

    # -- for people ---------------------------------------------------------------------------------------

    @property
    def numbers(self) -> AuditNumbers:
        """What was done since this client began."""
        return replace(self._numbers, waiting=self._line.length)

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
        self._left.discard(bytes(worker.hash_part))
        self._around.come_back(worker)
        return forgiven

    async def idle(self, timeout_s: float | None = None) -> bool:
        """Wait until no check is under way or waiting; tell whether that is so."""
        return await self._line.drain(3600.0 if timeout_s is None else timeout_s)

    async def keep(self) -> None:
        """See to what was left undone, once: checks of processes that died, disputes, workers to leave."""
        store, domain = await self.store(), await self._around.domain()
        now = self._clock.now()
        for record, holder, until in await store.under_way(domain):
            if record.uid not in self._ends and (until <= now or has_died(holder)):
                why = "the process that checked it ended before it was done"
                made = Conclusion(AuditOutcome.UNCHECKED, why, now, cost=record.cost)
                await store.conclude(record.subject, holder, made, lambda state: Judgement(state, ""))
        for score in await store.scores(domain.global_id, left_only=True):
            self._leave(score)
        desk = self._desk(store)
        for record in await store.wanted(domain):
            await self._dispute(desk, record)
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
            return case_of_answer(answer)

        if self.draw():
            self.begin(subject_of_answer(answer), claim)

    def draw(self) -> bool:
        """Tell whether a result that is there now is to be checked. Every result is drawn for once."""
        if self.policy is None or self._closed:
            return False
        self.start()
        chosen = self.policy.draw() < self.policy.share
        self._count(seen=1, chosen=int(chosen))
        return chosen

    def begin(self, subject: AuditSubject, claim: Claim, then: Then | None = None) -> bool:
        """Have a drawn result checked; False, and counted, when there is no room for it.

        `then` is called with what came of it, in the line: before the next result has its turn.
        """
        end = asyncio.get_running_loop().create_future()
        if not self._line.offer(lambda: self._work(subject, claim, then, end)):
            self._count(dropped=1)
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

    # -- one check ------------------------------------------------------------------------------------------

    async def _work(
        self, subject: AuditSubject, claim: Claim, then: Then | None, end: asyncio.Future[None]
    ) -> None:
        assert self.policy is not None
        outcome = AuditOutcome.UNCHECKED
        try:
            store = await self.store()
            now = self._clock.now()
            until = now + int(self.policy.timeout_s) + _GRACE_S
            if await store.begin(subject, self._holder, now, until):
                outcome = await self._check(_Check(store, self.policy, subject, claim))
        finally:
            if self._ends.get(subject.uid) is end:
                del self._ends[subject.uid]
            end.set_result(None)
        if then is not None:
            await then(outcome)

    async def _check(self, check: _Check) -> AuditOutcome:
        examined, why = None, ""
        try:
            async with asyncio.timeout(check.policy.timeout_s):
                examined = await self._examined(check)
        except TimeoutError:
            why = f"it was not checked within {check.policy.timeout_s:g} s"
        except UncheckableError as error:
            why = str(error)
            check.cost = check.cost if error.cost is None else error.cost
        except CocoonError as error:
            why = str(error)
        now = self._clock.now()
        if examined is None:
            made = Conclusion(AuditOutcome.UNCHECKED, why, now, cost=check.cost)
        else:
            made = _conclusion(examined, now)
        outcome = await self._concluded(
            check.store, check.subject, made, lambda state: self._judged(state, check, examined)
        )
        return outcome or AuditOutcome.UNCHECKED

    async def _concluded(
        self, store: AuditStore, subject: AuditSubject, made: Conclusion, judge: Judge
    ) -> AuditOutcome | None:
        """Keep what a check came to, and act on it. None when it took so long that it was given up."""
        score = await store.conclude(subject, self._holder, made, judge)
        if score is None:
            return None
        self._tally(made)
        if score.left_at:
            self._leave(score)
        record = await store.get(subject.uid)
        if record is not None and record.dispute is DisputeStep.WANTED:
            await self._dispute(self._desk(store), record)
        return made.outcome

    async def accuse(self, subject: AuditSubject, examined: Examined, judge: Judge) -> DisputeStep:
        """Keep a finding that somebody else came to, and act on it; return how its dispute stands.

        A result that was checked already keeps its first finding.
        """
        self.start()
        store, now = await self.store(), self._clock.now()
        if await store.begin(subject, self._holder, now, now + _GRACE_S):
            await self._concluded(store, subject, _conclusion(examined, now), judge)
        record = await store.get(subject.uid)
        return DisputeStep.NONE if record is None else record.dispute

    async def _examined(self, check: _Check) -> Examined:
        examiner, policy = self._examiner, check.policy
        if examiner is None:
            raise UncheckableError("the result cannot be checked", why="there is no verifier")
        case = check.case = await check.claim()
        cost = await examiner.most_cost(case)
        what = "the result is not checked"
        if cost > policy.most_per_check:
            why = f"that may cost {cost}, the policy allows {policy.most_per_check} for one"
            raise UncheckableError(what, why=why)
        now = self._clock.now()
        if cost and not await check.store.reserve(
            check.subject, self._holder, cost, policy.spend_per_day, now
        ):
            why = f"the checks of a day may cost {policy.spend_per_day}, and {cost} is more than its rest"
            raise UncheckableError(what, why=why)
        check.cost = cost
        return await examiner.examine(case)

    def _judged(self, state: dict[str, Any], check: _Check, examined: Examined | None) -> Judgement:
        if self._examiner is None or check.case is None or examined is None:
            return Judgement(state, "")
        return self._examiner.judge(state, check.case, examined)

    # -- consequences ---------------------------------------------------------------------------------------

    def _leave(self, score: WorkerScore) -> None:
        key = bytes(score.worker.hash_part)
        if key not in self._left:
            self._left.add(key)
            log.warning("worker %s is left: %s", score.worker.to_str(), score.left_why)
            self._around.leave(score.worker, score.left_why)

    def _desk(self, store: AuditStore) -> DisputeDesk:
        around = self._around
        return DisputeDesk(
            store,
            self._rules,
            around.job,
            self._holder,
            self._clock,
            limit=around.bonds_limit,
            with_evidence=around.with_evidence,
        )

    async def _dispute(self, desk: DisputeDesk, record: AuditRecord) -> None:
        if await desk.run(record) is DisputeStep.DISPUTED:
            self._count(disputed=1)

    def _tally(self, made: Conclusion) -> None:
        names = {
            AuditOutcome.PASSED: "passed",
            AuditOutcome.SUSPECT: "suspect",
            AuditOutcome.FAILED: "failed",
            AuditOutcome.UNCHECKED: "unchecked",
        }
        self._count(**{names[made.outcome]: 1})
        self._numbers = replace(self._numbers, cost=self._numbers.cost + (made.cost or _NOTHING))

    def _count(self, **more: int) -> None:
        self._numbers = replace(
            self._numbers, **{name: getattr(self._numbers, name) + by for name, by in more.items()}
        )


def _conclusion(examined: Examined, now: int) -> Conclusion:
    return Conclusion(
        outcome=examined.outcome,
        why=examined.why,
        ended_at=now,
        level=examined.level,
        numbers=examined.numbers,
        verifier=examined.verifier,
        cost=examined.cost,
    )
