"""A small session client made of the seam modules alone, for tests of a worker; honest by itself.

Not the SDK's client. It signs with the real ledger, checks every receipt, and keeps what came. A test may
send any frame itself, stop paying, or cut the connection at any point.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from cocoon_sdk.crypto.channel import Channel, ClientHandshake, WorkerName, client_proof
from cocoon_sdk.crypto.keys import SigningKey, VerifyKey
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.protocol.metering import ClientLedger
from cocoon_sdk.protocol.pricing import Tariff
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.protocol.vouchers import Receipt, ResponseHash, SessionRef, Voucher, request_hash
from cocoon_sdk.types import Nano

WAIT_S = 20.0


@dataclass
class Answer:
    """What came for one request."""

    asked: wire.Ask
    data: list[bytes] = field(default_factory=list)
    deltas: list[wire.Delta] = field(default_factory=list)
    proof: wire.Proof | None = None
    done: wire.Done | None = None
    failed: wire.Failed | None = None
    said: ResponseHash = field(default_factory=ResponseHash)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        """The text of a chat's events, or of a whole answer."""
        found = []
        for data in self.data:
            for choice in msgspec.json.decode(data)["choices"]:
                part = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
                found.append(part.get("content") or "")
        return "".join(found)


@dataclass
class TestClient:
    """One session's client. `pays` decides about each voucher; None signs honestly."""

    __test__ = False

    url: str
    worker: WorkerName
    operator: VerifyKey
    ref: SessionRef
    signer: SigningKey
    terms: Terms
    deposit: Nano
    increment: Nano = field(default_factory=lambda: Nano(1_000_000))
    pays: bool = True
    proves: bool = False
    """Whether commitments are asked for."""

    def __post_init__(self) -> None:
        self.tariff = Tariff(self.terms)
        self.ledger = ClientLedger(self.deposit, increment=self.increment)
        self.answers: dict[int, Answer] = {}
        self.best: Voucher | None = None
        self.next_rid = 1
        self.welcome: wire.Welcome | None = None
        self.session_failed: wire.Failed | None = None
        self.leaving: wire.Leaving | None = None
        self.dues: list[int] = []
        self.messages: list[list[wire.WorkerFrame]] = []
        self.closed = asyncio.Event()
        self.welcomed = asyncio.Event()
        self.due = asyncio.Event()
        self.on_delta: Callable[[wire.Delta], None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- connecting ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def connected(
        self, *, first: list[wire.ClientFrame] | None = None, **hello: Any
    ) -> AsyncIterator[TestClient]:
        """Connect and wait for the welcome or the refusal; the connection is cut at the end."""
        async with aiohttp.ClientSession() as http:
            await self.connect(http, first=first, **hello)
            try:
                yield self
            finally:
                await self.cut()

    async def connect(
        self, http: aiohttp.ClientSession, *, first: list[wire.ClientFrame] | None = None, **hello: Any
    ) -> None:
        self.closed, self.welcomed = asyncio.Event(), asyncio.Event()
        self.socket = await http.ws_connect(
            self.url + wire.SESSION_PATH, protocols=(wire.SUBPROTOCOL,), max_msg_size=8 << 20
        )
        handshake = ClientHandshake(self.worker)
        await self.socket.send_bytes(handshake.hello)
        reply = await self.socket.receive()
        self.channel: Channel = handshake.finish(reply.data, self.operator)
        amount, signature = (self.best.amount, self.best.signature) if self.best else (Nano(0), b"")
        frame = wire.Hello(
            **{
                "escrow": bytes(self.ref.domain.contract.hash_part),
                "session_id": self.ref.session_id,
                "proof": self.signer.sign(client_proof(self.channel.binding, self.ref.to_bytes())),
                "amount": int(amount),
                "signature": signature,
                "accounted": self.ledger.accounted,
                **hello,
            }
        )
        await self.send(frame, *(first or []))
        reading = asyncio.create_task(self._read())
        self._tasks.add(reading)
        async with asyncio.timeout(WAIT_S):
            await self.welcomed.wait()

    async def send(self, *frames: wire.ClientFrame) -> None:
        await self.socket.send_bytes(self.channel.seal(wire.encode_frames(frames)))

    async def cut(self) -> None:
        """Drop the connection without a word."""
        transport = self.socket._response.connection and self.socket._response.connection.transport
        if transport is not None:
            transport.abort()
        await self.socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for answer in self.answers.values():
            answer.ended.set()

    # -- asking --------------------------------------------------------------------------------------------

    def frame(self, kind: str = "chat.completion", *, stream: bool = True, **body: Any) -> wire.Ask:
        """Return the next request's frame."""
        rid, self.next_rid = self.next_rid, self.next_rid + 1
        ask = wire.Ask(rid, kind, self.terms.terms_hash, stream, msgspec.json.encode(body))
        self.answers[rid] = Answer(ask)
        return ask

    async def ask(self, *args: Any, **options: Any) -> Answer:
        """Send a request, with a voucher if one is due."""
        ask = self.frame(*args, **options)
        voucher = self.ledger.payable() if self.pays else None
        prove = [wire.Prove(ask.rid)] if self.proves else []
        await self.send(*([self.sign(voucher)] if voucher is not None else []), ask, *prove)
        return self.answers[ask.rid]

    async def chat(self, text: str, **options: Any) -> Answer:
        """Ask and wait for the end."""
        return await self.end(await self.ask(messages=[{"role": "user", "content": text}], **options))

    async def end(self, answer: Answer) -> Answer:
        async with asyncio.timeout(WAIT_S):
            await answer.ended.wait()
        return answer

    async def end_of_session(self) -> wire.Failed | None:
        async with asyncio.timeout(WAIT_S):
            await self.closed.wait()
        return self.session_failed

    def sign(self, amount: Nano) -> wire.Pay:
        """Sign honestly, note it first."""
        self.ledger.sign(amount)
        self.best = Voucher.sign(self.signer, self.ref, amount)
        return wire.Pay(int(amount), self.best.signature)

    # -- reading -------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                frames = wire.read_worker_frames(self.channel.open(message.data))
                self.messages.append(frames)
                due = max((self._take(frame) for frame in frames), default=0)
                voucher = self.ledger.payable(due) if self.pays and self.welcome is not None else None
                if voucher is not None:
                    await self.send(self.sign(voucher))
        except (ConnectionError, aiohttp.ClientError):
            pass
        finally:
            self.closed.set()
            self.welcomed.set()

    def _take(self, frame: wire.WorkerFrame) -> int:
        match frame:
            case wire.Welcome():
                self.welcome = frame
                self.ledger.resume(frame.booked)
                self.next_rid = max(self.next_rid, frame.next_rid)
                self.welcomed.set()
            case wire.Due():
                self.dues.append(frame.amount)
                self.due.set()
                return frame.amount
            case wire.Delta():
                self._delta(frame)
            case wire.Proof():
                assert self.answers[frame.rid].proof is None
                self.answers[frame.rid].proof = frame
            case wire.Done():
                self._done(frame)
            case wire.Failed(rid=0):
                self.session_failed = frame
                self.welcomed.set()
            case wire.Failed():
                answer = self.answers[frame.rid]
                answer.failed = frame
                self.ledger.finish(frame.rid, frame.charged)
                answer.ended.set()
                answer.moved.set()
            case wire.Leaving():
                self.leaving = frame
        return 0

    def _delta(self, frame: wire.Delta) -> None:
        answer = self.answers[frame.rid]
        price = self.tariff.price(frame.input_tokens, frame.cached_input_tokens, frame.output_tokens)
        self.ledger.charge(frame.rid, price)
        answer.deltas.append(frame)
        answer.data.append(frame.data)
        answer.said.update(frame.data)
        answer.moved.set()
        if self.on_delta is not None:
            self.on_delta(frame)

    def _done(self, frame: wire.Done) -> None:
        answer = self.answers[frame.rid]
        receipt = Receipt(
            rid=frame.rid,
            request_hash=request_hash(answer.asked.kind, answer.asked.body),
            response_hash=answer.said.digest(),
            terms_hash=self.terms.terms_hash,
            proof_hash=frame.proof_hash,  # type: ignore[arg-type]
            input_tokens=frame.input_tokens,
            cached_input_tokens=frame.cached_input_tokens,
            output_tokens=frame.output_tokens,
            charged=Nano(frame.charged),
            total=Nano(frame.total),
        )
        assert receipt.verified_by(self.operator, self.ref, frame.signature)
        full = self.tariff.price(frame.input_tokens, frame.cached_input_tokens, frame.output_tokens)
        assert frame.charged == full or (frame.cancelled and frame.charged <= full)
        self.ledger.finish(frame.rid, frame.charged)
        assert frame.total == self.ledger.used
        answer.done = frame
        answer.ended.set()
        answer.moved.set()
