"""What was found about work: by its client's own audit, and by the arbiters of a dispute.

Owns the facts, their sentences, and reading them out of arbiters' opinions. Must not know chains or how
arbiters are reached. It is what they say, never the chain's word. Numbers are millionths of a nat. Pure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.explain.facts import Fact
from cocoon_sdk.explain.words import Sentence, Speaker, Tone, register
from cocoon_sdk.protocol.disputes import Ground, Measured, Opinions, Vote
from cocoon_sdk.types import Hash, Nano

Inquiry: TypeAlias = Callable[[int, Hash | None], Awaitable[Sequence[Fact]]]
"""Asks whoever checked a job or session, by its number and the digest of the dispute about it, if any."""

_MILLION: Final = 1_000_000
_STATISTICS: Final = {
    "lp_mean": "log-probabilities are off by {} on average",
    "lp_max": "log-probabilities are off by up to {}",
    "tok_mean": "choices are off by {} on average",
    "tok_max": "choices are off by up to {}",
    "score": "the answers together speak against the worker with {}",
}
_AGAINST: Final = frozenset(
    {
        *(Ground.WORKER_SILENT, Ground.BAD_RESULT, Ground.OVERCHARGED, Ground.NO_COMMITMENT),
        *(Ground.REFUND, Ground.SLASH),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFound(Fact):
    """What the client's own check of a result came to. `numbers` are the statistics, in millionths."""

    subject: str
    outcome: str
    why: str
    verifier: str
    cost: Nano
    numbers: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbiterFound(Fact):
    """An arbiter's opened vote. `numbers` are its statistics, each with its two limits, in millionths."""

    arbiter: int
    ground: str
    pay: Nano
    slash: Nano
    late: bool
    numbers: dict[str, dict[str, int]]
    faults: tuple[str, ...]
    dishonest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbiterUnheard(Fact):
    """An arbiter that could not be asked, or that knows no opened vote."""

    where: str
    why: str


def votes_told(heard: Iterable[Opinions], keys: Collection[VerifyKey]) -> list[ArbiterFound]:
    """Return the votes that are signed with one of the `keys`, one fact for each arbiter, by its index.

    A vote counts when a commitment to it is signed. Two commitments of one arbiter show that it is dishonest.
    Which key has which index is not known here: a key that speaks for two, or an index with two, counts not.
    """
    votes: dict[int, Vote] = {}
    committed: dict[int, set[bytes]] = {}
    speaks: set[tuple[int, VerifyKey]] = set()
    for opinions in heard:
        for each in opinions.commitments:
            signers = [key for key in keys if each.is_of(key, opinions.dispute)]
            if signers:
                committed.setdefault(each.index, set()).add(each.vote)
                speaks |= {(each.index, key) for key in signers}
        for vote in opinions.votes:
            if vote.dispute == opinions.dispute:
                votes.setdefault(vote.index, vote)
    return [
        _told(vote, dishonest=len(committed[index]) > 1)
        for index, vote in sorted(votes.items())
        if vote.digest() in committed.get(index, ()) and _is_one_voice(index, speaks)
    ]


def _is_one_voice(index: int, speaks: set[tuple[int, VerifyKey]]) -> bool:
    keys = {key for other, key in speaks if other == index}
    return len([other for other, key in speaks if key in keys]) == 1


def _told(vote: Vote, *, dishonest: bool) -> ArbiterFound:
    measured = vote.measured or Measured()
    return ArbiterFound(
        arbiter=vote.index,
        ground=vote.ground.value,
        pay=Nano(vote.pay),
        slash=Nano(vote.slash),
        late=vote.late,
        numbers={
            each.name: {"value": each.value, "refund": each.refund, "slash": each.slash}
            for each in measured.measures
        },
        faults=measured.faults,
        dishonest=dishonest,
    )


# -- sentences -------------------------------------------------------------------------------------------


@register
def _(fact: AuditFound, s: Speaker) -> Sentence:
    text = f"The client's own check of {fact.subject}: {fact.outcome}"
    text += f" ({fact.why})" if fact.why else ""
    text += f", recomputed by {fact.verifier}" if fact.verifier else ""
    text += f" for {fact.cost}" if fact.cost else ""
    told = " nat" in fact.why  # with their limits
    shown = "" if told else "; ".join(_statistic(name, value) for name, value in fact.numbers.items())
    tone = Tone.GOOD if fact.outcome == "passed" else Tone.BAD if fact.outcome == "failed" else Tone.PLAIN
    return Sentence(f"{text}. {_capital(shown)}." if shown else f"{text}.", tone)


@register
def _(fact: ArbiterFound, s: Speaker) -> Sentence:
    text = f"Arbiter {fact.arbiter} found: {fact.ground}. It would pay {fact.pay} and slash {fact.slash}."
    reasons = list(fact.faults)
    for name, each in fact.numbers.items():
        limits = f"the reward goes beyond {_nat(each['refund'])}, collateral beyond {_nat(each['slash'])}"
        reasons.append(f"{_statistic(name, each['value'])} ({limits})")
    if reasons:
        text += f" {_capital('; '.join(reasons))}."
    if fact.late:
        text += " The worker showed its result only in the dispute, and so pays the arbiters."
    if fact.dishonest:
        return Sentence(text + " It committed to two different votes: neither counts.", Tone.BAD)
    return Sentence(text, Tone.BAD if Ground(fact.ground) in _AGAINST else Tone.GOOD)


@register
def _(fact: ArbiterUnheard, s: Speaker) -> Sentence:
    return Sentence(f"The arbiter at {fact.where} told no vote: {fact.why}.", Tone.QUIET)


def _statistic(name: str, value: int) -> str:
    return _STATISTICS.get(name, name + " is {}").format(_nat(value))


def _nat(millionths: int) -> str:
    return f"{millionths / _MILLION:.4g} nat"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
