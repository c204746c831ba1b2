"""One check after the other: claimed, paid for within the policy, examined, and kept with its score.

Owns the way of a drawn result to its finding, and what checks are counted as. Must not know how a result is
examined (`Examiner`), which ones are drawn, or who is left for it (`Consequences`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from pytoniq_core import Address

from cocoon_sdk.client.auditing.case import AuditCase, Claim, case_of_answer, subject_of_answer
from cocoon_sdk.client.auditing.consequences import Consequences
from cocoon_sdk.client.auditing.errors import UncheckableError
from cocoon_sdk.client.auditing.evidence_book import EvidenceBook, EvidenceVault, evidence_bytes, evidence_of
from cocoon_sdk.client.auditing.policy import AuditPolicy
from cocoon_sdk.client.auditing.records import (
    Audited,
    AuditNumbers,
    AuditOutcome,
    AuditRecord,
    AuditSubject,
    DisputeStep,
)
from cocoon_sdk.client.auditing.store import AuditStore, Conclusion, Judge, Judgement
from cocoon_sdk.client.sessions.answers.finished import FinishedAnswer
from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import CocoonError, MalformedError
from cocoon_sdk.types import Nano

log: Final = logging.getLogger("cocoon.audits")

GRACE_S: Final = 60
"""How much longer than a check may take its holder may be silent."""
_SLASH: Final = "slash"
_NOTHING: Final = Nano(0)
_COUNTED: Final = {
    AuditOutcome.PASSED: "passed",
    AuditOutcome.SUSPECT: "suspect",
    AuditOutcome.FAILED: "failed",
    AuditOutcome.UNCHECKED: "unchecked",
}


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
    holds: bool = True
    """Whether arbiters, who look at all of the answer, would find as much: else nothing is disputed."""


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

    def beyond_doubt(self, examined: Mapping[int, Examined]) -> tuple[int, ...]:
        """Return which answers of a session, by request numbers, arbiters take collateral for together; pure.

        Empty when there are none.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class Counter:
    """Counts what a client's audits have done since it began."""

    def __init__(self) -> None:
        self.numbers = AuditNumbers()

    def count(self, *, cost: Nano = _NOTHING, **more: int) -> None:
        """Add to these numbers."""
        now = self.numbers
        changed = {name: getattr(now, name) + by for name, by in more.items()}
        self.numbers = replace(now, cost=now.cost + cost, **changed)


@dataclass(slots=True)
class _Check:
    """One check under way. `cost` is what it may have cost, in nanoTON."""

    store: AuditStore
    subject: AuditSubject
    claim: Claim
    case: AuditCase | None = None
    cost: Nano = _NOTHING


class Checks:
    """Checks results one at a time, as `holder`; several may be under way."""

    def __init__(
        self,
        policy: AuditPolicy,
        examiner: Examiner | None,
        consequences: Consequences,
        counter: Counter,
        holder: str,
        clock: Clock,
        book: EvidenceBook,
        vault: EvidenceVault | None,
    ) -> None:
        self._policy, self._examiner, self._consequences = policy, examiner, consequences
        self._book, self._vault = book, vault
        self._counter, self._holder, self._clock = counter, holder, clock

    async def check(self, store: AuditStore, subject: AuditSubject, claim: Claim) -> AuditOutcome:
        """Check a result, unless it was checked already, or is, by anybody."""
        now = self._clock.now()
        if not await store.begin(subject, self._holder, now, now + int(self._policy.timeout_s) + GRACE_S):
            return AuditOutcome.UNCHECKED
        check = _Check(store, subject, claim)
        examined, why = None, ""
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                examined = await self._examined(check)
        except TimeoutError:
            why = f"it was not checked within {self._policy.timeout_s:g} s"
        except UncheckableError as error:
            why = str(error)
            check.cost = check.cost if error.cost is None else error.cost
        except CocoonError as error:
            why = str(error)
        now = self._clock.now()
        if examined is None:
            made = Conclusion(AuditOutcome.UNCHECKED, why, now, cost=check.cost)
        else:
            made = replace(_conclusion(examined, now), evidence=self._evidence(subject, examined))
        outcome = await self._conclude(
            store, subject, made, lambda state: self._judged(state, check, examined, made)
        )
        return outcome or AuditOutcome.UNCHECKED

    async def accuse(
        self, store: AuditStore, subject: AuditSubject, examined: Examined, judge: Judge
    ) -> DisputeStep:
        """Keep a finding that somebody else came to, and act on it; return how its dispute stands.

        A result that was checked already keeps its first finding.
        """
        now = self._clock.now()
        if await store.begin(subject, self._holder, now, now + GRACE_S):
            await self._conclude(store, subject, _conclusion(examined, now), judge)
        record = await store.get(subject.uid)
        return DisputeStep.NONE if record is None else record.dispute

    async def give_up(self, store: AuditStore, record: AuditRecord, holder: str, why: str) -> None:
        """Note that a check of `holder` will not come to an end; that says nothing about the worker."""
        made = Conclusion(AuditOutcome.UNCHECKED, why, self._clock.now(), cost=record.cost)
        await store.conclude(record.subject, holder, made, lambda state: Judgement(state, ""))

    async def _conclude(
        self, store: AuditStore, subject: AuditSubject, made: Conclusion, judge: Judge
    ) -> AuditOutcome | None:
        """Keep what a check came to, and act on it. None when it took so long that it was given up."""
        score = await store.conclude(subject, self._holder, made, judge)
        if score is None:
            return None
        self._counter.count(cost=made.cost or _NOTHING, **{_COUNTED[made.outcome]: 1})
        if score.left_at:
            self._consequences.leave(score)
            if score.left_at == made.ended_at:
                await self.look_back(store, subject.worker, but=subject if made.evidence else None)
        record = await store.get(subject.uid)
        if record is not None and record.dispute is DisputeStep.WANTED:
            await self.dispute(store, record)
        return made.outcome

    async def dispute(self, store: AuditStore, record: AuditRecord) -> None:
        """Bring a wanted dispute as far as it goes now."""
        if await self._consequences.dispute(store, record) is DisputeStep.DISPUTED:
            self._counter.count(disputed=1)

    async def _examined(self, check: _Check) -> Examined:
        examiner, policy = self._examiner, self._policy
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

    def _judged(
        self, state: dict[str, Any], check: _Check, examined: Examined | None, made: Conclusion
    ) -> Judgement:
        if self._examiner is None or check.case is None or examined is None:
            return Judgement(state, "")
        judged = self._examiner.judge(state, check.case, examined)
        if check.subject.what is Audited.REQUEST and not made.evidence:
            return replace(judged, dispute=DisputeStep.NONE)
        return judged

    def _evidence(self, subject: AuditSubject, examined: Examined) -> bytes:
        """Return, sealed, what a session's answer that costs collateral is disputed with; empty without."""
        answer = self._book.answer(subject)
        if self._vault is None or answer is None or examined.level != _SLASH or not examined.holds:
            return b""
        try:
            return self._vault.seal(evidence_of([answer]))
        except MalformedError as error:
            log.info("%s cannot be disputed: %s", subject, error)
            return b""

    async def look_back(self, store: AuditStore, worker: Address, *, but: AuditSubject | None = None) -> None:
        """Dispute sessions with a worker that was left for what their remembered answers come to together.

        Arbiters look at each answer: so does this client first, if it costs it nothing. Who is left by its
        score alone, or for receipts that did not come, would else cost a bond now and then for what only this
        client's own sample shows. The session of `but` is disputed for a single answer already.
        """
        if self._examiner is None or self._vault is None or not self._policy.dispute:
            return
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                for answers in self._book.sessions_with(worker, but=but):
                    await self._dispute_together(self._examiner, self._vault, store, answers)
        except (TimeoutError, CocoonError) as error:
            log.info("the answers of %s are no evidence: %s", worker.to_str(), error)

    async def _dispute_together(
        self,
        examiner: Examiner,
        vault: EvidenceVault,
        store: AuditStore,
        answers: Mapping[int, FinishedAnswer],
    ) -> None:
        found: dict[int, Examined] = {}
        for rid, answer in answers.items():
            case = await asyncio.to_thread(case_of_answer, answer)
            try:
                if await examiner.most_cost(case):
                    return
                found[rid] = await examiner.examine(case)
            except UncheckableError:
                continue  # it counts as one that was left out, for arbiters too
        while row := examiner.beyond_doubt(found):
            try:
                sealed = vault.seal(evidence_of([answers[rid] for rid in row]))
            except MalformedError:  # too large: no worker escapes by one answer that is
                del found[max(row, key=lambda rid: evidence_bytes(answers[rid]))]
                continue
            for rid in reversed(row):
                if await self._want(store, subject_of_answer(answers[rid]), found[rid], sealed):
                    return
            return

    async def _want(
        self, store: AuditStore, subject: AuditSubject, examined: Examined, sealed: bytes
    ) -> bool:
        """Want a dispute on this evidence, at the finding about an answer of it; False while that is checked.

        An answer that was not drawn has no finding before. It was chosen, so the score does not take it in.
        """
        now = self._clock.now()
        if await store.begin(subject, self._holder, now, now + GRACE_S):
            made = replace(_conclusion(examined, now), evidence=sealed)
            wanted = DisputeStep.WANTED
            await store.conclude(subject, self._holder, made, lambda state: Judgement(state, "", wanted))
        record = await store.get(subject.uid)
        if record is None or record.outcome is AuditOutcome.UNDER_WAY:
            return False
        if record.dispute is DisputeStep.NONE:
            await store.disputes.want(subject.uid, sealed, now)
            record = await store.get(subject.uid)
        if record is not None and record.dispute is DisputeStep.WANTED:
            await self.dispute(store, record)
        return True


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
