"""The part of random lives that sessions play: their steps, and what must hold of them whatever happens.

Owns the rules that `test_machine.Lives` adds to those of jobs; the world, the invariants and the order of
messages are the machine's.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pytoniq_core import begin_cell

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.session_states import SessionStatus
from cocoon_sdk.sandbox import Blockchain, Transaction
from cocoon_sdk.types import Nano
from tests.helpers.audit import free_slot, sessions
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

NEWEST, NEW = -1, -2
"""A worker's choice: the lock that it made last for that escrow, or one in a free slot."""

who = st.integers(0, 1)
picks = st.integers(0, 11)
deposits = st.sampled_from([1, 10**8, 10**9, 5 * 10**9, 0, 2**53 - 1])
vouchers = st.one_of(
    st.sampled_from([0, 1, 10**9, 10**9 + 1, 2**53 - 1]),
    st.integers(0, 2 * 10**9),
)


class SessionLives(RuleBasedStateMachine):
    """Sessions of two escrows with two workers."""

    clients: list[Client]
    workers: list[Worker]
    chain: Blockchain

    def __init__(self) -> None:
        super().__init__()
        self.signed: Counter[tuple[int, int]] = Counter()
        """The most that a good voucher of a session ever stated: (escrow, id) -> amount."""

    def act(self, account: Client | Worker, *actions: signing.Action, spend: int = 0) -> None:
        raise NotImplementedError

    def send(self, body: Any, to: Client | Worker, value: int = GAS) -> Sequence[Transaction]:
        raise NotImplementedError

    def session(self, client: int, pick: int) -> int:
        """Return the id of a live session, or one that may be anything."""
        live = sorted(sessions(self.clients[client]))
        return live[pick % len(live)] if live and pick < 10 else pick

    def guarded(self) -> list[tuple[int, int]]:
        """Return client and id of every session with collateral in it, those that are disputed last."""
        found = [
            (session.status, client, number)
            for client, escrow in enumerate(self.clients)
            for number, session in sessions(escrow).items()
            if session.collateral
        ]
        return [(client, number) for _, client, number in sorted(found)]

    def disputed(self) -> list[tuple[int, int]]:
        """Return client and id of every session that is disputed."""
        return [
            (client, number)
            for client, escrow in enumerate(self.clients)
            for number, session in sessions(escrow).items()
            if session.status == SessionStatus.DISPUTED
        ]

    def worker_of(self, client: int, number: int) -> Worker:
        session = self.clients[client].session(number)
        own = [signing.account_id(worker.address) for worker in self.workers]
        return self.workers[0 if session is None or session.worker not in own else own.index(session.worker)]

    def voucher(self, client: int, number: int, amount: int, good: bool) -> tuple[Worker, bytes]:
        worker = self.worker_of(client, number)
        if good:
            self.signed[client, number] = max(self.signed[client, number], amount)
        key = None if good else key_of("forger")
        return worker, self.clients[client].voucher(worker, number, amount, key=key)

    # -- the clients -----------------------------------------------------------------------------------

    @initialize(
        guarded=st.sampled_from([True, True, False]), deposit=st.sampled_from([10**8, 10**9, 5 * 10**9])
    )
    def first_sessions(self, guarded: bool, deposit: int) -> None:
        """One session of each client with each worker, and perhaps collateral for one of them."""
        for escrow in self.clients:
            numbers = [escrow.get_state().next_id + place for place in range(2)]
            for number, worker in zip(numbers, self.workers, strict=True):
                key, expiry = escrow.voucher_key.verify_key, self.chain.now + 86_400
                self.act(escrow, signing.open_session(number, worker.address, key, Nano(deposit), expiry))
            if escrow.session(numbers[0]) is None:
                return
            if guarded:
                target = self.workers[0].session_target(escrow, numbers[0])
                self.act(self.workers[0], signing.accept_session(numbers[0], target))

    @rule(
        client=who,
        worker=who,
        deposit=deposits,
        lasts=st.sampled_from([3600, 86_400, 345_600, 1, 0, 10**7]),
        spend=st.sampled_from([0, 0, Nano.ton(2)]),
    )
    def open_session(self, client: int, worker: int, deposit: int, lasts: int, spend: int) -> None:
        """Alone, or in a batch with a step that may be possible or not."""
        account = self.clients[client]
        number = account.get_state().next_id
        opening = signing.open_session(
            number,
            self.workers[worker].address,
            account.voucher_key.verify_key,
            Nano(deposit),
            self.chain.now + lasts,
        )
        if spend:
            self.act(account, opening, signing.close_session(number), spend=spend)
        else:
            self.act(account, opening)

    @rule(client=who, number=picks, kind=st.sampled_from([signing.close_session, signing.settle_session]))
    def step_on_session(self, client: int, number: int, kind: Any) -> None:
        self.act(self.clients[client], kind(self.session(client, number)))

    @precondition(lambda self: self.guarded())
    @rule(pick=picks, by_owner=st.booleans(), batch=st.booleans())
    def dispute_session(self, pick: int, by_owner: bool, batch: bool) -> None:
        """One with collateral in it, or any."""
        client, number = self.guarded()[pick % 2 % len(self.guarded())]
        number = number if pick < 9 else self.session(client, pick)
        account = self.clients[client]
        if by_owner:
            account.from_owner(m.DisputeSession(query_id=0, id=number, evidence_hash=number, model_id=1))
            return
        action = signing.dispute_session(number, hash_of("receipts"), account.suite.model_id)
        if batch:
            self.act(account, action, signing.close_session(number), spend=Nano.ton(1))
        else:
            self.act(account, action)

    @rule(client=who, number=picks, amount=deposits)
    def top_up(self, client: int, number: int, amount: int) -> None:
        self.act(self.clients[client], signing.top_up_session(self.session(client, number), Nano(amount)))

    @rule(client=who, numbers=st.lists(picks, min_size=2, max_size=8))
    def session_batch(self, client: int, numbers: list[int]) -> None:
        kinds = [signing.close_session, signing.settle_session, signing.cancel_job]
        actions = [kinds[n % 3](self.session(client, n)) for n in numbers]
        self.act(self.clients[client], *actions, spend=Nano.ton(1))

    @rule(client=who, number=picks)
    def owner_closes(self, client: int, number: int) -> None:
        self.clients[client].from_owner(m.CloseSession(query_id=0, id=self.session(client, number)))

    # -- the workers -----------------------------------------------------------------------------------

    @rule(
        client=who,
        number=picks,
        amount=vouchers,
        good=st.sampled_from([True] * 4 + [False]),
        close=st.booleans(),
        forgo=st.sampled_from([0, 0, 1, 10**9, 2**53 - 1]),
    )
    def redeem(self, client: int, number: int, amount: int, good: bool, close: bool, forgo: int) -> None:
        number = self.session(client, number)
        worker, signature = self.voucher(client, number, amount + forgo, good)
        action = signing.redeem(
            number,
            self.clients[client].address,
            Nano(amount),
            signature,
            close=close and amount % 3 == 0,
            forgo=Nano(forgo),
        )
        self.act(worker, action)

    @rule(
        client=who, number=picks, worker=who, lock=st.sampled_from([NEWEST, NEWEST, NEW]), short=st.booleans()
    )
    def accept_session(self, client: int, number: int, worker: int, lock: int, short: bool) -> None:
        number = self.session(client, number)
        if self.clients[client].session(number) is None:
            return
        stake = self.workers[worker]
        target = stake.session_target(self.clients[client], number)
        if lock == NEW:
            target = dataclasses.replace(target, lock=free_slot(stake))
        if short and number % 2:
            target = dataclasses.replace(target, collateral=Nano(max(1, target.collateral - 1)))
        self.act(stake, signing.accept_session(number, target))

    # -- anyone ----------------------------------------------------------------------------------------

    @rule(
        client=who,
        number=picks,
        amount=vouchers,
        good=st.booleans(),
        value=st.sampled_from([GAS, Nano.ton("0.02"), Nano.ton("0.009"), Nano.ton("0.003")]),
    )
    def redeem_for(self, client: int, number: int, amount: int, good: bool, value: int) -> None:
        number = self.session(client, number)
        _, signature = self.voucher(client, number, amount, good)
        body = m.Redeem(
            id=number, amount=amount, close=True, signature=begin_cell().store_bytes(signature).end_cell()
        )
        self.send(body, self.clients[client], value)

    @precondition(lambda self: self.disputed())
    @rule(pick=picks, slash=st.sampled_from([0, 0, 1, 10**9, 4 * 10**9]), pay=st.sampled_from([0, 0, 0, 1]))
    def resolve_session(self, pick: int, slash: int, pay: int) -> None:
        client, number = self.disputed()[pick % len(self.disputed())]
        account, worker = self.clients[client], self.worker_of(client, number)
        session = account.session(number)
        assert session is not None
        verdict = account.suite.session_verdict(
            account, worker, number, min(slash, session.collateral), pay=pay
        )
        self.send(verdict, account, Nano.ton("0.1"))

    @rule(client=who, number=picks)
    def settle_for(self, client: int, number: int) -> None:
        self.send(m.SettleSession(id=self.session(client, number)), self.clients[client])

    @rule(client=who, number=picks, collateral=st.sampled_from([0, 4 * 10**9]))
    def forge_acceptance(self, client: int, number: int, collateral: int) -> None:
        body = m.AcceptSession(id=self.session(client, number), collateral=collateral, lock=257, binding=1)
        self.send(body, self.clients[client])

    # -- what always holds -----------------------------------------------------------------------------

    @invariant()
    def nobody_is_paid_beyond_what_was_signed(self) -> None:
        for client, escrow in enumerate(self.clients):
            for number, session in sessions(escrow).items():
                assert session.redeemed <= self.signed[client, number]

    @precondition(lambda self: any(sessions(client) for client in self.clients))
    @invariant()
    def sessions_stay_what_they_were(self) -> None:
        for escrow in self.clients:
            for session in sessions(escrow).values():
                assert session.voucher_key == escrow.voucher_key.verify_key.to_int()
                disputed = session.status == SessionStatus.DISPUTED
                assert disputed is (session.params.hash != session.evidence.hash)
                assert not disputed or session.collateral
                assert session.spare == 0
