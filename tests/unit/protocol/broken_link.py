"""A lossy link in order between two sides of a session, which may be cut before any step.

Owns what happens next, chosen by a seeded generator, and the checks after each step. Changes no ledger.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.protocol.metering import MeteringError
from tests.unit.protocol.two_sides import Bounds, Client, Job, Worker


@dataclass(frozen=True)
class Cut:
    """Before which step the connection breaks, and who restarts from what it stored."""

    at: int
    client_restarts: bool = False
    worker_restarts: bool = False


class World:
    """Both sides and the link between them; `run` holds their losses against their bounds at every step."""

    def __init__(self, jobs: tuple[Job, ...], bounds: Bounds, seed: int, cuts: tuple[Cut, ...] = ()) -> None:
        self.bounds, self.cuts = bounds, {cut.at: cut for cut in cuts}
        self.client, self.worker = Client(bounds, jobs), Worker(bounds, jobs)
        self._random = random.Random(seed)
        self.steps = 0
        self._connect()

    def run(self, most: int = 2_000) -> World:
        while self.steps < most:
            cut = self.cuts.get(self.steps)
            if cut is not None:
                self._cut(cut)
            if self.client.distrusts or not self._step():
                return self
            self.steps += 1
            self.check()
        assert not self.bounds.honest, f"nothing ends: {self.client.state}, {self.worker.runs}"
        return self

    def check(self) -> None:
        bounds, worker = self.bounds, self.worker
        assert self.client.loss <= bounds.increment, "the client lost more than its increment"
        assert worker.loss <= bounds.max_unpaid + worker.forgotten, "the worker lost more than it may"
        assert worker.ledger.booked <= worker.ledger.signed <= bounds.deposit
        assert worker.ledger.ahead + worker.ledger.lost <= bounds.max_unpaid

    def _cut(self, cut: Cut) -> None:
        self.client.cut(cut.client_restarts)
        self.worker.cut(cut.worker_restarts)
        self._connect()
        self.check()

    def _connect(self) -> None:
        welcome = self.worker.welcome(self.client.hello())
        self._trusting(lambda: self.client.welcome(welcome))

    def _trusting(self, action: Callable[[], None]) -> None:
        try:
            action()
        except MeteringError:
            # Between honest sides nobody is called dishonest.
            if self.bounds.honest:
                raise
            self.client.distrusts = True

    def _step(self) -> bool:
        client, worker = self.client, self.worker
        actions: list[tuple[str, int]] = [
            ("ask", number) for number, state in enumerate(client.state) if state == "waiting"
        ]
        actions += [("engine", rid) for rid in worker.runnable()]
        actions += [("to worker", 0)] * bool(client.out) + [("to client", 0)] * bool(worker.out)
        actions += [
            ("cancel", rid)
            for rid, number in client.asked.items()
            if client.jobs[number].cancel_after == 0 and rid not in client.cancelled
        ]
        if not actions:
            if not worker.runs:
                return False
            # Nobody moves any more, so a voucher that is waited for never comes.
            assert not self.bounds.honest, "two honest sides wait for each other"
            worker.give_up()
            return True
        what, which = self._random.choice(actions)
        if what == "ask":
            client.ask(which)
        elif what == "engine":
            worker.engine(which)
        elif what == "cancel":
            client.cancel(which)
        elif what == "to worker":
            (frame,) = wire.read_client_frames(wire.encode_frames([client.out.popleft()]))
            worker.take(frame)
        else:
            (answer,) = wire.read_worker_frames(wire.encode_frames([worker.out.popleft()]))
            self._trusting(lambda: client.take(answer))
        return True
