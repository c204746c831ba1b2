"""Answers from whichever worker fits: whole bodies or streams, with retries and going on elsewhere.

Owns what users get: one answer, one usage, one bill, however many workers took part. Must not know sockets,
frames or chain.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self

from pytoniq_core import Address

from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.sessions.answers.answering import Answering, House
from cocoon_sdk.client.sessions.answers.catalogue import Catalogue, Listing, ModelSource, OfferSource
from cocoon_sdk.client.sessions.answers.continuation import (
    Continuer,
    NotContinuableError,
    closing_event,
    continued_body,
    is_complete,
    said_so_far,
)
from cocoon_sdk.client.sessions.answers.events import (
    checked_piece,
    engine_usage,
    usage_event,
    usage_with_cost,
    without_usage,
)
from cocoon_sdk.client.sessions.answers.finished import FinishedAnswer, OnEnded, OnFinished
from cocoon_sdk.client.sessions.answers.joining import Joiner, beside, write_json
from cocoon_sdk.client.sessions.answers.selection import Selection, SelectionPolicy
from cocoon_sdk.client.sessions.errors import (
    AnswerCutError,
    DishonestWorkerError,
    SessionError,
    WorkerFailedError,
)
from cocoon_sdk.client.sessions.links.call import Call
from cocoon_sdk.client.sessions.links.dialing import Dialer
from cocoon_sdk.client.sessions.links.link import DEFAULT_LIMITS, LinkLimits
from cocoon_sdk.client.sessions.links.pool import LinkPool, Sessions
from cocoon_sdk.client.sessions.values import Bill, Candidate, InferenceRequest, ServedModel
from cocoon_sdk.data import AddressPolicy
from cocoon_sdk.errors import CocoonError, MalformedError, PriceTooHighError


class _Events:
    """The pieces of one answer, one after the other, whoever makes them."""

    def __init__(
        self, house: House, request: InferenceRequest, among: Callable[[WorkerOffer], bool] | None = None
    ) -> None:
        self._request, self._house = request, house
        self.answering = Answering(house, request, among)
        self._picked = among is not None
        self.said: list[bytes] = []
        """What came of the answer so far: what another worker would go on from."""
        self._travelled: list[bytes] = []
        self.whole = False
        self.ended = False
        self._with_usage: bytes | None = None
        self._call: Call | None = None
        self._trouble: MalformedError | None = None
        self._continuer: Continuer | None = None

    def ready(self) -> bytes | None:
        """Return the next event if it is there already."""
        while self._call is not None and self._trouble is None:
            piece = self._call.ready()
            if piece is None:
                return None
            try:
                event = self._event(piece)
            except MalformedError as error:
                self._trouble = error  # `next` sees to it
                return None
            if event is not None:
                return event
        return None

    async def next(self) -> bytes | None:
        """Return the next event, None after the last one. Raises what ended the answer."""
        while not self.ended:
            if self._call is None:
                self._call = await self.answering.begin()
            try:
                if self._trouble is not None:
                    raise self._trouble
                piece = await self._call.next()
                event = None if piece is None else self._event(piece)
                if piece is None and not self.said:
                    raise WorkerFailedError("the worker failed", why="its answer is empty")
            except (SessionError, MalformedError, PriceTooHighError) as error:
                self._call = self._trouble = None
                event = await self._go_on(error)
            else:
                if piece is None:
                    self.ended, self._call = True, None
                    self._tell(*await self.answering.succeed())
            if event is not None:
                return event
        return None

    def _tell(self, listing: Listing, call: Call) -> None:
        """Tell who wants to hear of it, unless several workers took part, or one was picked for a reason."""
        untold = self._continuer is not None or self._picked or call.receipt is None
        if self._house.on_finished is None or untold:
            return
        assert call.receipt is not None
        question = call.question
        self._house.on_finished(
            FinishedAnswer(
                listing.offer,
                question.kind,
                question.body,
                tuple(self.said),
                self.whole,
                call.receipt,
                tuple(self._travelled),
            )
        )

    async def leave(self) -> None:
        """Nobody reads any more: stop the worker."""
        if not self.ended:
            self.ended, self._call = True, None
            await self.answering.cancel(self._is_complete)

    async def _is_complete(self) -> bool:
        if self.whole:
            return True
        return await beside(self.said, lambda: is_complete(self._request.kind, self.said))

    def leave_soon(self, on_bill: Callable[[Bill], None] | None = None) -> None:
        """The same, beside what goes on; then hand out the bill."""
        if not self.ended:
            self._house.pool.spawn(self._leave_with_bill(on_bill))
        elif on_bill is not None:
            on_bill(self.answering.bill())

    async def _leave_with_bill(self, on_bill: Callable[[Bill], None] | None) -> None:
        try:
            await self.leave()
        finally:
            if on_bill is not None:
                on_bill(self.answering.bill())

    def engine_usage(self) -> dict[str, Any] | None:
        """Return the usage in the engine's own words, when one worker gave the whole answer."""
        if self._with_usage is None or self.answering.asked != 1:
            return None
        return engine_usage(self._with_usage)

    def _event(self, piece: bytes) -> bytes | None:
        if self._house.on_finished is not None:
            self._travelled.append(piece)
        piece = checked_piece(piece)
        if not self._request.stream and self._call is not None and self._call.whole:
            self.whole = True
            self.said.append(piece)
            return piece
        event = without_usage(piece)
        if event is not piece:
            self._with_usage = piece
            if event is None:
                return None
        if self._continuer is not None:
            event = self._continuer.rewrite(event)
        self.said.append(event)
        return event

    async def _go_on(self, error: CocoonError) -> bytes | None:
        """Prepare the next attempt: from what was said, or from the beginning where nobody has it yet.

        May return the last event instead. Raises when the answer has to end here.
        """
        if self.whole or (isinstance(error, DishonestWorkerError) and not self._request.stream):
            self._throw_away()  # what its worker did not vouch for
        if not self.said:
            await self.answering.fail(error, delivered=False)
            return None
        kind, answering = self._request.kind, self.answering
        try:
            so_far = await beside(self.said, lambda: said_so_far(kind, self.said))
            body = continued_body(kind, self._request.body, so_far, answering.output_tokens)
        except NotContinuableError as obstacle:
            if not self._request.stream:
                self._throw_away()
                await answering.fail(error, delivered=False)
                return None
            complete = await self._is_complete()
            await answering.fail(error, delivered=True, complete=complete)
            if complete:
                self.ended = True  # only the worker's receipt is missing
                return None
            why = f"{error}; {obstacle}"
            raise AnswerCutError("the answer broke off", why=why, hint="Ask again") from error
        await answering.fail(error, delivered=True, complete=so_far.finished)
        if so_far.finished:
            self.ended = True  # only the worker's receipt is missing
            return None
        if body is None:
            self.ended = True
            self.said.append(closing_event(kind, so_far))
            return self.said[-1]
        self._continuer = Continuer(kind, so_far)
        answering.continue_with(body if so_far.text else self._request.body)
        return None

    def _throw_away(self) -> None:
        self.said.clear()
        self._travelled.clear()
        self.whole, self._continuer = False, None
        self.answering.start_over()


class InferenceStream:
    """An answer while it is made: an async iterator of the JSON of one OpenAI event each, without `data: `.

    The last event carries usage and cost, if the body asked for it (`stream_options.include_usage`). Leaving
    early (`aclose`, or the end of `async with`) stops the worker's engine.
    """

    def __init__(self, house: House, request: InferenceRequest) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events = _Events(house, request)
        self._usage_due = self._events.answering.head.include_usage

    def __del__(self) -> None:
        # Forgotten in the middle: the worker must not go on, and be paid, for nobody.
        loop = self._loop
        if loop is not None and not self._events.ended and not loop.is_closed():
            loop.call_soon_threadsafe(self._events.leave_soon)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next event. Raises what ended the answer."""
        event = self._events.ready()
        if event is None:
            self._loop = asyncio.get_running_loop()
            event = await self._events.next()
        if event is not None:
            return event
        if not self._usage_due:
            raise StopAsyncIteration
        self._usage_due = False
        events = self._events
        return usage_event(events.said[-1] if events.said else None, events.engine_usage(), self.bill)

    def ready(self, most: int = 256) -> list[bytes]:
        """Return further events that are there already: what came together may leave together."""
        found: list[bytes] = []
        while len(found) < most and (event := self._events.ready()) is not None:
            found.append(event)
        return found

    @property
    def bill(self) -> Bill:
        """What it used and costs so far."""
        return self._events.answering.bill()

    async def aclose(self) -> None:
        """Stop the answer at the worker and wait shortly for its last count."""
        self._usage_due = False
        await self._events.leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class InferenceClient:
    """Asks workers; get it as `AsyncCocoon.inference`. Close it when done."""

    def __init__(
        self,
        workers: OfferSource,
        models: ModelSource,
        sessions: Sessions,
        policy: AddressPolicy,
        *,
        selection: SelectionPolicy | None = None,
        limits: LinkLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
        on_finished: OnFinished | None = None,
        on_ended: OnEnded | None = None,
    ) -> None:
        catalogue = Catalogue(workers, models, clock=clock)
        pool = LinkPool(sessions, Dialer(policy), limits=limits, clock=clock, sleep=sleep)
        choice = Selection(selection, clock=clock)
        self._house = House(catalogue, pool, choice, clock, sleep, on_finished, on_ended)

    async def answer(
        self,
        request: InferenceRequest,
        *,
        on_bill: Callable[[Bill], None] | None = None,
        among: Callable[[WorkerOffer], bool] | None = None,
    ) -> tuple[bytes, Bill]:
        """Return the whole OpenAI body in JSON, with its usage as the worker counted it, and the bill.

        `on_bill` is called once with the final bill, also when the answer fails; when the caller is
        cancelled, after the worker has been stopped and has said what it counted. Only workers whose offer
        `among` lets pass are asked.

        Raises `RequestRefusedError`, `NoWorkerError`, `UnknownModelError`, `InsufficientEscrowError`,
        `SpendLimitError`, `BusyError`, `WorkerFailedError`, `WorkerTimeoutError`, `PriceTooHighError`.
        """
        events = _Events(self._house, request, among)
        try:
            while await events.next() is not None:
                pass
        finally:
            events.leave_soon(on_bill)
        bill = events.answering.bill()
        if events.whole:
            return events.said[0], bill
        usage = usage_with_cost(events.engine_usage(), bill)
        del usage["cost"]
        return await beside(events.said, lambda: _with_usage(request.kind, events.said, usage)), bill

    def stream(self, request: InferenceRequest) -> InferenceStream:
        """Return an answer that is made while it is read; nothing is sent before its first `anext`.

        Raises `RequestRefusedError`; reading it raises what `answer` raises, and `AnswerCutError`.
        """
        return InferenceStream(self._house, request)

    async def models(self) -> tuple[ServedModel, ...]:
        """Return the models that at least one worker serves, by name. Raises `ChainError`."""
        return await self._house.catalogue.served()

    async def explain_choice(self, model: str) -> tuple[Candidate, ...]:
        """Return the workers of a model, best first, with the reasons.

        Raises `UnknownModelError` and `ChainError`.
        """
        listings = await self._house.catalogue.offers(model)
        pool = self._house.pool
        return self._house.selection.explain(listings, lambda listing: pool.remaining(listing.worker))

    def leave(self, worker: Address, why: str) -> None:
        """Ask this worker nothing any more; why is told by `explain_choice`."""
        self._house.selection.left(bytes(worker.hash_part), why)

    def come_back(self, worker: Address) -> None:
        """Ask this worker again as any other."""
        self._house.selection.come_back(bytes(worker.hash_part))

    async def close(self) -> None:
        """Close all links; sessions stay open."""
        await self._house.catalogue.close()
        await self._house.pool.close()


def _with_usage(kind: str, events: Iterable[bytes], usage: dict[str, Any]) -> bytes:
    joiner = Joiner(kind)
    for event in events:
        joiner.add(event)
    return write_json({**joiner.body(), "usage": usage})
