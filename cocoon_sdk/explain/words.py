"""Facts about jobs as sentences.

Owns the wording: short, exact, amounts in TON to the nanoTON, times in UTC and relative to the chain's time.
Must not know chains, nor how sentences are shown. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import singledispatch
from typing import TypeAlias

from pytoniq_core import Address

from cocoon_sdk.explain.facts import Fact, Role
from cocoon_sdk.explain.job_facts import (
    ActionSkipped,
    ArbiterPaid,
    CanDo,
    HistoryCutOff,
    JobCancelled,
    JobClaimed,
    JobDisputed,
    JobOpened,
    JobReclaimed,
    JobStatus,
    MessageRefused,
    NobodyThere,
    NoticeReturned,
    OutcomeKind,
    OutcomeRedelivered,
    OutcomeUndelivered,
    OutcomeWaiting,
    PayloadPlace,
    ResultSubmitted,
    SlashArrived,
    StandsNow,
    VerdictExecuted,
    WorkerAnswer,
    WorkerPaid,
    WorkerSays,
    WorkerSlashed,
    WorkRefused,
)
from cocoon_sdk.explain.times import relative, span, utc, when


class Tone(Enum):
    """How a sentence is meant."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One fact in words."""

    text: str
    tone: Tone = Tone.PLAIN


Namer: TypeAlias = Callable[[Address], str]
"""Gives an account its short name in sentences."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """What sentences depend on besides the fact: names of accounts, and the chain's time."""

    name: Namer
    now: int

    def account(self, address: Address | None) -> str:
        """Name an account; None stands for whoever holds the key."""
        return "the client" if address is None else self.name(address)


def short(address: Address) -> str:
    """Shorten an address: its first and last characters."""
    text: str = address.to_str()
    return f"{text[:6]}..{text[-4:]}"


def say(fact: Fact, speaker: Speaker) -> Sentence:
    """Put a fact into words."""
    said = _say(fact, speaker)
    return Sentence(said.text[:1].upper() + said.text[1:], said.tone)


@singledispatch
def _say(fact: Fact, speaker: Speaker) -> Sentence:
    raise TypeError(f"there are no words for {type(fact).__name__}")


register = _say.register
"""Lets `other_words` add the wording of transactions and accounts."""


@register
def _(fact: JobOpened, s: Speaker) -> Sentence:
    whom = "for any worker, announced on the market," if fact.worker is None else f"for {s.name(fact.worker)}"
    items = f"{fact.items} items" if fact.items != 1 else "1 item"
    text = f"Opened {whom} for at most {fact.price} ({items} of model {fact.model_id.hex()[:16]}..). "
    until = when(fact.claim_by, s.now)
    if fact.worker is None:
        text += f"It can be claimed until {until}; whoever claims has {span(fact.work_period_s)} to work. "
    else:
        text += f"The worker was asked to answer until {until}. "
    text += f"{_PAYLOADS[fact.payload]}. "
    if fact.window_s:
        text += f"After a submission the client has {span(fact.window_s)} to dispute; {fact.bond} are set "
        text += f"aside for that, and the worker backs it with {fact.collateral}."
    else:
        text += "There is no dispute window: a submission is paid at once, without collateral."
    return Sentence(text)


_PAYLOADS = {
    PayloadPlace.INLINE: "The payload travelled inside the client's own message",
    PayloadPlace.BY_REFERENCE: "The payload lies at a URL that the client's message names",
    PayloadPlace.NOT_ON_CHAIN: "The payload was not put on chain",
    PayloadPlace.UNREADABLE: "What the client's message carries as payload cannot be read",
}


@register
def _(fact: NoticeReturned, s: Speaker) -> Sentence:
    text = f"The notice ({fact.notice}) to {s.name(fact.to)} came back: no account there takes it."
    return Sentence(text, Tone.BAD)


@register
def _(fact: NobodyThere, s: Speaker) -> Sentence:
    return Sentence(f"{s.name(fact.worker)} has no active account: nobody can answer this job.", Tone.BAD)


@register
def _(fact: JobClaimed, s: Speaker) -> Sentence:
    until = when(fact.submit_by, s.now)
    return Sentence(
        f"{s.name(fact.worker)} claimed the job with a bond of {fact.bond}, to submit until {until}."
    )


@register
def _(fact: WorkRefused, s: Speaker) -> Sentence:
    asked = "" if fact.amount is None else f" for {fact.amount}"
    text = f"The {fact.work} of {s.name(fact.worker)}{asked} was refused: {fact.reason.value}."
    if fact.freed:
        text += f" The {fact.freed} that it had locked for this are free again."
    if fact.returned:
        text += f" Its value went back to it, {fact.returned} after fees."
    return Sentence(text, Tone.BAD)


@register
def _(fact: ResultSubmitted, s: Speaker) -> Sentence:
    text = (
        f"{s.name(fact.worker)} submitted result {fact.result_hash.hex()[:16]}.. and asks for {fact.amount}"
    )
    if fact.at is not None and fact.window_end > fact.at:
        text += f"; the client may dispute it until {when(fact.window_end, s.now)}"
    return Sentence(text + ".")


@register
def _(fact: WorkerPaid, s: Speaker) -> Sentence:
    rest = fact.price - fact.amount
    text = f"Paid {fact.amount} to {s.name(fact.worker)}: {fact.amount - fact.fee} for the worker and "
    text += f"{fact.fee} protocol fee. Reason: {fact.because.value}."
    if rest > 0:
        text += f" The rest of the maximum price, {rest}, is the client's again."
    return Sentence(text, Tone.GOOD)


@register
def _(fact: JobDisputed, s: Speaker) -> Sentence:
    text = f"The client disputed the result ({fact.amount} asked) with a bond of {fact.bond}. "
    text += f"Evidence is due until {when(fact.evidence_until, s.now)}, "
    text += f"a verdict before {when(fact.verdict_until, s.now)}."
    return Sentence(text, Tone.BAD)


@register
def _(fact: VerdictExecuted, s: Speaker) -> Sentence:
    text = f"{fact.signers} arbiters ruled: of the {fact.asked} asked, {s.name(fact.worker)} gets {fact.pay}"
    text += f" and loses {fact.slash} of its stake." if fact.slash else " and keeps its stake."
    if not fact.slash and 0 < fact.pay < fact.asked:
        text += " The arbiters' fee comes out of what it gets."
    return Sentence(text, Tone.BAD if fact.slash else Tone.PLAIN)


@register
def _(fact: ArbiterPaid, s: Speaker) -> Sentence:
    return Sentence(f"Arbiter {s.name(fact.arbiter)} was sent {fact.amount} for its signature.")


@register
def _(fact: WorkerSlashed, s: Speaker) -> Sentence:
    text = f"{s.name(fact.worker)} was ordered to pay {fact.amount} as slash: "
    text += f"{fact.back} to the client's escrow, {fact.burned} burned."
    return Sentence(text, Tone.BAD)


@register
def _(fact: SlashArrived, s: Speaker) -> Sentence:
    return Sentence(f"{fact.amount} of the slash of {s.name(fact.worker)} arrived in the escrow.", Tone.GOOD)


@register
def _(fact: JobCancelled, s: Speaker) -> Sentence:
    who = "The owner" if fact.by_owner else "The client"
    return Sentence(f"{who} cancelled the job; {fact.price} and all else that was set aside are free again.")


@register
def _(fact: JobReclaimed, s: Speaker) -> Sentence:
    late = s.name(fact.worker)
    who = s.account(fact.by)
    text = f"{who} took the job back because {late} was late; {fact.price} are the client's again. "
    text += f"Of the worker's bond {fact.back} went to the client, {fact.burned} were burned."
    return Sentence(text, Tone.BAD)


@register
def _(fact: OutcomeUndelivered, s: Speaker) -> Sentence:
    what = _outcome(fact.outcome, fact.amount)
    return Sentence(
        f"{what} for {s.name(fact.worker)} bounced. The escrow keeps it, to be sent again.", Tone.BAD
    )


@register
def _(fact: OutcomeRedelivered, s: Speaker) -> Sentence:
    by = "somebody" if fact.by is None else s.name(fact.by)
    to = "" if fact.worker is None else f" to {s.name(fact.worker)}"
    return Sentence(f"The undelivered {fact.outcome} was sent again{to}; {by} paid the gas.")


@register
def _(fact: OutcomeWaiting, s: Speaker) -> Sentence:
    what = _outcome(fact.outcome, fact.amount)
    if fact.sent:
        text = f"{what} for {s.name(fact.worker)} was sent again and has not come back: nothing is owed."
        return Sentence(text, Tone.QUIET)
    text = (
        f"{what} for {s.name(fact.worker)} waits to be delivered; anyone can pay the gas to send it again. "
    )
    text += f"From {when(fact.expires, s.now)} on it goes out without a way back."
    return Sentence(text, Tone.BAD)


def _outcome(kind: OutcomeKind, amount: int) -> str:
    return f"A {kind} of {amount}" if amount else f"A {kind}"


@register
def _(fact: ActionSkipped, s: Speaker) -> Sentence:
    who = "The client's" if fact.by is Role.CLIENT else f"The signed request of {s.name(fact.account)} to"
    action = f"{who} request to {fact.action}" if fact.by is Role.CLIENT else f"{who} {fact.action}"
    text = f"{action} was skipped: {code_in_words(fact.exit_code, fact.name, fact.why, fact.hint)}"
    return Sentence(text, Tone.BAD)


@register
def _(fact: MessageRefused, s: Speaker) -> Sentence:
    sender = "somebody" if fact.sender is None else s.name(fact.sender)
    what = fact.message or "message"
    text = (
        f"A {what} from {sender} was refused: {code_in_words(fact.exit_code, fact.name, fact.why, fact.hint)}"
    )
    return Sentence(text, Tone.BAD)


def code_in_words(code: int, name: str, why: str, hint: str) -> str:
    """Write an exit code: cause, name and number, and what to do."""
    text = f"{why} ({name} {code})." if name else f"{why}."
    return f"{text} {hint}." if hint else text


@register
def _(fact: WorkerSays, s: Speaker) -> Sentence:
    worker = s.name(fact.worker)
    text = f"{_ANSWERS[fact.answer].format(worker=worker)}"
    if fact.reason:
        text += f': "{fact.reason}"'
    tone = Tone.BAD if fact.answer is WorkerAnswer.REFUSED else Tone.QUIET
    return Sentence(f"{text}.", tone)


_ANSWERS = {
    WorkerAnswer.READY: "{worker} says that the result is ready to be fetched",
    WorkerAnswer.NOTHING_YET: "{worker} has nothing to hand over yet",
    WorkerAnswer.REFUSED: "{worker} refused the job before any work",
    WorkerAnswer.UNREACHABLE: "{worker} could not be asked",
}


@register
def _(fact: StandsNow, s: Speaker) -> Sentence:
    text = _STANDINGS[fact.status]
    if fact.held:
        text += f" The escrow holds {fact.held} for it."
    return Sentence(text, Tone.GOOD if fact.status is JobStatus.ENDED else Tone.PLAIN)


_STANDINGS = {
    JobStatus.UNKNOWN: "This escrow never opened a job with that id.",
    JobStatus.OPEN: "The job is open: no worker has answered on chain yet.",
    JobStatus.CLAIMED: "A worker has claimed the job and is expected to submit.",
    JobStatus.SUBMITTED: "A result is submitted and not paid yet.",
    JobStatus.DISPUTED: "The result is disputed and the arbiters have not ruled yet.",
    JobStatus.ENDED: "The job has ended; nothing is set aside for it any more.",
}


@register
def _(fact: CanDo, s: Speaker) -> Sentence:
    if fact.since is not None and fact.since > s.now:
        start = f"From {utc(fact.since)} ({relative(fact.since, s.now)})"
    elif fact.until is not None:
        start = f"Until {utc(fact.until)} ({relative(fact.until, s.now)})"
    else:
        start = "Now"
    text = f"{start} {fact.who} can {fact.what}."
    return Sentence(f"{text} [{fact.command}]" if fact.command else text)


@register
def _(fact: HistoryCutOff, s: Speaker) -> Sentence:
    text = f"The endpoint shows too little of the history of {s.name(fact.account)}: {fact.why}."
    return Sentence(text, Tone.BAD)
