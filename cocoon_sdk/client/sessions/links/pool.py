"""Links that are kept warm: one for each session that is in use.

Owns connecting, reusing, and giving sessions back or ending them after what a worker did. Must not know how a
worker is chosen, or requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from pytoniq_core import Address

from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.sessions.errors import (
    BusyError,
    DishonestWorkerError,
    NotTheWorkerError,
    SessionRefusedError,
    StaleSessionError,
)
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.links.call import Call, Question
from cocoon_sdk.client.sessions.links.dialing import Dialer
from cocoon_sdk.client.sessions.links.link import DEFAULT_LIMITS, Link, LinkLimits
from cocoon_sdk.client.sessions.links.signer import SignerCheck, StakeKeys
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.types import Nano

log: Final = logging.getLogger("cocoon.sessions")

_NEW_SESSION_TRIES: Final = 4
"""How often a worker that does not know the session is asked again, if it says when: it may see it late."""
_MOST_WAIT_S: Final = 5
MAX_UNDER_WAY: Final = 120
"""Requests at a time on one link; more wait here, in order. Workers take 128 by default."""
_CLOSE_S: Final = 10.0
"""How long closing waits for what has to be finished; what takes longer is found again from the database."""


class Sessions(StakeKeys, Protocol):
    """Where sessions come from (`SessionManager`)."""

    async def acquire(self, worker: WorkerOffer, at_least: Nano) -> HeldSession:
        """Return an open session with this much left, and reserve it."""
        ...

    async def release(self, held: HeldSession, reserved: int = 0) -> None:
        """Give back what `acquire` gave."""
        ...

    async def retire(self, held: HeldSession, why: str) -> None:
        """Sign nothing more for a session and end it."""
        ...

    def remaining(self, worker: Address) -> Nano | None:
        """Return what is left in the session with a worker, None when there is none."""
        ...


class Lease:
    """A link with money reserved on it for one request. `call` is the request, once it was asked."""

    __slots__ = ("_pool", "_released", "call", "link", "place", "reserved")

    def __init__(self, pool: LinkPool, link: Link, place: _Place, reserved: Nano) -> None:
        self._pool, self.link, self.place, self.reserved = pool, link, place, reserved
        self._released = False
        self.call: Call | None = None

    def ask(self, question: Question) -> Call:
        """Send the request. Raises `SessionError`."""
        self.call = self.link.ask(question)
        return self.call

    async def release(self) -> None:
        """Give back what was reserved; a request that is not over is cancelled, and waited for elsewhere."""
        if self._released:
            return
        self._released = True
        if self.call is None or self.call.ended:
            await self._pool.give_back(self)
        else:
            self.link.cancel(self.call)
            self._pool.spawn(self._ended())

    async def _ended(self) -> None:
        assert self.call is not None
        await self.call.end()
        await self._pool.give_back(self)


class _Place:
    """What belongs to one session: its link, who connects it and signs, and how many requests it takes."""

    __slots__ = ("connecting", "held", "link", "room", "signer")

    def __init__(self, held: HeldSession, signer: SignerCheck) -> None:
        self.held, self.signer = held, signer
        self.link: Link | None = None
        self.connecting = asyncio.Lock()
        self.room = asyncio.Semaphore(MAX_UNDER_WAY)

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        ended = self.link is None or self.link.error is not None or not self.link.under_way
        return bool(self.held.stale) and ended and not self.connecting.locked()


class LinkPool:
    """All links of one client."""

    def __init__(
        self,
        sessions: Sessions,
        dialer: Dialer,
        *,
        limits: LinkLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self._sessions, self._dialer, self._limits = sessions, dialer, limits
        self._clock, self._sleep = clock, sleep
        self._places: dict[str, _Place] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def remaining(self, worker: Address) -> Nano | None:
        """Return what is left in the session with a worker, None when there is none."""
        return self._sessions.remaining(worker)

    def crowded(self, worker: Address) -> bool:
        """Tell whether requests to this worker would have to wait for others of ours."""
        places = [place for place in self._places.values() if place.held.ref.worker == worker]
        return bool(places) and all(place.room.locked() for place in places)

    async def lease(self, offer: WorkerOffer, need: Nano) -> Lease:
        """Return a link to the worker, with `need` nanoTON reserved on its session.

        Opens or tops up a session where it must, which takes as long as the chain does. Raises what
        `SessionManager.acquire` and `Link.open` raise.
        """
        held = await self._acquire(offer, need)
        place = self._places.get(held.uid)
        if place is None:
            self._forget_ended()
            signer = SignerCheck(self._sessions, held, self._clock)
            place = self._places[held.uid] = _Place(held, signer)
        try:
            await place.room.acquire()
        except BaseException:
            await self._sessions.release(held, need)
            raise
        try:
            link = place.link
            if link is None or not link.alive:
                link = await self._connect(offer, place)
        except BaseException:
            place.room.release()
            await self._sessions.release(held, need)
            raise
        self._see_to_signer(place)
        return Lease(self, link, place, need)

    async def give_back(self, lease: Lease) -> None:
        """Take back a lease whose request is over; ends sessions that are of no use any more."""
        held, error = lease.place.held, lease.link.error
        lease.place.room.release()
        await self._sessions.release(held, lease.reserved)
        if isinstance(error, DishonestWorkerError):
            self._retire(held, str(error))
        elif held.worn and not lease.link.under_way:
            self._retire(held, "too much was lost in it")
        self._see_to_signer(lease.place)

    async def close(self) -> None:
        """Close all links; sessions stay open."""
        links = [place.link for place in self._places.values() if place.link is not None]
        await asyncio.gather(*(link.close() for link in links))
        self._places.clear()
        await self._dialer.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Finish something beside the request it belongs to; `close` waits for it."""
        task = asyncio.create_task(work, name="cocoon sessions: finishing")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("finishing a request failed: %s", error)

    async def _acquire(self, offer: WorkerOffer, need: Nano) -> HeldSession:
        left = self._sessions.remaining(offer.address)
        if left is not None and left >= need:
            return await self._sessions.acquire(offer, need)
        # The chain has to be asked: who waits may go away, what was begun there is finished all the same.
        task = asyncio.create_task(self._sessions.acquire(offer, need), name="cocoon sessions: acquiring")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.spawn(self._unwanted(task, need))
            raise

    async def _unwanted(self, acquiring: asyncio.Task[HeldSession], need: Nano) -> None:
        try:
            held = await acquiring
        except CocoonError as error:
            log.info("no session: %s", error)
        else:
            await self._sessions.release(held, need)

    async def _connect(self, offer: WorkerOffer, place: _Place) -> Link:
        async with place.connecting:
            known = place.link
            if known is not None:
                if known.alive:
                    return known
                if known.error is None and known.under_way:
                    # A second connection would take the place of the first, and end what is under way there.
                    raise BusyError("the worker takes no new requests", why="it is leaving", retry_after_s=5)
                place.link = None
                await known.close()
                # If another process has taken the session over, connecting would cut what it does there.
                await place.held.confirm()
            await place.signer.before_greeting(offer.operator)
            place.link = await self._open(offer, place)
            return place.link

    def _see_to_signer(self, place: _Place) -> None:
        """Check beside the requests who signs, where that has to be known and is not yet."""
        check = None if place.link is None else place.signer.begin(place.link)
        if check is not None:
            self.spawn(check)

    async def _open(self, offer: WorkerOffer, place: _Place) -> Link:
        assert offer.endpoint is not None  # the catalogue lists no others
        held = place.held
        tries = 0
        while True:
            try:
                return await Link.open(
                    self._dialer,
                    offer.endpoint,
                    held,
                    offer.operator,
                    limits=self._limits,
                    clock=self._clock,
                )
            except SessionRefusedError as error:
                tries += 1
                if error.retry_after_s is None or tries >= _NEW_SESSION_TRIES:
                    self._retire(held, f"the worker refuses it: {error.why}")
                    raise
                await self._sleep(min(error.retry_after_s, _MOST_WAIT_S))
            except DishonestWorkerError as error:
                self._retire(held, str(error))
                raise
            except NotTheWorkerError:
                if not place.signer.distrusted:
                    raise
                lie = place.signer.stranger()
                self._retire(held, str(lie))
                raise lie from None
            except StaleSessionError as error:
                held.stale = held.stale or str(error)
                raise

    def _forget_ended(self) -> None:
        for uid in [uid for uid, place in self._places.items() if place.over]:
            link = self._places.pop(uid).link
            if link is not None:
                self.spawn(link.close())

    def _retire(self, held: HeldSession, why: str) -> None:
        if not held.stale:
            held.stale = why
            self.spawn(self._end_session(held, why))

    async def _end_session(self, held: HeldSession, why: str) -> None:
        try:
            await self._sessions.retire(held, why)
        except CocoonError as error:
            log.warning("cannot end session %d: %s", held.ref.session_id, error)
