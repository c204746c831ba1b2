"""Checking one case: who recomputes it, how often, and what that makes of its worker.

Owns the choice of verifiers and the second look. Must not know statistics (`cocoon_sdk.verify`) or money that
has moved. What does not look honest is looked at once more before it counts: at one's own endpoint in another
batch, else by another worker of another owner. The milder verdict counts, so no single verifier accuses
anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cocoon_sdk.client.auditing.case import AuditCase
from cocoon_sdk.client.auditing.checks import Examined
from cocoon_sdk.client.auditing.errors import UncheckableError
from cocoon_sdk.client.auditing.paid import Asker, WorkerEndpoint, top_that_fits
from cocoon_sdk.client.auditing.policy import AuditPolicy, OwnVerifier
from cocoon_sdk.client.auditing.records import Audited, AuditOutcome, AuditSubject, DisputeStep
from cocoon_sdk.client.auditing.store import Judgement
from cocoon_sdk.client.discovery import WorkerList, WorkerOffer
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.pricing import Tariff
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.checking import Findings, check, check_form
from cocoon_sdk.verify.rescoring import CHAT, COMPLETION, Rescoring, UnknownTokenError, Verifier
from cocoon_sdk.verify.score import Score, observe
from cocoon_sdk.verify.structure import Level, Question
from cocoon_sdk.verify.thresholds import Thresholds

LOOKS: Final = 2
_PROMPT_BYTES_PER_TOKEN: Final = 2
_TEMPLATE_TOKENS: Final = 64
_NOTHING: Final = Nano(0)
_SHOWN: Final = (
    "content",
    "text",
    "reasoning",
    "reasoning_content",
    "refusal",
    "tool_calls",
    "function_call",
)
_KINDS: Final = (CHAT, COMPLETION)
_OUTCOMES: Final = {
    Level.HONEST: AuditOutcome.PASSED,
    Level.SUSPECT: AuditOutcome.SUSPECT,
    Level.REFUND: AuditOutcome.FAILED,
    Level.SLASH: AuditOutcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class Look:
    """One recomputation. `rescorings` is empty when the model has none of the answer's tokens."""

    verifier: str
    rescorings: tuple[Rescoring, ...]
    cost: Nano


class Lookers(Protocol):
    """Who recomputes answers."""

    async def most_cost(self, case: AuditCase) -> Nano:
        """Return what all looks at a case may cost together."""
        ...

    async def look(self, case: AuditCase, past: Sequence[Look]) -> Look:
        """Recompute an answer; `past` looks were by others, or in another batch.

        Raises `UncheckableError` (with what it cost) and `CocoonError`.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class OwnLookers:
    """The client's own endpoint."""

    def __init__(self, verifier: OwnVerifier) -> None:
        self._verifier = verifier
        self._open: dict[str, Verifier] = {}

    async def most_cost(self, case: AuditCase) -> Nano:
        """See `Lookers.most_cost`."""
        return _NOTHING

    async def look(self, case: AuditCase, past: Sequence[Look]) -> Look:
        """See `Lookers.look`. A second look is two at once: another batch than the first."""
        verifier = self._of(case)
        looks = await asyncio.gather(*(_examined(verifier, case) for _ in range(1 + len(past))))
        return Look(self._verifier.url, tuple(each for each in looks if each is not None), _NOTHING)

    def _of(self, case: AuditCase) -> Verifier:
        own, asked = self._verifier, case.body.get("model")
        model = asked if isinstance(asked, str) else case.subject.model
        found = self._open.get(model)
        if found is None:
            name = own.models.get(model) or own.models.get(case.subject.model, model)
            ends = own.end_tokens.get(model)
            found = Verifier(own.url, own.api_key, name, top=own.top, end_tokens=ends)
            self._open[model] = found
        return found

    async def close(self) -> None:
        """See `Lookers.close`."""
        for verifier in self._open.values():
            await verifier.close()
        self._open.clear()


class PaidLookers:
    """Other workers of the same model, each of another owner; who looks is drawn."""

    def __init__(
        self,
        offers: Callable[[bytes], Awaitable[WorkerList]],
        ask: Asker,
        policy: AuditPolicy,
    ) -> None:
        self._offers, self._ask, self._policy = offers, ask, policy

    async def most_cost(self, case: AuditCase) -> Nano:
        """See `Lookers.most_cost`."""
        found = await self._others(case, ())
        return Nano(LOOKS * max(int(most_of_look(case, offer)) for offer in found))

    async def look(self, case: AuditCase, past: Sequence[Look]) -> Look:
        """See `Lookers.look`."""
        found = await self._others(case, past)
        offer = found[min(len(found) - 1, int(self._policy.draw() * len(found)))]
        return await look_of_worker(self._ask, offer, case, timeout_s=self._policy.timeout_s)

    async def _others(self, case: AuditCase, past: Sequence[Look]) -> list[WorkerOffer]:
        listed = await self._offers(bytes(case.subject.model_id))
        used = {look.verifier for look in past}
        owners = {case.owner} | {offer.worker.owner for offer in listed if _name(offer) in used}
        found = [
            offer
            for offer in listed
            if offer.endpoint is not None
            and offer.address != case.subject.worker
            and offer.worker.owner not in owners
        ]
        if not found:
            raise UncheckableError(
                "the result cannot be checked",
                why=f"no {'further ' if past else ''}worker of another owner serves {case.subject.model}",
                hint="Name a verifier endpoint of your own",
            )
        return found

    async def close(self) -> None:
        """See `Lookers.close`."""


def most_of_look(case: AuditCase, offer: WorkerOffer) -> Nano:
    """Return what one worker may ask at most for recomputing a case, in nanoTON.

    The prompt is bounded by its bytes: who cut it short may have counted it short.
    """
    choices = 1 if case.commitment is None else len(case.commitment.choices)
    output = 0 if case.commitment is None else case.commitment.output_tokens
    prompt = max(case.usage.input_tokens, case.body_bytes // _PROMPT_BYTES_PER_TOKEN + _TEMPLATE_TOKENS)
    return Nano(Tariff(offer.terms).price((1 + choices) * prompt + output, 0, 1 + choices))


async def look_of_worker(ask: Asker, offer: WorkerOffer, case: AuditCase, *, timeout_s: float) -> Look:
    """Have one worker recompute a case, paid. Raises `UncheckableError` with what it cost."""
    commitment = case.commitment
    assert commitment is not None
    longest = max(len(choice.tokens) for choice in commitment.choices)
    prompt = max(commitment.prompt_tokens, case.body_bytes // _PROMPT_BYTES_PER_TOKEN)
    top = top_that_fits(max(1, prompt + longest))
    if top < 1:
        raise UncheckableError(
            "the result cannot be checked",
            why=f"{prompt + longest} tokens are too many for one answer of a worker",
            hint="Name a verifier endpoint of your own",
            cost=_NOTHING,
        )
    endpoint = WorkerEndpoint(ask, offer, most=most_of_look(case, offer), timeout_s=timeout_s)
    try:
        found = await _examined(Verifier.over(endpoint, offer.offer.model, top=top), case)
    except CocoonError as error:
        raise UncheckableError("the result cannot be checked", why=str(error), cost=endpoint.cost) from None
    return Look(_name(offer), () if found is None else (found,), endpoint.cost)


async def _examined(verifier: Verifier, case: AuditCase) -> Rescoring | None:
    assert case.commitment is not None
    try:
        return await verifier.examine(case.kind, case.body, case.commitment)
    except UnknownTokenError:
        return None


def _name(offer: WorkerOffer) -> str:
    return f"worker {offer.address.to_str()}"


def judged(case: AuditCase, look: Look, thresholds: Thresholds | None) -> Findings:
    """Return the findings of one look at a case. Raises `CocoonError` where nothing can be judged."""
    return check(question_of(case), case.response, case.commitment, look.rescorings, thresholds)


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


def says_something(response: Mapping[str, Any]) -> bool:
    """Tell whether a response shows anything at all beside empty choices."""
    choices = response.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        shown = message if isinstance(message, dict) else choice
        if not isinstance(shown, dict) or any(shown.get(name) for name in _SHOWN):
            return True
    return False


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
        self._limits(case)
        return _NOTHING if case.commitment is None else await self._lookers.most_cost(case)

    async def examine(self, case: AuditCase) -> Examined:
        """See `Examiner.examine`."""
        thresholds = self._limits(case)
        if (at_once := judged_at_once(case, thresholds)) is not None:
            return told(at_once)
        looks: list[Look] = []
        best: Findings | None = None
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
            best = found if best is None or found.level < best.level else best
        assert best is not None
        cost = Nano(sum(int(look.cost) for look in looks))
        if best.limits is None and best.level < Level.REFUND:
            why = f"there are no thresholds for {best.kind} answers of {case.subject.model}"
            raise UncheckableError("the result cannot be checked", why=why, cost=cost)
        return told(best, looks, cost)

    def judge(self, state: dict[str, Any], case: AuditCase, examined: Examined) -> Judgement:
        """See `Examiner.judge`: a failed result alone is over the line, and so is too much in too many."""
        return judgement(state, case.subject, examined, dispute=self._policy.dispute)

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
    wanted = failed and dispute and subject.what is Audited.JOB
    return Judgement(score.to_json(), leave, DisputeStep.WANTED if wanted else DisputeStep.NONE)


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
