"""Facts about transactions, accounts and totals as sentences.

Owns their wording; see `words` for that of jobs. Pure.
"""

from __future__ import annotations

from typing import Any

from pytoniq_core import Address

from cocoon_sdk.explain.facts import (
    AccountKindName,
    AccountSeen,
    ActionSeen,
    ChildSeen,
    ExternalSeen,
    MessageSeen,
    Outcome,
    Party,
    Property,
    Standing,
    TransactionSeen,
)
from cocoon_sdk.explain.job_facts import JobTotals
from cocoon_sdk.explain.times import when
from cocoon_sdk.explain.words import Sentence, Speaker, Tone, code_in_words, register


@register
def _(fact: Party, s: Speaker) -> Sentence:
    return Sentence(f"{fact.role}: {fact.address.to_str()}", Tone.QUIET)


@register
def _(fact: JobTotals, s: Speaker) -> Sentence:
    parts = [f"{fact.to_worker} to the worker", f"{fact.protocol_fee} protocol fee"]
    if fact.to_arbiters:
        parts.append(f"{fact.to_arbiters} to arbiters")
    if fact.slashed:
        parts.append(f"{fact.slashed} slashed, of it {fact.burned} burned")
    parts.append(f"{fact.client_network_fees} network fees at the escrow")
    parts.append(f"{fact.worker_network_fees} network fees at workers")
    text = "So far: " + "; ".join(parts) + "."
    if fact.shared:
        text += " Some transactions also served other jobs; their fees are counted in full."
    return Sentence(text)


# -- transactions ----------------------------------------------------------------------------------------


@register
def _(fact: TransactionSeen, s: Speaker) -> Sentence:
    account = f"{fact.address.to_str()} ({fact.account_kind})"
    return Sentence(f"Transaction of {account} at lt {fact.lt}, hash {fact.hash.hex()}.")


@register
def _(fact: MessageSeen, s: Speaker) -> Sentence:
    name = fact.name or (f"operation {fact.op:#010x}" if fact.op is not None else "a plain transfer")
    if fact.external:
        return Sentence("Received a signed external message." if fact.incoming else "Logged an event.")
    if fact.bounced:
        name = f"a bounced {name}"
    sender = "nobody" if fact.src is None else s.name(fact.src)
    receiver = "nobody" if fact.dst is None else s.name(fact.dst)
    text = (
        f"Received {name} from {sender} with {fact.value}"
        if fact.incoming
        else f"Sent {name} to {receiver} with {fact.value} (forward fee {fact.forward_fee})"
    )
    return Sentence(f"{text}{_fields(fact.fields, s)}.")


@register
def _(fact: ExternalSeen, s: Speaker) -> Sentence:
    actions = "1 action" if fact.actions == 1 else f"{fact.actions} actions"
    text = f"It carries {actions}, number {fact.seqno}, valid until {when(fact.valid_until, s.now)}"
    bound = "" if fact.max_spend is None else f", which together may spend at most {fact.max_spend}"
    return Sentence(f"{text}{bound}.")


@register
def _(fact: ActionSeen, s: Speaker) -> Sentence:
    text = f"Action {fact.position}, {fact.name}{_fields(fact.fields, s)}: "
    if fact.exit_code is None:
        return Sentence(text + "done.", Tone.GOOD)
    named = code_in_words(fact.exit_code, fact.code_name, fact.why, fact.hint)
    return Sentence(f"{text}skipped. {named}", Tone.BAD)


@register
def _(fact: Outcome, s: Speaker) -> Sentence:
    cost = f"{fact.gas_used} gas, {fact.fees} in fees and {fact.forward_fees} in forward fees"
    if fact.success:
        return Sentence(f"It succeeded: {cost}.", Tone.GOOD)
    if fact.exit_code is None:
        return Sentence(f"No code ran: {cost}.", Tone.BAD)
    code = fact.exit_code if fact.exit_code not in (0, 1) else (fact.action_code or 0)
    phase = "" if fact.exit_code not in (0, 1) else "in its action phase "
    named = code_in_words(code, fact.name, fact.why, fact.hint)
    return Sentence(f"It failed {phase}({cost}). {named}", Tone.BAD)


@register
def _(fact: ChildSeen, s: Speaker) -> Sentence:
    what = fact.name or "the transfer"
    if fact.child is None:
        text = f"{what} to {s.name(fact.to)} has not arrived yet, or its transaction is out of reach."
        return Sentence(text, Tone.QUIET)
    if fact.success:
        end = "which succeeded"
    elif fact.exit_code is None:
        end = "where no code ran"
    else:
        end = f"which failed with {fact.code_name or 'exit code'} {fact.exit_code}"
    text = f"{what} caused transaction {fact.child}, {end} and cost {fact.fees}."
    return Sentence(text, Tone.PLAIN if fact.success else Tone.BAD)


# -- accounts --------------------------------------------------------------------------------------------


@register
def _(fact: AccountSeen, s: Speaker) -> Sentence:
    head = f"{fact.address.to_str()}: {fact.what}"
    if fact.detail:
        head += f" {fact.detail}"
    money = f"It holds {fact.balance}."
    if fact.what is AccountKindName.NOTHING:
        return Sentence(f"{head} ({fact.status}). {money}")
    if fact.what is AccountKindName.WALLET:
        return Sentence(f"{head}. {money}")
    bad = (Standing.FORGED, Standing.IMITATION, Standing.OTHER_NETWORK)
    tone = Tone.BAD if fact.standing in bad else Tone.GOOD
    if fact.standing is Standing.NOT_OURS:
        tone = Tone.PLAIN
    return Sentence(f"{head}, {fact.standing.value}. {money}", tone)


@register
def _(fact: Property, s: Speaker) -> Sentence:
    value = fact.value
    is_moment = fact.is_time and isinstance(value, int)
    text = when(int(value), s.now) if is_moment else _value(value, s, full=True)
    note = f" ({fact.note})" if fact.note else ""
    return Sentence(f"{fact.name}: {text}{note}")


def _value(value: Any, s: Speaker, *, full: bool = False) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case Address():
            return value.to_str() if full else s.name(value)
        case bytes():
            return value.hex()
        case dict():
            return "{" + ", ".join(f"{key} {_value(item, s)}" for key, item in value.items()) + "}"
    return str(value)


def _fields(fields: dict[str, Any], s: Speaker) -> str:
    if not fields:
        return ""
    return " (" + ", ".join(f"{key} {_value(item, s)}" for key, item in fields.items()) + ")"
