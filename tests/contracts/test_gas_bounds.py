"""Every gas constant is an upper bound for the largest permitted state, and at most about twice too high."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import pytest

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.opcodes import OP_NAMES
from cocoon_sdk.sandbox import Blockchain, Transaction
from cocoon_sdk.types import Nano
from tests.contracts.test_full_tables import claim_all, fill
from tests.helpers.audit import World, free_slot, locks
from tests.helpers.suite import GAS, Suite, hash_of

NANO_PER_GAS = 400
WASTE = 2.3
"""A bound may be this many times what was measured: dictionaries of other keys can be a little deeper."""


class Measured:
    """The most gas that each operation took, over every transaction that was seen."""

    def __init__(self) -> None:
        self.most: dict[str, int] = defaultdict(int)

    def see(self, transactions: list[Transaction]) -> list[Transaction]:
        for tx in transactions:
            assert tx.exit_code in (0, None), tx
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
    worker = world.worker("busy", stake=Nano.ton(400), gas=Nano.ton(50))
    late = world.worker("late", stake=Nano.ton(10), gas=Nano.ton(50))
    for client in clients:
        fill(world, client, c.MAX_JOBS - 1)
    first, second = clients
    directed, opened = first.open(suite.directed_terms(worker, Nano.ton("0.05")))
    seen.see(opened)
    claim_all(worker, first, range(1, c.MAX_JOBS))
    claim_all(worker, second, range(1, c.MAX_JOBS))
    # Claims that come too late: Gone takes the last lock out, or changes the sum of one.
    late_claim = worker.target(first, 1)
    seen.see(worker.act(signing.claim(1, dataclasses.replace(late_claim, lock=free_slot(worker)))))
    seen.see(worker.act(signing.claim(1, late_claim)))
    fresh = dataclasses.replace(worker.target(first, directed), lock=free_slot(worker))
    seen.see(worker.submit(first, directed, Nano.ton("0.05"), target=fresh))
    assert len(locks(worker)) == c.MAX_LOCKS
    assert first.get_state().jobs == c.MAX_JOBS
    seen.see(late.act(signing.claim(5, late.target(first, 5))))
    seen.see(worker.submit_claimed(first, 64, Nano.ton("0.05")))
    seen.see(first.act(signing.accept_result(64)))
    seen.see(worker.submit_claimed(first, 65, Nano.ton("0.05")))
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
    signature = worker.sign_result(first, 66, price)
    seen.see(first.act(signing.accept_signed(66, price, hash_of("result"), signature)))
    seen.see(
        worker.from_owner(m.SetStakeLimits(query_id=0, max_locked=Nano.ton(900), daily_lock=Nano.ton(900)))
    )
    seen.see(first.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano.ton(9), allowed=None)))
    world.chain.warp(7300)
    anyone = world.chain.actor("anyone")
    seen.see(anyone.send(second.address, GAS, m.ReclaimLate(id=77).to_cell()))
    seen.see(anyone.send(first.address, GAS, m.Finalize(id=directed).to_cell()))
    seen.see(worker.act(signing.finalize(more, first.address)))
    seen.see(second.act(signing.reclaim_late(78)))
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
