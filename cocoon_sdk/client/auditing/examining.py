"""Checking one case: who recomputes it, how often, and what that makes of its worker.

Owns the second look and what findings mean. Must not know statistics (`cocoon_sdk.verify`), who looks
(`lookers`) or money that has moved. What does not look honest is looked at once more before it counts: at
one's own endpoint in another batch, else by another worker of another owner. The milder verdict counts, so no
single verifier accuses anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from cocoon_sdk.client.auditing.beginnings import holds_for_all, judged_beginning, longest_of
from cocoon_sdk.client.auditing.case import AuditCase
from cocoon_sdk.client.auditing.checks import Examined
from cocoon_sdk.client.auditing.errors import UncheckableError
from cocoon_sdk.client.auditing.lookers import LOOKS, Look, Lookers, OwnLookers, PaidLookers
from cocoon_sdk.client.auditing.paid import Asker
from cocoon_sdk.client.auditing.policy import AuditPolicy
from cocoon_sdk.client.auditing.records import Audited, AuditOutcome, AuditSubject, DisputeStep
from cocoon_sdk.client.auditing.store import Judgement
from cocoon_sdk.client.discovery import WorkerList
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.checking import Findings, check, check_form, check_prompt
from cocoon_sdk.verify.rescoring import CHAT, COMPLETION
from cocoon_sdk.verify.rows import InRow, is_over_the_line, longest_row, row_score
from cocoon_sdk.verify.score import Score, observe
from cocoon_sdk.verify.structure import Level, Question, says_something
from cocoon_sdk.verify.thresholds import Thresholds

_NOTHING: Final = Nano(0)
_KINDS: Final = (CHAT, COMPLETION)
_OUTCOMES: Final = {
    Level.HONEST: AuditOutcome.PASSED,
    Level.SUSPECT: AuditOutcome.SUSPECT,
    Level.REFUND: AuditOutcome.FAILED,
    Level.SLASH: AuditOutcome.FAILED,
}


def judged(case: AuditCase, look: Look, thresholds: Thresholds | None) -> Findings:
    """Return the findings of one look at a case. Raises `CocoonError` where nothing can be judged."""
    question = question_of(case)
    if look.other_prompt is not None and case.commitment is not None:
        found = check_prompt(question, case.response, case.commitment, look.other_prompt, thresholds)
        if found is not None:
            return found
    if look.tokens is not None:
        return judged_beginning(question, case, look.rescorings, look.tokens, thresholds)
    return check(question, case.response, case.commitment, look.rescorings, thresholds)


def judged_at_once(case: AuditCase, thresholds: Thresholds | None) -> Findings | None:
    """Return the findings that need no verifier, None where one has to be asked. Raises `CocoonError`."""
    return check_form(question_of(case), case.response, case.commitment, thresholds)


def question_of(case: AuditCase) -> Question:
    """Return what was asked in a case, under which promise."""
    commitment, limits = case.commitment, case.limits
    return Question(
        kind=case.kind,
        body=case.body,
        seed=case.seed,
        sampling=case.terms.sampling,
        # Who states no manifest has not said anything false; its numbers speak for it or against it.
        model_id=None if commitment is None or commitment.manifest is None else case.terms.model_id,
        output_limit=None if limits is None else limits[0],
        context=None if limits is None else limits[1],
    )


class ResultExaminer:
    """Checks cases with the help of `lookers`."""

    def __init__(self, policy: AuditPolicy, lookers: Lookers) -> None:
        self._policy, self._lookers = policy, lookers
        self._thresholds = {bytes(each.digest()): each for each in policy.thresholds}

    def _limits(self, case: AuditCase) -> Thresholds:
        what = "the result cannot be checked"
        if case.terms.sampling is SamplingClass.UNVERIFIED:
            raise UncheckableError(what, why="its terms promise nothing that could be")
        if case.kind not in _KINDS:
            raise UncheckableError(what, why=f"a result of the kind {case.kind} has no tokens that could be")
        if case.commitment is None and not case.usage.output_tokens and not says_something(case.response):
            raise UncheckableError(what, why="it is empty")
        found = self._thresholds.get(bytes(case.calibration))
        if found is None:
            raise UncheckableError(
                what,
                why=f"the thresholds of {case.subject.model} are not at hand",
                hint="Put them into the policy: their hash stands in the model's registry entry",
            )
        return found

    async def most_cost(self, case: AuditCase) -> Nano:
        """See `Examiner.most_cost`."""
        if judged_at_once(case, self._limits(case)) is not None:
            return _NOTHING
        return await self._lookers.most_cost(case)

    async def examine(self, case: AuditCase) -> Examined:
        """See `Examiner.examine`."""
        thresholds = self._limits(case)
        if (at_once := judged_at_once(case, thresholds)) is not None:
            return told(at_once)
        looks: list[Look] = []
        best: Findings | None = None
        part: int | None = None
        while len(looks) < LOOKS and (best is None or best.level > Level.HONEST):
            spent = Nano(sum(int(look.cost) for look in looks))
            try:
                look = await self._lookers.look(case, looks)
            except UncheckableError as error:
                cost = spent if error.cost is None else spent + error.cost
                why = (
                    error.why
                    if best is None
                    else f"one verifier objects, and there is no second: {error.why}"
                )
                raise UncheckableError(error.what, why=why, hint=error.hint, cost=cost) from None
            looks.append(look)
            found = await asyncio.to_thread(judged, case, look, thresholds)
            if best is None or found.level < best.level:
                best, part = found, look.tokens
        assert best is not None
        cost = Nano(sum(int(look.cost) for look in looks))
        if best.limits is None and best.level < Level.REFUND:
            why = f"there are no thresholds for {best.kind} answers of {case.subject.model}"
            raise UncheckableError("the result cannot be checked", why=why, cost=cost)
        return told(best, looks, cost) if part is None else _told_of_part(told(best, looks, cost), case, part)

    def judge(self, state: dict[str, Any], case: AuditCase, examined: Examined) -> Judgement:
        """See `Examiner.judge`: a failed result alone is over the line, and so is too much in too many."""
        return judgement(state, case.subject, examined, dispute=self._policy.dispute)

    def beyond_doubt(self, examined: Mapping[int, Examined]) -> tuple[int, ...]:
        """See `Examiner.beyond_doubt`: the arbiters' rule for records of a session.

        They judge what they are shown: of a worker that began to lie late, what came from there on.
        """
        shown = [
            in_row
            for place, each in sorted(examined.items())
            if isinstance(each.evidence, Findings) and (in_row := InRow.of(place, each.evidence)) is not None
        ]
        rows = [longest_row(shown[begin:]) for begin in range(len(shown))]
        clear = [row for row in rows if is_over_the_line(row)]
        clearest = max(clear, key=lambda row: row_score(row).peak, default=())
        return tuple(each.place for each in clearest)

    async def close(self) -> None:
        """See `Examiner.close`."""
        await self._lookers.close()


def make_examiner(
    policy: AuditPolicy, offers: Callable[[bytes], Awaitable[WorkerList]], ask: Asker
) -> ResultExaminer:
    """Return what checks results as a policy says."""
    own = policy.verifier
    return ResultExaminer(policy, PaidLookers(offers, ask, policy) if own is None else OwnLookers(own))


def judgement(
    state: dict[str, Any], subject: AuditSubject, examined: Examined, *, dispute: bool
) -> Judgement:
    """Return what a finding makes of its worker's score, whether it is left, and disputed."""
    findings, score = examined.evidence, Score.from_json(state)
    assert isinstance(findings, Findings)
    if findings.numbers is not None and findings.limits is not None:
        score = observe(score, findings.numbers, findings.limits)
    failed = examined.outcome is AuditOutcome.FAILED
    leave = ""
    if failed:
        leave = f"{subject}: {examined.why}"
    elif score.accused():
        leave = f"{score.audits} checks together: its answers deviate more than honest ones would"
    wanted = dispute and findings.level >= _least_for_dispute(subject) and examined.holds
    return Judgement(score.to_json(), leave, DisputeStep.WANTED if wanted else DisputeStep.NONE)


def _least_for_dispute(subject: AuditSubject) -> Level:
    """Return how grave findings have to be for a dispute.

    Of a session only collateral can be had: a single answer has to be beyond the limit for that.
    """
    return Level.REFUND if subject.what is Audited.JOB else Level.SLASH


def _told_of_part(examined: Examined, case: AuditCase, tokens: int) -> Examined:
    """Return what was found of a beginning, and whether arbiters would find as much in all of it."""
    findings = examined.evidence
    assert isinstance(findings, Findings)
    return replace(
        examined,
        why=f"{examined.why} (in the first {tokens} of {longest_of(case)} tokens)",
        holds=holds_for_all(findings, _least_for_dispute(case.subject)),
    )


def told(found: Findings, looks: Sequence[Look] = (), cost: Nano = _NOTHING) -> Examined:
    """Return findings in the form that is remembered."""
    return Examined(
        outcome=_OUTCOMES[found.level],
        level=found.level.word,
        why="; ".join(found.reasons[:4]) or "as the named model answers",
        numbers={name: round(value, 6) for name, value in found.numbers.items()} if found.numbers else {},
        verifier=", ".join(dict.fromkeys(look.verifier for look in looks)),
        cost=cost,
        evidence=found,
    )
