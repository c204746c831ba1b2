"""One request under way on a link: what came of it, what it costs so far, and whether that can be true.

Owns the checks of a worker's counts, charges and receipt for one request, and handing its pieces to who waits
for them. Must not know sockets, vouchers or other requests.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from cocoon_sdk.client.sessions.bounds import PIECE_BYTES, Ceiling, Tariff
from cocoon_sdk.client.sessions.errors import DishonestWorkerError, SessionError, again
from cocoon_sdk.client.sessions.values import EMBEDDING, SignedReceipt
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import PriceTooHighError
from cocoon_sdk.protocol.canonical import parse_canonical
from cocoon_sdk.protocol.metering import ClientLedger
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.protocol.session_evidence import MAX_PIECES, MAX_RESPONSE_BYTES, PIECE_LENGTH_BYTES
from cocoon_sdk.protocol.session_wire import Delta, Done, Failed, Proof
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.protocol.vouchers import Receipt, ResponseHash, SessionRef, request_hash
from cocoon_sdk.types import Hash, Nano
from cocoon_sdk.verify.commitment import MAX_COMMITMENT_BYTES, Commitment
from cocoon_sdk.verify.seeds import request_seed

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Most bytes of one answer, over all its pieces, with what keeping each of them takes."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one worker, and the bounds that its answer is held to.

    `max_price` is what may be charged at most, in nanoTON; `deadline` ends the answer (monotonic seconds).
    """

    kind: str
    body: bytes = field(repr=False)
    stream: bool
    tariff: Tariff
    ceiling: Ceiling
    max_price: Nano | None
    deadline: float

    @property
    def verifiable(self) -> bool:
        """Whether the terms promise a commitment to how the answer is made."""
        return self.kind != EMBEDDING and self.tariff.terms.sampling is not SamplingClass.UNVERIFIED


class Call:
    """One request and its answer; made by `Link.ask`. Exactly one task may wait for pieces.

    `charged` is what it costs so far, in nanoTON; `whole` tells that the answer came as one body. `asked_at`
    and `first_at` are monotonic seconds. `by_worker` tells that it ended early and not by this side's doing:
    the worker gave it up, fell silent, or the connection broke.
    """

    __slots__ = (
        "_came",
        "_error",
        "_hash",
        "_ledger",
        "_pieces",
        "_proof",
        "_waiter",
        "asked_at",
        "by_worker",
        "cached",
        "cancelling_since",
        "charged",
        "ended",
        "first_at",
        "input",
        "last_at",
        "output",
        "question",
        "receipt",
        "received",
        "rid",
        "whole",
    )

    def __init__(self, rid: int, question: Question, ledger: ClientLedger, now: float) -> None:
        self.rid, self.question, self._ledger = rid, question, ledger
        self.input = self.cached = self.output = 0
        self.charged = 0
        self.received = self._came = 0
        self.whole = False
        self.ended = False
        self.by_worker = False
        self.cancelling_since: float | None = None
        self.receipt: SignedReceipt | None = None
        self.asked_at = self.last_at = now
        self.first_at: float | None = None
        self._hash = ResponseHash()
        self._pieces: deque[bytes] = deque()
        self._proof: bytes | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    # -- for who asked ---------------------------------------------------------------------------------

    async def next(self) -> bytes | None:
        """Return the next piece, None after the last one. Raises what ended the answer, after its pieces."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.ended:
                return None
            await self._wait()
        return self._pieces.popleft()

    def ready(self) -> bytes | None:
        """Return the next piece if it is there already."""
        return self._pieces.popleft() if self._pieces else None

    async def end(self) -> None:
        """Wait until nothing more comes."""
        while not self.ended:
            self._pieces.clear()
            await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def usage(self) -> Usage:
        """The tokens so far, as the worker counts them."""
        return Usage(input_tokens=self.input, cached_input_tokens=self.cached, output_tokens=self.output)

    @property
    def cost(self) -> Nano:
        """What it costs so far."""
        return Nano(self.charged)

    # -- for the link ----------------------------------------------------------------------------------

    def take(self, delta: Delta, now: float) -> bool:
        """Take in a piece; False when it costs more than was allowed. Raises `CocoonError` for lies."""
        data = delta.data
        if not data:
            raise _lie("it sends a piece without content")
        self.received += len(data)
        self._came += 1
        self._check_size()
        self._count(delta.input_tokens, delta.cached_input_tokens, delta.output_tokens)
        self._hash.update(data)
        self.last_at = now
        if self.first_at is None:
            self.first_at = now
            self.whole = not delta.piece and not self.question.stream
        charge = self.question.tariff.price(self.input, self.cached, self.output)
        if charge != self.charged:
            self._ledger.charge(self.rid, charge)
            self.charged = charge
        if self._error is not None or self.cancelling_since is not None:
            return True  # nobody wants it any more, but it came and counts
        most = self.question.max_price
        if most is not None and charge > most:
            self.abort(
                PriceTooHighError(
                    "the answer was cut",
                    why=f"it costs more than the allowed {most}",
                    hint="Raise max_price, or ask for fewer tokens",
                )
            )
            return False
        self._pieces.append(data)
        self._wake()
        return True

    def _check_size(self) -> None:
        # An answer that no record can hold could never be shown to arbiters, whatever is in it.
        if self.question.verifiable:
            if self._came > MAX_PIECES:
                raise _lie(f"its answer has more than the {MAX_PIECES} pieces that evidence can hold")
            if self.received + self._came * PIECE_LENGTH_BYTES > MAX_RESPONSE_BYTES:
                raise _lie(f"its answer exceeds the {MAX_RESPONSE_BYTES} bytes that evidence can hold")
        if self.received + self._came * PIECE_BYTES > MAX_ANSWER_BYTES:
            raise _lie(f"its answer exceeds {MAX_ANSWER_BYTES} bytes")

    def prove(self, proof: Proof) -> None:
        """Take in the commitment that the receipt will name. Raises `CocoonError` unless it was asked for."""
        if not self.question.verifiable or self._proof is not None:
            raise _lie("it commits to what was not asked for, or twice")
        self._proof = proof.data

    def finish(self, done: Done, session: SessionRef, operator: VerifyKey) -> None:
        """Take in the receipt. Raises `CocoonError` unless it says what was counted."""
        if done.cancelled and self.cancelling_since is None:
            raise _lie("it says that a request was cancelled which was not")
        came = self.output
        self._count(done.input_tokens, done.cached_input_tokens, done.output_tokens, sent=not done.cancelled)
        price = self.question.tariff.price(self.input, self.cached, self.output)
        # What a cancelled request had used up may be signed for only in part: the rest is the worker's loss.
        if done.charged > price or (done.charged < price and not done.cancelled):
            raise _lie("its receipt names another price than its terms give")
        if self.first_at is not None:
            # The input was read, or no piece had come: what the engine told late about it is not lost.
            read = self.question.tariff.price(self.input, self.cached, came)
            self._ledger.charge(self.rid, max(self.charged, min(done.charged, read)))
        self._ledger.finish(self.rid, done.charged)
        self.charged = done.charged
        if done.total != self._ledger.used:
            raise _lie("its receipt names another total than what was received")
        receipt = self._receipt(done)
        if not receipt.verified_by(operator, session, done.signature):
            raise _lie("its receipt is not what it sent, or not signed by its operator key")
        commitment = self._commitment(receipt, session)
        self.receipt = SignedReceipt(receipt, session, operator, done.signature, commitment)
        self._end(None)

    def _commitment(self, receipt: Receipt, session: SessionRef) -> Commitment | None:
        """Return what the receipt commits to. Raises `CocoonError` unless it is what the terms promise."""
        if self._proof is None:
            if self.question.verifiable and receipt.output_tokens:
                raise _lie("it does not commit to how the answer was made, as its terms promise")
            return None
        commitment = Commitment.from_json(parse_canonical(self._proof, max_bytes=MAX_COMMITMENT_BYTES))
        if commitment.digest() != receipt.proof_hash:
            raise _lie("its receipt does not name the commitment that it sent")
        if (commitment.prompt_tokens, commitment.output_tokens) != (
            receipt.input_tokens,
            receipt.output_tokens,
        ):
            raise _lie("it commits to other tokens than it counts")
        if commitment.seed != request_seed(session, self.rid, receipt.request_hash):
            raise _lie("it commits to another seed than the request's")
        return commitment

    def _receipt(self, done: Done) -> Receipt:
        return Receipt(
            rid=self.rid,
            request_hash=request_hash(self.question.kind, self.question.body),
            response_hash=self._hash.digest(),
            terms_hash=self.question.tariff.terms_hash,
            proof_hash=Hash(done.proof_hash),
            input_tokens=done.input_tokens,
            cached_input_tokens=done.cached_input_tokens,
            output_tokens=done.output_tokens,
            charged=Nano(done.charged),
            total=Nano(done.total),
        )

    def fail(self, failed: Failed, error: SessionError) -> None:
        """Take in that it failed. Raises `CocoonError` for a charge that cannot be right."""
        self._ledger.finish(self.rid, failed.charged)
        self.charged = failed.charged
        self._blame()
        self._end(error)

    def abort(self, error: Exception, *, by_worker: bool = False) -> None:
        """End it for who waits; the link still hears of it until the worker's last word."""
        if self._error is None and not self.ended:
            if by_worker:
                self._blame()
            self._error = error
            self._wake()

    def lose(self, error: SessionError, *, by_worker: bool) -> None:
        """End it because the link has ended."""
        if by_worker:
            self._blame()
        self._end(again(error))

    def _blame(self) -> None:
        # What this side had stopped already is nobody's failure.
        if self._error is None and self.cancelling_since is None:
            self.by_worker = True

    def _end(self, error: Exception | None) -> None:
        self.ended = True
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _count(self, input_tokens: int, cached: int, output: int, *, sent: bool = True) -> None:
        # Cached input may fall: an engine may tell late what it found in its cache. The price may not.
        if input_tokens < self.input or output < self.output:
            raise _lie("its counts fall")
        if cached > input_tokens:
            raise _lie("it counts more cached input than input")
        ceiling = self.question.ceiling
        if input_tokens > ceiling.input_tokens:
            raise _lie("it counts more input tokens than the request has bytes")
        if output > ceiling.output_tokens or (sent and output > self.received):
            raise _lie("it counts more output tokens than were allowed, or than it sent bytes")
        self.input, self.cached, self.output = input_tokens, cached, output


def _lie(why: str) -> DishonestWorkerError:
    return DishonestWorkerError("the worker is not honest", why=why, hint="Nothing more is paid to it")
