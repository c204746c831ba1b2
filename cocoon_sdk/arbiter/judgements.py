"""`Judgements`: cases that are being judged beside everything else, one task for each dispute.

Owns how many are judged at a time, when one that could not be judged is tried again, and that nothing is
judged twice. Must not know how content is judged, where evidence lies, or what a vote does.

Evidence is large, and whoever opens many disputes decides how many cases wait. So a case that waits, for its
turn, for a stake's history or for another try, holds none: it is read when its turn has come, and let go of
when it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from cocoon_sdk.arbiter.errors import SecondVerdictError
from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.judging import Judge, Judgement
from cocoon_sdk.arbiter.receipts import SessionCase, keys_of_stake, signed_by
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.storage import StorageError
from cocoon_sdk.types import Hash

_PAGES: Final = 2
"""Pages of histories that are asked for at a time, to find the keys that stakes had."""
log = structlog.get_logger("cocoon.arbiter")


@dataclass(frozen=True, slots=True)
class Pending:
    """A case that has to be judged, without its evidence.

    `signers` are the keys under which a session's records are, None in a job. `read` fetches the case, None
    when there is nothing to judge any more; `vote` takes what comes of it.
    """

    dispute: Dispute
    signers: frozenset[VerifyKey] | None
    read: Callable[[], Awaitable[Case | SessionCase | None]]
    vote: Callable[[Judgement], Awaitable[None]]


class Judgements:
    """Judges at most `at_a_time` cases at once; one that fails waits for `retry_s`.

    `on_news` is called after each case, `on_storage` with what could not be kept.
    """

    def __init__(
        self,
        judge: Judge,
        chain: Chain,
        at_a_time: int,
        retry_s: int,
        on_news: Callable[[], None],
        on_storage: Callable[[StorageError], None],
    ) -> None:
        self._judge, self._chain, self._retry_s = judge, chain, retry_s
        self._on_news, self._on_storage = on_news, on_storage
        self._judging, self._pages = asyncio.Semaphore(at_a_time), asyncio.Semaphore(_PAGES)
        self._pending: dict[Hash, Pending] = {}
        self._tasks: dict[Hash, asyncio.Task[None]] = {}
        self._not_before: dict[Hash, int] = {}
        self._made: dict[Hash, Judgement] = {}
        self._now = 0

    @property
    def tasks(self) -> dict[Hash, asyncio.Task[None]]:
        """What is under way, by dispute."""
        return dict(self._tasks)

    async def close(self) -> None:
        """End what is under way; it is begun again after a restart."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self, digest: Hash) -> None:
        """End what is under way for a dispute that is over."""
        task = self._tasks.pop(digest, None)
        if task is not None:
            task.cancel()
        self._settled(digest)

    def has(self, digest: Hash) -> bool:
        """Tell whether a dispute's case was put here, and no vote came of it yet."""
        return digest in self._pending

    def put(self, pending: Pending) -> None:
        """Judge a case in the background, again and again until it can be judged."""
        self._pending[pending.dispute.digest] = pending
        self._begin(pending)

    def step(self, now: int) -> None:
        """Begin again with what could not be judged, after its pause."""
        self._now = max(self._now, now)
        for digest, pending in self._pending.items():
            if digest not in self._tasks and self._now >= self._not_before.get(digest, 0):
                self._begin(pending)

    def _begin(self, pending: Pending) -> None:
        digest = pending.dispute.digest
        task = asyncio.create_task(self._judged(digest, pending))
        self._tasks[digest] = task

        def forget(_: asyncio.Task[None]) -> None:
            if self._tasks.get(digest) is task:
                del self._tasks[digest]
            self._on_news()

        task.add_done_callback(forget)

    async def _judged(self, digest: Hash, pending: Pending) -> None:
        try:
            judgement = self._made.get(digest) or await self._judgement(pending)
            if judgement is not None:
                self._made[digest] = judgement  # should the vote not be kept, nobody has to judge it again
                await pending.vote(judgement)
                log.info("voted", dispute=digest.hex()[:16], ground=judgement.ground)
            self._settled(digest)
        except SecondVerdictError as error:
            self._settled(digest)
            log.warning("judged_in_vain", dispute=digest.hex()[:16], why=str(error))
        except CocoonError as error:
            if isinstance(error, StorageError):
                self._on_storage(error)
            self._not_before[digest] = self._now + self._retry_s
            log.warning("judging_failed", dispute=digest.hex()[:16], why=str(error))
        except Exception as error:
            # What parties wrote may be anything: it must not have us judge it again without a pause. Its text
            # may quote them.
            self._not_before[digest] = self._now + self._retry_s
            log.error("judging_failed", dispute=digest.hex()[:16], error=type(error).__name__)

    def _settled(self, digest: Hash) -> None:
        for table in (self._pending, self._not_before, self._made):
            table.pop(digest, None)

    async def _judgement(self, pending: Pending) -> Judgement | None:
        known: frozenset[VerifyKey] = frozenset()
        if pending.signers is not None:
            # Apart from judging: a history that somebody filled takes long to read.
            known = await keys_of_stake(self._chain, pending.dispute, pending.signers, self._pages)
        async with self._judging:
            case = await pending.read()
            if case is None:
                return None
            if isinstance(case, Case):
                return await self._judge.judge(case)
            signed = signed_by(case, known)
            del case
            if signed is None:
                return Judgement(Ground.CLIENT_SILENT)
            return await self._judge.judge_session(signed)
