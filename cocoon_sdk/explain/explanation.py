"""Answers to "what happened and why": facts in sections, as sentences, rich text or JSON.

Owns putting reports together and showing them; both forms come from the same facts. Must not know adapters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytoniq_core import Address
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.explain import other_words  # noqa: F401 - registers its sentences
from cocoon_sdk.explain.account import account_facts
from cocoon_sdk.explain.facts import Fact, Party, Role, to_plain
from cocoon_sdk.explain.findings import Inquiry
from cocoon_sdk.explain.job import Asker, believed, job_report
from cocoon_sdk.explain.session import SessionReport, session_report
from cocoon_sdk.explain.target import AccountTarget, JobTarget, Target
from cocoon_sdk.explain.times import utc, when
from cocoon_sdk.explain.transaction import find_among, find_transaction, transaction_facts
from cocoon_sdk.explain.words import Sentence, Speaker, Tone, say, short

_AMOUNT: Final = re.compile(r"-?\d+(\.\d+)? TON\b")
_COMMAND: Final = re.compile(r"\[cocoon [^\]]+\]")
_STYLES: Final = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.BAD: "yellow", Tone.QUIET: "dim"}


@dataclass(frozen=True, slots=True)
class Section:
    """Facts under one heading."""

    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to say about `subject` at the chain's time `now` (unix seconds)."""

    kind: str
    subject: str
    now: int
    sections: tuple[Section, ...]
    names: tuple[tuple[Address, str], ...] = ()

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All facts, in order."""
        return tuple(fact for section in self.sections for fact in section.facts)

    def speaker(self) -> Speaker:
        """Return what the sentences need: names of accounts and the time."""
        known = {address.hash_part: name for address, name in self.names}
        return Speaker(lambda address: known.get(address.hash_part) or short(address), self.now)

    def sentences(self) -> tuple[tuple[Fact, Sentence], ...]:
        """Return every fact in words."""
        speaker = self.speaker()
        return tuple((fact, say(fact, speaker)) for fact in self.facts)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; every fact has its `kind`, its data and its `text`."""
        speaker = self.speaker()
        return {
            "kind": self.kind,
            "subject": self.subject,
            "now": self.now,
            "sections": [
                {
                    "title": section.title,
                    "facts": [{**to_plain(fact), "text": say(fact, speaker).text} for fact in section.facts],
                }
                for section in self.sections
            ],
        }

    def __str__(self) -> str:
        speaker, lines = self.speaker(), [f"{self.kind} {self.subject}"]
        for section in self.sections:
            lines += ["", section.title]
            lines += [f"  {_moment(fact, self.now)}{say(fact, speaker).text}" for fact in section.facts]
        return "\n".join(lines)

    def __rich__(self) -> RenderableType:
        speaker = self.speaker()
        parts: list[RenderableType] = [Text.assemble((f"{self.kind} ", "bold"), self.subject)]
        for section in self.sections:
            parts += [Text(), Text(section.title, style="bold")]
            for fact in section.facts:
                line = Text(_moment(fact, self.now), style="dim")
                line.append_text(styled(say(fact, speaker)))
                parts.append(Padding.indent(line, 2))
        return Group(*parts)


def styled(sentence: Sentence) -> Text:
    """Give a sentence its colours; addresses and commands are never read as markup."""
    text = Text(sentence.text, style=_STYLES[sentence.tone])
    text.highlight_regex(_AMOUNT, "bold")
    text.highlight_regex(_COMMAND, "cyan")
    return text


def _moment(fact: Fact, now: int) -> str:
    return "" if fact.at is None else f"{when(fact.at, now)}: "


async def explain(
    chain: Chain,
    target: Target,
    *,
    network: Network | None = None,
    ask: Asker | None = None,
    inquire: Inquiry | None = None,
    known: Sequence[Address] = (),
) -> Explanation:
    """Explain a job or session, a transaction or an account.

    `network` is the registry that is trusted, `ask` asks a worker's endpoint, `inquire` whoever checked the
    work, `known` are the accounts in
    which a transaction is looked for that is named by its hash alone. Raises `NotAnEscrowError`,
    `ForgedAccountError`, `HistoryNotFoundError`, and what the `Chain` raises.
    """
    now = (await chain.head()).now
    if isinstance(target, JobTarget):
        return await _job(chain, target, now, network, ask, inquire)
    if isinstance(target, AccountTarget):
        facts = await account_facts(chain, target.address, network)
        sections = [Section("What it is", facts[:1])]
        if facts[1:]:
            sections.append(Section("How it stands", facts[1:]))
        return Explanation("Account", target.address.to_str(), now, tuple(sections))
    if target.address is not None:
        found = await find_transaction(chain, target.address, lt=target.lt, tx_hash=target.hash)
    else:
        found = await find_among(chain, known, target.hash or b"")
    facts = await transaction_facts(chain, found, network)
    subject = f"{found.address.to_str()}@{found.lt}"
    return Explanation("Transaction", subject, now, (Section(utc(found.now), facts),))


async def _job(
    chain: Chain,
    target: JobTarget,
    now: int,
    network: Network | None,
    ask: Asker | None,
    inquire: Inquiry | None,
) -> Explanation:
    found = await believed(chain, target.escrow, network)
    session = await session_report(chain, found, target.job_id, now, inquire=inquire)
    if session is not None:
        return _session(session, target, now)
    report = await job_report(chain, target.escrow, target.job_id, network=network, ask=ask, inquire=inquire)
    sections = (
        Section("Who", report.parties),
        Section("What happened", report.events),
        Section("What was found", report.found),
        Section("Now", report.now),
        Section("What can happen next", report.next),
        Section("Money", report.totals),
    )
    subject = f"{target.escrow.to_str()}/{target.job_id}"
    shown = tuple(section for section in sections if section.facts)
    return Explanation("Job", subject, now, shown, tuple(_names(report.parties)))


def _session(report: SessionReport, target: JobTarget, now: int) -> Explanation:
    sections = (
        Section("Who", report.parties),
        Section("What happened", report.events),
        Section("What was found", report.found),
        Section("Now", report.now),
        Section("What can happen next", report.next),
    )
    subject = f"{target.escrow.to_str()}/{target.job_id}"
    shown = tuple(section for section in sections if section.facts)
    return Explanation("Session", subject, now, shown, tuple(_names(report.parties)))


def _names(parties: Sequence[Fact]) -> list[tuple[Address, str]]:
    """Name the parties of a job; several workers keep their addresses beside the word."""
    workers = [fact.address for fact in parties if isinstance(fact, Party) and fact.role is Role.WORKER]
    names = [
        (fact.address, f"the {fact.role}")
        for fact in parties
        if isinstance(fact, Party) and fact.role is not Role.WORKER
    ]
    if len(workers) == 1:
        return [*names, (workers[0], "the worker")]
    return [*names, *((address, f"worker {short(address)}") for address in workers)]
