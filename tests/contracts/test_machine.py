"""Random lives of one escrow and two workers: whatever they do, money, reserves, locks and seqnos stay right.

The short run is the same every time. `COCOON_FUZZ_EXAMPLES=2000 pytest tests/contracts/test_machine.py` takes
new paths and as long as that takes; a failure prints the steps.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pytoniq_core import begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import Actor, OutOfOrderError, Snapshot, Transaction
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from tests.helpers.audit import (
    ALL,
    World,
    absent,
    check_escrow,
    check_stake,
    extended,
    locks,
    new_world,
    tombstones,
    tree,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of

EXAMPLES = int(os.environ.get("COCOON_FUZZ_EXAMPLES", "0"))
RESOLVE_GAS = Nano.ton("0.2")

amounts = st.one_of(
    st.sampled_from([0, 1, 10**6, 10**9, 10**9 + 1, 2**55, 2**56 - 1]), st.integers(0, 3 * 10**9)
)
prices = st.one_of(st.sampled_from([1, 10**9, 30 * 10**9]), st.integers(1, 5 * 10**9))
ids = st.integers(0, 12)
nonces = st.integers(0, 12)
who = st.integers(0, 1)
jumps = st.sampled_from([1, 599, 600, 3599, 3601, 43_200, 216_001, 3 * 86_400, 40 * 86_400])


@cache
def template() -> tuple[World, Client, Client, list[Worker], Actor, Snapshot]:
    """Deploy everything once; each example starts from the snapshot."""
    world = new_world()
    client, other = world.client("client", deposit=Nano.ton(60)), world.client("other")
    workers = [world.worker(f"worker {i}", stake=Nano.ton(40), gas=Nano.ton(1)) for i in range(2)]
    stranger = world.chain.actor("stranger", Nano.ton(100_000))
    return world, client, other, workers, stranger, world.chain.snapshot()


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world, self.client, self.other, self.workers, self.stranger, start = template()
        self.chain = self.world.chain
        self.chain.restore(start)
        self.seen_lt = self.chain.lt
        self.seqnos = [0, 0, 0]

    # -- helpers ---------------------------------------------------------------------------------------

    def act(self, account: Client | Worker, *actions: signing.Action, spend: int = 0, **options: Any) -> None:
        try:
            account.act(*actions, max_spend=spend, **options)
        except ExternalRejectedError:
            return

    def send(self, body: Any, to: Client | Worker, value: int = GAS) -> Sequence[Transaction]:
        return self.stranger.send(to.address, value, body.to_cell())

    # -- the client ------------------------------------------------------------------------------------

    @initialize(price=prices)
    def first(self, price: int) -> None:
        self.client.open(self.world.suite.open_terms(price))

    @rule(
        price=prices,
        directed=st.sampled_from([None, 0, 1]),
        window=st.sampled_from([0, 600, 3600, 86_400, 86_401]),
        spend=st.sampled_from([0, Nano.ton(1), Nano.ton(40)]),
        wrong_id=st.sampled_from([0, 0, 0, 1]),
    )
    def open(self, price: int, directed: int | None, window: int, spend: int, wrong_id: int) -> None:
        suite = self.world.suite
        terms = (
            suite.open_terms(price, window=window)
            if directed is None
            else suite.directed_terms(self.workers[directed], price=price, window=window)
        )
        number = self.client.get_state().next_id + wrong_id
        self.act(self.client, signing.open_job(number, terms.to_cell()), spend=spend)

    @rule(
        number=ids, kind=st.sampled_from([signing.accept_result, signing.dispute_result, signing.cancel_job])
    )
    def step_on(self, number: int, kind: Any) -> None:
        self.act(self.client, kind(number))

    @rule(number=ids)
    def reclaim(self, number: int) -> None:
        self.act(self.client, signing.reclaim_late(number))

    @rule(numbers=st.lists(ids, min_size=1, max_size=8), spend=st.sampled_from([0, Nano.ton(5)]))
    def batch(self, numbers: list[int], spend: int) -> None:
        kinds = [signing.accept_result, signing.dispute_result, signing.cancel_job, signing.reclaim_late]
        self.act(self.client, *[kinds[n % 4](n) for n in numbers], spend=spend)

    @rule(number=ids, worker=who, amount=amounts, genuine=st.booleans())
    def accept_signed(self, number: int, worker: int, amount: int, genuine: bool) -> None:
        signature = self.workers[worker].sign_result(self.client, number, amount)
        result = hash_of("result" if genuine else "another")
        self.act(self.client, signing.accept_signed(number, Nano(amount), result, signature))

    @rule(number=ids, leaves=st.integers(1, 30))
    def malformed(self, number: int, leaves: int) -> None:
        good = signing.accept_result(number)
        self.act(self.client, signing.Action(extended(good.bits), (tree(leaves),)), good)

    @rule(limit=st.sampled_from([0, Nano.ton(1), Nano.ton(1000)]))
    def limit(self, limit: int) -> None:
        self.client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(limit), allowed=None))

    @rule(less=st.sampled_from([0, 1, -1, 10**9, 20 * 10**9]))
    def withdraw(self, less: int) -> None:
        amount = max(0, self.client.get_state().free - less)
        self.client.from_owner(m.Withdraw(query_id=0, amount=Nano(amount)))

    @rule(number=ids)
    def owner_cancels(self, number: int) -> None:
        self.client.from_owner(m.CancelJob(query_id=0, id=number))

    @rule()
    def deposit(self) -> None:
        self.client.owner.send(self.client.address, Nano.ton(20))

    # -- the workers -----------------------------------------------------------------------------------

    @rule(number=ids, worker=who)
    def claim(self, number: int, worker: int) -> None:
        if self.client.job(number) is not None:
            action = signing.claim(number, self.workers[worker].target(self.client, number))
            self.act(self.workers[worker], action, spend=self.workers[worker].work_spend())

    @rule(number=ids, worker=who, amount=amounts, bare=st.booleans())
    def submit(self, number: int, worker: int, amount: int, bare: bool) -> None:
        if self.client.job(number) is not None:
            target = self.workers[worker].target(self.client, number)
            if bare:
                target = m.JobTarget(
                    escrow_owner=target.escrow_owner,
                    escrow_index=0,
                    previous_code=False,
                    collateral=Nano(0),
                    job_hash=target.job_hash,
                    own_previous_code=False,
                )
            work = m.SubmitWork(target=target, result_hash=1)
            action = signing.submit(number, Nano(amount), work)
            self.act(self.workers[worker], action, spend=self.workers[worker].work_spend())

    @rule(nonce=nonces, worker=who, amount=amounts)
    def submit_claimed(self, nonce: int, worker: int, amount: int) -> None:
        action = signing.submit_claimed(nonce, Nano(amount), hash_of("result"))
        self.act(self.workers[worker], action, spend=self.workers[worker].work_spend())

    @rule(worker=who, actions=st.lists(st.tuples(nonces, amounts), min_size=1, max_size=8))
    def worker_batch(self, worker: int, actions: list[tuple[int, int]]) -> None:
        made = [signing.submit_claimed(n, Nano(a), hash_of("result")) for n, a in actions]
        self.act(self.workers[worker], *made, spend=Nano.ton("0.1"))

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

    @rule(number=ids, late=st.booleans())
    def poke(self, number: int, late: bool) -> None:
        self.send(m.ReclaimLate(id=number) if late else m.Finalize(id=number), self.client)

    @rule(
        number=ids, pay=st.integers(0, 2 * 10**9), slash=st.integers(0, 6 * 10**9), signers=st.integers(2, 5)
    )
    def resolve(self, number: int, pay: int, slash: int, signers: int) -> None:
        job = self.client.job(number)
        if job is None:
            return
        worker = next(
            (w for w in self.workers if signing.account_id(w.address) == job.worker), self.workers[0]
        )
        verdict = self.world.suite.verdict(
            self.client, worker, number, min(pay, job.amount), min(slash, job.collateral), range(signers)
        )
        self.send(verdict, self.client, RESOLVE_GAS)

    @precondition(lambda self: tombstones(self.client))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        number, kind = data.draw(st.sampled_from(sorted(tombstones(self.client))))
        self.send(m.Deliver(id=number, kind=kind), self.client)

    @rule(number=ids, nonce=nonces, worker=who, from_other=st.booleans())
    def forge(self, number: int, nonce: int, worker: int, from_other: bool) -> None:
        source = self.other.address if from_other else self.stranger.address
        for body in (
            m.Slash(id=number, nonce=nonce, amount=10**9, back=10**9),
            m.Release(id=number, nonce=nonce),
            m.Gone(id=number, nonce=nonce),
            m.Reward(id=number, nonce=nonce, amount=2**64 - 1, fee=1),
        ):
            before = locks(self.workers[worker])
            self.chain.send_internal(self.workers[worker].address, GAS, body.to_cell(), src=source)
            if not self.chain.held:
                assert locks(self.workers[worker]) == before

    @rule(nonce=nonces, worker=who)
    def release_expired(self, nonce: int, worker: int) -> None:
        self.send(m.ReleaseExpired(nonce=nonce), self.workers[worker])

    @rule(to_worker=st.booleans(), op=st.integers(0, 2**32 - 1))
    def junk(self, to_worker: bool, op: int) -> None:
        body = begin_cell().store_uint(op, 32).store_uint(1, 200).end_cell()
        self.stranger.send((self.workers[0] if to_worker else self.client).address, GAS, body)

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
    @rule(worker=who)
    def release_while_a_worker_is_away(self, worker: int) -> None:
        account = self.workers[worker].address
        if any(message.dst == account and not message.bounce for message in self.chain.pending):
            return
        with absent(self.chain, account):
            self.chain.step()

    # -- what always holds -----------------------------------------------------------------------------

    @invariant()
    def everything_adds_up(self) -> None:
        Ledger.of(self.chain).assert_balanced()
        check_escrow(self.client)
        for worker in self.workers:
            check_stake(worker)

    @invariant()
    def no_action_phase_fails(self) -> None:
        for transaction in self.chain.transactions(limit=ALL, after_lt=self.seen_lt):
            assert transaction.action_result_code in (None, 0), transaction
            if transaction.in_msg.is_external_in:
                assert transaction.success, transaction
        self.seen_lt = self.chain.lt

    @invariant()
    def seqnos_never_go_back(self) -> None:
        now = [account.get_state().seqno for account in (self.client, *self.workers)]
        assert all(a >= b for a, b in zip(now, self.seqnos, strict=True))
        self.seqnos = now

    def teardown(self) -> None:
        self.chain.release()
        self.everything_adds_up()
        self.no_action_phase_fails()


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=EXAMPLES or 20,
    stateful_step_count=60 if EXAMPLES else 30,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    # Shrinking a life takes minutes: it is for the long run.
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
