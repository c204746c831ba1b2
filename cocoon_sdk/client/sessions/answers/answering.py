"""One answer over as many workers as it takes: asking, counting, and going on elsewhere.

Owns the attempts of one request and their bill. Must not know sockets or chain, nor whether a user reads
events or a whole body. Each worker is paid for its own tokens; the user sees one answer.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.sessions.answers.catalogue import Catalogue, Listing
from cocoon_sdk.client.sessions.answers.finished import EndedPart, OnEnded, OnFinished
from cocoon_sdk.client.sessions.answers.joining import read_event, write_json
from cocoon_sdk.client.sessions.answers.selection import Selection
from cocoon_sdk.client.sessions.bounds import Ceiling, RequestHead
from cocoon_sdk.client.sessions.errors import (
    BusyError,
    DishonestWorkerError,
    RequestRefusedError,
    SessionError,
    SessionRefusedError,
    SessionWornError,
    SpendLimitError,
    StaleSessionError,
    TooDearError,
    UnknownTermsError,
    WorkerFailedError,
    WorkerTimeoutError,
)
from cocoon_sdk.client.sessions.links.call import Call, Question
from cocoon_sdk.client.sessions.links.pool import Lease, LinkPool
from cocoon_sdk.client.sessions.values import (
    NOTHING_PAID,
    NOTHING_USED,
    Attempt,
    Bill,
    InferenceRequest,
    Outcome,
)
from cocoon_sdk.errors import (
    ChainError,
    CocoonError,
    InsufficientEscrowError,
    MalformedError,
    NoWorkerError,
    PriceTooHighError,
)
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.types import Nano

MAX_ATTEMPTS: Final = 4
"""How many workers are asked for one answer at most, each at most twice."""
_TRIES_EACH: Final = 2
_MOST_WAIT_S: Final = 5.0
"""How long a request waits for a worker that is left alone, when there is no other."""
_LAST_WORD_S: Final = 2.0
"""How long a stream that is left waits for the worker's last count."""
_TAKEN_OVER: Final = 2
_OUTDATED: Final = 3
"""How often offers are read again for one request before the worker that they are about is left out."""
"""How often a request goes on over another session of the same worker, when its own is worn or taken over:
that is noticed once when the link is cut by it, and once when the database says so."""
_SESSION_PAUSE_S: Final = 30.0
_MAX_WHY: Final = 300
_BY_WEIGHT: Final = (
    InsufficientEscrowError,
    SpendLimitError,
    TooDearError,
    BusyError,
    ChainError,
    SessionRefusedError,
)
"""Of several obstacles the first of these is told: what the caller can do most about."""


@dataclass(frozen=True, slots=True)
class House:
    """What answers are made with, and who hears of them; times are monotonic seconds."""

    catalogue: Catalogue
    pool: LinkPool
    selection: Selection
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep
    on_finished: OnFinished | None = None
    on_ended: OnEnded | None = None


@dataclass(frozen=True, slots=True)
class _Turn:
    """One attempt that is under way."""

    listing: Listing
    lease: Lease
    call: Call


class Answering:
    """The attempts at one request. `begin` asks the next worker, and returns where its pieces come from.

    Only workers whose offer `among` lets pass are asked (None: all).
    """

    def __init__(
        self, house: House, request: InferenceRequest, among: Callable[[WorkerOffer], bool] | None = None
    ) -> None:
        self._house, self._request, self._among = house, request, among
        self._head = RequestHead.read(request.kind, request.body)
        self._body, self._stream = request.body, request.stream
        self._deadline = house.clock() + request.timeout_s
        self._tries: dict[bytes, int] = {}
        self._past: list[Attempt] = []
        self._errors: list[CocoonError] = []
        self._delivered = NOTHING_USED
        self._chosen: Listing | None = None
        self._turn: _Turn | None = None
        self._asked = 0
        self._taken_over = self._outdated = 0

    @property
    def head(self) -> RequestHead:
        """What the body says about its size and its usage event."""
        return self._head

    # -- attempts --------------------------------------------------------------------------------------

    async def begin(self) -> Call:
        """Ask the next worker that fits. Raises what stands in the way of all of them."""
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._deadline - self._house.clock())):
                    listing = await self._choose()
                    return await self._ask(listing)
            except TimeoutError:
                why = f"no worker began within {self._request.timeout_s:g} s"
                raise WorkerTimeoutError("the answer takes too long", why=why) from None
            except (SessionError, InsufficientEscrowError, ChainError) as error:
                if self._chosen is None:
                    raise
                self._judge(self._chosen, error)

    async def _choose(self) -> Listing:
        house, request = self._house, self._request
        self._chosen = None
        while True:
            listings = [
                each
                for each in await house.catalogue.offers(request.model)
                if self._tries.get(each.key, 0) < _TRIES_EACH
                and (self._among is None or self._among(each.offer))
            ]
            if not listings or self._asked >= MAX_ATTEMPTS:
                raise self._nobody()
            usable = house.selection.order(listings, self._head, self._remaining)
            if usable:
                crowded = house.pool.crowded
                return min(usable, key=lambda each: (self._tries.get(each.key, 0), crowded(each.worker)))
            wait = min(house.selection.cooling(each.key) for each in listings)
            if not 0.0 < wait <= _MOST_WAIT_S:
                # Who was left for good is never asked again: waiting would not help.
                raise self._nobody(retry_after_s=None if wait == math.inf else int(wait) + 1)
            await house.sleep(wait)

    def _remaining(self, listing: Listing) -> Nano | None:
        return self._house.pool.remaining(listing.worker)

    async def _ask(self, listing: Listing) -> Call:
        self._chosen = listing
        ceiling = Ceiling.of(self._head, listing.offer.offer, listing.tariff)
        left = self._left()
        if left is not None and listing.tariff.price(0, 0, 0) > left:
            self._tries[listing.key] = _TRIES_EACH
            raise BusyError("this worker is too dear", why="its minimum price is above what is allowed")
        lease = await self._house.pool.lease(listing.offer, ceiling.reserve)
        question = Question(
            kind=self._request.kind,
            body=self._body_for(listing),
            stream=self._stream,
            tariff=listing.tariff,
            ceiling=ceiling,
            max_price=left,
            deadline=self._deadline,
        )
        try:
            call = lease.ask(question)
        except BaseException:
            await lease.release()
            raise
        self._turn = _Turn(listing, lease, call)
        self._asked += 1
        self._tries[listing.key] = self._tries.get(listing.key, 0) + 1
        self._house.selection.began(listing.key)
        return call

    def _body_for(self, listing: Listing) -> bytes:
        name = listing.offer.offer.model
        if self._head.model in (None, name):
            return self._body
        # Asked for by its id, or under a name of ours: workers know their offer's name only.
        return write_json({**read_event(self._body), "model": name})

    def _left(self) -> Nano | None:
        most = self._request.max_price
        return None if most is None else most - sum(attempt.cost for attempt in self._past)

    async def succeed(self) -> tuple[Listing, Call]:
        """The answer is complete; return whose it is."""
        turn = await self._close_attempt(Outcome.DONE, "")
        self._house.selection.succeeded(turn.listing.key)
        self._tell_end(turn)
        return turn.listing, turn.call

    async def fail(self, error: Exception, *, delivered: bool, complete: bool = False) -> None:
        """An attempt ended early; `delivered` tells whether the user keeps what came of it.

        `complete` tells that only its receipt is missing. Raises the error when no other worker is to be
        asked.
        """
        turn = await self._close_attempt(Outcome.FAILED, str(error)[:_MAX_WHY], delivered=delivered)
        # What cannot be read was made by the worker, although it was stopped here.
        if turn.call.by_worker or isinstance(error, MalformedError):
            self._tell_end(turn, complete=complete)
        if not isinstance(error, CocoonError) or isinstance(error, PriceTooHighError):
            raise error
        self._judge(turn.listing, error)

    async def cancel(self, complete: Callable[[], Awaitable[bool]]) -> None:
        """Nobody wants the rest: stop the worker, and wait a moment for its last count.

        Going away is no fault of the worker's, unless its answer was `complete` and only the receipt did not
        come, not even now.
        """
        turn = self._turn
        if turn is None:
            return
        turn.lease.link.cancel(turn.call)
        try:
            async with asyncio.timeout(_LAST_WORD_S):
                await turn.call.end()
        except TimeoutError:
            pass  # the link goes on waiting, and ends when nothing comes
        await self._close_attempt(Outcome.CANCELLED, "nobody reads it any more", delivered=True)
        if turn.call.receipt is None and await complete():
            self._tell_end(turn, complete=True)

    def continue_with(self, body: bytes) -> None:
        """Ask the next worker for the rest only, in events."""
        self._body, self._stream = body, True
        self._head = RequestHead.read(self._request.kind, body)

    def start_over(self) -> None:
        """Ask the next worker for everything: what came was thrown away."""
        self._body, self._stream = self._request.body, self._request.stream
        self._head = RequestHead.read(self._request.kind, self._body)
        self._delivered = NOTHING_USED

    async def _close_attempt(self, outcome: Outcome, why: str, *, delivered: bool = True) -> _Turn:
        turn, self._turn = self._turn, None
        assert turn is not None
        call, selection = turn.call, self._house.selection
        selection.ended(turn.listing.key)
        if call.first_at is not None:
            selection.first_piece(turn.listing.key, call.first_at - call.asked_at)
        attempt = _attempt(turn, outcome, why)
        self._past.append(attempt)
        if delivered:
            self._delivered = _together(self._delivered, attempt.usage)
        await turn.lease.release()
        return turn

    def _tell_end(self, turn: _Turn, *, complete: bool = False) -> None:
        tell, call = self._house.on_ended, turn.call
        if tell is not None and call.first_at is not None:
            now, kept = self._house.clock(), call.receipt is not None
            tell(EndedPart(turn.listing.offer, kept, complete, call.asked_at, now))

    def _judge(self, listing: Listing, error: CocoonError) -> None:
        """Draw the conclusions for a worker; raise what no other worker would do better."""
        self._errors.append(error)
        selection, key = self._house.selection, listing.key
        why = str(error)[:_MAX_WHY]
        if isinstance(error, WorkerTimeoutError) and self._house.clock() >= self._deadline:
            selection.failed(key, why)
            raise error
        if isinstance(error, RequestRefusedError) and not isinstance(error, TooDearError):
            raise error
        if isinstance(error, UnknownTermsError):
            self._house.catalogue.outdated(self._request.model)
            self._outdated += 1
            if self._outdated > _OUTDATED:
                self._tries[key] = _TRIES_EACH
        elif isinstance(error, DishonestWorkerError):
            self._tries[key] = _TRIES_EACH
            selection.lied(key, why)
        elif isinstance(error, BusyError):
            selection.unavailable(key, float(error.retry_after_s or 1), why)
        elif isinstance(error, TooDearError | ChainError | InsufficientEscrowError | SpendLimitError):
            self._tries[key] = _TRIES_EACH  # nothing against this worker, but not for this request
        elif isinstance(error, SessionRefusedError):
            selection.unavailable(key, float(error.retry_after_s or _SESSION_PAUSE_S), why)
        elif isinstance(error, StaleSessionError | SessionWornError):
            self._taken_over += 1
            if self._taken_over > _TAKEN_OVER:
                self._tries[key] = self._tries.get(key, 0) + 1
        else:
            selection.failed(key, why)

    def _nobody(self, *, retry_after_s: int | None = None) -> CocoonError:
        """Return the error that tells best why nobody answered."""
        model, errors = self._request.model, self._errors
        failures = [error for error in errors if isinstance(error, WorkerFailedError | WorkerTimeoutError)]
        for kind in (BusyError,) if failures else _BY_WEIGHT:
            found = next((error for error in errors if isinstance(error, kind)), None)
            if found is not None:
                return found
        if failures:
            why = f"{len(failures)} attempts failed, the last one because: {failures[-1]}"
            return WorkerFailedError(
                f"no worker could answer for {model}", why=why, retry_after_s=retry_after_s
            )
        if errors:
            return errors[-1]
        if retry_after_s is not None:
            why = "all that fit are busy, or failed a moment ago"
            what = f"no worker for {model} can be asked now"
            return BusyError(what, why=why, retry_after_s=retry_after_s)
        why = self._house.catalogue.why_ignored(model) or "none has an endpoint"
        return NoWorkerError(f"no worker serves {model}", why=why, hint="See explain_choice")

    # -- the bill --------------------------------------------------------------------------------------

    @property
    def asked(self) -> int:
        """How many times a worker was asked."""
        return self._asked

    @property
    def output_tokens(self) -> int:
        """Output tokens that the user has, over all attempts."""
        current = 0 if self._turn is None else self._turn.call.output
        return self._delivered.output_tokens + current

    def bill(self) -> Bill:
        """Return what it used and costs so far."""
        attempts = list(self._past)
        usage = self._delivered
        if self._turn is not None:
            attempts.append(_attempt(self._turn, Outcome.UNDER_WAY, ""))
            usage = _together(usage, self._turn.call.usage)
        last = attempts[-1] if attempts else None
        return Bill(
            usage=usage,
            cost=Nano(sum(attempt.cost for attempt in attempts)) if attempts else NOTHING_PAID,
            worker=None if last is None else last.worker,
            session_id=0 if last is None else last.session_id,
            attempts=tuple(attempts),
        )


def _attempt(turn: _Turn, outcome: Outcome, why: str) -> Attempt:
    call = turn.call
    return Attempt(
        worker=turn.listing.worker,
        outcome=outcome,
        why=why,
        cost=call.cost,
        ttft_s=None if call.first_at is None else call.first_at - call.asked_at,
        usage=call.usage,
        session_id=turn.lease.place.held.ref.session_id,
        receipt=call.receipt,
    )


def _together(before: Usage, more: Usage) -> Usage:
    """Return what the user sees of two parts: the prompt once, all output."""
    if before.input_tokens == 0:
        return more
    return Usage(
        input_tokens=before.input_tokens,
        cached_input_tokens=before.cached_input_tokens,
        output_tokens=before.output_tokens + more.output_tokens,
    )
