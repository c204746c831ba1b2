"""A scripted worker's session endpoint, made of the seam modules alone, and a client's sessions with it.

For unit tests of the client's link: the worker is honest by itself, and a test bends single frames of it.
Real sockets, real handshakes, real ledgers and receipts; there is no chain and no engine.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import WSMsgType, web
from pytoniq_core import Address

from cocoon_sdk.client.discovery import WorkerList, WorkerOffer
from cocoon_sdk.client.sessions.answers.finished import OnEnded
from cocoon_sdk.client.sessions.answers.inference import InferenceClient
from cocoon_sdk.client.sessions.answers.selection import SelectionPolicy
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SessionRecord, SessionState, SpendLimits
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.client.sessions.funds.tables import SESSIONS_SCHEMA
from cocoon_sdk.client.sessions.links.link import LinkLimits
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.contracts.accounts import Genuine
from cocoon_sdk.contracts.registry import RegisteredModel
from cocoon_sdk.crypto.channel import Channel, WorkerHandshake, WorkerName, client_proof
from cocoon_sdk.crypto.keys import BoxKey, SigningKey, VerifyKey
from cocoon_sdk.data import AddressPolicy
from cocoon_sdk.errors import ChainUnavailableError, CocoonError
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.protocol.metering import WorkerLedger
from cocoon_sdk.protocol.offers import Offer, Prekey, WorkerInfo
from cocoon_sdk.protocol.pricing import Tariff
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.protocol.vouchers import (
    NO_PROOF,
    Receipt,
    ResponseHash,
    SessionRef,
    Voucher,
    request_hash,
    voucher_key,
)
from cocoon_sdk.storage import open_database
from cocoon_sdk.types import Hash, Nano

MODEL = "Org/Tiny-1B"
NOW = 1_800_000_000
ESCROW = Address((0, hashlib.sha256(b"escrow").digest()))
DOMAIN = Domain(-3, ESCROW, 7)
HOT_KEY = SigningKey.from_seed(hashlib.sha256(b"hot key").digest())
DEPOSIT = Nano.ton("1")
LOCAL = ("127.0.0.0/8",)
MODEL_ID, ENTRY_HASH = Hash(hashlib.sha256(b"model").digest()), Hash(hashlib.sha256(b"entry").digest())
ENTRY = RegisteredModel(MODEL_ID, MODEL, Nano(0), Hash(bytes(32)), ENTRY_HASH)
INPUT_PRICE, OUTPUT_PRICE, NO_MINIMUM = Nano.ton("0.1"), Nano.ton("10"), Nano(0)
INPUT_TOKENS = 10

Bend = Callable[[wire.WorkerFrame], Sequence[wire.WorkerFrame]]
to_json = msgspec.json.encode


class CutError(Exception):
    """Ends the connection without a word."""


def honest(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
    return (frame,)


def chunk(text: str | None, *, finish: str | None = None, name: str = "c-1", usage: Any = None) -> bytes:
    """Return an event of a chat's stream, as vLLM writes it."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    event = {"id": name, "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    return to_json(event if usage is None else {**event, "usage": usage})


def usage_of(output: int) -> dict[str, Any]:
    return {
        "prompt_tokens": INPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + output,
        "completion_tokens": output,
    }


@dataclass
class Served:
    """One session as the worker counts it; it outlives connections."""

    ref: SessionRef
    ledger: WorkerLedger
    best: bytes = b""
    next_rid: int = 1


@dataclass
class ScriptedSessionWorker:
    """Answers every request with `words`, one token each; `bend` changes what leaves.

    `hold` keeps the answer back before the token of that number until `go_on` is set.
    """

    name: str
    words: tuple[str, ...] = ("Hel", "lo", " wor", "ld")
    input_price: Nano = INPUT_PRICE
    output_price: Nano = OUTPUT_PRICE
    minimum_price: Nano = NO_MINIMUM
    bend: Bend = honest
    hold: int | None = None
    sessions: dict[int, Served] = field(default_factory=dict)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    frames: list[wire.ClientFrame] = field(default_factory=list)
    connections: int = 0
    cancelled: list[int] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.operator = SigningKey.from_seed(hashlib.sha256(self.name.encode()).digest())
        self.address = Address((0, hashlib.sha256(b"stake " + self.name.encode()).digest()))
        self.go_on, self.asked = asyncio.Event(), asyncio.Event()
        self.impostor: SigningKey | None = None
        self.spoil_text: Callable[[bytes], bytes] = bytes
        self.spoil_sealed: Callable[[bytes], bytes] = bytes
        self.spoil_reply: Callable[[bytes], bytes] = bytes
        self.refusals: list[wire.Failed] = []
        self._runner: web.AppRunner | None = None

    # -- what is on chain ----------------------------------------------------------------------------------

    @property
    def terms(self) -> Terms:
        return Terms(
            model_id=ENTRY.model_id,
            model_entry_hash=ENTRY.entry_hash,
            input_price=self.input_price,
            cached_input_price=self.input_price,
            output_price=self.output_price,
            minimum_price=self.minimum_price,
            sampling=SamplingClass.UNVERIFIED,
        )

    @property
    def offer(self) -> WorkerOffer:
        offer = Offer(model=MODEL, terms=self.terms, max_context=4096, max_output_tokens=256)
        prekey = Prekey(key=BoxKey(bytes(31) + b"1").public_key, expires=NOW + 86400)
        info = WorkerInfo(
            operator=self.operator.verify_key,
            endpoint=f"http://127.0.0.1:{self.port}",
            prekeys=(prekey,),
            offers=(offer,),
        )
        genuine = Genuine(self.address, ESCROW, 0, False)
        return WorkerOffer(genuine, ENTRY, offer, info, prekey, Nano.ton(5), NOW, Hash(bytes(32)))

    def price(self, output: int, input_tokens: int = INPUT_TOKENS) -> int:
        return Tariff(self.terms).price(input_tokens, 0, output)

    # -- the endpoint --------------------------------------------------------------------------------------

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get(wire.SESSION_PATH, self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=(wire.SUBPROTOCOL,))
        await socket.prepare(request)
        self.connections += 1
        connection = _Connection(self, socket)
        try:
            await connection.run()
        except CutError:
            assert request.transport is not None
            request.transport.abort()
        except (CocoonError, ConnectionError):
            await socket.close()
        finally:
            await connection.end()
        return socket


class _Connection:
    def __init__(self, worker: ScriptedSessionWorker, socket: web.WebSocketResponse) -> None:
        self.worker, self.socket = worker, socket
        self.channel: Channel
        self.signer: SigningKey
        self.served: Served
        self.outbox: list[wire.WorkerFrame] = []
        self.paid = asyncio.Event()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.cut = asyncio.Event()

    async def run(self) -> None:
        name = WorkerName(DOMAIN.global_id, bytes(self.worker.address.hash_part))
        self.signer = self.worker.impostor or self.worker.operator
        handshake = WorkerHandshake(await self.receive(), name, self.signer)
        self.channel = handshake.channel
        await self.socket.send_bytes(self.worker.spoil_reply(handshake.reply))
        first = await self.receive()
        for number, message in enumerate([handshake.open_first(first)]):
            await self.take(wire.read_client_frames(message), first=number == 0)
        reading = asyncio.ensure_future(self.read())
        cutting = asyncio.ensure_future(self.cut.wait())
        await asyncio.wait({reading, cutting}, return_when=asyncio.FIRST_COMPLETED)
        cutting.cancel()
        if not reading.done():
            reading.cancel()
            raise CutError
        reading.result()

    async def read(self) -> None:
        while True:
            await self.take(wire.read_client_frames(self.channel.open(await self.receive())))

    async def receive(self) -> bytes:
        message = await self.socket.receive()
        if message.type is not WSMsgType.BINARY:
            raise ConnectionError
        return bytes(message.data)

    async def take(self, frames: list[wire.ClientFrame], *, first: bool = False) -> None:
        for frame in frames:
            self.worker.frames.append(frame)
            if isinstance(frame, wire.Hello):
                assert first
                await self.greet(frame)
            elif isinstance(frame, wire.Pay):
                self.pay(frame.amount, frame.signature)
            elif isinstance(frame, wire.Ask):
                self.served.next_rid = frame.rid + 1
                self.tasks[frame.rid] = asyncio.create_task(self.answer(frame))
            elif isinstance(frame, wire.Cancel):
                await self.cancel(frame.rid)

    async def greet(self, hello: wire.Hello) -> None:
        if self.worker.refusals:
            await self.send(self.worker.refusals.pop(0))
            raise ConnectionError
        ref = SessionRef(DOMAIN, hello.session_id, self.worker.address)
        key = voucher_key(HOT_KEY, ESCROW, hello.session_id)
        assert key.verify_key.verify(client_proof(self.channel.binding, ref.to_bytes()), hello.proof)
        served = self.worker.sessions.setdefault(
            hello.session_id, Served(ref, WorkerLedger(DEPOSIT, max_unpaid=1_000_000))
        )
        self.served = served
        if hello.amount > served.ledger.signed:
            self.pay(hello.amount, hello.signature)
        ledger = served.ledger
        await self.send(wire.Welcome(ledger.signed, ledger.booked, served.next_rid, ledger.max_unpaid))

    def pay(self, amount: int, signature: bytes) -> None:
        key = voucher_key(HOT_KEY, ESCROW, self.served.ref.session_id)
        assert Voucher(Nano(amount), signature).verified_by(key.verify_key, self.served.ref)
        assert self.served.ledger.admit(amount)
        self.served.best = signature
        self.paid.set()

    async def send(self, *frames: wire.WorkerFrame) -> None:
        bent = [each for frame in frames for each in self.bent(frame)]
        if bent and not self.socket.closed:
            text = self.worker.spoil_text(wire.encode_frames(bent))
            await self.socket.send_bytes(self.worker.spoil_sealed(self.channel.seal(text)))

    def bent(self, frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        try:
            return self.worker.bend(frame)
        except CutError:
            self.cut.set()
            raise

    async def answer(self, ask: wire.Ask) -> None:
        worker, ledger = self.worker, self.served.ledger
        body = msgspec.json.decode(ask.body)
        worker.bodies.append(body)
        worker.asked.set()
        hashed, rid = ResponseHash(), ask.rid
        ledger.begin(rid, worker.price(1))
        words = worker.words[: body.get("max_tokens", 99)]
        for number, word in enumerate(words, 1):
            if worker.hold == number - 1:
                await worker.go_on.wait()
            charge = worker.price(number)
            while (due := ledger.needed(rid, charge)) > ledger.signed:
                self.paid.clear()
                await self.send(wire.Due(due))
                await self.paid.wait()
            ledger.hand_over(rid, charge)
            finish = "stop" if number == len(worker.words) else "length" if number == len(words) else None
            data = chunk(word, finish=finish, name=f"c-{worker.name}", usage=usage_of(number))
            hashed.update(data)
            piece = not ask.stream
            await self.send(wire.Delta(rid, INPUT_TOKENS, 0, number, piece, data))
        await self.send(self.done(ask, hashed, len(words), cancelled=False))

    def done(self, ask: wire.Ask, hashed: ResponseHash, output: int, *, cancelled: bool) -> wire.Done:
        ledger, charged = self.served.ledger, self.worker.price(output)
        if cancelled:
            charged = ledger.abandon(ask.rid, charged)
        else:
            ledger.finish(ask.rid)
        receipt = Receipt(
            ask.rid,
            request_hash(ask.kind, ask.body),
            hashed.digest(),
            Hash(ask.terms_hash),
            NO_PROOF,
            INPUT_TOKENS,
            0,
            output,
            Nano(charged),
            Nano(ledger.booked),
        )
        signature = receipt.sign(self.signer, self.served.ref)
        return wire.Done(
            ask.rid, INPUT_TOKENS, 0, output, charged, ledger.booked, NO_PROOF, signature, cancelled
        )

    async def cancel(self, rid: int) -> None:
        self.worker.cancelled.append(rid)
        task = self.tasks.get(rid)
        if task is None or task.done():
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ask = next(frame for frame in self.worker.frames if isinstance(frame, wire.Ask) and frame.rid == rid)
        hashed, output = ResponseHash(), 0
        charge = self.served.ledger._open.get(rid, 0)
        while charge and self.worker.price(output) < charge:
            output += 1
            data = chunk(self.worker.words[output - 1], name=f"c-{self.worker.name}", usage=usage_of(output))
            hashed.update(data)
        await self.send(self.done(ask, hashed, output, cancelled=True))

    async def end(self) -> None:
        served = getattr(self, "served", None)
        for rid, task in self.tasks.items():
            if not task.done():
                task.cancel()
                if served is not None:
                    served.ledger.abandon(rid, served.ledger._open.get(rid, 0))
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


# -- the client's side -------------------------------------------------------------------------------------


class ScriptedSessions:
    """Sessions without a chain: opened by themselves, kept in a real store."""

    def __init__(self, store: SessionStore, clock: ManualClock, policy: SessionPolicy) -> None:
        self.store, self.clock, self.policy = store, clock, policy
        self.held: dict[bytes, HeldSession] = {}
        self.retired: list[tuple[HeldSession, str]] = []
        self.refuse: CocoonError | None = None
        self.opened = 0
        self.stake_keys: dict[bytes, VerifyKey] = {}
        self.keys_asked = 0
        self.chain_fails = False

    async def stake_key(self, worker: Address) -> int:
        self.keys_asked += 1
        if self.chain_fails:
            raise ChainUnavailableError("the endpoint does not answer")
        return self.stake_keys[worker.hash_part].to_int()

    async def acquire(self, worker: WorkerOffer, at_least: Nano) -> HeldSession:
        held = self.held.get(worker.address.hash_part)
        if held is None or held.stale or held.worn:
            if self.refuse is not None:
                raise self.refuse
            held = self.held[worker.address.hash_part] = await self.open(worker)
        held.users += 1
        held.reserved += at_least
        return held

    async def open(self, worker: WorkerOffer) -> HeldSession:
        self.opened += 1
        record = SessionRecord(
            uid=f"session {self.opened}",
            domain=DOMAIN,
            session_id=self.opened,
            worker=worker.address,
            model=MODEL,
            increment=self.policy.increment,
            deposit=DEPOSIT,
            expires=NOW + 86400,
            state=SessionState.OPEN,
            holder="test",
            lease_until=NOW + 60,
        )
        await self.store.create(record, SpendLimits(), NOW)
        key = voucher_key(HOT_KEY, ESCROW, self.opened)
        return HeldSession(record, key, self.store, self.policy, self.clock, "test", lambda held: None)

    async def release(self, held: HeldSession, reserved: int = 0) -> None:
        held.users -= 1
        held.reserved -= reserved

    async def retire(self, held: HeldSession, why: str) -> None:
        self.retired.append((held, why))
        held.stale = why

    def remaining(self, worker: Address) -> Nano | None:
        held = self.held.get(worker.hash_part)
        return None if held is None or held.stale or held.worn else held.available


class Monotonic:
    """Monotonic time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Street:
    """Some workers, and a client that knows them."""

    workers: list[ScriptedSessionWorker]
    sessions: ScriptedSessions
    client: InferenceClient
    time: Monotonic

    async def list(self, model: str | bytes) -> WorkerList:
        offers = tuple(worker.offer for worker in self.workers)
        return WorkerList(ENTRY, offers, (), 1)


class _Registry:
    async def list(self) -> tuple[RegisteredModel, ...]:
        return (ENTRY,)


@asynccontextmanager
async def street(
    folder: Path,
    *workers: ScriptedSessionWorker,
    policy: SessionPolicy | None = None,
    selection: SelectionPolicy | None = None,
    limits: LinkLimits | None = None,
    on_ended: OnEnded | None = None,
) -> AsyncIterator[Street]:
    async with AsyncExitStack() as stack:
        for worker in workers:
            await worker.start()
            stack.push_async_callback(worker.stop)
        database = await open_database(folder / "client.sqlite", SESSIONS_SCHEMA)
        stack.push_async_callback(database.close)
        sessions = ScriptedSessions(SessionStore(database), ManualClock(NOW), policy or SessionPolicy())
        time = Monotonic()
        made = Street(list(workers), sessions, None, time)  # type: ignore[arg-type]  # it is its own source
        made.client = InferenceClient(
            made,
            _Registry(),
            sessions,
            AddressPolicy(LOCAL),
            selection=selection,
            limits=limits or LinkLimits(),
            clock=time,
            sleep=time.sleep,
            on_ended=on_ended,
        )
        stack.push_async_callback(made.client.close)
        yield made
