"""A client and a worker as small state machines, with real ledgers, frames and vouchers.

Owns the two sides as docs/sessions.md tells an implementer to build them, and the true count of what was
worked for and what came, which neither ledger sees. Knows no sockets and no clock; what joins them is
`broken_link`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from functools import lru_cache

from pytoniq_core import Address

from cocoon_sdk.crypto import SigningKey
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.protocol.metering import ClientLedger, WorkerLedger
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.vouchers import NO_PROOF, SessionRef, Voucher, voucher_key
from cocoon_sdk.types import Nano

ESCROW, STAKE = Address((0, b"\x11" * 32)), Address((0, b"\x22" * 32))
REF = SessionRef(Domain(-3, ESCROW, 1_700_000_000), 7, STAKE)
KEY = voucher_key(SigningKey(b"\x33" * 32), ESCROW, 7)
NO_SIGNATURE = bytes(64)


@lru_cache(maxsize=1 << 16)
def signed_voucher(amount: int) -> Voucher:
    # Ed25519 is deterministic: the same amount need not be signed again in every run.
    return Voucher.sign(KEY, REF, Nano(amount))


@lru_cache(maxsize=1 << 16)
def voucher_is_good(amount: int, signature: bytes) -> bool:
    return Voucher(Nano(amount), signature).verified_by(KEY.verify_key, REF)


@dataclass(frozen=True)
class Job:
    """What a user wants: prices in nanoTON; the first piece costs the input too."""

    input: int
    pieces: tuple[int, ...]
    whole: bool = False
    cancel_after: int | None = None

    def first(self, start: int) -> int:
        return self.input + (sum(self.pieces[start:]) if self.whole else self.pieces[start])


@dataclass(frozen=True)
class Bounds:
    """The session's numbers, and how each side cheats (0: not at all)."""

    deposit: int = 100_000
    increment: int = 1_000
    max_unpaid: int = 1_000
    worker_claims: int = 0
    """At each resume and cancellation the worker claims that much more than is true, if it is signed."""
    client_pays: bool = True
    client_hides: bool = False
    """A client that says it has got nothing, whenever asked."""

    @property
    def honest(self) -> bool:
        return self.client_pays and not self.client_hides and not self.worker_claims


@dataclass
class Client:
    """The honest side unless `Bounds` says otherwise. `got` and `progress` are the truth."""

    bounds: Bounds
    jobs: tuple[Job, ...]
    ledger: ClientLedger = field(init=False)
    out: deque[wire.ClientFrame] = field(default_factory=deque)
    got: int = 0
    state: list[str] = field(init=False)
    progress: list[int] = field(init=False)
    asked: dict[int, int] = field(default_factory=dict)
    came: dict[int, int] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    next_rid: int = 1
    stored: tuple[int, int, int] = (0, 0, 1)
    distrusts: bool = False

    def __post_init__(self) -> None:
        self.ledger = self._ledger(0, 0)
        self.state = ["waiting"] * len(self.jobs)
        self.progress = [0] * len(self.jobs)

    def _ledger(self, signed: int, accounted: int) -> ClientLedger:
        bounds = self.bounds
        increment = Nano(bounds.increment)
        return ClientLedger(Nano(bounds.deposit), increment=increment, signed=signed, accounted=accounted)

    @property
    def loss(self) -> int:
        return self.stored[0] - self.got

    def hello(self) -> wire.Hello:
        amount, accounted, _ = self.stored
        if self.bounds.client_hides:
            accounted = 0
        signature = signed_voucher(amount).signature if amount else b""
        return wire.Hello(bytes(32), 7, NO_SIGNATURE, amount, signature, accounted)

    def cut(self, restart: bool) -> None:
        self.out.clear()
        self.cancelled.clear()
        for rid in list(self.asked):
            self._again(rid)
        if restart:
            signed, accounted, self.next_rid = self.stored
            self.ledger = self._ledger(signed, accounted)

    def welcome(self, frame: wire.Welcome) -> None:
        self.next_rid = max(self.next_rid, frame.next_rid)
        self.ledger.resume(frame.booked)

    def store(self) -> None:
        self.stored = (self.ledger.signed, self.ledger.accounted, self.next_rid)

    def ask(self, number: int) -> None:
        job, start = self.jobs[number], self.progress[number]
        stream = not job.whole or not self.ledger.affords(job.first(start))
        first = replace(job, whole=not stream).first(start)
        if not self.ledger.affords(first):
            self.state[number] = "refused"
            return
        rid, self.next_rid = self.next_rid, self.next_rid + 1
        self.asked[rid], self.came[rid], self.state[number] = number, 0, "asked"
        body = f"{number} {start}".encode()
        self.out.append(wire.Ask(rid, "chat.completion", bytes(32), stream, body))
        self.pay()

    def pay(self, due: int = 0) -> None:
        amount = self.ledger.payable(due)
        if amount is None or not self.bounds.client_pays:
            return
        self.ledger.sign(amount)
        self.store()
        self.out.append(wire.Pay(int(amount), signed_voucher(int(amount)).signature))

    def cancel(self, rid: int) -> None:
        if rid not in self.cancelled:
            self.cancelled.add(rid)
            self.out.append(wire.Cancel(rid))

    def take(self, frame: wire.WorkerFrame) -> None:
        match frame:
            case wire.Delta(rid=rid, output_tokens=charge, data=data):
                self.ledger.charge(rid, charge)
                number, job = self.asked[rid], self.jobs[self.asked[rid]]
                self.got += charge - self.came[rid]
                self.came[rid] = charge
                self.progress[number] += int(data)
                if job.cancel_after is not None and self.progress[number] >= job.cancel_after:
                    self.cancel(rid)
            case wire.Done(rid=rid, charged=charged, total=total, cancelled=cancelled):
                self.ledger.finish(rid, charged)
                number = self.asked[rid]
                if not self.bounds.worker_claims:
                    assert total == self.ledger.used
                    assert cancelled or charged == self.came[rid]
                if cancelled:
                    del self.asked[rid]
                    if self.state[number] == "asked":
                        self.state[number] = "cancelled"
                else:
                    self._again(rid)
                self.store()
            case wire.Failed(rid=rid, charged=charged, code=code):
                self.ledger.finish(rid, charged)
                if code == wire.FailureCode.TOO_DEAR:
                    self.state[self.asked[rid]] = "too dear"
                self._again(rid)
                self.store()
            case wire.Due(amount=amount):
                if not self.ledger.covers(amount):
                    self._give_up()
                self.pay(amount)
        self.pay()

    def _again(self, rid: int) -> None:
        number = self.asked.pop(rid)
        if self.progress[number] == len(self.jobs[number].pieces):
            self.state[number] = "finished"
        elif self.state[number] == "asked":
            self.state[number] = "waiting"

    def _give_up(self) -> None:
        for rid, number in self.asked.items():
            self.state[number] = "refused"
            self.cancel(rid)


@dataclass
class Run:
    """A request at the worker: the charges of pieces that the engine made, and how many left."""

    number: int
    start: int
    whole: bool
    at_most: int
    begun: bool = False
    made: list[int] = field(default_factory=list)
    left: int = 0
    due: int = 0
    stopped: bool = False


@dataclass
class Worker:
    """The honest side unless `Bounds` says otherwise. `work` is the truth."""

    bounds: Bounds
    jobs: tuple[Job, ...]
    ledger: WorkerLedger = field(init=False)
    out: deque[wire.WorkerFrame] = field(default_factory=deque)
    runs: dict[int, Run] = field(default_factory=dict)
    work: int = 0
    next_rid: int = 1
    voucher: tuple[int, bytes] = (0, b"")
    stored: tuple[int, int, int] = (0, 0, 1)
    forgotten: int = 0
    """What the worker's own crashes cost it: the one loss that no ledger can bound."""

    def __post_init__(self) -> None:
        self.ledger = WorkerLedger(self.bounds.deposit, max_unpaid=self.bounds.max_unpaid)

    @property
    def loss(self) -> int:
        return self.work - self.voucher[0]

    def cut(self, restart: bool) -> None:
        self.out.clear()
        if restart:
            booked, lost, self.next_rid = self.stored
            under_way = self.work - self.forgotten - self.ledger.booked - self.ledger.lost
            assert 0 <= under_way <= self.bounds.max_unpaid
            self.forgotten += under_way + self.ledger.booked - booked + self.ledger.lost - lost
            self.ledger = WorkerLedger(
                self.bounds.deposit,
                max_unpaid=self.bounds.max_unpaid,
                signed=self.voucher[0],
                booked=booked,
                lost=lost,
            )
            self.runs.clear()
        for rid in list(self.runs):
            self._abandon(rid)
        self.store()

    def welcome(self, hello: wire.Hello) -> wire.Welcome:
        if hello.amount:
            self._voucher(hello.amount, hello.signature)
        before = self.ledger.booked
        self.ledger.resume(hello.accounted)
        self.forgotten -= self.ledger.booked - before
        return wire.Welcome(self.ledger.signed, self._claim(), self.next_rid, self.bounds.max_unpaid)

    def _claim(self) -> int:
        return min(self.ledger.signed, self.ledger.booked + self.bounds.worker_claims)

    def store(self) -> None:
        self.stored = (self.ledger.booked, self.ledger.lost, self.next_rid)

    def take(self, frame: wire.ClientFrame) -> None:
        match frame:
            case wire.Ask(rid=rid, stream=stream, body=body):
                assert rid >= self.next_rid
                self.next_rid = rid + 1
                number, start = map(int, body.split())
                job = self.jobs[number]
                price = replace(job, whole=True).first(start)
                whole = not stream and self.ledger.may_begin_whole(price)
                # No step may cost more than what is reserved from the beginning.
                at_most = price if whole else max(replace(job, whole=False).first(start), *job.pieces)
                self.runs[rid] = Run(number, start, whole, at_most)
            case wire.Pay(amount=amount, signature=signature):
                self._voucher(amount, signature)
            case wire.Cancel(rid=rid) if rid in self.runs:
                charged = self._abandon(rid)
                self._done(rid, charged, cancelled=True)
        self.turn()

    def _voucher(self, amount: int, signature: bytes) -> None:
        assert voucher_is_good(amount, signature)
        if self.ledger.admit(amount):
            # On disk before a byte leaves that it pays for.
            self.voucher = (amount, signature)
            self.store()

    def turn(self) -> None:
        for rid, run in list(self.runs.items()):
            if run.begun:
                self._hand_over(rid, run)
        # After that: what has ended makes room, what was booked takes some of the deposit.
        for rid, run in list(self.runs.items()):
            if not run.begun and not self.ledger.may_ever_begin(run.at_most):
                del self.runs[rid]
                self.out.append(wire.Failed(rid, wire.FailureCode.TOO_DEAR, "", 0, None))
            elif not run.begun and self.ledger.may_begin(run.at_most):
                self.ledger.begin(rid, run.at_most)
                run.begun = True

    def runnable(self) -> list[int]:
        return [
            rid for rid, run in self.runs.items() if run.begun and not run.stopped and not self._ready(run)
        ]

    def _ready(self, run: Run) -> bool:
        pieces = 1 if run.whole else len(self.jobs[run.number].pieces) - run.start
        return len(run.made) == pieces

    def engine(self, rid: int) -> None:
        """The engine does one step for a request: the input with the first piece, or one piece more."""
        run = self.runs[rid]
        job = replace(self.jobs[run.number], whole=run.whole)
        step = job.pieces[run.start + len(run.made)] if run.made else job.first(run.start)
        self.work += step
        run.made.append((run.made[-1] if run.made else 0) + step)
        self._hand_over(rid, run)
        self.turn()

    def _next_step(self, run: Run) -> int:
        # A worker knows the dearest step, not the next one.
        return 0 if self._ready(run) or run.stopped else max(self.jobs[run.number].pieces)

    def _hand_over(self, rid: int, run: Run) -> None:
        while run.left < len(run.made):
            charge = run.made[run.left]
            needed = self.ledger.needed(rid, charge)
            if needed > self.ledger.signed:
                if not self.ledger.hold(rid, run.made[-1], step=self._next_step(run)):
                    run.stopped = True
                if needed > run.due:
                    run.due = needed
                    self.out.append(wire.Due(needed))
                return
            self.ledger.hand_over(rid, charge, beyond=run.made[-1] - charge + self._next_step(run))
            pieces = len(self.jobs[run.number].pieces) - run.start if run.whole else 1
            run.left += 1
            self.out.append(wire.Delta(rid, 0, 0, charge, not run.whole, str(pieces).encode()))
        if run.begun and self._ready(run):
            self.ledger.finish(rid)
            self._done(rid, run.made[-1], cancelled=False)
            del self.runs[rid]
        elif run.stopped:
            self.out.append(wire.Failed(rid, wire.FailureCode.UNPAID, "", self._abandon(rid), None))
            self.store()

    def _abandon(self, rid: int) -> int:
        run = self.runs.pop(rid)
        # A request that had begun costs its input, whatever came of it.
        made = run.made[-1] if run.made else 0
        return self.ledger.abandon(rid, made)

    def _done(self, rid: int, charged: int, *, cancelled: bool) -> None:
        if cancelled:
            charged += min(self.bounds.worker_claims, self.ledger.signed - self.ledger.booked)
        self.out.append(
            wire.Done(rid, 0, 0, charged, charged, self.ledger.booked, NO_PROOF, NO_SIGNATURE, cancelled)
        )
        self.store()

    def give_up(self) -> None:
        """No voucher came in time: whatever waits for one is ended."""
        for rid, run in list(self.runs.items()):
            if run.left < len(run.made):
                self.out.append(wire.Failed(rid, wire.FailureCode.UNPAID, "", self._abandon(rid), None))
        self.store()
