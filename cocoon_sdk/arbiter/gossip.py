"""What one arbiter tells the others: evidence that it took, and all that it knows to be signed.

Owns who was told what, and one task for each arbiter that is talked to: who stalls keeps nobody waiting but
itself. Must not check anything: the hearing does. Who is away is told again later, and one exchange tells
both sides; so whatever one honest arbiter knows, all of them know soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from cocoon_sdk.arbiter.errors import OpinionError
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.client.arbiter_endpoints import ArbiterUnreachableError
from cocoon_sdk.client.arbiters import Arbiters
from cocoon_sdk.contracts.disputes import Member
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.disputes import ItemKind, Opinions
from cocoon_sdk.types import Hash

AT_A_TIME: Final = 16
"""Arbiters that are talked to at once: each may be sent as much as evidence may have."""
log = structlog.get_logger("cocoon.arbiter")


@dataclass(frozen=True, slots=True)
class _Talk:
    """What one arbiter is told about one dispute."""

    hearing: Hearing
    member: Member
    mine: Opinions
    text: bytes
    lock: asyncio.Lock


class Gossip:
    """Keeps other arbiters up to date; `every_s` is how often they are asked without news of ours.

    `on_news` is called when one of them told us something.
    """

    def __init__(self, peers: Arbiters, every_s: int, on_news: Callable[[], None]) -> None:
        self._peers, self._every_s, self._on_news = peers, every_s, on_news
        self._passed_on: dict[Hash, set[tuple[int, ItemKind]]] = {}
        self._told: dict[Hash, dict[int, tuple[bytes, int]]] = {}
        self._not_before: dict[tuple[Hash, int], int] = {}
        self._away_until: dict[VerifyKey, int] = {}
        self._queues: dict[VerifyKey, dict[Hash, _Talk]] = {}
        self._tasks: dict[VerifyKey, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._now = 0

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The talks that are under way, one for each arbiter at most."""
        return list(self._tasks.values())

    async def close(self) -> None:
        """End all talks."""
        tasks, self._tasks = self.tasks, {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def exchange(self, hearing: Hearing, now: int, lock: asyncio.Lock) -> None:
        """Begin to tell all others of one dispute what is new. Waits for none of them.

        Raises `StorageError`.
        """
        self._now = max(self._now, now)
        mine = await hearing.opinions()
        text = mine.to_bytes()
        for member, _ in self._peers.known(hearing.dispute):
            if member.index == hearing.index or now < self._away_until.get(member.key, 0):
                continue
            if self._is_due(hearing, member, mine, text):
                talk = _Talk(hearing, member, mine, text, lock)
                self._queues.setdefault(member.key, {})[hearing.dispute.digest] = talk
                if member.key not in self._tasks:
                    self._spawn(member.key)

    def forget(self, digest: Hash) -> None:
        """Forget who was told about a dispute that is over."""
        self._passed_on.pop(digest, None)
        self._told.pop(digest, None)
        for key in [key for key in self._not_before if key[0] == digest]:
            del self._not_before[key]
        for queue in self._queues.values():
            queue.pop(digest, None)

    # -- one arbiter ---------------------------------------------------------------------------------------

    def _is_due(self, hearing: Hearing, member: Member, mine: Opinions, text: bytes) -> bool:
        digest = hearing.dispute.digest
        if self._now < self._not_before.get((digest, member.index), 0):
            return False
        if self._left(hearing, member):
            return True
        if not mine.commitments:
            return False  # nothing is signed that we know of; who knows more tells us
        last, at = self._told.get(digest, {}).get(member.index, (b"", 0))
        return last != text or self._now >= at + self._every_s

    def _left(self, hearing: Hearing, member: Member) -> list[ItemKind]:
        done = self._passed_on.get(hearing.dispute.digest, set())
        return [kind for kind in hearing.held if (member.index, kind) not in done]

    def _spawn(self, key: VerifyKey) -> None:
        task = asyncio.create_task(self._talk(key), name=f"arbiter {key.hex[:8]}")
        self._tasks[key] = task

        def forget(_: asyncio.Task[None]) -> None:
            if self._tasks.get(key) is task:
                del self._tasks[key]

        task.add_done_callback(forget)

    async def _talk(self, key: VerifyKey) -> None:
        """Go through all that one arbiter is to be told, until it is told or away."""
        queue = self._queues[key]
        while queue:
            talk = queue.pop(next(iter(queue)))
            async with self._slots:
                try:
                    await self._tell(talk)
                except ArbiterUnreachableError as error:
                    log.debug("arbiter_away", index=talk.member.index, why=str(error))
                    if error.status is None:
                        # Each try may cost as long as a time limit, and there may be many disputes.
                        self._away_until[key] = self._now + self._every_s
                        queue.clear()
                    self._later(talk)
                except OpinionError as error:
                    log.warning("opinion_refused", index=talk.member.index, why=str(error))
                except CocoonError as error:
                    log.warning("exchange_failed", index=talk.member.index, why=str(error))
                    self._later(talk)

    def _later(self, talk: _Talk) -> None:
        self._not_before[talk.hearing.dispute.digest, talk.member.index] = self._now + self._every_s

    async def _tell(self, talk: _Talk) -> None:
        hearing, member = talk.hearing, talk.member
        digest = hearing.dispute.digest
        await self._pass_on(hearing, member)
        if not talk.mine.commitments:
            return
        theirs = await self._peers.endpoints.exchange(self._peers.urls[member.key], digest, talk.mine)
        self._told.setdefault(digest, {})[member.index] = talk.text, self._now
        async with talk.lock:
            await hearing.hear(theirs)
        self._on_news()

    async def _pass_on(self, hearing: Hearing, member: Member) -> None:
        left = self._left(hearing, member)
        if not left:
            return
        items = [item for kind, item in (await hearing.items()).items() if kind in left]
        delivered = await self._peers.deliver(hearing.dispute, items, member)
        if delivered.problem:
            log.debug("evidence_not_passed_on", index=member.index, why=delivered.problem)
        if delivered.away:
            raise ArbiterUnreachableError("an arbiter is away", why=delivered.problem)
        if delivered.reached:
            done = self._passed_on.setdefault(hearing.dispute.digest, set())
            done.update((member.index, item.kind) for item in items)
        else:
            self._not_before[hearing.dispute.digest, member.index] = self._now + self._every_s
