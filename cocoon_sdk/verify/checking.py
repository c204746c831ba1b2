"""The verdict on one answer: structure first, then statistics, then what they come to.

Owns the order and the findings. Pure; must not know where question, answer or log-probabilities come from,
nor what follows: who gets which money is the contract's and the arbiters' business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.verify.choices import structure
from cocoon_sdk.verify.commitment import Commitment, prompt_hash
from cocoon_sdk.verify.noise import choice_seed
from cocoon_sdk.verify.rescoring import Rescoring
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.statistics import Numbers, Replayed, TokenEvidence, evidence, numbers
from cocoon_sdk.verify.structure import Fault, FaultKind, Level, Question, form_faults
from cocoon_sdk.verify.thresholds import KindThresholds, SamplingKind, Thresholds

_WORDS = {
    "lp_mean": "log-probabilities are off by {value:.4f} nat per token, {limit:.4f} would be honest",
    "lp_max": "a token's log-probability is off by {value:.3f} nat, {limit:.3f} would be honest",
    "tok_mean": "tokens are {value:.4f} nat from the replayed choice on average, {limit:.4f} would be honest",
    "tok_max": "a token is {value:.3f} nat from the replayed choice, {limit:.3f} would be honest",
}

_OTHER = {SamplingKind.GREEDY: SamplingKind.SAMPLED, SamplingKind.SAMPLED: SamplingKind.GREEDY}


class NotCheckableError(CocoonError):
    """Nothing was promised that could be checked; this says nothing about the worker."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the check of one answer came to.

    `level` is the gravest of `faults` and statistics, `reasons` say why in words, gravest first. `numbers`
    are None when the answer could not be re-scored. `unreplayable` says why TOK was not looked at, `unclear`
    why the text that is shown could not be compared with its tokens: neither accuses anybody. `limits` are
    None where the model has no thresholds for this `kind` of sampling: then only structure was judged.
    """

    level: Level
    reasons: tuple[str, ...]
    faults: tuple[Fault, ...]
    kind: SamplingKind
    numbers: Numbers | None
    tokens: tuple[TokenEvidence, ...]
    limits: KindThresholds | None
    unreplayable: str = ""
    unclear: str = ""
    prompt: bytes = b""
    """The hash of the prompt's tokens as they were re-scored: two answers to one prompt have the same."""
    others: KindThresholds | None = None
    """The limits of the other kind of sampling; None where there are none, or nothing was re-scored."""

    @property
    def outsized(self) -> bool:
        """Whether there is more in the commitment than was asked for: then it was not re-scored."""
        return any(fault.outsized for fault in self.faults)

    def to_json(self, *, with_tokens: bool = True) -> dict[str, Any]:
        """Return the findings as a JSON value; numbers in nat."""
        return {
            "level": self.level.word,
            "reasons": list(self.reasons),
            "faults": [
                {"kind": fault.kind.value, "level": fault.level.word, "why": fault.why}
                for fault in self.faults
            ],
            "sampling": self.kind.value,
            "unreplayable": self.unreplayable,
            "unclear": self.unclear,
            "numbers": None if self.numbers is None else dict(self.numbers.items()),
            "false_alarm_bound": None if self.limits is None else self.limits.false_alarm_bound,
            "tokens": [token.to_json() for token in self.tokens] if with_tokens else len(self.tokens),
        }


def check(
    question: Question,
    response: Mapping[str, Any],
    commitment: Commitment | None,
    rescorings: Sequence[Rescoring],
    thresholds: Thresholds | None,
) -> Findings:
    """Judge one answer.

    `rescorings` are one or more by `Verifier.examine`; of several (in different batches) each token's mildest
    counts. They may be empty when there is no commitment, or none of its tokens exists: `foreign_tokens`.
    Raises `NotCheckableError` where the terms promise no commitment and there is none, `MalformedError` for a
    request that no engine would have taken.
    """
    expected = question.how
    kind = SamplingKind.GREEDY if expected.greedy else SamplingKind.SAMPLED
    limits = None if thresholds is None else thresholds.kind(kind)
    if commitment is None:
        if question.sampling is SamplingClass.UNVERIFIED:
            raise NotCheckableError("the answer cannot be checked", why="its terms promise no commitment")
        fault = Fault(FaultKind.NO_COMMITMENT, Level.SLASH, "the terms promise one")
        return Findings(fault.level, (str(fault),), (fault,), kind, None, (), limits)
    if not rescorings:
        foreign = Fault(FaultKind.TOKENS, Level.SLASH, "the model has no such tokens")
        return _of_faults([foreign, *form_faults(question, response, commitment)], kind, limits)
    form = structure(question, response, commitment, rescorings[0])
    why_not = unreplayable(question, expected)
    tokens: list[TokenEvidence] = []
    for index, choice in enumerate(commitment.choices):
        replayed = None
        if not why_not:
            # Seed and parameters are the question's: what the worker says about them is no evidence.
            seed = choice_seed(question.seed, index)
            replayed = Replayed(expected, seed, np.array(rescorings[0].prompt, np.int64))
        seen = [each.choices[index] for each in rescorings]
        if thresholds is not None:
            seen = [each.within(expected.candidates(thresholds.top)) for each in seen]
        tokens += evidence(index, choice, seen, replayed)
    result = numbers(tokens)
    reasons = [(fault.level, str(fault)) for fault in form.faults]
    if limits is not None:
        reasons += _exceeded(result, limits)
    reasons.sort(key=lambda reason: -reason[0])
    return Findings(
        level=max((level for level, _ in reasons), default=Level.HONEST),
        reasons=tuple(text for _, text in reasons),
        faults=form.faults,
        kind=kind,
        numbers=result,
        tokens=tuple(tokens),
        limits=limits,
        unreplayable=why_not,
        unclear=form.unclear,
        prompt=prompt_hash(rescorings[0].prompt),
        others=None if thresholds is None else thresholds.kind(_OTHER[kind]),
    )


def check_form(
    question: Question,
    response: Mapping[str, Any],
    commitment: Commitment | None,
    thresholds: Thresholds | None,
) -> Findings | None:
    """Judge what needs no re-scoring: ask this first. None unless it takes the reward by itself.

    So a commitment that no engine can re-score (too many tokens, too many choices) is a fault like any other.
    Raises what `check` raises.
    """
    if commitment is None:
        return check(question, response, None, (), thresholds)
    found = form_faults(question, response, commitment)
    if max((fault.level for fault in found), default=Level.HONEST) < Level.REFUND:
        return None
    kind = SamplingKind.GREEDY if question.how.greedy else SamplingKind.SAMPLED
    return _of_faults(found, kind, None if thresholds is None else thresholds.kind(kind))


def check_prompt(
    question: Question,
    response: Mapping[str, Any],
    commitment: Commitment,
    prompt: tuple[int, ...],
    thresholds: Thresholds | None,
) -> Findings | None:
    """Judge by the question's tokens what needs no re-scoring; None when they are those committed to.

    A worker that counts its input long cannot make its answer too large or too dear to be looked at: ask this
    before a re-scoring that is paid for. Raises what `check` raises.
    """
    if commitment.prompt_tokens == len(prompt) and commitment.prompt_hash == prompt_hash(prompt):
        return None
    unknown = (None,) * len(commitment.choices)
    form = structure(question, response, commitment, Rescoring(prompt, (), unknown, unknown))
    kind = SamplingKind.GREEDY if question.how.greedy else SamplingKind.SAMPLED
    return _of_faults(form.faults, kind, None if thresholds is None else thresholds.kind(kind))


def _of_faults(found: Sequence[Fault], kind: SamplingKind, limits: KindThresholds | None) -> Findings:
    worst_first = sorted(found, key=lambda fault: -fault.level)
    reasons = tuple(str(fault) for fault in worst_first)
    return Findings(worst_first[0].level, reasons, tuple(found), kind, None, (), limits)


def unreplayable(question: Question, sampling: Sampling) -> str:
    """Return why the choices of this answer cannot be replayed, empty when they can."""
    if question.sampling is SamplingClass.UNVERIFIED:
        return "its terms leave the choice of tokens to the engine"
    if question.sampling is SamplingClass.GREEDY and not sampling.greedy:
        return "its terms promise the choice at temperature 0 only"
    return Sampling.replayable(question.body) or ""


def _exceeded(result: Numbers, limits: KindThresholds) -> list[tuple[Level, str]]:
    reasons = []
    for name, value in result.items():
        passed = [
            level
            for level in (Level.SUSPECT, Level.REFUND, Level.SLASH)
            if name in limits.exceeded(result, level.word)
        ]
        if passed:
            limit = limits.limits(name).suspect / 1_000_000
            reasons.append((passed[-1], _WORDS[name].format(value=value, limit=limit)))
    return reasons
