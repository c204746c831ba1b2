"""Every gas constant is an upper bound for the largest permitted state, and at most about twice too high."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import pytest

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.opcodes import OP_NAMES
from cocoon_sdk.sandbox import Blockchain, Transaction
from cocoon_sdk.types import Nano
from tests.contracts.test_full_tables import fill, submit_all
from tests.helpers.audit import World, free_slot, locks
from tests.helpers.suite import GAS, Suite, hash_of

NANO_PER_GAS = 400
WASTE = 2.3
"""A bound may be this many times what was measured: dictionaries of other keys can be a little deeper."""


class Measured:
    """The most gas that each operation took, over every transaction that was seen."""

    def __init__(self) -> None:
        self.most: dict[str, int] = defaultdict(int)

    def see(self, transactions: list[Transaction], refusal: ExitCode | None = None) -> list[Transaction]:
        for tx in transactions:
            assert tx.exit_code in (0, None, refusal), tx
            external = tx.in_msg.is_external_in
            name = "external" if external else OP_NAMES.get(tx.op or 0, "?")
            gas = tx.gas_used + (int(tx.import_fee) // NANO_PER_GAS if external else 0)
            self.most[name] = max(self.most[name], gas)
        return transactions


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Drive a stake with 255 locks and an escrow with 128 jobs through all that the constants cover."""
    seen = Measured()
    suite = Suite(Blockchain())
    world = World(suite)
    clients = [world.client(f"big {i}", deposit=Nano.ton(500)) for i in range(2)]
    spare = world.client("more")
    worker = world.worker("busy", stake=Nano.ton(400), gas=Nano.ton(50))
    late = world.worker("late", stake=Nano.ton(10), gas=Nano.ton(50))
    first, second = clients
    fill(world, first, 8)
    fill(world, first, c.MAX_JOBS - 9, worker)
    fill(world, second, 2)
    fill(world, second, c.MAX_JOBS - 3, worker)
    for number in (1, 2):
        late.claim(second, number)
    directed, opened = first.open(suite.directed_terms(worker, Nano.ton("0.05")))
    seen.see(opened)
    too_late = late.claim_action(first, 5)
    seen.see(worker.claim(first, 5))
    seen.see(worker.claim(first, 6))
    seen.see(worker.claim(first, 7))
    seen.see(late.act(too_late), refusal=ExitCode.TAKEN)
    submit_all(worker, first, range(9, c.MAX_JOBS))
    submit_all(worker, second, range(3, c.MAX_JOBS))
    # Submissions that come too late: Gone takes the last lock out, or changes the sum of one.
    again = signing.submit(9, Nano(1), worker.target(first, 9), hash_of("result"))
    seen.see(worker.act(again))
    fresh = dataclasses.replace(worker.target(first, 9), lock=free_slot(worker))
    seen.see(worker.act(signing.submit(9, Nano(1), fresh, hash_of("result"))))
    fresh = dataclasses.replace(worker.target(first, directed), lock=free_slot(worker))
    seen.see(worker.submit(first, directed, Nano.ton("0.05"), target=fresh))
    while len(locks(worker)) < c.MAX_LOCKS - 1:
        number, _ = spare.open(suite.directed_terms(worker, Nano.ton("0.05")))
        target = dataclasses.replace(worker.target(spare, number), lock=free_slot(worker))
        worker.submit(spare, number, Nano.ton("0.05"), target=target)
    fresh = dataclasses.replace(worker.target(first, 5), lock=free_slot(worker))
    seen.see(worker.act(signing.submit_claimed(5, Nano.ton("0.05"), fresh, hash_of("result"))))
    assert len(locks(worker)) == c.MAX_LOCKS
    assert first.get_state().jobs == c.MAX_JOBS
    seen.see(worker.submit_claimed(first, 6, Nano.ton("0.05")))
    seen.see(first.act(signing.accept_result(64)))
    seen.see(first.act(signing.dispute_result(65)))
    verdict = world.suite.verdict(first, worker, 65, 0, Nano.ton("0.1"))
    seen.see(world.chain.actor("anyone").send(first.address, GAS, verdict.to_cell()))
    price = Nano.ton("0.05")
    more, opened = first.open(suite.directed_terms(worker, price))
    seen.see(opened)
    instant, opened = first.open(suite.directed_terms(worker, price, window=0))
    seen.see(opened)
    assert first.get_state().jobs == c.MAX_JOBS
    seen.see(worker.submit(first, more, price))
    seen.see(worker.submit(first, instant, price))
    posted, opened = first.open(suite.open_terms(price))
    seen.see(opened)
    seen.see(first.act(signing.cancel_job(posted)))
    signature = worker.sign_result(first, 7, price)
    signed = signing.accept_signed(7, price, hash_of("result"), signature, worker.claim_key)
    seen.see(first.act(signed))
    seen.see(
        worker.from_owner(m.SetStakeLimits(query_id=0, max_locked=Nano.ton(900), daily_lock=Nano.ton(900)))
    )
    seen.see(first.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano.ton(9), allowed=None)))
    world.chain.warp(7300)
    anyone = world.chain.actor("anyone")
    seen.see(anyone.send(second.address, GAS, m.ReclaimLate(id=1).to_cell()))
    seen.see(anyone.send(first.address, GAS, m.Finalize(id=directed).to_cell()))
    seen.see(worker.act(signing.finalize(more, first.address)))
    seen.see(second.act(signing.reclaim_late(2)))
    return seen


@pytest.mark.parametrize(
    ("bound", "operations"),
    [
        (c.GAS_EXTERNAL, ["external"]),
        (c.GAS_NOTICE, ["DisputeNotice"]),
        (c.GAS_STAKE_CREDIT, ["Reward", "Gone"]),
        (c.GAS_STAKE_SLASH, ["Slash"]),
        (c.GAS_OWNER, ["SetStakeLimits", "SetEscrowLimits"]),
        (c.GAS_ESCROW_WORK, ["Claim", "Submit", "SubmitClaimed"]),
        (c.GAS_ESCROW_ANYONE, ["ReclaimLate", "Finalize"]),
        (c.GAS_ESCROW_RESOLVE, ["Resolve"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_gas_constant_is_a_bound_and_not_a_waste(
    measured: Measured, bound: int, operations: list[str]
) -> None:
    for operation in operations:
        assert operation in measured.most, sorted(measured.most)
    most = max(measured.most[operation] for operation in operations)
    assert most <= bound <= WASTE * most, f"measured {most}"


def test_job_sets_aside_the_gas_of_two_externals(measured: Measured) -> None:
    """What the client still has to do for a job: dispute or accept, and one step more."""
    assert 2 * measured.most["external"] <= c.GAS_JOB_PATH
