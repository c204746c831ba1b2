"""`Following`: from a hint that a dispute is somewhere to a hearing, one task for each place.

Owns those tasks: what begins them, what becomes of their failures, and that nobody waits for them longer than
it wants to. Must not know what happens in a hearing. A dispute that cannot be read yet is tried again and
again (`Backlog`); all others, the markets' cursors and the start go on meanwhile. One look reads so much of a
history and no more, then the next place in turn has its look: nobody keeps others out by filling histories.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import structlog
from pytoniq_core import Address

from cocoon_sdk.arbiter.backlog import Backlog
from cocoon_sdk.arbiter.docket import Docket
from cocoon_sdk.arbiter.errors import BusyError, UnfinishedError
from cocoon_sdk.arbiter.finding import DisputeFinder
from cocoon_sdk.arbiter.finding_store import Place
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.store import ArbiterStore, Followed
from cocoon_sdk.contracts.disputes import NoDisputeError
from cocoon_sdk.errors import ChainError, CocoonError
from cocoon_sdk.storage import StorageError

START_S: Final = 10.0
"""How long a start waits for the disputes of before; what takes longer goes on beside the rest."""
MAX_TASKS: Final = 64
"""Places that are looked at beside each other; how many of them ask the chain at once, the docket says."""
FOR_CALLERS: Final = 16
"""How many of them are kept for whoever tells us of a dispute and waits for our look."""
PER_ESCROW: Final = 2
"""Disputes of one escrow that are looked at together."""
log = structlog.get_logger("cocoon.arbiter")


class Following:
    """Looks at places until each is followed or known to be nothing.

    `on_news` is called after each look, `on_storage` with what could not be kept.
    """

    def __init__(
        self,
        docket: Docket,
        finder: DisputeFinder,
        store: ArbiterStore,
        on_news: Callable[[], None],
        on_storage: Callable[[StorageError], None],
    ) -> None:
        self._docket, self._finder, self._store = docket, finder, store
        self._on_news, self._on_storage = on_news, on_storage
        self._backlog = Backlog(store.finding)
        self._tasks: dict[Place, asyncio.Task[Hearing]] = {}
        self._begun = asyncio.Event()  # the next look, for whoever waits for one; a new event each time
        self._pumping: asyncio.Task[None] | None = None
        self._now = 0

    @property
    def tasks(self) -> list[asyncio.Task[Hearing]]:
        """The looks that are under way."""
        return list(self._tasks.values())

    @property
    def pumping(self) -> asyncio.Task[None] | None:
        """The reading of the markets that is under way, or was last."""
        return self._pumping

    async def close(self) -> None:
        """End what is under way; it is begun again after a restart."""
        tasks: list[asyncio.Task[Any]] = [*self.tasks]
        if self._pumping is not None:
            tasks.append(self._pumping)
        self._tasks, self._pumping = {}, None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start(self, now: int) -> None:
        """Go on with what was followed or heard of before a restart. Raises `StorageError`."""
        self._now = now
        await self._backlog.load()
        await self.reopen(now)
        self._begin()
        if self._tasks:
            await asyncio.wait(self.tasks, timeout=START_S)

    async def reopen(self, now: int) -> None:
        """Take up again what the store holds and nobody follows. Raises `StorageError`."""
        for followed in await self._store.disputes(ended=False):
            if followed.digest in self._docket.hearings:
                continue
            if 0 < followed.ends_at <= now:
                try:
                    await self._docket.drop(followed.digest, now, "arbitration timed out")
                except StorageError as error:
                    self._on_storage(error)  # there will be room some day, and nobody waits for this
            else:
                self._backlog.put(Place(followed.escrow, followed.number))

    def step(self, now: int) -> None:
        """Begin with what is due, and with hearing what is new on the markets, unless that is under way.

        Raises what the last reading of the markets ended with: `ChainError` or `StorageError`.
        """
        self._now = max(self._now, now)
        self._begin()
        done = self._pumping
        if done is not None and not done.done():
            return
        self._pumping = asyncio.create_task(self._pump(), name="markets")
        if done is not None and not done.cancelled():
            done.result()

    async def _pump(self) -> None:
        await self._finder.pump(self._now, self._noticed)
        self._begin()

    async def look_through(self, escrow: Address) -> None:
        """Look at every job and session of one escrow. Raises `ChainError` and `StorageError`."""
        await self._finder.look_through(escrow, self._noticed)
        self._begin()

    async def follow(self, escrow: Address, number: int, patience_s: float) -> Hearing:
        """Look at a place now, for somebody who waits. Raises what `Docket.follow` raises, and `BusyError`.

        When it takes longer, it goes on without the one who waits.
        """
        known = self._docket.known(escrow, number)
        if known is not None:
            return known
        place = Place(escrow, number)
        task = self._tasks.get(place)
        if task is None and not self._backlog.is_begun(place):
            if not self._has_room(escrow):
                raise BusyError("too many disputes are looked at", hint="Try again")
            task = self._spawn(place, is_kept=False)
        try:
            return await asyncio.wait_for(self._looked_through(place, task), patience_s)
        except TimeoutError:
            raise BusyError(
                "the dispute is being looked at", why="its history is long", hint="Try again in a while"
            ) from None

    async def _looked_through(self, place: Place, task: asyncio.Task[Hearing] | None) -> Hearing:
        """Wait for the look that is under way, and for as many more as it takes; they come in their turn."""
        seen: asyncio.Task[Hearing] | None = None
        while True:
            if task is None or task is seen:
                await self._begun.wait()
            else:
                seen = task
                with contextlib.suppress(UnfinishedError):
                    return await asyncio.shield(task)
            known = self._docket.known(place.escrow, place.number)
            if known is not None:
                return known
            task = self._tasks.get(place)

    # -- one place -----------------------------------------------------------------------------------------

    async def _noticed(self, escrow: Address, number: int, may_refuse: bool) -> bool:
        """Take a hint; false when there is no room for more of them now."""
        if self._docket.known(escrow, number) is not None:
            return True
        if may_refuse and not self._backlog.has_room:
            return False
        await self._backlog.add(Place(escrow, number), self._now)
        return True

    def _begin(self) -> None:
        for place in self._backlog.due(self._now):
            if len(self._tasks) >= MAX_TASKS - FOR_CALLERS:
                return
            if place not in self._tasks and self._has_room(place.escrow):
                self._spawn(place, is_kept=True)

    def _has_room(self, escrow: Address) -> bool:
        """Tell whether one more place may be looked at.

        Whoever fills one escrow and disputes all its jobs has us read it twice at a time only.
        """
        beside = sum(place.escrow == escrow for place in self._tasks)
        return len(self._tasks) < MAX_TASKS and beside < PER_ESCROW

    def _spawn(self, place: Place, *, is_kept: bool) -> asyncio.Task[Hearing]:
        task = asyncio.create_task(self._look(place, is_kept=is_kept), name=f"dispute {place}")
        self._tasks[place] = task
        self._backlog.looked(place)
        self._begun.set()
        self._begun = asyncio.Event()

        def forget(_: asyncio.Task[Hearing]) -> None:
            # Whoever waits for it has what it failed with; the backlog has it anyway.
            failed = None if task.cancelled() else task.exception()
            if self._tasks.get(place) is not task:
                return  # closed meanwhile
            del self._tasks[place]
            if isinstance(failed, UnfinishedError):
                self._begin()  # nothing is new, but the next one may have its turn
            else:
                self._on_news()

        task.add_done_callback(forget)
        return task

    async def _look(self, place: Place, *, is_kept: bool) -> Hearing:
        """Follow what is there. A stranger's word (`is_kept` is false) is kept once the chain confirms it."""
        try:
            hearing = await self._docket.follow(place.escrow, place.number)
            await self._backlog.settled(place)
        except NoDisputeError as error:
            if is_kept:
                try:
                    await self._nothing(place, error)
                except StorageError as failure:
                    await self._not_kept(place, failure)
            raise
        except StorageError as error:
            if is_kept:
                await self._not_kept(place, error)
            else:
                self._on_storage(error)
            raise
        except UnfinishedError:
            await self._backlog.unfinished(place)
            raise
        except CocoonError as error:
            if is_kept or await self._stored(place) is not None:
                await self._backlog.failed(place, self._now)
                log.warning("dispute_not_read", place=str(place), why=str(error))
            raise
        except Exception as error:
            # Whatever somebody's account made us stumble over; its text may quote strangers.
            await self._backlog.failed(place, self._now)
            log.error("dispute_not_read", place=str(place), error=type(error).__name__)
            raise
        log.info("dispute_followed", dispute=hearing.dispute.digest.hex()[:16], number=place.number)
        return hearing

    async def _not_kept(self, place: Place, error: StorageError) -> None:
        """Tell that the store does not take anything, and look again after a pause."""
        self._on_storage(error)
        with contextlib.suppress(StorageError):
            await self._backlog.failed(place, self._now)

    async def _nothing(self, place: Place, error: NoDisputeError) -> None:
        """Nothing is there, says the endpoint now; of what was seen there before it must prove it."""
        followed = await self._stored(place)
        if followed is None:
            await self._backlog.found_nothing(place, self._now)
            log.debug("notice_ignored", place=str(place), why=str(error))
            return
        try:
            over = await self._docket.is_over(followed)
        except ChainError:
            over = False
        if not over:
            await self._backlog.failed(place, self._now)
            return
        await self._docket.drop(followed.digest, self._now, "ended while we were away")
        await self._backlog.settled(place)

    async def _stored(self, place: Place) -> Followed | None:
        for followed in await self._store.disputes(ended=False):
            if followed.escrow == place.escrow and followed.number == place.number:
                return followed
        return None
