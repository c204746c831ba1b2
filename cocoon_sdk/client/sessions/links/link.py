"""One connection to one worker for one session: many requests over it, paid for as their answers come.

Owns the handshake, resuming, sending what is ready in one message, paying ahead and on demand, and ending
the link at the first thing that cannot be true. Must not know how workers are chosen, or what happens to a
request whose link broke. A voucher leaves only after `PaidSession.sign` has returned: it is on disk by then.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import aiohttp

from cocoon_sdk.client.sessions.errors import (
    BusyError,
    DishonestWorkerError,
    SessionError,
    SessionUsedUpError,
    SessionWornError,
    TooDearError,
    WorkerLostError,
    WorkerTimeoutError,
    again,
)
from cocoon_sdk.client.sessions.links import failures
from cocoon_sdk.client.sessions.links.call import Call, Question
from cocoon_sdk.client.sessions.links.dialing import Dialer
from cocoon_sdk.client.sessions.links.greeting import PaidSession, greet
from cocoon_sdk.crypto.channel import Channel
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol import session_wire as wire

_MESSAGE_BYTES: Final = 3 * 1024 * 1024
"""How much is put into one message; the channel takes 4 MiB."""


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """How long a link waits, in seconds."""

    handshake_s: float = 20.0
    """The worker looks at the chain in it."""
    first_piece_s: float = 120.0
    """From a request to the first piece of its answer, the worker's queue included."""
    between_pieces_s: float = 60.0
    last_word_s: float = 10.0
    """From a `Cancel` to the worker's last word on that request."""
    heartbeat_s: float = 15.0
    """Silence after which the worker is asked for a sign of life; three times that, and it is gone."""
    tick_s: float = 1.0


DEFAULT_LIMITS: Final = LinkLimits()


class Link:
    """An authenticated connection; make it with `open`. `error` says why it ended.

    `operator` is the key that the worker authenticated with, and signs receipts with.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        channel: Channel,
        session: PaidSession,
        operator: VerifyKey,
        limits: LinkLimits,
        clock: Callable[[], float],
    ) -> None:
        self._socket, self._channel, self.session = socket, channel, session
        self.operator, self._limits, self._clock = operator, limits, clock
        self._ref, self._ledger = session.ref, session.ledger
        self._calls: dict[int, Call] = {}
        self._outbox: deque[wire.ClientFrame] = deque()
        self._wake = asyncio.Event()
        self._due = 0
        self._heard_at = clock()
        self._pinged_at = 0.0
        self._unsaved = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ticker: asyncio.TimerHandle | None = None
        self.error: SessionError | None = None
        self.leaving = False

    @classmethod
    async def open(
        cls,
        dialer: Dialer,
        endpoint: str,
        session: PaidSession,
        operator: VerifyKey,
        *,
        limits: LinkLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> Link:
        """Connect, authenticate both sides, and agree on the counts.

        Raises `WorkerLostError`, `EndpointRefusedError`, `DishonestWorkerError`, `StaleSessionError`, or what
        the worker says against the session.
        """
        socket = await dialer.connect(endpoint)
        try:
            async with asyncio.timeout(limits.handshake_s):
                greeting = await greet(socket, session, operator)
        except TimeoutError:
            await socket.close()
            why = f"it did not greet within {limits.handshake_s:g} s"
            raise WorkerLostError("cannot talk to the worker", why=why) from None
        except CocoonError as error:
            await socket.close()
            raise failures.of_worker(error) from None
        except (aiohttp.ClientError, OSError) as error:
            await socket.close()
            raise WorkerLostError("cannot talk to the worker", why=type(error).__name__) from None
        except BaseException:
            await socket.close()
            raise
        link = cls(socket, greeting.channel, session, operator, limits, clock)
        link._start(greeting.rest)
        return link

    def __repr__(self) -> str:
        state = "open" if self.error is None else self.error.code
        return f"<Link session {self._ref.session_id}, {state}, {len(self._calls)} requests>"

    @property
    def alive(self) -> bool:
        """Tell whether new requests may be sent."""
        return self.error is None and not self.leaving

    @property
    def under_way(self) -> int:
        """Number of requests whose last word has not come."""
        return len(self._calls)

    # -- requests ------------------------------------------------------------------------------------------

    def ask(self, question: Question) -> Call:
        """Send a request, with a voucher in the same message where one is due.

        Raises `SessionError` when the link has ended, `BusyError` when too many requests are under way,
        `TooDearError` when what its prompt probably costs is more than may be paid ahead, `SessionWornError`
        when another session could pay for it.
        """
        if self.error is not None:
            raise again(self.error)
        if self.leaving or len(self._calls) >= wire.MAX_REQUESTS:
            raise BusyError("the worker takes no more requests on this connection", retry_after_s=1)
        if not self._ledger.affords(likely := question.ceiling.likely_begin):
            raise self._too_dear(likely <= self._ledger.increment, f"it costs about {likely}")
        rid = self.session.next_rid
        self.session.next_rid += 1
        call = Call(rid, question, self._ledger, self._clock())
        self._calls[rid] = call
        terms_hash = question.tariff.terms_hash
        self._outbox.append(wire.Ask(rid, question.kind, terms_hash, question.stream, question.body))
        if question.verifiable:
            self._outbox.append(wire.Prove(rid))
        self._wake.set()
        return call

    def cancel(self, call: Call) -> None:
        """Stop a request at the worker; what it has used up is still owed, and its last word awaited."""
        if call.ended or call.cancelling_since is not None or self.error is not None:
            return
        call.cancelling_since = self._clock()
        self._outbox.append(wire.Cancel(call.rid))
        self._wake.set()

    def drop(self, error: SessionError) -> None:
        """End the connection since its worker cannot be relied upon; requests under way end with `error`."""
        self._fail(error)

    async def close(self) -> None:
        """End the connection; requests under way end with `WorkerLostError`."""
        self._fail(WorkerLostError("the connection was closed", why="by this side"), by_worker=False)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- beginning -----------------------------------------------------------------------------------------

    def _start(self, first: Sequence[wire.WorkerFrame]) -> None:
        try:
            for frame in first:
                self._take(frame, self._heard_at)
        except CocoonError as error:
            self._fail(failures.of_worker(error))
        self._tasks = [
            asyncio.create_task(self._reading(), name="cocoon session: reading"),
            asyncio.create_task(self._sending(), name="cocoon session: sending"),
        ]
        self._schedule()

    # -- sending -------------------------------------------------------------------------------------------

    async def _sending(self) -> None:
        try:
            while self.error is None:
                await self._wake.wait()
                self._wake.clear()
                await self._pay()
                while self._outbox:
                    await self._socket.send_bytes(self._channel.seal(self._next_message()))
                if self._unsaved and not self._calls:
                    self._unsaved = False
                    await self.session.save()
        except CocoonError as error:
            self._fail(failures.of_ours(error), by_worker=False)
        except (aiohttp.ClientError, OSError) as error:
            self._fail(WorkerLostError("the connection to the worker broke", why=type(error).__name__))

    async def _pay(self) -> None:
        amount = self._ledger.payable(self._due) if self._calls else None
        if amount is not None:
            voucher = await self.session.sign(amount)
            # In front: it pays for what is asked in the same message.
            self._outbox.appendleft(wire.Pay(int(voucher.amount), voucher.signature))

    def _next_message(self) -> bytes:
        frames: list[wire.ClientFrame] = []
        size = 0
        while self._outbox and len(frames) < wire.MAX_FRAMES:
            frame = self._outbox[0]
            size += len(frame.body) if isinstance(frame, wire.Ask) else 0
            if frames and size > _MESSAGE_BYTES:
                break
            frames.append(self._outbox.popleft())
        return wire.encode_frames(frames)

    # -- receiving -----------------------------------------------------------------------------------------

    async def _reading(self) -> None:
        receive = self._socket.receive
        binary = aiohttp.WSMsgType.BINARY
        try:
            while self.error is None:
                message = await receive()
                self._heard_at = now = self._clock()
                if message.type is binary:
                    used = self._ledger.used
                    for frame in wire.read_worker_frames(self._channel.open(message.data)):
                        self._take(frame, now)
                    if self._ledger.used != used and self._calls and self._ledger.payable() is not None:
                        self._wake.set()
                elif message.type is aiohttp.WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is not aiohttp.WSMsgType.PONG:
                    raise WorkerLostError("the connection to the worker broke", why="it was closed")
        except CocoonError as error:
            self._fail(failures.of_worker(error))
        except (aiohttp.ClientError, OSError) as error:
            self._fail(WorkerLostError("the connection to the worker broke", why=type(error).__name__))

    def _take(self, frame: wire.WorkerFrame, now: float) -> None:
        if isinstance(frame, wire.Delta):
            call = self._call(frame.rid)
            if not call.take(frame, now):
                self.cancel(call)
        elif isinstance(frame, wire.Done):
            call = self._call(frame.rid)
            call.finish(frame, self._ref, self.operator)
            self._forget(call)
        elif isinstance(frame, wire.Proof):
            self._call(frame.rid).prove(frame)
        elif isinstance(frame, wire.Due):
            self._take_due(frame.amount)
        elif isinstance(frame, wire.Failed):
            error = failures.of_frame(frame)
            if frame.rid == 0:
                raise error
            if isinstance(error, SessionWornError):
                self.session.wear_out()
            call = self._call(frame.rid)
            call.fail(frame, error)
            self._forget(call)
        elif isinstance(frame, wire.Leaving):
            self.leaving = True
        else:
            raise DishonestWorkerError("the worker is not honest", why="it greets a second time")

    def _too_dear(self, another_would_do: bool, why: str) -> SessionError:
        why = f"{why}, and {self._ledger.window} nanoTON at most may be paid ahead"
        if another_would_do and self._ledger.lost:
            self.session.wear_out()
            return SessionWornError("the session is worn", why=why)
        return TooDearError(
            "the prompt is too dear for a session",
            why=why,
            hint="Shorten it, raise the increment, or open a job for it",
        )

    def _call(self, rid: int) -> Call:
        call = self._calls.get(rid)
        if call is None:
            raise DishonestWorkerError("the worker is not honest", why="it answers what was not asked")
        return call

    def _forget(self, call: Call) -> None:
        del self._calls[call.rid]
        self._unsaved = True
        if not self._calls:
            self._wake.set()

    def _take_due(self, amount: int) -> None:
        self._due = max(self._due, amount)
        if self._ledger.covers(amount):
            self._wake.set()
            return
        error: SessionError
        if amount > self._ledger.deposit:
            error = SessionUsedUpError("the session is used up", why="its deposit does not hold the answer")
        else:
            error = self._too_dear(
                amount - self._ledger.used <= self._ledger.increment, "the worker waits for more"
            )
        # One piece brings the price of the prompt, the first or (what was found in a cache) the last one:
        # only a request whose prompt is as dear as that can need so much.
        dear = [
            call
            for call in self._calls.values()
            if call.cancelling_since is None and not self._ledger.affords(call.question.ceiling.begin)
        ]
        if not dear:
            why = "it waits for more than may be paid ahead"
            raise DishonestWorkerError("the worker is not honest", why=why)
        for call in dear:
            call.abort(again(error))
            self.cancel(call)

    # -- watching ------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self.error is None:
            self._ticker = asyncio.get_running_loop().call_later(self._limits.tick_s, self._tick)

    def _tick(self) -> None:
        self.watch()
        self._schedule()

    def watch(self) -> None:
        """End what takes too long, and ask for a sign of life. The link does so itself every `tick_s`."""
        now, limits = self._clock(), self._limits
        silent = now - self._heard_at
        if silent > 3 * limits.heartbeat_s:
            self._fail(WorkerLostError("the worker fell silent", why=f"no sign of life for {silent:.0f} s"))
            return
        if silent > limits.heartbeat_s and now - self._pinged_at > limits.heartbeat_s:
            self._pinged_at = now
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks.append(asyncio.create_task(self._ping(), name="cocoon session: sign of life"))
        for call in list(self._calls.values()):
            self._watch(call, now)

    async def _ping(self) -> None:
        try:
            await self._socket.ping()
        except (aiohttp.ClientError, OSError) as error:
            self._fail(WorkerLostError("the connection to the worker broke", why=type(error).__name__))

    def _watch(self, call: Call, now: float) -> None:
        limits = self._limits
        if call.cancelling_since is not None:
            if now - call.cancelling_since > limits.last_word_s:
                why = "it does not end a request that was cancelled"
                self._fail(WorkerLostError("the worker fell silent", why=why))
            return
        if now > call.question.deadline:
            why = "the answer was not complete in time"
        elif call.first_at is None and now - call.last_at > limits.first_piece_s:
            why = f"no answer began within {limits.first_piece_s:g} s"
        elif call.first_at is not None and now - call.last_at > limits.between_pieces_s:
            why = f"nothing more came for {limits.between_pieces_s:g} s"
        else:
            return
        in_time = now <= call.question.deadline
        call.abort(WorkerTimeoutError("the worker takes too long", why=why), by_worker=in_time)
        self.cancel(call)

    def _fail(self, error: SessionError, *, by_worker: bool = True) -> None:
        if self.error is not None:
            return
        self.error = error
        if self._ticker is not None:
            self._ticker.cancel()
        for call in self._calls.values():
            call.lose(error, by_worker=by_worker)
        self._calls.clear()
        self._wake.set()
        # Ends the reading task, which may be the one that came here.
        self._tasks.append(asyncio.create_task(self._end_socket(), name="cocoon session: closing"))

    async def _end_socket(self) -> None:
        with suppress(aiohttp.ClientError, OSError):
            await self._socket.close()
