"""What one arbiter tells the others: evidence that it took, and all that it knows to be signed.

Owns who was told what. Must not check anything: the hearing does. Who is away is told again later, and one
exchange tells both sides; so whatever one honest arbiter knows, all of them know soon.
"""

from __future__ import annotations

import asyncio

import structlog

from cocoon_sdk.arbiter.errors import OpinionError
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.client.arbiters import Arbiters, ArbiterUnreachableError
from cocoon_sdk.contracts.disputes import Member
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.disputes import ItemKind
from cocoon_sdk.types import Hash

log = structlog.get_logger("cocoon.arbiter")


class Gossip:
    """Keeps other arbiters up to date; `every_s` is how often they are asked without news of ours."""

    def __init__(self, peers: Arbiters, every_s: int) -> None:
        self._peers, self._every_s = peers, every_s
        self._passed_on: dict[Hash, set[tuple[int, ItemKind]]] = {}
        self._told: dict[Hash, dict[int, tuple[bytes, int]]] = {}
        self._away_until: dict[VerifyKey, int] = {}

    async def exchange(self, hearing: Hearing, now: int, lock: asyncio.Lock) -> None:
        """Tell all others of one dispute what is new, all at once; raises nothing for those that are away."""
        others = [member for member, _ in self._peers.known(hearing.dispute) if member.index != hearing.index]
        await asyncio.gather(*(self._with(hearing, member, now, lock) for member in others))

    def forget(self, digest: Hash) -> None:
        """Forget who was told about a dispute that is over."""
        self._passed_on.pop(digest, None)
        self._told.pop(digest, None)

    async def _with(self, hearing: Hearing, member: Member, now: int, lock: asyncio.Lock) -> None:
        dispute = hearing.dispute
        if now < self._away_until.get(member.key, 0):
            return  # each try may cost a minute, and there may be many disputes
        try:
            await self._pass_on(hearing, member)
            mine = await hearing.opinions()
            if not mine.commitments:
                return  # nothing is signed that we know of; who knows more tells us
            text = mine.to_bytes()
            told = self._told.setdefault(dispute.digest, {})
            last, at = told.get(member.index, (b"", 0))
            if last == text and now < at + self._every_s:
                return
            theirs = await self._peers.endpoints.exchange(self._peers.urls[member.key], dispute.digest, mine)
            told[member.index] = text, now
            async with lock:
                await hearing.hear(theirs)
        except ArbiterUnreachableError as error:
            if error.status is None:
                self._away_until[member.key] = now + self._every_s
            log.debug("arbiter_away", index=member.index, why=str(error))
        except OpinionError as error:
            log.warning("opinion_refused", index=member.index, why=str(error))
        except CocoonError as error:
            log.warning("exchange_failed", index=member.index, why=str(error))

    async def _pass_on(self, hearing: Hearing, member: Member) -> None:
        done = self._passed_on.setdefault(hearing.dispute.digest, set())
        if all((member.index, kind) in done for kind in hearing.held):
            return
        items = [item for kind, item in (await hearing.items()).items() if (member.index, kind) not in done]
        delivered = await self._peers.deliver(hearing.dispute, items, member)
        if delivered.problem:
            log.debug("evidence_not_passed_on", index=member.index, why=delivered.problem)
        if delivered.away:
            raise ArbiterUnreachableError("an arbiter is away", why=delivered.problem)
        if delivered.reached:
            done.update((member.index, item.kind) for item in items)
