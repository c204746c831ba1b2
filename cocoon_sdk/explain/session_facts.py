"""What can be said about a session: typed facts, and their wording.

Owns both, since there are few. Must not know chains. Amounts are nanoTON, times unix seconds. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytoniq_core import Address

from cocoon_sdk.explain.facts import Fact
from cocoon_sdk.explain.times import when
from cocoon_sdk.explain.words import Sentence, Speaker, Tone, register
from cocoon_sdk.types import Hash, Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(Fact):
    """The client reserved a deposit for one worker."""

    worker: Address
    deposit: Nano
    expiry: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionToppedUp(Fact):
    """The client added to the deposit."""

    amount: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionGuarded(Fact):
    """The worker locked collateral, or tried to: then it is free again."""

    worker: Address
    collateral: Nano
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRedeemed(Fact):
    """A voucher was redeemed; `closed` when the worker ended the session with it."""

    amount: Nano
    fee: Nano
    by: Address | None
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed(Fact):
    """The client asked for the end; the worker has time to redeem."""

    by_owner: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLeft(Fact):
    """The worker asked for the end of a guarded session; the client has time to dispute."""

    amount: Nano
    fee: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDisputed(Fact):
    """The client disputes what was done; arbiters judge the collateral."""

    by_owner: bool
    evidence: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionJudged(Fact):
    """The arbiters' verdict."""

    slashed: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettled(Fact):
    """The client has the rest back."""

    by: Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPaymentReturned(Fact):
    """A payment bounced, or one that had was sent again."""

    amount: Nano
    delivered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStands(Fact):
    """Where it stands; amounts are those of the escrow's entry, zero when it has ended."""

    state: str
    deposit: Nano
    redeemed: Nano
    collateral: Nano
    ended: bool


@register
def _(fact: SessionOpened, s: Speaker) -> Sentence:
    text = f"Reserved {fact.deposit} for {s.name(fact.worker)} in a session until "
    return Sentence(text + f"{when(fact.expiry, s.now)}. Vouchers off chain say how much of it is earned.")


@register
def _(fact: SessionToppedUp, s: Speaker) -> Sentence:
    return Sentence(f"The client added {fact.amount} to the deposit.")


@register
def _(fact: SessionGuarded, s: Speaker) -> Sentence:
    if fact.refused:
        text = f"{s.name(fact.worker)} wanted to guard the session with {fact.collateral}, "
        return Sentence(text + "which did not fit: it is free again.", Tone.BAD)
    return Sentence(f"{s.name(fact.worker)} guards the session with {fact.collateral} of its stake.")


@register
def _(fact: SessionRedeemed, s: Speaker) -> Sentence:
    parts = f"{fact.amount - fact.fee} for the worker and {fact.fee} protocol fee"
    if fact.closed:
        paid = f"Paid {fact.amount} ({parts}). " if fact.amount else ""
        return Sentence(f"{paid}The worker ended the session; the rest is the client's again.", Tone.GOOD)
    who = "somebody" if fact.by is None else s.name(fact.by)
    return Sentence(f"A voucher redeemed by {who} paid {fact.amount}: {parts}.", Tone.GOOD)


@register
def _(fact: SessionClosed, s: Speaker) -> Sentence:
    who = "The owner" if fact.by_owner else "The client"
    return Sentence(f"{who} is closing the session; the worker has time to redeem its last voucher.")


@register
def _(fact: SessionLeft, s: Speaker) -> Sentence:
    paid = f"Paid {fact.amount}, of which {fact.fee} protocol fee. " if fact.amount else ""
    text = "The worker is ending the session; its collateral stays until the client had time to dispute."
    return Sentence(paid + text)


@register
def _(fact: SessionDisputed, s: Speaker) -> Sentence:
    who = "The owner" if fact.by_owner else "The client"
    text = f"{who} disputes what was done in the session, by receipts with hash {fact.evidence.hex()}."
    return Sentence(text, Tone.BAD)


@register
def _(fact: SessionJudged, s: Speaker) -> Sentence:
    if fact.slashed:
        return Sentence(f"The arbiters took {fact.slashed} of the worker's stake.", Tone.BAD)
    return Sentence("The arbiters found for the worker: its collateral is free.", Tone.GOOD)


@register
def _(fact: SessionSettled, s: Speaker) -> Sentence:
    return Sentence("The session was settled; what was not redeemed is the client's again.", Tone.GOOD)


@register
def _(fact: SessionPaymentReturned, s: Speaker) -> Sentence:
    if fact.delivered:
        return Sentence("A payment that had come back was sent again.")
    text = f"A payment of {fact.amount} came back: the worker's account did not take it. It is still owed."
    return Sentence(text, Tone.BAD)


@register
def _(fact: SessionStands, s: Speaker) -> Sentence:
    if fact.ended:
        return Sentence("The session has ended; nothing is set aside for it any more.", Tone.GOOD)
    text = f"The session is {fact.state}: {fact.redeemed} of {fact.deposit} are redeemed."
    if fact.collateral:
        text += f" {fact.collateral} of the worker's stake back it."
    return Sentence(text)
