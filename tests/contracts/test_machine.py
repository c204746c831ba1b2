"""Random lives of two escrows and two workers: whatever they do, money, reserves, locks, bonds and seqnos
stay right.

The model of locks is exact: whenever nothing is on its way, each lock holds what the live jobs and the
undelivered outcomes of its escrow that name it have locked, and there is no other. The short run is the
same every time. `COCOON_FUZZ_EXAMPLES=2000 pytest tests/contracts/test_machine.py` takes new paths and as
long as that takes; a failure prints the steps.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from pytoniq_core import begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.claims import claim_bond
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.job_states import EntryStatus
from cocoon_sdk.sandbox import Actor, OutOfOrderError, Snapshot, Transaction
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from tests.contracts.session_lives import NEW, NEWEST, SessionLives
from tests.helpers.audit import (
    ALL,
    TOMBSTONE_REWARD,
    World,
    absent,
    check_escrow,
    check_stake,
    entries,
    escrow_of,
    extended,
    free_slot,
    locks,
    new_world,
    sessions,
    tombstones,
    tree,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of

EXAMPLES = int(os.environ.get("COCOON_FUZZ_EXAMPLES", "0"))
RESOLVE_GAS = Nano.ton("0.2")
NEVER_FAIL = {
    kind.OPCODE for kind in (m.Submit, m.SubmitClaimed, m.AcceptSession, m.Reward, m.Release, m.Slash, m.Gone)
}
CLAIM_REFUSALS = {
    ExitCode.NO_JOB,
    ExitCode.TAKEN,
    ExitCode.TOO_LATE,
    ExitCode.UNFIT_CLAIM,
    ExitCode.LOW_VALUE,
}
"""Why a claim of a genuine stake comes back."""

amounts = st.one_of(
    st.sampled_from([0, 1, 10**6, 10**9, 10**9 + 1, 2**53 - 1, 2**53, 2**56 - 1]), st.integers(0, 3 * 10**9)
)
prices = st.one_of(st.sampled_from([1, 10**9, 30 * 10**9]), st.integers(1, 5 * 10**9))
picks = st.integers(0, 11)
"""Mostly one of those that are there: see `Lives.job` and `Lives.lock`."""
chosen_locks = st.one_of(st.sampled_from([NEWEST, NEWEST, NEW]), picks)
who = st.integers(0, 1)
jumps = st.sampled_from([1, 599, 600, 3599, 3601, 43_200, 216_001, 3 * 86_400, 40 * 86_400])


@cache
def template() -> tuple[World, list[Client], Client, list[Worker], Actor, Snapshot]:
    """Deploy everything once; each example starts from the snapshot."""
    world = new_world()
    clients = [world.client(name, deposit=Nano.ton(60)) for name in ("client", "other")]
    workers = [world.worker(f"worker {i}", stake=Nano.ton(40), gas=Nano.ton(1)) for i in range(2)]
    stranger = world.chain.actor("stranger", Nano.ton(100_000))
    return world, clients, world.client("rival"), workers, stranger, world.chain.snapshot()


class Lives(SessionLives):
    def __init__(self) -> None:
        super().__init__()
        self.world, self.clients, self.rival, self.workers, self.stranger, start = template()
        self.chain = self.world.chain
        self.chain.restore(start)
        self.seen_lt = self.chain.lt
        self.seqnos = [0] * 4
        self.released: list[set[int]] = [set(), set()]

    # -- helpers ---------------------------------------------------------------------------------------

    def act(self, account: Client | Worker, *actions: signing.Action, spend: int = 0, **options: Any) -> None:
        try:
            account.act(*actions, max_spend=spend, **options)
        except ExternalRejectedError:
            return

    def send(self, body: Any, to: Client | Worker, value: int = GAS) -> Sequence[Transaction]:
        return self.stranger.send(to.address, value, body.to_cell())

    def job(self, client: int, pick: int) -> int:
        """Return the id of a live job, or one that may be anything."""
        live = sorted(entries(self.clients[client]))
        return live[pick % len(live)] if live and pick < 10 else pick

    def lock(self, worker: int, pick: int) -> int:
        """Return the number of a live lock, none, or one that may be anything."""
        live = sorted(locks(self.workers[worker]))
        return live[pick % len(live)] if live and 2 < pick < 10 else (0, 1, 2**32 - 1)[pick % 3]

    def target(self, worker: int, client: int, number: int, lock: int) -> signing.JobTarget | None:
        if self.clients[client].job(number) is None:
            return None
        target = self.workers[worker].target(self.clients[client], number)
        if lock == NEWEST:
            return target
        fresh = free_slot(self.workers[worker])
        return dataclasses.replace(target, lock=fresh if lock == NEW else self.lock(worker, lock))

    def entries_naming(self, worker: int) -> Iterator[tuple[int, m.Job]]:
        """Live jobs of a worker that locked for them, with their escrow."""
        own = signing.account_id(self.workers[worker].address)
        for client in self.clients:
            for job in entries(client).values():
                if job.worker == own and job.lock:
                    yield signing.account_id(client.address), job

    # -- the clients -----------------------------------------------------------------------------------

    @initialize(price=st.sampled_from([1, 10**9, 2 * 10**9]), lock=st.sampled_from([NEWEST, NEW]))
    def first(self, price: int, lock: int) -> None:
        """Two jobs of each client, claimed and submitted by one worker, and one that nobody has taken yet."""
        suite = self.world.suite
        for client, escrow in enumerate(self.clients):
            escrow.open(suite.open_terms(price))
            escrow.open(suite.directed_terms(self.workers[0], price=price))
            escrow.open(suite.directed_terms(self.workers[1], price=price))
            self.claim(client, 0, 0, 0)
            self.submit(client, 1, 0, price, lock, False)

    @rule(
        client=who,
        price=prices,
        directed=st.sampled_from([None, 0, 1]),
        window=st.sampled_from([0, 600, 3600, 86_400, 86_401]),
        spend=st.sampled_from([0, Nano.ton(1), Nano.ton(40)]),
        wrong_id=st.sampled_from([0, 0, 0, 1]),
    )
    def open(
        self, client: int, price: int, directed: int | None, window: int, spend: int, wrong_id: int
    ) -> None:
        suite = self.world.suite
        terms = (
            suite.open_terms(price, window=window)
            if directed is None
            else suite.directed_terms(self.workers[directed], price=price, window=window)
        )
        number = self.clients[client].get_state().next_id + wrong_id
        self.act(self.clients[client], signing.open_job(number, terms.to_cell()), spend=spend)

    @rule(
        client=who,
        number=picks,
        kind=st.sampled_from(
            [signing.accept_result, signing.dispute_result, signing.cancel_job, signing.reclaim_late]
        ),
    )
    def step_on(self, client: int, number: int, kind: Any) -> None:
        self.act(self.clients[client], kind(self.job(client, number)))

    @rule(
        client=who, numbers=st.lists(picks, min_size=1, max_size=8), spend=st.sampled_from([0, Nano.ton(5)])
    )
    def batch(self, client: int, numbers: list[int], spend: int) -> None:
        kinds = [signing.accept_result, signing.dispute_result, signing.cancel_job, signing.reclaim_late]
        self.act(self.clients[client], *[kinds[n % 4](self.job(client, n)) for n in numbers], spend=spend)

    @rule(client=who, number=picks, amount=amounts, wrong=st.sampled_from([None, None, "worker", "result"]))
    def accept_signed(self, client: int, number: int, amount: int, wrong: str | None) -> None:
        number = self.job(client, number)
        job = self.clients[client].job(number)
        first = job is None or job.worker == signing.account_id(self.workers[0].address)
        worker = self.workers[first is (wrong == "worker")]
        amount = amount if job is None or wrong else min(amount, job.price)
        signature = worker.sign_result(self.clients[client], number, amount)
        result = hash_of("another" if wrong == "result" else "result")
        key = worker.claim_key if job is not None and job.status == EntryStatus.CLAIMED else None
        self.act(self.clients[client], signing.accept_signed(number, Nano(amount), result, signature, key))

    @rule(number=picks, leaves=st.integers(1, 30))
    def malformed(self, number: int, leaves: int) -> None:
        good = signing.accept_result(number)
        self.act(self.clients[0], signing.Action(extended(good.bits), (tree(leaves),)), good)

    @rule(client=who, limit=st.sampled_from([0, Nano.ton(1), Nano.ton(1000)]))
    def limit(self, client: int, limit: int) -> None:
        self.clients[client].from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(limit), allowed=None))

    @rule(client=who, less=st.sampled_from([0, 1, -1, 10**9, 20 * 10**9]))
    def withdraw(self, client: int, less: int) -> None:
        amount = max(0, self.clients[client].get_state().free - less)
        self.clients[client].from_owner(m.Withdraw(query_id=0, amount=Nano(amount)))

    @rule(client=who, number=picks)
    def owner_cancels(self, client: int, number: int) -> None:
        self.clients[client].from_owner(m.CancelJob(query_id=0, id=self.job(client, number)))

    @rule(client=who)
    def deposit(self, client: int) -> None:
        self.clients[client].owner.send(self.clients[client].address, Nano.ton(20))

    # -- the workers -----------------------------------------------------------------------------------

    @rule(client=who, number=picks, worker=who, more=st.sampled_from([0, 0, 0, 1, -1, 10**8]))
    def claim(self, client: int, number: int, worker: int, more: int) -> None:
        number = self.job(client, number)
        job = self.clients[client].job(number)
        if job is not None:
            bond = max(0, claim_bond(job.price, job.params) + more)
            action = self.workers[worker].claim_action(self.clients[client], number, bond)
            self.act(self.workers[worker], action)

    @rule(client=who, number=picks, worker=who, amount=amounts, lock=chosen_locks, bare=st.booleans())
    def submit(self, client: int, number: int, worker: int, amount: int, lock: int, bare: bool) -> None:
        number = self.job(client, number)
        target = self.target(worker, client, number, lock)
        if target is not None:
            if bare:
                target = dataclasses.replace(target, collateral=Nano(0))
            self.act(self.workers[worker], signing.submit(number, Nano(amount), target, hash_of("result")))

    @rule(client=who, numbers=st.lists(picks, min_size=2, max_size=8), worker=who, lock=chosen_locks)
    def worker_batch(self, client: int, numbers: list[int], worker: int, lock: int) -> None:
        """Claims and submissions on them, of the same job more than once."""
        escrow, stake = self.clients[client], self.workers[worker]
        target = self.target(worker, client, max(entries(escrow), default=0), lock)
        if target is None:
            return
        made = []
        for place, pick in enumerate(numbers):
            number = self.job(client, pick)
            if place % 2 and escrow.job(number) is not None:
                made.append(stake.claim_action(escrow, number))
            else:
                made.append(signing.submit_claimed(number, Nano.ton(1), target, hash_of("result")))
        self.act(self.workers[worker], *made, spend=Nano.ton("0.2"))

    @rule(client=who, number=picks, lock=chosen_locks, worker=who, amount=amounts, wrong=st.booleans())
    def submit_claimed(
        self, client: int, number: int, lock: int, worker: int, amount: int, wrong: bool
    ) -> None:
        number = self.job(client, number)
        target = self.target(worker, client, number, lock)
        if target is not None:
            target = dataclasses.replace(target, own_previous_code=wrong)
            action = signing.submit_claimed(number, Nano(amount), target, hash_of("result"))
            self.act(self.workers[worker], action)

    @rule(worker=who, client=who)
    def submit_on_a_claim(self, worker: int, client: int) -> None:
        own = signing.account_id(self.workers[worker].address)
        for number, job in entries(self.clients[client]).items():
            if job.status == EntryStatus.CLAIMED and job.worker == own:
                target = self.workers[worker].target(self.clients[client], number)
                action = signing.submit_claimed(number, Nano(job.price), target, hash_of("result"))
                self.act(self.workers[worker], action)
                return

    @rule(worker=who, bucket=st.integers(0, 2), share=st.sampled_from([1, 2]))
    def worker_withdraws(self, worker: int, bucket: int, share: int) -> None:
        state = self.workers[worker].get_state()
        amount = max(0, (state.gas if bucket else state.earned) // share)
        self.workers[worker].from_owner(m.WithdrawBucket(query_id=0, bucket=bucket, amount=Nano(amount)))

    @rule(worker=who, amount=st.sampled_from([1, 10**9, 40 * 10**9]))
    def unbond(self, worker: int, amount: int) -> None:
        self.workers[worker].from_owner(m.Unbond(query_id=0, amount=Nano(amount)))

    @rule(worker=who)
    def complete(self, worker: int) -> None:
        self.workers[worker].from_owner(m.CompleteUnbond(query_id=0))

    @rule(worker=who)
    def refill(self, worker: int) -> None:
        self.workers[worker].from_owner(m.AddStake(query_id=0, amount=Nano.ton(5)), Nano.ton(6))

    # -- anyone ----------------------------------------------------------------------------------------

    @rule(client=who, number=picks, late=st.booleans())
    def poke(self, client: int, number: int, late: bool) -> None:
        number = self.job(client, number)
        self.send(m.ReclaimLate(id=number) if late else m.Finalize(id=number), self.clients[client])

    @rule(
        client=who,
        number=picks,
        pay=st.integers(0, 2 * 10**9),
        slash=st.integers(0, 6 * 10**9),
        signers=st.integers(2, 5),
    )
    def resolve(self, client: int, number: int, pay: int, slash: int, signers: int) -> None:
        number = self.job(client, number)
        job = self.clients[client].job(number)
        if job is None:
            return
        worker = next(
            (w for w in self.workers if signing.account_id(w.address) == job.worker), self.workers[0]
        )
        pay, slash = min(pay, job.amount), min(slash, job.collateral)
        verdict = self.world.suite.verdict(self.clients[client], worker, number, pay, slash, range(signers))
        self.send(verdict, self.clients[client], RESOLVE_GAS)

    @precondition(lambda self: any(tombstones(client) for client in self.clients))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        client = next(client for client in self.clients if tombstones(client))
        number, kind = data.draw(st.sampled_from(sorted(tombstones(client))))
        self.send(m.Deliver(id=number, kind=kind), client)

    @rule(lock=picks, collateral=amounts, worker=who, from_rival=st.booleans())
    def forge(self, lock: int, collateral: int, worker: int, from_rival: bool) -> None:
        source = self.rival.address if from_rival else self.stranger.address
        freed = {"id": 1, "collateral": min(collateral, 2**53 - 1), "lock": self.lock(worker, lock)}
        for body in (
            m.Slash(**freed, amount=10**9, back=10**9),
            m.Release(**freed),
            m.Gone(**freed),
            m.Reward(**freed, amount=2**53 - 1, fee=1),
        ):
            before = locks(self.workers[worker])
            self.chain.send_internal(self.workers[worker].address, GAS, body.to_cell(), src=source)
            if not self.chain.held:
                assert locks(self.workers[worker]) == before

    @rule(lock=picks, worker=who)
    def release_expired(self, lock: int, worker: int) -> None:
        self.send(m.ReleaseExpired(lock=self.lock(worker, lock)), self.workers[worker])

    @rule(to_worker=st.booleans(), op=st.integers(0, 2**32 - 1))
    def junk(self, to_worker: bool, op: int) -> None:
        body = begin_cell().store_uint(op, 32).store_uint(1, 200).end_cell()
        self.stranger.send((self.workers[0] if to_worker else self.clients[0]).address, GAS, body)

    # -- time and order --------------------------------------------------------------------------------

    @rule(seconds=jumps)
    def warp(self, seconds: int) -> None:
        self.chain.warp(seconds)

    @rule()
    def hold(self) -> None:
        self.chain.hold()

    @precondition(lambda self: self.chain.pending)
    @rule(index=st.integers(0, 5))
    def deliver_one(self, index: int) -> None:
        try:
            self.chain.step(index % len(self.chain.pending))
        except OutOfOrderError:
            return

    @rule()
    def release(self) -> None:
        self.chain.release()

    @precondition(lambda self: self.chain.pending)
    @rule(away=st.integers(0, 3))
    def release_while_somebody_is_away(self, away: int) -> None:
        account = (*self.workers, *self.clients)[away].address
        if any(message.dst == account and not message.bounce for message in self.chain.pending):
            return
        with absent(self.chain, account):
            self.chain.step()

    # -- what always holds -----------------------------------------------------------------------------

    @invariant()
    def everything_adds_up(self) -> None:
        Ledger.of(self.chain).assert_balanced()
        for client in self.clients:
            check_escrow(client)
        for worker in self.workers:
            check_stake(worker)

    @invariant()
    def locks_are_what_jobs_and_undelivered_outcomes_say(self) -> None:
        self.nothing_fails_that_must_not()
        if self.chain.pending:
            return
        for worker, stake in enumerate(self.workers):
            expected: Counter[tuple[int, int]] = Counter()
            for escrow, job in self.entries_naming(worker):
                expected[escrow, job.lock] += int(job.collateral)
                assert job.status in (EntryStatus.SUBMITTED, EntryStatus.DISPUTED)
            for client in self.clients:
                for session in sessions(client).values():
                    if session.worker == signing.account_id(stake.address) and session.lock:
                        expected[signing.account_id(client.address), session.lock] += session.collateral
                for (_, kind), one in tombstones(client).items():
                    if one.worker == signing.account_id(stake.address) and one.lock:
                        expected[signing.account_id(client.address), one.lock] += int(one.collateral)
                        assert kind == TOMBSTONE_REWARD or one.collateral > 0
            held = locks(stake)
            found = {(escrow_of(lock), number): int(lock.collateral) for number, lock in held.items()}
            gone = self.released[worker] - set(held)
            assert found == {key: value for key, value in expected.items() if key[1] not in gone}

    @invariant()
    def every_claim_has_left_its_bond(self) -> None:
        for client in self.clients:
            for job in entries(client).values():
                if job.status == EntryStatus.CLAIMED:
                    assert (job.lock, job.amount, job.fee) == (0, 0, 0)
                    assert job.hold - job.price > job.payout >= claim_bond(job.price, job.params)

    @invariant()
    def nothing_fails_that_must_not(self) -> None:
        suite = {account.address for account in (*self.workers, *self.clients)}
        for transaction in self.chain.transactions(limit=ALL, after_lt=self.seen_lt):
            assert transaction.action_result_code in (None, 0), transaction
            if transaction.in_msg.is_external_in:
                assert transaction.success, transaction
            if transaction.op == m.ReleaseExpired.OPCODE and transaction.success:
                at = [worker.address for worker in self.workers].index(transaction.address)
                self.released[at].add(m.ReleaseExpired.from_cell(transaction.in_msg.body).lock)
            if {transaction.address, transaction.in_msg.src} <= suite and transaction.op in NEVER_FAIL:
                assert transaction.success or transaction.skipped == "no_state", transaction
            if transaction.op == m.Claim.OPCODE and not transaction.in_msg.bounced:
                code = transaction.exit_code
                assert transaction.success or transaction.skipped or code in CLAIM_REFUSALS, transaction
        self.seen_lt = self.chain.lt

    @invariant()
    def seqnos_never_go_back(self) -> None:
        now = [account.get_state().seqno for account in (*self.clients, *self.workers)]
        assert all(a >= b for a, b in zip(now, self.seqnos, strict=True))
        self.seqnos = now

    def teardown(self) -> None:
        self.chain.release()
        self.everything_adds_up()
        self.locks_are_what_jobs_and_undelivered_outcomes_say()


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=EXAMPLES or 40,
    stateful_step_count=60 if EXAMPLES else 30,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    # Shrinking a life takes minutes: it is for the long run.
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
