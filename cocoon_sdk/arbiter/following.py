"""`Following`: from a hint that a dispute is somewhere to a hearing, one task for each place.

Owns those tasks: what begins them, what becomes of their failures, and that nobody waits for them longer than
it wants to. Must not know what happens in a hearing. A dispute that cannot be read yet is tried again and
again (`Backlog`); all others, the markets' cursors and the start go on meanwhile. One look reads so much of a
history and no more, then the next place in turn has its look: nobody keeps others out by filling histories.

Looks in turn and looks for callers are apart: each kind has its own bound, in all and for one escrow, and
what strangers have us look at neither takes a turn nor moves one.
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
from cocoon_sdk.arbiter.turns import PER_ESCROW
from cocoon_sdk.contracts.disputes import NoDisputeError
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.storage import StorageError

START_S: Final = 10.0
"""How long a start waits for the disputes of before; what takes longer goes on beside the rest."""
IN_TURN: Final = 48
"""Looks in turn that are under way together, `PER_ESCROW` of them at one escrow."""
FOR_CALLERS: Final = 16
"""Looks beside them for those who tell us of a dispute and wait, again `PER_ESCROW` of them at one escrow.
How many of all of them ask the chain at once, the docket says."""
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
        self._in_turn: set[asyncio.Task[Hearing]] = set()
        self._for_callers: set[asyncio.Task[Hearing]] = set()
        self._looks: dict[Place, asyncio.Task[Hearing]] = {}  # of both, while the docket looks
        self._checking = asyncio.Lock()  # one sender at a time, beside what the docket asks the chain
        self._begun = asyncio.Event()  # the next look, for whoever waits for one; a new event each time
        self._pumping: asyncio.Task[None] | None = None
        self._now = 0

    @property
    def tasks(self) -> list[asyncio.Task[Hearing]]:
        """The looks that are under way."""
        return [*self._in_turn, *self._for_callers]

    @property
    def pumping(self) -> asyncio.Task[None] | None:
        """The reading of the markets that is under way, or was last."""
        return self._pumping

    async def close(self) -> None:
        """End what is under way; it is begun again after a restart."""
        tasks: list[asyncio.Task[Any]] = [*self.tasks]
        if self._pumping is not None:
            tasks.append(self._pumping)
        self._in_turn, self._for_callers, self._looks, self._pumping = set(), set(), {}, None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start(self, now: int) -> None:
        """Go on with what was followed or heard of before a restart. Raises `StorageError`."""
        self._now = now
        await self.reopen(now)  # first in turn: for these somebody brought evidence, or may
        await self._backlog.load()
        self._begin()
        if self._in_turn:
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
        task = self._looks.get(place)
        if task is None and not self._backlog.is_begun(place):
            if self._has_room_for_callers(escrow):
                task = self._spawn(place, self._for_callers)
            elif place not in self._backlog:  # else it has its turn
                raise BusyError("too many disputes are looked at", hint="Try again")
        try:
            return await asyncio.wait_for(self._looked_through(place, task), patience_s)
        except TimeoutError:
            raise BusyError(
                "the dispute is being looked at", why="its history is long", hint="Try again in a while"
            ) from None

    async def _looked_through(self, place: Place, task: asyncio.Task[Hearing] | None) -> Hearing:
        """Wait for the look that is under way, and for as many more as it takes; they come in their turn."""
        while True:
            if task is None:
                await self._begun.wait()
            else:
                with contextlib.suppress(UnfinishedError):
                    return await asyncio.shield(task)
            known = self._docket.known(place.escrow, place.number)
            if known is not None:
                return known
            task = self._looks.get(place)

    # -- one place -----------------------------------------------------------------------------------------

    async def _noticed(self, escrow: Address, number: int, may_refuse: bool) -> bool:
        """Take a hint; false when there is no room for more of them now."""
        if self._backlog.is_foreign(escrow, self._now) or self._docket.known(escrow, number) is not None:
            return True
        if may_refuse and not self._backlog.has_room:
            return False
        await self._backlog.add(Place(escrow, number), self._now)
        return True

    def _begin(self) -> None:
        while len(self._in_turn) < IN_TURN:
            place = self._backlog.take(self._now)
            if place is None:
                return
            task = self._looks.get(place)
            if task is None:
                self._spawn(place, self._in_turn)
            else:  # somebody asked for it a moment ago: from here on it is the look of this turn
                self._for_callers.discard(task)
                self._in_turn.add(task)

    def _has_room_for_callers(self, escrow: Address) -> bool:
        """Tell whether somebody who asks may have a place looked at out of turn."""
        beside = sum(
            place.escrow == escrow for place, task in self._looks.items() if task in self._for_callers
        )
        return len(self._for_callers) < FOR_CALLERS and beside < PER_ESCROW

    def _spawn(self, place: Place, beside: set[asyncio.Task[Hearing]]) -> asyncio.Task[Hearing]:
        task = asyncio.create_task(self._look(place), name=f"dispute {place}")
        beside.add(task)
        self._looks[place] = task
        self._begun.set()
        self._begun = asyncio.Event()
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Hearing]) -> None:
        # Whoever waits for it has what it failed with; the backlog has it anyway.
        failed = None if task.cancelled() else task.exception()
        in_turn = task in self._in_turn
        if not in_turn and task not in self._for_callers:
            return  # closed meanwhile
        self._in_turn.discard(task)
        self._for_callers.discard(task)
        if isinstance(failed, UnfinishedError):
            self._begin()  # nothing is new, but the next one may have its turn
        elif in_turn or failed is None:
            self._on_news()

    async def _look(self, place: Place) -> Hearing:
        in_turn = False
        try:
            try:
                hearing = await self._docket.follow(place.escrow, place.number)
            finally:
                in_turn = asyncio.current_task() in self._in_turn
                self._looks.pop(place, None)
            await self._backlog.settled(place)
        except Exception as error:
            await (self._missed if in_turn else self._missed_by_caller)(place, error)
            raise
        log.info("dispute_followed", dispute=hearing.dispute.digest.hex()[:16], number=place.number)
        return hearing

    async def _missed(self, place: Place, error: Exception) -> None:
        """Have a place looked at again, in turn or after a pause, or let go of it."""
        if isinstance(error, UnfinishedError):
            await self._backlog.unfinished(place)
            return
        try:
            if isinstance(error, NoDisputeError) and await self._is_nothing(place, error):
                return
        except StorageError as failure:
            error = failure
        if isinstance(error, StorageError):
            self._on_storage(error)
        elif isinstance(error, CocoonError):
            log.warning("dispute_not_read", place=str(place), why=str(error))
        else:
            # Whatever somebody's account made us stumble over; its text may quote strangers.
            log.error("dispute_not_read", place=str(place), error=type(error).__name__)
        await self._backlog.failed(place, self._now)

    async def _missed_by_caller(self, place: Place, error: Exception) -> None:
        """A stranger's word is kept once the chain confirmed it."""
        if isinstance(error, UnfinishedError):
            self._backlog.begun(place)
        elif isinstance(error, StorageError):
            self._on_storage(error)
        elif not isinstance(error, NoDisputeError) and await self._stored(place) is not None:
            self._backlog.put(place)

    async def _is_nothing(self, place: Place, error: NoDisputeError) -> bool:
        """Take note that nothing is there, says the endpoint now; of what was seen before it must prove it.

        False when that did not work out. Raises `StorageError`.
        """
        followed = await self._stored(place)
        if followed is None:
            log.debug("notice_ignored", place=str(place), why=str(error))
            if await self._backlog.found_nothing(place, self._now):
                await self._look_at_sender(place.escrow)
            return True
        try:
            if not await self._docket.is_over(followed):
                return False
        except CocoonError:
            return False
        await self._docket.drop(followed.digest, self._now, "ended while we were away")
        await self._backlog.settled(place)
        return True

    async def _look_at_sender(self, address: Address) -> None:
        """Let go of all that an address announced which is no escrow. Raises `StorageError`.

        Anybody may announce disputes on a market, for the gas. An escrow announces those that it has.
        """
        async with self._checking:
            if self._backlog.is_foreign(address, self._now) or await self._finder.is_escrow(address):
                return
            await self._backlog.settled_foreign(address, self._now)
            log.info("not_an_escrow", address=address.to_str())

    async def _stored(self, place: Place) -> Followed | None:
        for followed in await self._store.disputes(ended=False):
            if followed.escrow == place.escrow and followed.number == place.number:
                return followed
        return None
