"""One request of a session, from its frame to its receipt.

Owns the steps: what it may cost, its turn, the engine, the pieces and when each may leave, the end. Must not
know sockets, vouchers' signatures or other requests. A piece leaves when it is signed for; while one waits,
what the engine makes meanwhile is held back and counted, and the engine is stopped before that exceeds what
the worker does unpaid.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from structlog.typing import FilteringBoundLogger

from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import EngineError, EngineInterruptedError, EngineUnavailableError
from cocoon_sdk.protocol.session_wire import MAX_BODY_BYTES, Ask, Delta, Done, Due, Failed, FailureCode
from cocoon_sdk.protocol.vouchers import Receipt, ResponseHash, request_hash
from cocoon_sdk.types import Nano
from cocoon_worker.config import ServingConfig
from cocoon_worker.engine.base import Engine, EngineChunk, EngineRequestError, EngineResult
from cocoon_worker.sessions.account import CANCELLED, LOST, SessionAccount, failure
from cocoon_worker.sessions.intake import AskRefusedError, Intake
from cocoon_worker.sessions.proving import Proving
from cocoon_worker.sessions.share import EngineBusyError, EngineShare
from cocoon_worker.sessions.tally import SessionTally

UNPAID: Final = "unpaid"
USED_UP: Final = "used up"
_ENGINE_RETRY_S: Final = 2
_COUNT_S: Final = 2.0
"""How long the engine may take to count a prompt."""
_PAUSE_S: Final = 0.25
"""How long a stream is left unread when no more may be done unpaid, before it is cut off: most vouchers are
under way by then.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """What every request needs."""

    engine: Engine
    share: EngineShare
    config: ServingConfig
    operator: SigningKey
    tally: SessionTally
    log: FilteringBoundLogger


class _UnpaidError(Exception):
    """No voucher came for what is held back."""


_Counts: TypeAlias = tuple[int, int, int]
"""Tokens so far: input, cached input, output."""


class _Piece(NamedTuple):
    data: bytes
    counts: _Counts
    charge: int
    beyond: int
    final: bool


class SessionRequest:
    """Serves one `Ask`; `start` it once."""

    def __init__(self, counter: Counter, account: SessionAccount, ask: Ask, intake: Intake) -> None:
        self._counter, self._account, self._intake = counter, account, intake
        self._rid, self._stream = ask.rid, ask.stream
        self._asked_hash = request_hash(ask.kind, ask.body)
        self._proving = Proving(account.ref, ask.rid, self._asked_hash, intake)
        self._said_hash = ResponseHash()
        self._loop = asyncio.get_running_loop()
        self._asked_at = self._loop.time()
        self._task: asyncio.Task[None] | None = None
        self._entered = self._has_place = self._engine_began = self._answered = self._over = False
        self._in_pieces = self._cache_known = False
        self._why = ""
        self._counts: _Counts = (0, 0, 0)
        self._tariff, self._step = intake.shop.tariff, intake.shop.step
        self._withheld = 0
        self._charge = 0
        self._handed = 0
        self._held: deque[_Piece] = deque()
        self._stopped_short = False
        self._moved: asyncio.Future[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    # -- for the session -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin serving; every end is told to the client and to the account."""
        self._task = self._loop.create_task(self._serve(), name=f"session-request {self._rid}")

    def prove(self) -> bool:
        """See `Running.prove`."""
        return self._proving.want()

    def stop(self, why: str) -> None:
        """End it: `CANCELLED`, `LOST`, `UNPAID` or `USED_UP`. The engine stops at once."""
        if self._over or self._why or self._task is None:
            return
        self._why = why
        self._task.cancel()
        if not self._entered:
            self._account.ledger.abandon(self._rid, 0)
            self._settle_stopped(0)

    async def ended(self) -> None:
        """Wait until it has ended."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    def pump(self) -> None:
        """Hand over what is paid for by now."""
        ledger, held = self._account.ledger, self._held
        if not held or self._over or self._why:
            return
        before = len(held)
        while held and ledger.needed(self._rid, held[0].charge) <= ledger.signed:
            piece = held.popleft()
            ahead = held[-1] if held else piece
            self._hand_over(piece, ahead.charge - piece.charge + ahead.beyond)
        if len(held) < before:
            self._be_patient(False)
            if self._moved is not None and not self._moved.done():
                self._moved.set_result(None)
        if held:
            self._ask_for_payment()
        self._account.let_in()

    # -- serving -------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._entered = True
        try:
            await self._serve_paid()
        except asyncio.CancelledError:
            if not self._why:
                self._why = LOST
            await self._end_stopped()
        except _UnpaidError:
            self._why = UNPAID
            await self._end_stopped()
        except AskRefusedError as error:
            self._fail(error.code, error.why, 0, error.retry_after_s)
        except EngineBusyError as error:
            self._fail(FailureCode.BUSY, str(error), 0, 1)
        except EngineRequestError as error:
            self._fail(FailureCode.BAD_REQUEST, str(error), self._handed)
        except EngineError as error:
            again = isinstance(error, EngineUnavailableError | EngineInterruptedError)
            # Not the text: an engine may quote the prompt in it.
            self._counter.log.warning("engine failed in a session", error=type(error).__name__)
            # What was not handed over is the worker's own loss.
            self._fail(FailureCode.ENGINE, str(error), self._handed, _ENGINE_RETRY_S if again else None)
        except Exception as error:
            # Places, not texts: an error of ours may carry what was being read.
            where = "".join(traceback.format_tb(error.__traceback__)[-4:])
            self._counter.log.error("request failed", error=type(error).__name__, where=where)
            self._fail(FailureCode.INTERNAL, "the worker failed", self._handed)
        finally:
            self._be_patient(False)
            self._leave_engine()

    async def _serve_paid(self) -> None:
        whole = await self._begin()
        self._in_pieces = not self._stream and not whole
        await self._counter.share.take(self._counter.config.queue_s)
        self._has_place = self._engine_began = True
        left_s = self._counter.config.request_s
        if whole:
            self._take_whole(await self._counter.engine.run(self._proving.engine, deadline_s=left_s))
        else:
            chunks = self._counter.engine.stream(self._proving.engine, deadline_s=left_s)
            async with aclosing(chunks):
                async for chunk in chunks:
                    self._take(chunk)
                    if self._stopped_short:
                        await self._until_paid(_PAUSE_S)
                    if (connection := self._account.connection) is not None and connection.full:
                        await connection.room()
        self._leave_engine()
        await self._until_paid(None)

    async def _begin(self) -> bool:
        """Reserve what the first piece may cost; return whether the whole answer comes in one piece."""
        account, intake = self._account, self._intake
        at_once = intake.at_once
        if not self._stream and not at_once and account.ledger.may_begin_whole(intake.whole):
            account.ledger.begin(self._rid, intake.whole)
            return True
        if intake.may_not_fit or not account.ledger.may_ever_begin(intake.begin):
            tokens = await self._counted()
            intake = self._intake = intake if tokens is None else intake.counted(tokens)
        await account.begin(self._rid, intake.begin, self._counter.config.queue_s)
        return at_once

    async def _counted(self) -> int | None:
        try:
            async with asyncio.timeout(_COUNT_S):
                return await self._counter.engine.count_tokens(self._intake.engine)
        except TimeoutError:
            return None

    # -- pieces --------------------------------------------------------------------------------------------

    def _take(self, chunk: EngineChunk) -> None:
        """Take the engine's next event: hand it over, or hold it back until it is paid for."""
        data, prompt, cached, done, final, evidence = chunk
        if cached is None:
            # Until the engine tells what it found in its cache, as much as possible counts as found there: a
            # price never falls, and the difference comes due with the last piece.
            cached = prompt
            if prompt != self._counts[0]:
                self._withheld = self._tariff.price(prompt, 0, 0) - self._tariff.price(prompt, prompt, 0)
        else:
            self._cache_known, self._withheld = True, 0
        charge = self._tariff.price(prompt, cached, done)
        self._counts = counts = (prompt, cached, done)
        if evidence is not None:
            self._proving.evidence = evidence
        if final:
            self._proving.commit(done)
        beyond = 0 if final else self._step + self._withheld
        self._deal(_Piece(data, counts, charge, beyond, final))

    def _take_whole(self, result: EngineResult) -> None:
        raw, usage = result.raw, result.usage
        self._counts = counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        self._cache_known = True
        charge = self._tariff.price(*counts)
        if len(raw) > MAX_BODY_BYTES:
            self._charge = charge
            raise EngineRequestError(
                "the answer is too long for a session",
                why=f"it has {len(raw)} bytes, at most {MAX_BODY_BYTES} travel in one piece",
                hint="Ask for fewer inputs at once, or for base64",
            )
        self._proving.evidence = result.evidence
        self._proving.commit(usage.completion_tokens)
        self._deal(_Piece(raw, counts, charge, 0, True))

    def _deal(self, piece: _Piece) -> None:
        ledger = self._account.ledger
        self._charge = piece.charge
        if not self._held and ledger.needed(self._rid, piece.charge) <= ledger.signed:
            self._hand_over(piece, piece.beyond)
            return
        self._held.append(piece)
        if not ledger.hold(self._rid, piece.charge, step=piece.beyond) and not piece.final:
            self._stopped_short = True
        if len(self._held) == 1:
            self._ask_for_payment()

    def _hand_over(self, piece: _Piece, beyond: int) -> None:
        account = self._account
        account.ledger.hand_over(self._rid, piece.charge, beyond=beyond)
        self._handed = piece.charge
        self._said_hash.update(piece.data)
        first = not self._answered
        if first:
            self._answered = True
            self._counter.tally.ttft.observe(self._loop.time() - self._asked_at)
            account.let_in()
        account.send(Delta(self._rid, *piece.counts, self._in_pieces, piece.data), now=first)
        if piece.final:
            account.ledger.finish(self._rid)
            self._close(self._done(self._charge, cancelled=False), "done")

    # -- waiting for money ---------------------------------------------------------------------------------

    def _ask_for_payment(self) -> None:
        account = self._account
        needed = account.ledger.needed(self._rid, self._held[0].charge)
        if needed > account.ledger.deposit:
            self.stop(USED_UP)
            return
        account.send(Due(needed), now=True)
        self._counter.tally.waits.inc()
        self._be_patient(True)

    def _be_patient(self, on: bool) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self._loop.call_later(self._counter.config.pay_s, self.stop, UNPAID) if on else None

    async def _until_paid(self, most_s: float | None) -> None:
        """Wait until nothing is held back any more; after `most_s` the answer ends as unpaid."""
        try:
            async with asyncio.timeout(most_s):
                while self._held:
                    self._moved = self._loop.create_future()
                    await self._moved
        except TimeoutError:
            raise _UnpaidError from None
        self._stopped_short = False

    # -- ends ----------------------------------------------------------------------------------------------

    async def _end_stopped(self) -> None:
        """Settle a request that was cut off: what the engine has done is owed, as far as it is signed for."""
        self._leave_engine()
        work = 0
        if self._engine_began:
            prompt, cached, done = self._counts
            if not prompt:
                prompt = await self._counted() or 0
            # How much came out of the cache is told at the end only: without an end there is no discount.
            self._counts = (prompt, cached if self._cache_known else 0, done)
            work = self._tariff.price(*self._counts)
        self._settle_stopped(work)

    def _settle_stopped(self, work: int) -> None:
        if self._why == CANCELLED:
            try:
                self._proving.commit(self._counts[2], cancelled=True)
            except EngineError as error:
                self._fail(FailureCode.ENGINE, str(error), self._handed)
                return
        charged = self._account.ledger.abandon(self._rid, work)
        if self._why == CANCELLED:
            self._close(self._done(charged, cancelled=True), CANCELLED)
        elif self._why == USED_UP:
            why = "the deposit is used up: top it up, or open another session"
            self._close(
                failure(FailureCode.SESSION, why, rid=self._rid, charged=charged), FailureCode.SESSION
            )
        elif self._why == UNPAID:
            why = "no voucher came in time for what was made"
            self._close(failure(FailureCode.UNPAID, why, rid=self._rid, charged=charged), UNPAID)
        else:
            self._close(None, LOST)

    def _fail(self, code: str, why: str, work: int, retry_after_s: int | None = None) -> None:
        if self._over:
            return
        charged = self._account.ledger.abandon(self._rid, work)
        frame = failure(code, why, rid=self._rid, charged=charged, retry_after_s=retry_after_s)
        self._close(frame, code)

    def _close(self, frame: Done | Failed | None, outcome: str) -> None:
        self._over = True
        self._held.clear()
        if frame is not None:
            if isinstance(frame, Done) and (proof := self._proving.frame()) is not None:
                self._account.send(proof)
            self._account.send(frame)
        self._account.over(self._rid)
        self._counter.tally.ended(outcome, self._counts)

    def _done(self, charged: int, *, cancelled: bool) -> Done:
        total, (prompt, cached, done) = self._account.ledger.booked, self._counts
        proof_hash = self._proving.proof_hash
        receipt = Receipt(
            rid=self._rid,
            request_hash=self._asked_hash,
            response_hash=self._said_hash.digest(),
            terms_hash=self._intake.shop.offer.terms_hash,
            proof_hash=proof_hash,
            input_tokens=prompt,
            cached_input_tokens=cached,
            output_tokens=done,
            charged=Nano(charged),
            total=Nano(total),
        )
        signature = receipt.sign(self._counter.operator, self._account.ref)
        return Done(self._rid, prompt, cached, done, charged, total, proof_hash, signature, cancelled)

    def _leave_engine(self) -> None:
        if self._has_place:
            self._has_place = False
            self._counter.share.release()
