"""`Judgements`: cases that are being judged beside everything else, one task for each dispute.

Owns how many are judged at a time, when one that could not be judged is tried again, and that nothing is
judged twice. Must not know how content is judged, or what a vote does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.judging import Judge, Judgement
from cocoon_sdk.arbiter.receipts import SessionCase, with_operator_keys
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.storage import StorageError
from cocoon_sdk.types import Hash

_PAGES: Final = 2
"""Pages of histories that are asked for at a time, to find the keys that stakes had."""
log = structlog.get_logger("cocoon.arbiter")


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
        self._not_before.pop(digest, None)
        self._made.pop(digest, None)

    def waits(self, digest: Hash, now: int) -> bool:
        """Tell whether a dispute's case is being judged, or failed too short a time ago."""
        self._now = max(self._now, now)
        return digest in self._tasks or now < self._not_before.get(digest, 0)

    def begin(self, case: Case | SessionCase, vote: Callable[[Judgement], Awaitable[None]]) -> None:
        """Judge a case in the background, and `vote` on what comes of it."""
        digest = case.dispute.digest
        task = asyncio.create_task(self._judged(digest, case, vote))
        self._tasks[digest] = task

        def forget(_: asyncio.Task[None]) -> None:
            if self._tasks.get(digest) is task:
                del self._tasks[digest]
            self._on_news()

        task.add_done_callback(forget)

    async def _judged(
        self, digest: Hash, case: Case | SessionCase, vote: Callable[[Judgement], Awaitable[None]]
    ) -> None:
        try:
            judgement = self._made.get(digest)
            if judgement is None:
                judgement = await self._judgement(case)
                self._made[digest] = judgement  # should the vote not be kept, nobody has to judge it again
            await vote(judgement)
            self._made.pop(digest, None)
            log.info("voted", dispute=digest.hex()[:16], ground=judgement.ground)
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

    async def _judgement(self, case: Case | SessionCase) -> Judgement:
        if isinstance(case, Case):
            async with self._judging:
                return await self._judge.judge(case)
        # Apart from judging: a history that somebody filled takes long to read.
        signed = await with_operator_keys(self._chain, case, self._pages)
        if signed is None:
            return Judgement(Ground.CLIENT_SILENT)
        async with self._judging:
            return await self._judge.judge_session(signed)
