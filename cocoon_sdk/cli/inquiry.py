"""Asking who checked a job's or session's work, for `cocoon explain`.

Owns where findings are looked for: the client's own audits, if its database is there, and the arbiters that
the settings name. Who cannot be asked is told of, and keeps nothing else from being explained.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cocoon_sdk.cli.session import Session
    from cocoon_sdk.client import AsyncCocoon
    from cocoon_sdk.explain import Inquiry
    from cocoon_sdk.explain.facts import Fact
    from cocoon_sdk.types import Hash

_TIMEOUT_S: Final = 5.0
_MOST_FINDINGS: Final = 10_000


def inquiry(session: Session) -> Inquiry:
    """Return what `explain` asks: own audits first, then the arbiters."""

    async def inquire(number: int, dispute: Hash | None) -> Sequence[Fact]:
        found: list[Fact] = []
        if await _has_database(session):  # looking does not make one
            found += await audits_found(await session.client(), number)
        if dispute is not None:
            found += await arbiters_found(session.settings.arbiters, dispute)
        return found

    return inquire


async def audits_found(client: AsyncCocoon, number: int) -> list[Fact]:
    """Return what the client's own audits of a job or session came to, oldest first."""
    from cocoon_sdk.explain.findings import AuditFound

    return [
        AuditFound(
            at=each.ended_at or each.started_at,
            subject=str(each.subject),
            outcome=str(each.outcome),
            why=each.why,
            verifier=each.verifier,
            cost=each.cost,
            numbers={name: round(value * 1_000_000) for name, value in each.numbers.items()},
        )
        for each in reversed(await client.audits.list(most=_MOST_FINDINGS))
        if each.subject.number == number and each.subject.domain.contract == client.escrow.address
    ]


async def arbiters_found(named: Mapping[str, str], dispute: Hash) -> list[Fact]:
    """Ask arbiters (verdict key: URL) about a dispute. Raises `KeyMaterialError` for what is no key."""
    from cocoon_sdk.client.arbiter_endpoints import ArbiterEndpoints
    from cocoon_sdk.crypto.keys import VerifyKey
    from cocoon_sdk.errors import CocoonError
    from cocoon_sdk.explain.findings import ArbiterUnheard, votes_told
    from cocoon_sdk.protocol.disputes import Opinions

    keys = [VerifyKey.from_hex(key) for key in named]
    endpoints = ArbiterEndpoints(timeout_s=_TIMEOUT_S)

    async def ask(url: str) -> Opinions | ArbiterUnheard:
        try:
            return await endpoints.exchange(url, dispute)
        except CocoonError as error:
            return ArbiterUnheard(where=url, why=error.why or error.what)

    try:
        answers = await asyncio.gather(*(ask(url) for url in named.values()))
    finally:
        await endpoints.close()
    heard = [each for each in answers if isinstance(each, Opinions) and each.dispute == dispute]
    return [*votes_told(heard, keys), *(each for each in answers if isinstance(each, ArbiterUnheard))]


async def _has_database(session: Session) -> bool:
    from cocoon_sdk.client.sessions.account import DEFAULT_DATABASE

    place = session.settings.database or str(DEFAULT_DATABASE)
    return "://" in place or await asyncio.to_thread(Path(place).is_file)
